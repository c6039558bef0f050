//! The whole server: holds on it, and its maintenance. `maintained` kills its agent after each step.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ebb_exact::{Answer, Crowd, CrowdSpec, Daemon, Ebb, Listen, Met, Net, ServeSpec, meet, server4};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(40);
const CLIENTS: u32 = 20;

fn at(port: u16) -> SocketAddr {
    (server4(1), port).into()
}

fn serve(net: &Net, name: &str, port: u16) -> Daemon {
    Daemon::named(net, name, &ServeSpec::at([Listen::tcp(at(port))]))
}

fn until(what: &str, mut fits: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fits() {
        assert!(began.elapsed() < LIMIT, "not in {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_whole_server_is_held_with_what_comes_later() {
    let Some(net) = Net::new() else { return };
    let (_alpha, _beta) = (serve(&net, "alpha", 7000), serve(&net, "beta", 7001));
    let _ssh = serve(&net, "sshd", 7022);
    let ebb = Ebb::on(&net);
    let _agent = ebb.agent();
    ebb.done(&["hold", "beta"]);
    let planned = ebb.done(&["hold", "--server", "--dry-run"]);
    assert_eq!(planned.notes().len(), 3, "alpha, beta, and who stays open: {planned:#?}");
    ebb.done(&["hold", "--server", "--as", "deploy", "--reason", "the rack"]);
    for (port, met) in [(7000, Met::Refused), (7001, Met::Refused), (7022, Met::Connected)] {
        assert_eq!(meet(&net.client, at(port)), met, "{port}");
    }
    // What comes later is held with it; what it leaves open is not.
    let _late = serve(&net, "late", 7002);
    until("the new service is held", || meet(&net.client, at(7002)) == Met::Refused);
    let _watcher = serve(&net, "node_exporter", 7100);
    let holds = ebb.done(&["holds"]);
    let server = holds.all("hold").find(|hold| hold["whole_server"] == true).unwrap_or(&Value::Null);
    assert_eq!(server["covers"], serde_json::json!(["alpha", "beta", "late"]), "{holds:#?}");
    let status = ebb.status("alpha");
    assert_eq!(status["service"]["holders"][0]["whole_server"], true, "{status:#}");
    assert_eq!(status["next"][2], "ebb resume --server --as deploy", "{status:#}");
    // The operator's own hold, and the server's, are two.
    let resume = ebb.run(&["resume", "beta"]);
    assert_eq!(resume.code, Some(5), "{resume:#?}");
    assert!(resume.stderr.contains("ebb resume --server --as deploy"), "{resume:#?}");
    assert_eq!(meet(&net.client, at(7001)), Met::Refused);
    let not_mine = ebb.run(&["resume", "alpha"]);
    assert_eq!(not_mine.code, Some(5), "{not_mine:#?}");
    // In its requester's name one service is taken out of it, and stays open.
    ebb.done(&["resume", "alpha", "--as", "deploy"]);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(meet(&net.client, at(7000)), Met::Connected);
    assert_eq!(meet(&net.client, at(7100)), Met::Connected);
    ebb.done(&["release", "--server", "--as", "deploy"]);
    assert_eq!(meet(&net.client, at(7001)), Met::Connected);
    assert_eq!(ebb.done(&["holds"]).all("hold").count(), 0);
    assert_eq!(net.run(&net.server, &["nft", "list", "ruleset"]), "");
    assert_eq!(ebb.done(&["doctor"]).code, Some(0));
}

#[test]
fn the_holds_of_all_are_released_for_a_reason_only() {
    let Some(net) = Net::new() else { return };
    let _alpha = serve(&net, "alpha", 7000);
    let ebb = Ebb::on(&net);
    for requester in ["operator", "deploy", "health"] {
        ebb.done(&["hold", "alpha", "--as", requester]);
    }
    ebb.done(&["hold", "--server", "--as", "maintenance"]);
    assert_eq!(ebb.run(&["resume", "alpha"]).code, Some(5));
    for (words, code) in [
        (&["resume", "alpha", "--all-holders"][..], 2),
        (&["resume", "alpha", "--all-holders", "--yes"], 2),
        (&["resume", "alpha", "--all-holders", "--yes", "--reason", " "], 2),
    ] {
        assert_eq!(ebb.run(words).code, Some(code), "{words:?}");
        assert_eq!(meet(&net.client, at(7000)), Met::Refused);
    }
    let answer = ebb.done(&["resume", "alpha", "--all-holders", "--yes", "--reason", "they have all died"]);
    assert_eq!(meet(&net.client, at(7000)), Met::Connected);
    let overridden: Vec<&Value> = answer.all("event").filter(|event| event["name"] == "HoldOverridden").collect();
    assert_eq!(overridden.len(), 3, "the operator's was their own: {answer:#?}");
    assert!(overridden.iter().all(|event| event["fields"]["reason"] == "they have all died"), "{answer:#?}");
    assert_eq!(ebb.done(&["holds"]).all("hold").count(), 0);
}

#[test]
fn with_yes_a_reason_must_be_given() {
    let Some(net) = Net::new() else { return };
    let _alpha = serve(&net, "alpha", 7000);
    let ebb = Ebb::on(&net);
    let refused = ebb.run(&["hold", "alpha", "--yes"]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stderr.contains("--reason"), "{refused:#?}");
    assert_eq!(meet(&net.client, at(7000)), Met::Connected);
    ebb.done(&["hold", "alpha", "--yes", "--reason", "x"]);
}

fn maintenance(ebb: &Ebb) -> Value {
    let answer = ebb.done(&["maintenance", "status"]);
    answer.all("maintenance").next().cloned().unwrap_or(Value::Null)
}

/// Asked back while sessions live: nobody is harmed, and all is open again.
#[test]
fn asked_back_in_mid_drain_nobody_is_harmed() {
    let Some(net) = Net::new() else { return };
    let (mut alpha, mut beta) = (serve(&net, "alpha", 7000), serve(&net, "beta", 7001));
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at(7000)], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let _agent = ebb.agent();
    let mut viewer = ebb.watch(&["maintenance", "start", "--reason", "disks", "--yes", "--watch", "0s"]);
    viewer.until("the empty one is down", LIMIT, |frame| frame["type"] == "drained" && frame["service"] == "beta");
    assert!(!beta.is_running() && alpha.is_running());
    let other = ebb.run(&["drain", "--server"]);
    assert_eq!(other.code, Some(5), "one at a time, and it is another's: {other:#?}");
    assert!(other.stderr.contains("ebb maintenance finish"), "{other:#?}");
    beta = serve(&net, "beta", 7001);
    let finish = ebb.run(&["maintenance", "finish"]);
    assert_eq!(finish.code, Some(0), "{finish:#?}");
    assert_eq!(finish.one("maintenance")["state"], "over", "{finish:#?}");
    let viewer = viewer.wait(LIMIT);
    assert_eq!(viewer.code, Some(6), "what was asked for was called off: {viewer:#?}");
    for port in [7000, 7001] {
        assert_eq!(meet(&net.client, at(port)), Met::Connected, "{port}");
    }
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.lost, tally.living), (0, u64::from(CLIENTS)), "{tally:?}");
    assert!(alpha.is_running() && beta.is_running());
    assert_eq!(ebb.done(&["holds"]).all("hold").count(), 0);
    assert_eq!(maintenance(&ebb)["state"], "over");
    let nothing = ebb.done(&["maintenance", "finish"]);
    assert!(nothing.notes()[0].contains("nothing to do"), "{nothing:#?}");
}

