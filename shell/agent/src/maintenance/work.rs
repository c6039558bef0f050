//! The work of a maintenance: a command that outlives the agent, and may reboot the server.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ebb_decide::maintenance::{Next, next};
use ebb_kernel::process::{Pid, group_runs};
use ebb_link::Reply;
use ebb_model::{Entry, EventKind, Run, Step, Why, Work, printable};
use tokio::process::Command;

use super::tell;
use crate::say;
use crate::world::World;

/// Between two looks whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// What the commands of so many runs have printed is kept.
const LOGS_KEPT: u64 = 10;
/// A server that is to go down is gone by then, or somebody keeps it.
const DOWN_WITHIN: Duration = Duration::from_secs(900);

/// Runs a command, and leaves behind what became of it: `$0.began` before it, `$0.status` after it.
const SCRIPT: &str = r#"(umask 077; : >>"$0.log"); exec 2>>"$0.log"; echo "$$" >"$0.began"; sync "$0.began"; "$@" >>"$0.log" 2>&1 </dev/null; echo "$?" >"$0.status""#;

/// Where its traces are.
struct Traces(PathBuf);

impl Traces {
    fn of(world: &World, run: &Run) -> Self {
        Self(world.place.state_dir.join(format!("work-{}", run.number)))
    }

    fn path(&self, what: &str) -> PathBuf {
        self.0.with_extension(what)
    }

    fn read(&self, what: &str) -> Option<i64> {
        fs::read_to_string(self.path(what)).ok()?.trim().parse().ok()
    }

    /// All of them but what it has printed.
    fn forget(&self) {
        for what in ["began", "status", "asked", "new"] {
            let _ = fs::remove_file(self.path(what));
        }
    }

    /// It was begun, and is not over: its shell may be gone, and what that began goes on.
    fn runs(&self, world: &World, run: &Run) -> bool {
        self.read("began").is_some_and(is_there) && began_here(world, run)
    }
}

fn is_there(pid: i64) -> bool {
    u32::try_from(pid).ok().and_then(Pid::new).is_some_and(group_runs)
}

/// What will not be possible is said before anything is touched.
pub(super) fn possible(world: &World, work: &Work) -> Result<(), Why> {
    let no = |what: String, help: &str| Err(Why::Unsupported { what, help: help.to_owned() });
    match work {
        Work::Reboot if world.systemd.is_none() => no(
            "systemd does not run here: ebb cannot reboot this server".to_owned(),
            "without --reboot the work is yours",
        ),
        Work::Command(command) => match command.first() {
            Some(program) if program.contains('/') && !program.starts_with('/') => no(
                format!("`{program}` is no absolute path, and the work does not begin in this directory"),
                "give it as a path that begins with /",
            ),
            Some(program) if !is_program(world, program) => no(
                format!("there is no program `{program}`, and it would be missed only when all is stopped"),
                "check its name",
            ),
            _ => Ok(()),
        },
        Work::ByHand | Work::Reboot => Ok(()),
    }
}

/// Whether it is found where the work will look for it: systemd's own path, or ours.
fn is_program(world: &World, name: &str) -> bool {
    let runs =
        |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if name.starts_with('/') {
        return runs(Path::new(name));
    }
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    let path = if world.systemd.is_some() { usual } else { std::env::var("PATH").unwrap_or(usual) };
    path.split(':').filter(|dir| dir.starts_with('/')).any(|dir| runs(&Path::new(dir).join(name)))
}

/// Whether its last beginning was in this boot.
fn began_here(world: &World, run: &Run) -> bool {
    first_began(run).is_some_and(|boot_id| boot_id == world.boot_id)
}

/// In which boot it was begun, since somebody asked for it last.
fn first_began(run: &Run) -> Option<&str> {
    let asked = run.journal.iter().rposition(|line| line.entry == Entry::StartAsked).unwrap_or(0);
    let began = run.journal[asked..].iter().find(|line| line.entry == Entry::Began(Step::Work));
    began.map(|line| line.boot_id.as_str())
}

