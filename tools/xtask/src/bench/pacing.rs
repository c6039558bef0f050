//! Endings that are spread out, by a server whose clients come back to another as soon as they are ended.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use super::ebb::{Ebb, SERVICE};
use super::figure::{Figure, Figures, Target};
use super::stage::{Player, Stage, within};
use crate::tool;

/// Clients that come back.
const CLIENTS: usize = 5000;
/// So many a second may come to the one that is left.
const SET_POINT: usize = 500;
/// A rate is what came within any second.
const WINDOW_MS: f64 = 1000.0;
/// A crowd that all comes within a moment has no rate that means anything: what one second sees.
const IDEAL_S: f64 = (CLIENTS / SET_POINT) as f64;

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let Some(ebb) = Ebb::find()? else {
        figures.note("pacing: ebb has not been built");
        return Ok(());
    };
    let stage = Stage::build()?;
    figures.part("pacing", &format!("{CLIENTS} clients come back elsewhere; set point {SET_POINT} a second"));
    let rate = format!("{SET_POINT}/s");
    let over = format!("{IDEAL_S}s");
    let drain = ["drain", SERVICE, "--no-stop", "--deadline", "1s", "--then", "end", "--grace", "30s", "--json"];
    let herd = come_back(&stage, &ebb, 7300, &drain)?;
    for (what, pace) in [("--rate", rate), ("--over", over)] {
        let paced = come_back(
            &stage,
            &ebb,
            if what == "--rate" { 7301 } else { 7302 },
            &[&drain[..], &[what, &pace]].concat(),
        )?;
        figures.add(&Figure {
            what: &format!("drain {what}, most in one second, of the set point"),
            ours: most_in_a_second(&paced) / SET_POINT as f64,
            peer: Some(("without a pace", most_in_a_second(&herd) / SET_POINT as f64)),
            target: Target::AtMost(1.1),
        });
        let took = (paced.last().copied().unwrap_or(f64::NAN) - paced.first().copied().unwrap_or(f64::NAN)) / 1e3;
        figures.own(
            &format!("drain {what}, from the first to the last, of the ideal {IDEAL_S} s"),
            took / IDEAL_S,
            Target::AtMost(1.3),
        );
    }
    Ok(())
}

/// Ends them all; the answer is when each came back, in milliseconds.
fn come_back(stage: &Stage, ebb: &Ebb, port: u16, words: &[&str]) -> Result<Vec<f64>, String> {
    let listener = stage.listen(port)?;
    let _host = Player::server(&stage.server, &["host"], &listener)?;
    // Where they come from, and out of the sight of ebb: it is another server.
    let survivor = within(&stage.clients, || TcpListener::bind(SocketAddr::from(([10, 77, 1, 1], port))))?;
    let survivor = survivor.map_err(|error| format!("listen for those who come back: {error}"))?;
    rustix::net::listen(&survivor, 4096).map_err(|error| error.to_string())?;
    let _survivor = Player::server(&stage.clients, &["keep", &CLIENTS.to_string()], &survivor)?;
    let from = SocketAddr::new(Stage::address(1), port).to_string();
    let to = format!("10.77.1.1:{port}");
    let mut clients = Player::client(&stage.clients, &["return", &from, &to, &CLIENTS.to_string()])?;
    clients.hear()?;
    let mut command = ebb.command(&stage.server, words);
    let said = tool::output(command.stdin(Stdio::null()))?;
    let line = clients.hear()?;
    let mut times: Vec<f64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
    ebb.resume(stage)?;
    if times.len() != CLIENTS || !said.contains("\"outcome\":\"drained\"") {
        return Err(format!("have {CLIENTS} come back: {} did", times.len()));
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn most_in_a_second(times: &[f64]) -> f64 {
    let within = |from: &f64| times.iter().filter(|at| (from..&(from + WINDOW_MS)).contains(at)).count();
    times.iter().map(within).max().unwrap_or(0) as f64
}