/// No agent is resident: each command is its own, and whoever comes next goes on.
#[test]
fn without_an_agent_a_maintenance_is_gone_on_with_by_the_next_command() {
    let Some(net) = Net::new() else { return };
    let mut alpha = serve(&net, "alpha", 7000);
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at(7000)], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let words = ["maintenance", "start", "--reason", "disks", "--watch", "0s"];
    let mut first = ebb.watch(&words);
    first.until("the count", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == CLIENTS);
    let second = ebb.run(&words);
    assert_eq!(second.code, Some(1), "the first drives it: {second:#?}");
    let early = ebb.run(&["maintenance", "finish"]);
    assert_eq!(early.code, Some(1), "nor is it called off behind its back: {early:#?}");
    first.kill();
    assert_eq!(meet(&net.client, at(7000)), Met::Refused);
    let doctor = ebb.run(&["doctor"]);
    assert!(doctor.all("finding").any(|one| one["what"].as_str().is_some_and(|what| what.contains("interrupted"))));
    let mut third = ebb.watch(&words);
    third.until("the same count", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == CLIENTS);
    crowd.end(CLIENTS);
    let answer = third.wait(LIMIT);
    assert_eq!((answer.code, &answer.one("maintenance")["state"]), (Some(0), &"in_work".into()), "{answer:#?}");
    assert!(!alpha.is_running());
    // It does not answer: it stays shut, and says what to do.
    let early = ebb.run(&["maintenance", "finish"]);
    assert_eq!((early.code, &early.one("maintenance")["state"]), (Some(1), &"halted".into()), "{early:#?}");
    assert_eq!(meet(&net.client, at(7000)), Met::Refused);
    alpha = serve(&net, "alpha", 7000);
    assert_eq!(meet(&net.client, at(7000)), Met::Refused);
    ebb.done(&["maintenance", "finish"]);
    assert_eq!(meet(&net.client, at(7000)), Met::Connected);
    assert!(alpha.is_running());
    assert_eq!(crowd.echo(LIMIT).lost, 0);
}

