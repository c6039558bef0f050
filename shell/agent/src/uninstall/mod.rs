//! Taking ebb off a server, so that nothing of it is left: the plan, and each of its steps.
//!
//! What is there now is planned for, so a plan that was cut off is gone on with by planning again. The state goes nearly
//! last and the program last: until then holds are known, and the same command can be typed.

mod files;
mod perform;

use std::path::{Path, PathBuf};

use ebb_kernel::{boot, gate};
use ebb_model::{Hold, Level, Record, Stopped, printable, resume_server};
use ebb_store::Store;
use ebb_systemd::{Lockout, LockoutDirs, Protection, Systemd, UnitName};

use crate::Place;
use crate::resident::READERS;
use crate::verbs::status::command;
use crate::world::{TABLE, chain};

pub use perform::{perform, tell_journal};

/// The only state directory that is removed as a whole: any other was named by somebody, and may be anything.
pub(crate) const USUAL_STATE: &str = "/var/lib/ebb";
pub(crate) const RUNTIME: &str = "/run/ebb";
const CONFIG: &str = "/etc/ebb";
const UNITS: [&str; 2] = ["ebb-agent.service", "ebb-gate.service"];

/// What is to stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// `/etc/ebb`.
    pub config: bool,
    /// Everything but what acts: a package's script removes the rest, or keeps it for a later installation.
    pub for_package: bool,
}

/// A hold that would be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// On which service.
    pub service: String,
    /// Whose, why and by whom.
    pub text: String,
    /// What releases it.
    pub release: String,
}

/// What is done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stop and disable one of our units.
    Disable(UnitName),
    /// Take away what keeps a unit from starting.
    Unlock(UnitName),
    /// Allow stops and reboots that were refused while sessions live.
    Unprotect,
    /// Let systemd read its files again.
    Reload,
    /// Open every gate.
    Table,
    /// Take our policy away from Debian's `policy-rc.d`.
    Policy,
    /// Remove a file.
    File(PathBuf),
    /// Remove a directory and what is in it.
    Dir(PathBuf),
    /// Let the journal forget our messages' explanations.
    Catalog,
    /// Remove the group of those who may look.
    Group,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disable(unit) => write!(f, "stop and disable {unit}"),
            Self::Unlock(unit) => write!(f, "let {unit} start again"),
            Self::Unprotect => f.write_str("allow stops of units, and reboots, that were refused while sessions live"),
            Self::Reload => f.write_str("let systemd read its unit files again"),
            Self::Table => write!(f, "open every gate: remove the table `inet {TABLE}` from the kernel"),
            Self::Policy => f.write_str("take our policy out of /usr/sbin/policy-rc.d"),
            Self::File(path) => write!(f, "remove {}", path.display()),
            Self::Dir(path) => write!(f, "remove {} and all that is in it", path.display()),
            Self::Catalog => f.write_str("write the journal's catalog without our messages"),
            Self::Group => write!(f, "remove the group `{READERS}`"),
        }
    }
}

/// What stands in the way, what will be done, and what to know of it.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    /// Holds that would be lost.
    pub holds: Vec<Standing>,
    /// Why the holds cannot be read, if so: then nobody knows who holds what.
    pub unread: Option<String>,
    /// In order.
    pub steps: Vec<Step>,
    /// What is not done, and why.
    pub notes: Vec<String>,
}

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// Another state directory than the usual one.
    #[error("{} is not the state directory of an installed ebb", path.display())]
    NotUsual {
        /// Which.
        path: PathBuf,
    },
    /// Only root can.
    #[error("only root can remove ebb")]
    NotRoot,
    /// Something that must be known cannot be read.
    #[error("failed to read {what}: {cause}")]
    Unread {
        /// What.
        what: &'static str,
        /// Why.
        cause: String,
    },
}

/// Looks at what there is of ebb here. Changes nothing.
///
/// # Errors
/// [`UninstallError`]
pub async fn plan_removal(place: &Place, keep: Keep) -> Result<Removal, UninstallError> {
    if place.state_dir.as_os_str() != USUAL_STATE {
        return Err(UninstallError::NotUsual { path: place.state_dir.clone() });
    }
    if boot::effective_uid() != 0 {
        return Err(UninstallError::NotRoot);
    }
    let mut removal = Removal::default();
    let records = held(&place.state_dir, &mut removal);
    let packaged = files::packaged().await;
    acting(&place.state_dir, &mut removal).await?;
    if !keep.for_package {
        let found = files::found(&packaged, keep.config);
        remains(found, &place.state_dir, keep, &mut removal);
        if !packaged.is_empty() {
            let text = format!("{} files belong to the package `ebb`: `apt purge ebb` removes them", packaged.len());
            removal.notes.push(text);
        }
    }
    for unit in records.iter().flat_map(|record| &record.stopped).filter_map(unit_of) {
        if !removal.holds.is_empty() {
            removal.notes.push(format!("{unit} was stopped for a hold and stays down: systemctl start {unit}"));
        }
    }
    Ok(removal)
}

