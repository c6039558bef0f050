//! The resident agent while nothing happens, beside very many connections.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ebb_kernel::netns::die_with_parent;

use super::cpu::{self, Used};
use super::ebb::{Drain, Ebb, SERVICE};
use super::figure::{Figure, Figures, Target};
use super::peer::ss;
use super::sockets::Crowd;
use super::stage::Stage;

/// Connections of the service.
const SESSIONS: usize = 100_000;
/// How long it is watched, and how long it may take before to see all for the first time.
const WATCHED: Duration = Duration::from_secs(60);
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// Of one core.
const CPU_PERCENT: f64 = 1.0;
/// 40 MB.
const MEMORY_MIB: f64 = 40e6 / (1024.0 * 1024.0);
/// How often people look today, and how often here.
const EACH: Duration = Duration::from_secs(1);
const LOOKS: u32 = 20;

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let Some(ebb) = Ebb::find()? else {
        figures.note("agent: ebb has not been built");
        return Ok(());
    };
    let stage = Stage::build()?;
    let mut crowd = Crowd::gather(&stage, SESSIONS)?;
    figures.part("agent", &format!("resident, {SESSIONS} connections of one service, {} s each", WATCHED.as_secs()));
    let peer = peer(&stage)?;
    let agent = Agent::start(&stage, &ebb)?;
    agent.idle(figures, "nothing held", peer)?;
    let mut drain = Drain::start(&stage, &ebb, Stdio::null())?;
    drain.shut(&stage)?;
    drain.leave()?;
    agent.idle(figures, "a drain of them under way", peer)?;
    let counted = ebb.lines(&stage.server, &["sessions", SERVICE, "--json"], "session")?;
    if counted != SESSIONS {
        return Err(format!("have {SESSIONS} connections to the end: {counted} are left"));
    }
    ebb.resume(&stage)?;
    drop(agent);
    crowd.leave()
}

/// `ss -tan` once a second, in percent of a core.
fn peer(stage: &Stage) -> Result<f64, String> {
    let mut used = Used::default();
    let began = Instant::now();
    for look in 1..=LOOKS {
        used.add(ss(&stage.server, &["-tan"]))?;
        std::thread::sleep((EACH * look).saturating_sub(began.elapsed()));
    }
    Ok(used.cpu / began.elapsed().as_secs_f64() * 100.0)
}

/// A resident agent; ended when dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    fn start(stage: &Stage, ebb: &Ebb) -> Result<Self, String> {
        let mut command = ebb.command(&stage.server, &["agent"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = die_with_parent(&mut command).spawn().map_err(|error| format!("start ebb agent: {error}"))?;
        let agent = Self(child);
        let socket: PathBuf = ebb.folder.join("state/agent.sock");
        let began = Instant::now();
        while !socket.exists() {
            if began.elapsed() > FIRST_LOOK {
                return Err(String::from("have ebb agent serve"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(agent)
    }

    fn idle(&self, figures: &mut Figures, while_: &str, peer: f64) -> Result<(), String> {
        std::thread::sleep(FIRST_LOOK);
        let pid = self.0.id();
        let (before, began) = (cpu::of_process(pid)?, Instant::now());
        std::thread::sleep(WATCHED);
        let share = (cpu::of_process(pid)? - before) / began.elapsed().as_secs_f64() * 100.0;
        let target = Target::AtMost(CPU_PERCENT);
        let what = format!("{while_}, % of a core");
        figures.add(&Figure { what: &what, ours: share, peer: Some(("ss -tan each second", peer)), target });
        let memory = cpu::proportional(pid).unwrap_or(f64::NAN);
        figures.own("the same, memory (PSS), MiB", memory, Target::AtMost(MEMORY_MIB));
        let peak = cpu::resident_peak(pid).unwrap_or(f64::NAN);
        figures.own("the same, largest resident size, MiB", peak, Target::AtMost(MEMORY_MIB));
        Ok(())
    }
}
