//! HAProxy by its runtime API: a server of a backend is drained, and becomes ready again. Its weight stays, and is the slow
//! start on the way back. What it is told is kept by the worker that was told: a reload forgets it, unless HAProxy is
//! configured to keep the states of its servers in a file.

mod state;

use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::error::short;
use crate::{Applied, Drift, Error, Look, Previous, Until, Wish, stream};
use state::Seen;

/// More is no answer of HAProxy: 40,000 servers have 20 MB of figures.
const MOST: usize = 32 << 20;

/// One server behind one HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Haproxy {
    /// Its runtime API, with `level admin`: `/PATH` of a unix socket, or `HOST:PORT`.
    pub at: String,
    /// The backend.
    pub backend: String,
    /// The server, as the backend calls it.
    pub server: String,
}

/// What a server was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Was {
    /// Where.
    pub at: String,
    /// The backend.
    pub backend: String,
    /// The server.
    pub server: String,
    /// What it had been told.
    pub state: State,
    /// Its weight.
    pub weight: u32,
    /// Its weight by the configuration.
    pub configured: u32,
    /// The worker that said so: another one may have forgotten.
    pub worker: u32,
}

/// What an operator can tell a server to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It takes newcomers.
    Ready,
    /// It takes none, but those that stick to it.
    Drain,
    /// It takes none at all, and is not checked.
    Maint,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl Haproxy {
    pub(crate) fn check(&self) -> Result<(), Error> {
        stream::check(&self.at, "HAProxy")?;
        for (what, name) in [("backend", &self.backend), ("server", &self.server)] {
            // What HAProxy itself allows in a name: no other can be an order of its own.
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
            if name.is_empty() || !name.chars().all(allowed) {
                let what = format!("`{}` as a {what}", short(name));
                return Err(Error::Settings { what, help: "letters, digits and -_.: make a name".to_owned() });
            }
        }
        Ok(())
    }

    async fn say(&self, words: &str, until: Until) -> Result<String, Error> {
        let answer = stream::ask(&self.at, format!("{words}\n").as_bytes(), MOST, until).await?;
        String::from_utf8(answer).map_err(|_| Error::NotUnderstood { at: self.at.clone(), what: "no text".to_owned() })
    }

    async fn seen(&self, until: Until) -> Result<Seen, Error> {
        let (be, words) = (&self.backend, "show cli level;show info");
        let answer = self.say(&format!("{words};show stat {be} 4 -1;show servers state {be}"), until).await?;
        state::read(&answer, self)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.backend, self.server)
    }

    pub(crate) async fn look(&self, until: Until) -> Result<Look, Error> {
        let seen = self.seen(until).await?;
        let (me, name) = (&seen.me, self.name());
        let mut notes = Vec::new();
        if let Some(cookie) = &me.cookie {
            notes.push(format!("clients that have the cookie {cookie} still come to {name}"));
        }
        if me.state() == State::Maint {
            notes.push(format!("{name} is in maintenance by somebody's word, and stays so"));
        }
        let last = me.is_usable() && !seen.others.iter().any(state::Row::is_usable);
        let last = last.then(|| format!("{name} is the last usable server of its backend at {}", self.at));
        let changes = (me.state() == State::Ready).then(|| format!("{name} at {}: ready -> drain", self.at));
        Ok(Look {
            previous: Previous::Haproxy(Was {
                at: self.at.clone(),
                backend: self.backend.clone(),
                server: self.server.clone(),
                state: me.state(),
                weight: me.weight,
                configured: me.configured,
                worker: seen.worker,
            }),
            changes: changes.into_iter().collect(),
            last,
            notes,
            sessions: me.sessions,
            settles: Duration::ZERO,
        })
    }

    pub(crate) async fn apply(&self, was: &Was, wish: Wish, until: Until) -> Result<Applied, Error> {
        self.is_of(was)?;
        let seen = self.seen(until).await?;
        let (state, weight) = aim(was, wish);
        let orders = orders(was, wish, &seen.me);
        if orders.foreign {
            let found = "it is in maintenance".to_owned();
            return Err(Error::Changed { at: self.at.clone(), what: self.name(), found });
        }
        if orders.weight.is_none() && orders.state.is_none() {
            return Ok(Applied::at(&self.at, false));
        }
        // The weight first: nobody comes by the old one.
        if let Some(weight) = orders.weight {
            self.order(&format!("set weight {} {weight}", self.name()), until).await?;
        }
        if let Some(state) = orders.state {
            self.order(&format!("set server {} state {}", self.name(), state.word()), until).await?;
        }
        let now = self.seen(until).await?.me;
        let kept = weight.is_none_or(|weight| weight == now.weight);
        if !kept || !is_as(wish, state, &now) {
            return Err(Error::NotTaken { at: self.at.clone(), found: self.found(&now) });
        }
        Ok(Applied::at(&self.at, true))
    }

    /// An order: what HAProxy answers to it is an error.
    async fn order(&self, words: &str, until: Until) -> Result<(), Error> {
        let answer = self.say(words, until).await?;
        match answer.trim() {
            "" => Ok(()),
            said => Err(state::refusal(said, self)),
        }
    }

    pub(crate) async fn drift(&self, was: &Was, wish: Wish, until: Until) -> Result<Drift, Error> {
        self.is_of(was)?;
        let seen = self.seen(until).await?;
        let (state, weight) = aim(was, wish);
        let kept = weight.is_none_or(|weight| weight == seen.me.weight);
        let mut drift = Drift::default();
        if !kept || !is_as(wish, state, &seen.me) {
            let again = if seen.worker == was.worker { "" } else { ", and HAProxy was reloaded or started again" };
            drift.lost.push(format!("{} at {}: {}{again}", self.name(), self.at, self.found(&seen.me)));
        }
        Ok(drift)
    }

    fn found(&self, row: &state::Row) -> String {
        format!("{} is {} with weight {}", self.name(), row.state().word(), row.weight)
    }

    fn is_of(&self, was: &Was) -> Result<(), Error> {
        let same = (&was.at, &was.backend, &was.server) == (&self.at, &self.backend, &self.server);
        if same { Ok(()) } else { Err(crate::of_another()) }
    }
}

/// What it is to be; a weight that does not matter is none.
fn aim(was: &Was, wish: Wish) -> (State, Option<u32>) {
    match wish {
        Wish::Away => (State::Drain, None),
        Wish::Share(share) if was.state == State::Ready => (State::Ready, Some(Wish::of(share, was.weight))),
        Wish::Share(_) | Wish::Back => (was.state, Some(was.weight)),
    }
}

/// In maintenance nobody comes either.
fn is_as(wish: Wish, state: State, now: &state::Row) -> bool {
    now.state() == state || (wish == Wish::Away && now.state() == State::Maint)
}

/// What is to be said to it.
#[derive(Debug, PartialEq, Eq)]
struct Orders {
    weight: Option<u32>,
    state: Option<State>,
    /// Somebody has put it into maintenance since, and that is not ours to lift.
    foreign: bool,
}

fn orders(was: &Was, wish: Wish, now: &state::Row) -> Orders {
    let (state, weight) = aim(was, wish);
    let right = is_as(wish, state, now);
    Orders {
        weight: weight.filter(|weight| *weight != now.weight),
        state: (!right).then_some(state),
        foreign: !right && now.state() == State::Maint,
    }
}
