//! A roll over pools as data: what may be out at once, the steps of each server, and the journal of what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::{Label, Span, Wall, Work};

/// What a pool can spare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Servers of which one service each is a member.
    pub members: BTreeSet<Label>,
    /// So many may be out at once, whoever took them out.
    pub max_unavailable: usize,
    /// So many must serve at any time.
    pub min_available: usize,
    /// Sessions that one member can carry; none if nobody said.
    pub capacity: Option<u64>,
    /// More than half must serve, or the pool stops by itself.
    pub quorum: bool,
    /// Members that must not be out together with those of another group; a member may be in none.
    pub groups: Vec<BTreeSet<Label>>,
}

/// What a roll is: fixed when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollPlan {
    /// The servers to be worked on, once each, whatever number of pools they are in.
    pub targets: BTreeSet<Label>,
    /// The pools that they are in, with members that are no targets.
    pub pools: BTreeMap<Label, Budget>,
    /// What is done on each.
    pub work: Work,
    /// So many come first, and are proven before any other begins.
    pub canary: usize,
    /// More failures than this stop it.
    pub max_failures: usize,
    /// How long a server must be well in service before it counts as done.
    pub soak: Span,
}

/// A part of what is done on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberStep {
    /// Newcomers are sent elsewhere.
    SteerAway,
    /// Wait until they come no more.
    Settle,
    /// The maintenance on the server itself: guards, drain, work, verify, open.
    Maintain,
    /// Newcomers are sent here again.
    SteerBack,
    /// See whether it stays well.
    Soak,
    /// Everything back as it was, because the roll was aborted.
    Undo,
}

impl MemberStep {
    /// All but the way back, in order.
    pub const FORWARD: [Self; 5] = [Self::SteerAway, Self::Settle, Self::Maintain, Self::SteerBack, Self::Soak];

    /// As it is written in a journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SteerAway => "steer away",
            Self::Settle => "settle",
            Self::Maintain => "maintain",
            Self::SteerBack => "steer back",
            Self::Soak => "soak",
            Self::Undo => "undo",
        }
    }
}

impl fmt::Display for MemberStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for MemberStep {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::FORWARD.into_iter().chain([Self::Undo]);
        all.into_iter().find(|step| step.as_str() == text).ok_or_else(|| format!("unknown step `{text}`"))
    }
}

/// What a line of a roll's journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollEntry {
    /// Somebody asked for it, or asked for it to go on: what failed is tried again.
    ContinueAsked,
    /// Somebody asked for its end: no server is begun any more, and those that are out come back.
    AbortAsked,
    /// A step of a server began.
    Began(Label, MemberStep),
    /// A step of a server is done.
    Done(Label, MemberStep),
    /// A step of a server failed.
    Failed(Label, MemberStep),
    /// The roll is over.
    Over,
}

/// A line of the journal, which is only ever added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollLine {
    /// When.
    pub at: Wall,
    /// What.
    pub entry: RollEntry,
    /// In words; who asked, what came of it, or why it failed.
    pub text: String,
}

/// One execution of a roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// What was planned.
    pub plan: RollPlan,
    /// What was done.
    pub journal: Vec<RollLine>,
}

/// What is seen of one member of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Newcomers are let in.
    Yes {
        /// Sessions it has.
        sessions: u64,
    },
    /// They are not: held, stopped, or down; and by whom or why.
    No {
        /// In words.
        why: String,
    },
    /// Nobody knows: its agent was not heard of for too long.
    Unknown {
        /// In words.
        why: String,
    },
}

/// What is seen of the pools, by pool and server. What is missing is unknown.
pub type Sight = BTreeMap<Label, BTreeMap<Label, Serving>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_back() {
        for step in MemberStep::FORWARD.into_iter().chain([MemberStep::Undo]) {
            assert_eq!(step.to_string().parse(), Ok(step));
        }
        assert!("drain".parse::<MemberStep>().is_err());
    }
}
