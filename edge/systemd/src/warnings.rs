use std::{fmt, time::Duration};

use crate::{KillMode, RestartPolicy, Unit, UnitName};

/// systemd's own default (`DefaultTimeoutStopSec=`): a shorter limit is the unit author's choice
/// and worth a word, since it cuts what is still running.
const USUAL_STOP_LIMIT: Duration = Duration::from_secs(90);

/// What somebody who is about to stop a unit should know. None of these is a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopWarning {
    /// The unit owns no process; stopping it does not in itself end anything.
    OwnsNoProcess,
    /// Made by `systemd-run` or alike: once stopped it is gone, and nothing can start it again.
    Transient,
    /// systemd takes no stop from people for this unit.
    RefusesManualStop,
    /// What has not ended by then is killed (Debian's nginx: 5 s).
    CutsShort {
        /// `TimeoutStopSec=`.
        after: Duration,
    },
    /// Only the main process is ended, its children live on (sshd: the logins), or nobody at all.
    ChildrenSurvive {
        /// `KillMode=`.
        mode: KillMode,
    },
    /// A stop by systemd is final, but killing its processes is not: systemd starts it again.
    RestartsWhenKilled {
        /// `Restart=`.
        policy: RestartPolicy,
    },
    /// A stop runs these commands.
    Runs {
        /// `ExecStop=`.
        commands: Vec<String>,
    },
    /// These are up and are stopped too.
    StopsAlso {
        /// Directly or through others.
        units: Vec<UnitName>,
    },
    /// These are up and start it again, at the next connection or at their time.
    StartedAgainBy {
        /// Sockets, timers, paths.
        units: Vec<UnitName>,
    },
}

impl Unit {
    /// Whether it exists in memory only (systemd-run(1)), and goes when it stops.
    pub fn is_transient(&self) -> bool {
        self.fragment_path.as_deref().is_some_and(|path| path.starts_with("/run/systemd/transient/"))
    }

    /// What to know before stopping this unit.
    pub fn stop_warnings(&self) -> Vec<StopWarning> {
        let mut found = Vec::new();
        if self.is_wrapper() {
            found.push(StopWarning::OwnsNoProcess);
        }
        if self.is_transient() {
            found.push(StopWarning::Transient);
        }
        if self.refuse_manual_stop {
            found.push(StopWarning::RefusesManualStop);
        }
        if let Some(after) = self.timeout_stop.filter(|limit| *limit < USUAL_STOP_LIMIT) {
            found.push(StopWarning::CutsShort { after });
        }
        if matches!(self.kill_mode, KillMode::Process | KillMode::None) {
            found.push(StopWarning::ChildrenSurvive { mode: self.kill_mode.clone() });
        }
        if !matches!(&self.restart, RestartPolicy::No | RestartPolicy::Other(_)) {
            found.push(StopWarning::RestartsWhenKilled { policy: self.restart.clone() });
        }
        if !self.exec_stop.is_empty() {
            found.push(StopWarning::Runs { commands: self.exec_stop.clone() });
        }
        if !self.stops_with.is_empty() {
            found.push(StopWarning::StopsAlso { units: self.stops_with.clone() });
        }
        if !self.triggers_up.is_empty() {
            found.push(StopWarning::StartedAgainBy { units: self.triggers_up.clone() });
        }
        found
    }
}

impl fmt::Display for StopWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnsNoProcess => f.write_str("it owns no process: stop its instances"),
            Self::Transient => {
                f.write_str("it is transient (systemd-run): once stopped it is gone, and nothing can start it again")
            }
            Self::RefusesManualStop => f.write_str("systemd takes no manual stop for it"),
            Self::CutsShort { after } => write!(f, "what still runs after {after:?} is killed"),
            Self::ChildrenSurvive { mode } => write!(f, "child processes survive (KillMode={mode})"),
            Self::RestartsWhenKilled { policy } => {
                write!(f, "systemd starts it again if it is killed (Restart={policy})")
            }
            Self::Runs { commands } => write!(f, "a stop runs: {}", commands.join("; ")),
            Self::StopsAlso { units } => write!(f, "also stopped: {}", joined(units)),
            Self::StartedAgainBy { units } => write!(f, "started again by: {}", joined(units)),
        }
    }
}

fn joined(units: &[UnitName]) -> String {
    units.iter().map(UnitName::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::tests::unit;

    #[test]
    fn debians_nginx() {
        let nginx = unit(
            "Type=forking\nMainPID=7\nTimeoutStopUSec=5s\nKillMode=mixed\nRestart=no
ExecStop={ path=/sbin/ssd ; argv[]=/sbin/ssd --stop --retry QUIT/5 ; ignore_errors=yes ; }",
        );
        let commands = vec!["/sbin/ssd --stop --retry QUIT/5".to_owned()];
        let wanted = [StopWarning::CutsShort { after: Duration::from_secs(5) }, StopWarning::Runs { commands }];
        assert_eq!(nginx.stop_warnings(), wanted);
    }

    #[test]
    fn debians_sshd() {
        let ssh = unit("Type=notify\nTimeoutStopUSec=1min 30s\nKillMode=process\nRestart=on-failure");
        let wanted = [
            StopWarning::ChildrenSurvive { mode: KillMode::Process },
            StopWarning::RestartsWhenKilled { policy: RestartPolicy::OnFailure },
        ];
        assert_eq!(ssh.stop_warnings(), wanted);
    }

    #[test]
    fn company_is_named_only_if_up() {
        let mut unit = unit("RefuseManualStop=yes\nRequiredBy=a.service\nTriggeredBy=x.socket");
        assert_eq!(unit.stop_warnings(), [StopWarning::RefusesManualStop]);
        unit.stops_with = unit.required_by.clone();
        unit.triggers_up = unit.triggered_by.clone();
        let said: Vec<_> = unit.stop_warnings().iter().map(ToString::to_string).collect();
        assert_eq!(said[1..], ["also stopped: a.service", "started again by: x.socket"]);
    }
}
