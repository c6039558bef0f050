//! One step of the removal; each may be done again.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

use ebb_kernel::gate;
use ebb_model::printable;
use ebb_systemd::journal::Journal;
use ebb_systemd::{Protection, Refused, Systemd};

use super::files::POLICY_BACK;
use super::{Removal, Step, lockout};
use crate::Place;
use crate::resident::READERS;
use crate::world::{TABLE, chain};

/// Does it.
///
/// # Errors
/// In words. What was done before stays done, and the next plan begins with what is left.
pub async fn perform(place: &Place, step: &Step) -> Result<(), String> {
    match step {
        Step::Disable(unit) => Systemd::new().disable_now(unit).await.map_err(|error| chain(&error)),
        Step::Unlock(unit) => lockout(&place.state_dir).take(unit).map(drop).map_err(|error| chain(&error)),
        Step::Unprotect => {
            Protection::system("ebb").converge(&Refused::default()).map(drop).map_err(|error| chain(&error))
        }
        Step::Reload => Systemd::new().reload_daemon().await.map_err(|error| chain(&error)),
        Step::Table => {
            let opened = gate::Gate::open(TABLE).and_then(|mut gate| gate.apply(&gate::Rules::default()));
            opened.map(drop).map_err(|error| chain(&error))
        }
        Step::Policy => run("update-alternatives", &POLICY_BACK).await,
        Step::Catalog => run("journalctl", &["--update-catalog"]).await,
        Step::Group => run("groupdel", &[READERS]).await,
        Step::File(path) => gone(std::fs::remove_file(path)),
        Step::Dir(path) => remove_dir(path),
    }
}

fn remove_dir(path: &Path) -> Result<(), String> {
    // What a link points to is somebody's choice of a disk: it is emptied, and stays.
    if path.is_symlink() {
        for entry in std::fs::read_dir(path).map_err(|error| error.to_string())?.flatten() {
            let inside = entry.path();
            gone(if inside.is_dir() { std::fs::remove_dir_all(&inside) } else { std::fs::remove_file(&inside) })?;
        }
        return gone(std::fs::remove_file(path));
    }
    gone(std::fs::remove_dir_all(path))
}

fn gone(removed: std::io::Result<()>) -> Result<(), String> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

async fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    let said = command.output().await.map_err(|error| format!("{program}: {error}"))?;
    if said.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&said.stderr);
    Err(format!("{program}: {}", printable(text.lines().last().unwrap_or("it failed"))))
}

/// Says in the journal that ebb was removed although somebody holds: the history goes with it.
pub fn tell_journal(removal: &Removal, by: &str, reason: &str) {
    let holds: Vec<&str> = removal.holds.iter().map(|hold| hold.text.as_str()).collect();
    let holds = match &removal.unread {
        Some(cause) => format!("its holds could not be read ({cause})"),
        None => holds.join("; "),
    };
    let text = format!("{by} removes ebb although {holds}. Reason: {reason}");
    if let Some(journal) = Journal::open() {
        let _ = journal.send(&[("MESSAGE", text.as_str()), ("PRIORITY", "4"), ("SYSLOG_IDENTIFIER", "ebb")]);
    }
}
