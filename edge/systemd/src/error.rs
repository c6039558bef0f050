use std::{path::PathBuf, time::Duration};

use crate::UnitName;

/// What a call may end in, when it did not do what was asked.
pub type Result<T> = std::result::Result<T, Error>;

/// Why systemd could not be read or told. Each message completes "failed to ...".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a name systemd would accept.
    #[error("read {name:?} as the name of a unit")]
    InvalidName {
        /// The text as given.
        name: String,
    },
    /// systemd is not the init of this machine.
    #[error("{what}: systemd is not the init of this machine")]
    NotSystemd {
        /// What was tried.
        what: String,
    },
    /// systemd has no such unit, neither loaded nor as a file.
    #[error("{what}: there is no such unit")]
    NoSuchUnit {
        /// What was tried.
        what: String,
        /// The unit asked for.
        unit: UnitName,
    },
    /// The unit is masked.
    #[error("{what}: the unit is masked")]
    Masked {
        /// What was tried.
        what: String,
        /// The unit asked for.
        unit: UnitName,
    },
    /// systemd, the bus or polkit forbid it to this user.
    #[error("{what}: access denied")]
    AccessDenied {
        /// What was tried.
        what: String,
    },
    /// systemd understood and declined (`RefuseManualStop=`, a destructive transaction, ...).
    #[error("{what}: systemd refuses: {reason}")]
    Refused {
        /// What was tried.
        what: String,
        /// systemd's own words.
        reason: String,
    },
    /// There is no bus with systemd on it, and `systemctl` could not be used in its stead.
    #[error("{what}: no bus ({bus}) and no systemctl ({systemctl})")]
    BusGone {
        /// What was tried.
        what: String,
        /// What the bus answered.
        bus: String,
        /// What `systemctl` answered.
        systemctl: String,
    },
    /// No answer in time. Whether it was done is not known: read it back.
    #[error("{what}: no answer within {after:?}")]
    Timeout {
        /// What was tried.
        what: String,
        /// The deadline that passed.
        after: Duration,
    },
    /// An answer that this crate does not expect.
    #[error("{what}: unexpected answer")]
    Bus {
        /// What was tried.
        what: String,
        /// The answer.
        #[source]
        source: Box<zbus::Error>,
    },
    /// `systemctl` failed for a reason this crate does not know.
    #[error("{what}: systemctl says: {said}")]
    Systemctl {
        /// What was tried.
        what: String,
        /// The last line it printed.
        said: String,
    },
    /// A file could not be read, written or removed.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Where one of our files belongs, there is another's; it is left alone.
    #[error("use {}: it is not ours", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// systemd could not be told about ourselves (`sd_notify(3)`).
    #[error("notify systemd")]
    Notify {
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// There is no logind on the bus.
    #[error("{what}: there is no logind ({said})")]
    NoLogind {
        /// What was tried.
        what: String,
        /// What the bus answered.
        said: String,
    },
}
