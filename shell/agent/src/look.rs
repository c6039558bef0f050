//! Looking at the server: listening sockets, units and processes become services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use ebb_decide::services::{self as found, Listener, Process, Sight, Unit};
use ebb_kernel::{cgroup, diag, process};
use ebb_model::{Origin, Proto, Record, Service, ServiceName, Up, Why};
use ebb_systemd::{ActiveState, Systemd, UnitKind, UnitName};

use crate::world::{World, chain, unread};
use crate::{behind, daemons};

/// Processes of a unit that are asked for their unix sockets.
const ELDEST: usize = 8;

/// The server as it is now.
pub(crate) struct Around {
    /// All services, with those that are held but not found any more.
    pub(crate) services: Vec<Service>,
    /// Programs without a door, which are told so when they are named.
    clients: Vec<Service>,
    /// We may not see whose some of the listening sockets are.
    blind: bool,
}

/// All services of the server as they are now, with those that are held but not found any more.
pub(crate) async fn services(world: &World) -> Result<Vec<Service>, Why> {
    Ok(around(world).await?.services)
}

/// The same, and what must be known to say of a name that it means nobody.
pub(crate) async fn around(world: &World) -> Result<Around, Why> {
    let (mut sight, blind) = sight_of_kernel(world).await?;
    add_units(world, &mut sight).await;
    add_held(world, &mut sight)?;
    let found::Found { mut services, clients } = found::find(&sight);
    daemons::leave_doors(world, &mut services).await;
    Ok(Around { services, clients, blind })
}

/// What is remembered of the held services, and which of their processes live.
fn add_held(world: &World, sight: &mut Sight) -> Result<(), Why> {
    let (holds, mut records) = {
        let store = world.store();
        (store.holds().map_err(|error| unread(&error))?, store.records().map_err(|error| unread(&error))?)
    };
    records.retain(|record: &Record| holds.iter().any(|hold| hold.service == record.service));
    let trees = records.iter().flat_map(|record| &record.trees).map(|tree| (tree.root, tree.started_ticks));
    sight.alive = trees.filter(|(root, started)| is_alive(*root, *started)).collect();
    sight.held = records;
    Ok(())
}

/// With whether some sockets' owners were hidden from us.
async fn sight_of_kernel(world: &World) -> Result<(Sight, bool), Why> {
    let by_unit = world.systemd.is_some();
    let groups = world.config().groups.clone();
    let sight = tokio::task::spawn_blocking(move || kernel_sight(by_unit)).await;
    let seen = sight.map_err(|error| Why::Unread { what: "this server".into(), cause: error.to_string() })?;
    let (mut sight, blind) = seen?;
    sight.groups = groups;
    Ok((sight, blind))
}

fn kernel_sight(by_unit: bool) -> Result<(Sight, bool), Why> {
    let rows = diag::listeners()
        .map_err(|error| Why::Unread { what: "the listening sockets".into(), cause: chain(&error) })?;
    // Without a cgroup2 mount there are no units to find by it: process trees are.
    let cgroups = if by_unit { cgroup::Map::read().ok() } else { None };
    let here = rows.iter().map(|row| (row.inode, listener(row, row.local, false, cgroups.as_ref())));
    let there = behind::listeners();
    let there = there.iter().map(|(at, row)| (row.inode, listener(row, *at, true, cgroups.as_ref())));
    let mut listeners: Vec<(u32, Listener)> = here.chain(there).collect();
    let mut sight = Sight { ephemeral: ephemeral_ports(), ..Sight::default() };
    let blind = find_pids(&mut listeners, cgroups.as_ref());
    add_processes(&mut sight, &listeners);
    add_unix(&mut sight, &listeners, cgroups.as_ref());
    sight.listeners = listeners.into_iter().map(|(_, listener)| listener).collect();
    Ok((sight, blind))
}

/// `forward`: it is in a container, where `local` leads to it.
fn listener(row: &diag::Row, local: SocketAddr, forward: bool, cgroups: Option<&cgroup::Map>) -> Listener {
    let path = row.cgroup.and_then(|id| cgroups?.path_of(id));
    Listener {
        proto: if row.state == diag::State::Listen { Proto::Tcp } else { Proto::Udp },
        local,
        v6only: row.v6only.unwrap_or(false),
        cgroup: row.cgroup,
        unit: path.and_then(UnitName::from_cgroup_path).map(|owner| owner.unit.to_string()),
        pids: Vec::new(),
        forward,
    }
}

