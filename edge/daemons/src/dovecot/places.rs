//! On which connection each session of Dovecot is, and what it does there, by what its processes have open.
//!
//! After a plain login the mail process has the client's socket. With TLS the login process keeps it, and passes on what it
//! reads over a pair of unix sockets. A login process may serve one client (Debian's default) or many; of many it is not
//! told which connection is whose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ebb_model::{Busy, Role, Span, Use, UseKind};

use super::{DOVECOT, anvil::Row};
use crate::proc::{self, Process, pairs};
use crate::{Error, MOST_USES};

/// So many names of those who share a login process are told.
const MOST_NAMES: usize = 4;

/// One session, or one who has not logged in.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) told: Use,
    /// Names the process whose end is this one's goodbye; none if it is not seen.
    pub(super) process: Option<String>,
    /// Why a goodbye spares it.
    pub(super) spared: Option<String>,
    /// Those of one number end together, or cannot be told apart.
    pub(super) group: Option<u32>,
}

/// What is seen of Dovecot's processes.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// The master's children, by the pids that Dovecot knows them by.
    pub(super) processes: BTreeMap<u32, Process>,
    /// Clients' connections of each, by our pids.
    pub(super) connections: BTreeMap<u32, Vec<SocketAddr>>,
    /// The login process that passes a client on to this mail process.
    pub(super) behind: BTreeMap<u32, u32>,
    /// What the mail processes have open that says what they do.
    pub(super) open: BTreeMap<u32, Open>,
    pub(super) up: Span,
}

/// What open files tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// It waits for new mail: IDLE.
    Watches,
    /// A message is read or written.
    Message,
    /// Neither.
    Nothing,
}

/// Looks. Blocks. `listens` has made the socket at `anvil`.
pub(super) fn look(
    rows: Vec<Row>,
    listens: Option<u32>,
    anvil: &str,
    ports: &BTreeSet<u16>,
) -> Result<Vec<Placed>, Error> {
    let not_read = |cause: String| Error::NotReached { daemon: DOVECOT, at: "/proc".to_owned(), cause };
    let all = proc::all(|_, parent| parent.is_some_and(is_master)).map_err(|error| not_read(error.to_string()))?;
    let master = master(listens, anvil, &all).ok_or_else(|| not_read("its master is not seen".to_owned()))?;
    let children = all.into_values().filter(|one| one.parent == master);
    let children: Vec<(u32, Process)> = children.filter_map(|one| Some((proc::inner_pid(one.pid)?, one))).collect();
    let up = proc::up().ok_or_else(|| not_read("uptime is not shown".to_owned()))?;
    let serves: BTreeSet<u32> = rows.iter().map(|row| row.pid).collect();
    let (mut sockets, mut open) = (BTreeMap::new(), BTreeMap::new());
    for (inner, one) in &children {
        let mut own = Vec::new();
        let files = proc::files(one.pid).filter(|file| proc::socket(file).map(|inode| own.push(inode)).is_none());
        let found = opened(files);
        if serves.contains(inner) {
            open.insert(one.pid, found);
        }
        sockets.insert(one.pid, own);
    }
    let all = sockets.iter().flat_map(|(pid, own)| own.iter().map(|inode| (*inode, *pid)));
    let connections = proc::connections_of(all, ports);
    let waits = open.keys().filter(|pid| !connections.contains_key(pid)).copied();
    let login = children.iter().filter(|(_, one)| is_login(one)).map(|(_, one)| one.pid);
    let behind = behind(waits, login, &sockets).map_err(|error| not_read(format!("unix sockets: {error}")))?;
    Ok(placed(rows, &Sight { processes: children.into_iter().collect(), connections, behind, open, up }))
}

fn is_master(process: &Process) -> bool {
    process.name == "dovecot"
}

/// Dovecot's master. Started without `-F` it goes on in a child of the process that has made the sockets, whose pid it
/// writes down.
fn master(listens: Option<u32>, anvil: &str, all: &BTreeMap<u32, Process>) -> Option<u32> {
    let listens = listens.and_then(|pid| all.get(&pid)).filter(|one| is_master(one)).map(|one| one.pid);
    listens.or_else(|| {
        let file = std::path::Path::new(anvil).with_file_name("master.pid");
        let pid: u32 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        let known = |one: &&Process| is_master(one) && proc::inner_pid(one.pid) == Some(pid);
        let mut found = all.values().filter(known).filter(|one| proc::is_here(one.pid));
        found.next().map(|one| one.pid).filter(|_| found.next().is_none())
    })
}

fn is_login(process: &Process) -> bool {
    process.name.ends_with("-login")
}

