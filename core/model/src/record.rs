//! What must be remembered about a held service, beside its holds.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::{Door, DrainSpec, Mono, Requester, ServiceName, Span, Tree, Wall};

/// What we stopped, so that a resume starts just that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stopped {
    /// A systemd unit, service or socket.
    Unit(String),
    /// A process tree.
    Tree(Tree),
}

/// A process that watches a drain: pid and start name it for ever in this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// Its pid.
    pub pid: u32,
    /// Its start, in clock ticks since boot.
    pub started_ticks: u64,
}

/// What is remembered while a service is held: enough to go on after a crash, and to restore what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The service.
    pub service: ServiceName,
    /// The doors to keep shut; they outlive the listening sockets.
    pub doors: BTreeSet<Door>,
    /// Those of them that it opened while it was held: a resume does not insist on them.
    pub added: BTreeSet<Door>,
    /// Other names it had while it ran, as `sshd` for ssh.
    pub aliases: BTreeSet<String>,
    /// Units it was made of.
    pub units: Vec<String>,
    /// Socket units that open its doors.
    pub sockets: Vec<String>,
    /// Process trees it was made of, for services without a unit.
    pub trees: Vec<Tree>,
    /// The drain, if one began.
    pub drain: Option<DrainRecord>,
    /// What we stopped.
    pub stopped: Vec<Stopped>,
    /// Our own probes that a gate refused, which are no clients.
    pub own_probes: u64,
    /// Refusals counted by gates that somebody has removed since.
    pub refused_before: u64,
    /// Addresses with a port that a wildcard door of this service would shut as well, but where others listen: as last
    /// seen, for when the gate is shut before anybody listens.
    pub neighbours: BTreeSet<(IpAddr, u16)>,
    /// At which of its UDP doors the flows that exist are learnt when the gate is shut there; none: at no door.
    pub learn: Option<Learn>,
}

/// How flows are learnt. *When* that began and ends is in the kernel alone, which ends it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learn {
    /// In which boot: at a held door nobody has a flow after another.
    pub boot_id: String,
    /// For how long, from when the gate is shut.
    pub span: Span,
    /// UDP doors that were there when somebody asked for the gate. Those opened later are refused at from the beginning.
    pub doors: BTreeSet<Door>,
}

/// What is remembered of a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainRecord {
    /// Whose drain it is.
    pub requester: Requester,
    /// When it began.
    pub began: Wall,
    /// The same on the boot clock: what a deadline counts from, whatever the wall clock does.
    pub began_mono: Mono,
    /// In which boot: session ids and the boot clock mean nothing in another.
    pub boot_id: String,
    /// Sessions when the gate was shut.
    pub at_start: u64,
    /// Connections seen while the gate should have been shut.
    pub leaks: u64,
    /// When it was proven empty.
    pub drained_at: Option<Wall>,
    /// Who watches it.
    pub watcher: Option<Watcher>,
    /// When its deadline is, on the boot clock.
    pub deadline: Option<Mono>,
    /// What was asked, while it is under way: a resident agent goes on with it by itself. None once it is over, and when
    /// the operator left it to nobody.
    pub spec: Option<DrainSpec>,
}
