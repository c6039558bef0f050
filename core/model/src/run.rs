//! Maintenance of a server as data: the plan that does not change, its steps, and the journal of what was done.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Cidr, Requester, ServiceName, Span, Then, Wall, Who};

/// What is done while the server is out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// By people; they say when it is over.
    ByHand,
    /// A command: program and arguments, no shell. It may reboot the server.
    Command(Vec<String>),
    /// The server is rebooted.
    Reboot,
}

/// What a maintenance is: fixed when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenancePlan {
    /// In whose name the server is held.
    pub requester: Requester,
    /// Why.
    pub reason: String,
    /// The person who asked for it.
    pub by: Who,
    /// Services drained side by side, in the order in which that is done; they are started in the other order.
    pub layers: Vec<Vec<ServiceName>>,
    /// Services that stay open, beside those that the configuration leaves open.
    pub not: Vec<ServiceName>,
    /// For how long it is meant.
    pub meant_for: Option<Span>,
    /// Bring the server back then, by ourselves.
    pub reopen: bool,
    /// Who may come in meanwhile.
    pub except: BTreeSet<Cidr>,
    /// People are told, and it begins after this long.
    pub delay: Span,
    /// Stop waiting for the sessions of a service after this long.
    pub deadline: Option<Span>,
    /// What happens then.
    pub then: Then,
    /// What is done.
    pub work: Work,
    /// Everything but stop and work, and then back.
    pub drill: bool,
    /// How long the server is watched after it was opened.
    pub watch: Span,
    /// Guards that refuse are passed over, for this reason.
    pub override_guards: Option<String>,
}

/// A part of a maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Tell people that it comes, and wait.
    Announce,
    /// Ask the guards.
    Guards,
    /// Hold the server: all gates are shut.
    Hold,
    /// Drain one layer of services, and stop them.
    Drain(usize),
    /// Do the work.
    Work,
    /// End the drains that are under way still.
    TakeBack,
    /// Start one layer of services, and verify them behind the shut gates.
    Start(usize),
    /// Ask the guards again, and compare.
    Check,
    /// Release the server: all gates are opened.
    Open,
    /// See whether it stays well.
    Watch,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announce => f.pad("announce"),
            Self::Guards => f.pad("guards"),
            Self::Hold => f.pad("hold"),
            Self::Drain(layer) => f.pad(&format!("drain {}", layer + 1)),
            Self::Work => f.pad("work"),
            Self::TakeBack => f.pad("take back"),
            Self::Start(layer) => f.pad(&format!("start {}", layer + 1)),
            Self::Check => f.pad("check"),
            Self::Open => f.pad("open"),
            Self::Watch => f.pad("watch"),
        }
    }
}

impl std::str::FromStr for Step {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let layer = |number: &str| {
            let number: Option<usize> = number.parse().ok();
            number.and_then(|number| number.checked_sub(1)).ok_or_else(|| format!("unknown step `{text}`"))
        };
        match text.split_once(' ') {
            Some(("drain", number)) => layer(number).map(Self::Drain),
            Some(("start", number)) => layer(number).map(Self::Start),
            _ => {
                let plain = [
                    Self::Announce,
                    Self::Guards,
                    Self::Hold,
                    Self::Work,
                    Self::TakeBack,
                    Self::Check,
                    Self::Open,
                    Self::Watch,
                ];
                plain.into_iter().find(|step| step.to_string() == text).ok_or_else(|| format!("unknown step `{text}`"))
            }
        }
    }
}

/// What a line of the journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Somebody asked for it, or asked again to go on.
    StartAsked,
    /// Somebody asked for the way back; regressions are accepted for this reason.
    FinishAsked {
        /// Why a check that is worse than before is no obstacle.
        accept_worse: Option<String>,
    },
    /// A step began.
    Began(Step),
    /// A step is done.
    Done(Step),
    /// A step cannot be done until somebody does something.
    Failed(Step),
    /// The run is over.
    Over,
}

/// A line of the journal, which is only ever added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Wall,
    /// In which boot.
    pub boot_id: String,
    /// What.
    pub entry: Entry,
    /// In words; who asked, what came of it, or why it failed.
    pub text: String,
}

/// One execution of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number on this server, from 1.
    pub number: u64,
    /// What was planned.
    pub plan: MaintenancePlan,
    /// What was done.
    pub journal: Vec<Line>,
}

impl Run {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.journal.iter().any(|line| line.entry == Entry::Over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_back() {
        use Step::{Announce, Check, Drain, Guards, Hold, Open, Start, TakeBack, Watch, Work};
        for step in [Announce, Guards, Hold, Drain(0), Drain(7), Work, TakeBack, Start(2), Check, Open, Watch] {
            assert_eq!(step.to_string().parse(), Ok(step));
        }
        for bad in ["drain", "drain 0", "drain x", "", "start -1"] {
            assert!(bad.parse::<Step>().is_err(), "{bad}");
        }
    }
}
