//! The drain of one service, as a state machine without a world.
//!
//! ```text
//!  Placing --Placed--> Shutting --Shut--> Proving --Proved--> Draining --empty, settled--> Confirming
//!     |                    |                 |                 |  ^  |                        |    |
//!     +------ Failed ------+---- Failed -----+                 |  |  +-- deadline: Ask ---+   |    | not shut, or
//!                          |                                   v  |                       |   |    | somebody there
//!                          |                                 Ending (goodbye, grace,      |   |    +--> Draining
//!                          |                                         destroy)             |   v
//!                          +----------------------> Over <--------------------------------+-- Stopping
//! ```
//!
//! [`Drain::step`] takes what was seen or done and answers with what to do, in order; each action is
//! idempotent, so that a crash after any of them is mended by doing it again. [`Drain::wakeup`] says when
//! it wants to be called again and why.

use std::collections::BTreeSet;

use ebb_model::{
    Census, DoorProof, DrainSpec, How, Mono, Oldest, Outcome, Proof, SessionId, Span, Tally, Then, Up, When, Why,
};

use crate::ledger::{Ledger, Seen};

/// A census may cost this share of one core, a third of a percent: after one that took 1 ms of it, 300 ms pass.
const CENSUS_SHARE: u64 = 300;
/// Between two censuses at least.
const CENSUS_PACE: Span = Span::seconds(1);
/// Between two censuses while nobody is left: the proof wants several.
const SETTLE_PACE: Span = Span(500);
/// Between two censuses at most, whatever they cost: closings are counted by events in between.
const CENSUS_LATEST: Span = Span::seconds(120);
/// After a SYN cookie was sent, its client's answer takes a round trip and perhaps one retransmission.
const COOKIE_GRACE: Span = Span::seconds(3);
/// A SYN cookie is good for two periods of 64 s at most (linux/net/tcp.h, `MAX_SYNCOOKIE_AGE`): for this long after
/// the gate was shut, an unknown connection may be the answer to one.
const COOKIE_LIFE: Span = Span::seconds(128);
/// A client behind a cookie whom a full queue turned away comes back after as long again as it has been connected:
/// TCP doubles its pauses. It is taken to have connected at most this long before the gate was shut.
const TURNED_AWAY_BEFORE: Span = Span::seconds(10);
/// Between two attempts to destroy what does not go.
const DESTROY_AGAIN: Span = Span::seconds(2);
/// Within a grace, between two goodbyes to those whom the first one spared: a transaction may have ended since.
const GOODBYE_AGAIN: Span = Span::seconds(2);
/// Before the deadline, who did not heed a goodbye hears the next one after so long.
const EARLY_AGAIN: Span = Span::seconds(60);

/// What was seen or done.
#[derive(Clone, Debug)]
pub enum Input {
    /// The hold is on disk.
    Placed,
    /// The kernel acknowledged the gate.
    Shut {
        /// SYN cookies have been sent within the last minute, as far as known.
        cookies: bool,
    },
    /// Each door was probed.
    Proved(Vec<DoorProof>),
    /// Doors that opened later were probed.
    ProvedAlso(Vec<DoorProof>),
    /// A whole census.
    Census {
        /// Every session.
        seen: Vec<Seen>,
        /// What it cost of one core.
        cost: Span,
        /// The kernel received answers to SYN cookies since the last census.
        cookies: bool,
    },
    /// A census could not be taken.
    CensusFailed(Why),
    /// A full queue has turned away connections since the last census, whoever's.
    TurnedAway,
    /// The kernel told that these sockets are gone.
    Closed(Vec<SessionId>),
    /// Of those we meant to end, so many had gone already.
    WereGone(u64),
    /// These cannot be ended: they may be another service's that shares the door.
    Kept(Vec<SessionId>),
    /// These heard no goodbye, for they are at work: they have the grace, and who leaves in it has left by themselves.
    Spared(Vec<SessionId>),
    /// The gate was read back just before *drained* is said: true if it is whole.
    Confirmed(bool),
    /// The service's own state, as its manager tells.
    Up(Up, String),
    /// The stop has ended.
    Stopped(Result<(), Why>),
    /// The hold is gone: somebody has released it.
    Released(Why),
    /// Something that the drain cannot go on without has failed.
    Failed(Why),
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the hold and its record to disk.
    Place,
    /// Shut the gate.
    Shut,
    /// Probe each door.
    Prove,
    /// Take a whole census.
    TakeCensus,
    /// Write down who was there when the gate was shut.
    KeepBaseline,
    /// Name these connections as leaks.
    Leak(Vec<SessionId>),
    /// The deadline has come.
    Deadline,
    /// End these sessions.
    End(How, Vec<SessionId>),
    /// Say goodbye once more to these, where that is the daemon's: it spares who is in the middle of something.
    GoodbyeAgain(Vec<SessionId>),
    /// Read the gate back, and take one more census after it.
    Confirm,
    /// It is proven empty: write that down and say it.
    SayDrained(Proof),
    /// Stop the service.
    Stop,
    /// It is over; watch no more.
    Finish(Outcome),
}

