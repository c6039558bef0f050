//! Which services a server has: from listening sockets, units and processes to names.

mod held;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ebb_model::{Door, Origin, Proto, Reach, Record, Service, ServiceName, StartType, Tree, UnitSight, UnixDoor, Up};

/// A listening socket, as the kernel shows it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What is spoken; QUIC is recognised here, not there.
    pub proto: Proto,
    /// Where it is bound.
    pub local: SocketAddr,
    /// `IPV6_V6ONLY`, for IPv6 sockets.
    pub v6only: bool,
    /// The cgroup it was made in.
    pub cgroup: Option<u64>,
    /// The unit of that cgroup, where systemd runs.
    pub unit: Option<String>,
    /// Processes that hold it, as far as they could be read.
    pub pids: Vec<u32>,
    /// It is in another network namespace, reached through a forward.
    pub forward: bool,
}

/// A process, as far as naming needs it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its parent.
    pub ppid: u32,
    /// Its start.
    pub started_ticks: u64,
    /// Name of its executable.
    pub executable: String,
    /// How it was started.
    pub command: Vec<String>,
    /// It is an ebb.
    pub own: bool,
}

/// A loaded unit.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Whether it runs.
    pub up: Up,
    /// Its unit file's state, where it was read.
    pub file_state: Option<String>,
    /// For socket units: the service they start.
    pub triggers: Option<String>,
}

/// A group from the configuration: several units or executables shown as one service.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Units in it, `nginx` or `nginx.service`.
    pub units: Vec<String>,
    /// Executables in it, for services without a unit.
    pub executables: Vec<String>,
    /// UDP ports that speak QUIC.
    pub quic: Vec<u16>,
    /// UDP ports that are doors although the kernel hands such ports out to clients.
    pub udp: Vec<u16>,
}

/// All that was seen of the server at one time.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Listening sockets.
    pub listeners: Vec<Listener>,
    /// Listening unix sockets: path, and processes that hold it.
    pub unix: Vec<(String, Vec<u32>)>,
    /// Units by full name; empty where systemd does not run.
    pub units: BTreeMap<String, Unit>,
    /// Processes by pid.
    pub processes: BTreeMap<u32, Process>,
    /// Unit of a process, where known.
    pub unit_of: BTreeMap<u32, String>,
    /// The configuration's groups.
    pub groups: Vec<Group>,
    /// UDP ports that the kernel hands out to clients: a socket there is no door, unless the configuration says so.
    pub ephemeral: (u16, u16),
    /// What is remembered of the services that are held.
    pub held: Vec<Record>,
    /// Those of their processes that live: pid and start.
    pub alive: BTreeSet<(u32, u64)>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The services, ordered by name; also those that are held and listen nowhere now.
    pub services: Vec<Service>,
    /// Programs that have nothing but UDP sockets at ports for clients, so that they are told why when they are named.
    pub clients: Vec<Service>,
}

/// What a socket belongs to, before groups and names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Unit(String),
    Tree { executable: String, root: u32 },
    Nobody(u16),
}

/// A service before it has a name.
#[derive(Default)]
struct Draft {
    units: BTreeSet<String>,
    sockets: BTreeSet<String>,
    trees: BTreeSet<Tree>,
    doors: BTreeSet<Door>,
    passed_over: BTreeSet<Door>,
    unix: BTreeSet<UnixDoor>,
    cgroups: BTreeSet<u64>,
    executables: BTreeSet<String>,
    base: String,
    /// The configuration has named it.
    grouped: bool,
}

impl Draft {
    /// Whether it is a tree of processes that nothing but its executable names.
    fn is_tree(&self) -> bool {
        self.units.is_empty() && !self.grouped && !self.trees.is_empty()
    }

    /// Takes all that another one has but its name.
    fn take(&mut self, mut other: Self) {
        self.units.append(&mut other.units);
        self.sockets.append(&mut other.sockets);
        self.trees.append(&mut other.trees);
        self.doors.append(&mut other.doors);
        self.passed_over.append(&mut other.passed_over);
        self.unix.append(&mut other.unix);
        self.cgroups.append(&mut other.cgroups);
        self.executables.append(&mut other.executables);
    }
}

