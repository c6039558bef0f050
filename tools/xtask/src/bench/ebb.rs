//! The `ebb` command itself.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_kernel::gate::Gate;
use ebb_kernel::netns::{Ns, die_with_parent};

use super::cpu::{self, Used};
use super::figure::{Figure, Figures, Target, median};
use super::peer::ss;
use super::stage::{Stage, within};
use crate::tool;

/// Runs of each program, in turn.
const RUNS: usize = 5;
/// How long a drain is watched, and how long it may take before to see all for the first time.
const WATCHED: Duration = Duration::from_secs(30);
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// How long a drain may take for what it can do at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the agent calls the service of our own processes: they have no unit, so it is their executable.
pub const SERVICE: &str = "xtask";
/// The agent's table in the kernel.
const TABLE: &str = "ebb";

/// The release build beside us, with a state of its own.
#[derive(Debug)]
pub struct Ebb {
    program: PathBuf,
    /// For what it keeps, and for whatever else belongs to this run; removed in the end.
    pub folder: PathBuf,
}

impl Drop for Ebb {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Ebb {
    /// `None`: it has not been built.
    pub fn find() -> Result<Option<Self>, String> {
        let own = std::env::current_exe().map_err(|error| format!("find ourselves: {error}"))?;
        let program = own.with_file_name("ebb");
        if !program.exists() {
            return Ok(None);
        }
        let folder = own.with_file_name(format!("bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
        Ok(Some(Self { program, folder }))
    }

    /// The program itself, to be put elsewhere.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.program).map_err(|error| format!("read {}: {error}", self.program.display()))
    }

    /// It, in a namespace.
    pub fn command(&self, ns: &Ns, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("EBB_STATE_DIR", self.folder.join("state")).env("EBB_CONFIG", self.folder.join("none"));
        ns.command(command.args(arguments));
        command
    }

    /// How many lines of this kind it says as JSON.
    pub fn lines(&self, ns: &Ns, arguments: &[&str], kind: &str) -> Result<usize, String> {
        let said = tool::output(&mut self.command(ns, arguments))?;
        let kind = format!("\"type\":\"{kind}\"");
        Ok(said.lines().filter(|line| line.contains(&kind)).count())
    }

    /// Opens the gate of our service again.
    pub fn resume(&self, stage: &Stage) -> Result<(), String> {
        tool::output(&mut self.command(&stage.server, &["resume", SERVICE])).map(drop)
    }
}

/// `ebb sessions`, of so many.
pub fn sessions(figures: &mut Figures, stage: &Stage, ebb: &Ebb, count: usize) -> Result<(), String> {
    let arguments = ["sessions", SERVICE, "--json"];
    figures.note(
        "the clients are processes of this machine: where there is no systemd, ebb looks through their descriptors too",
    );
    let listed = ebb.lines(&stage.server, &arguments, "session")?;
    if listed != count {
        return Err(format!("have ebb list {count} sessions: it lists {listed}"));
    }
    let (mut ours, mut peer) = (Used::default(), Used::default());
    for _ in 0..RUNS {
        ours.add(ebb.command(&stage.server, &arguments))?;
        peer.add(ss(&stage.server, &["-tniH"]))?;
    }
    let milliseconds = |used: &Used| median(&used.wall) * 1e3;
    figures.add(&Figure {
        what: "ebb sessions --json, wall ms",
        ours: milliseconds(&ours),
        peer: Some(("ss -tniH", milliseconds(&peer))),
        target: Target::RatioAtMost(0.5),
    });
    let per_run = |used: &Used| used.cpu / RUNS as f64 * 1e3;
    figures.add(&Figure {
        what: "ebb sessions --json, CPU ms",
        ours: per_run(&ours),
        peer: Some(("ss -tniH", per_run(&peer))),
        target: Target::None,
    });
    let mut found = Used::default();
    for _ in 0..RUNS {
        found.add(ebb.command(&stage.server, &["services", "--no-count"]))?;
    }
    figures.own("ebb services --no-count beside them, wall ms", milliseconds(&found), Target::None);
    let mut memory = Used::default();
    memory.add_memory(ebb.command(&stage.server, &arguments))?;
    figures.own("ebb sessions --json, peak memory, MiB", memory.memory, Target::AtMost(40.0));
    Ok(())
}

/// What a drain costs while nothing happens.
pub fn watch(figures: &mut Figures, stage: &Stage, ebb: &Ebb) -> Result<(), String> {
    let mut drain = Drain::start(stage, ebb, Stdio::null())?;
    let shut = drain.shut(stage)?;
    figures.own("ebb drain, start to gate shut, wall ms", shut, Target::None);
    let before = drain.looked()?;
    std::thread::sleep(WATCHED);
    let share = (drain.cpu()? - before) / WATCHED.as_secs_f64() * 100.0;
    figures.own("ebb drain --no-stop watching them idle, % of a core", share, Target::AtMost(1.0));
    figures.own("the same, its first look, CPU ms", before * 1e3, Target::None);
    figures.own("the same, peak memory, MiB", drain.peak(), Target::None);
    drain.leave()?;
    ebb.resume(stage)
}

/// A running `ebb drain`.
#[derive(Debug)]
pub struct Drain {
    child: Child,
    began: Instant,
}

impl Drop for Drain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drain {
    /// Starts it; `said` gets its JSON.
    pub fn start(stage: &Stage, ebb: &Ebb, said: Stdio) -> Result<Self, String> {
        let mut command = ebb.command(&stage.server, &["drain", SERVICE, "--no-stop", "--json"]);
        command.stdin(Stdio::null()).stdout(said).stderr(Stdio::null());
        let began = Instant::now();
        let child = die_with_parent(&mut command).spawn().map_err(|error| format!("start ebb drain: {error}"))?;
        Ok(Self { child, began })
    }

    /// Waits until it has shut the gate; milliseconds since its start. Looked up in the kernel: a knock before it is shut would
    /// be one more session.
    pub fn shut(&mut self, stage: &Stage) -> Result<f64, String> {
        let mut gate = within(&stage.server, || Gate::open(TABLE))?.map_err(|error| error.to_string())?;
        while gate.seen().map_err(|error| error.to_string())?.is_none_or(|seen| seen.rules.shut.is_empty()) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("have ebb drain: {status}"));
            }
            if self.began.elapsed() > PATIENCE {
                return Err(String::from("have ebb drain shut the gate"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.began.elapsed().as_secs_f64() * 1e3)
    }

    fn cpu(&mut self) -> Result<f64, String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("watch ebb drain: it ended: {status}"));
        }
        cpu::of_process(self.child.id())
    }

    /// Gives it time for its first look; the CPU seconds it took.
    pub fn looked(&mut self) -> Result<f64, String> {
        std::thread::sleep(FIRST_LOOK);
        self.cpu()
    }

    /// The largest resident size it has had, in MiB.
    pub fn peak(&self) -> f64 {
        cpu::resident_peak(self.child.id()).unwrap_or(f64::NAN)
    }

    /// Waits until it has ended by itself.
    pub fn end(mut self) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("have ebb drain to the end: {status}")),
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => return Err(format!("wait for ebb drain: {error}")),
            }
        }
        Err(format!("have ebb drain end within {} s", PATIENCE.as_secs()))
    }

    /// As by Ctrl-C: hold and gate stay.
    pub fn leave(mut self) -> Result<(), String> {
        let mut kill = Command::new("kill");
        tool::output(kill.args(["-INT", &self.child.id().to_string()]))?;
        self.child.wait().map(drop).map_err(|error| format!("wait for ebb drain: {error}"))
    }
}
