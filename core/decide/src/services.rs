//! Which services a server has: from listening sockets, units and processes to names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ebb_model::{Door, Origin, Proto, Reach, Service, ServiceName, StartType, Tree, UnitSight, UnixDoor, Up};

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
    /// UDP ports that the kernel hands out to clients: a socket there is no door.
    pub ephemeral: (u16, u16),
}

/// What a socket belongs to, before groups and names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Unit(String),
    Tree { executable: String, root: u32 },
    Nobody(u16),
}

#[derive(Default)]
struct Draft {
    units: BTreeSet<String>,
    sockets: BTreeSet<String>,
    trees: BTreeSet<Tree>,
    doors: BTreeSet<Door>,
    unix: BTreeSet<UnixDoor>,
    cgroups: BTreeSet<u64>,
    executables: BTreeSet<String>,
    base: String,
}

/// UDP ports of DHCP clients: they listen, but serve nobody.
const DHCP_CLIENT: [u16; 2] = [68, 546];
/// UDP ports that are QUIC when the same service has them as TCP too (HTTP/3).
const QUIC: [u16; 2] = [443, 8443];

/// The services, ordered by name.
#[must_use]
pub fn services(sight: &Sight) -> Vec<Service> {
    let mut drafts: BTreeMap<Owner, Draft> = BTreeMap::new();
    for listener in &sight.listeners {
        if is_own(sight, &listener.pids) || !is_door(sight, listener) {
            continue;
        }
        for owner in owners(sight, listener) {
            let draft = drafts.entry(owner.clone()).or_default();
            begin(sight, draft, &owner, listener);
            draft.doors.insert(door(listener));
            draft.cgroups.extend(listener.cgroup.filter(|_| matches!(owner, Owner::Unit(_))));
        }
    }
    add_unix(sight, &mut drafts);
    let drafts = group(sight, drafts);
    name(sight, drafts)
}

fn is_own(sight: &Sight, pids: &[u32]) -> bool {
    !pids.is_empty() && pids.iter().all(|pid| sight.processes.get(pid).is_some_and(|process| process.own))
}

fn is_door(sight: &Sight, listener: &Listener) -> bool {
    let port = listener.local.port();
    listener.proto == Proto::Tcp
        || !(DHCP_CLIENT.contains(&port) || (sight.ephemeral.0..=sight.ephemeral.1).contains(&port))
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
            draft.base.clone_from(executable);
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
    for (owner, mut draft) in drafts {
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
        into.units.append(&mut draft.units);
        into.sockets.append(&mut draft.sockets);
        into.trees.append(&mut draft.trees);
        into.doors.append(&mut draft.doors);
        into.unix.append(&mut draft.unix);
        into.cgroups.append(&mut draft.cgroups);
    }
    rest.extend(grouped.into_values());
    rest
}

fn lowest_port(draft: &Draft) -> u16 {
    let lowest = |tcp: bool| draft.doors.iter().filter(|door| door.is_tcp() == tcp).map(|door| door.port).min();
    lowest(true).or_else(|| lowest(false)).unwrap_or(0)
}

/// The lowest address of a service that is in a container alone.
fn container(draft: &Draft) -> Option<IpAddr> {
    let forward = |door: &Door| if let Reach::Forward(ip) = door.reach { Some(ip) } else { None };
    draft.doors.iter().map(forward).collect::<Option<BTreeSet<_>>>()?.pop_first()
}

fn name(sight: &Sight, drafts: Vec<Draft>) -> Vec<Service> {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for draft in &drafts {
        *uses.entry(draft.base.clone()).or_default() += 1;
    }
    let mut services: BTreeMap<ServiceName, Service> = BTreeMap::new();
    for draft in drafts {
        let by_unit = !draft.units.is_empty();
        let unique = by_unit || (uses[&draft.base] == 1 && draft.base != "unknown");
        let base = draft.base.replace(['/', ' '], "-");
        let text = match container(&draft) {
            _ if unique => base,
            // Containers of one image all have its ports.
            Some(address) => format!("{base}@{address}"),
            None => format!("{base}:{}", lowest_port(&draft)),
        };
        let Ok(name) = ServiceName::new(text) else { continue };
        let service = finish(sight, name.clone(), draft);
        // Two trees of one executable on one port (SO_REUSEPORT) are one service.
        match services.get_mut(&name) {
            Some(existing) => absorb(existing, service),
            None => drop(services.insert(name, service)),
        }
    }
    let mut services: Vec<Service> = services.into_values().collect();
    mark_shared(&mut services);
    services
}

fn absorb(existing: &mut Service, mut other: Service) {
    existing.doors.append(&mut other.doors);
    existing.unix_doors.append(&mut other.unix_doors);
    if let (Origin::Trees(trees), Origin::Trees(more)) = (&mut existing.origin, other.origin) {
        trees.extend(more);
    }
}

fn finish(sight: &Sight, name: ServiceName, draft: Draft) -> Service {
    let quic: Vec<u16> =
        sight.groups.iter().filter(|group| group.name == name.as_str()).flat_map(|group| group.quic.clone()).collect();
    let tcp: BTreeSet<u16> = draft.doors.iter().filter(|door| door.is_tcp()).map(|door| door.port).collect();
    let doors = draft.doors.into_iter().map(|door| {
        let speaks_quic = quic.contains(&door.port) || (QUIC.contains(&door.port) && tcp.contains(&door.port));
        if door.proto == Proto::Udp && speaks_quic { Door { proto: Proto::Quic, ..door } } else { door }
    });
    let units: Vec<UnitSight> = draft
        .units
        .iter()
        .map(|unit| UnitSight { name: unit.clone(), up: sight.units.get(unit).map_or(Up::Running, |unit| unit.up) })
        .collect();
    let start = start_type(sight, &draft.units, &draft.sockets, !draft.trees.is_empty());
    let mut aliases = draft.executables;
    aliases.extend(draft.units.iter().filter_map(|unit| stem(unit).split_once('@')).map(|(base, _)| base.to_owned()));
    aliases.remove(name.as_str());
    Service {
        doors: doors.collect(),
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

fn mark_shared(services: &mut [Service]) {
    let mut by_door: BTreeMap<Door, BTreeSet<ServiceName>> = BTreeMap::new();
    for service in services.iter() {
        for door in &service.doors {
            by_door.entry(*door).or_default().insert(service.name.clone());
        }
    }
    for service in services {
        let others = service.doors.iter().flat_map(|door| by_door[door].iter());
        service.shared_with = others.filter(|name| **name != service.name).cloned().collect();
    }
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
