//! nginx and HAProxy under live load, as units of a real system.

mod common;

use ebb_lab::ebb::{ebb, watch};
use ebb_lab::load::{Echoes, Knocks};
use ebb_lab::{Client, Host, Lab, Output, Result, Server, roles};
use ebb_wire::v1::{Gate, Outcome as Came};

use common::{LATE, Outcome, SOON};

/// Every answer was a good one and no connection broke.
fn all_well(wrk: &Output) -> bool {
    wrk.ok() && wrk.stdout.contains("requests in") && !wrk.stdout.contains("errors") && !wrk.stdout.contains("Non-2xx")
}

#[test]
fn nginx_lets_everyone_finish_and_comes_back() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("nginx")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    // At 64 kB/s: ten seconds.
    a.check(&["truncate", "-s", "640K", "/var/www/lab/big"])?;

    let written = "%{http_code} %{size_download}";
    let mut download = c.spawn(&["curl", "-svo", "/dev/null", "-w", written, &a.url("/slow")])?;
    download.wait_for("200 OK", SOON)?;
    let wrk = c.spawn(&["wrk", "-t1", "-c16", "-d6s", &a.url("/")])?;
    let mut sockets = Echoes::open_websockets(&c, &a, "/ws", 20)?;

    let mut drain = watch(&a, &["drain", "nginx", "--reason", "new kernel"])?;
    drain.wait_event("GateProven", SOON)?;
    let newcomer = ["curl", "-sS", "--max-time", "5"];
    for url in [a.url("/"), a.url6("/")] {
        assert_eq!(c.exec(&[&newcomer[..], &[&url]].concat())?.code, Some(7), "refused at once");
    }
    let knocks = Knocks::begin(&c, &a, 80)?;
    let status = ebb(&a, &["status"])?;
    let seen = status.statuses()[0];
    assert_eq!((seen.gate, seen.service.state.as_str()), (Gate::Shut, "draining"), "{seen:?}");
    assert!(seen.watched_by_pid.is_some() && seen.at_start >= Some(37), "{seen:?}");
    assert_eq!(seen.service.holders[0].reason, "new kernel");

    let wrk = wrk.wait(SOON)?;
    assert!(all_well(&wrk), "{wrk:?}");
    drain.wait_left(21, SOON)?;
    let download = download.wait(SOON)?;
    assert_eq!(download.stdout, "200 655360", "{download:?}");
    drain.wait_left(20, SOON)?;
    sockets.end(19)?;
    drain.wait_left(1, SOON)?;
    assert_eq!(sockets.count()?.living, 1);
    let sockets = sockets.finish()?;
    assert_eq!((sockets.harmed, sockets.ended), (0, 20), "{sockets:?}");

    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(0), Came::Stopped), "{report:?} {}", answer.stderr);
    assert!(report.at_start >= 37 && report.by_themselves == report.at_start, "{report:?}");
    assert!(report.leaks.is_empty() && report.left == 0 && report.cut == 0 && report.by_us == 0, "{report:?}");
    let knocked = knocks.finish()?;
    assert_eq!((knocked.accepted, knocked.other), (0, 0), "{knocked:?}");
    assert!(report.refused >= 2 && report.refused <= knocked.refused + 2, "{} of {knocked:?}", report.refused);
    let proof = report.proof.as_ref().expect("a stopped service was proven empty");
    assert!(proof.doors.len() == 2 && proof.doors.iter().all(|door| door.refused), "{proof:?}");
    assert!(proof.censuses >= 2 && proof.empty_for_seconds >= 2.0, "{proof:?}");

    nginx_is_held_and_resumed(&a, &c)?;
    the_journal_has_it(&a)?;
    Ok(())
}

fn nginx_is_held_and_resumed(a: &Server, c: &Client) -> Result<()> {
    assert_eq!(a.exec(&["systemctl", "is-active", "nginx"])?.stdout, "inactive\n");
    assert_eq!(a.sh("systemctl --failed --no-legend")?.stdout, "", "not failed");
    let status = ebb(a, &["status", "nginx"])?;
    let seen = status.statuses()[0];
    assert_eq!((seen.gate, seen.service.state.as_str()), (Gate::Shut, "stopped"), "{seen:?}");
    assert!(seen.stopped_by_us && seen.drained_at.is_some() && seen.watched_by_pid.is_none(), "{seen:?}");
    assert_eq!(seen.service.holders.len(), 1);
    let again = ebb(a, &["drain", "nginx"])?;
    assert_eq!(again.code, Some(0));
    assert!(again.notes().iter().any(|note| note.contains("already")), "{again:?}");

    let resumed = ebb(a, &["resume", "nginx"])?;
    let report = resumed.resumes()[0];
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(report.started && report.open && report.verified.len() == 2 && report.remaining.is_empty(), "{report:?}");
    assert_eq!(c.check(&["curl", "-sS", "--max-time", "5", &a.url("/")])?, "ok a\n");
    assert_eq!(a.exec(&["systemctl", "is-active", "nginx"])?.stdout, "active\n");
    assert!(!a.check(&["nft", "list", "tables"])?.contains("ebb"), "the table goes with the last hold");
    assert!(ebb(a, &["status"])?.statuses().is_empty());
    let nothing = ebb(a, &["resume", "nginx"])?;
    assert_eq!(nothing.code, Some(0));
    assert!(nothing.notes().iter().any(|note| note.contains("nothing to do")), "{nothing:?}");
    Ok(())
}

