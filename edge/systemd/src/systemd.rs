use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use zbus::{OwnedObjectPath, OwnedVariant};

use crate::{
    ActiveState, Changes, Error, LoadState, Result, Unit, UnitFile, UnitFileState, UnitKind, UnitName,
    bus::{self, Bus, Fault, MANAGER, PROPERTIES, ROOT, UNIT},
    object_path,
    properties::Properties,
    systemctl,
};

/// The fallback forks, loads and prints: it is given longer than a call.
pub(crate) const SYSTEMCTL_WITHIN: Duration = Duration::from_secs(10);
/// A reload runs every generator and reads every unit file again.
const RELOAD_WITHIN: Duration = Duration::from_secs(90);
/// How many units are followed when looking for what a stop takes along. Only targets have more.
const MOST_FOLLOWED: usize = 64;
/// The properties that make a [`UnitLine`].
const LINE: &str = "--property=Id,Description,LoadState,ActiveState,SubState,Job";

/// The system's systemd. Cheap to make, to clone and to keep; it connects when first asked something.
#[derive(Clone, Debug, Default)]
pub struct Systemd {
    pub(crate) bus: Arc<Bus>,
}

/// One unit as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitLine {
    /// Its own name.
    pub name: UnitName,
    /// `Description=`.
    pub description: String,
    /// Whether its file was read.
    pub load: LoadState,
    /// The state in general.
    pub active: ActiveState,
    /// The state in the words of its kind.
    pub sub: String,
    /// The job that is queued or running for it.
    pub job: Option<u32>,
}

/// One process of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its cgroup: the unit's, or one below.
    pub cgroup: String,
    /// Its number, in the namespace of systemd.
    pub pid: u32,
    /// Its command line. Written by whoever runs it: sanitise before a terminal.
    pub command: String,
}