/// The processes behind each socket: from descriptors where no unit tells, and one of the unit's where
/// one does, for the name of its executable. True if a socket has no owner that we may see, and some are hidden.
fn find_pids(listeners: &mut [(u32, Listener)], cgroups: Option<&cgroup::Map>) -> bool {
    let loose = |listener: &Listener| {
        listener.unit.as_deref().is_none_or(|unit| !(unit.ends_with(".service") || unit.ends_with(".socket")))
    };
    let wanted: BTreeSet<u32> =
        listeners.iter().filter(|(_, listener)| loose(listener)).map(|(inode, _)| *inode).collect();
    let owners = if wanted.is_empty() {
        process::Owners::default()
    } else {
        process::owners_of_listeners(&wanted, &process::pids().unwrap_or_default())
    };
    let tree = cgroup::Tree::find().ok();
    let mut by_cgroup: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (inode, listener) in listeners {
        if let Some(holders) = owners.holders.get(inode) {
            listener.pids = holders.iter().map(|pid| pid.get()).collect();
            continue;
        }
        let Some(id) = listener.cgroup.filter(|_| !loose(listener)) else { continue };
        let pids = by_cgroup.entry(id).or_insert_with(|| {
            let path = cgroups.and_then(|map| map.path_of(id));
            let pids = path.zip(tree.as_ref()).and_then(|(path, tree)| tree.pids_of(path, cgroup::Depth::All).ok());
            pids.unwrap_or_default().into_iter().take(1).map(process::Pid::get).collect()
        });
        listener.pids.clone_from(pids);
    }
    !owners.hidden.is_empty() && wanted.iter().any(|inode| !owners.holders.contains_key(inode))
}

/// The unix sockets on which services with other doors listen too. They are looked for in the eldest
/// processes of each: a service listens before it forks.
fn add_unix(sight: &mut Sight, listeners: &[(u32, Listener)], cgroups: Option<&cgroup::Map>) {
    let tree = cgroup::Tree::find().ok();
    for (_, listener) in listeners {
        let unit = listener.unit.as_deref().filter(|unit| unit.ends_with(".service"));
        let path = listener.cgroup.and_then(|id| cgroups?.path_of(id));
        let (Some(unit), Some(path), Some(tree)) = (unit, path, &tree) else { continue };
        if sight.unit_of.values().any(|known| known == unit) {
            continue;
        }
        let pids = tree.pids_of(path, cgroup::Depth::All).unwrap_or_default();
        sight.unit_of.extend(pids.into_iter().take(ELDEST).map(|pid| (pid.get(), unit.to_owned())));
    }
    let pids: BTreeSet<u32> = sight.unit_of.keys().chain(sight.processes.keys()).copied().collect();
    sight.unix = unix_listeners(pids.into_iter().filter_map(process::Pid::new));
}

/// The holders, and their ancestors, which may be the root of a tree.
fn add_processes(sight: &mut Sight, listeners: &[(u32, Listener)]) {
    let own_exe = std::fs::metadata("/proc/self/exe").ok();
    let mut wanted: Vec<u32> = listeners.iter().flat_map(|(_, listener)| listener.pids.clone()).collect();
    while let Some(pid) = wanted.pop() {
        if sight.processes.contains_key(&pid) {
            continue;
        }
        let Some(Ok(Some(process))) = process::Pid::new(pid).map(process::read) else { continue };
        let parent = process.parent.map_or(0, process::Pid::get);
        let executable = executable(&process);
        let own = own_exe.as_ref().is_some_and(|own| is_same_file(own, pid));
        let command = process.cmdline.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let seen = Process { ppid: parent, started_ticks: process.start_ticks, executable, command, own };
        sight.processes.insert(pid, seen);
        if parent > 1 {
            wanted.push(parent);
        }
    }
}

fn is_same_file(own: &std::fs::Metadata, pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{pid}/exe"))
        .is_ok_and(|other| (other.dev(), other.ino()) == (own.dev(), own.ino()))
}

/// The name of its executable without a version's digits, as `python3` of `/usr/bin/python3.11`.
pub(crate) fn executable(process: &process::Process) -> String {
    let name = process
        .exe
        .as_deref()
        .and_then(Path::file_name)
        .map_or_else(|| process.comm.clone(), |name| name.to_string_lossy().into_owned());
    match name.split_once('.') {
        Some((stem, version)) if !stem.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            stem.to_owned()
        }
        _ => name,
    }
}

