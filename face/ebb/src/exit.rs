//! Exit codes: the only place that gives them. `docs/exit-codes.md` is checked against it.

use std::process::ExitCode;

use ebb_wire::v1::{DrainReport, Frame, Guard, Outcome, RefusalKind, StepState, Verdict};

/// How a command ended, for the caller's `$?`. Codes are stable: never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All that was asked is done, or nothing had to be done.
    Done = 0,
    /// Something failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The deadline was reached, sessions remain.
    DeadlineReached = 3,
    /// A connection came in although the gate should have been shut.
    LeakSeen = 4,
    /// Another requester's hold stands.
    HeldByOther = 5,
    /// The service did not end well, or somebody else ended it.
    EndedBadly = 6,
    /// Ctrl-C: the operator left, hold and gate stay.
    Detached = 7,
    /// The caller may not.
    NotPermitted = 8,
    /// This kernel or system cannot.
    Unsupported = 9,
    /// No service of that name, or several.
    NoSuchService = 10,
}

impl Exit {
    /// All of them, in order of their codes.
    #[cfg(test)]
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::DeadlineReached,
        Self::LeakSeen,
        Self::HeldByOther,
        Self::EndedBadly,
        Self::Detached,
        Self::NotPermitted,
        Self::Unsupported,
        Self::NoSuchService,
    ];

    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The exit of a code, as a child's; anything unknown is a failure.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            9 => Self::Unsupported,
            _ => Self::Failed,
        }
    }

    /// What the code means, in a sentence.
    #[cfg(test)]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing had to be done",
            Self::Failed => "something failed",
            Self::Usage => "the command line makes no sense",
            Self::DeadlineReached => "the deadline was reached, sessions remain, the gate stays shut",
            Self::LeakSeen => "a connection came in although the gate should have been shut",
            Self::HeldByOther => "another requester still holds the service",
            Self::EndedBadly => {
                "the service did not stop well, or somebody else ended it, or released it in the middle of a drain"
            }
            Self::Detached => "left by Ctrl-C or SIGTERM; hold and gate stay",
            Self::NotPermitted => "not permitted; run it as root",
            Self::Unsupported => "this kernel or system cannot do it",
            Self::NoSuchService => "no service has that name, or several have",
        }
    }

    /// With several services one code must speak for all: the gravest. A leak is a broken promise and comes first;
    /// then what went wrong, what could not begin, and what is merely not over yet.
    const fn gravity(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Detached => 1,
            Self::DeadlineReached => 2,
            Self::HeldByOther => 3,
            Self::Usage => 4,
            Self::NoSuchService => 5,
            Self::Unsupported => 6,
            Self::NotPermitted => 7,
            Self::EndedBadly => 8,
            Self::Failed => 9,
            Self::LeakSeen => 10,
        }
    }

    /// The graver of two.
    #[must_use]
    pub const fn graver(self, other: Self) -> Self {
        if other.gravity() > self.gravity() { other } else { self }
    }

    /// What one frame of an answer means for the code.
    #[must_use]
    pub fn of(frame: &Frame) -> Self {
        match frame {
            Frame::Drained(report) => Self::of_drain(report),
            Frame::Resumed(report) if report.open => Self::Done,
            Frame::Resumed(report) if report.remaining.is_empty() => Self::Failed,
            Frame::Resumed(_) => Self::HeldByOther,
            Frame::Ended(report) if report.failed > 0 => Self::Failed,
            Frame::Refused(refusal) => refusal.kind.into(),
            Frame::Finding(_) => Self::Failed,
            Frame::Step(step) if step.state == StepState::Failed => Self::Failed,
            Frame::Fault(fault) if !fault.warning => Self::Failed,
            Frame::Guard(guard) => Self::of_guard(guard),
            Frame::Noticed(noticed) if !noticed.sent => Self::Failed,
            // A hold released with others' left is what `release` promises: it opens no gate.
            Frame::Event(_)
            | Frame::Progress(_)
            | Frame::Session(_)
            | Frame::Service(_)
            | Frame::Hold(_)
            | Frame::Plan(_)
            | Frame::Note(_)
            | Frame::Status(_)
            | Frame::Fault(_)
            | Frame::Checked(_)
            | Frame::Setting(_)
            | Frame::Ended(_)
            | Frame::Listed(_)
            | Frame::Eta(_)
            | Frame::Notifier(_)
            | Frame::Noticed(_)
            | Frame::Held(_)
            | Frame::Released(_)
            | Frame::Step(_)
            | Frame::Maintenance(_)
            | Frame::Done => Self::Done,
        }
    }

    /// Of two lists only what became worse counts: a refusal that was there before is known.
    fn of_guard(guard: &Guard) -> Self {
        let bad = match guard.trend {
            Some(_) => guard.regression,
            None => guard.verdict == Some(Verdict::Refuse),
        };
        if bad { Self::Failed } else { Self::Done }
    }

    fn of_drain(report: &DrainReport) -> Self {
        if !report.leaks.is_empty() {
            return Self::LeakSeen;
        }
        match report.outcome {
            Outcome::Drained | Outcome::Stopped => Self::Done,
            Outcome::DeadlineReached => Self::DeadlineReached,
            Outcome::StopFailed | Outcome::EndedElsewhere | Outcome::Released => Self::EndedBadly,
            Outcome::Failed => Self::Failed,
            Outcome::Detached => Self::Detached,
        }
    }
}

