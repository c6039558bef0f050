//! Stops what has been proven empty, and tells when it is really down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ebb_kernel::{diag, process};
use ebb_model::{Door, Stopped, Tree, Why, duration};
use ebb_systemd::{Systemd, UnitName};

use crate::look;
use crate::world::chain;

/// A stop is given this long: systemd's own limits (`TimeoutStopSec`, 90 s by default) end it before.
const STOP: Duration = Duration::from_secs(900);
/// After its stop, a service must still be down after this time.
const STAYS_DOWN: Duration = Duration::from_millis(300);
/// A process started by hand is given this long after SIGTERM.
const TERM: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What to say of a stop beside that it was done.
pub(super) type Remarks = Vec<String>;

/// Stops these, in order. `doors`: those of the service, where nobody of it must listen afterwards.
pub(super) async fn all(
    systemd: Option<&Systemd>,
    stopped: &[Stopped],
    doors: &BTreeSet<Door>,
) -> Result<Remarks, Why> {
    let mut remarks = Remarks::new();
    for one in stopped {
        match one {
            Stopped::Unit(unit) => remarks.extend(self::unit(systemd, unit).await?),
            Stopped::Tree(tree) => self::tree(tree, doors).await?,
        }
    }
    Ok(remarks)
}

async fn unit(systemd: Option<&Systemd>, unit: &str) -> Result<Option<String>, Why> {
    let failed = |result: String| Why::UnitFailed { unit: unit.to_owned(), verb: "stop", result };
    let systemd = systemd.ok_or_else(|| failed("systemd does not run here".to_owned()))?;
    let name = UnitName::new(unit).map_err(|error| failed(chain(&error)))?;
    let report = systemd.stop(&name, STOP).await.map_err(|error| failed(chain(&error)))?;
    if !report.is_down() {
        return Err(failed(format!("the job ended `{}`, the unit is {}", report.end, report.after.active)));
    }
    // A hook or a supervisor may bring it back at once: stopped is what stays stopped.
    tokio::time::sleep(STAYS_DOWN).await;
    let now = systemd.states(std::slice::from_ref(&name)).await.map_err(|error| failed(chain(&error)))?;
    if let Some(line) = now.iter().find(|line| line.active.is_up() || line.job.is_some()) {
        return Err(failed(format!("it was stopped, and somebody started it again: it is {}", line.active)));
    }
    if !report.left_failed() {
        return Ok(None);
    }
    // It is down, and its sessions had ended before: `failed` (nginx after its 5 s, pg_ctlcluster) would only
    // mislead whoever looks next.
    let _ = systemd.reset_failed(&name).await;
    Ok(Some(format!(
        "{unit} ended as `failed` ({}) when it was stopped; nobody was connected, and it is reset",
        report.after.result
    )))
}

async fn tree(tree: &Tree, doors: &BTreeSet<Door>) -> Result<(), Why> {
    let failed = |result: String| Why::UnitFailed { unit: format!("process {}", tree.root), verb: "stop", result };
    let (of, at) = (tree.clone(), doors.clone());
    let ended = tokio::task::spawn_blocking(move || end_tree(&of, &at)).await;
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(result)) => return Err(failed(result)),
        Err(error) => return Err(failed(error.to_string())),
    }
    tokio::time::sleep(STAYS_DOWN).await;
    let (of, at) = (tree.clone(), doors.clone());
    let again = tokio::task::spawn_blocking(move || listening(&of, &BTreeMap::new(), &at)).await.unwrap_or_default();
    match again.keys().next() {
        Some(pid) => Err(failed(format!("it was stopped, and somebody started it again: process {pid}"))),
        None => Ok(()),
    }
}

/// SIGTERM to the root, and then to whoever of its family, or of its executable, still listens at its doors: workers
/// that outlive their parent, a process that has taken over.
fn end_tree(tree: &Tree, doors: &BTreeSet<Door>) -> Result<(), String> {
    let family = look::family([(tree.root, tree.started_ticks)]);
    let mut there = listening(tree, &family, doors);
    if look::is_alive(tree.root, tree.started_ticks) {
        there.insert(tree.root, tree.started_ticks);
    }
    let until = Instant::now() + TERM;
    let root = there.remove(&tree.root).map(|ticks| (tree.root, ticks));
    if let Some(root) = root {
        terminate(root, until)?;
    }
    while !there.is_empty() {
        let left = listening(tree, &family, doors);
        there.retain(|pid, _| left.contains_key(pid));
        let Some((pid, ticks)) = there.pop_first() else { break };
        terminate((pid, ticks), until)?;
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn terminate((pid, ticks): (u32, u64), until: Instant) -> Result<(), String> {
    let ended = || -> Result<bool, process::Error> {
        let Some(pid) = process::Pid::new(pid) else { return Ok(true) };
        let handle = match process::Handle::open(pid, ticks) {
            Err(process::Error::Gone { .. }) => return Ok(true),
            other => other?,
        };
        handle.signal(process::Signal::Terminate)?;
        handle.wait_exit(until.saturating_duration_since(Instant::now()))
    };
    match ended() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("process {pid} still runs {} after SIGTERM", duration(TERM.into()))),
        Err(error) => Err(chain(&error)),
    }
}

/// Who listens at these doors and is of the tree's family or runs its executable.
fn listening(tree: &Tree, family: &BTreeMap<u32, u64>, doors: &BTreeSet<Door>) -> BTreeMap<u32, u64> {
    let rows = diag::listeners().unwrap_or_default();
    let inodes = rows.iter().filter(|row| doors.iter().any(|door| door.fit(row.local).is_some())).map(|row| row.inode);
    let owners = process::owners_of_listeners(&inodes.collect(), &process::pids().unwrap_or_default());
    let holders: BTreeSet<process::Pid> = owners.holders.into_values().flatten().collect();
    let read = holders.into_iter().filter_map(|pid| process::read(pid).ok().flatten());
    let own = read.filter(|process| {
        family.get(&process.pid.get()) == Some(&process.start_ticks) || look::executable(process) == tree.executable
    });
    own.map(|process| (process.pid.get(), process.start_ticks)).collect()
}