/// Every event is in the journal too, under the unit, with its id.
fn the_journal_has_it(a: &Server) -> Result<()> {
    let history = ebb(a, &["events"])?;
    let names = history.event_names();
    let expected = ["HoldPlaced", "DrainBegan", "GateShut", "GateProven", "Drained", "ServiceStopped"];
    assert_eq!(names[..expected.len()], expected, "{names:?}");
    assert!(names.ends_with(&["ServiceStarted", "ServiceVerified", "HoldReleased", "GateOpened"]), "{names:?}");
    let journal = a.check(&["journalctl", "-u", "nginx", "-o", "json", "--no-pager"])?;
    for name in &names {
        let field = format!("\"EBB_EVENT\":\"{name}\"");
        let line = journal.lines().find(|line| line.contains(&field));
        assert!(line.is_some_and(|line| line.contains("\"MESSAGE_ID\"")), "{name} in {journal}");
    }
    Ok(())
}

#[test]
fn haproxy_moves_on_and_is_drained_itself() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("haproxy")?;
    let [p, n1, n2] = lab.servers(["p", "n1", "n2"])?;
    let c = lab.client("c")?;
    roles::nginx(&n1)?;
    roles::nginx(&n2)?;
    roles::haproxy(&p, &[n1.v4(), n2.v4()])?;

    // A new connection for each request, and some that are kept.
    let each =
        format!("for i in $(seq 400); do curl -sS --max-time 10 {} || echo FAILED; sleep 0.02; done", p.url("/"));
    let mut loop_of_new = c.spawn(&["sh", "-c", &each])?;
    // Both are in use before one is drained.
    loop_of_new.wait_for("ok n1", SOON)?;
    loop_of_new.wait_for("ok n2", SOON)?;
    let kept = c.spawn(&["wrk", "-t1", "-c8", "-d12s", "--timeout", "10s", &p.url("/")])?;
    // HAProxy keeps an idle connection to a server that is down for as long as that lets it.
    let end = ["drain", "nginx", "--deadline", "6s", "--then", "end"];
    let answer = watch(&n1, &end)?.wait(LATE)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let report = answer.drains()[0];
    assert_eq!((report.outcome, report.cut), (Came::Stopped, 0), "idle connections heed a goodbye: {report:?}");
    let after = c.check(&["curl", "-sS", "--max-time", "10", &p.url("/")])?;
    assert_eq!(after, "ok n2\n");
    let new = loop_of_new.wait(LATE)?;
    assert!(!new.stdout.contains("FAILED") && new.stderr.is_empty(), "{new:?}");
    assert!(new.stdout.contains("ok n1") && new.stdout.contains("ok n2"), "{new:?}");
    let kept = kept.wait(LATE)?;
    assert!(all_well(&kept), "{kept:?}");

    let kept = c.spawn(&["wrk", "-t1", "-c8", "-d4s", &p.url("/")])?;
    let mut drain = watch(&p, &["drain", "haproxy"])?;
    drain.wait_event("GateProven", SOON)?;
    assert_eq!(c.exec(&["curl", "-sS", &p.url("/")])?.code, Some(7));
    let kept = kept.wait(LATE)?;
    assert!(all_well(&kept), "{kept:?}");
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(0), Came::Stopped), "{report:?}");
    assert_eq!(p.exec(&["systemctl", "is-active", "haproxy"])?.stdout, "inactive\n");

    for (server, service) in [(&n1, "nginx"), (&p, "haproxy")] {
        let resumed = ebb(server, &["resume", service])?;
        assert_eq!(resumed.code, Some(0), "{resumed:?}");
    }
    assert!(c.check(&["curl", "-sS", "--max-time", "10", &p.url("/")])?.starts_with("ok"));
    Ok(())
}
