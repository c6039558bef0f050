//! The resident agent under a real systemd, from the units that are shipped: what is held stays held, through a kill of
//! the agent, a reboot, and starts by others; and nothing is left when it is released.

mod common;

use std::time::{Duration, Instant};

use ebb_lab::ebb::{ebb, watch};
use ebb_lab::load::{Echoes, Knocks};
use ebb_lab::{Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Gate, Outcome as Came};

use common::{LATE, Outcome, SOON};

/// All that systemd reads here, and the firewall, as text.
fn as_it_is(a: &Server) -> Result<String> {
    let all = "cd /etc/systemd/system && find . -type f -o -type l -o -type d | sort | while read -r f; do \
               printf '%s %s\\n' \"$f\" \"$(readlink \"$f\" || sha1sum <\"$f\" 2>/dev/null)\"; done; \
               ls -d /run/systemd/system/*/zz-ebb* /var/lib/ebb/held/* 2>/dev/null; nft list ruleset; \
               systemctl is-enabled nginx echo ssh";
    Ok(a.exec(&["sh", "-c", all])?.stdout)
}

fn agent_pid(a: &Server) -> Result<String> {
    Ok(a.check(&["systemctl", "show", "--value", "-p", "MainPID", "ebb-agent.service"])?.trim().to_owned())
}

#[test]
fn a_drain_does_not_notice_that_its_agent_was_killed_and_replaced() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("killagent")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    roles::agent(&a)?;
    let mut sessions = Echoes::open(&c, &a, roles::ECHO_PORT, 20)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_left(20, SOON)?;
    let knocks = Knocks::begin(&c, &a, roles::ECHO_PORT)?;
    let first = agent_pid(&a)?;
    a.check(&["kill", "-9", &first])?;
    // Others may look, and the operator's viewer has been joined to the next agent.
    let began = Instant::now();
    while agent_pid(&a)? == first || !a.exec(&["ebb", "status", "echo"])?.ok() {
        assert!(began.elapsed() < LATE, "no agent came back");
        std::thread::sleep(Duration::from_millis(100));
    }
    sessions.end(5)?;
    drain.wait_left(15, SOON)?;
    // A second viewer joins, and leaves; a third sees the end.
    let mut second = watch(&a, &["watch", "echo"])?;
    second.wait_left(15, SOON)?;
    second.signal("INT")?;
    assert_eq!(second.wait(SOON)?.code, Some(7));
    let third = watch(&a, &["watch", "echo"])?;
    sessions.end(15)?;
    for viewer in [drain, third] {
        let answer = viewer.wait(LATE)?;
        let report = answer.drains()[0];
        assert_eq!((answer.code, report.outcome, report.at_start), (Some(0), Came::Stopped, 20), "{answer:?}");
        assert_eq!((report.by_themselves, report.left, report.leaks.len()), (20, 0, 0), "{answer:?}");
    }
    assert_eq!(sessions.finish()?.harmed, 0);
    assert_eq!(knocks.finish()?.accepted, 0);
    ebb(&a, &["resume", "echo"])?;
    Ok(())
}

#[test]
fn what_is_held_stays_so_through_starts_by_others_and_a_reboot() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("reboot")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    roles::echo(&a)?;
    roles::sshd(&lab, &a)?;
    roles::agent(&a)?;
    let before = as_it_is(&a)?;

    let answer = ebb(&a, &["drain", "nginx", "--reason", "new kernel"])?;
    assert_eq!((answer.code, answer.drains()[0].outcome), (Some(0), Came::Stopped), "{answer:?}");
    let held = ebb(&a, &["hold", "echo", "--as", "deploy"])?;
    assert_eq!(held.code, Some(0), "{held:?}");
    // Whoever starts it all the same is refused, and told whose it is and what undoes it.
    for verb in ["start", "restart"] {
        let refused = a.exec(&["systemctl", verb, "nginx"])?;
        assert!(!refused.ok(), "{refused:?}");
        for word in ["nginx-is-held-by-operator", "new-kernel", "ebb-resume-nginx"] {
            assert!(refused.stderr.contains(word), "{word}: {refused:?}");
        }
    }
    assert_ne!(a.exec(&["systemctl", "is-active", "nginx"])?.stdout.trim(), "active");

    let knocks = [80, roles::ECHO_PORT].map(|port| Knocks::begin(&c, &a, port));
    a.reboot()?;
    roles::wait_port(&a, roles::ECHO_PORT)?;
    let login = roles::ssh_command(&lab, "root", &a)?;
    let login: Vec<&str> = login.iter().map(String::as_str).chain(["true"]).collect();
    let began = Instant::now();
    while !c.exec(&login)?.ok() {
        assert!(began.elapsed() < LATE, "no login after the reboot");
    }
    // Longer than a late service would need.
    std::thread::sleep(Duration::from_secs(2));
    for knocked in knocks {
        let knocked = knocked?.finish()?;
        assert!(knocked.accepted == 0 && knocked.refused > 100, "{knocked:?}");
    }
    assert_ne!(a.exec(&["systemctl", "is-active", "nginx"])?.stdout.trim(), "active");
    for (name, state) in [("nginx", "stopped"), ("echo", "draining")] {
        let status = ebb(&a, &["status", name])?;
        let seen = status.statuses()[0];
        assert_eq!((seen.gate, seen.service.state.as_str()), (Gate::Shut, state), "{seen:?}");
    }
    let agent = a.exec(&["systemctl", "is-active", "ebb-agent", "ebb-gate"])?;
    assert_eq!(agent.stdout, "active\nactive\n", "{agent:?}");

    for words in [&["resume", "nginx"][..], &["resume", "echo", "--as", "deploy"]] {
        let answer = ebb(&a, words)?;
        assert_eq!(answer.code, Some(0), "{words:?}: {answer:?}");
    }
    assert!(c.exec(&["curl", "-sf", "--max-time", "5", &a.url("/")])?.ok());
    assert_eq!(as_it_is(&a)?, before, "nothing is left");
    Ok(())
}

/// Even if no agent comes up any more, and the store is broken, nobody is let in by a boot.
#[test]
fn a_broken_agent_and_a_broken_store_open_nothing() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("broken")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    roles::agent(&a)?;
    let held = ebb(&a, &["hold", "echo"])?;
    assert_eq!(held.code, Some(0), "{held:?}");
    a.check(&["systemctl", "disable", "--now", "ebb-agent.service"])?;
    a.check(&["sh", "-c", "echo no database at all >/var/lib/ebb/ebb.db"])?;
    let knocks = Knocks::begin(&c, &a, roles::ECHO_PORT)?;
    a.reboot()?;
    roles::wait_port(&a, roles::ECHO_PORT)?;
    std::thread::sleep(Duration::from_secs(1));
    let knocked = knocks.finish()?;
    assert!(knocked.accepted == 0 && knocked.refused > 100, "{knocked:?}");
    let unit = a.exec(&["systemctl", "status", "ebb-gate.service"])?;
    assert!(unit.stdout.contains("failed") && unit.stdout.contains("its copy"), "{unit:?}");
    let status = a.exec(&["ebb", "status"])?;
    assert!(!status.ok() && status.stderr.contains("ebb.db"), "{status:?}");
    Ok(())
}
