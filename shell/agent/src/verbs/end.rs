//! `ebb end`: chosen sessions, and the endings of a drain.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebb_kernel::{diag, process};
use ebb_link::Reply;
use ebb_model::{
    Ability, Busy, Cidr, Ended, Event, EventKind, How, Pace, Service, Session, SessionId, SessionState, Span, Stay,
    Use, Who, Why,
};
use ebb_wire::v1::{Choose, EndReport, EndRequest, Frame};

use super::hold::{tell, usage};
use super::sessions::pids;
use crate::daemons::{self, Daemon};
use crate::observe::{self, Book};
use crate::world::{World, chain};
use crate::{behind, look, say};

/// Sessions idle for less may have a request on the way that a goodbye would lose.
const QUIET: Duration = Duration::from_secs(2);
/// Between two looks at who is left after a goodbye.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What ending came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    pub(crate) gone: u64,
    pub(crate) goodbyes: u64,
    pub(crate) cut: u64,
    pub(crate) failed: u64,
    pub(crate) why: Option<Why>,
    /// At a door that is shared, and held by none of the service's own processes.
    pub(crate) kept: Vec<SessionId>,
    /// No goodbye was said to them: they are at work, or could not be asked.
    pub(crate) spared: Vec<SessionId>,
}

impl Came {
    /// And this; the first reason is kept.
    pub(crate) fn add(&mut self, more: Self) {
        self.gone += more.gone;
        self.goodbyes += more.goodbyes;
        self.cut += more.cut;
        self.failed += more.failed;
        self.why = self.why.take().or(more.why);
        self.kept.extend(more.kept);
        self.spared.extend(more.spared);
    }
}

pub(crate) async fn answer(world: &Arc<World>, request: EndRequest, by: &Who, reply: &Reply) -> Result<(), Why> {
    let around = look::around(world).await?;
    let service = around.one(&request.service)?.clone();
    let chooser = match Chooser::new(&request.choose) {
        Ok(chooser) => chooser,
        Err(fault) => return usage(reply, &[fault]).await,
    };
    let book = Book::of(&around.services);
    let began = Instant::now();
    let daemon = daemons::of(world, &service);
    let sessions = all_sessions(&book, &service, daemon.as_ref()).await?;
    let chosen: Vec<Session> = sessions.into_iter().filter(|session| chooser.fits(session)).collect();
    let missing = chooser.missing(&chosen);
    for id in &missing {
        let text = format!("session {id} is not there (any more)");
        reply.send(say::note(Some(service.name.as_str()), true, text)).await;
    }
    let mut report = EndReport {
        service: service.name.to_string(),
        dry_run: request.dry_run,
        chosen: chosen.len() as u64,
        by_themselves: 0,
        by_us: 0,
        cut: 0,
        failed: 0,
        why: None,
        took_seconds: 0.0,
    };
    if !request.dry_run && !chosen.is_empty() {
        check_destroy().await?;
        world.recorder.ours(chosen.iter().map(|session| session.id));
        let pace = pace(request.rate_per_second, request.over_seconds);
        let grace = Duration::from_millis(request.grace_ms);
        let daemon = daemon.as_ref();
        let ending = Ending { book: &book, service: &service, daemon, reply, pace, grace, cut: request.cut };
        ending.run(&chosen, &mut report).await?;
        let text = format!(
            "{} of {} chosen sessions of {} ended: {} after a goodbye, {} cut, {} had gone",
            report.by_us + report.cut + report.by_themselves,
            report.chosen,
            service.name,
            report.by_us,
            report.cut,
            report.by_themselves
        );
        let event = Event::new(world.now().wall, EventKind::SessionsEnded, &service.name, text)
            .with("goodbye", report.by_us)
            .with("cut", report.cut)
            .with("gone", report.by_themselves)
            .with("by", &by.name);
        reply.send(tell(world, &service, &event)).await;
    }
    report.took_seconds = began.elapsed().as_secs_f64();
    reply.send(Frame::Ended(report)).await;
    Ok(())
}

/// Which sessions a request means.
enum Chooser {
    Ids(BTreeSet<SessionId>),
    Peer(Cidr),
    IdleOver(Span),
    User(String),
    All,
}

