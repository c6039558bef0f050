//! One service while it is drained.

use std::collections::BTreeMap;

use ebb_decide::drain::Drain;
use ebb_model::{Hold, Now, Origin, Outcome, Record, Report, Requester, Service, ServiceName, Session, Up, Wall};
use ebb_wire::v1;

use super::views::View;
use crate::say;

/// A service and its drain.
pub(crate) struct Tracked {
    pub(crate) service: Service,
    pub(crate) drain: Drain,
    pub(crate) hold: Hold,
    pub(crate) record: Record,
    pub(crate) requester: Requester,
    pub(crate) began: Now,
    /// An agent before us began it: what it told since then is not told again.
    pub(crate) told_since: Option<Wall>,
    /// The hold was not there before this command: if the gate cannot be shut, it goes again.
    pub(crate) placed_now: bool,
    pub(crate) units_up: BTreeMap<String, Up>,
    /// Units that systemd stops along with it, and that a resume starts again.
    pub(crate) along: Vec<String>,
    /// Services that systemd stops along with it, and that are drained beside it: its stop waits for theirs.
    pub(crate) after: Vec<ServiceName>,
    /// Hold and record are on disk.
    pub(crate) written: bool,
    pub(crate) refused: Refused,
    /// How often somebody else took the gate away while we watched.
    pub(crate) gates_lost: u32,
    pub(crate) leaks: Vec<Session>,
    /// What its daemon tells, if it has one that does.
    pub(crate) view: Option<View>,
    pub(crate) foreseen: crate::recorder::Foreseen,
    /// How often it was asked for in another way: what was begun for the wish before is not gone on with.
    pub(crate) wish: u64,
}

/// Refusals over the lives of several gates: somebody may remove one, and its counter with it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refused {
    pub(crate) before: u64,
    pub(crate) now: u64,
}

impl Refused {
    pub(crate) fn counted(&mut self, now: u64) {
        if now < self.now {
            self.before += self.now;
        }
        self.now = now;
    }

    pub(crate) const fn total(&self) -> u64 {
        self.before + self.now
    }
}

impl Tracked {
    /// Whether the service runs, from its units: a socket that listens is a service that runs on demand.
    pub(crate) fn up(&self) -> Up {
        let sockets = match &self.service.origin {
            Origin::Units { sockets, .. } => sockets.as_slice(),
            Origin::Trees(_) => &[],
        };
        let listening = sockets.iter().any(|socket| self.units_up.get(socket) == Some(&Up::Running));
        if listening {
            return Up::Running;
        }
        let units = self.units_up.iter().filter(|(name, _)| !sockets.contains(name)).map(|(_, up)| *up);
        units.min().unwrap_or(self.service.up)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.total().saturating_sub(self.record.own_probes)
    }

    pub(crate) fn progress(&self, now: Now) -> v1::Progress {
        let census = self.drain.as_census(now.mono);
        let counts = census.counts.as_ref().ok();
        let oldest = census.oldest.as_ref().map(say::oldest);
        let state = ebb_decide::effective::state(ebb_decide::effective::Seen {
            held: true,
            up: self.up(),
            left: counts.map(ebb_model::Counts::left),
            proven: self.drain.proof().is_some(),
        });
        v1::Progress {
            service: self.service.name.to_string(),
            doing: self.drain.doing().to_owned(),
            state: state.as_str().to_owned(),
            left: counts.map(ebb_model::Counts::left),
            not_accepted: counts.map_or(0, |counts| counts.not_accepted + counts.opening),
            at_start: self.drain.tally().at_start,
            oldest_peer: oldest.as_ref().map(|(peer, _)| peer.clone()),
            oldest_age: oldest.map(|(_, age)| age),
            ending_per_minute: self.drain.ledger().ending_per_minute(self.began.mono, now.mono),
            elapsed_seconds: now.mono.since(self.began.mono).as_seconds(),
            deadline_in_seconds: say::seconds(self.drain.deadline_at().map(|at| at.since(now.mono))),
            refused: self.refused(),
            why: self.drain.why(now.mono).to_string(),
            eta: self.foreseen.at(now.mono),
        }
    }

    pub(crate) fn report(&self, outcome: Outcome, now: Now) -> Report {
        Report {
            outcome,
            began: self.began.wall,
            took: now.mono.since(self.began.mono),
            tally: self.drain.tally(),
            longest_wait: self.drain.longest_wait(now.mono),
            refused: self.refused(),
            proof: self.drain.proof().cloned(),
            leaks: self.leaks.clone(),
        }
    }
}