/// It failed, and somebody has asked for it again, and this is the first time since. By the journal alone: what could not be
/// written there is not known, and a command is never run again by itself.
fn asked_again(run: &Run) -> bool {
    let last = |entry: &Entry| run.journal.iter().rposition(|line| line.entry == *entry);
    let (Some(failed), Some(asked)) = (last(&Entry::Failed(Step::Work)), last(&Entry::StartAsked)) else {
        return false;
    };
    let begun = run.journal[asked..].iter().filter(|line| line.entry == Entry::Began(Step::Work)).count();
    // Its own beginning is not in what was read.
    failed < asked && begun == 0
}

/// The way back is not begun while the work is done.
pub(super) async fn must_not_run(world: &World, run: &Run) -> Result<(), Why> {
    let at_work = matches!(next(run), Next::Do(Step::Work) | Next::Halted(Step::Work, _));
    if !at_work || !Traces::of(world, run).runs(world, run) {
        return Ok(());
    }
    Err(Why::Halted {
        what: format!("the work is under way: {}", tell::work(&run.plan.work)),
        help: format!("wait for it, or end it: {}", ending(world, run)),
    })
}

fn ending(world: &World, run: &Run) -> String {
    match (&world.systemd, Traces::of(world, run).read("began")) {
        (Some(_), _) => format!("`systemctl stop {}`", unit(run)),
        (None, Some(pid)) => format!("`kill -- -{pid}`"),
        (None, None) => "end it by hand".to_owned(),
    }
}

fn unit(run: &Run) -> String {
    format!("ebb-work-{}.service", run.number)
}

pub(super) async fn perform(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    let rebooted = first_began(run).is_some_and(|boot_id| boot_id != world.boot_id);
    match &run.plan.work {
        Work::ByHand => Ok("by hand".to_owned()),
        Work::Command(command) => command_done(world, run, (command, rebooted), reply).await,
        Work::Reboot if rebooted => {
            let text = "the server was rebooted".to_owned();
            tell::event(world, EventKind::WorkEnded, run, format!("the work is done: {text}"), reply).await;
            Ok(text)
        }
        Work::Reboot => reboot(world, run, reply).await,
    }
}

async fn reboot(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    let asked = Traces::of(world, run).path("asked");
    let failed = |what: String| {
        // Who asks again is meant.
        let _ = fs::remove_file(&asked);
        Why::Halted { what, help: "see why it does not go down, then `ebb maintenance start` again".to_owned() }
    };
    if world.systemd.is_none() {
        return Err(failed("systemd does not run here: ebb cannot reboot this server".to_owned()));
    }
    // Asked for once in each boot: a server that comes back as if nothing had been must not be rebooted for ever.
    if fs::read_to_string(&asked).is_ok_and(|boot_id| boot_id == world.boot_id) {
        if going_down().await {
            tokio::time::sleep(DOWN_WITHIN).await;
        }
        return Err(failed("a reboot was asked for, and this is still the same boot".to_owned()));
    }
    let unwritten =
        |error: std::io::Error| Why::Unwritten { what: asked.display().to_string(), cause: error.to_string() };
    fs::write(&asked, &world.boot_id).map_err(unwritten)?;
    tell::event(world, EventKind::WorkBegan, run, "the server is rebooted".to_owned(), reply).await;
    // Nobody is left whose session would need it.
    crate::protect::withdraw(world).await?;
    // The agent is confined: what it asks systemd for is not.
    let answer = Command::new("systemctl").arg("reboot").stdin(Stdio::null()).output().await;
    match answer {
        Err(error) => return Err(failed(format!("`systemctl reboot`: {error}"))),
        // By a signal it ends when we are stopped ourselves, which is the beginning of what was asked for.
        Ok(output) if output.status.code().is_some_and(|code| code != 0) && !going_down().await => {
            let said = printable(String::from_utf8_lossy(&output.stderr).trim());
            return Err(failed(format!("`systemctl reboot` was refused: {said}")));
        }
        Ok(_) => {}
    }
    // We are ended on the way; the next agent finds another boot.
    tokio::time::sleep(DOWN_WITHIN).await;
    Err(failed(format!("the server has not gone down for {} s", DOWN_WITHIN.as_secs())))
}