/// `ListUnits`: name, description, load, active, sub, following, object, job, job type, job object.
type ListRow = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Systemd {
    /// Nothing is connected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All loaded services and sockets, in one call.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn units(&self) -> Result<Vec<UnitLine>> {
        let what = "list units";
        match self.rows("ListUnitsByPatterns", &patterns()).await {
            Err(Fault::Gone(bus)) => self.show_lines(what, &["*.service", "*.socket"], &bus).await,
            rows => rows.map_err(|fault| error_of(what, None, fault)),
        }
    }

    /// The states of these units, in one call, in any order; units that do not exist are `not-found`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn states(&self, names: &[UnitName]) -> Result<Vec<UnitLine>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let what = "read the states of units";
        let names: Vec<&str> = names.iter().map(UnitName::as_str).collect();
        match self.rows("ListUnitsByNames", &names).await {
            Err(Fault::Gone(bus)) => self.show_lines(what, &names, &bus).await,
            rows => rows.map_err(|fault| error_of(what, None, fault)),
        }
    }

    /// The units of every kind that have failed, in one call.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn failed(&self) -> Result<Vec<UnitName>> {
        let what = "list failed units";
        match self.rows("ListUnitsFiltered", &vec!["failed"]).await {
            Ok(rows) => Ok(rows.into_iter().map(|line| line.name).collect()),
            Err(Fault::Gone(bus)) => {
                let said =
                    run_ok(what, None, &["list-units", "--state=failed", "--plain", "--no-legend"], &bus).await?;
                Ok(said.lines().filter_map(|line| UnitName::new(line.split_whitespace().next()?).ok()).collect())
            }
            Err(fault) => Err(error_of(what, None, fault)),
        }
    }

    /// Start types of all service and socket files, loaded or not, in one call.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unit_files(&self) -> Result<Vec<UnitFile>> {
        let what = "list unit files";
        let call = self.bus.call(ROOT, MANAGER, "ListUnitFilesByPatterns", &patterns()).await;
        let rows = call.and_then(|reply| Ok(reply.body().deserialize::<Vec<(String, String)>>()?));
        match rows {
            Ok(rows) => Ok(rows.iter().filter_map(|(path, state)| UnitFile::from_words(path, state)).collect()),
            Err(Fault::Gone(bus)) => {
                let arguments = ["list-unit-files", "--no-legend", "--type=service,socket"];
                let said = run_ok(what, None, &arguments, &bus).await?;
                Ok(said.lines().filter_map(UnitFile::from_line).collect())
            }
            Err(fault) => Err(error_of(what, None, fault)),
        }
    }

    /// Start types of these units. A call for each, all under way at once: even with hundreds of units less than
    /// [`Self::unit_files`], for which systemd reads every file there is (0.1 s with 250 units).
    ///
    /// # Errors
    /// See [`Error`]; a unit whose file cannot be read is left out.
    pub async fn file_states(&self, names: &[UnitName]) -> Result<Vec<UnitFile>> {
        let mut files = Vec::new();
        let calls = names.iter().map(|name| async move {
            let path = object_path::of_unit(name);
            (name, self.bus.call(&path, PROPERTIES, "Get", &(UNIT, "UnitFileState")).await)
        });
        for (name, call) in join_all(calls).await {
            match call.and_then(|reply| Ok(reply.body().deserialize::<OwnedVariant>()?)) {
                Ok(state) => {
                    let all = Properties::Bus(HashMap::from([("UnitFileState".to_owned(), state)]));
                    let state = UnitFileState::from_word(&all.text("UnitFileState"));
                    files.push(UnitFile { name: name.clone(), state });
                }
                Err(Fault::Gone(_)) => {
                    let mut all = self.unit_files().await?;
                    all.retain(|file| names.contains(&file.name));
                    return Ok(all);
                }
                Err(_) => {}
            }
        }
        Ok(files)
    }

    /// Everything about one unit: one call, and where it has company, one or a few more.
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`] if it has no file and does not run either.
    pub async fn unit(&self, name: &UnitName) -> Result<Unit> {
        let what = format!("read unit {name}");
        let all = self.properties(&what, name).await?;
        let mut unit = Unit::from_properties(name, &all);
        let gone = unit.load_state == LoadState::NotFound;
        if gone && matches!(unit.active_state, ActiveState::Inactive) {
            return Err(Error::NoSuchUnit { what, unit: name.clone() });
        }
        self.add_company(&mut unit).await?;
        Ok(unit)
    }

    /// The real services behind a wrapper: those of its instances that are up.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn instances(&self, wrapper: &Unit) -> Result<Vec<UnitLine>> {
        let mut lines = self.states(&wrapper.instance_candidates()).await?;
        lines.retain(|line| line.active.is_up());
        Ok(lines)
    }

    /// The processes of a unit. There is no fallback for this one: they can be read from the cgroup.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn processes(&self, name: &UnitName) -> Result<Vec<Process>> {
        let what = format!("read the processes of {name}");
        let call = self.bus.call(ROOT, MANAGER, "GetUnitProcesses", &name.as_str()).await;
        let rows = call.and_then(|reply| Ok(reply.body().deserialize::<Vec<(String, u32, String)>>()?));
        let rows = rows.map_err(|fault| error_of(&what, Some(name), fault))?;
        Ok(rows.into_iter().map(|(cgroup, pid, command)| Process { cgroup, pid, command }).collect())
    }

    /// Clears the `failed` state (and the start limit) of a unit. One that is not loaded, or does
    /// not exist, has nothing to clear.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn reset_failed(&self, name: &UnitName) -> Result<()> {
        let what = format!("clear the failed state of {name}");
        let cleared = match self.bus.call(ROOT, MANAGER, "ResetFailedUnit", &name.as_str()).await {
            Ok(_) => Ok(()),
            Err(Fault::Gone(bus)) => {
                let arguments = ["reset-failed", "--", name.as_str()];
                run_ok(&what, Some(name), &arguments, &bus).await.map(drop)
            }
            Err(fault) => Err(error_of(&what, Some(name), fault)),
        };
        match cleared {
            Err(Error::NoSuchUnit { .. }) => Ok(()),
            cleared => cleared,
        }
    }

    /// Makes systemd read all unit files again (`daemon-reload`). Always through `systemctl`: it
    /// takes longer than a call may, and needs no bus.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn reload_daemon(&self) -> Result<()> {
        let what = "make systemd read its unit files";
        if !crate::is_running() {
            return Err(Error::NotSystemd { what: what.to_owned() });
        }
        let said = systemctl::run(what, &["daemon-reload"], RELOAD_WITHIN).await?;
        if said.ok { Ok(()) } else { Err(systemctl::error_of(what, None, "not asked", &said)) }
    }

    /// Stops a unit, and no boot and no other unit starts it any more (`systemctl disable --now`). Always through
    /// `systemctl`, which keeps what scripts of System V say in step.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn disable_now(&self, name: &UnitName) -> Result<()> {
        let what = format!("stop and disable {name}");
        if !crate::is_running() {
            return Err(Error::NotSystemd { what });
        }
        let said = systemctl::run(&what, &["disable", "--now", "--", name.as_str()], RELOAD_WITHIN).await?;
        if said.ok { Ok(()) } else { Err(systemctl::error_of(&what, Some(name), "not asked", &said)) }
    }

    /// Follows the states of all units. Works only while [`Changes::next`] is waited on.
    pub fn changes(&self) -> Changes {
        Changes::new(self.clone())
    }

    /// All loaded units of every kind, by the bus only: what [`Changes`] starts from.
    pub(crate) async fn all_rows(&self) -> std::result::Result<Vec<UnitLine>, Fault> {
        self.rows("ListUnits", &()).await
    }

    async fn rows<B>(&self, member: &str, body: &B) -> std::result::Result<Vec<UnitLine>, Fault>
    where
        B: zbus::export::serde::Serialize + zbus::DynamicType + Sync,
    {
        let reply = self.bus.call(ROOT, MANAGER, member, body).await?;
        let rows = reply.body().deserialize::<Vec<ListRow>>()?;
        Ok(rows.into_iter().filter_map(line_of).collect())
    }

    async fn show_lines(&self, what: &str, names: &[&str], bus: &str) -> Result<Vec<UnitLine>> {
        // Without --all a pattern finds no inactive units.
        let arguments = [&["show", "--all", LINE, "--"], names].concat();
        let said = run_ok(what, None, &arguments, bus).await?;
        Ok(said.split("\n\n").filter_map(|block| line_in(&Properties::from_show(block))).collect())
    }

    /// All properties of all interfaces of a unit.
    pub(crate) async fn properties(&self, what: &str, name: &UnitName) -> Result<Properties> {
        let path = object_path::of_unit(name);
        // The empty interface name means all of them, for sd-bus.
        let call = self.bus.call(&path, PROPERTIES, "GetAll", &"").await;
        let read = call.and_then(|reply| Ok(reply.body().deserialize::<HashMap<String, OwnedVariant>>()?));
        match read {
            Ok(all) => Ok(Properties::Bus(all)),
            Err(Fault::Gone(bus)) => {
                let arguments = ["show", "--all", "--", name.as_str()];
                let said = run_ok(what, Some(name), &arguments, &bus).await?;
                Ok(Properties::from_show(&said))
            }
            Err(fault) => Err(error_of(what, Some(name), fault)),
        }
    }

    /// Which of its triggers are up, and what a stop would take along: a stop passes on from unit
    /// to unit, but only those that are up matter.
    async fn add_company(&self, unit: &mut Unit) -> Result<()> {
        let mut seen = BTreeSet::from([unit.id.clone(), unit.name.clone()]);
        let first = unit.stop_edges().chain(&unit.triggered_by).cloned().collect();
        let mut up = self.up_of(first).await?;
        unit.triggers_up = unit.triggered_by.iter().filter(|name| up.contains(name)).cloned().collect();
        let direct: BTreeSet<UnitName> = unit.stop_edges().cloned().collect();
        up.retain(|name| direct.contains(name));
        while let Some(next) = up.pop() {
            if !seen.insert(next.clone()) || unit.stops_with.len() >= MOST_FOLLOWED {
                continue;
            }
            unit.stops_with.push(next.clone());
            let all = self.properties(&format!("read unit {next}"), &next).await?;
            let edges = Unit::from_properties(&next, &all).stop_edges().cloned().collect();
            up.extend(self.up_of(edges).await?);
        }
        unit.stops_with.sort();
        Ok(())
    }

    async fn up_of(&self, mut names: Vec<UnitName>) -> Result<Vec<UnitName>> {
        names.retain(|name| name.kind() != UnitKind::Device);
        names.sort();
        names.dedup();
        let lines = self.states(&names).await?;
        Ok(lines.into_iter().filter(|line| line.active.is_up()).map(|line| line.name).collect())
    }
}

/// (states, patterns): loaded services and sockets in any state. Vectors, for zbus sends arrays of fixed length as structures.
fn patterns() -> (Vec<&'static str>, Vec<&'static str>) {
    (Vec::new(), vec!["*.service", "*.socket"])
}

fn line_of(row: ListRow) -> Option<UnitLine> {
    let (name, description, load, active, sub, _, _, job, _, _) = row;
    Some(UnitLine {
        name: UnitName::new(&name).ok()?,
        description,
        load: LoadState::from_word(&load),
        active: ActiveState::from_word(&active),
        sub,
        job: Some(job).filter(|job| *job != 0),
    })
}

fn line_in(all: &Properties) -> Option<UnitLine> {
    Some(UnitLine {
        name: UnitName::new(&all.text("Id")).ok()?,
        description: all.text("Description"),
        load: LoadState::from_word(&all.text("LoadState")),
        active: ActiveState::from_word(&all.text("ActiveState")),
        sub: all.text("SubState"),
        job: all.job(),
    })
}

async fn run_ok(what: &str, unit: Option<&UnitName>, arguments: &[&str], bus: &str) -> Result<String> {
    if !crate::is_running() {
        return Err(Error::NotSystemd { what: what.to_owned() });
    }
    let said = systemctl::run(what, arguments, SYSTEMCTL_WITHIN).await?;
    if said.ok { Ok(said.out) } else { Err(systemctl::error_of(what, unit, bus, &said)) }
}

/// Gives systemd's answer its type.
pub(crate) fn error_of(what: &str, unit: Option<&UnitName>, fault: Fault) -> Error {
    let what = what.to_owned();
    let error = match fault {
        Fault::Answer(error) => error,
        Fault::Gone(_) if !crate::is_running() => return Error::NotSystemd { what },
        Fault::Gone(bus) => return Error::BusGone { what, bus, systemctl: "not tried".to_owned() },
    };
    let Some((name, text)) = bus::error_words(&error) else {
        return Error::Bus { what, source: Box::new(error) };
    };
    let name = name.trim_start_matches("org.freedesktop.");
    match (name, unit) {
        ("systemd1.NoSuchUnit" | "DBus.Error.FileNotFound", Some(unit)) => {
            Error::NoSuchUnit { what, unit: unit.clone() }
        }
        ("systemd1.UnitMasked", Some(unit)) => Error::Masked { what, unit: unit.clone() },
        ("DBus.Error.AccessDenied" | "DBus.Error.AuthFailed" | "DBus.Error.InteractiveAuthorizationRequired", _) => {
            Error::AccessDenied { what }
        }
        (name, _) if name.starts_with("systemd1.") => Error::Refused { what, reason: text },
        _ => Error::Bus { what, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallbacks_blocks_become_lines() {
        let show = "Id=a.service\nDescription=A\nLoadState=loaded\nActiveState=active\nSubState=running\n
Id=b.socket\nDescription=\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nJob=5\n";
        let lines: Vec<_> = show.split("\n\n").filter_map(|block| line_in(&Properties::from_show(block))).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].name.as_str(), "a.service");
        assert_eq!(lines[0].job, None);
        assert_eq!(lines[1].active, ActiveState::Inactive);
        assert_eq!(lines[1].job, Some(5));
    }

    #[tokio::test]
    async fn elsewhere_systemd_is_not_looked_for_in_vain() {
        if crate::is_running() {
            println!("SKIPPED: systemd is the init of this machine");
            return;
        }
        let systemd = Systemd::new();
        let unit = UnitName::new("x.service").unwrap();
        let soon = Duration::from_secs(60);
        for seen in [
            systemd.units().await.map(drop),
            systemd.unit_files().await.map(drop),
            systemd.unit(&unit).await.map(drop),
            systemd.stop(&unit, soon).await.map(drop),
            systemd.start(&unit, soon).await.map(drop),
            systemd.processes(&unit).await.map(drop),
            systemd.reset_failed(&unit).await,
            systemd.reload_daemon().await,
        ] {
            assert!(matches!(seen, Err(Error::NotSystemd { .. })), "{seen:?}");
        }
    }

    #[test]
    fn answers_get_their_type() {
        let unit = UnitName::new("x.service").unwrap();
        let fdo = |error| Fault::Answer(zbus::Error::FDO(Box::new(error)));
        let denied = error_of("stop x", Some(&unit), fdo(zbus::fdo::Error::AccessDenied("no".into())));
        assert!(matches!(denied, Error::AccessDenied { .. }));
        let none = error_of("stop x", Some(&unit), fdo(zbus::fdo::Error::FileNotFound("no".into())));
        assert!(matches!(none, Error::NoSuchUnit { .. }));
        let odd = error_of("stop x", Some(&unit), Fault::Answer(zbus::Error::InvalidReply));
        assert_eq!(odd.to_string(), "stop x: unexpected answer");
    }
}