impl Chooser {
    fn new(choose: &Choose) -> Result<Self, String> {
        Ok(match choose {
            Choose::All => Self::All,
            Choose::IdleOver(seconds) => Self::IdleOver(Span::seconds(*seconds)),
            Choose::User(user) => Self::User(user.clone()),
            Choose::Peer(range) => Self::Peer(range.parse()?),
            Choose::Ids(ids) => {
                let parse = |id: &String| {
                    id.parse().map_err(|_| {
                        format!("`{}` is no session id; `ebb sessions` shows them", ebb_model::printable(id))
                    })
                };
                Self::Ids(ids.iter().map(parse).collect::<Result<_, _>>()?)
            }
        })
    }

    fn fits(&self, session: &Session) -> bool {
        // Orphans have ended already; a UDP flow has no socket of its own that could be ended. What is no user's is
        // ended by name only.
        if !session.counts() && !matches!(self, Self::Ids(_)) {
            return false;
        }
        if matches!(session.state, SessionState::Orphan | SessionState::Flow) {
            return false;
        }
        match self {
            Self::Ids(ids) => ids.contains(&session.id),
            Self::Peer(range) => range.contains(session.peer.ip()),
            Self::IdleOver(span) => session.idle > *span,
            Self::User(user) => session.uses.iter().any(|one| one.user.as_ref() == Some(user)),
            Self::All => true,
        }
    }

    fn missing(&self, found: &[Session]) -> Vec<SessionId> {
        let Self::Ids(ids) = self else { return Vec::new() };
        ids.iter().filter(|id| found.iter().all(|session| session.id != **id)).copied().collect()
    }
}

/// How endings are spread out, by a rate or a time.
pub(crate) fn pace(rate_per_second: Option<f64>, over_seconds: Option<u64>) -> Pace {
    // A rate of less than one an hour is one an hour.
    let per_hour = rate_per_second.filter(|rate| *rate > 0.0).map(|rate| (rate * 3600.0).round().max(1.0) as u64);
    Pace { per_hour, over: over_seconds.map(Span::seconds) }
}

/// So many turns in a second at most: each looks through the service's descriptors. A faster pace ends several in each.
const TURNS_PER_SECOND: f64 = 20.0;
/// Without a pace, this many are ended in one go.
const TOGETHER: usize = 1000;
/// Turns that are late come together, but never more of them than belong to this time: a pace is kept in every second.
const LATE: Duration = Duration::from_millis(50);

/// Who is ended when: the idle first, the longest idle of them before, spread out as the pace says. Within its slot each turn
/// comes a little earlier or later than the others, so that those who come back do not march in step.
pub(crate) struct Turns {
    began: Instant,
    /// Sessions, and when after the beginning.
    queue: VecDeque<(Vec<Session>, Duration)>,
}

impl Turns {
    pub(crate) fn new(mut sessions: Vec<Session>, pace: Pace) -> Self {
        let at_work = |session: &Session| match session.stay {
            Stay::Idle | Stay::NotLoggedIn => 0,
            Stay::Active | Stay::Inside | Stay::Unanswered => 2,
            _ => 1,
        };
        sessions.sort_by_key(|session| (at_work(session), Reverse(session.idle), session.id));
        let spread = Duration::from(pace.spread(sessions.len()));
        let count = sessions.len().max(1);
        let wanted = (spread.as_secs_f64() * TURNS_PER_SECOND).ceil().clamp(1.0, count as f64) as usize;
        let each = if pace.is_none() { TOGETHER } else { count.div_ceil(wanted) };
        let slot = spread.mul_f64(each.min(count) as f64 / count as f64);
        let turn = |(number, some): (usize, &[Session])| {
            (some.to_vec(), slot.mul_f64(number as f64 + some.first().map_or(0.0, jitter)))
        };
        Self { began: Instant::now(), queue: sessions.chunks(each).enumerate().map(turn).collect() }
    }

    /// Waits for the next, and gives those whose turn it is.
    pub(crate) async fn next(&mut self) -> Option<Vec<Session>> {
        let (mut sessions, after) = self.queue.pop_front()?;
        tokio::time::sleep(after.saturating_sub(self.began.elapsed())).await;
        let late = self.began.elapsed().saturating_sub(after);
        self.began += late.saturating_sub(LATE);
        let now = self.began.elapsed();
        // Without a pace all are due at once, and stay apart.
        while self.queue.front().is_some_and(|(_, at)| !at.is_zero() && *at <= now) {
            sessions.extend(self.queue.pop_front()?.0);
        }
        Some(sessions)
    }
}

