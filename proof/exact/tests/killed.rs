//! kill -9 of `ebb drain` at any point: the service stays refused, `ebb status` tells the truth, `ebb drain` again goes
//! on with the same numbers, `ebb resume` undoes.

use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Met, Net, ServeSpec, meet, server4, told};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const CLIENTS: u32 = 20;

fn at() -> SocketAddr {
    (server4(1), 7000).into()
}

struct Scene {
    net: Net,
    server: Daemon,
    crowd: Crowd,
    ebb: Ebb,
}

fn scene() -> Option<Scene> {
    let net = Net::new()?;
    let server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at()], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    Some(Scene { net, server, crowd, ebb })
}

impl Scene {
    /// What a newcomer meets.
    fn is_refused(&self) -> bool {
        meet(&self.net.client, at()) == Met::Refused
    }

    /// Everyone who was there is still served.
    fn unharmed(&mut self, living: u64) {
        let tally = self.crowd.echo(LIMIT);
        assert_eq!((tally.lost, tally.living), (0, living), "{tally:?}");
    }

    /// `ebb status` says what a newcomer meets.
    fn status_is_true(&self) -> Value {
        let refused = self.is_refused();
        let status = self.ebb.status("exact-part");
        let expected = if refused { "shut" } else { "missing" };
        assert_eq!(status["gate"], expected, "{status:#}");
        assert_eq!(status["watched_by_pid"], Value::Null, "{status:#}");
        assert_eq!(status["service"]["state"], "draining", "{status:#}");
        status
    }

    /// `ebb resume` opens the gate, and takes the table away.
    fn undone(&mut self, living: u64) {
        self.ebb.done(&["resume", "exact-part"]);
        assert!(!self.is_refused());
        assert_eq!(self.net.run(&self.net.server, &["nft", "list", "ruleset"]), "");
        assert_eq!(self.ebb.done(&["holds"]).all("hold").count(), 0);
        self.unharmed(living);
    }
}

/// Kills `ebb drain` as soon as it has said `event`; then resumes.
fn killed_and_undone(event: &str) {
    let Some(mut scene) = scene() else { return };
    let mut drain = scene.ebb.watch(&["drain", "exact-part"]);
    drain.event(event);
    drain.kill();
    scene.status_is_true();
    scene.unharmed(u64::from(CLIENTS));
    scene.undone(u64::from(CLIENTS));
}

/// Kills it, lets some clients go while nobody watches, and drains again.
fn killed_and_gone_on(event: &str) {
    let Some(mut scene) = scene() else { return };
    let all = u64::from(CLIENTS);
    let mut drain = scene.ebb.watch(&["drain", "exact-part"]);
    drain.event(event);
    if event == "GateProven" {
        // Who was there at the start is written down by now, or very soon.
        drain.until("census", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == all);
    }
    drain.kill();
    let status = scene.status_is_true();
    let counted = status["at_start"] == all;
    if counted {
        scene.crowd.end(5);
    }
    let mut again = scene.ebb.watch(&["drain", "exact-part"]);
    again.until("going on", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == all);
    assert!(scene.is_refused());
    scene.unharmed(if counted { all - 5 } else { all });
    scene.crowd.end(CLIENTS);
    let answer = again.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["outcome"]), (Some(0), &"stopped".into()), "{answer:#?}");
    assert_eq!((&report["at_start"], &report["by_themselves"], &report["left"]), (&all.into(), &all.into(), &0.into()));
    assert!(!scene.server.is_running());
    told(&format!("killed after {event}, at_start was written: {counted}"));
}

#[test]
fn after_the_hold_it_is_undone() {
    killed_and_undone("HoldPlaced");
}

#[test]
fn after_the_gate_it_is_undone() {
    killed_and_undone("GateShut");
}

#[test]
fn after_the_proof_it_is_undone() {
    killed_and_undone("GateProven");
}

#[test]
fn after_the_hold_it_goes_on() {
    killed_and_gone_on("HoldPlaced");
}

#[test]
fn after_the_gate_it_goes_on() {
    killed_and_gone_on("GateShut");
}

#[test]
fn after_the_proof_it_goes_on() {
    killed_and_gone_on("GateProven");
}

/// Between *drained* and *stopped*: what is not stopped yet is stopped by the next drain; what is, by none.
#[test]
fn after_drained_it_goes_on() {
    let Some(mut scene) = scene() else { return };
    let mut drain = scene.ebb.watch(&["drain", "exact-part"]);
    drain.event("GateProven");
    scene.crowd.end(CLIENTS);
    drain.event("Drained");
    drain.kill();
    let status = scene.ebb.status("exact-part");
    let state = status["service"]["state"].as_str().unwrap_or_default().to_owned();
    assert!(["drained", "stopped"].contains(&state.as_str()), "{status:#}");
    assert_eq!(status["gate"], "shut");
    assert!(scene.is_refused());
    let again = scene.ebb.done(&["drain", "exact-part"]);
    assert!(!scene.server.is_running());
    let status = scene.ebb.status("exact-part");
    assert_eq!(status["service"]["state"], "stopped", "{status:#}");
    told(&format!("state after the kill: {state}, then: {:?} {:?}", again.events(), again.notes()));
    // Started by hand again, it is brought back.
    scene.server = Daemon::start(&scene.net, &ServeSpec::at([Listen::tcp(at())]));
    assert!(scene.is_refused(), "the hold outlives the service");
    scene.ebb.done(&["resume", "exact-part"]);
    assert!(!scene.is_refused());
}

/// A kill at any time, also between the steps.
#[test]
fn at_any_time_it_can_be_undone() {
    let Some(mut scene) = scene() else { return };
    let (mut shut, mut held) = (0, 0);
    for step in 0..15_u64 {
        let mut drain = scene.ebb.watch(&["drain", "exact-part"]);
        std::thread::sleep(Duration::from_millis(step * 4));
        drain.kill();
        let refused = scene.is_refused();
        let holds = scene.ebb.done(&["holds"]).all("hold").count();
        assert!(holds == 1 || !refused, "a gate without a hold");
        if holds == 1 {
            scene.status_is_true();
        }
        shut += u32::from(refused);
        held += holds;
        scene.undone(u64::from(CLIENTS));
    }
    told(&format!("15 kills: held after {held}, refused after {shut}"));
}

/// Somebody else's resume in the middle: the drain says so and ends, nothing is stopped, and who comes in is no leak.
#[test]
fn resumed_by_somebody_else_in_the_middle_it_ends() {
    let Some(mut scene) = scene() else { return };
    let mut drain = scene.ebb.watch(&["drain", "exact-part"]);
    drain.event("GateProven");
    scene.undone(u64::from(CLIENTS));
    let mut newcomers = Crowd::start(&scene.net, &[CrowdSpec::echoes([at()], CLIENTS)]);
    assert_eq!(newcomers.all_connected(LIMIT).connected, u64::from(CLIENTS));
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["outcome"]), (Some(6), &"released".into()), "{answer:#?}");
    assert_eq!(report["leaks"].as_array().map(Vec::len), Some(0), "{answer:#?}");
    assert!(!answer.events().contains(&"GateLost"), "{answer:#?}");
    scene.crowd.end(CLIENTS);
    newcomers.end(CLIENTS);
    // Longer than an empty service is waited for before it is stopped.
    std::thread::sleep(Duration::from_secs(3));
    assert!(scene.server.is_running());
    assert_eq!(scene.ebb.done(&["status"]).all("status").count(), 0, "nothing is left of it");
}
