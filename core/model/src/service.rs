//! A service: what we drain.

use std::collections::BTreeSet;

use crate::{Door, ServiceName, UnixDoor};

/// One service of this server, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name an operator types.
    pub name: ServiceName,
    /// What it is made of.
    pub origin: Origin,
    /// Doors that the gate can hold.
    pub doors: BTreeSet<Door>,
    /// Unconnected UDP sockets at ports that the kernel hands out to clients: taken for clients' own, and not held.
    pub passed_over: BTreeSet<Door>,
    /// UDP doors at which its daemon refuses new work itself, so that what exists goes on: the gate leaves them open.
    pub own_doors: BTreeSet<Door>,
    /// Unix sockets it listens on: named, not held.
    pub unix_doors: BTreeSet<UnixDoor>,
    /// Other services that listen on one of the same doors (`SO_REUSEPORT` or inherited sockets):
    /// a gate on this service shuts them there too.
    pub shared_with: BTreeSet<ServiceName>,
    /// Cgroup ids whose sockets are this service's; empty for process trees.
    pub cgroups: BTreeSet<u64>,
    /// Whether it runs.
    pub up: Up,
    /// How it is started.
    pub start: StartType,
    /// A name it also answers to, as `postgresql` for its only instance.
    pub aliases: BTreeSet<String>,
}

/// What a service is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// systemd units: the services, and the sockets that start them.
    Units {
        /// Units of type service (or scope).
        units: Vec<UnitSight>,
        /// `.socket` units that open its doors and would start it again.
        sockets: Vec<String>,
    },
    /// Trees of processes with listening sockets, started by hand or without systemd.
    Trees(Vec<Tree>),
}

/// A systemd unit as seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitSight {
    /// Full name, `nginx.service`.
    pub name: String,
    /// Whether it runs.
    pub up: Up,
}

/// A process tree without a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tree {
    /// Its topmost process.
    pub root: u32,
    /// Start of that process in clock ticks since boot: pid and start together name a process for ever.
    pub started_ticks: u64,
    /// Name of the executable.
    pub executable: String,
    /// How it was started, as far as the process has not overwritten it.
    pub command: Vec<String>,
}

/// Whether a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Up {
    /// Running.
    Running,
    /// On its way up or down.
    Changing,
    /// Not running.
    Stopped,
    /// Not running, and systemd calls it failed.
    Failed,
}

/// How a service is started.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StartType {
    /// The unit file's state: `enabled`, `disabled`, `static`, `masked`, ...
    Unit(String),
    /// By a socket unit, on the first connection.
    Socket(String),
    /// By a person or a script; nothing on this server starts it again.
    ByHand,
    /// It could not be read.
    Unknown,
}

impl std::fmt::Display for StartType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(state) => f.pad(state),
            Self::Socket(_) => f.pad("socket"),
            Self::ByHand => f.pad("by hand"),
            Self::Unknown => f.pad("unknown"),
        }
    }
}

/// What a service is, from holds, census and unit together; the truth table is in `decide`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EffectiveState {
    /// Accepts new connections.
    Open,
    /// Held; sessions remain, or their end is not proven yet.
    Draining,
    /// Held, running, and proven empty.
    Drained,
    /// Not running.
    Stopped,
}

impl EffectiveState {
    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
        }
    }
}