/// UDP ports of DHCP clients: they listen, but serve nobody.
const DHCP_CLIENT: [u16; 2] = [68, 546];
/// UDP ports that are QUIC when the same service has them as TCP too (HTTP/3).
const QUIC: [u16; 2] = [443, 8443];

/// The services of a server, each under a name of its own.
#[must_use]
pub fn find(sight: &Sight) -> Found {
    let mut drafts: BTreeMap<Owner, Draft> = BTreeMap::new();
    for listener in &sight.listeners {
        let is_udp = listener.proto != Proto::Tcp;
        if is_own(sight, &listener.pids) || (is_udp && DHCP_CLIENT.contains(&listener.local.port())) {
            continue;
        }
        let is_clients = is_udp && (sight.ephemeral.0..=sight.ephemeral.1).contains(&listener.local.port());
        for owner in owners(sight, listener) {
            let draft = drafts.entry(owner.clone()).or_default();
            begin(sight, draft, &owner, listener);
            let doors = if is_clients { &mut draft.passed_over } else { &mut draft.doors };
            doors.insert(door(listener));
            draft.cgroups.extend(listener.cgroup.filter(|_| matches!(owner, Owner::Unit(_))));
        }
    }
    add_unix(sight, &mut drafts);
    let mut drafts = group(sight, drafts);
    drafts.iter_mut().for_each(|draft| configure(sight, draft));
    let (named, clients) = names::give(sight, join(drafts));
    Found {
        services: held::complete(sight, named),
        clients: clients.into_iter().map(|(name, draft)| finish(sight, name, draft)).collect(),
    }
}

fn is_own(sight: &Sight, pids: &[u32]) -> bool {
    !pids.is_empty() && pids.iter().all(|pid| sight.processes.get(pid).is_some_and(|process| process.own))
}

/// The door that a socket opens.
#[must_use]
pub fn door(listener: &Listener) -> Door {
    let ip = listener.local.ip().to_canonical();
    let reach = match ip {
        _ if listener.forward => Reach::Forward(ip),
        ip if !ip.is_unspecified() => Reach::Addr(ip),
        _ if listener.local.is_ipv4() => Reach::Any4,
        _ if listener.v6only => Reach::Any6,
        _ => Reach::Any,
    };
    Door { proto: listener.proto, reach, port: listener.local.port() }
}

fn is_session_or_init(unit: &str) -> bool {
    unit == "init.scope" || unit.ends_with(".slice") || (unit.starts_with("session-") && unit.ends_with(".scope"))
}

/// A unit as the owner of sockets: a socket unit's are those of the service it starts.
fn unit_owner(sight: &Sight, unit: &str) -> Option<Owner> {
    if is_session_or_init(unit) || unit.starts_with("user@") {
        return None;
    }
    let service = match unit.strip_suffix(".socket") {
        None => unit.to_owned(),
        Some(stem) => sight
            .units
            .get(unit)
            .and_then(|socket| socket.triggers.clone())
            .unwrap_or_else(|| format!("{stem}.service")),
    };
    Some(Owner::Unit(service))
}

fn owners(sight: &Sight, listener: &Listener) -> BTreeSet<Owner> {
    if let Some(owner) = listener.unit.as_deref().and_then(|unit| unit_owner(sight, unit)) {
        return [owner].into();
    }
    let trees: BTreeSet<_> = listener.pids.iter().filter_map(|pid| tree(sight, *pid)).collect();
    if trees.is_empty() { [Owner::Nobody(listener.local.port())].into() } else { trees }
}

