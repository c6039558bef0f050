//! What can go wrong in a lab.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The result of everything a lab does.
pub type Result<T> = std::result::Result<T, LabError>;

/// Why the lab failed to do something; the text completes "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Reading, writing, making or removing a file of the lab.
    #[error("{doing} {}", path.display())]
    File {
        /// What was tried: "read", "create", …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Starting a program of the machine.
    #[error("start `{program}`")]
    Start {
        /// Its name and arguments.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command ended with something other than 0, where only 0 will do.
    #[error("run `{command}`: it ended with {code:?}\n{text}")]
    Command {
        /// Name and arguments.
        command: String,
        /// Its exit code; none when a signal ended it.
        code: Option<i32>,
        /// Standard output and standard error.
        text: String,
    },
    /// A command did not end in its time and was killed.
    #[error("run `{command}` within {limit:?}\n{text}")]
    TooSlow {
        /// Name and arguments.
        command: String,
        /// The time it had.
        limit: Duration,
        /// What it had written until then.
        text: String,
    },
    /// Something that was waited for did not come.
    #[error("see {what} within {limit:?}\n{text}")]
    NotSeen {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was seen instead.
        text: String,
    },
    /// The server is switched off.
    #[error("reach server {name}, which is off")]
    Off {
        /// The server's name.
        name: String,
    },
    /// The server is switched on.
    #[error("switch on server {name}, which is on")]
    AlreadyOn {
        /// The server's name.
        name: String,
    },
    /// The machine lacks something the lab needs.
    #[error("find {what}")]
    Missing {
        /// What is not there.
        what: String,
    },
    /// A name that cannot be a host name, or is taken.
    #[error("name a host {name:?}: it must be new, 1 to 16 lower-case letters and digits")]
    Name {
        /// The name asked for.
        name: String,
    },
    /// The network has 200 addresses, and all are taken.
    #[error("find a free address")]
    NoAddress,
}

impl LabError {
    /// For `map_err` after a file operation.
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}
