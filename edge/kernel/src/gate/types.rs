//! What a gate is told and what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::netlink;

/// Short for a result with this module's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a gate. Display completes "failed to ...".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel's answer.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// Others changed the rules of this namespace all the time.
    #[error("change the gate: others changed the ruleset {attempts} times meanwhile")]
    Contended {
        /// How often we tried.
        attempts: u32,
    },
    /// Flows can only be learnt at a UDP door.
    #[error("learn the flows at {door}: not UDP")]
    NotUdp {
        /// The door.
        door: Door,
    },
    /// Not a name for a table: a letter, then letters, digits, `_ - . /`.
    #[error("use {name:?} as the name of a table")]
    Name {
        /// What was given.
        name: String,
    },
}

impl Error {
    /// The kernel's errno, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Netlink(error) => error.errno(),
            _ => None,
        }
    }
}

/// How a door is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// A connection begins with a SYN.
    Tcp,
    /// A flow is known once a packet was seen while learning.
    Udp,
    /// UDP of which only QUIC's Initial packets (versions 1 and 2) are refused; nothing is to be learnt.
    Quic,
}

/// Which addresses a door has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Every IPv4 address.
    Any4,
    /// Every IPv6 address.
    Any6,
    /// Every address of both families: a `[::]` listener without `IPV6_V6ONLY`.
    Any,
    /// One address of this host.
    Addr(IpAddr),
    /// One address behind this host, as it is *after* destination NAT: a container's.
    Forward(IpAddr),
}

impl Reach {
    /// The reach of a listener bound to this address. `v6only` counts for `::` alone.
    #[must_use]
    pub fn of_listener(address: IpAddr, v6only: bool) -> Self {
        match address.to_canonical() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Self::Any4,
            IpAddr::V6(v6) if v6.is_unspecified() => {
                if v6only {
                    Self::Any6
                } else {
                    Self::Any
                }
            }
            address => Self::Addr(address),
        }
    }

    fn normal(self) -> Self {
        match self {
            Self::Addr(address) => Self::of_listener(address, false),
            Self::Forward(address) => Self::Forward(address.to_canonical()),
            any => any,
        }
    }
}

/// A place where connections come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Door {
    /// How it is entered.
    pub proto: Proto,
    /// At which addresses.
    pub reach: Reach,
    /// The port, as the listener has it (after destination NAT).
    pub port: u16,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proto = match self.proto {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Quic => "quic",
        };
        match self.reach {
            Reach::Any4 => write!(f, "{proto} 0.0.0.0:{}", self.port),
            Reach::Any6 => write!(f, "{proto} [::]:{} (IPv6 only)", self.port),
            Reach::Any => write!(f, "{proto} *:{}", self.port),
            Reach::Addr(address) => write!(f, "{proto} {}", SocketAddr::new(address, self.port)),
            Reach::Forward(address) => write!(f, "{proto} {} (forwarded)", SocketAddr::new(address, self.port)),
        }
    }
}

/// A source that may still come in at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Except {
    /// Network and prefix length.
    pub from: (IpAddr, u8),
    /// Where to.
    pub door: Door,
}

impl Except {
    /// The network with the host bits cleared, the prefix within its family; `None` when it can never match.
    fn normal(self) -> Option<Self> {
        let door = Door { reach: self.door.reach.normal(), ..self.door };
        let (address, prefix) = match (self.from.0.to_canonical(), self.from.0, self.from.1) {
            (IpAddr::V4(v4), IpAddr::V6(_), prefix) if prefix >= 96 => (IpAddr::V4(v4), prefix - 96),
            (_, address, prefix) => (address, prefix),
        };
        let from = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
                (IpAddr::V4((v4.to_bits() & mask).into()), prefix.min(32))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
                (IpAddr::V6((v6.to_bits() & mask).into()), prefix.min(128))
            }
        };
        let fits = match door.reach {
            Reach::Any4 => from.0.is_ipv4(),
            Reach::Any6 => from.0.is_ipv6(),
            Reach::Any => true,
            Reach::Addr(to) | Reach::Forward(to) => to.is_ipv4() == from.0.is_ipv4(),
        };
        fits.then_some(Self { from, door })
    }
}

