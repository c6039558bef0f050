//! What a gate that is shut for others costs a service.

use std::net::{IpAddr, SocketAddr};

use ebb_kernel::gate::{Door, Gate, Proto, Reach, Rules};

use super::cpu;
use super::figure::{Figure, Figures, Target, median, quantile};
use super::stage::{Player, Stage, pinned, within};

/// Each round measures without the gate, with it and without it again, in changing order. Many short ones: what else the
/// machine does changes slowly.
const ROUNDS: usize = 120;
const MILLISECONDS: u32 = 100;
const CPU: u32 = 0;

/// What the gate is while something is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arm {
    Without,
    With,
    /// As `Without`: tells how far apart two measurements of the same are.
    Again,
}

const ARMS: [Arm; 3] = [Arm::Without, Arm::With, Arm::Again];

/// A server and its client, and what they did.
struct Pair {
    server: Player,
    client: Player,
    /// Work per CPU second of each round, in the order of [`ARMS`].
    done: Vec<[f64; 3]>,
}

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let stage = Stage::build()?;
    let mut connects = Pair::start(&stage, 7100, "greet", "knock")?;
    let mut trips = Pair::start(&stage, 7101, "echo", "ping")?;
    let (rules, nothing) = (loaded(), Rules::default());
    let doors = rules.shut.len();
    figures.part("overhead", &format!("an unrelated service while {doors} other doors are shut, {ROUNDS} rounds"));
    let mut gate = within(&stage.server, || Gate::open("bench"))?.map_err(|error| error.to_string())?;
    for round in 0..ROUNDS {
        for pair in [&mut connects, &mut trips] {
            pair.done.push([f64::NAN; 3]);
        }
        for turn in 0..ARMS.len() {
            let arm = (round + turn) % ARMS.len();
            gate.apply(if ARMS[arm] == Arm::With { &rules } else { &nothing }).map_err(|error| error.to_string())?;
            for pair in [&mut connects, &mut trips] {
                let work = pair.work()?;
                pair.done[round][arm] = work;
            }
        }
    }
    gate.apply(&nothing).map_err(|error| error.to_string())?;
    connects.report(figures, "connects");
    trips.report(figures, "round trips of 64 bytes");
    Ok(())
}

/// Doors of others: 50 ports on every address, 50 on one address each.
fn loaded() -> Rules {
    let mut rules = Rules::default();
    for number in 0..50_u16 {
        rules.shut.insert(Door { proto: Proto::Tcp, reach: Reach::Any, port: 8000 + number });
        let address = IpAddr::from([10, 77, 0, 1 + (number % 16) as u8]);
        rules.shut.insert(Door { proto: Proto::Tcp, reach: Reach::Addr(address), port: 8100 + number });
    }
    rules
}

impl Pair {
    fn start(stage: &Stage, port: u16, server: &str, client: &str) -> Result<Self, String> {
        let listener = stage.listen(port)?;
        let to = SocketAddr::new(Stage::address(1), port);
        Ok(Self {
            // On one CPU together: which of them wakes where would be most of the difference.
            server: Player::server_by(pinned(CPU)?, &stage.server, &[server], &listener)?,
            client: Player::client_by(pinned(CPU)?, &stage.clients, &[client, &to.to_string()])?,
            done: Vec::new(),
        })
    }

    fn cpu(&self) -> Result<f64, String> {
        Ok(cpu::of_single_thread(self.server.pid())? + cpu::of_single_thread(self.client.pid())?)
    }

    /// Has them work as fast as they can for a while; gives the work per CPU second of both.
    fn work(&mut self) -> Result<f64, String> {
        let before = self.cpu()?;
        self.client.tell(&format!("0 {MILLISECONDS}"))?;
        let line = self.client.hear()?;
        let done = line.split(' ').next().and_then(|number| number.parse::<f64>().ok());
        let done = done.ok_or_else(|| format!("understand a client: {line}"))?;
        Ok(done / (self.cpu()? - before))
    }

    fn report(&self, figures: &mut Figures, what: &str) {
        let of = |arm: Arm| self.done.iter().map(|round| round[arm as usize]).collect::<Vec<f64>>();
        // Against both measurements without it, so that the noise of one counts half.
        let loaded: Vec<f64> =
            self.done.iter().map(|[without, with, again]| with / ((without + again) / 2.0)).collect();
        let noise: Vec<f64> = self.done.iter().map(|[without, _, again]| again / without).collect();
        let name = format!("{what} per CPU second, gate loaded");
        let peer = Some(("no gate", median(&of(Arm::Without))));
        figures.add(&Figure { what: &name, ours: median(&of(Arm::With)), peer, target: Target::None });
        let name = format!("{what}, median ratio of the rounds");
        figures.own(&name, median(&loaded), Target::AtLeast(0.97));
        let [low, high] = [0.25, 0.75].map(|share| quantile(&loaded, share));
        let noise = median(&noise);
        figures.note(&format!("  half of the rounds from {low:.3} to {high:.3}; no gate against no gate: {noise:.3}"));
    }
}