/// When to call again, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wakeup {
    /// When.
    pub at: Mono,
    /// Why.
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Placing,
    Shutting,
    Proving,
    Draining,
    Ending { until: Mono, again: Mono },
    Confirming,
    Stopping,
    Over,
}

/// One drain.
#[derive(Clone, Debug)]
pub struct Drain {
    spec: DrainSpec,
    phase: Phase,
    began: Mono,
    deadline: Option<Mono>,
    deadline_over: bool,
    shut_at: Option<Mono>,
    learn_until: Option<Mono>,
    cookies: bool,
    cookies_at: Option<Mono>,
    turned_away_at: Option<Mono>,
    doors: Vec<DoorProof>,
    ledger: Ledger,
    census_at: Option<Mono>,
    census_cost: Span,
    unread: Option<Why>,
    empty_since: Option<Mono>,
    empty_censuses: u32,
    /// When those whom a destruction did not end are destroyed again.
    destroy_again: Option<Mono>,
    /// Until then the goodbyes that were begun before the deadline take, as they are spread out.
    early_until: Option<Mono>,
    up: Up,
    proof: Option<Proof>,
}

impl Drain {
    /// A drain that begins now. Until `learn_until`, if that is to come, the flows at its UDP doors are learnt. `ledger`
    /// is an empty one, or that of a drain which goes on.
    #[must_use]
    pub fn new(spec: DrainSpec, learn_until: Option<Mono>, ledger: Ledger, now: Mono) -> Self {
        Self {
            deadline: spec.deadline.map(|span| now + span),
            learn_until,
            spec,
            phase: Phase::Placing,
            began: now,
            deadline_over: false,
            shut_at: None,
            cookies: false,
            cookies_at: None,
            turned_away_at: None,
            doors: Vec::new(),
            ledger,
            census_at: None,
            census_cost: Span::ZERO,
            unread: None,
            empty_since: None,
            empty_censuses: 0,
            destroy_again: None,
            early_until: None,
            up: Up::Running,
            proof: None,
        }
    }

    /// What to do first.
    #[must_use]
    pub fn begin(&self) -> Vec<Action> {
        vec![Action::Place]
    }

