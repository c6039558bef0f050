//! Counting: the kernel's sockets become the sessions of services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use ebb_decide::ledger::Seen;
use ebb_decide::stay::{Socket, stay};
use ebb_kernel::{diag, process};
use ebb_model::{
    Age, Cidr, Door, Proto, SeenBy, Service, ServiceName, Session, SessionId, SessionState, Span, Up, Why,
};

use crate::world::chain;
use crate::{behind, convert};

/// Whose connections are at which local address: every door of every service, so that one on a more
/// specific address takes what is its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    by_port: BTreeMap<u16, Vec<(Door, usize)>>,
    services: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: ServiceName,
    cgroups: BTreeSet<u64>,
    except: Vec<Cidr>,
    runs: bool,
}

impl Book {
    /// All doors of `services`.
    pub(crate) fn of(services: &[Service]) -> Self {
        let mut book = Self::default();
        for service in services {
            let index = book.services.len();
            book.services.push(Entry {
                name: service.name.clone(),
                cgroups: service.cgroups.clone(),
                except: Vec::new(),
                runs: matches!(service.up, Up::Running | Up::Changing),
            });
            for door in &service.doors {
                book.by_port.entry(door.port).or_default().push((*door, index));
            }
        }
        book
    }

    /// Who may come in past the gate of a service.
    pub(crate) fn except(&mut self, service: &ServiceName, ranges: impl IntoIterator<Item = Cidr>) {
        if let Some(entry) = self.services.iter_mut().find(|entry| entry.name == *service) {
            entry.except = ranges.into_iter().collect();
        }
    }

    /// The TCP ports of these services.
    pub(crate) fn ports(&self, of: &BTreeSet<ServiceName>) -> Vec<u16> {
        let has = |(door, index): &&(Door, usize)| door.is_tcp() && of.contains(&self.services[*index].name);
        self.by_port.iter().filter(|(_, doors)| doors.iter().any(|door| has(&door))).map(|(port, _)| *port).collect()
    }

    /// The doors of these services.
    pub(crate) fn doors(&self, of: &BTreeSet<ServiceName>) -> impl Iterator<Item = &Door> {
        let all = self.by_port.values().flatten();
        all.filter(move |(_, index)| of.contains(&self.services[*index].name)).map(|(door, _)| door)
    }

    /// Whose a connection at `local` is that came in by one of the doors for which `by` is true. Where several services
    /// share one door, its cgroup decides; where that does not tell, it may be any one's that runs, and counts for each:
    /// none of them is drained before it has gone.
    fn whose(&self, local: SocketAddr, cgroup: Option<u64>, by: impl Fn(&Door) -> bool) -> impl Iterator<Item = usize> {
        let score = move |(door, index): &(Door, usize)| {
            let own = cgroup.is_some_and(|id| self.services[*index].cgroups.contains(&id));
            by(door).then(|| door.fit(local)).flatten().map(|fit| (fit, own, self.services[*index].runs))
        };
        let doors = self.by_port.get(&local.port()).map_or(&[][..], Vec::as_slice);
        let best = doors.iter().filter_map(&score).max();
        doors.iter().filter(move |door| best.is_some() && score(door) == best).map(|(_, index)| *index)
    }

    /// Whose a TCP connection at `local` was, if that can be only one's.
    pub(crate) fn owner(&self, local: SocketAddr) -> Option<&ServiceName> {
        let mut all = self.whose(local, None, Door::is_tcp);
        let first = all.next()?;
        all.next().is_none().then(|| &self.services[first].name)
    }

    fn may_enter(&self, index: usize, peer: SocketAddr) -> bool {
        self.services[index].except.iter().any(|range| range.contains(peer.ip()))
    }
}

/// A whole census of some services.
pub(crate) struct Count {
    /// Every session, by service.
    pub(crate) seen: BTreeMap<ServiceName, Vec<Seen>>,
    /// CPU time that it took.
    pub(crate) cost: Span,
}

/// Where no daemon tells better, a connection on which nothing has moved for so long is idle: longer than the think time
/// between two requests, and shorter than what a server keeps open for nothing (75 s with nginx).
const IDLE: Span = Span::seconds(60);

