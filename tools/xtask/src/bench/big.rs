//! Half a million sessions: none of their ends is missed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ebb_kernel::closings::{Closings, Drained};
use ebb_kernel::diag::Query;
use serde_json::Value;

use super::dump::diag;
use super::ebb::{Drain, Ebb};
use super::figure::{Figures, Target};
use super::sockets::{Crowd, PORT};
use super::stage::{Stage, within};

const SESSIONS: usize = 500_000;
/// How long nothing may be told before we give up.
const SILENCE: Duration = Duration::from_secs(20);

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let stage = Stage::build()?;
    let began = Instant::now();
    let mut crowd = Crowd::gather(&stage, SESSIONS)?;
    figures.part("big", &format!("{SESSIONS} sessions of one service, made in {:.0} s", began.elapsed().as_secs_f64()));
    let mut closings = within(&stage.server, Closings::open)?.map_err(|error| error.to_string())?;
    let query = Query { ports: vec![PORT], info: true, ..Query::default() };
    let began = Instant::now();
    let listed = diag(&stage.server)?.dump(&query, &mut |_| {}).map_err(|error| error.to_string())?;
    figures.own("list all, details, wall ms", began.elapsed().as_secs_f64() * 1e3, Target::None);
    let ebb = Ebb::find()?;
    let drain = ebb.as_ref().map(|ebb| Watching::start(&stage, ebb)).transpose()?;
    let began = Instant::now();
    let (told, whole) = count(&mut closings, &mut crowd, listed)?;
    let seconds = began.elapsed().as_secs_f64();
    figures.note(&format!("closed in {seconds:.1} s; the kernel told of all: {whole}"));
    let name = format!("closings not told, of {listed}");
    figures.own(&name, listed.abs_diff(told) as f64, Target::AtMost(0.0));
    match drain {
        Some(drain) => drain.report(figures),
        None => {
            figures.note("ebb has not been built: a drain of them is left out");
            Ok(())
        }
    }
}

/// An `ebb drain` of them all, and what it says.
struct Watching {
    drain: Drain,
    said: PathBuf,
    shut: f64,
    first: f64,
}

impl Watching {
    fn start(stage: &Stage, ebb: &Ebb) -> Result<Self, String> {
        let said = ebb.folder.join("drain.json");
        let file = File::create(&said).map_err(|error| format!("make {}: {error}", said.display()))?;
        let mut drain = Drain::start(stage, ebb, file.into())?;
        Ok(Self { shut: drain.shut(stage)?, first: drain.looked()?, drain, said })
    }

    fn report(self, figures: &mut Figures) -> Result<(), String> {
        figures.own("ebb drain, start to gate shut, wall ms", self.shut, Target::None);
        figures.own("the same, its first look, CPU ms", self.first * 1e3, Target::None);
        let peak = self.drain.peak();
        self.drain.end()?;
        figures.own("the same, peak memory, MiB", peak, Target::None);
        let said = fs::read_to_string(&self.said).map_err(|error| format!("read {}: {error}", self.said.display()))?;
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let report = lines.rev().find(|line| line["type"] == "drained").ok_or("find the report of ebb drain")?;
        let missed = |name: &str| report[name].as_f64().map_or(f64::NAN, |count| (SESSIONS as f64 - count).abs());
        figures.own("sessions that ebb drain did not see at the start", missed("at_start"), Target::AtMost(0.0));
        figures.own("ends that ebb drain did not see", missed("by_themselves"), Target::AtMost(0.0));
        let leaks = report["leaks"].as_array().map_or(f64::NAN, |leaks| leaks.len() as f64);
        figures.own("leaks", leaks, Target::AtMost(0.0));
        Ok(())
    }
}

/// Has them all leave; how many ends were told, and whether the kernel says that these were all.
fn count(closings: &mut Closings, crowd: &mut Crowd, listed: u64) -> Result<(u64, bool), String> {
    let (mut told, mut whole) = (0_u64, true);
    let mut last = Instant::now();
    std::thread::scope(|scope| {
        let leaving = scope.spawn(|| crowd.leave());
        while told < listed && last.elapsed() < SILENCE {
            let before = told;
            let drained = closings.try_drain(&mut |closed| told += u64::from(closed.local.port() == PORT));
            whole &= drained.map_err(|error| error.to_string())? == Drained::Whole;
            if told > before || !leaving.is_finished() {
                last = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        leaving.join().map_err(|_| String::from("see them leave"))?
    })?;
    Ok((told, whole))
}