fn ephemeral_ports() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().map_while(|port| port.parse().ok());
    // The kernel's own default.
    (ports.next().unwrap_or(32_768), ports.next().unwrap_or(60_999))
}

/// What systemd says of the units seen. Where it does not answer, the services are still named by cgroup,
/// and count as running.
async fn add_units(world: &World, sight: &mut Sight) {
    let Some(systemd) = &world.systemd else { return };
    let Ok(lines) = systemd.units().await else { return };
    for line in lines {
        sight.units.insert(line.name.to_string(), Unit { up: up(&line.active), file_state: None, triggers: None });
    }
    let sockets: BTreeSet<String> = sight
        .listeners
        .iter()
        .filter_map(|listener| listener.unit.clone())
        .filter(|unit| unit.ends_with(".socket"))
        .collect();
    for socket in sockets {
        let Ok(name) = UnitName::new(&socket) else { continue };
        let Ok(unit) = systemd.unit(&name).await else { continue };
        if let Some(seen) = sight.units.get_mut(&socket) {
            // One with a service for each client (Accept=yes) goes by its own name: theirs come and go.
            let triggers = unit.triggers.iter().filter(|_| !unit.accept);
            seen.triggers = triggers.into_iter().find(|unit| unit.kind() == UnitKind::Service).map(ToString::to_string);
        }
    }
    add_file_states(world, systemd, sight).await;
}

/// How the units that listen, or are held, are started. Reading it of every unit file there is would take systemd
/// a tenth of a second.
async fn add_file_states(world: &World, systemd: &Systemd, sight: &mut Sight) {
    let records = world.store().records().unwrap_or_default();
    let wanted: BTreeSet<UnitName> = sight
        .listeners
        .iter()
        .filter_map(|listener| listener.unit.as_deref())
        .chain(records.iter().flat_map(|record| record.units.iter().map(String::as_str)))
        .filter_map(|unit| UnitName::new(unit).ok())
        .filter(|unit| unit.kind() == UnitKind::Service)
        .collect();
    let wanted: Vec<UnitName> = wanted.into_iter().collect();
    for file in systemd.file_states(&wanted).await.unwrap_or_default() {
        if let Some(unit) = sight.units.get_mut(file.name.as_str()) {
            unit.file_state = Some(file.state.to_string());
        }
    }
}

pub(crate) fn up(active: &ActiveState) -> Up {
    match active {
        ActiveState::Active | ActiveState::Reloading | ActiveState::Refreshing => Up::Running,
        ActiveState::Inactive => Up::Stopped,
        ActiveState::Failed => Up::Failed,
        _ => Up::Changing,
    }
}

/// These processes and all that they have started, each with its start.
pub(crate) fn family(roots: impl IntoIterator<Item = (u32, u64)>) -> BTreeMap<u32, u64> {
    let all: Vec<process::Brief> = process::pids().unwrap_or_default().into_iter().filter_map(process::brief).collect();
    let mut family: BTreeMap<u32, u64> = roots.into_iter().collect();
    // Parents come before children often, not always: until nothing is added.
    loop {
        let before = family.len();
        for process in &all {
            if process.parent.is_some_and(|parent| family.contains_key(&parent.get())) {
                family.insert(process.pid.get(), process.start_ticks);
            }
        }
        if family.len() == before {
            return family;
        }
    }
}

/// Whether this very process still runs.
pub(crate) fn is_alive(pid: u32, started_ticks: u64) -> bool {
    matches!(
        process::Pid::new(pid).map(process::read),
        Some(Ok(Some(process))) if process.start_ticks == started_ticks && process.state != process::State::Ended
    )
}

/// The units a service is made of, for messages and the journal.
pub(crate) fn units_of(service: &Service) -> Vec<String> {
    match &service.origin {
        Origin::Units { units, .. } => units.iter().map(|unit| unit.name.clone()).collect(),
        Origin::Trees(_) => Vec::new(),
    }
}

impl Around {
    /// The one service that was typed.
    pub(crate) fn one(&self, typed: &str) -> Result<&Service, Why> {
        let found = pick(typed, &self.services);
        match found {
            Err(Why::NoSuchService { .. }) => {}
            found => return found,
        }
        // Nobody is guessed at who is not seen: a name that looks alike may be another's altogether.
        if self.blind {
            return Err(unseen(typed));
        }
        pick(typed, &self.clients).map_or(found, |client| Err(no_door(client)))
    }

