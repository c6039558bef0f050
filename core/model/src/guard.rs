//! Guards: what was measured, and what it was judged to be.

use std::collections::BTreeSet;
use std::fmt;

use crate::Wall;

/// What a guard says, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing speaks against it.
    Pass,
    /// Somebody should know.
    Warn,
    /// Not without a reason.
    Refuse,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Warn, Self::Refuse];

    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        }
    }

    /// From its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Of what kind a measured number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Percent of a whole that are free.
    PercentFree,
    /// Seconds since something happened.
    SecondsOld,
    /// Seconds for which something is valid still; negative: since when it is not.
    SecondsLeft,
    /// How many were found.
    Count,
    /// The code with which a command ended.
    ExitCode,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::PercentFree, Self::SecondsOld, Self::SecondsLeft, Self::Count, Self::ExitCode];

    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PercentFree => "percent_free",
            Self::SecondsOld => "seconds_old",
            Self::SecondsLeft => "seconds_left",
            Self::Count => "count",
            Self::ExitCode => "exit_code",
        }
    }

    /// From its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == name)
    }
}

/// A number that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The number.
    pub value: f64,
    /// In what.
    pub unit: Unit,
}

/// One guard, asked once.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// Its name in the configuration.
    pub name: String,
    /// What it says.
    pub verdict: Verdict,
    /// Why, in a line. What came from outside in it is printable.
    pub why: String,
    /// The number behind it, where there is one.
    pub measured: Option<Measured>,
    /// What it found amiss, by name: units that failed, files that expire. Empty where it passes.
    pub amiss: BTreeSet<String>,
    /// It says whether to begin. That it is worse at the end (a colleague has logged in, a backup is a day older) is
    /// nothing that the work in between has broken.
    pub of_beginning: bool,
}

/// All guards, asked together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checks {
    /// When.
    pub at: Wall,
    /// Each, by name.
    pub guards: Vec<Guard>,
}

impl Checks {
    /// The gravest verdict; pass if nothing was asked.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.guards.iter().map(|guard| guard.verdict).max().unwrap_or(Verdict::Pass)
    }

    /// Those that refuse.
    pub fn refusing(&self) -> impl Iterator<Item = &Guard> {
        self.guards.iter().filter(|guard| guard.verdict == Verdict::Refuse)
    }
}

/// What was observed for a guard. What could not be told is no fact: it comes as the reason why not.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// For each step whether we may and can.
    Permits(Vec<Permit>),
    /// A file system.
    Disk {
        /// Blocks that an ordinary user may still write, in percent of what such users may use.
        free_percent: f64,
        /// Inodes that are free, in percent; none where the file system has no fixed number.
        inodes_free_percent: Option<f64>,
    },
    /// Units that have failed, by name.
    FailedUnits(BTreeSet<String>),
    /// Who is logged in, the asker's own session left out.
    Logins(Vec<Login>),
    /// Certificates: each file, and until when it is valid or why that cannot be told.
    Certificates(Vec<(String, Result<Wall, String>)>),
    /// Whether the kernel calls its clock synchronised.
    Clock {
        /// It does.
        synchronised: bool,
    },
    /// For each service whether another member answers at its door.
    Others(Vec<Others>),
    /// The newest backup.
    Backup {
        /// When it was made.
        at: Wall,
        /// Which one.
        what: String,
    },
    /// A command has ended.
    Ended {
        /// With which code; none if by a signal.
        code: Option<i32>,
        /// The first line that it said.
        line: String,
    },
}

/// Whether one step could be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// What, as in `shut gates`.
    pub step: &'static str,
    /// Why not.
    pub granted: Result<(), String>,
    /// Nothing can be done without it; else only something is lost.
    pub needed: bool,
}

/// Somebody who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Login {
    /// Who.
    pub user: String,
    /// Where, as in `pts/3`.
    pub terminal: String,
    /// From where, if from another machine.
    pub from: Option<String>,
    /// The first process of the login; 0 if it is not known.
    pub leader: u32,
}

/// The other members for one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Others {
    /// Which service.
    pub service: String,
    /// Each configured address, and why nobody answers there.
    pub members: Vec<(String, Result<(), String>)>,
}

/// Which way a guard has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// It was worse.
    Better,
    /// It was better.
    Worse,
    /// It was the same.
    Same,
    /// It was not asked before.
    New,
    /// It is not asked any more.
    Gone,
}

impl Trend {
    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }
}

/// One guard before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub name: String,
    /// Which way.
    pub trend: Trend,
    /// As it was, if it was asked.
    pub before: Option<Guard>,
    /// As it is, if it was asked.
    pub after: Option<Guard>,
    /// It speaks against coming back: what was well before is not any more.
    pub regression: bool,
}