async fn command_done(
    world: &Arc<World>,
    run: &Run,
    (command, rebooted): (&[String], bool),
    reply: &Reply,
) -> Result<String, Why> {
    let traces = Traces::of(world, run);
    if asked_again(run) {
        traces.forget();
    } else if rebooted && traces.read("status").is_none() {
        return Err(failed(
            run,
            "the server went down while it ran: whether it has done its work is not known",
            &traces,
        ));
    }
    if traces.read("began").is_none() {
        // It may reboot the server, and nobody is left whose session would be hurt by that.
        crate::protect::withdraw(world).await?;
        tell::event(
            world,
            EventKind::WorkBegan,
            run,
            format!("the work began: {}", tell::command_line(command)),
            reply,
        )
        .await;
        spawn(world, run, &traces, command).await?;
    }
    let mut shown = 0;
    let status = loop {
        shown = show(&traces, shown, reply).await;
        if let Some(status) = traces.read("status") {
            loop {
                let more = show(&traces, shown, reply).await;
                if more == shown {
                    break;
                }
                shown = more;
            }
            break status;
        }
        if traces.read("began").is_some_and(|pid| !is_there(pid)) && traces.read("status").is_none() {
            return Err(failed(run, "it was killed, and whether it has done its work is not known", &traces));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    if status != 0 {
        return Err(failed(run, &format!("it ended with {status}"), &traces));
    }
    if world.systemd.is_some() && !rebooted && going_down().await {
        // It has asked for a reboot: nothing is started in a server that goes down.
        tokio::time::sleep(DOWN_WITHIN).await;
    }
    let also = if rebooted { ", and the server was rebooted" } else { "" };
    let text = format!("done: {}{also}", tell::command_line(command));
    tell::event(world, EventKind::WorkEnded, run, format!("the work is {text}"), reply).await;
    Ok(text)
}

/// The traces of a run that is over go, but for what its command has printed; of older runs that goes too.
pub(super) fn forget(world: &World, run: &Run) {
    Traces::of(world, run).forget();
    if let Some(old) = run.number.checked_sub(LOGS_KEPT) {
        let _ = fs::remove_file(world.place.state_dir.join(format!("work-{old}.log")));
    }
}

/// Why it cannot go on; asked for again, the command is run again.
fn failed(run: &Run, how: &str, traces: &Traces) -> Why {
    let back = ebb_model::resume_server(run.plan.requester.as_str());
    Why::Halted {
        what: format!("{}: {how}", tell::work(&run.plan.work)),
        help: format!(
            "its output is in {}; once it is mended by hand, `{back}`; the same command again runs it again",
            traces.path("log").display()
        ),
    }
}

/// Whether this server goes down: systemd says so, or is so far that it says nothing any more, or the one who asks is ended
/// along with us.
async fn going_down() -> bool {
    let output = Command::new("systemctl").arg("is-system-running").stdin(Stdio::null()).output().await;
    let stays = ["initializing", "starting", "running", "degraded", "maintenance"];
    output.is_ok_and(|output| {
        output.status.code().is_none() || !stays.contains(&String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// Beside us, and outside of our confinement: in a unit of its own, or without systemd in a session of its own.
async fn spawn(world: &World, run: &Run, traces: &Traces, command: &[String]) -> Result<(), Why> {
    let mut start = if world.systemd.is_some() {
        let mut start = Command::new("systemd-run");
        start.args(["--quiet", "--collect", "--unit", &unit(run), "--property=Type=exec", "--"]);
        start
    } else {
        Command::new("setsid")
    };
    if world.systemd.is_none() {
        start.arg("--fork");
    }
    // systemd puts the values of variables into arguments; what it is to leave alone is written twice.
    let as_it_is = |word: &str| if world.systemd.is_some() { word.replace('$', "$$") } else { word.to_owned() };
    start.args(["/bin/sh", "-c", &as_it_is(SCRIPT)]).arg(&traces.0).args(command.iter().map(|word| as_it_is(word)));
    start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun =
        start.output().await.map_err(|error| failed(run, &format!("it could not be begun: {error}"), traces))?;
    if !begun.status.success() {
        let said = printable(String::from_utf8_lossy(&begun.stderr).trim());
        return Err(failed(run, &format!("it could not be begun: {said}"), traces));
    }
    // It has begun once it says so.
    for _ in 0..100 {
        if traces.read("began").is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(failed(run, "it was begun, and does not say so", traces))
}

/// What is passed on at once, in bytes.
const SHOWN_AT_ONCE: u64 = 64 << 10;
/// What waits to be passed on is skipped from here on: it is in the log.
const SHOWN_BEHIND: u64 = 1 << 20;

/// Passes on some of what it has printed since; the answer is how far that is shown now, in bytes.
async fn show(traces: &Traces, shown: u64, reply: &Reply) -> u64 {
    let path = traces.path("log");
    let Ok(mut log) = fs::File::open(&path) else { return shown };
    let length = log.metadata().map_or(0, |meta| meta.len());
    let from = if length.saturating_sub(shown) > SHOWN_BEHIND { length - SHOWN_AT_ONCE } else { shown };
    let mut fresh = Vec::new();
    if log.seek(SeekFrom::Start(from)).and_then(|_| log.take(SHOWN_AT_ONCE).read_to_end(&mut fresh)).is_err() {
        return shown;
    }
    // Whole lines, but for one that does not end.
    let end = match fresh.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if fresh.len() as u64 == SHOWN_AT_ONCE => fresh.len(),
        None => return shown,
    };
    if from > shown {
        let text = format!("  | ... {} bytes are left out here: {}", from - shown, path.display());
        reply.send(say::note(None, false, text)).await;
    }
    for line in String::from_utf8_lossy(&fresh[..end]).lines() {
        reply.send(say::note(None, false, format!("  | {}", printable(line)))).await;
    }
    from + end as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebb_model::{Line, MaintenancePlan, Requester, Span, Then, Wall, Who};

    fn after(entries: &[Entry]) -> Run {
        let line = |entry: &Entry| Line { at: Wall(0), boot_id: "b".into(), entry: entry.clone(), text: String::new() };
        let plan = MaintenancePlan {
            requester: Requester::new("maintenance".to_owned()).unwrap(),
            reason: String::new(),
            by: Who { uid: 0, name: "root".into() },
            layers: Vec::new(),
            not: Vec::new(),
            meant_for: None,
            reopen: false,
            except: std::collections::BTreeSet::new(),
            delay: Span::ZERO,
            deadline: None,
            then: Then::Ask,
            work: Work::Command(vec!["true".into()]),
            drill: false,
            watch: Span::ZERO,
            override_guards: None,
        };
        Run { number: 1, plan, journal: entries.iter().map(line).collect() }
    }

    #[test]
    fn a_command_that_failed_is_run_again_once_for_each_time_that_somebody_asks() {
        let (began, failed, asked) = (Entry::Began(Step::Work), Entry::Failed(Step::Work), Entry::StartAsked);
        let again =
            |entries: &[&Entry]| asked_again(&after(&entries.iter().map(|one| (*one).clone()).collect::<Vec<_>>()));
        assert!(!again(&[&asked]));
        assert!(!again(&[&asked, &began]), "a crash in its middle");
        assert!(!again(&[&asked, &began, &failed]), "nobody has asked");
        assert!(again(&[&asked, &began, &failed, &asked]));
        assert!(!again(&[&asked, &began, &failed, &asked, &began]), "that was this one; it goes on after a crash");
        assert!(again(&[&asked, &began, &failed, &asked, &began, &failed, &asked]));
    }
}
