//! The service of the trial: says every line back, to as many as come.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::Error;
use crate::error::started;

/// The service's port.
pub(crate) const PORT: u16 = 7000;
/// What the server says to the stage once it listens.
pub(crate) const READY: &str = "ready";

/// Plays the service until it is killed: listens on every address, port 7000, and echoes. Says `ready` on standard output.
///
/// # Errors
/// [`Error::Start`] when it cannot listen.
pub fn serve() -> Result<(), Error> {
    crate::process::raise_descriptor_limit();
    crate::process::runtime()?.block_on(async {
        let listener = listen().await.map_err(started("listen on port 7000"))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{READY}").and_then(|()| out.flush()).map_err(started("tell the stage"))?;
        drop(out);
        loop {
            match listener.accept().await {
                Ok((client, _)) => drop(tokio::spawn(echo(client))),
                // Out of descriptors, or a client that left in the queue: the others must not suffer for it.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
}

async fn listen() -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))).await {
        Ok(listener) => Ok(listener),
        // A kernel without IPv6.
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).await,
    }
}

async fn echo(mut client: TcpStream) {
    // Without it an echo may wait 40 ms for company.
    let _ = client.set_nodelay(true);
    let (mut from, mut to) = client.split();
    // How it ends is the client's business: the end of its lines, or its disappearance.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}
