//! `ebb end`, and the endings of a deadline: what is counted is what the clients saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Net, ServeSpec, Tally, server4, server6};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const V4: u32 = 30;
const V6: u32 = 20;
/// What a client sees whose server closed, as after a goodbye.
const CLOSED: &str = "closed";
/// What it sees whose connection was destroyed.
const RESET: &str = "Connection reset by peer (os error 104)";

struct Scene {
    net: Net,
    _server: Daemon,
    v4: Crowd,
    v6: Crowd,
    ebb: Ebb,
}

fn scene() -> Option<Scene> {
    let net = Net::new()?;
    let at: SocketAddr = "[::]:7000".parse().expect("an address");
    let server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at)]));
    let mut v4 = Crowd::start(&net, &[CrowdSpec::echoes([(server4(1), 7000).into()], V4)]);
    let mut v6 = Crowd::start(&net, &[CrowdSpec::echoes([(server6(1), 7000).into()], V6)]);
    v4.all_connected(LIMIT);
    v6.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let scene = Scene { net, _server: server, v4, v6, ebb };
    Some(scene)
}

/// How many of a crowd went how; whether a client learns of it while it asks or while it waits is chance.
fn went(tally: &Tally) -> (u64, BTreeMap<&str, u64>) {
    let mut went = BTreeMap::new();
    for (why, count) in &tally.why {
        *went.entry(why.strip_prefix("when asking: ").unwrap_or(why)).or_default() += count;
    }
    (tally.living, went)
}

impl Scene {
    /// All have one line echoed, so that none is idle.
    fn speak(&mut self) {
        self.v4.echo(LIMIT);
        self.v6.echo(LIMIT);
    }

    /// Both crowds stand so.
    fn stands(&mut self, v4: (u32, &[(&str, u32)]), v6: (u32, &[(&str, u32)])) {
        for (crowd, (living, why)) in [(&mut self.v4, v4), (&mut self.v6, v6)] {
            let expected = why.iter().map(|(why, count)| (*why, u64::from(*count))).collect();
            let tally = crowd.until("ends", LIMIT, |tally| tally.living <= u64::from(living));
            assert_eq!(went(&tally), (u64::from(living), expected));
            crowd.echo(LIMIT);
            assert_eq!(crowd.tally().lost, tally.lost, "the others live");
        }
    }

    fn sessions(&self) -> Vec<Value> {
        self.ebb.done(&["sessions", "exact-part"]).all("session").cloned().collect()
    }

    /// Ends and gives the report's numbers: chosen, by themselves, by us, cut, failed.
    fn end(&self, words: &[&str]) -> ([u64; 5], f64) {
        end(&self.ebb, words)
    }
}

