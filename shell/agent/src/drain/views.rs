//! What the daemons of the services that are drained tell of their sessions, asked again and again beside the loop: a
//! daemon that is slow, or silent, must not keep anything else waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ebb_decide::ledger::Seen;
use ebb_decide::uses::{no_users, plain, use_id, waits};
use ebb_model::{Ability, Age, Busy, SessionState, Use, Uses, Why};
use tokio::sync::watch;

use crate::daemons::Daemon;

/// Between two questions at least.
const PACE: Duration = Duration::from_secs(2);
/// A question may take this share of the time: after one that took 100 ms, two seconds pass.
const SHARE: u32 = 20;
/// After a question without an answer.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// What was told last counts for so long when nothing more is told; then the kernel's view alone does.
const GOOD_FOR: Duration = Duration::from_secs(20);
/// The first census waits for the first answer so long at most.
const FIRST: Duration = Duration::from_secs(2);

/// The daemon's view of one service.
pub(crate) struct View {
    pub(crate) daemon: Daemon,
    told: watch::Receiver<Told>,
    task: tokio::task::JoinHandle<()>,
    /// Those are no users', and never were.
    no_users: BTreeSet<SocketAddr>,
    /// That it cannot be read has been said.
    said: bool,
}

#[derive(Clone, Debug, Default)]
struct Told {
    /// Asked at all.
    asked: bool,
    /// Last answer, and when.
    last: Option<(Instant, Uses)>,
    /// Why there was none the last time.
    why: Option<Why>,
}

impl View {
    /// Begins to ask.
    pub(crate) fn of(daemon: Daemon) -> Self {
        let (tell, told) = watch::channel(Told::default());
        let asks = daemon.clone();
        let task = tokio::spawn(async move { ask(&asks, &tell).await });
        Self { daemon, told, task, no_users: BTreeSet::new(), said: false }
    }

    /// After the first answer, or without it after a while.
    pub(crate) async fn ready(&mut self) {
        let _ = tokio::time::timeout(FIRST, self.told.wait_for(|told| told.asked)).await;
    }

    /// Asks at once: what is told now decides.
    pub(crate) async fn fresh(&mut self) {
        if let Ok(uses) = self.daemon.uses().await {
            self.own(&uses.uses);
            let (tell, told) = watch::channel(Told { asked: true, last: Some((Instant::now(), uses)), why: None });
            self.task.abort();
            let asks = self.daemon.clone();
            self.task = tokio::spawn(async move {
                tokio::time::sleep(PACE).await;
                ask(&asks, &tell).await;
            });
            self.told = told;
        }
    }

    fn own(&mut self, uses: &[Use]) {
        self.no_users.extend(no_users(uses));
    }

    /// What counts of it now.
    fn uses(&mut self) -> Uses {
        let told = self.told.borrow_and_update().clone();
        let uses = told.last.filter(|(at, _)| at.elapsed() < GOOD_FOR).map(|(_, uses)| uses).unwrap_or_default();
        self.own(&uses.uses);
        uses
    }

    /// Adds what the kernel does not see to a census, and says what does not count in it.
    pub(crate) fn complete(&mut self, seen: &mut Vec<Seen>) {
        let Uses { uses, transport, .. } = self.uses();
        let mut idle: BTreeMap<SocketAddr, bool> = BTreeMap::new();
        for (peer, one) in uses.iter().filter_map(|one| Some((plain(one.peer?), is_idle(one.busy)?))) {
            idle.entry(peer).and_modify(|all| *all &= one).or_insert(one);
        }
        for session in seen.iter_mut() {
            session.counts = !transport && !self.no_users.contains(&plain(session.peer));
            session.idle = idle.get(&plain(session.peer)).copied().unwrap_or(session.idle);
        }
        seen.extend(uses.iter().filter(|one| waits(one)).map(|one| Seen {
            id: use_id(&one.key),
            peer: one.peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
            state: SessionState::Use,
            age: one.age.map_or(Age::Unknown, Age::Exactly),
            may_enter: false,
            counts: true,
            idle: is_idle(one.busy).unwrap_or(false),
        }));
    }

    /// What to say once: that the daemon's view is lost, or is there again.
    pub(crate) fn news(&mut self, service: &str) -> Option<String> {
        let told = self.told.borrow().clone();
        let lost = told.asked && told.last.is_none_or(|(at, _)| at.elapsed() >= GOOD_FOR);
        if lost == self.said {
            return None;
        }
        self.said = lost;
        let kind = self.daemon.kind();
        Some(match told.why.filter(|_| lost) {
            Some(why) => format!("{service}: the kernel's view of its sessions alone counts: {why}"),
            None => format!("{service}: {kind} tells its sessions again, and they count"),
        })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether an end now loses nothing; none if the daemon does not say.
const fn is_idle(busy: Busy) -> Option<bool> {
    match busy {
        Busy::Idle | Busy::NotLoggedIn | Busy::Resumable => Some(true),
        Busy::Active | Busy::Inside => Some(false),
        Busy::Unknown => None,
    }
}

async fn ask(daemon: &Daemon, tell: &watch::Sender<Told>) {
    loop {
        let began = Instant::now();
        let answer = match daemon.abilities().await.list {
            Ability::Ready => daemon.uses().await,
            // It never will.
            Ability::Never(_) => {
                tell.send_modify(|told| told.asked = true);
                return std::future::pending().await;
            }
            Ability::Missing { what, help } => Err(Why::Unsupported { what, help }),
        };
        let pause = if answer.is_ok() { PACE.max(began.elapsed() * SHARE) } else { AFTER_FAILURE };
        tell.send_modify(|told| {
            told.asked = true;
            match answer {
                Ok(uses) => (told.last, told.why) = (Some((Instant::now(), uses)), None),
                Err(why) => told.why = Some(why),
            }
        });
        if tell.is_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}
