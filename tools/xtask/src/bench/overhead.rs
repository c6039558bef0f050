//! What a gate that is shut for others costs a service.

use std::net::{IpAddr, SocketAddr};

use ebb_kernel::gate::{Door, Gate, Proto, Reach, Rules};

use super::cpu;
use super::figure::{Figure, Figures, Target, median};
use super::stage::{Player, Stage, pinned, within};

/// Each round measures without the gate and with it, in changing order. Many short ones: what else the machine does
/// changes slowly.
const ROUNDS: usize = 48;
const MILLISECONDS: u32 = 200;
const CPU: u32 = 0;

/// A server and its client, and what they did.
struct Pair {
    server: Player,
    client: Player,
    /// Work per CPU second without the gate, with it, of each round.
    done: Vec<(f64, f64)>,
}

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let stage = Stage::build()?;
    let mut connects = Pair::start(&stage, 7100, "greet", "knock")?;
    let mut trips = Pair::start(&stage, 7101, "echo", "ping")?;
    let rules = loaded();
    figures.part(
        "overhead",
        &format!("an unrelated service, {} other doors shut or none, {ROUNDS} rounds", rules.shut.len()),
    );
    let mut gate = within(&stage.server, || Gate::open("bench"))?.map_err(|error| error.to_string())?;
    for round in 0..ROUNDS {
        let mut figures = [(0.0, 0.0); 2];
        for shut in [round % 2 == 0, round % 2 != 0] {
            gate.apply(if shut { &rules } else { &NOTHING }).map_err(|error| error.to_string())?;
            for (pair, figure) in [&mut connects, &mut trips].into_iter().zip(&mut figures) {
                let work = pair.work()?;
                if shut { figure.1 = work } else { figure.0 = work }
            }
        }
        connects.done.push(figures[0]);
        trips.done.push(figures[1]);
    }
    gate.apply(&NOTHING).map_err(|error| error.to_string())?;
    connects.report(figures, "connects");
    trips.report(figures, "round trips of 64 bytes");
    Ok(())
}

static NOTHING: Rules = Rules {
    shut: std::collections::BTreeSet::new(),
    learn: std::collections::BTreeSet::new(),
    open: std::collections::BTreeSet::new(),
    except: std::collections::BTreeSet::new(),
    probe_mark: 0,
};

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
        let ratios: Vec<f64> = self.done.iter().map(|(without, with)| with / without).collect();
        let spread: Vec<String> =
            [0.25, 0.75].iter().map(|share| format!("{:.3}", super::figure::quantile(&ratios, *share))).collect();
        let of = |side: fn(&(f64, f64)) -> f64| median(&self.done.iter().map(side).collect::<Vec<_>>());
        let name = format!("{what} per CPU second, gate loaded");
        let peer = Some(("no gate", of(|pair| pair.0)));
        figures.add(&Figure { what: &name, ours: of(|pair| pair.1), peer, target: Target::None });
        let name = format!("{what}, median ratio of the rounds");
        figures.own(&name, median(&ratios), Target::AtLeast(0.97));
        figures.note(&format!("(half of the rounds between {})", spread.join(" and ")));
    }
}
