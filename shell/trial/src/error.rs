//! What can go wrong with a trial itself; harmed sessions are no error but its result.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use ebb_kernel::netns::{self, Forbidden};

/// Why there was no trial, or no end of it. Each completes "failed to ...".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No directory for temporary files where programs can be run.
    #[error("find a directory for temporary files where programs can be run (tried {tried})")]
    NoPlace {
        /// Where we looked.
        tried: String,
        /// What was wrong with the last one.
        source: io::Error,
    },
    /// No namespaces, or no network in them.
    #[error("make the trial's own network")]
    World(#[source] netns::Error),
    /// Something needed from the system was refused.
    #[error("{what}")]
    Start {
        /// What.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A process of the trial ended before its time.
    #[error("{doing}: {who} ended unexpectedly ({status})")]
    Lost {
        /// What was being done.
        doing: &'static str,
        /// Which process.
        who: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// The clients stopped telling.
    #[error("{doing}: the clients tell nothing any more")]
    Mute {
        /// What was being done.
        doing: &'static str,
    },
    /// It took longer than it may.
    #[error("{doing}: a trial may take {seconds} s, and they are over")]
    TooLong {
        /// What was being done.
        doing: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// The process that began the trial is gone.
    #[error("{doing}: whoever began the trial has left")]
    Left {
        /// What was being done.
        doing: &'static str,
    },
    /// The place that was made for the trial is not there.
    #[error("find {}", dir.display())]
    NoDir {
        /// Where it should be.
        dir: PathBuf,
    },
}

/// For `map_err`: an answer of the system to an attempt.
pub(crate) fn started(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Start { what, source }
}

/// The kernel was built without a kind of interface, or cannot load its module.
const EOPNOTSUPP: i32 = 95;
const ROOT: &str = "run it as root, who needs no user namespace: `sudo ebb try`";

impl Error {
    /// Whether this system cannot or does not allow it, so that trying again is of no use.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::World(netns::Error::Forbidden { .. } | netns::Error::NoPermission { .. }) => true,
            Self::World(netns::Error::Netlink(error)) => error.errno() == Some(EOPNOTSUPP),
            Self::NoPlace { .. } => true,
            _ => false,
        }
    }

    /// Exactly what to do about it, in one line; none where nothing is known to help.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let lines = match self {
            Self::World(netns::Error::Forbidden { why, .. }) => help_for(*why, &binary()),
            Self::World(netns::Error::NoPermission { .. }) => vec![
                "in a container, start it with --cap-add SYS_ADMIN --cap-add NET_ADMIN and without seccomp and AppArmor"
                    .to_owned(),
                "or run it on the machine itself".to_owned(),
            ],
            Self::World(netns::Error::Netlink(_)) if self.is_unsupported() => {
                vec!["the kernel lacks veth or bridge: `sudo modprobe -a veth bridge`, then again".to_owned()]
            }
            Self::NoPlace { .. } => vec!["set TMPDIR to a directory of yours that is not mounted noexec".to_owned()],
            Self::TooLong { .. } => {
                vec!["this machine is busy or slow; fewer sessions are easier: `ebb try --sessions 50`".to_owned()]
            }
            _ => return None,
        };
        Some(lines.join("; "))
    }
}

fn help_for(why: Forbidden, binary: &str) -> Vec<String> {
    let or = |line: &str| vec![ROOT.to_owned(), line.to_owned()];
    match why {
        Forbidden::AppArmor => vec![
            ROOT.to_owned(),
            "or allow it until the next boot: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`".to_owned(),
            format!(
                "or allow it for ebb alone, for good: `echo 'abi <abi/4.0>, include <tunables/global> profile ebb {binary} flags=(unconfined) {{ userns, }}' \
                 | sudo tee /etc/apparmor.d/ebb && sudo apparmor_parser -r /etc/apparmor.d/ebb`"
            ),
        ],
        Forbidden::UnprivilegedClone => {
            or("or allow it until the next boot: `sudo sysctl kernel.unprivileged_userns_clone=1`")
        }
        Forbidden::MaxZero => or("or allow it until the next boot: `sudo sysctl user.max_user_namespaces=10000`"),
        Forbidden::LimitReached => {
            or("or raise the limit until the next boot: `sudo sysctl user.max_user_namespaces=100000`")
        }
        Forbidden::Unsaid => vec![
            "in a container, start it with --cap-add SYS_ADMIN --cap-add NET_ADMIN and without seccomp and AppArmor"
                .to_owned(),
            "elsewhere, run it as root: `sudo ebb try`".to_owned(),
        ],
        _ => vec![ROOT.to_owned()],
    }
}

fn binary() -> String {
    std::env::current_exe().map_or_else(|_| "/usr/bin/ebb".to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(why: Forbidden) -> Error {
        Error::World(netns::Error::Forbidden { why, source: io::Error::from_raw_os_error(1) })
    }

    #[test]
    fn what_is_forbidden_says_exactly_what_to_do() {
        for (why, typed) in [
            (Forbidden::AppArmor, "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
            (Forbidden::AppArmor, "userns,"),
            (Forbidden::UnprivilegedClone, "sudo sysctl kernel.unprivileged_userns_clone=1"),
            (Forbidden::MaxZero, "sudo sysctl user.max_user_namespaces=10000"),
            (Forbidden::LimitReached, "user.max_user_namespaces"),
            (Forbidden::NoKernelSupport, "sudo ebb try"),
            (Forbidden::Unsaid, "--cap-add SYS_ADMIN"),
        ] {
            let error = forbidden(why);
            assert!(error.is_unsupported(), "{why}");
            let help = error.help().unwrap();
            assert!(help.contains(typed) && help.contains("sudo ebb try"), "{why}: {help}");
        }
    }

    #[test]
    fn a_slow_machine_is_no_lack_of_support() {
        let error = Error::TooLong { doing: "drain chat", seconds: 60 };
        assert!(!error.is_unsupported());
        assert_eq!(error.to_string(), "drain chat: a trial may take 60 s, and they are over");
    }
}