/// The tree of a process: the topmost ancestor with the same executable.
fn tree(sight: &Sight, pid: u32) -> Option<Owner> {
    let mut root = pid;
    let executable = &sight.processes.get(&pid)?.executable;
    // A chain of parents is finite, but it was not read in one instant: bounded all the same.
    for _ in 0..64 {
        let parent = sight.processes.get(&root)?.ppid;
        match sight.processes.get(&parent) {
            Some(process) if parent > 1 && process.executable == *executable => root = parent,
            _ => break,
        }
    }
    Some(Owner::Tree { executable: executable.clone(), root })
}

fn begin(sight: &Sight, draft: &mut Draft, owner: &Owner, listener: &Listener) {
    draft.executables.extend(
        listener.pids.iter().filter_map(|pid| sight.processes.get(pid)).map(|process| process.executable.clone()),
    );
    match owner {
        Owner::Unit(unit) => {
            draft.units.insert(unit.clone());
            draft.sockets.extend(listener.unit.clone().filter(|unit| unit.ends_with(".socket")));
            draft.base = stem(unit).to_owned();
            // What the socket unit's manager is called says nothing about the service.
            draft.executables.remove("systemd");
        }
        Owner::Tree { executable, root } => {
            draft.base = names::clean(executable);
            if let Some(process) = sight.processes.get(root) {
                draft.trees.insert(Tree {
                    root: *root,
                    started_ticks: process.started_ticks,
                    executable: executable.clone(),
                    command: process.command.clone(),
                });
            }
        }
        Owner::Nobody(_) => "unknown".clone_into(&mut draft.base),
    }
}

/// The short name of a unit: `nginx` of `nginx.service`, `foo` of `foo@.service`.
fn stem(unit: &str) -> &str {
    let stem = unit.strip_suffix(".service").or_else(|| unit.strip_suffix(".scope")).unwrap_or(unit);
    stem.strip_suffix('@').unwrap_or(stem)
}

fn add_unix(sight: &Sight, drafts: &mut BTreeMap<Owner, Draft>) {
    for (path, pids) in &sight.unix {
        for pid in pids {
            let owner = match sight.unit_of.get(pid) {
                Some(unit) => unit_owner(sight, unit),
                None => tree(sight, *pid),
            };
            // Only beside other doors: a service of unix sockets alone is found when it is asked for by name.
            if let Some(draft) = owner.and_then(|owner| drafts.get_mut(&owner)) {
                draft.unix.insert(UnixDoor { path: path.clone() });
            }
        }
    }
}

/// Merges what the configuration groups.
fn group(sight: &Sight, drafts: BTreeMap<Owner, Draft>) -> Vec<Draft> {
    let mut grouped: BTreeMap<usize, Draft> = BTreeMap::new();
    let mut rest = Vec::new();
    for (owner, draft) in drafts {
        let place = sight.groups.iter().position(|group| match &owner {
            Owner::Unit(unit) => group.units.iter().any(|named| named == unit || named == stem(unit)),
            Owner::Tree { executable, .. } => group.executables.contains(executable),
            Owner::Nobody(_) => false,
        });
        let Some(place) = place else {
            rest.push(draft);
            continue;
        };
        let into = grouped.entry(place).or_default();
        into.base.clone_from(&sight.groups[place].name);
        into.grouped = true;
        into.take(draft);
        // A group answers to its own name alone.
        into.executables.clear();
    }
    // A unit without a socket of its own is stopped and started with the others.
    for (place, draft) in &mut grouped {
        let named = |unit: &&String| {
            let group = &sight.groups[*place].units;
            unit.ends_with(".service") && group.iter().any(|named| named == *unit || named == stem(unit))
        };
        draft.units.extend(sight.units.keys().filter(named).cloned());
    }
    rest.extend(grouped.into_values());
    rest
}

