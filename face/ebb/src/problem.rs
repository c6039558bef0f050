//! What can go wrong in the face itself: kind, cause, hint, exit code.
//!
//! What the agent refuses comes as a frame and is no problem here; see [`crate::render::common`].

use std::error::Error;
use std::io;
use std::path::PathBuf;

use ebb_agent::StartError;
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
    #[error("`ebb end` asks before it ends sessions, and there is no terminal to ask at")]
    NobodyToAsk,
    /// The answer to a question could not be read.
    #[error("failed to read your answer")]
    Answer(#[source] io::Error),
    /// A man page could not be written.
    #[error("failed to write man pages to {}", dir.display())]
    Man {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// There was no trial, or no end of it.
    #[error("failed to run the trial")]
    Trial(#[from] ebb_trial::Error),
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
            Self::NobodyToAsk => RefusalKind::Usage,
            Self::Trial(cause) if cause.is_unsupported() => RefusalKind::Unsupported,
            Self::Output(_)
            | Self::Start(_)
            | Self::Link(_)
            | Self::CutShort
            | Self::Answer(_)
            | Self::Man { .. }
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
            Self::Trial(cause) => cause.help(),
            Self::NobodyToAsk => Some("add --yes to end them unasked, or --dry-run to see which they are".to_owned()),
            Self::CutShort => Some("`ebb status` shows what stands now; the same command again goes on".to_owned()),
            Self::Trial(error) => error.help().map(|help| help.to_string()),
            Self::Output(_) | Self::Start(_) | Self::Link(_) | Self::Answer(_) | Self::Man { .. } => None,
        }
    }

    /// The same as a frame, so that `--json` and text have one shape for what was not done.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let mut why = self.to_string();
        let source = if let Self::Trial(error) = self { error.source() } else { self.source() };
        for cause in source.into_iter().flat_map(causes) {
            why.push_str(": ");
            why.push_str(&cause.to_string());
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
