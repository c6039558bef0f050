mod changed;
mod flows;
mod forward;
mod learning;
mod mptcp;
mod plain;
mod refusing;
mod speed;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Door, Gate, Proto, Reach, Rules};
use crate::testnet::{run, skipped};

/// The name of the table in all tests.
const TABLE: &str = "gatetest";

fn gate() -> Gate {
    Gate::open(TABLE).unwrap()
}

fn tcp(reach: Reach, port: u16) -> Door {
    Door { proto: Proto::Tcp, reach, port }
}

fn udp(reach: Reach, port: u16) -> Door {
    Door { proto: Proto::Udp, reach, port }
}

fn addr(text: &str) -> Reach {
    Reach::Addr(text.parse().unwrap())
}

fn shut(doors: impl IntoIterator<Item = Door>) -> Rules {
    Rules { shut: doors.into_iter().collect(), ..Rules::default() }
}

/// Shut doors that learn for so long.
fn learning(doors: impl IntoIterator<Item = Door>, time: Duration) -> Rules {
    let until = Instant::now() + time;
    Rules { learn: doors.into_iter().map(|door| (door, until)).collect(), ..Rules::default() }.normal()
}

const HOUR: Duration = Duration::from_secs(3600);

/// The same rules, but for the moments that pass between telling the kernel when learning ends and reading it.
#[track_caller]
fn assert_same(seen: &Rules, wanted: &Rules) {
    let timeless = |rules: &Rules| Rules { learn: Default::default(), ..rules.clone() };
    assert_eq!(timeless(seen), timeless(wanted));
    assert!(seen.learn.keys().eq(wanted.learn.keys()), "{:?} {:?}", seen.learn, wanted.learn);
    assert!(seen.learn.values().zip(wanted.learn.values()).all(|(a, b)| super::is_about(*a, *b)));
}

/// The `nft` program is the oracle of some tests.
fn nft_is_there() -> bool {
    let there = std::process::Command::new("nft").arg("--version").output().is_ok();
    if !there {
        skipped("no nft program");
    }
    there
}

fn listing() -> String {
    run(&format!("nft list table inet {TABLE}"))
}

/// A connection that was accepted, both ends.
fn pair(listener: &TcpListener, to: &str) -> (TcpStream, TcpStream) {
    let client = connect(to).unwrap();
    let server = listener.accept().unwrap().0;
    (client, server)
}

fn connect(to: &str) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    // The kernel gives a new IPv6 address its route a moment after `ip` has ended.
    let began = Instant::now();
    let stream = loop {
        match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable && began.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            answer => break answer?,
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn assert_refused(to: &str) {
    match connect(to) {
        Ok(_) => panic!("{to} is open"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}"),
    }
}

fn assert_open(to: &str) {
    connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
}

/// Bytes go both ways.
fn assert_alive((client, server): &mut (TcpStream, TcpStream)) {
    let mut buffer = [0; 4];
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut buffer).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"pong");
}