/// Counts the sessions of `of`. Blocking.
pub(crate) fn count(book: &Book, of: &BTreeSet<ServiceName>) -> Result<Count, Why> {
    let began = Instant::now();
    let mut seen: BTreeMap<ServiceName, Vec<Seen>> = of.iter().map(|name| (name.clone(), Vec::new())).collect();
    walk(book, of, &mut |name, index, row| {
        let session = Seen {
            id: SessionId(row.cookie),
            peer: row.peer,
            state: convert::state(row),
            age: age(row),
            may_enter: book.may_enter(index, row.peer),
            counts: true,
            idle: idle(row) >= IDLE && !unanswered(row) && convert::state(row) == SessionState::Established,
        };
        if let Some(list) = seen.get_mut(name) {
            list.push(session);
        }
    })?;
    if of.iter().any(|name| has_udp(book, name)) {
        add_flows(book, &mut seen)?;
    }
    Ok(Count { seen, cost: began.elapsed().into() })
}

fn walk(
    book: &Book,
    of: &BTreeSet<ServiceName>,
    each: &mut dyn FnMut(&ServiceName, usize, &diag::Row),
) -> Result<(), Why> {
    for (mut diag, space) in behind::spaces(book.doors(of))? {
        let is_here = |door: &Door| door.is_tcp() && space.has(door);
        let ports: Vec<u16> = book.doors(of).filter(|door| is_here(door)).map(|door| door.port).collect();
        if ports.is_empty() {
            continue;
        }
        let query = diag::Query { ports, info: true, ..diag::Query::default() };
        diag.dump(&query, &mut |row| {
            for index in book.whose(row.local, row.cgroup, is_here) {
                let name = &book.services[index].name;
                if of.contains(name) {
                    each(name, index, row);
                }
            }
        })
        .map_err(|error| Why::Unread { what: "the sessions".into(), cause: chain(&error) })?;
    }
    Ok(())
}

/// Every TCP session of `of`: its service, name, and age as far as the kernel tells it. Handshakes and what only the kernel
/// still owns are left out. Blocking.
pub(crate) fn lives(
    book: &Book,
    of: &BTreeSet<ServiceName>,
    each: &mut dyn FnMut(&ServiceName, SessionId, Age),
) -> Result<(), Why> {
    walk(book, of, &mut |name, _, row| {
        if !matches!(convert::state(row), SessionState::Opening | SessionState::Orphan) {
            each(name, SessionId(row.cookie), age(row));
        }
    })
}

fn has_udp(book: &Book, name: &ServiceName) -> bool {
    book.by_port.values().flatten().any(|(door, index)| door.proto == Proto::Udp && book.services[*index].name == *name)
}

/// UDP flows that the gate knows: sessions of those doors where it learns or refuses.
fn add_flows(book: &Book, seen: &mut BTreeMap<ServiceName, Vec<Seen>>) -> Result<(), Why> {
    for flow in crate::converge::flows()? {
        for index in book.whose(flow.local, None, |door| !door.is_tcp()) {
            let Some(list) = seen.get_mut(&book.services[index].name) else { continue };
            list.push(Seen {
                id: flow_id(flow.peer, flow.local),
                peer: flow.peer,
                state: SessionState::Flow,
                age: Age::Unknown,
                may_enter: book.may_enter(index, flow.peer),
                counts: true,
                idle: false,
            });
        }
    }
    Ok(())
}

/// A name for a flow, which has no cookie: its addresses hashed (FNV-1a), with the highest bit set, which
/// the kernel's cookies never reach.
fn flow_id(peer: SocketAddr, local: SocketAddr) -> SessionId {
    let text = format!("{peer} {local}");
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    SessionId(hash | 1 << 63)
}

/// The age of a connection, as far as `tcp_info` bounds it: it is not younger than the longest time since
/// anything moved; and if nothing has since the handshake, all those times are equal and are its age. (Equal
/// alone says little: they count in jiffies, and a question with its answer fits into one.)
fn age(row: &diag::Row) -> Age {
    let Some(info) = &row.info else { return Age::Unknown };
    // A SYN that was acknowledged may count as a byte.
    let silent = info.bytes_received == 0 && info.bytes_acked <= 1;
    let times = [info.last_data_sent_ms, info.last_data_recv_ms, info.last_ack_recv_ms];
    let longest = Span(u64::from(times.into_iter().max().unwrap_or(0)));
    let equal = times[0] == times[1] && times[1] == times[2];
    if silent && equal { Age::Exactly(longest) } else { Age::AtLeast(longest) }
}

fn idle(row: &diag::Row) -> Span {
    let Some(info) = &row.info else { return Span::ZERO };
    Span(u64::from(info.last_data_sent_ms.min(info.last_data_recv_ms)))
}

/// Whether the client spoke last. An answer that was sent in the same moment is one.
fn unanswered(row: &diag::Row) -> bool {
    row.info.as_ref().is_some_and(|info| {
        info.bytes_received > 0 && info.last_data_recv_ms.saturating_add(SAME_MOMENT_MS) < info.last_data_sent_ms
    })
}

