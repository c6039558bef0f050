//! The resident agent without systemd: drains that outlive their viewers and their agent, and holds that end.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Met, Net, ServeSpec, Watched, meet, server4};

const LIMIT: Duration = Duration::from_secs(30);
const CLIENTS: u32 = 20;

fn at() -> SocketAddr {
    (server4(1), 7000).into()
}

/// An agent that serves; killed when dropped.
fn agent(ebb: &Ebb) -> Watched {
    let agent = ebb.watch(&["agent"]);
    let began = std::time::Instant::now();
    while UnixStream::connect(ebb.socket()).is_err() {
        assert!(began.elapsed() < LIMIT, "no agent");
        std::thread::sleep(Duration::from_millis(20));
    }
    agent
}

#[test]
fn a_drain_outlives_its_viewer_and_two_agents() {
    let Some(net) = Net::new() else { return };
    let mut server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at()], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let mut first = agent(&ebb);
    let mut viewer = ebb.watch(&["drain", "exact-part", "--no-stop"]);
    viewer.until("the first count", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == CLIENTS);
    viewer.kill();
    for _ in 0..2 {
        first.kill();
        assert_eq!(meet(&net.client, at()), Met::Refused, "the gate needs no agent");
        crowd.end(5);
        first = agent(&ebb);
        let mut again = ebb.watch(&["watch", "exact-part"]);
        again.until("the same count", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == CLIENTS);
    }
    // Asked for again in another way: with a stop.
    let last = ebb.watch(&["drain", "exact-part"]);
    let other = ebb.watch(&["watch"]);
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.lost, tally.living), (0, u64::from(CLIENTS - 10)), "{tally:?}");
    crowd.end(10);
    for viewer in [last, other] {
        let answer = viewer.wait(LIMIT);
        let report = answer.one("drained");
        assert_eq!((answer.code, &report["outcome"]), (Some(0), &"stopped".into()), "{answer:#?}");
        assert_eq!((&report["at_start"], &report["by_themselves"]), (&CLIENTS.into(), &CLIENTS.into()), "{report:#}");
    }
    assert!(!server.is_running());
    let second = ebb.run(&["agent"]);
    assert_eq!(second.code, Some(1), "one is enough: {second:#?}");
    drop(first);
    assert_eq!(ebb.run(&["watch"]).code, Some(9), "with no agent nothing goes on without its viewer");
}

#[test]
fn a_hold_that_was_given_an_end_ends_then_or_raises_an_alarm() {
    let Some(net) = Net::new() else { return };
    let _server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
    let ebb = Ebb::on(&net);
    let _agent = agent(&ebb);
    let mut events = ebb.watch(&["events", "--follow", "--last", "0"]);
    ebb.done(&["hold", "exact-part", "--for", "3s", "--at-end", "reopen"]);
    assert_eq!(meet(&net.client, at()), Met::Refused);
    events.event("HoldEndsSoon");
    assert_eq!(meet(&net.client, at()), Met::Refused);
    events.event("GateOpened");
    assert_eq!(meet(&net.client, at()), Met::Connected);
    ebb.done(&["hold", "exact-part", "--for", "2s"]);
    events.event("HoldOverdue");
    assert_eq!(meet(&net.client, at()), Met::Refused, "it stays");
    let doctor = ebb.run(&["doctor"]);
    assert_eq!((doctor.code, doctor.all("finding").count()), (Some(1), 1), "{doctor:#?}");
    ebb.done(&["resume", "exact-part"]);
    assert_eq!(ebb.run(&["doctor"]).code, Some(0));
}

/// Drained beside another, brought back, and drained again while that other goes on; by a second requester too.
#[test]
fn what_is_over_for_one_can_begin_again_while_another_goes_on() {
    let Some(net) = Net::new() else { return };
    let other: SocketAddr = (server4(1), 7001).into();
    let _alpha = Daemon::named(&net, "alpha", &ServeSpec::at([Listen::tcp(at())]));
    let _beta = Daemon::named(&net, "beta", &ServeSpec::at([Listen::tcp(other)]));
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([other], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let _agent = agent(&ebb);
    let mut both = ebb.watch(&["drain", "alpha", "beta", "--no-stop"]);
    both.until("alpha's report", LIMIT, |frame| frame["type"] == "drained" && frame["service"] == "alpha");
    ebb.done(&["resume", "alpha"]);
    assert_eq!(meet(&net.client, at()), Met::Connected);
    let again = ebb.done(&["drain", "alpha", "--no-stop"]);
    assert_eq!(again.one("drained")["outcome"], "drained", "{again:#?}");
    assert_eq!(meet(&net.client, at()), Met::Refused);
    // Another requester's hold stands beside, and outlives the first.
    let mut second = ebb.watch(&["drain", "beta", "--no-stop", "--as", "deploy"]);
    second.event("HoldPlaced");
    ebb.done(&["release", "beta"]);
    assert_eq!(both.wait(LIMIT).code, Some(6), "released by somebody else");
    assert_eq!(meet(&net.client, other), Met::Refused, "deploy still holds it");
    assert_eq!(crowd.echo(LIMIT).lost, 0);
    let holds = ebb.done(&["holds"]);
    let holders: Vec<_> = holds.all("hold").map(|hold| hold["requester"].as_str().unwrap_or_default()).collect();
    assert_eq!(holders, ["operator", "deploy"], "alpha's, and beta's: {holds:#?}");
}

/// Asked for by several at the same instant, and anew in the same instant in which it was released: one drain at a time.
#[test]
fn at_the_same_instant_there_is_one_drain() {
    let Some(net) = Net::new() else { return };
    let mut server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at()], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let _agent = agent(&ebb);
    let counted = |viewers: &mut Vec<Watched>| {
        for viewer in viewers {
            viewer.until("all of them", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == CLIENTS);
        }
    };
    let mut all: Vec<_> = (0..6).map(|_| ebb.watch(&["drain", "exact-part"])).collect();
    counted(&mut all);
    ebb.done(&["resume", "exact-part"]);
    let mut again: Vec<_> = (0..3).map(|_| ebb.watch(&["drain", "exact-part"])).collect();
    counted(&mut again);
    for viewer in all {
        assert_eq!(viewer.wait(LIMIT).code, Some(6), "released by somebody else");
    }
    crowd.end(CLIENTS);
    for viewer in again {
        let answer = viewer.wait(LIMIT);
        let report = answer.one("drained");
        assert_eq!((answer.code, &report["outcome"]), (Some(0), &"stopped".into()), "{answer:#?}");
        assert_eq!((&report["at_start"], &report["by_themselves"]), (&CLIENTS.into(), &CLIENTS.into()), "{report:#}");
        assert_eq!(report["leaks"].as_array().map(Vec::len), Some(0), "{report:#}");
    }
    assert!(!server.is_running());
    let events = ebb.done(&["events", "--last", "100"]);
    let began = events.events().into_iter().filter(|name| *name == "DrainBegan").count();
    assert_eq!(began, 2, "the first, and the one after the release: {:?}", events.events());
}