fn end(ebb: &Ebb, words: &[&str]) -> ([u64; 5], f64) {
    let answer = ebb.done(&[&["end", "exact-part", "--yes"], words].concat());
    let report = answer.one("ended");
    let numbers = ["chosen", "by_themselves", "by_us", "cut", "failed"]
        .map(|name| report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report:#}")));
    (numbers, report["took_seconds"].as_f64().unwrap_or_default())
}

/// Does something while a crowd has lines echoed without a pause.
fn beside<T: Send>(active: &mut Crowd, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(work);
        while !done.is_finished() {
            active.echo(LIMIT);
            std::thread::sleep(Duration::from_millis(50));
        }
        done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Long enough to be idle, which a goodbye asks for.
fn fall_idle() {
    std::thread::sleep(Duration::from_millis(2300));
}

#[test]
fn chosen_sessions_alone() {
    let Some(mut scene) = scene() else { return };
    fall_idle();
    let sessions = scene.sessions();
    assert_eq!(sessions.len() as u32, V4 + V6);
    let v4: Vec<&str> = sessions
        .iter()
        .filter(|session| session["peer"].as_str().is_some_and(|peer| peer.contains("10.77.1.1")))
        .filter_map(|session| session["id"].as_str())
        .collect();
    assert_eq!(v4.len() as u32, V4);
    let (ended, _) = scene.end(&["--session", v4[0], "--session", v4[7]]);
    assert_eq!(ended, [2, 0, 2, 0, 0], "by a goodbye");
    scene.stands((V4 - 2, &[(CLOSED, 2)]), (V6, &[]));
    // Those that are gone are said, and nobody else is meant.
    let (ended, _) = scene.end(&["--session", v4[0], "--session", v4[3], "--cut"]);
    assert_eq!(ended, [1, 0, 0, 1, 0]);
    scene.stands((V4 - 3, &[(CLOSED, 2), (RESET, 1)]), (V6, &[]));
}

#[test]
fn by_the_clients_address() {
    let Some(mut scene) = scene() else { return };
    let (would, _) = scene.end(&["--peer", "10.77.0.0/16", "--dry-run"]);
    assert_eq!(would[0], u64::from(V4));
    scene.stands((V4, &[]), (V6, &[]));
    let (ended, _) = scene.end(&["--peer", "10.77.0.0/16", "--cut"]);
    assert_eq!(ended, [u64::from(V4), 0, 0, u64::from(V4), 0]);
    scene.stands((0, &[(RESET, V4)]), (V6, &[]));
    let (ended, _) = scene.end(&["--peer", "fd77::1:1", "--cut"]);
    assert_eq!(ended, [u64::from(V6), 0, 0, u64::from(V6), 0]);
    scene.stands((0, &[(RESET, V4)]), (0, &[(RESET, V6)]));
}

#[test]
fn the_idle_alone() {
    let Some(mut scene) = scene() else { return };
    scene.speak();
    std::thread::sleep(Duration::from_millis(3500));
    scene.v6.echo(LIMIT);
    let (ended, _) = beside(&mut scene.v6, || end(&scene.ebb, &["--idle-over", "3s"]));
    assert_eq!(ended, [u64::from(V4), 0, u64::from(V4), 0, 0]);
    scene.stands((0, &[(CLOSED, V4)]), (V6, &[]));
}

#[test]
fn all_politely_and_the_active_after_the_grace() {
    let Some(mut scene) = scene() else { return };
    scene.speak();
    fall_idle();
    scene.v6.echo(LIMIT);
    let (ended, _) = beside(&mut scene.v6, || end(&scene.ebb, &["--all", "--grace", "1s"]));
    let (v4, v6) = (u64::from(V4), u64::from(V6));
    assert_eq!(ended, [v4 + v6, 0, v4, v6, 0]);
    scene.stands((0, &[(CLOSED, V4)]), (0, &[(RESET, V6)]));
}

#[test]
fn at_a_rate_and_over_a_time() {
    let Some(mut scene) = scene() else { return };
    let (ended, took) = scene.end(&["--peer", "10.77.1.1", "--cut", "--rate", "20/s"]);
    assert_eq!(ended, [u64::from(V4), 0, 0, u64::from(V4), 0]);
    // 30 at 20 per second: 29 pauses.
    assert!(took >= 1.4, "{took} s");
    scene.stands((0, &[(RESET, V4)]), (V6, &[]));
    let (ended, took) = scene.end(&["--all", "--cut", "--over", "2s"]);
    assert_eq!(ended, [u64::from(V6), 0, 0, u64::from(V6), 0]);
    assert!(took >= 1.8, "{took} s");
    scene.stands((0, &[(RESET, V4)]), (0, &[(RESET, V6)]));
}

/// A drain whose deadline ends who is left; some end by themselves before.
fn at_the_deadline(then: &[&str]) -> Option<(Scene, Value)> {
    let mut scene = scene()?;
    let mut drain = scene.ebb.watch(&[&["drain", "exact-part", "--deadline", "4s", "--then"], then].concat());
    drain.event("GateProven");
    drain.until("census", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == V4 + V6);
    scene.v4.end(10);
    let answer = beside(&mut scene.v6, || drain.wait(LIMIT));
    let report = answer.one("drained").clone();
    assert_eq!((answer.code, &report["outcome"]), (Some(0), &"stopped".into()), "{answer:#?}");
    assert_eq!(report["leaks"].as_array().map(Vec::len), Some(0), "{report:#}");
    Some((scene, report))
}

fn tally(report: &Value) -> [u64; 5] {
    ["at_start", "by_themselves", "by_us", "cut", "left"].map(|name| report[name].as_u64().unwrap_or(u64::MAX))
}

#[test]
fn a_deadline_that_cuts() {
    let Some((mut scene, report)) = at_the_deadline(&["cut"]) else { return };
    let (all, cut) = (u64::from(V4 + V6), u64::from(V4 - 10 + V6));
    assert_eq!(tally(&report), [all, 10, 0, cut, 0], "{report:#}");
    scene.stands((0, &[(RESET, V4 - 10)]), (0, &[(RESET, V6)]));
}

#[test]
fn a_deadline_that_ends_politely() {
    let Some((mut scene, report)) = at_the_deadline(&["end", "--grace", "1s"]) else { return };
    let (all, idle, active) = (u64::from(V4 + V6), u64::from(V4 - 10), u64::from(V6));
    assert_eq!(tally(&report), [all, 10, idle, active, 0], "{report:#}");
    scene.stands((0, &[(CLOSED, V4 - 10)]), (0, &[(RESET, V6)]));
}

#[test]
fn a_deadline_that_asks_ends_nobody() {
    let Some(mut scene) = scene() else { return };
    let answer = scene.ebb.run(&["drain", "exact-part", "--deadline", "1s"]);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["outcome"]), (Some(3), &"deadline_reached".into()));
    assert_eq!(report["left"], V4 + V6);
    scene.stands((V4, &[]), (V6, &[]));
    assert_eq!(ebb_exact::meet(&scene.net.client, (server4(1), 7000).into()), ebb_exact::Met::Refused);
}