    /// Takes what was seen or done; answers with what to do, in order.
    pub fn step(&mut self, input: Input, now: Mono) -> Vec<Action> {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        match input {
            Input::Placed if self.phase == Phase::Placing => {
                self.phase = Phase::Shutting;
                vec![Action::Shut]
            }
            Input::Shut { cookies } if self.phase == Phase::Shutting => {
                self.phase = Phase::Proving;
                // One that goes on has been shut since it began: who is still there has waited since then.
                self.shut_at = Some(if self.ledger.baseline().is_some() { self.began } else { now });
                self.cookies = cookies;
                self.cookies_at = cookies.then_some(now);
                // The census first: who is there now was there before the gate.
                vec![Action::TakeCensus, Action::Prove]
            }
            Input::Proved(doors) if self.phase == Phase::Proving => self.proved(doors, now),
            Input::ProvedAlso(doors) => self.proved_also(doors),
            Input::Census { seen, cost, cookies } => self.census(&seen, cost, cookies, now),
            Input::CensusFailed(why) => self.census_failed(why, now),
            Input::TurnedAway => {
                self.turned_away_at = Some(now);
                Vec::new()
            }
            Input::Closed(ids) => {
                for id in ids {
                    self.ledger.closed(id, now);
                }
                self.look_again_if_empty()
            }
            Input::WereGone(count) => {
                self.ledger.were_gone(count);
                Vec::new()
            }
            Input::Kept(ids) => {
                self.ledger.kept(&ids);
                Vec::new()
            }
            Input::Spared(ids) => {
                self.ledger.not_told(&ids);
                Vec::new()
            }
            Input::Confirmed(whole) => self.confirmed(whole, now),
            Input::Up(up, seen) => self.up(up, seen),
            Input::Stopped(result) if self.phase == Phase::Stopping => self.over(match result {
                Ok(()) => Outcome::Stopped,
                Err(why @ Why::Released { .. }) => Outcome::Released(why),
                Err(why) => Outcome::StopFailed(why),
            }),
            // What is being stopped is stopped: whoever resumes it starts it again.
            Input::Released(_) if self.phase == Phase::Stopping => Vec::new(),
            Input::Released(why) => self.over(Outcome::Released(why)),
            Input::Failed(why) => self.over(Outcome::Failed(why)),
            Input::Tick => self.tick(now),
            // An answer that came after the phase that asked for it.
            Input::Placed | Input::Shut { .. } | Input::Proved(_) | Input::Stopped(_) => Vec::new(),
        }
    }