impl From<RefusalKind> for Exit {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Failed => Self::Failed,
            RefusalKind::Usage => Self::Usage,
            RefusalKind::HeldByOther => Self::HeldByOther,
            RefusalKind::CalledOff => Self::EndedBadly,
            RefusalKind::NotPermitted => Self::NotPermitted,
            RefusalKind::Unsupported => Self::Unsupported,
            RefusalKind::NoSuchService => Self::NoSuchService,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_documentation_lists_each_code_with_its_meaning() {
        let page = include_str!("../../../docs/exit-codes.md");
        for (number, exit) in Exit::ALL.iter().enumerate() {
            assert_eq!(usize::from(exit.code()), number);
            let row = format!("| {number} | {} |", exit.meaning());
            assert!(page.contains(&row), "docs/exit-codes.md lacks: {row}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit()).count();
        assert_eq!(rows, Exit::ALL.len(), "docs/exit-codes.md has rows of no code");
    }

    #[test]
    fn each_outcome_has_its_code() {
        for (outcome, code) in [
            (Outcome::Drained, 0),
            (Outcome::Stopped, 0),
            (Outcome::StopFailed, 6),
            (Outcome::DeadlineReached, 3),
            (Outcome::EndedElsewhere, 6),
            (Outcome::Released, 6),
            (Outcome::Failed, 1),
            (Outcome::Detached, 7),
        ] {
            let report = DrainReport { outcome, ..fixture::report() };
            assert_eq!(Exit::of(&Frame::Drained(report.clone())).code(), code, "{outcome:?}");
            let leaked = DrainReport { leaks: vec![fixture::session()], ..report };
            assert_eq!(Exit::of(&Frame::Drained(leaked)), Exit::LeakSeen);
        }
    }

    #[test]
    fn each_refusal_has_its_code() {
        for (kind, code) in [
            (RefusalKind::Failed, 1),
            (RefusalKind::Usage, 2),
            (RefusalKind::HeldByOther, 5),
            (RefusalKind::CalledOff, 6),
            (RefusalKind::NotPermitted, 8),
            (RefusalKind::Unsupported, 9),
            (RefusalKind::NoSuchService, 10),
        ] {
            assert_eq!(Exit::of(&Frame::Refused(fixture::refusal(kind))).code(), code, "{kind:?}");
        }
    }

    #[test]
    fn a_guard_that_refuses_or_has_become_worse_is_no_success() {
        use ebb_wire::v1::Trend;
        for (verdict, trend, regression, exit) in [
            (Verdict::Pass, None, false, Exit::Done),
            (Verdict::Warn, None, false, Exit::Done),
            (Verdict::Refuse, None, false, Exit::Failed),
            (Verdict::Refuse, Some(Trend::Same), false, Exit::Done),
            (Verdict::Warn, Some(Trend::Worse), true, Exit::Failed),
            (Verdict::Warn, Some(Trend::Worse), false, Exit::Done),
        ] {
            let guard = Guard { verdict: Some(verdict), trend, regression, ..fixture::guard() };
            assert_eq!(Exit::of(&Frame::Guard(guard)), exit, "{verdict:?} {trend:?}");
        }
    }

    #[test]
    fn a_resume_that_opens_nothing_is_no_success() {
        let open = fixture::resumed();
        assert_eq!(Exit::of(&Frame::Resumed(open.clone())), Exit::Done);
        let shut = ebb_wire::v1::ResumeReport { open: false, ..open };
        assert_eq!(Exit::of(&Frame::Resumed(shut.clone())), Exit::Failed);
        let held = ebb_wire::v1::ResumeReport { remaining: vec![fixture::hold()], ..shut };
        assert_eq!(Exit::of(&Frame::Resumed(held)), Exit::HeldByOther);
    }

    #[test]
    fn of_several_the_gravest_speaks() {
        assert_eq!(Exit::Done.graver(Exit::DeadlineReached), Exit::DeadlineReached);
        assert_eq!(Exit::LeakSeen.graver(Exit::Failed), Exit::LeakSeen);
        assert_eq!(Exit::DeadlineReached.graver(Exit::Done), Exit::DeadlineReached);
        let mut gravities: Vec<_> = Exit::ALL.iter().map(|exit| exit.gravity()).collect();
        gravities.sort_unstable();
        gravities.dedup();
        assert_eq!(gravities.len(), Exit::ALL.len(), "two codes of one gravity: the order of services would decide");
    }
}
