use std::time::{Duration, Instant};

use ebb_systemd::{ActiveState, Change, Error, JobEnd, Systemd, Unit};
use tokio::time::sleep;

use crate::{Outcome, PATIENCE, check, fixture, jobs, reading, text, unit};

/// systemd allows five starts in ten seconds; the reset makes it forget them.
async fn restart_bus() -> Outcome {
    fixture::run("systemctl", &["reset-failed"]).await?;
    fixture::run("systemctl", &["restart", "dbus.service"]).await?;
    let state = fixture::run("systemctl", &["is-active", "dbus.service"]).await?;
    if state.trim_end() == "active" { Ok(()) } else { Err(format!("the bus did not restart: {state}")) }
}

pub async fn restart_while_waiting(systemd: &Systemd) -> Outcome {
    let slow = unit("ebb-tour-slow.service")?;
    fixture::start(systemd, slow.as_str()).await?;
    let restart = async {
        sleep(Duration::from_secs(1)).await;
        restart_bus().await
    };
    let (report, restarted) = tokio::join!(systemd.stop(&slow, PATIENCE), restart);
    restarted?;
    let report = report.map_err(text)?;
    let told = report.end == JobEnd::Unseen && report.is_down();
    check("the bus restarts while a stop is waited for", told, &report)?;
    for round in 0..10 {
        restart_bus().await?;
        let units = systemd.units().await;
        if !units.as_ref().is_ok_and(|units| units.len() >= fixture::FILL) {
            return Err(format!("round {round}: right after a restart of the bus: {units:?}"));
        }
        fixture::start(systemd, "ebb-tour-plain.service").await?;
        let report = systemd.stop(&unit("ebb-tour-plain.service")?, PATIENCE).await.map_err(text)?;
        if !report.is_down() {
            return Err(format!("round {round}: {report:?}"));
        }
    }
    check("ten restarts of the bus, with calls right after", true, &())
}

pub async fn changes_survive(systemd: &Systemd) -> Outcome {
    let plain = unit("ebb-tour-plain.service")?;
    let mut changes = systemd.changes();
    while jobs::next(&mut changes).await? != Change::Back {}
    restart_bus().await?;
    while jobs::next(&mut changes).await? != Change::Lost {}
    while jobs::next(&mut changes).await? != Change::Back {}
    fixture::start(systemd, plain.as_str()).await?;
    let edge = jobs::edge(&mut changes, &plain).await?;
    check("changes are lost, come back, go on", edge.starts_with("inactive -> active"), &edge)?;
    fixture::run("systemctl", &["daemon-reexec"]).await?;
    while jobs::next(&mut changes).await? != Change::Lost {}
    while jobs::next(&mut changes).await? != Change::Back {}
    systemd.stop(&plain, PATIENCE).await.map_err(text)?;
    while jobs::edge(&mut changes, &plain).await? != "deactivating -> inactive (job)" {}
    check("and survive systemd itself being replaced", true, &())
}

async fn signal_bus(signal: &str) -> Result<String, String> {
    let signal = format!("--signal={signal}");
    fixture::run("systemctl", &["kill", "--kill-whom=main", &signal, "dbus.service"]).await
}

/// The daemon is there, takes connections and answers nothing.
pub async fn frozen(systemd: &Systemd) -> Outcome {
    let plain = unit("ebb-tour-plain.service")?;
    signal_bus("STOP").await?;
    let began = Instant::now();
    fixture::start(systemd, plain.as_str()).await?;
    println!("  note  first start on a frozen bus took {:?}", began.elapsed());
    let began = Instant::now();
    let read = systemd.unit(&plain).await;
    println!("  note  then reading a unit {:?}", began.elapsed());
    let report = systemd.stop(&plain, PATIENCE).await.map_err(text);
    signal_bus("CONT").await?;
    check("a frozen bus: start, read", read.is_ok_and(|unit| unit.main_pid.is_some()), &())?;
    let report = report?;
    check("and stop", report.is_down(), &report)?;
    used_again(systemd).await?;
    let slow = unit("ebb-tour-slow.service")?;
    fixture::start(systemd, slow.as_str()).await?;
    let freeze = async {
        sleep(Duration::from_secs(1)).await;
        signal_bus("STOP").await
    };
    let began = Instant::now();
    let (report, frozen) = tokio::join!(systemd.stop(&slow, PATIENCE), freeze);
    println!("  note  a stop of 3 s on a bus that freezes after 1 s took {:?}", began.elapsed());
    signal_bus("CONT").await?;
    frozen?;
    let report = report.map_err(text)?;
    check("the bus freezes while a stop is waited for", report.end == JobEnd::Unseen && report.is_down(), &report)
}

/// A bus that did not answer is left alone for a moment: waits until it is used again.
async fn used_again(systemd: &Systemd) -> Outcome {
    let dbus = unit("dbus.service")?;
    reading::until("the bus is used again", async || Ok(systemd.processes(&dbus).await.is_ok())).await
}

