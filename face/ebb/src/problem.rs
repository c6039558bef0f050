//! What can go wrong in the face itself: kind, cause, hint, exit code.
//!
//! What the agent refuses comes as a frame and is no problem here; see [`crate::render::common`].

use std::error::Error;
use std::io;
use std::path::PathBuf;

use ebb_agent::{StartError, UninstallError};
use ebb_link::LinkError;
use ebb_wire::v1::{Refusal, RefusalKind};

use crate::exit::Exit;

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Standard output could not be written.
    #[error("failed to write the answer")]
    Output(#[source] io::Error),
    /// Something needed from the system to run at all is missing.
    #[error("failed to start")]
    Start(#[source] io::Error),
    /// The agent could not be started.
    #[error("failed to start the agent")]
    Agent {
        /// Why.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
        /// The code it fixes.
        kind: RefusalKind,
        /// What helps.
        help: Option<String>,
    },
    /// The agent could not be asked.
    #[error("failed to ask the agent")]
    Link(#[from] LinkError),
    /// The agent ended before its answer was complete.
    #[error("the agent ended in the middle of its answer")]
    CutShort,
    /// A question must be asked, and there is nobody to ask.
    #[error("this asks before it acts, and there is no terminal to ask at")]
    NobodyToAsk,
    /// The answer to a question could not be read.
    #[error("failed to read your answer")]
    Answer(#[source] io::Error),
    /// The gates of all holds could not be shut.
    #[error("failed to shut the gates of all holds: {0}")]
    Gate(String),
    /// The configuration has no such key.
    #[error("there is no key `{asked}`")]
    NoSuchKey {
        /// As it was typed, printable.
        asked: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// A man page could not be written.
    #[error("failed to write man pages to {}", dir.display())]
    Man {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// ebb could not be removed.
    #[error("failed to remove ebb")]
    Uninstall(#[from] UninstallError),
    /// There was no trial, or no end of it.
    #[error("failed to run the trial")]
    Trial(#[from] ebb_trial::Error),
}

impl From<StartError> for Problem {
    fn from(cause: StartError) -> Self {
        let denied = match &cause {
            StartError::Store(error) => error.is_not_permitted(),
            StartError::Config(_) | StartError::Resident { .. } => false,
            StartError::Unwritable { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            StartError::System { source, .. } => {
                source.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
            }
        };
        let (kind, help) = match &cause {
            _ if denied => (RefusalKind::NotPermitted, Some("run it as root, for example with sudo".to_owned())),
            StartError::Config(error) => {
                let faults: Vec<String> = error.faults.iter().map(ToString::to_string).collect();
                let help = "mend the file, or name another with --config; `ebb config check` says more";
                // One is in the error's own words.
                let all = if faults.len() > 1 { format!("{}\n", faults.join("\n")) } else { String::new() };
                (RefusalKind::Failed, Some(all + help))
            }
            StartError::Resident { .. } => (
                RefusalKind::Failed,
                Some("it serves every command already; `systemctl status ebb-agent` shows it".to_owned()),
            ),
            StartError::Store(_) | StartError::Unwritable { .. } | StartError::System { .. } => {
                (RefusalKind::Failed, None)
            }
        };
        Self::Agent { cause: Box::new(cause), kind, help }
    }
}

impl Problem {
    /// The reader has gone: no failure of ours, and nobody to tell.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Its kind as the wire has it.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Agent { kind, .. } => *kind,
            Self::NobodyToAsk | Self::NoSuchKey { .. } => RefusalKind::Usage,
            Self::Uninstall(UninstallError::NotRoot) => RefusalKind::NotPermitted,
            Self::Trial(cause) if cause.is_unsupported() => RefusalKind::Unsupported,
            Self::Output(_)
            | Self::Start(_)
            | Self::Link(_)
            | Self::CutShort
            | Self::Answer(_)
            | Self::Man { .. }
            | Self::Gate(_)
            | Self::Uninstall(_)
            | Self::Trial(_) => RefusalKind::Failed,
        }
    }

    /// Its exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.is_broken_pipe() { Exit::Done } else { self.kind().into() }
    }

    /// What helps.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Agent { help, .. } => help.clone(),
            Self::NobodyToAsk => Some("add --yes to do it unasked, or --dry-run to see what it would be".to_owned()),
            Self::NoSuchKey { near, .. } => Some(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`ebb config explain` lists all keys".to_owned(),
            }),
            Self::CutShort => Some("`ebb status` shows what stands now; the same command again goes on".to_owned()),
            Self::Trial(error) => error.help().map(|help| help.to_string()),
            Self::Uninstall(UninstallError::NotUsual { path }) => {
                Some(format!("if nobody uses it any more: rm -r {}", path.display()))
            }
            Self::Uninstall(UninstallError::NotRoot) => Some("run it as root, for example with sudo".to_owned()),
            Self::Uninstall(UninstallError::Unread { .. }) => None,
            Self::Output(_) | Self::Start(_) | Self::Link(_) | Self::Answer(_) | Self::Man { .. } | Self::Gate(_) => {
                None
            }
        }
    }

    /// The same as a frame, so that `--json` and text have one shape for what was not done.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let mut why = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            // An error that only passes another one on says nothing of its own.
            if !why.ends_with(&error.to_string()) {
                why.push_str(": ");
                why.push_str(&error.to_string());
            }
            cause = error.source();
        }
        Refusal { service: None, kind: self.kind(), why, help: self.help() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_its_causes_once_and_what_helps() {
        let problem = Problem::Agent {
            cause: "failed to open /var/lib/ebb: permission denied".into(),
            kind: RefusalKind::NotPermitted,
            help: Some("run it as root".to_owned()),
        };
        let refusal = problem.refusal();
        assert_eq!(refusal.why, "failed to start the agent: failed to open /var/lib/ebb: permission denied");
        assert_eq!(refusal.help.as_deref(), Some("run it as root"));
        assert_eq!(problem.exit(), Exit::NotPermitted);
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let problem = Problem::Output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(problem.exit(), Exit::Done);
        assert_eq!(Problem::Output(io::Error::from(io::ErrorKind::StorageFull)).exit(), Exit::Failed);
        assert_eq!(Problem::NobodyToAsk.exit(), Exit::Usage);
    }

    #[test]
    fn a_denied_store_is_a_matter_of_permission() {
        let start = |kind: io::ErrorKind| {
            Problem::from(StartError::System { what: "the processes", source: io::Error::from(kind).into() })
        };
        let denied = start(io::ErrorKind::PermissionDenied);
        assert_eq!(denied.exit(), Exit::NotPermitted);
        assert!(denied.refusal().why.starts_with("failed to start the agent: failed to read the processes: "));
        assert_eq!(start(io::ErrorKind::NotFound).exit(), Exit::Failed);
    }
}