/// From 0 to 1, by the session's name: the kernel gives them one after the other (FNV-1a).
fn jitter(session: &Session) -> f64 {
    let bytes = session.id.0.to_le_bytes();
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    f64::from(hash) / f64::from(u32::MAX)
}

/// One `ebb end` at work.
struct Ending<'a> {
    book: &'a Book,
    service: &'a Service,
    daemon: Option<&'a Daemon>,
    reply: &'a Reply,
    pace: Pace,
    grace: Duration,
    cut: bool,
}

impl Ending<'_> {
    async fn run(&self, chosen: &[Session], report: &mut EndReport) -> Result<(), Why> {
        let how = if self.cut { How::Destroy } else { How::Goodbye };
        let mut said_goodbye = BTreeSet::new();
        let mut turns = Turns::new(chosen.to_vec(), self.pace);
        while let Some(sessions) = turns.next().await {
            if self.reply.is_gone() {
                break;
            }
            let ids: BTreeSet<SessionId> = sessions.iter().map(|session| session.id).collect();
            let came = both(self.service, self.daemon, sessions, how, true).await?;
            self.count(&came, report);
            if how == How::Goodbye {
                said_goodbye.extend(ids);
            }
        }
        if how == How::Goodbye {
            self.after_goodbye(&said_goodbye, report).await?;
        }
        Ok(())
    }

    /// Gives those who were told goodbye their grace, then destroys who is still there.
    async fn after_goodbye(&self, told: &BTreeSet<SessionId>, report: &mut EndReport) -> Result<(), Why> {
        let until = Instant::now() + self.grace;
        let left = loop {
            let mut left = all_sessions(self.book, self.service, self.daemon).await?;
            left.retain(|session| told.contains(&session.id) && session.state != SessionState::Orphan);
            if left.is_empty() || Instant::now() >= until {
                break left;
            }
            tokio::time::sleep(LOOK_AGAIN * if self.daemon.is_some() { 5 } else { 1 }).await;
        };
        let polite = told.len() as u64 - left.len() as u64;
        let gone_before = report.by_themselves;
        report.by_us += polite.saturating_sub(gone_before);
        let came = both(self.service, self.daemon, left, How::Destroy, true).await?;
        self.count(&came, report);
        Ok(())
    }

    fn count(&self, came: &Came, report: &mut EndReport) {
        report.by_themselves += came.gone;
        report.cut += came.cut;
        report.failed += came.failed + came.kept.len() as u64;
        if let (None, Some(with)) =
            (&report.why, self.service.shared_with.iter().next().filter(|_| !came.kept.is_empty()))
        {
            report.why = Some(format!("{} may be sessions of {with}, which shares the door", came.kept.len()));
        }
        if report.why.is_none() {
            report.why = came.why.as_ref().map(ToString::to_string);
        }
    }
}

/// What the kernel tells, and the daemon where it does.
async fn all_sessions(book: &Book, service: &Service, daemon: Option<&Daemon>) -> Result<Vec<Session>, Why> {
    let (book, name) = (book.clone(), service.name.clone());
    let read = tokio::task::spawn_blocking(move || observe::sessions(&book, &name, None));
    let unread = |error: tokio::task::JoinError| Why::Unread { what: "the sessions".into(), cause: error.to_string() };
    let mut sessions = read.await.map_err(unread)??;
    if let Some(daemon) = daemon {
        // The kernel alone knows them then, and ends them.
        let _ = daemons::add(daemon, service, &mut sessions).await;
    }
    Ok(sessions)
}

/// So many uses are named to a daemon in one go: it must answer in time.
const KEYS: usize = 250;

/// Ends these sessions, whose uses are known: by the goodbye of the protocol where the daemon can say it, else, with
/// `kernel`, as the kernel can.
pub(crate) async fn both(
    service: &Service,
    daemon: Option<&Daemon>,
    sessions: Vec<Session>,
    how: How,
    kernel: bool,
) -> Result<Came, Why> {
    let Some(daemon) = daemon else { return end(service, sessions, how).await };
    let (mut came, rest) = by_daemon(daemon, sessions, how).await;
    if !kernel {
        return Ok(came);
    }
    let kernel = end(service, rest, how).await?;
    came.add(kernel);
    Ok(came)
}