    fn over(&mut self, outcome: Outcome) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Finish(outcome)]
    }

    fn proved(&mut self, doors: Vec<DoorProof>, now: Mono) -> Vec<Action> {
        let over = self.proved_also(doors);
        if self.phase == Phase::Over {
            return over;
        }
        self.phase = Phase::Draining;
        self.judge(now)
    }

    /// A probe that was accepted means that the gate does not hold: the drain must not go on as if it did.
    fn proved_also(&mut self, doors: Vec<DoorProof>) -> Vec<Action> {
        let open = doors.iter().find_map(|proof| match &proof.refused {
            Err(why @ Why::ProbeMet { .. }) => Some(why.clone()),
            _ => None,
        });
        self.doors.retain(|known| doors.iter().all(|proof| proof.door != known.door));
        self.doors.extend(doors);
        open.map_or_else(Vec::new, |why| self.over(Outcome::Failed(why)))
    }

    fn census(&mut self, seen: &[Seen], cost: Span, cookies: bool, now: Mono) -> Vec<Action> {
        if self.shut_at.is_none() {
            return Vec::new();
        }
        if cookies {
            self.cookies = true;
            self.cookies_at = Some(now);
        }
        let baseline = self.ledger.baseline().map(BTreeSet::len);
        let late = cookies && self.shut_at.is_some_and(|shut| now.since(shut) < COOKIE_LIFE);
        let leaks = self.ledger.observe(seen, late, now);
        self.census_at = Some(now);
        self.census_cost = cost;
        self.unread = None;
        let mut actions = Vec::new();
        if baseline != self.ledger.baseline().map(BTreeSet::len) {
            actions.push(Action::KeepBaseline);
        }
        if !leaks.is_empty() {
            actions.push(Action::Leak(leaks));
        }
        if self.blocking() > 0 {
            self.empty_since = None;
            self.empty_censuses = 0;
        } else {
            self.empty_since.get_or_insert(now);
            self.empty_censuses += 1;
        }
        actions.extend(self.judge(now));
        actions
    }

    fn census_failed(&mut self, why: Why, now: Mono) -> Vec<Action> {
        self.census_at = Some(now);
        self.unread = Some(why);
        self.empty_since = None;
        self.empty_censuses = 0;
        if self.phase == Phase::Confirming {
            self.phase = Phase::Draining;
        }
        Vec::new()
    }

    /// Sessions that stand between now and *drained*. Testers let in by `--except` do not, unless the
    /// service would then be stopped under them.
    #[must_use]
    pub const fn blocking(&self) -> u64 {
        let counts = self.ledger.counts();
        if self.spec.stop { counts.left() } else { counts.left().saturating_sub(counts.excepted) }
    }

    /// Closing events say that nobody is left: only a whole census may say so.
    fn look_again_if_empty(&self) -> Vec<Action> {
        let waits = matches!(self.phase, Phase::Draining | Phase::Ending { .. });
        if waits && self.blocking() == 0 && self.empty_since.is_none() { vec![Action::TakeCensus] } else { Vec::new() }
    }

    /// The grace that SYN cookies ask for, from the time since when nobody is left.
    fn cookie_grace(&self) -> Span {
        let (Some(since), Some(shut), true) = (self.empty_since, self.shut_at, self.cookies) else { return Span::ZERO };
        let answered = self.cookies_at.map_or(since, |at| since.max(at)) + COOKIE_GRACE;
        let back = self.turned_away_at.map_or(answered, |at| at + at.since(shut) + TURNED_AWAY_BEFORE);
        answered.max(back.min(shut + COOKIE_LIFE)).since(since)
    }

    /// When *drained* may be said, if nobody appears until then.
    fn settled_at(&self) -> Option<Mono> {
        let since = self.empty_since?;
        let after_cookies = since + self.cookie_grace();
        let settled = (since + self.spec.settle).max(after_cookies);
        Some(self.learn_until.map_or(settled, |learnt| settled.max(learnt + self.spec.settle)))
    }

    fn judge(&mut self, now: Mono) -> Vec<Action> {
        // Before the first census nobody knows who is there.
        if !matches!(self.phase, Phase::Draining | Phase::Ending { .. }) || self.ledger.baseline().is_none() {
            return Vec::new();
        }
        if self.settled_at().is_some_and(|at| now >= at) && self.empty_censuses >= 2 {
            self.phase = Phase::Confirming;
            return vec![Action::Confirm];
        }
        self.deadline(now)
    }

    fn deadline(&mut self, now: Mono) -> Vec<Action> {
        if let Phase::Ending { until, again } = self.phase {
            if now >= until {
                self.phase = Phase::Draining;
                return self.end(How::Destroy, now);
            }
            if now >= again {
                self.phase = Phase::Ending { until, again: now + GOODBYE_AGAIN };
                let ids: Vec<SessionId> = self.ledger.endable().collect();
                return if ids.is_empty() { Vec::new() } else { vec![Action::GoodbyeAgain(ids)] };
            }
            return Vec::new();
        }
        if self.phase == Phase::Draining && self.destroy_again.is_some_and(|at| now >= at) {
            return self.end(How::Destroy, now);
        }
        if self.deadline_over || self.phase != Phase::Draining {
            return Vec::new();
        }
        if self.deadline.is_none_or(|at| now < at) {
            return self.early(now);
        }
        if self.blocking() == 0 && self.unread.is_none() {
            return Vec::new(); // it only settles
        }
        self.deadline_over = true;
        let mut actions = vec![Action::Deadline];
        actions.extend(match self.spec.then {
            Then::Ask => self.over(Outcome::DeadlineReached),
            Then::End => {
                let said = now + self.spec.pace.spread(self.ledger.endable().count());
                self.phase = Phase::Ending { until: said + self.spec.grace, again: said + GOODBYE_AGAIN };
                self.end(How::Goodbye, now)
            }
            Then::Cut => self.end(How::Destroy, now),
        });
        actions
    }

    /// Says goodbye before the deadline to those classes that are not to be waited for.
    fn early(&mut self, now: Mono) -> Vec<Action> {
        let DrainSpec { idle, active, pace, .. } = self.spec;
        if idle == active && idle == When::Deadline || self.early_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        let class = |is_idle: bool| if is_idle { idle == When::Now } else { active == When::Now };
        let since = Mono(now.0.saturating_sub(EARLY_AGAIN.0));
        let ids = self.ledger.ask(class, since, now);
        if ids.is_empty() {
            return Vec::new();
        }
        if pace.is_none() {
            self.ledger.ending(&ids, How::Goodbye);
        } else {
            self.early_until = Some(now + pace.spread(ids.len()));
        }
        vec![Action::End(How::Goodbye, ids), Action::TakeCensus]
    }

    /// The turn of these has come in an ending that is spread out. False: they are not to be ended any more.
    pub fn turn(&mut self, how: How, ids: &[SessionId]) -> bool {
        let ends = matches!(self.phase, Phase::Draining | Phase::Ending { .. });
        if ends {
            self.ledger.ending(ids, how);
        }
        ends
    }

    fn end(&mut self, how: How, now: Mono) -> Vec<Action> {
        let ids: Vec<SessionId> = self.ledger.endable().collect();
        if how == How::Destroy {
            self.destroy_again = Some(now + self.spec.pace.spread(ids.len()) + DESTROY_AGAIN);
        }
        if ids.is_empty() && self.blocking() > 0 && self.unread.is_none() {
            // UDP flows, or sessions that may be another service's: nothing more can be done about them.
            return self.over(Outcome::DeadlineReached);
        }
        if ids.is_empty() {
            return Vec::new();
        }
        // In one that is spread out each is meant when its turn has come.
        if self.spec.pace.is_none() {
            self.ledger.ending(&ids, how);
        }
        vec![Action::End(how, ids), Action::TakeCensus]
    }

    fn confirmed(&mut self, whole: bool, now: Mono) -> Vec<Action> {
        if self.phase != Phase::Confirming {
            return Vec::new();
        }
        let Some(since) = self.empty_since.filter(|_| whole) else {
            self.phase = Phase::Draining;
            self.empty_since = None;
            self.empty_censuses = 0;
            return if whole { Vec::new() } else { vec![Action::Shut] };
        };
        let proof = Proof {
            doors: self.doors.clone(),
            empty_for: now.since(since),
            censuses: self.empty_censuses,
            cookie_grace: self.cookie_grace(),
        };
        self.proof = Some(proof.clone());
        let mut actions = vec![Action::SayDrained(proof)];
        if !self.spec.stop {
            actions.extend(self.over(Outcome::Drained));
        } else if matches!(self.up, Up::Stopped | Up::Failed) {
            actions.extend(self.over(Outcome::EndedElsewhere(Why::EndedElsewhere {
                seen: "it was not running any more when its last session had ended".to_owned(),
            })));
        } else {
            self.phase = Phase::Stopping;
            actions.push(Action::Stop);
        }
        actions
    }

    /// The manager's word on the service. Sessions may outlive it (ssh's do): then the drain goes on.
    fn up(&mut self, up: Up, seen: String) -> Vec<Action> {
        let ended = matches!(up, Up::Stopped | Up::Failed) && matches!(self.up, Up::Running | Up::Changing);
        self.up = up;
        let ours = self.phase == Phase::Stopping;
        if ended && !ours && self.ledger.baseline().is_some() && self.ledger.counts().left() == 0 {
            return self.over(Outcome::EndedElsewhere(Why::EndedElsewhere { seen }));
        }
        if ended && !ours { vec![Action::TakeCensus] } else { Vec::new() }
    }

    fn tick(&mut self, now: Mono) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.census_due().is_some_and(|at| now >= at) {
            // Not before it has been answered, or failed.
            self.census_at = Some(now);
            actions.push(Action::TakeCensus);
        }
        actions.extend(self.judge(now));
        actions
    }

    fn census_due(&self) -> Option<Mono> {
        if !matches!(self.phase, Phase::Draining | Phase::Ending { .. }) {
            return None;
        }
        let pace = if self.empty_since.is_some() {
            SETTLE_PACE
        } else {
            CENSUS_PACE.max(Span(self.census_cost.0.saturating_mul(CENSUS_SHARE))).min(CENSUS_LATEST)
        };
        Some(self.census_at.map_or(self.began, |at| at + pace))
    }

    /// When [`Input::Tick`] is wanted next, and why; none while an answer is awaited.
    #[must_use]
    pub fn wakeup(&self) -> Option<Wakeup> {
        let mut at = self.census_due()?;
        let grace = match self.phase {
            Phase::Ending { until, again } => Some(until.min(again)),
            _ => None,
        };
        let waits = self.blocking() > 0 || self.unread.is_some();
        let deadline = self.deadline.filter(|_| !self.deadline_over && waits);
        for other in [grace, deadline, self.settled_at()].into_iter().flatten() {
            at = at.min(other);
        }
        Some(Wakeup { at, why: self.why(at) })
    }

    /// What it waits for.
    #[must_use]
    pub fn why(&self, now: Mono) -> Why {
        if let Some(why) = &self.unread {
            return why.clone();
        }
        match self.empty_since {
            Some(since) if self.cookies && now.since(since) >= self.spec.settle => {
                Why::CookieGrace { left: self.settled_at().map_or(Span::ZERO, |at| at.since(now)) }
            }
            Some(since) => Why::Settling { empty_for: now.since(since), settle: self.spec.settle },
            None => Why::SessionsLeft(self.blocking()),
        }
    }

    /// What it is doing, in one or two words.
    #[must_use]
    pub const fn doing(&self) -> &'static str {
        match self.phase {
            Phase::Placing => "placing the hold",
            Phase::Shutting => "shutting the gate",
            Phase::Proving => "proving it shut",
            Phase::Draining if self.empty_since.is_some() => "settling",
            Phase::Draining => "draining",
            Phase::Ending { .. } => "ending sessions",
            Phase::Confirming => "confirming",
            Phase::Stopping => "stopping",
            Phase::Over => "done",
        }
    }

    /// The same with its deadline at this instant: of one that goes on it does not count from its beginning.
    #[must_use]
    pub fn until(mut self, deadline: Option<Mono>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Asked again while under way: the new wish counts, its deadline from now.
    pub fn respec(&mut self, spec: DrainSpec, now: Mono) {
        self.deadline = spec.deadline.map(|span| now + span);
        self.deadline_over = false;
        // An ending that was under way is taken back with the wish for it.
        if matches!(self.phase, Phase::Ending { .. }) {
            self.phase = Phase::Draining;
        }
        (self.destroy_again, self.early_until) = (None, None);
        self.ledger.spare();
        self.spec = spec;
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The operator leaves; hold and gate stay. The answer is the outcome to report.
    pub fn detach(&mut self) -> Outcome {
        self.phase = Phase::Over;
        Outcome::Detached
    }

    /// The sessions' ledger.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The proof, once it is drained.
    #[must_use]
    pub const fn proof(&self) -> Option<&Proof> {
        self.proof.as_ref()
    }

    /// What was asked.
    #[must_use]
    pub const fn spec(&self) -> &DrainSpec {
        &self.spec
    }

    /// When it began.
    #[must_use]
    pub const fn began(&self) -> Mono {
        self.began
    }

    /// When the deadline is.
    #[must_use]
    pub const fn deadline_at(&self) -> Option<Mono> {
        self.deadline
    }

    /// The longest that a session stayed after the gate was shut.
    #[must_use]
    pub fn longest_wait(&self, now: Mono) -> Span {
        let Some(shut) = self.shut_at else { return Span::ZERO };
        if self.ledger.counts().left() > 0 {
            return now.since(shut);
        }
        self.ledger.last_end().map_or(Span::ZERO, |end| end.since(shut))
    }

    /// What has become of the sessions.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.ledger.tally()
    }

    /// The present numbers as a census.
    #[must_use]
    pub fn as_census(&self, now: Mono) -> Census {
        Census {
            at: self.census_at.unwrap_or(now),
            full: self.census_at == Some(now),
            counts: self.unread.clone().map_or_else(|| Ok(self.ledger.counts()), Err),
            oldest: self.oldest(now),
        }
    }

    /// The oldest session: if it was there when the gate was shut, it is at least as old as that.
    fn oldest(&self, now: Mono) -> Option<Oldest> {
        let mut oldest = self.ledger.oldest()?.clone();
        let witnessed = self.ledger.baseline().is_some_and(|baseline| baseline.contains(&oldest.id));
        if let Some(shut) = self.shut_at.filter(|_| witnessed) {
            oldest.age = oldest.age.not_younger_than(now.since(shut));
        }
        Some(oldest)
    }

    /// Who was there when the gate was shut.
    #[must_use]
    pub fn baseline(&self) -> BTreeSet<SessionId> {
        self.ledger.baseline().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