#[test]
fn a_drill_stops_nothing_and_goes_back_by_itself() {
    let Some(net) = Net::new() else { return };
    let mut alpha = serve(&net, "alpha", 7000);
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at(7000)], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let _agent = ebb.agent();
    let planned = ebb.done(&["maintenance", "start", "--drill", "--dry-run"]);
    let names = |answer: &Answer, state: &str| -> Vec<String> {
        let steps = answer.all("step").filter(|step| step["state"] == state);
        steps.map(|step| step["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let words =
        ["maintenance", "start", "--drill", "--deadline", "3s", "--then", "end", "--for", "1h", "--reason", "x"];
    let mut first = ebb.watch(&words);
    first.until("it drains", LIMIT, |frame| frame["type"] == "step" && frame["name"] == "drain 1");
    let again = ebb.run(&words);
    let drill = first.wait(LIMIT);
    let ended = |answer: &Answer| (answer.code, answer.one("maintenance")["state"].clone());
    assert_eq!(ended(&again), ended(&drill), "the same words join it");
    let one = drill.one("maintenance");
    assert_eq!(one["state"], "over", "{drill:#?}");
    assert_eq!(names(&drill, "done"), names(&planned, "planned"), "what was planned was done");
    let drain = one["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["name"] == "drain 1"));
    let text = drain.and_then(|drain| drain["text"].as_str()).unwrap_or_default();
    assert_eq!(text, "20 sessions of alpha are left: they would have been waited for");
    assert_eq!(meet(&net.client, at(7000)), Met::Connected);
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.lost, tally.living, alpha.is_running()), (0, u64::from(CLIENTS), true), "{tally:?}");
}

/// A guard that refuses touches nothing; in spite of it one goes on for a reason only, and is not called a failure for it.
#[test]
fn a_guard_that_refuses_is_overridden_for_a_reason_only() {
    let Some(net) = Net::new() else { return };
    let _alpha = serve(&net, "alpha", 7000);
    let ebb = Ebb::on(&net);
    ebb.configure(
        "[guard.mine]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo the moon is full; exit 2\"]\n",
    );
    let refused = ebb.run(&["maintenance", "start", "--reason", "x"]);
    assert_eq!((refused.code, &refused.one("maintenance")["state"]), (Some(1), &"halted".into()), "{refused:#?}");
    assert!(refused.notes().iter().any(|note| note.contains("guard mine refuses: the moon is full")), "{refused:#?}");
    assert_eq!(ebb.done(&["holds"]).all("hold").count(), 0);
    assert_eq!(meet(&net.client, at(7000)), Met::Connected);
    assert_eq!(ebb.run(&["maintenance", "start", "--reason", "x", "--override-guards", " "]).code, Some(2));
    let words = ["maintenance", "start", "--drill", "--reason", "x", "--override-guards", "known"];
    let done = ebb.done(&words);
    assert_eq!(done.one("maintenance")["state"], "over", "{done:#?}");
    assert!(done.events().contains(&"GuardOverridden"), "{:?}", done.events());
}
