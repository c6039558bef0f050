//! How fast the gate shuts while thousands knock.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ebb_kernel::gate::{Door, Gate, Proto, Reach, Rules};
use ebb_kernel::probe::{Answer, knock};

use super::figure::{Figure, Figures, Target, median, quantile};
use super::peer::nft;
use super::stage::{Player, Stage, within};

const PORT: u16 = 7000;
/// Times that a door is shut and opened again.
const TIMES: usize = 600;
/// Times that the whole table is built and removed again.
const TABLES: usize = 150;
/// Times that the peer does it.
const PEER_TIMES: usize = 40;
/// New connections a second.
const OFFERED: f64 = 15_000.0;
/// Between two deeds: the clients meet both an open and a shut gate.
const PAUSE: Duration = Duration::from_millis(4);
/// Of the clients; the deeds end before, on any machine that can keep up at all.
const LOAD_SECONDS: u32 = 25;

/// Microseconds of each deed.
#[derive(Debug, Default)]
struct Deeds {
    shut: Vec<f64>,
    open: Vec<f64>,
    proven: Vec<f64>,
    /// Connections that a probe made after the gate had been acknowledged.
    leaks: usize,
}

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let stage = Stage::build()?;
    let listener = stage.listen(PORT)?;
    let _server = Player::server(&stage.server, &["greet"], &listener)?;
    let to = SocketAddr::new(Stage::address(1), PORT);
    let mut client = Player::client(&stage.clients, &["knock", &to.to_string()])?;
    client.tell(&format!("{OFFERED} {}", LOAD_SECONDS * 1000))?;
    let began = Instant::now();
    let (one, table, peer) = within(&stage.server, || {
        // So that what is measured first does not pay for the beginning.
        std::thread::sleep(Duration::from_millis(500));
        let one = deeds(TIMES, &rules(&[7999]), &rules(&[7999, PORT]), to)?;
        let table = deeds(TABLES, &Rules::default(), &rules(&[PORT]), to)?;
        Ok::<_, String>((one, table, peers()))
    })??;
    let busy = began.elapsed().as_secs_f64();
    let [accepted, refused] = client.numbers()?;
    let rate = (accepted + refused) / f64::from(LOAD_SECONDS);
    figures.part(
        "gate",
        &format!(
            "{rate:.0} connects/s made of {OFFERED:.0} offered ({refused:.0} refused), {TIMES} doors, {TABLES} tables in {busy:.0} s"
        ),
    );
    if busy > f64::from(LOAD_SECONDS) {
        figures.note("the clients had stopped before the end: these figures are too good");
    }
    report(figures, &one, &table, peer.as_ref());
    Ok(())
}

fn report(figures: &mut Figures, one: &Deeds, table: &Deeds, peer: Result<&Vec<f64>, &String>) {
    let peer_name = "nft add element";
    let peer_p50 = peer.ok().map(|times| (peer_name, median(times)));
    figures.add(&Figure {
        what: "one door shut, call to ack, p50, us",
        ours: median(&one.shut),
        peer: peer_p50,
        target: Target::None,
    });
    let peer_p99 = peer.ok().map(|times| (peer_name, quantile(times, 0.99)));
    let p99 = quantile(&one.shut, 0.99);
    figures.add(&Figure {
        what: "one door shut, call to ack, p99, us",
        ours: p99,
        peer: peer_p99,
        target: Target::AtMost(1000.0),
    });
    figures.own("one door shut, call to ack, worst, us", quantile(&one.shut, 1.0), Target::None);
    figures.own("one door opened, call to ack, p99, us", quantile(&one.open, 0.99), Target::AtMost(1000.0));
    figures.own("one door, call to proven shut, p50, us", median(&one.proven), Target::None);
    figures.own("one door, call to proven shut, p99, us", quantile(&one.proven, 0.99), Target::AtMost(10_000.0));
    figures.own("first door (whole table), call to ack, p50, us", median(&table.shut), Target::None);
    figures.own("first door (whole table), call to ack, p99, us", quantile(&table.shut, 0.99), Target::AtMost(1000.0));
    figures.own("first door, call to proven shut, p99, us", quantile(&table.proven, 0.99), Target::AtMost(10_000.0));
    figures.own("last door opened (table removed), p99, us", quantile(&table.open, 0.99), Target::None);
    let leaks = one.leaks + table.leaks;
    figures.own("probes let in after the ack", leaks as f64, Target::AtMost(0.0));
    if let Err(why) = peer {
        figures.note(&format!("no peer: {why}"));
    }
}

fn rules(ports: &[u16]) -> Rules {
    let door = |port: &u16| Door { proto: Proto::Tcp, reach: Reach::Any, port: *port };
    let shut: BTreeSet<Door> = ports.iter().map(door).collect();
    Rules { shut, ..Rules::default() }
}

fn deeds(times: usize, open: &Rules, shut: &Rules, door: SocketAddr) -> Result<Deeds, String> {
    let mut gate = Gate::open("bench").map_err(|error| error.to_string())?;
    let mut apply = |rules: &Rules| gate.apply(rules).map(drop).map_err(|error| error.to_string());
    let mut deeds = Deeds::default();
    apply(open)?;
    for _ in 0..times {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        apply(shut)?;
        deeds.shut.push(microseconds(began));
        let answer = knock(door, Duration::from_secs(1), None, None);
        deeds.proven.push(microseconds(began));
        deeds.leaks += usize::from(answer != Answer::Refused);
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        apply(open)?;
        deeds.open.push(microseconds(began));
    }
    apply(&Rules::default())?;
    Ok(deeds)
}

/// The same by the tool that people use, for a table of its own.
fn peers() -> Result<Vec<f64>, String> {
    let port = 7998;
    nft("add table inet peer; add set inet peer p { type inet_service; }")?;
    let mut times = Vec::new();
    for _ in 0..PEER_TIMES {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        nft(&format!("add element inet peer p {{ {port} }}"))?;
        times.push(microseconds(began));
        nft(&format!("delete element inet peer p {{ {port} }}"))?;
    }
    nft("delete table inet peer")?;
    Ok(times)
}

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}
