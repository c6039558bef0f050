//! What a trial came to.

use crate::{Step, Tally};

/// One command that was run, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// Which step it was.
    pub step: Step,
    /// As it would be typed.
    pub command: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Newcomers after `ebb resume`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Back {
    /// On server-a since it was resumed.
    pub to_a: u64,
    /// On server-b in the same time.
    pub to_b: u64,
    /// How long it was waited for them, in seconds.
    pub seconds: f64,
}

/// The figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Everything that the clients counted.
    pub tally: Tally,
    /// Sessions on both servers when the drain began.
    pub at_drain: u64,
    /// Of these, on the server that was drained.
    pub at_drain_a: u64,
    /// The commands, in order.
    pub ran: Vec<Ran>,
    /// Newcomers after the resume; none if it did not come to that, because the drain did not end well.
    pub back: Option<Back>,
    /// The first harms, in words.
    pub harms: Vec<String>,
    /// Release of the kernel.
    pub kernel: String,
    /// Login name, or the number of a user without one.
    pub user: String,
    /// That user's number.
    pub uid: u32,
    /// Whether it was made in a user namespace, hence without any rights.
    pub unprivileged: bool,
    /// From beginning to end, in seconds.
    pub seconds: f64,
}

/// Something that did not go as it must; any one makes the trial fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Sessions were harmed.
    Harmed(u64),
    /// Newcomers found no server.
    Failed(u64),
    /// Nobody was moved: the gate was never shut, and the rest proves nothing.
    NobodyMoved,
    /// A command did not end well.
    Command(Step),
    /// No newcomers came to server-a after it was resumed.
    NobodyBack,
}

impl Report {
    /// How long `ebb drain` took, in seconds.
    #[must_use]
    pub fn drain_seconds(&self) -> f64 {
        self.ran.iter().find(|ran| ran.step == Step::Drain).map_or(0.0, |ran| ran.seconds)
    }

    /// Everything that did not go as it must.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.tally.harmed > 0 {
            faults.push(Fault::Harmed(self.tally.harmed));
        }
        if self.tally.failed > 0 {
            faults.push(Fault::Failed(self.tally.failed));
        }
        if self.tally.moved == 0 {
            faults.push(Fault::NobodyMoved);
        }
        let commands = self.ran.iter().filter(|ran| ran.code != Some(0));
        faults.extend(commands.map(|ran| Fault::Command(ran.step)));
        if self.back.is_some_and(|back| back.to_a == 0 || back.to_b == 0) {
            faults.push(Fault::NobodyBack);
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let ran = |step| Ran { step, command: String::new(), code: Some(0), seconds: 7.0 };
        Report {
            tally: Tally { served: 300, moved: 50, refused: 50, ..Tally::default() },
            at_drain: 300,
            at_drain_a: 150,
            ran: vec![ran(Step::Services), ran(Step::Drain), ran(Step::Status), ran(Step::Resume)],
            back: Some(Back { to_a: 3, to_b: 3, seconds: 1.0 }),
            harms: Vec::new(),
            kernel: "6.1".to_owned(),
            user: "root".to_owned(),
            uid: 0,
            unprivileged: false,
            seconds: 20.0,
        }
    }

    #[test]
    fn a_good_trial_has_no_fault() {
        assert_eq!(good().faults(), []);
        assert!((good().drain_seconds() - 7.0).abs() < f64::EPSILON);
    }

    #[test]
    fn every_figure_can_fail() {
        fn faults_of(spoil: impl FnOnce(&mut Report)) -> Vec<Fault> {
            let mut report = good();
            spoil(&mut report);
            report.faults()
        }
        assert_eq!(faults_of(|report| report.tally.harmed = 2), [Fault::Harmed(2)]);
        assert_eq!(faults_of(|report| report.tally.failed = 1), [Fault::Failed(1)]);
        assert_eq!(faults_of(|report| report.tally.moved = 0), [Fault::NobodyMoved]);
        assert_eq!(faults_of(|report| report.ran[1].code = Some(4)), [Fault::Command(Step::Drain)]);
        assert_eq!(faults_of(|report| report.ran[3].code = None), [Fault::Command(Step::Resume)]);
        let only = |to_a, to_b| faults_of(|report| report.back = Some(Back { to_a, to_b, seconds: 8.0 }));
        assert_eq!(only(0, 9), [Fault::NobodyBack]);
        assert_eq!(only(9, 0), [Fault::NobodyBack]);
    }
}
