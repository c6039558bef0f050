//! Sessions are ended beside the loop: a hundred thousand take seconds, and what is spread out takes as long as it was asked
//! for.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebb_decide::drain::Input;
use ebb_link::Reply;
use ebb_model::{Event, EventKind, How, Pace, Service, Session, SessionId};
use tokio::sync::{mpsc, oneshot};

use super::watch::{Outside, Watch};
use crate::daemons::{self, Daemon};
use crate::verbs::end::{self, Came, Turns};
use crate::verbs::hold::tell;
use crate::world::World;

impl Watch<'_> {
    /// Begins to end these. Once more is the daemon's alone, and is told of only if it did something.
    pub(super) async fn end(&self, index: usize, how: How, ids: Vec<SessionId>, again: bool) {
        let one = &self.tracked[index];
        let ending = Ending {
            world: Arc::clone(self.world),
            service: one.service.clone(),
            daemon: one.view.as_ref().map(|view| view.daemon.clone()),
            reply: self.reply.clone(),
            outside: self.outside.clone(),
            index,
            wish: one.wish,
            how,
            pace: if again { Pace::default() } else { one.drain.spec().pace },
            again,
        };
        let ids: BTreeSet<SessionId> = ids.into_iter().collect();
        let sessions = self.sessions_of(index).await;
        tokio::spawn(ending.run(sessions, ids));
    }

    /// The turn of these has come, if what they were to be ended for is still wished.
    pub(super) fn turn(&mut self, turn: &Turn) -> bool {
        let one = &mut self.tracked[turn.index];
        one.wish == turn.wish && one.drain.turn(turn.how, &turn.ids)
    }
}

/// Asks the loop whether these are to be ended now.
pub(crate) struct Turn {
    index: usize,
    wish: u64,
    how: How,
    ids: Vec<SessionId>,
    pub(super) answer: oneshot::Sender<bool>,
}

struct Ending {
    world: Arc<World>,
    service: Service,
    daemon: Option<Daemon>,
    reply: Reply,
    outside: mpsc::Sender<Outside>,
    index: usize,
    wish: u64,
    how: How,
    pace: Pace,
    again: bool,
}

impl Ending {
    async fn run(self, mut sessions: Vec<Session>, ids: BTreeSet<SessionId>) {
        if let Some(daemon) = &self.daemon {
            // The kernel alone knows them then, and ends them.
            let _ = daemons::add(daemon, &self.service, &mut sessions).await;
        }
        sessions.retain(|session| ids.contains(&session.id));
        let (mut turns, mut all) = (Turns::new(sessions, self.pace), Came::default());
        while let Some(sessions) = turns.next().await {
            let ids: Vec<SessionId> = sessions.iter().map(|session| session.id).collect();
            if !self.pace.is_none() && !self.may(&ids).await {
                break;
            }
            self.world.recorder.ours(ids.into_iter());
            let came = end::both(&self.service, self.daemon.as_ref(), sessions, self.how, !self.again).await;
            all.add(came.unwrap_or_else(|why| Came { why: Some(why), ..Came::default() }));
        }
        self.tell(all).await;
    }

    async fn may(&self, ids: &[SessionId]) -> bool {
        let (answer, asked) = oneshot::channel();
        let turn = Turn { index: self.index, wish: self.wish, how: self.how, ids: ids.to_vec(), answer };
        self.outside.send(Outside::Turn(turn)).await.is_ok() && asked.await.unwrap_or(false)
    }

    /// Who heard no goodbye, and leaves before the grace is over, has left by themselves.
    async fn spare(&self, ids: Vec<SessionId>) {
        if !ids.is_empty() && self.how == How::Goodbye {
            let _ = self.outside.send(Outside::Done(self.index, Input::Spared(ids))).await;
        }
    }

    async fn tell(self, mut came: Came) {
        let count = came.goodbyes + came.cut;
        if self.again && count == 0 {
            self.spare(came.spared).await;
            return;
        }
        let service = &self.service;
        let verb = if self.how == How::Goodbye { "told goodbye" } else { "destroyed" };
        let (sessions, were) = if count == 1 { ("session", "was") } else { ("sessions", "were") };
        let mut text = format!("{count} {sessions} of {} {were} {verb}", service.name);
        if !came.kept.is_empty() {
            let others: Vec<_> = service.shared_with.iter().map(ToString::to_string).collect();
            text = format!("{text}; {} at a shared door may be those of {}", came.kept.len(), others.join(", "));
        }
        if let Some(why) = &came.why {
            text = format!("{text}; {} were not: {why}", came.failed);
        }
        let event = Event::new(self.world.now().wall, EventKind::SessionsEnded, &service.name, text)
            .with("how", verb)
            .with("count", count);
        self.reply.send(tell(&self.world, service, &event)).await;
        // The loop may be over by now; then nobody needs to know.
        let _ = self.outside.send(Outside::Done(self.index, Input::WereGone(came.gone))).await;
        self.spare(std::mem::take(&mut came.spared)).await;
        if !came.kept.is_empty() {
            let _ = self.outside.send(Outside::Done(self.index, Input::Kept(came.kept))).await;
        }
    }
}
