//! The agent is upgraded in the middle of a drain, and a second one is started beside it.

mod common;

use std::time::Duration;

use ebb_lab::ebb::{ebb, watch};
use ebb_lab::load::{Echoes, Knocks};
use ebb_lab::{Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Frame, Outcome as Came};

use common::{LATE, Outcome, SOON};

const EBB: &str = "/usr/bin/ebb";

fn agent_pid(a: &Server) -> Result<String> {
    Ok(a.check(&["systemctl", "show", "--value", "-p", "MainPID", "ebb-agent.service"])?.trim().to_owned())
}

/// Another binary by the same name, put in its place as dpkg does.
fn replace(a: &Server) -> Result<String> {
    let line =
        format!("cp {EBB} {EBB}.new && printf 'another build' >>{EBB}.new && mv {EBB}.new {EBB} && sha1sum {EBB}");
    a.check(&["sh", "-c", &line])
}

#[test]
fn an_upgrade_in_the_middle_of_a_drain_is_not_noticed() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("upgrade")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    roles::agent(&a)?;
    let mut sessions = Echoes::open(&c, &a, roles::ECHO_PORT, 20)?;
    let mut drain = watch(&a, &["drain", "echo", "--settle", "500ms"])?;
    drain.wait_left(20, SOON)?;
    let knocks = Knocks::begin(&c, &a, roles::ECHO_PORT)?;
    for left in [15, 10] {
        let (old, before) = (agent_pid(&a)?, a.check(&["sha1sum", EBB])?);
        assert_ne!(replace(&a)?, before, "another file");
        a.check(&["systemctl", "restart", "ebb-agent"])?;
        assert_ne!(agent_pid(&a)?, old);
        let exe = a.check(&["readlink", &format!("/proc/{}/exe", agent_pid(&a)?)])?;
        assert_eq!(exe.trim(), EBB, "the new file runs");
        sessions.end(5)?;
        drain.wait_left(left, SOON)?;
    }
    // A second one, by hand: told, and the first is unharmed.
    let first = agent_pid(&a)?;
    for place in [&[][..], &["--socket", "/run/ebb/second.sock"]] {
        let second = a.exec(&[&[EBB, "agent"], place].concat())?;
        assert_eq!(second.code, Some(1), "{second:?}");
        assert!(second.stderr.contains("another agent is resident"), "{second:?}");
    }
    assert_eq!(agent_pid(&a)?, first);
    assert_eq!(a.check(&["systemctl", "is-active", "ebb-agent"])?, "active\n");
    assert!(sessions.count()?.harmed == 0 && ebb(&a, &["status", "echo"])?.code == Some(0));
    sessions.end(10)?;

    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome, report.at_start), (Some(0), Came::Stopped, 20), "{answer:?}");
    assert_eq!((report.by_themselves, report.left, report.leaks.len()), (20, 0, 0), "{answer:?}");
    let told = |line: &str| line == "The agent has ended; the drain goes on with the next one.";
    assert!(answer.stderr.lines().all(told), "the viewer has nothing to complain of: {answer:?}");
    let warned = |frame: &&Frame| matches!(frame, Frame::Note(note) if note.warning);
    assert_eq!(answer.frames.iter().filter(warned).count(), 0, "{answer:?}");
    assert_eq!(sessions.finish()?.harmed, 0);
    assert_eq!(knocks.finish()?.accepted, 0);
    let events = ebb(&a, &["events", "--last", "100"])?;
    for once in ["HoldPlaced", "DrainBegan", "GateShut", "Drained", "ServiceStopped"] {
        assert_eq!(events.event_names().iter().filter(|name| **name == once).count(), 1, "{once}: {events:?}");
    }
    for never in ["GateLost", "LeakSeen"] {
        assert!(!events.event_names().contains(&never), "{events:?}");
    }
    ebb(&a, &["resume", "echo"])?;
    Ok(())
}

/// The agent hangs: what is shut stays so, its watchdog has it replaced, and commands do not wait for ever.
#[test]
fn an_agent_that_hangs_is_replaced_and_opens_nothing() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("hangs")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    a.put("/etc/systemd/system/ebb-agent.service.d/soon.conf", "[Service]\nWatchdogSec=3s\n", 0o644)?;
    roles::agent(&a)?;
    let mut sessions = Echoes::open(&c, &a, roles::ECHO_PORT, 4)?;
    let mut drain = watch(&a, &["drain", "echo", "--settle", "500ms"])?;
    drain.wait_left(4, SOON)?;
    let knocks = Knocks::begin(&c, &a, roles::ECHO_PORT)?;
    let first = agent_pid(&a)?;
    a.check(&["kill", "-STOP", &first])?;
    sessions.end(2)?;
    let began = std::time::Instant::now();
    while agent_pid(&a)? == first || agent_pid(&a)? == "0" {
        assert!(began.elapsed() < LATE, "it is not replaced");
        std::thread::sleep(Duration::from_millis(200));
    }
    // Its viewer has been told by nobody, and joins the next one.
    drain.wait_left(2, SOON)?;
    sessions.end(2)?;
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome, report.at_start), (Some(0), Came::Stopped, 4), "{answer:?}");
    assert_eq!(sessions.finish()?.harmed, 0);
    assert_eq!(knocks.finish()?.accepted, 0);
    Ok(())
}