/// Which login process has the other end of a unix socket of each of these.
fn behind(
    waits: impl Iterator<Item = u32>,
    login: impl Iterator<Item = u32>,
    sockets: &BTreeMap<u32, Vec<u64>>,
) -> std::io::Result<BTreeMap<u32, u32>> {
    let own = |pid: u32| sockets.get(&pid).into_iter().flatten();
    let of: BTreeMap<u64, u32> = login.flat_map(|pid| own(pid).map(move |inode| (*inode, pid))).collect();
    if of.is_empty() {
        return Ok(BTreeMap::new());
    }
    let pairs = pairs::all()?;
    let other = |pid: u32| own(pid).find_map(|inode| of.get(pairs.get(inode)?).copied());
    Ok(waits.filter_map(|pid| Some((pid, other(pid)?))).collect())
}

/// What files say that a process has open. Index files are open all the time.
pub(super) fn opened(files: impl Iterator<Item = String>) -> Open {
    let mut found = Open::Nothing;
    // To the last: who reads them looks at each on its way.
    for file in files {
        let name = file.rsplit('/').next().unwrap_or_default();
        match file.as_str() {
            _ if found == Open::Message => {}
            "anon_inode:inotify" => found = Open::Watches,
            _ if !file.starts_with('/') || file.starts_with("/dev/") || name.starts_with("dovecot") => {}
            _ if name.starts_with("subscriptions") || name.starts_with("maildirsize") || name == "sieve" => {}
            _ => found = Open::Message,
        }
    }
    found
}

/// Puts all together.
pub(super) fn placed(rows: Vec<Row>, sight: &Sight) -> Vec<Placed> {
    let mut all = Vec::new();
    let mut carriers: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for row in rows {
        for number in 0..row.count {
            if all.len() >= MOST_USES {
                break;
            }
            let one = session(&row, number, sight);
            let own = one.told.pid.filter(|pid| sight.connections.contains_key(pid));
            if let Some(carrier) = own.or_else(|| sight.behind.get(&one.told.pid?).copied()) {
                carriers.entry(carrier).or_default().push(all.len());
            }
            all.push(one);
        }
    }
    let mut taken = BTreeSet::new();
    for (carrier, members) in &carriers {
        let peers = sight.connections.get(carrier).map_or(&[][..], Vec::as_slice);
        pair(*carrier, members, peers, &mut all, &mut taken);
    }
    together(&mut all);
    for process in sight.processes.values() {
        let peers = sight.connections.get(&process.pid).map_or(&[][..], Vec::as_slice);
        let serves = carriers.contains_key(&process.pid);
        let alone = peers.len() == 1 && !serves;
        // Which of them are not logged in is not told where others on the same process are not told apart.
        let mixed = serves && all.iter().any(|one| one.group == Some(process.pid));
        let others: Vec<SocketAddr> = peers.iter().filter(|peer| !taken.contains(*peer)).copied().collect();
        all.extend(others.into_iter().map(|peer| other(process, peer, alone, mixed, sight.up)));
    }
    // What has no TCP connection at all is a client of this server's own, or a delivery.
    for one in all.iter_mut().filter(|one| one.told.peer.is_none() && one.told.peer_ip.is_none()) {
        (one.told.role, one.told.by_connection) = (Role::Local, false);
    }
    all
}

/// One session, without its place.
fn session(row: &Row, number: u32, sight: &Sight) -> Placed {
    let process = sight.processes.get(&row.pid);
    let kind = if row.service == "lmtp" { UseKind::Message } else { UseKind::Mailbox };
    let key = match process {
        Some(process) => format!("{}#{}/{number}", process.key(), row.user),
        None => format!("?{}#{}/{number}", row.pid, row.user),
    };
    let open = process.and_then(|one| sight.open.get(&one.pid)).copied().unwrap_or(Open::Nothing);
    let (doing, busy) = doing(row, process.map_or("", |one| one.title.as_str()), open);
    let told = Use {
        user: Some(row.user.clone()),
        what: Some(format!("{}: {doing}", row.service)),
        peer_ip: row.ip,
        pid: process.map(|one| one.pid),
        age: process.map(|one| one.age(sight.up)),
        busy,
        ..Use::new(key, kind)
    };
    let spared = (busy == Busy::Inside).then(|| told.what.clone().unwrap_or_default());
    Placed { told, process: process.map(Process::key), spared, group: None }
}

