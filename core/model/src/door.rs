//! Doors: where clients come in.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What is spoken at a door, as far as the gate must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// TCP: gated by its SYN.
    Tcp,
    /// UDP: flows that exist are learnt first, then others are refused.
    Udp,
    /// QUIC over UDP: gated by its Initial packets, no learning needed.
    Quic,
}

impl Proto {
    /// Lower-case name, as in `tcp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Quic => "quic",
        }
    }
}

/// Which destination addresses lead to a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Every IPv4 address of the server (bound to `0.0.0.0`).
    Any4,
    /// Every IPv6 address only (bound to `::` with `IPV6_V6ONLY`).
    Any6,
    /// Every address of both families (bound to `::`, dual stack).
    Any,
    /// One address.
    Addr(IpAddr),
    /// One address behind a forward on this server: a published container port.
    Forward(IpAddr),
}

/// A listening protocol, address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Door {
    /// What is spoken.
    pub proto: Proto,
    /// Which addresses lead here.
    pub reach: Reach,
    /// The port.
    pub port: u16,
}

impl Door {
    /// How well this door fits a local address: `None` if it does not, else larger for the more
    /// specific, as the kernel chooses among listeners.
    #[must_use]
    pub fn fit(&self, local: SocketAddr) -> Option<u8> {
        let ip = local.ip().to_canonical();
        if local.port() != self.port {
            return None;
        }
        match self.reach {
            Reach::Addr(addr) | Reach::Forward(addr) => (addr.to_canonical() == ip).then_some(2),
            Reach::Any4 => ip.is_ipv4().then_some(1),
            Reach::Any6 => ip.is_ipv6().then_some(1),
            Reach::Any => Some(0),
        }
    }

    /// Whether the kernel tells this door's sessions one by one as sockets.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.proto == Proto::Tcp
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proto = self.proto.as_str();
        let port = self.port;
        let text = match self.reach {
            Reach::Any4 => format!("{proto} 0.0.0.0:{port}"),
            Reach::Any6 => format!("{proto} [::]:{port} (v6 only)"),
            Reach::Any => format!("{proto} *:{port}"),
            Reach::Addr(ip) => format!("{proto} {}", SocketAddr::new(ip, port)),
            Reach::Forward(ip) => format!("{proto} {} (forwarded)", SocketAddr::new(ip, port)),
        };
        f.pad(&text)
    }
}

/// A listening unix socket: named to the operator, held by nobody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixDoor {
    /// Path in the file system, or `@name` for an abstract one.
    pub path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(reach: Reach) -> Door {
        Door { proto: Proto::Tcp, reach, port: 80 }
    }

    #[test]
    fn the_most_specific_door_fits_best() {
        let v4: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        let v6: SocketAddr = "[fd00::1]:80".parse().unwrap();
        let one = door(Reach::Addr("10.0.0.1".parse().unwrap()));
        assert!(one.fit(v4) > door(Reach::Any4).fit(v4));
        assert!(door(Reach::Any4).fit(v4) > door(Reach::Any).fit(v4));
        assert_eq!(one.fit(mapped), one.fit(v4));
        assert_eq!(door(Reach::Any4).fit(v6), None);
        assert_eq!(door(Reach::Any6).fit(mapped), None);
        assert_eq!(one.fit("10.0.0.1:81".parse().unwrap()), None);
    }
}