fn unit_of(stopped: &Stopped) -> Option<&str> {
    match stopped {
        Stopped::Unit(unit) => Some(unit),
        Stopped::Tree(_) => None,
    }
}

/// Who holds; the records of what is held.
fn held(state_dir: &Path, removal: &mut Removal) -> Vec<Record> {
    if !state_dir.exists() {
        return Vec::new();
    }
    // It reads the copy where the file itself is lost, and makes nothing.
    let read = Store::open(state_dir).and_then(|store| Ok((store.holds()?, store.records()?, store.run(None)?)));
    match read {
        Ok((holds, records, run)) => {
            removal.holds = holds.iter().map(standing).collect();
            // One that is announced holds nothing yet.
            if let Some(run) = run.filter(|run| !run.is_over() && holds.is_empty()) {
                let requester = run.plan.requester.as_str();
                removal.holds.push(Standing {
                    service: "the server".to_owned(),
                    text: format!("maintenance {} of `{requester}` is not over", run.number),
                    release: resume_server(requester),
                });
            }
            records
        }
        Err(error) => {
            removal.unread = Some(chain(&error));
            Vec::new()
        }
    }
}

fn standing(hold: &Hold) -> Standing {
    let level = if hold.level == Level::Stopped { "held stopped" } else { "held" };
    let why = if hold.reason.is_empty() { String::new() } else { format!(": {}", printable(&hold.reason)) };
    Standing {
        service: hold.service.to_string(),
        text: format!("{} is {level} by `{}` ({}){why}", hold.service, hold.requester, printable(&hold.by.name)),
        release: if hold.whole_server {
            resume_server(hold.requester.as_str())
        } else {
            command("resume", hold.service.as_str(), hold.requester.as_str())
        },
    }
}

/// What acts on this server without us: our units, lockouts, the gate.
async fn acting(state_dir: &Path, removal: &mut Removal) -> Result<(), UninstallError> {
    let unread = |what: &'static str| move |cause: String| UninstallError::Unread { what, cause };
    if ebb_systemd::is_running() {
        let systemd = Systemd::new();
        for name in UNITS.into_iter().filter_map(|name| UnitName::new(name).ok()) {
            let active = systemd.unit(&name).await.is_ok_and(|unit| unit.active_state.is_up());
            if active || files::is_enabled(name.as_str()) {
                removal.steps.push(Step::Disable(name));
            }
        }
        let locked = lockout(state_dir).all().map_err(|error| unread("lockouts")(chain(&error)))?;
        let protected = Protection::system("ebb").all().map_err(|error| unread("protection")(chain(&error)))?;
        let any = !locked.is_empty() || !protected.is_empty();
        removal.steps.extend(locked.into_iter().map(Step::Unlock));
        if !protected.is_empty() {
            removal.steps.push(Step::Unprotect);
        }
        if any {
            removal.steps.push(Step::Reload);
        }
    }
    let open = gate::Gate::open(TABLE).and_then(|mut gate| gate.seen());
    match open {
        Ok(Some(_)) => removal.steps.push(Step::Table),
        Ok(None) => {}
        // Where there can be no gate, there is none of ours.
        Err(error) => match gate::support() {
            Ok(gate::Support::Ready { .. }) | Err(_) => return Err(unread("the gate")(chain(&error))),
            Ok(_) => removal.notes.push(format!("the gate was not looked at: {}", chain(&error))),
        },
    }
    if files::policy_is_ours().await {
        removal.steps.push(Step::Policy);
    }
    Ok(())
}

/// What else is there: files, the group, the state, the program.
fn remains(found: files::Found, state_dir: &Path, keep: Keep, removal: &mut Removal) {
    let files::Found { files, dirs, catalog, units, sysusers, program } = found;
    removal.steps.extend(files.into_iter().map(Step::File));
    removal.steps.extend(dirs.into_iter().map(Step::Dir));
    if catalog {
        removal.steps.push(Step::Catalog);
    }
    if units && ebb_systemd::is_running() && !removal.steps.contains(&Step::Reload) {
        removal.steps.push(Step::Reload);
    } else if units && let Some(at) = removal.steps.iter().position(|step| *step == Step::Reload) {
        // Once, after everything that it reads is gone.
        let reload = removal.steps.remove(at);
        removal.steps.push(reload);
    }
    if sysusers && boot::group_id(READERS).is_some() {
        removal.steps.push(Step::Group);
    }
    if !keep.config && Path::new(CONFIG).exists() {
        removal.steps.push(Step::Dir(CONFIG.into()));
    }
    for dir in [Path::new(RUNTIME), state_dir] {
        if dir.exists() {
            removal.steps.push(Step::Dir(dir.to_owned()));
        }
    }
    removal.steps.extend(program.map(Step::File));
}

fn lockout(state_dir: &Path) -> Lockout {
    Lockout::new(LockoutDirs::system(state_dir.join("held")), "ebb")
}
