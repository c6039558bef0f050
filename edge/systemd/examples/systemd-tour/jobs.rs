use std::time::Duration;

use ebb_systemd::{ActiveState, Change, Changes, Error, JobEnd, Systemd, UnitName};
use tokio::{task::JoinSet, time::timeout};

use crate::{Outcome, PATIENCE, check, fixture, text, unit};

pub async fn stop_and_start(systemd: &Systemd) -> Outcome {
    let plain = unit("ebb-tour-plain.service")?;
    for _ in 0..20 {
        let report = systemd.stop(&plain, PATIENCE).await.map_err(text)?;
        if report.end != JobEnd::Done || report.after.active != ActiveState::Inactive {
            return Err(format!("stop: {report:?}"));
        }
        let report = systemd.start(&plain, PATIENCE).await.map_err(text)?;
        if report.end != JobEnd::Done || report.after.active != ActiveState::Active {
            return Err(format!("start: {report:?}"));
        }
    }
    check("20 stops and starts, each waited for", true, &())?;
    systemd.stop(&plain, PATIENCE).await.map_err(text)?;
    let again = systemd.stop(&plain, PATIENCE).await;
    let fine = match &again {
        Ok(report) => report.end == JobEnd::Done && report.is_down(),
        Err(error) => matches!(error, Error::NoSuchUnit { .. }),
    };
    check("a stop of what is down is no failure", fine, &again)
}

pub async fn bad_ends(systemd: &Systemd) -> Outcome {
    for (name, result) in [("sore", "exit-code"), ("stubborn", "timeout")] {
        let name = unit(&format!("ebb-tour-{name}.service"))?;
        fixture::start(systemd, name.as_str()).await?;
        // Until the shell has set its trap the signal would end it as usual.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let report = systemd.stop(&name, PATIENCE).await.map_err(text)?;
        let down = report.end == JobEnd::Done && report.left_failed() && report.is_down();
        check(&format!("{name}: stopped, and failed"), down, &report)?;
        check("with the result", report.after.result == result, &report)?;
        systemd.reset_failed(&name).await.map_err(text)?;
        let state = systemd.states(&[name]).await.map_err(text)?;
        let cleared = state.iter().all(|line| line.active == ActiveState::Inactive);
        check("and cleared", cleared, &state)?;
    }
    let start = async |name: &str| systemd.start(&unit(name)?, PATIENCE).await.map_err(text);
    let report = start("ebb-tour-broken.service").await?;
    check("a start fails", report.end == JobEnd::Failed && report.left_failed(), &report)?;
    let report = start("ebb-tour-needs-broken.service").await?;
    check("a dependency fails", report.end == JobEnd::Dependency, &report)?;
    let report = start("ebb-tour-asserting.service").await?;
    check("an assertion fails", report.end == JobEnd::Assert, &report)?;
    let report = start("ebb-tour-conditional.service").await?;
    let skipped = report.after.condition_met == Some(false) && report.is_down();
    check("a condition fails quietly, and is told", skipped, &report)
}

pub async fn interrupted(systemd: &Systemd) -> Outcome {
    let slow = unit("ebb-tour-slow.service")?;
    fixture::start(systemd, slow.as_str()).await?;
    let report = systemd.stop(&slow, Duration::from_secs(1)).await.map_err(text)?;
    let running = report.end == JobEnd::DeadlinePassed && report.after.job.is_some();
    check("a deadline ends the wait, not the job", running, &report)?;
    let report = systemd.stop(&slow, PATIENCE).await.map_err(text)?;
    check("a second stop joins the same job", report.end == JobEnd::Done && report.is_down(), &report)?;
    fixture::start(systemd, slow.as_str()).await?;
    let intruder = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fixture::run("systemctl", &["start", slow.as_str()]).await
    };
    let (report, _) = tokio::join!(systemd.stop(&slow, PATIENCE), intruder);
    let report = report.map_err(text)?;
    check("somebody's start cancels our stop", report.end == JobEnd::Canceled, &report)
}

/// More signals than any queue holds, while calls go on.
pub async fn many_at_once(systemd: &Systemd) -> Outcome {
    let mut jobs = JoinSet::new();
    for number in 0..fixture::FILL {
        let systemd = systemd.clone();
        let name = unit(&format!("ebb-tour-fill@{number}.service"))?;
        jobs.spawn(async move { systemd.stop(&name, PATIENCE).await });
    }
    while let Some(report) = jobs.join_next().await {
        let report = report.map_err(text)?.map_err(text)?;
        if report.end != JobEnd::Done || !report.is_down() {
            return Err(format!("one of many stops: {report:?}"));
        }
    }
    check("160 stops at once", true, &())
}

pub async fn next(changes: &mut Changes) -> Result<Change, String> {
    timeout(PATIENCE, changes.next()).await.map_err(|_| "no change came".to_owned())
}

/// An owner who drops the wait at once, again and again: it must get there all the same.
async fn impatient(changes: &mut Changes) -> Result<Change, String> {
    for _ in 0..PATIENCE.as_micros() / 100 {
        tokio::select! {
            biased;
            change = changes.next() => return Ok(change),
            () = tokio::time::sleep(Duration::from_micros(100)) => {}
        }
    }
    Err("no change came".to_owned())
}

/// The next edge of this unit, as (from, to, job pending).
pub async fn edge(changes: &mut Changes, of: &UnitName) -> Result<String, String> {
    loop {
        match next(changes).await? {
            Change::State(edge) if edge.unit == *of => {
                let job = if edge.job.is_some() { " (job)" } else { "" };
                return Ok(format!("{} -> {}{job}", edge.from, edge.to));
            }
            Change::Lost => return Err("the bus was lost".to_owned()),
            _ => {}
        }
    }
}

pub async fn changes(systemd: &Systemd) -> Outcome {
    let slow = unit("ebb-tour-slow.service")?;
    fixture::run("systemctl", &["stop", slow.as_str()]).await?;
    let mut changes = systemd.changes();
    let first = impatient(&mut changes).await?;
    check("changes begin with Back, also for an owner in a hurry", first == Change::Back, &first)?;
    // Nobody listens during this: at 64 unread messages a shared connection would be stuck.
    fixture::start(systemd, "ebb-tour-fill.target").await?;
    fixture::start(systemd, slow.as_str()).await?;
    systemd.stop(&slow, PATIENCE).await.map_err(text)?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(edge(&mut changes, &slow).await?);
    }
    // The job is still there at each of them: what is settled is told by JobEnded.
    let wanted = ["inactive -> active (job)", "active -> deactivating (job)", "deactivating -> inactive (job)"];
    check("edges, each once, in order", seen == wanted, &seen)?;
    while !matches!(next(&mut changes).await?, Change::JobEnded { unit, .. } if unit == slow) {}
    check("then the end of the job", true, &())?;
    fixture::start(systemd, slow.as_str()).await?;
    let first = edge(&mut changes, &slow).await?;
    check("the next start", first == "inactive -> active (job)", &first)?;
    // A reload unloads every unit and loads it again: none of that is an edge.
    systemd.reload_daemon().await.map_err(text)?;
    loop {
        match next(&mut changes).await? {
            Change::Reloaded => break,
            Change::State(edge) => return Err(format!("a reload made an edge: {edge:?}")),
            _ => {}
        }
    }
    check("a reload is told, and makes no edges", true, &())?;
    systemd.stop(&slow, PATIENCE).await.map_err(text)?;
    let after = edge(&mut changes, &slow).await?;
    check("edges go on after it", after == "active -> deactivating (job)", &after)
}
