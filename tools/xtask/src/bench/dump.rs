//! Counting, listing and ending the sessions of a service that has very many.

use std::process::Command;
use std::time::Instant;

use ebb_kernel::diag::{Diag, Query, RowId};
use ebb_kernel::netns::Ns;

use super::cpu::Used;
use super::ebb::{self, Ebb};
use super::figure::{Figure, Figures, Target, median};
use super::peer::ss;
use super::sockets::{Crowd, PORT};
use super::stage::{Stage, within};

/// Sessions of the service.
const SESSIONS: usize = 100_000;
/// Runs of each program, in turn.
const RUNS: usize = 11;

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let stage = Stage::build()?;
    let began = Instant::now();
    let mut crowd = Crowd::gather(&stage, SESSIONS)?;
    figures
        .part("dump", &format!("{SESSIONS} sessions of one service, made in {:.0} s", began.elapsed().as_secs_f64()));
    census(figures, &stage)?;
    listeners(figures, &stage)?;
    match Ebb::find()? {
        Some(program) => {
            ebb::sessions(figures, &stage, &program, SESSIONS)?;
            ebb::watch(figures, &stage, &program)?;
        }
        None => figures.note("ebb has not been built: sessions and watching are left out"),
    }
    destroy(figures, &stage)?;
    crowd.leave()
}

/// CPU of a plain count and of one with all details.
fn census(figures: &mut Figures, stage: &Stage) -> Result<(), String> {
    for (details, argument, most) in [("plain", "-tan", 0.6), ("details", "-tani", 0.4)] {
        let (mut ours, mut peer) = (Used::default(), Used::default());
        for _ in 0..RUNS {
            ours.add(our_dump(stage, details)?)?;
            peer.add(ss(&stage.server, &[argument]))?;
        }
        let per_run = |used: &Used| used.cpu / RUNS as f64 * 1e3;
        let name = format!("list all, {details}, CPU ms");
        let peer = Some((format!("ss {argument}"), per_run(&peer)));
        let peer = peer.as_ref().map(|(name, cpu)| (name.as_str(), *cpu));
        figures.add(&Figure { what: &name, ours: per_run(&ours), peer, target: Target::RatioAtMost(most) });
    }
    let mut memory = Used::default();
    memory.add_memory(our_dump(stage, "details")?)?;
    figures.own("list all, details, peak memory, MiB", memory.memory, Target::None);
    Ok(())
}

fn our_dump(stage: &Stage, details: &str) -> Result<Command, String> {
    let own = std::env::current_exe().map_err(|error| format!("find ourselves: {error}"))?;
    let mut command = Command::new(own);
    stage.server.command(command.args(["bench-part", "dump", &PORT.to_string(), details]));
    Ok(command)
}

fn listeners(figures: &mut Figures, stage: &Stage) -> Result<(), String> {
    let mut diag = diag(&stage.server)?;
    let (mut ours, mut peer) = (Vec::new(), Used::default());
    for _ in 0..RUNS {
        let began = Instant::now();
        let rows = diag.listeners().map_err(|error| error.to_string())?;
        ours.push(began.elapsed().as_secs_f64() * 1e3);
        if !rows.iter().any(|row| row.local.port() == PORT) {
            return Err(String::from("find our listener"));
        }
        peer.add(ss(&stage.server, &["-Htuln"]))?;
    }
    let peer = Some(("ss -Htuln", median(&peer.wall) * 1e3));
    figures.add(&Figure { what: "listeners, wall ms", ours: median(&ours), peer, target: Target::AtMost(20.0) });
    Ok(())
}

pub fn diag(ns: &Ns) -> Result<Diag, String> {
    within(ns, Diag::open)?.map_err(|error| error.to_string())
}

/// We end one half, the peer the other.
fn destroy(figures: &mut Figures, stage: &Stage) -> Result<(), String> {
    let mut diag = diag(&stage.server)?;
    let mut ids: Vec<RowId> = Vec::new();
    let query = Query { ports: vec![PORT], ..Query::default() };
    diag.dump(&query, &mut |row| ids.push(row.id)).map_err(|error| error.to_string())?;
    let half = ids.len() / 2;
    let began = Instant::now();
    let ends = diag.destroy_many(ids.into_iter().take(half)).map_err(|error| error.to_string())?;
    let ours = ends.destroyed as f64 / began.elapsed().as_secs_f64();
    let count = |diag: &mut Diag| diag.dump(&query, &mut |_| {}).map_err(|error| error.to_string());
    let before = count(&mut diag)?;
    let mut peer = Used::default();
    peer.add(ss(&stage.server, &["-tK", "state", "established", &format!("( sport = :{PORT} )")]))?;
    let ended = before.saturating_sub(count(&mut diag)?);
    let peer = Some(("ss -K", ended as f64 / median(&peer.wall))).filter(|_| ended > 0);
    figures.add(&Figure { what: "connections ended, a second", ours, peer, target: Target::AtLeast(20_000.0) });
    Ok(())
}