/// All that a gate is to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Doors at which new connections are refused.
    pub shut: BTreeSet<Door>,
    /// Shut UDP doors that let everybody in until then, and learn the flows; from then on they refuse those not learnt.
    /// It is the kernel that ends it, whatever becomes of us. Within [`LEARN_LEAST`](super::LEARN_LEAST) of its end
    /// it is not begun any more.
    pub learn: BTreeMap<Door, Instant>,
    /// Listeners of others, on one address, at a port that is shut on every address: they stay open.
    pub open: BTreeSet<(IpAddr, u16)>,
    /// Sources that still may come in. At a learning door an excepted flow is not learnt.
    pub except: BTreeSet<Except>,
    /// `SO_MARK` of our own local probes, which pass; 0 = none.
    pub probe_mark: u32,
    /// Shut TCP doors at which **every** listener is MPTCP: there more paths of the connections of `tokens` pass. A plain
    /// TCP listener would take such a path for a new connection.
    pub mptcp: BTreeSet<Door>,
    /// Tokens of the MPTCP connections that exist, see [`crate::diag::Row::token`]. A path that names another is refused
    /// here: it could be a new connection in disguise.
    pub tokens: BTreeSet<u32>,
}

impl Rules {
    /// Whether no door is shut: then there is no table at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shut.is_empty() && self.learn.is_empty()
    }

    /// The one form of all rules that mean the same; [`Seen::rules`] is always in this form. IPv4-mapped addresses are
    /// IPv4, an unspecified address is "every", host bits of networks are cleared, what a wider exception covers and
    /// what can never match is left out, and a learning door is a shut one.
    #[must_use]
    pub fn normal(&self) -> Self {
        let door = |door: &Door| Door { reach: door.reach.normal(), ..*door };
        let mut learn = BTreeMap::new();
        for (learning, until) in self.learn.iter().map(|(learning, until)| (door(learning), *until)) {
            let at = learn.entry(learning).or_insert(until);
            *at = until.max(*at);
        }
        let shut: BTreeSet<Door> = self.shut.iter().map(door).chain(learn.keys().copied()).collect();
        let open = self.open.iter().map(|(address, port)| (address.to_canonical(), *port)).collect();
        let except = self.except.iter().filter_map(|except| except.normal()).collect();
        let except = super::elements::without_covered(&except);
        let shut_tcp = |door: &Door| door.proto == Proto::Tcp && shut.contains(door);
        let mut mptcp: BTreeSet<Door> = self.mptcp.iter().map(door).filter(shut_tcp).collect();
        let mut tokens = self.tokens.clone();
        if mptcp.is_empty() || tokens.is_empty() {
            mptcp.clear();
            tokens.clear();
        }
        Self { shut, learn, open, except, probe_mark: self.probe_mark, mptcp, tokens }
    }
}

/// A learnt UDP flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The door it came in by.
    pub door: Door,
    /// The client.
    pub peer: SocketAddr,
    /// Where it sends to.
    pub local: SocketAddr,
    /// Time until it is forgotten, if no packet comes.
    pub expires: Duration,
}

/// What is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The rules as the elements say.
    pub rules: Rules,
    /// Packets refused at each shut door since it was shut. TCP: SYNs; clients that try again count again.
    pub refused: BTreeMap<Door, u64>,
    /// UDP flows that pass at shut doors.
    pub flows: Vec<Flow>,
    /// What is not as [`Gate::apply`](super::Gate::apply) made it, if anything. Removed elements are noticed by the
    /// gate that applied them; any other fault by everybody.
    pub altered: Option<String>,
}

impl Seen {
    /// Whether the table is as we made it.
    #[must_use]
    pub fn intact(&self) -> bool {
        self.altered.is_none()
    }
}

/// What [`Gate::apply`](super::Gate::apply) did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// All was right already.
    Nothing,
    /// Elements of an intact table, which may have got the sets and rules for them.
    Changed {
        /// Elements put in.
        added: usize,
        /// Elements taken out.
        removed: usize,
    },
    /// The whole table, atomically.
    Built {
        /// What was wrong with the one before; `None` = there was none.
        altered: Option<String>,
    },
    /// No door is shut: the table was taken away.
    Removed,
}

/// Whether gates work here.
#[derive(Debug)]
pub enum Support {
    /// They do.
    Ready {
        /// Whether more paths of an existing MPTCP connection pass a shut door (`tcp option mptcp` in the kernel).
        mptcp: bool,
    },
    /// We lack `CAP_NET_ADMIN` in this network namespace.
    NoPermission,
    /// This kernel lacks nftables or a part of it that we need.
    Missing {
        /// What was refused, and how.
        what: netlink::Error,
    },
}