pub async fn stopped(systemd: &Systemd) -> Outcome {
    used_again(systemd).await?;
    let names = ["ebb-tour-plain.service", "ebb-tour-slow.service", "ebb-tour-wrapper.service"];
    let sockets = ["ebb-tour-door.socket", "ebb-tour-each.socket", "ebb-tour-door.service"];
    fixture::start(systemd, "ebb-tour-plain.service").await?;
    let mut by_bus = Vec::new();
    for name in names.iter().chain(&sockets) {
        by_bus.push(systemd.unit(&unit(name)?).await.map_err(text)?);
    }
    let units_by_bus = systemd.units().await.map_err(text)?;
    let files_by_bus = systemd.unit_files().await.map_err(text)?;
    fixture::run("systemctl", &["stop", "dbus.socket", "dbus.service"]).await?;
    let began = Instant::now();
    let units = systemd.units().await.map_err(text)?;
    println!("  note  no bus: {} of {} units listed in {:?}", units.len(), units_by_bus.len(), began.elapsed());
    check("no bus: the same units", same_names(&units_by_bus, &units), &units.len())?;
    let inactive = units.iter().filter(|line| line.active == ActiveState::Inactive).count();
    check("no bus: inactive ones too", inactive > 0, &units)?;
    let files = systemd.unit_files().await.map_err(text)?;
    let missing: Vec<_> = files_by_bus.iter().filter(|file| !files.contains(file)).collect();
    check("no bus: the same unit files", missing.is_empty(), &missing)?;
    for unit in by_bus {
        let began = Instant::now();
        let now = systemd.unit(&unit.name).await.map_err(text)?;
        println!("  note  no bus: {} read in {:?}", unit.name, began.elapsed());
        let (unit, now) = (comparable(unit), comparable(now));
        check("no bus: the same unit", unit == now, &format!("{unit}\nnow\n{now}"))?;
    }
    by_systemctl(systemd).await
}

fn same_names(one: &[ebb_systemd::UnitLine], two: &[ebb_systemd::UnitLine]) -> bool {
    let names = |lines: &[ebb_systemd::UnitLine]| {
        let mut names: Vec<_> = lines
            .iter()
            // What depends on the bus is just not what it was.
            .filter(|line| line.name.as_str().starts_with("ebb-tour-"))
            .map(|line| (line.name.clone(), line.active.clone(), line.description.clone()))
            .collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names
    };
    names(one) == names(two)
}

/// Everything but what the fallback does not know.
fn comparable(mut unit: Unit) -> String {
    if let Some(moment) = &mut unit.active_enter {
        moment.wall_usec = None;
    }
    for list in [&mut unit.requires, &mut unit.wants, &mut unit.required_by] {
        list.sort();
    }
    format!("{unit:#?}")
}

async fn by_systemctl(systemd: &Systemd) -> Outcome {
    let plain = unit("ebb-tour-plain.service")?;
    let report = systemd.stop(&plain, PATIENCE).await.map_err(text)?;
    let done = report.end == JobEnd::Done && report.after.active == ActiveState::Inactive;
    check("no bus: stop", done, &report)?;
    fixture::start(systemd, plain.as_str()).await?;
    let sore = unit("ebb-tour-sore.service")?;
    fixture::start(systemd, sore.as_str()).await?;
    sleep(Duration::from_millis(500)).await;
    let report = systemd.stop(&sore, PATIENCE).await.map_err(text)?;
    check("no bus: a stop that ends in failed", report.left_failed(), &report)?;
    systemd.reset_failed(&sore).await.map_err(text)?;
    let state = systemd.states(&[sore]).await.map_err(text)?;
    check("no bus: and cleared", state[0].active == ActiveState::Inactive, &state)?;
    let slow = unit("ebb-tour-slow.service")?;
    fixture::start(systemd, slow.as_str()).await?;
    let report = systemd.stop(&slow, Duration::from_secs(1)).await.map_err(text)?;
    check("no bus: a deadline", report.end == JobEnd::DeadlinePassed, &report)?;
    for (name, end) in [
        ("ebb-tour-broken.service", JobEnd::Failed),
        ("ebb-tour-needs-broken.service", JobEnd::Dependency),
        ("ebb-tour-asserting.service", JobEnd::Assert),
    ] {
        let report = systemd.start(&unit(name)?, PATIENCE).await.map_err(text)?;
        check(&format!("no bus: {name} ends in {end}"), report.end == end, &report)?;
    }
    let none = unit("ebb-tour-none.service")?;
    let seen = systemd.stop(&none, PATIENCE).await;
    check("no bus: stop none", matches!(seen, Err(Error::NoSuchUnit { .. })), &seen)?;
    let seen = systemd.start(&none, PATIENCE).await;
    check("no bus: start none", matches!(seen, Err(Error::NoSuchUnit { .. })), &seen)?;
    let seen = systemd.unit(&none).await;
    check("no bus: read none", matches!(seen, Err(Error::NoSuchUnit { .. })), &seen)?;
    let seen = systemd.stop(&unit("ebb-tour-private.service")?, PATIENCE).await;
    check("no bus: refused", matches!(seen, Err(Error::Refused { .. })), &seen)?;
    let seen = systemd.processes(&plain).await;
    check("no bus: said where there is no fallback", matches!(seen, Err(Error::BusGone { .. })), &seen)?;
    fixture::run("systemctl", &["start", "dbus.socket", "dbus.service"]).await?;
    used_again(systemd).await
}
