//! systemd over D-Bus (with `systemctl` as the fallback), and the journal.
//!
//! This crate looks and acts; it does not judge. It knows nothing of gates, holds or drains.
//!
//! Rules which every call here keeps:
//!
//! * it has a deadline;
//! * no signal stream stays unpolled on a connection that also carries calls (an unpolled stream
//!   stalls its whole connection after 64 messages);
//! * nothing is cached: several interesting properties never announce a change;
//! * a dead bus (`systemctl restart dbus`, a stopped or frozen daemon) is survived: the connection
//!   is made anew, and while there is none, `systemctl` is run, which as root needs no bus.
//!
//! No task is spawned here: [`Changes`] works while its owner waits on it.

mod bus;
mod changes;
mod durable;
mod error;
mod files;
mod inhibit;
mod jobs;
pub mod journal;
mod lockout;
mod name;
mod notify;
mod object_path;
mod properties;
mod protection;
mod systemctl;
mod systemd;
mod unit;
mod warnings;
mod words;

pub use changes::{Change, Changes, StateEdge};
pub use error::{Error, Result};
pub use files::{UnitFile, UnitFileState};
pub use inhibit::{InhibitMode, Inhibitor};
pub use jobs::{JobEnd, JobReport, UnitState};
pub use lockout::{Lockout, LockoutDirs, LockoutState, Piece, PieceFault, Refusal};
pub use name::{UnitKind, UnitName, UnitOwner};
pub use notify::Notify;
pub use protection::{Protection, Refused};
pub use systemd::{Process, Systemd, UnitLine};
pub use unit::{ActiveState, KillMode, ListenAddress, LoadState, Moment, RestartPolicy, ServiceType, Unit};
pub use warnings::StopWarning;

/// Whether systemd is the init of this machine: `/run/systemd/system` exists (the test of `sd_booted(3)`).
pub fn is_running() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}
