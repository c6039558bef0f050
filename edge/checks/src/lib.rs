//! What guards look at: disks, logins, certificates, the clock, other members, backups, commands.
//!
//! Each is observed by itself and within its own time; nothing is judged here. What systemd's units and the kernel say
//! of failures and rights is the shell's to ask.

mod backup;
mod bus;
mod certificates;
mod disk;
mod files;
mod logins;
mod others;
pub mod run;

pub use bus::clock_is_synchronised;
pub use others::others;

use std::collections::BTreeSet;

use ebb_model::{Check, Fact, Span};

/// From where it is looked.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// Where commands run.
    pub place: run::Place,
    /// The asker's process and its ancestors: their session is not somebody else's.
    pub own_processes: BTreeSet<u32>,
    /// The terminals of those, as in `pts/3`.
    pub own_terminals: BTreeSet<String>,
}

/// Beyond a command's own time limit: for systemd to start it, and to end it.
const SLACK: std::time::Duration = std::time::Duration::from_secs(5);

/// Observes what `check` asks for, or says why it could not be told. `None` for what is not looked at here:
/// permission, failed units, the clock and other members.
pub async fn observe(check: &Check, within: Span, here: &Here) -> Option<Result<Fact, String>> {
    let seen = async {
        Some(match check {
            Check::Disk { path, .. } => disk::of(path).await,
            Check::Users => logins::others(here).await.map(Fact::Logins),
            Check::Certificates { files, .. } => certificates::of(files).await.map(Fact::Certificates),
            Check::Backup { kind, .. } => backup::newest(kind, within, here.place).await,
            Check::Command { command } => ended(command, within, here.place).await,
            Check::Permission | Check::FailedUnits | Check::Clock | Check::LastDoor { .. } => return None,
        })
    };
    let limit = std::time::Duration::from(within) + SLACK;
    let limit = if matches!(check, Check::Backup { .. } | Check::Command { .. }) { limit } else { within.into() };
    match tokio::time::timeout(limit, seen).await {
        Ok(seen) => seen,
        Err(_) => Some(Err(format!("no answer within {}", ebb_model::duration(within)))),
    }
}

async fn ended(command: &[String], within: Span, place: run::Place) -> Result<Fact, String> {
    let ran = run::run(&run::Order::new(command, within, place)).await.map_err(|error| run::chain(&error))?;
    Ok(Fact::Ended { code: ran.code, line: ran.first_line() })
}