/// Asks the daemon; answers with those that are left to the kernel. What is inside a transaction is spared by a goodbye:
/// it has its grace. A connection that is to be destroyed is the kernel's; what has none is the daemon's to the last.
async fn by_daemon(daemon: &Daemon, sessions: Vec<Session>, how: How) -> (Came, Vec<Session>) {
    let mut came = Came::default();
    let to_ask =
        |session: &Session| !session.uses.is_empty() && (how == How::Goodbye || session.state == SessionState::Use);
    let (asked, mut rest): (Vec<Session>, Vec<Session>) = sessions.into_iter().partition(to_ask);
    let ability = if asked.is_empty() { Ability::Ready } else { daemon.abilities().await.end };
    if !ability.is_ready() {
        let (without, connections): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|session| session.state == SessionState::Use);
        came.kept.extend(without.iter().map(|session| session.id));
        // It cannot say goodbye, or not now: whoever it says is in the middle of something has the grace. Of a daemon that never
        // can, those of whom it does not say that are the kernel's.
        let never = matches!(ability, Ability::Never(_));
        let now = |one: &Use| is_idle(one) || never && one.busy == Busy::Unknown;
        let (idle, at_work): (Vec<_>, Vec<_>) =
            connections.into_iter().partition(|session| session.uses.iter().all(now));
        came.failed += at_work.len() as u64;
        came.spared.extend(at_work.iter().map(|session| session.id));
        rest.extend(idle);
        return (came, rest);
    }
    for some in asked.chunks(KEYS) {
        let keys: Vec<String> = some.iter().flat_map(|session| &session.uses).map(|one| one.key.clone()).collect();
        let mut outcomes = match daemon.end(&keys, how == How::Destroy).await {
            Ok(outcomes) => outcomes.into_iter(),
            Err(why) => {
                came.why = Some(why);
                Vec::new().into_iter()
            }
        };
        for session in some {
            let own: Vec<Ended> = outcomes.by_ref().take(session.uses.len()).collect();
            // It could not be asked: whoever may be in the middle of something has the grace.
            if own.is_empty() && how == How::Goodbye && !session.uses.iter().all(is_idle) {
                came.failed += 1;
                came.spared.push(session.id);
                continue;
            }
            let all = |fits: fn(&Ended) -> bool| !own.is_empty() && own.iter().all(fits);
            if all(|one| matches!(one, Ended::Gone)) {
                came.gone += u64::from(session.state == SessionState::Use);
            } else if all(|one| matches!(one, Ended::Asked | Ended::Gone)) {
                came.goodbyes += 1;
            } else if own.iter().any(|one| matches!(one, Ended::Spared(_))) {
                came.spared.push(session.id);
            } else {
                match session.state {
                    SessionState::Use => came.failed += 1,
                    _ => rest.push(session.clone()),
                }
                let failed =
                    own.into_iter().find_map(|one| if let Ended::Failed(why) = one { Some(why) } else { None });
                let why = failed.map(|cause| Why::Unread { what: format!("a goodbye of {}", daemon.kind()), cause });
                came.why = came.why.take().or(why);
            }
        }
    }
    (came, rest)
}

const fn is_idle(one: &Use) -> bool {
    matches!(one.busy, Busy::Idle | Busy::NotLoggedIn | Busy::Resumable)
}

/// Ends these sessions of a service, on a thread that may block.
pub(crate) async fn end(service: &Service, sessions: Vec<Session>, how: How) -> Result<Came, Why> {
    let service = service.clone();
    let ended = tokio::task::spawn_blocking(move || {
        let (sessions, kept) = own(&service, sessions);
        let came = match how {
            How::Goodbye => goodbye(&service, &sessions),
            How::Destroy => destroy(&service, &sessions),
        };
        Came { kept, ..came }
    });
    ended.await.map_err(|error| Why::Unread { what: "the endings".into(), cause: error.to_string() })
}

/// At a door that others share, only what this service's own processes hold is ended; the rest is kept.
fn own(service: &Service, sessions: Vec<Session>) -> (Vec<Session>, Vec<SessionId>) {
    if service.shared_with.is_empty() {
        return (sessions, Vec::new());
    }
    let pids = pids(service);
    let inodes = sessions.iter().map(|session| session.inode).filter(|inode| *inode != 0).collect();
    let holders = process::owners_of(&inodes, pids.into_iter()).holders;
    let (own, kept): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|session| holders.contains_key(&session.inode));
    (own, kept.into_iter().map(|session| session.id).collect())
}

