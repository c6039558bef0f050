//! Many established connections of one service.

use std::net::{SocketAddr, TcpListener};

use super::stage::{Player, Stage};

/// The port of the service.
pub const PORT: u16 = 7000;
/// Connections that one process holds: the machine allows 20,000 files each.
const EACH: usize = 17_000;

/// Servers that share one listener, and their clients.
#[derive(Debug)]
pub struct Crowd {
    servers: Vec<Player>,
    clients: Vec<Player>,
    _listener: TcpListener,
}

impl Crowd {
    /// Connects them all.
    pub fn gather(stage: &Stage, count: usize) -> Result<Self, String> {
        let listener = stage.listen(PORT)?;
        let mut shares = vec![EACH; count / EACH];
        if !count.is_multiple_of(EACH) {
            shares.push(count % EACH);
        }
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for share in &shares {
            servers.push(Player::server(&stage.server, &["keep", &share.to_string()], &listener)?);
        }
        for (number, share) in (1_u8..=250).cycle().zip(&shares) {
            let to = SocketAddr::new(Stage::address(number), PORT).to_string();
            clients.push(Player::client(&stage.clients, &["connect", &to, &share.to_string()])?);
        }
        for player in clients.iter_mut().chain(&mut servers) {
            player.hear()?;
        }
        Ok(Self { servers, clients, _listener: listener })
    }

    /// Clients close, and after them the servers.
    pub fn leave(&mut self) -> Result<(), String> {
        for client in &mut self.clients {
            client.tell("close")?;
            client.hear()?;
        }
        // What ends a server closes all its connections as fast as the kernel can.
        self.servers.clear();
        Ok(())
    }
}