/// What a session does: as its title says, with `verbose_proctitle`, else as its open files do.
fn doing(row: &Row, title: &str, open: Open) -> (String, Busy) {
    match row.service.as_str() {
        "lmtp" => return ("a delivery".to_owned(), Busy::Inside),
        // What is deleted is so only after QUIT: cut off, the client reads all of it again.
        "pop3" => return ("what it deletes counts after QUIT".to_owned(), Busy::Inside),
        _ => {}
    }
    let ip = row.ip.map(|ip| format!(" {ip}")).unwrap_or_default();
    let inner = title.split_once(" [").and_then(|(_, rest)| rest.strip_suffix(']'));
    match inner.and_then(|inner| inner.strip_prefix(&format!("{}{ip}", row.user))).map(str::trim) {
        Some("") => ("between commands".to_owned(), Busy::Idle),
        Some(command) => {
            // As its client typed it: `fetch - 8192 bytes waiting`.
            let word = command.split([' ', ',']).next().unwrap_or_default();
            let shown = word.to_ascii_uppercase() + command.get(word.len()..).unwrap_or_default();
            let busy = if shown == "IDLE" { Busy::Idle } else { Busy::Inside };
            (shown, busy)
        }
        None => match open {
            Open::Watches => ("IDLE".to_owned(), Busy::Idle),
            Open::Message => ("a message is read or written".to_owned(), Busy::Inside),
            Open::Nothing => ("no message is open".to_owned(), Busy::Unknown),
        },
    }
}

/// Gives the sessions of one process that holds clients' sockets their connections.
fn pair(carrier: u32, members: &[usize], peers: &[SocketAddr], all: &mut [Placed], taken: &mut BTreeSet<SocketAddr>) {
    if let ([one], [peer]) = (members, peers) {
        all[*one].told.peer = Some(*peer);
        taken.insert(*peer);
        return;
    }
    let from = |one: &Placed, peer: &SocketAddr| one.told.peer_ip.is_some_and(|ip| ip == peer.ip().to_canonical());
    let mut rest = Vec::new();
    for index in members {
        let alike = members.iter().filter(|other| all[**other].told.peer_ip == all[*index].told.peer_ip).count();
        let mut own = peers.iter().filter(|peer| from(&all[*index], peer));
        match (own.next(), own.next(), alike) {
            (Some(peer), None, 1) => {
                all[*index].told.peer = Some(*peer);
                taken.insert(*peer);
            }
            _ => rest.push(*index),
        }
    }
    let users: BTreeSet<&str> = rest.iter().filter_map(|index| all[*index].told.user.as_deref()).collect();
    let same = users.len() == 1;
    let names: Vec<&str> = users.iter().take(MOST_NAMES).copied().collect();
    let more = if users.len() > names.len() { ", …" } else { "" };
    let names = format!("one of {} behind one login process: {}{more}", rest.len(), names.join(", "));
    let mut free: Vec<SocketAddr> = peers.iter().filter(|peer| !taken.contains(*peer)).copied().collect();
    // Those from where a session comes first: who has not logged in may be among the others.
    let known = |peer: &SocketAddr| rest.iter().any(|index| from(&all[*index], peer));
    free.sort_by_key(|peer| (!known(peer), *peer));
    for (index, peer) in rest.into_iter().zip(free) {
        let one = &mut all[index];
        (one.told.peer, one.group) = (Some(peer), Some(carrier));
        taken.insert(peer);
        if !same {
            one.told.user = None;
            one.told.what = Some(names.clone());
        }
    }
}

/// Those of one process end together.
fn together(all: &mut [Placed]) {
    let mut of: BTreeMap<u32, usize> = BTreeMap::new();
    for pid in all.iter().filter_map(|one| one.told.pid) {
        *of.entry(pid).or_default() += 1;
    }
    for one in all.iter_mut() {
        if let Some(pid) = one.told.pid.filter(|pid| of.get(pid).is_some_and(|count| *count > 1)) {
            one.group = Some(pid);
        }
    }
}

/// A connection that is no user's who has logged in: before a login, a delivery over TCP, or another Dovecot's. Only one
/// that is alone in its process can be told to go.
fn other(process: &Process, peer: SocketAddr, alone: bool, mixed: bool, up: Span) -> Placed {
    let (kind, name) = (UseKind::Mailbox, process.name.as_str());
    let new = Use::new(format!("{}#{peer}", process.key()), kind);
    let told = match name {
        _ if mixed => Use { what: Some(format!("{name}: one of several, logged in or not")), ..new },
        _ if is_login(process) => {
            let what = format!("{}: not logged in", name.trim_end_matches("-login"));
            Use { what: Some(what), busy: Busy::NotLoggedIn, ..new }
        }
        "lmtp" => Use { kind: UseKind::Smtp, what: Some("lmtp: deliveries".to_owned()), busy: Busy::Inside, ..new },
        // `doveadm sync` of another server, or its operator.
        "doveadm-server" => Use { kind: UseKind::Other, what: Some(name.to_owned()), role: Role::Replication, ..new },
        // Somebody logged in while we looked, or Dovecot was restarted and does not know him any more.
        _ => Use { what: Some(format!("{name}: not in the list of logins")), ..new },
    };
    let told = Use { peer: Some(peer), pid: Some(process.pid), age: alone.then(|| process.age(up)), ..told };
    let spared = match told.busy {
        Busy::Inside => told.what.clone(),
        _ => (!alone).then(|| "its process serves others too".to_owned()),
    };
    Placed { told, process: alone.then(|| process.key()), spared, group: None }
}
