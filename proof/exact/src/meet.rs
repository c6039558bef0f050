//! One newcomer.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ebb_kernel::netns::{Ns, in_ns};

use crate::must;

/// A packet on its way here takes microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a newcomer met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// It was let in.
    Connected,
    /// It was refused, and told so.
    Refused,
}

/// Connects once, from inside a namespace; anything but an answer ends the test.
#[must_use]
pub fn meet(from: &Ns, to: SocketAddr) -> Met {
    match must("enter a namespace", in_ns(from, || TcpStream::connect_timeout(&to, PATIENCE))) {
        Ok(_) => Met::Connected,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Met::Refused,
        Err(error) => panic!("{to} neither connected nor refused: {error}"),
    }
}