/// What the configuration says of its UDP ports.
fn configure(sight: &Sight, draft: &mut Draft) {
    let aliases = names::aliases(&draft.base, draft.doors.union(&draft.passed_over));
    let said = |group: &&Group| group.name == draft.base || aliases.contains(&group.name);
    let groups: Vec<&Group> = sight.groups.iter().filter(said).collect();
    let speaks_quic = |port: &u16| groups.iter().any(|group| group.quic.contains(port));
    let is_door = |port: &u16| speaks_quic(port) || groups.iter().any(|group| group.udp.contains(port));
    let (doors, passed_over) = std::mem::take(&mut draft.passed_over).into_iter().partition(|door| is_door(&door.port));
    draft.passed_over = passed_over;
    let doors: BTreeSet<Door> = doors;
    draft.doors.extend(doors);
    let tcp: BTreeSet<u16> = draft.doors.iter().filter(|door| door.is_tcp()).map(|door| door.port).collect();
    let doors = std::mem::take(&mut draft.doors).into_iter().map(|door| {
        let is_quic = speaks_quic(&door.port) || (QUIC.contains(&door.port) && tcp.contains(&door.port));
        if door.proto == Proto::Udp && is_quic { Door { proto: Proto::Quic, ..door } } else { door }
    });
    draft.doors = doors.collect();
}

/// Trees of one executable which share a door (`SO_REUSEPORT`, inherited sockets) are one service.
fn join(drafts: Vec<Draft>) -> Vec<Draft> {
    let mut joined: Vec<Draft> = Vec::new();
    for mut draft in drafts {
        if draft.is_tree() {
            let is_same =
                |other: &Draft| other.is_tree() && other.base == draft.base && !other.doors.is_disjoint(&draft.doors);
            let (same, rest): (Vec<Draft>, Vec<Draft>) = joined.into_iter().partition(is_same);
            joined = rest;
            same.into_iter().for_each(|other| draft.take(other));
        }
        joined.push(draft);
    }
    joined
}

fn finish(sight: &Sight, name: ServiceName, draft: Draft) -> Service {
    // What systemd does not tell of runs, for it has a socket; unless that is the socket unit's, which starts it, or one of
    // its own for each client.
    let untold = if draft.sockets.is_empty() { Up::Running } else { Up::Stopped };
    let units: Vec<UnitSight> = draft
        .units
        .iter()
        .map(|unit| UnitSight { name: unit.clone(), up: sight.units.get(unit).map_or(untold, |unit| unit.up) })
        .collect();
    let start = start_type(sight, &draft.units, &draft.sockets, !draft.trees.is_empty());
    let mut aliases = draft.executables;
    aliases.extend(draft.units.iter().filter_map(|unit| stem(unit).split_once('@')).map(|(base, _)| base.to_owned()));
    if draft.units.is_empty() && !draft.grouped {
        aliases.extend(names::aliases(&draft.base, draft.doors.union(&draft.passed_over)));
    }
    aliases.remove(name.as_str());
    Service {
        doors: draft.doors,
        passed_over: draft.passed_over,
        own_doors: BTreeSet::new(),
        unix_doors: draft.unix,
        shared_with: BTreeSet::new(),
        cgroups: draft.cgroups,
        up: if draft.units.is_empty() { Up::Running } else { up(&units, !draft.sockets.is_empty()) },
        origin: if draft.units.is_empty() {
            Origin::Trees(draft.trees.into_iter().collect())
        } else {
            Origin::Units { units, sockets: draft.sockets.into_iter().collect() }
        },
        start,
        aliases,
        name,
    }
}

/// A group runs if any of its units does; a socket that listens is a service that runs on demand.
fn up(units: &[UnitSight], listens: bool) -> Up {
    let best = units.iter().map(|unit| unit.up).min().unwrap_or(Up::Stopped);
    if listens { Up::Running } else { best }
}

fn start_type(sight: &Sight, units: &BTreeSet<String>, sockets: &BTreeSet<String>, by_hand: bool) -> StartType {
    if let Some(socket) = sockets.first() {
        return StartType::Socket(socket.clone());
    }
    let state = units.iter().find_map(|unit| sight.units.get(unit)?.file_state.clone());
    match state {
        Some(state) if !state.is_empty() => StartType::Unit(state),
        _ if by_hand => StartType::ByHand,
        _ => StartType::Unknown,
    }
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
