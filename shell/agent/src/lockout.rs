//! Keeps the units that were stopped for a hold from starting, for as long as the hold stands.

use std::collections::BTreeMap;

use ebb_model::{Hold, Level, Record, ServiceName, Stopped, Why, printable, resume_server};
use ebb_systemd::{Lockout, LockoutDirs, LockoutState, Refusal, Systemd, UnitName};

use crate::verbs::services::Known;
use crate::world::{World, chain};

/// Makes the lockouts what the holds on disk ask for. `but`: a service that is being started again.
///
/// Without systemd, or without the right to write, there is nothing to do.
pub(crate) async fn converge(world: &World, but: Option<&ServiceName>) -> Result<(), Why> {
    let Some(systemd) = &world.systemd else { return Ok(()) };
    if !world.store().is_writable() {
        return Ok(());
    }
    let known = Known::read(world)?;
    let starting = world.starting();
    let wanted = wanted(&known, |service| Some(service) == but || starting.contains(service));
    let lockout = Lockout::new(LockoutDirs::system(world.place.state_dir.join("held")), "ebb");
    let failed = |error: ebb_systemd::Error| Why::Unwritten { what: "a lockout".into(), cause: chain(&error) };
    let mut reload = false;
    for unit in lockout.all().map_err(failed)? {
        if !wanted.contains_key(&unit) {
            reload |= lockout.take(&unit).map_err(failed)?;
        }
    }
    for (unit, text) in &wanted {
        reload |= put(systemd, &lockout, unit, text).await.map_err(failed)?;
    }
    if reload {
        systemd.reload_daemon().await.map_err(failed)?;
    }
    Ok(())
}

/// Which units are kept down, and what is said to whoever tries to start them.
fn wanted(known: &Known, but: impl Fn(&ServiceName) -> bool) -> BTreeMap<UnitName, String> {
    let mut wanted = BTreeMap::new();
    for record in known.records.iter().filter(|record| !but(&record.service)) {
        let Some(hold) = known.holds_of(&record.service).find(|hold| hold.level == Level::Stopped) else { continue };
        for unit in units(record) {
            wanted.insert(unit, text(hold));
        }
    }
    wanted
}

fn units(record: &Record) -> impl Iterator<Item = UnitName> {
    record.stopped.iter().filter_map(|stopped| match stopped {
        Stopped::Unit(unit) => UnitName::new(unit).ok(),
        Stopped::Tree(_) => None,
    })
}

fn text(hold: &Hold) -> String {
    let why = if hold.reason.is_empty() { String::new() } else { format!(": {}", printable(&hold.reason)) };
    let (with, undo) = if hold.whole_server {
        (" with the whole server", resume_server(hold.requester.as_str()))
    } else {
        ("", format!("ebb resume {}", hold.service))
    };
    format!("{} is held{with} by {}{why}. Undo: {undo}", hold.service, hold.requester)
}

/// Asks systemd of a unit only where something is not as it should be.
async fn put(systemd: &Systemd, lockout: &Lockout, unit: &UnitName, text: &str) -> ebb_systemd::Result<bool> {
    let state = lockout.state(unit)?;
    let fresh = state != LockoutState::Whole;
    let seen = if fresh { systemd.unit(unit).await.ok() } else { None };
    let refusal = seen.as_ref().map_or(Refusal::AtStart, Refusal::fitting);
    if fresh { lockout.put(unit, text, refusal) } else { Ok(false) }
}

/// Units that would refuse a start now although nothing asks for it, or would not although something does; for a
/// report.
pub(crate) fn drift(world: &World, known: &Known) -> Vec<String> {
    if world.systemd.is_none() {
        return Vec::new();
    }
    let lockout = Lockout::new(LockoutDirs::system(world.place.state_dir.join("held")), "ebb");
    let wanted = wanted(known, |_| false);
    let mut drift: Vec<String> = wanted
        .keys()
        .filter(|unit| !lockout.state(unit).is_ok_and(|state| state.refuses()))
        .map(|unit| format!("{unit} is held stopped, and nothing keeps it from starting"))
        .collect();
    let left = lockout.all().unwrap_or_default().into_iter().filter(|unit| !wanted.contains_key(unit));
    drift.extend(left.map(|unit| format!("{unit} is kept from starting, and nobody holds it")));
    drift
}
