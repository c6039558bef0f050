//! The trial's network: two servers and the clients on one switch.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ebb_kernel::boot::{Capability, has_capability};
use ebb_kernel::netns::{self, Ns, Prefix, World, in_ns};

use crate::Error;

/// One of the two servers of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The one that is drained.
    A,
    /// The one that stays.
    B,
}

const CLIENTS: u8 = 100;

impl Server {
    const fn number(self) -> u8 {
        match self {
            Self::A => 11,
            Self::B => 12,
        }
    }

    /// One of its two addresses.
    pub(crate) fn address(self, v6: bool) -> IpAddr {
        if v6 { address6(self.number()) } else { address4(self.number()) }
    }

    /// Whose address this is.
    pub(crate) fn of(address: IpAddr) -> Self {
        if [false, true].iter().any(|v6| Self::B.address(*v6) == address) { Self::B } else { Self::A }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "server-a",
            Self::B => "server-b",
        })
    }
}

fn address4(number: u8) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(10, 77, 0, number))
}

/// The number as people would write it: fd77::11 for 11.
fn address6(number: u8) -> IpAddr {
    let as_written = u16::from(number / 100) << 8 | u16::from(number / 10 % 10) << 4 | u16::from(number % 10);
    IpAddr::from(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, as_written))
}

/// Whether this kernel has IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/self/net/if_inet6").exists()
}

/// The hosts; they live as long as somebody has a hand on them or a process inside.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) a: Ns,
    pub(crate) b: Ns,
    pub(crate) clients: Ns,
    /// Keeps the switch.
    _world: World,
}

impl Pool {
    /// Makes them. Where the right is there, nothing changes for this process; else it moves into a user namespace of its
    /// own, for which it must have one thread only.
    ///
    /// Says also whether it had to move.
    pub(crate) fn make() -> Result<(Self, bool), Error> {
        let (mut world, moved) = world().map_err(Error::World)?;
        let ipv6 = has_ipv6();
        let mut host = |name: &str, number: u8| {
            let prefixes = [Prefix::new(address4(number), 24), Prefix::new(address6(number), 64)];
            let prefixes: Vec<Prefix> = prefixes.into_iter().flatten().take(if ipv6 { 2 } else { 1 }).collect();
            world.host(name, &prefixes).map_err(Error::World)
        };
        let a = host("server-a", Server::A.number())?;
        let b = host("server-b", Server::B.number())?;
        let clients = host("clients", CLIENTS)?;
        Ok((Self { a, b, clients, _world: world }, moved))
    }
}

fn world() -> Result<(World, bool), netns::Error> {
    let may = |capability| has_capability(capability).unwrap_or(false);
    if may(Capability::SysAdmin) && may(Capability::NetAdmin) {
        Ok((in_ns(&Ns::fresh()?, World::here)??, false))
    } else {
        Ok((World::new()?, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_documented() {
        assert_eq!(Server::A.address(false).to_string(), "10.77.0.11");
        assert_eq!(Server::A.address(true).to_string(), "fd77::11");
        assert_eq!(Server::B.address(true).to_string(), "fd77::12");
        assert_eq!(address6(CLIENTS).to_string(), "fd77::100");
        for (server, v6) in [(Server::A, false), (Server::A, true), (Server::B, false), (Server::B, true)] {
            assert_eq!(Server::of(server.address(v6)), server);
        }
    }
}
