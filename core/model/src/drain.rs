//! A drain: what was asked, and what it came to.

use crate::{Door, Queue, Session, Span, Wall, Why};

/// What happens when a deadline is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Stop waiting, say who remains, change nothing more.
    Ask,
    /// End what remains: a goodbye, a grace, then destroy.
    End,
    /// Destroy what remains at once.
    Cut,
}

/// How sessions are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As if the client had gone away: the service sees an end of file and closes by itself.
    Goodbye,
    /// The kernel destroys the connection; the client sees a reset.
    Destroy,
}

/// When sessions of a class are told goodbye.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// At the deadline, with `Then::End`; until then they are waited for.
    #[default]
    Deadline,
    /// As soon as they are seen. Nobody is destroyed before the deadline.
    Now,
}

/// How endings are spread out, so that those who come back elsewhere do not all come at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// At most so many in an hour.
    pub per_hour: Option<u64>,
    /// Over so much time at least.
    pub over: Option<Span>,
}

impl Pace {
    /// Whether anything is spread out.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.per_hour.is_none() && self.over.is_none()
    }

    /// How long `count` endings take; milliseconds, rounded up. By a rate a twentieth more than it would allow: turns that come
    /// early or late must not exceed it in any second.
    #[must_use]
    pub fn spread(self, count: usize) -> Span {
        let count = count as u64;
        let by_rate = self.per_hour.map_or(0, |rate| count.saturating_mul(3_780_000).div_ceil(rate.max(1)));
        Span(by_rate).max(self.over.filter(|_| count > 0).unwrap_or(Span::ZERO))
    }
}

/// What was asked of a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainSpec {
    /// How long to wait at most, from the beginning of the drain.
    pub deadline: Option<Span>,
    /// What happens then.
    pub then: Then,
    /// Stop the service once it is drained.
    pub stop: bool,
    /// How long no session may have been left before *drained* is said.
    pub settle: Span,
    /// Between a goodbye and the destruction of those who did not heed it.
    pub grace: Span,
    /// How long UDP flows are learnt before others are refused.
    pub learn: Span,
    /// When those who are idle are told goodbye.
    pub idle: When,
    /// When those who are at work are.
    pub active: When,
    /// How endings are spread out.
    pub pace: Pace,
    /// What becomes of a mail server's queue.
    pub queue: Queue,
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self {
            deadline: None,
            then: Then::Ask,
            stop: true,
            settle: Span::seconds(2),
            grace: Span::seconds(5),
            learn: Span::seconds(30),
            idle: When::Deadline,
            active: When::Deadline,
            pace: Pace::default(),
            queue: Queue::Leave,
        }
    }
}

/// What a probe at one door met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorProof {
    /// The door.
    pub door: Door,
    /// Refused, as it must be; or why that could not be shown.
    pub refused: Result<(), Why>,
}

/// What sessions came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sessions when the gate was shut.
    pub at_start: u64,
    /// Ended without us.
    pub by_themselves: u64,
    /// Ended after our goodbye.
    pub by_us: u64,
    /// Destroyed by us.
    pub cut: u64,
    /// Still there.
    pub left: u64,
}

/// Why *drained* could be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What the probes met when the gate had been shut.
    pub doors: Vec<DoorProof>,
    /// How long no session had been left.
    pub empty_for: Span,
    /// How many whole censuses in that time found none.
    pub censuses: u32,
    /// Waited in addition because SYN cookies had been sent, which no census can see.
    pub cookie_grace: Span,
}

/// How a drain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Proven empty, still running, held.
    Drained,
    /// Proven empty, then stopped, held.
    Stopped,
    /// Proven empty, but stopping it went wrong.
    StopFailed(Why),
    /// The deadline was reached with sessions left.
    DeadlineReached,
    /// The service ended in the middle, not by us.
    EndedElsewhere(Why),
    /// Somebody released its hold in the middle: there is nothing to wait for any more.
    Released(Why),
    /// It could not be done; the gate is as said in the reason.
    Failed(Why),
    /// The operator detached; hold and gate stay.
    Detached,
}

/// What a drain came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// When the gate was shut.
    pub began: Wall,
    /// How long it took.
    pub took: Span,
    /// What became of the sessions.
    pub tally: Tally,
    /// The longest that a session stayed after the gate was shut.
    pub longest_wait: Span,
    /// Connection attempts the gate refused, our own probes not counted; clients that retry count again.
    pub refused: u64,
    /// The proof, if the service was proven empty.
    pub proof: Option<Proof>,
    /// Connections that appeared while the gate should have been shut.
    pub leaks: Vec<Session>,
}
