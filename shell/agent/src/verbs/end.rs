//! `ebb end`: chosen sessions, and the endings of a drain.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebb_kernel::{diag, process};
use ebb_link::Reply;
use ebb_model::{Cidr, Ended, Event, EventKind, How, Service, Session, SessionId, SessionState, Span, Who, Why};
use ebb_wire::v1::{Choose, EndReport, EndRequest, Frame};

use super::hold::{tell, usage};
use super::sessions::pids;
use crate::daemons::{self, Daemon};
use crate::observe::{self, Book};
use crate::world::{World, chain};
use crate::{behind, look, say};

/// Sessions idle for less may have a request on the way that a goodbye would lose.
const QUIET: Span = Span::seconds(2);
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
        let pause = pause_between(&request, chosen.len());
        let grace = Duration::from_millis(request.grace_ms);
        let daemon = daemon.as_ref();
        let ending = Ending { book: &book, service: &service, daemon, reply, pause, grace, cut: request.cut };
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
    All,
}

impl Chooser {
    fn new(choose: &Choose) -> Result<Self, String> {
        Ok(match choose {
            Choose::All => Self::All,
            Choose::IdleOver(seconds) => Self::IdleOver(Span::seconds(*seconds)),
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
            Self::All => true,
        }
    }

    fn missing(&self, found: &[Session]) -> Vec<SessionId> {
        let Self::Ids(ids) = self else { return Vec::new() };
        ids.iter().filter(|id| found.iter().all(|session| session.id != **id)).copied().collect()
    }
}

/// The pause between two endings that a rate or a time asks for.
fn pause_between(request: &EndRequest, count: usize) -> Duration {
    let by_rate = request.rate_per_second.filter(|rate| *rate > 0.0).map(|rate| 1.0 / rate);
    let by_time = request.over_seconds.map(|seconds| seconds as f64 / count.max(1) as f64);
    let seconds = by_rate.unwrap_or(0.0).max(by_time.unwrap_or(0.0));
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

/// One `ebb end` at work.
struct Ending<'a> {
    book: &'a Book,
    service: &'a Service,
    daemon: Option<&'a Daemon>,
    reply: &'a Reply,
    pause: Duration,
    grace: Duration,
    cut: bool,
}

/// Without a pace, this many are ended in one go.
const TOGETHER: usize = 1000;

impl Ending<'_> {
    async fn run(&self, chosen: &[Session], report: &mut EndReport) -> Result<(), Why> {
        let how = if self.cut { How::Destroy } else { How::Goodbye };
        let together = if self.pause.is_zero() { TOGETHER } else { 1 };
        let began = Instant::now();
        let mut said_goodbye = BTreeSet::new();
        for (done, some) in chosen.chunks(together).enumerate() {
            if self.reply.is_gone() {
                break;
            }
            let due = self.pause.saturating_mul(u32::try_from(done).unwrap_or(u32::MAX));
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            let ids = some.iter().map(|session| session.id).collect();
            let came = both(self.service, self.daemon, some.to_vec(), &ids, how, true).await?;
            self.count(&came, report);
            if how == How::Goodbye {
                said_goodbye.extend(some.iter().map(|session| session.id));
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
        let ids = left.iter().map(|session| session.id).collect();
        let came = both(self.service, self.daemon, left, &ids, How::Destroy, true).await?;
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

/// Ends those of these sessions that are meant: by the goodbye of the protocol where the daemon can say it, else, with
/// `kernel`, as the kernel can.
pub(crate) async fn both(
    service: &Service,
    daemon: Option<&Daemon>,
    mut sessions: Vec<Session>,
    ids: &BTreeSet<SessionId>,
    how: How,
    kernel: bool,
) -> Result<Came, Why> {
    let Some(daemon) = daemon else {
        sessions.retain(|session| ids.contains(&session.id));
        return end(service, sessions, how).await;
    };
    if sessions.iter().all(|session| session.uses.is_empty()) {
        let _ = daemons::add(daemon, service, &mut sessions).await;
    }
    sessions.retain(|session| ids.contains(&session.id));
    let (mut came, rest) = by_daemon(daemon, sessions, how).await;
    if !kernel {
        return Ok(came);
    }
    let kernel = end(service, rest, how).await?;
    came.gone += kernel.gone;
    came.goodbyes += kernel.goodbyes;
    came.cut += kernel.cut;
    came.failed += kernel.failed;
    came.why = came.why.or(kernel.why);
    came.kept.extend(kernel.kept);
    Ok(came)
}

/// Asks the daemon; answers with those that are left to the kernel. What is inside a transaction is spared by a goodbye:
/// it has its grace. A connection that is to be destroyed is the kernel's; what has none is the daemon's to the last.
async fn by_daemon(daemon: &Daemon, sessions: Vec<Session>, how: How) -> (Came, Vec<Session>) {
    let mut came = Came::default();
    let to_ask =
        |session: &Session| !session.uses.is_empty() && (how == How::Goodbye || session.state == SessionState::Use);
    let (asked, mut rest): (Vec<Session>, Vec<Session>) = sessions.into_iter().partition(to_ask);
    if asked.is_empty() || !daemon.abilities().await.end.is_ready() {
        let (without, connections): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|session| session.state == SessionState::Use);
        came.kept.extend(without.iter().map(|session| session.id));
        rest.extend(connections);
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
            let all = |fits: fn(&Ended) -> bool| !own.is_empty() && own.iter().all(fits);
            if all(|one| matches!(one, Ended::Gone)) {
                came.gone += u64::from(session.state == SessionState::Use);
            } else if all(|one| matches!(one, Ended::Asked | Ended::Gone)) {
                came.goodbyes += 1;
            } else if !own.iter().any(|one| matches!(one, Ended::Spared(_))) {
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
    let inodes: BTreeSet<u32> = sessions.iter().map(|session| session.inode).filter(|inode| *inode != 0).collect();
    let owners = observe::owners(&inodes, &pids(service));
    for session in sessions.iter().filter(|session| session.idle >= QUIET) {
        let Some(pid) = owners.get(&session.inode).and_then(|pids| pids.last()) else { continue };
        let Ok(Some(owner)) = process::read(*pid) else { continue };
        let told = process::Handle::open(*pid, owner.start_ticks)
            .and_then(|handle| process::shutdown_read(&handle, session.inode));
        match told {
            Ok(()) => came.goodbyes += 1,
            Err(process::Error::Gone { .. } | process::Error::NotHeld { .. } | process::Error::Unread { .. }) => {}
            Err(error) => came.why = Some(Why::Unread { what: "a session's socket".into(), cause: chain(&error) }),
        }
    }
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