/// Ends sessions as if their clients had gone away, where that loses nothing: idle, all sent, all read.
/// Others are left for the destruction after the grace.
fn goodbye(service: &Service, sessions: &[Session]) -> Came {
    let mut came = Came::default();
    // Who waits for an answer has the grace to get it.
    let quiet = sessions.iter().filter(|session| session.stay != Stay::Unanswered);
    let mut left: BTreeSet<u32> = quiet.map(|session| session.inode).filter(|inode| *inode != 0).collect();
    let mut told: BTreeSet<u32> = BTreeSet::new();
    let mut shut = |pid: process::Pid, left: &mut BTreeSet<u32>, came: &mut Came| {
        let Ok(Some(owner)) = process::read(pid) else { return };
        let Ok(handle) = process::Handle::open(pid, owner.start_ticks) else { return };
        for (inode, number) in process::find_fds(pid, left).unwrap_or_default() {
            left.remove(&inode);
            match process::shutdown_read(&handle, inode, Some(number), QUIET) {
                Ok(()) => {
                    came.goodbyes += 1;
                    told.insert(inode);
                }
                Err(
                    process::Error::Gone { .. }
                    | process::Error::NotHeld { .. }
                    | process::Error::Unread { .. }
                    | process::Error::Active { .. },
                ) => {}
                Err(error) => came.why = Some(Why::Unread { what: "a session's socket".into(), cause: chain(&error) }),
            }
        }
    };
    // First its own processes; one may have left the unit's cgroup with its socket (an ssh login's does).
    for pid in pids(service).into_iter().chain(process::pids().unwrap_or_default()) {
        if left.is_empty() {
            break;
        }
        shut(pid, &mut left, &mut came);
    }
    came.spared.extend(sessions.iter().filter(|session| !told.contains(&session.inode)).map(|session| session.id));
    came
}

/// Destroys these sessions, found anew by their cookies: what has gone meanwhile is left alone.
fn destroy(service: &Service, sessions: &[Session]) -> Came {
    let wanted: BTreeSet<u64> =
        sessions.iter().filter(|session| session.state != SessionState::Flow).map(|session| session.id.0).collect();
    let ports: BTreeSet<u16> = sessions.iter().map(|session| session.local.port()).collect();
    let query = diag::Query { ports: ports.into_iter().collect(), ..diag::Query::default() };
    let mut came = Came::default();
    let ended = behind::spaces(service.doors.iter()).and_then(|spaces| {
        spaces.into_iter().try_for_each(|(mut diag, _)| {
            let mut rows = Vec::new();
            let mut collect = |row: &diag::Row| rows.extend(wanted.contains(&row.cookie).then_some(row.id));
            let ends = diag.dump(&query, &mut collect).and_then(|_| diag.destroy_many(rows));
            let unread =
                |error| Why::Unread { what: "the kernel's answer to SOCK_DESTROY".into(), cause: chain(&error) };
            let ends = ends.map_err(unread)?;
            came.cut += ends.destroyed;
            came.failed += ends.refused;
            Ok(())
        })
    });
    let rest = (wanted.len() as u64).saturating_sub(came.cut + came.failed);
    match ended {
        Ok(()) => came.gone = rest,
        Err(why) => (came.failed, came.why) = (came.failed + rest, Some(why)),
    }
    came
}

/// Whether this kernel can destroy sockets; asked before anything is ended.
pub(crate) async fn check_destroy() -> Result<(), Why> {
    let supported = tokio::task::spawn_blocking(diag::destroy_support).await;
    match supported {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Why::Unsupported {
            what: "this kernel cannot destroy sockets".into(),
            help: "it needs CONFIG_INET_DIAG_DESTROY; until then stop the service, or wait".into(),
        }),
        Ok(Err(diag::Error::Netlink(error))) if error.errno() == Some(1) => {
            Err(Why::NotPermitted { what: "end connections".into() })
        }
        Ok(Err(error)) => Err(Why::Unread { what: "SOCK_DESTROY".into(), cause: chain(&error) }),
        Err(error) => Err(Why::Unread { what: "SOCK_DESTROY".into(), cause: error.to_string() }),
    }
}