/// The kernel counts both in its own ticks.
const SAME_MOMENT_MS: u32 = 20;

/// Every session of one service, in full. Blocking.
pub(crate) fn sessions(
    book: &Book,
    name: &ServiceName,
    baseline: Option<&BTreeSet<SessionId>>,
) -> Result<Vec<Session>, Why> {
    let mut sessions = Vec::new();
    walk(book, &[name.clone()].into(), &mut |_, index, row| {
        let id = SessionId(row.cookie);
        let fresh = baseline.is_some_and(|baseline| !baseline.contains(&id));
        let excepted = fresh && book.may_enter(index, row.peer);
        let state = convert::state(row);
        let info = row.info.unwrap_or_default();
        let socket = Socket {
            state,
            idle: idle(row),
            unanswered: unanswered(row),
            unacknowledged: info.unacked,
            retransmits: row.retransmits.max(info.retransmits),
            excepted,
        };
        sessions.push(Session {
            id,
            peer: row.peer,
            local: row.local,
            state,
            age: age(row),
            idle: idle(row),
            bytes_in: info.bytes_received,
            bytes_out: info.bytes_acked,
            inode: row.inode,
            process: None,
            excepted,
            stay: stay(socket),
            uses: Vec::new(),
            seen_by: SeenBy::Kernel,
        });
    })?;
    if has_udp(book, name) {
        sessions.extend(flows(book, name)?);
    }
    Ok(sessions)
}

fn flows(book: &Book, name: &ServiceName) -> Result<Vec<Session>, Why> {
    let flows = crate::converge::flows()?.into_iter().filter(|flow| {
        book.whose(flow.local, None, |door| !door.is_tcp()).any(|index| book.services[index].name == *name)
    });
    Ok(flows
        .map(|flow| Session {
            id: flow_id(flow.peer, flow.local),
            peer: flow.peer,
            local: flow.local,
            state: SessionState::Flow,
            age: Age::Unknown,
            idle: Span::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            inode: 0,
            process: None,
            excepted: false,
            stay: ebb_model::Stay::Active,
            uses: Vec::new(),
            seen_by: SeenBy::Kernel,
        })
        .collect())
}

/// The holders of these sockets: among the service's own processes, and for those not found there among
/// all, since a process may have left the unit's cgroup with its socket (an ssh login's does).
pub(crate) fn owners(inodes: &BTreeSet<u32>, pids: &[process::Pid]) -> BTreeMap<u32, Vec<process::Pid>> {
    let mut holders = process::owners_of(inodes, pids.iter().copied()).holders;
    let missing: BTreeSet<u32> = inodes.iter().filter(|inode| !holders.contains_key(inode)).copied().collect();
    if !missing.is_empty() {
        let all = process::pids().unwrap_or_default();
        holders.extend(process::owners_of(&missing, all.into_iter()).holders);
    }
    holders
}

/// Looks up which processes hold these sessions, among those that `pids` names; and with the process's
/// own age an upper bound for the session's. Where a daemon has named one of its processes nobody looks.
pub(crate) fn add_processes(sessions: &mut [Session], pids: &[process::Pid]) {
    let own: BTreeSet<u32> = pids.iter().map(|pid| pid.get()).collect();
    let told = |session: &Session| match session.uses.as_slice() {
        // It may live in another PID namespace, and name it by that.
        [one] => one.pid.filter(|pid| own.contains(pid)).and_then(process::Pid::new),
        _ => None,
    };
    let looked = sessions.iter().filter(|session| told(session).is_none());
    let inodes: BTreeSet<u32> = looked.map(|session| session.inode).filter(|inode| *inode != 0).collect();
    let owners = if inodes.is_empty() { BTreeMap::new() } else { owners(&inodes, pids) };
    let mut known: BTreeMap<u32, Option<(String, Span)>> = BTreeMap::new();
    for session in sessions {
        let found = told(session).or_else(|| owners.get(&session.inode).and_then(|pids| pids.last().copied()));
        let Some(pid) = found else { continue };
        let process = known.entry(pid.get()).or_insert_with(|| {
            let process = process::brief(pid)?;
            Some((process.comm, process.start_age.into()))
        });
        let Some((name, started)) = process else { continue };
        session.process = Some((pid.get(), name.clone()));
        if let Age::AtLeast(age) = session.age
            && *started >= age
        {
            session.age = Age::Between(age, *started);
        }
    }
}