    /// These names, each resolved or with its reason why not.
    pub(crate) fn names(&self, typed: &[String]) -> (Vec<ServiceName>, Vec<(String, Why)>) {
        let (mut names, mut refused) = (Vec::new(), Vec::new());
        for typed in typed {
            match self.one(typed) {
                Ok(service) => names.push(service.name.clone()),
                Err(why) => refused.push((typed.clone(), why)),
            }
        }
        (names, refused)
    }

    /// Those that a request means. Each name that means none, or several, is a reason of its own.
    pub(crate) fn which(
        &self,
        which: &ebb_wire::v1::Which,
        all: impl Fn(&Service) -> bool,
    ) -> (Vec<&Service>, Vec<(String, Why)>) {
        let ((named, mut refused), (not, unknown)) = (self.names(&which.services), self.names(&which.not));
        refused.extend(unknown);
        let chosen = self
            .services
            .iter()
            .filter(|service| named.contains(&service.name) || (which.all && all(service)))
            .filter(|service| !not.contains(&service.name))
            .collect();
        (chosen, refused)
    }
}

fn pick<'a>(typed: &str, services: &'a [Service]) -> Result<&'a Service, Why> {
    let none = BTreeSet::new();
    let known = ebb_decide::resolve::known(services, &none);
    let name = ebb_decide::resolve::one(typed, &known)?.clone();
    services.iter().find(|service| service.name == name).ok_or(Why::NoSuchService { name: typed.into(), alike: vec![] })
}

fn unseen(typed: &str) -> Why {
    let typed = ebb_model::printable(typed);
    Why::NotPermitted { what: format!("see whose each listening socket is, and `{typed}` is none that can be seen") }
}

/// There is nothing to hold, and what there is.
pub(crate) fn no_door(service: &Service) -> Why {
    Why::NoDoor {
        service: service.name.clone(),
        unix: service.unix_doors.iter().map(|door| door.path.clone()).collect(),
        udp: service.passed_over.iter().copied().collect(),
    }
}

/// Paths of the unix sockets on which the processes of a cgroup listen.
pub(crate) fn unix_paths_of(control_group: Option<&str>) -> Vec<String> {
    let Some((tree, path)) = cgroup::Tree::find().ok().zip(control_group) else { return Vec::new() };
    let pids = tree.pids_of(path, cgroup::Depth::All).unwrap_or_default();
    unix_listeners(pids.into_iter()).into_iter().map(|(path, _)| path).collect()
}

/// Paths of the unix sockets on which processes of this executable listen.
pub(crate) fn unix_paths_of_executable(name: &str) -> Vec<String> {
    let is_named = |pid: &process::Pid| matches!(process::read(*pid), Ok(Some(found)) if executable(&found) == name);
    let pids = process::pids().unwrap_or_default().into_iter().filter(is_named);
    unix_listeners(pids).into_iter().map(|(path, _)| path).collect()
}

/// How many clients are connected to unix sockets of these paths now: an accepted socket has the path of its listener.
pub(crate) fn unix_clients(paths: &[String]) -> usize {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let connected = |line: &&str| {
        let mut words = line.split_whitespace().skip(3);
        let (flags, state, path) = (words.next(), words.nth(1), words.nth(1));
        // SS_CONNECTED, and not listening.
        (flags, state) == (Some("00000000"), Some("03")) && path.is_some_and(|path| paths.iter().any(|own| own == path))
    };
    text.lines().skip(1).filter(connected).count()
}

/// Listening unix sockets with a name, and which of these processes hold them. From `/proc/net/unix`,
/// whose flags say `00010000` for a socket that accepts connections.
pub(crate) fn unix_listeners(pids: impl Iterator<Item = process::Pid>) -> Vec<(String, Vec<u32>)> {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let named: BTreeMap<u32, String> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (flags, inode, path) = (words.nth(3)?, words.nth(2)?, words.next()?);
            (flags == "00010000").then(|| Some((inode.parse().ok()?, path.to_owned())))?
        })
        .collect();
    // Most of these sockets are others': looking through every client of ours for them would be in vain.
    let owners = process::first_owners(&named.keys().copied().collect(), pids);
    let holders = |inode: &u32| owners.holders.get(inode).map(|pids| pids.iter().map(|pid| pid.get()).collect());
    named.iter().filter_map(|(inode, path)| Some((path.clone(), holders(inode)?))).collect()
}
