//! Lifetimes that a resident agent learns, and what it foresees from them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Net, ServeSpec, Watched, server4};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// They stay, so that never most of all end at once: that would be taken for the service's doing.
const STAYING: u32 = 120;
/// They come and go.
const GOING: u32 = 250;
/// Ended at a time, and the pause between.
const BATCH: u32 = 10;
const PAUSE: Duration = Duration::from_millis(250);
/// They are ended by us.
const OURS: u32 = 15;

fn at() -> SocketAddr {
    (server4(1), 7000).into()
}

/// An agent that serves; killed when dropped.
/// Ended as systemd would: it may write down what it knows.
fn stop(agent: Watched) {
    let pid = Pid::from_raw(agent.pid().cast_signed()).expect("a pid");
    kill_process(pid, Signal::TERM).expect("its process");
    let _ = agent.wait(LIMIT);
}

fn eta(ebb: &Ebb) -> Value {
    ebb.done(&["eta", "exact-part", "--deadline", "1h"]).one("eta").clone()
}

fn recorded(ebb: &Ebb) -> u64 {
    eta(ebb)["recorded"].as_u64().expect("a number")
}

/// Waits until so many ends are recorded.
fn until_recorded(ebb: &Ebb, count: u64) {
    let began = Instant::now();
    while recorded(ebb) < count {
        assert!(began.elapsed() < LIMIT, "not {count} recorded: {:#}", eta(ebb));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(recorded(ebb), count);
}

/// Clients that come, and that it takes one after the other until the agent looks at the service; how many it has recorded.
fn until_it_learns(net: &Net, ebb: &Ebb) -> u64 {
    let began = Instant::now();
    loop {
        let mut one = Crowd::start(net, &[CrowdSpec::echoes([at()], 1)]);
        one.all_connected(LIMIT);
        one.end(1);
        for _ in 0..15 {
            let count = recorded(ebb);
            if count > 0 {
                return count;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(began.elapsed() < LIMIT, "nothing is learnt");
    }
}

fn ids(ebb: &Ebb) -> BTreeSet<String> {
    let answer = ebb.done(&["sessions", "exact-part"]);
    answer.all("session").filter_map(|session| session["id"].as_str().map(str::to_owned)).collect()
}

/// Their times, in order.
fn is_sane(forecast: &Value) {
    let seconds = |name: &str| forecast[name].as_f64().unwrap_or_else(|| panic!("no {name}: {forecast:#}"));
    let shares = ["half_seconds", "most_seconds", "nearly_all_seconds"].map(seconds);
    let last = ["last_from_seconds", "last_seconds", "last_to_seconds"].map(seconds);
    assert!(last[2] > 0.0 && shares.is_sorted() && last.is_sorted(), "{forecast:#}");
    // Lives of seconds were seen, and nothing of an hour.
    assert!(shares[0] < 3600.0 && shares[2] <= last[2], "{forecast:#}");
}

#[test]
fn lifetimes_are_learnt_and_tell_when_a_drain_will_be_over() {
    let Some(net) = Net::new() else { return };
    let _server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
    let mut staying = Crowd::start(&net, &[CrowdSpec::echoes([at()], STAYING)]);
    staying.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let unknown = eta(&ebb);
    assert_eq!((&unknown["recorded"], &unknown["needed"]), (&0.into(), &200.into()), "{unknown:#}");
    assert_eq!((&unknown["forecast"], &unknown["sessions"]), (&Value::Null, &STAYING.into()), "{unknown:#}");
    let first = ebb.agent();
    let before = until_it_learns(&net, &ebb);
    let mut going = Crowd::start(&net, &[CrowdSpec::echoes([at()], GOING)]);
    going.all_connected(LIMIT);
    for _ in 0..GOING / BATCH {
        going.end(BATCH);
        std::thread::sleep(PAUSE);
    }
    let learnt = before + u64::from(GOING);
    until_recorded(&ebb, learnt);

    // What we end has not ended by itself.
    let there = ids(&ebb);
    let mut ours = Crowd::start(&net, &[CrowdSpec::echoes([at()], OURS)]);
    ours.all_connected(LIMIT);
    let new: Vec<String> = ids(&ebb).difference(&there).cloned().collect();
    assert_eq!(new.len(), OURS as usize);
    let mut words = vec!["end", "exact-part", "--cut", "--yes", "--session"];
    words.extend(new.iter().map(String::as_str));
    assert_eq!(ebb.done(&words).one("ended")["cut"], OURS);
    let mut one = Crowd::start(&net, &[CrowdSpec::echoes([at()], 1)]);
    one.all_connected(LIMIT);
    one.end(1);
    until_recorded(&ebb, learnt + 1);

    let known = eta(&ebb);
    assert_eq!((&known["sessions"], &known["usual"]), (&STAYING.into(), &false.into()), "{known:#}");
    is_sane(&known["forecast"]);
    let left = known["forecast"]["left_at_deadline"].as_f64().expect("a number");
    assert!((0.0..=f64::from(STAYING)).contains(&left), "{known:#}");
    let plan = ebb.done(&["drain", "exact-part", "--dry-run", "--deadline", "1h"]);
    let plan = plan.one("plan");
    assert_eq!(plan["eta"]["sessions"], STAYING, "{plan:#}");
    is_sane(&plan["eta"]["forecast"]);

    // Without an agent it is known still, and by the next one too, which goes on.
    stop(first);
    assert_eq!(recorded(&ebb), learnt + 1);
    is_sane(&eta(&ebb)["forecast"]);
    let _second = ebb.agent();
    assert_eq!(recorded(&ebb), learnt + 1);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop"]);
    let (_, progress) =
        drain.until("a forecast", LIMIT, |frame| frame["type"] == "progress" && frame["eta"].is_object());
    is_sane(&progress["eta"]);
    staying.end(STAYING);
    let answer = drain.wait(LIMIT);
    assert_eq!(answer.one("drained")["by_themselves"], STAYING, "{answer:#?}");
}
