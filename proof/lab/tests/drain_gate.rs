//! The gate against everybody else who changes the firewall, and against a reboot.

mod common;

use std::time::Instant;

use ebb_lab::ebb::{Watched, ebb, watch};
use ebb_lab::load::{Echoes, Knocks};
use ebb_lab::{Client, Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Event, Frame, Gate, Outcome as Came};

use common::{LATE, Outcome, SOON};

const ECHO: u16 = roles::ECHO_PORT;

fn is_refused(client: &Client, server: &Server) -> Result<bool> {
    let url = format!("http://{}:{ECHO}/", server.v4());
    Ok(client.exec(&["curl", "-sS", "--max-time", "2", &url])?.code == Some(7))
}

/// The events of that name so far.
fn seen(frames: &[Frame], name: &str) -> Vec<Event> {
    ebb_lab::ebb::events(frames).filter(|event| event.name == name).cloned().collect()
}

/// Lets somebody else change the firewall, and waits for the `nth` time that the gate is back. Answers with who
/// was named.
fn disturb(server: &Server, drain: &mut Watched, nth: usize, command: &str) -> Result<String> {
    server.check(&["sh", "-c", command])?;
    let began = Instant::now();
    let lost = drain.wait_until("the gate is back", SOON, |frames| {
        let back = seen(frames, "GateRestored").len() >= nth;
        seen(frames, "GateLost").last().filter(|_| back).cloned()
    })?;
    assert!(began.elapsed().as_millis() < 1000, "{command}: back after {:?}", began.elapsed());
    Ok(lost.text)
}

#[test]
fn the_gate_comes_back_while_ebb_watches() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("gate")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    // Debian's own configuration: it flushes all, then loads three empty chains.
    a.enable("nftables.service")?;
    a.check(&["nft", "add", "table", "inet", "theirs"])?;
    let sessions = Echoes::open(&c, &a, ECHO, 20)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_left(20, SOON)?;
    assert!(a.check(&["nft", "list", "tables"])?.contains("inet theirs"), "others' rules are theirs");

    for (nth, command) in [(1, "nft flush ruleset"), (2, "systemctl reload nftables"), (3, "nft delete table inet ebb")]
    {
        let said = disturb(&a, &mut drain, nth, command)?;
        assert!(said.contains("nft (pid "), "{command}: {said}");
        let knocks = Knocks::begin(&c, &a, ECHO)?;
        assert!(is_refused(&c, &a)?, "after {command}");
        let knocked = knocks.finish()?;
        assert_eq!((knocked.accepted, knocked.other), (0, 0), "after {command}: {knocked:?}");
    }
    assert!(a.check(&["nft", "list", "tables"])?.contains("inet filter"), "the reload did its work");

    let sessions = sessions.finish()?;
    assert_eq!((sessions.harmed, sessions.ended), (0, 20), "{sessions:?}");
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(0), Came::Stopped), "{answer:?}");
    assert!(report.leaks.is_empty(), "{report:?}"); // the number of refusals went with the tables
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));
    let tables = a.check(&["nft", "list", "tables"])?;
    assert!(tables.contains("inet filter") && !tables.contains("ebb"), "{tables}");
    Ok(())
}

#[test]
fn a_gate_lost_while_nobody_watches_is_told_and_shut_again() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("unwatched")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    let mut sessions = Echoes::open(&c, &a, ECHO, 3)?;
    let held = ebb(&a, &["hold", "echo"])?;
    assert_eq!(held.code, Some(0), "{held:?}");
    assert!(is_refused(&c, &a)?);

    a.check(&["nft", "flush", "ruleset"])?;
    let status = ebb(&a, &["status"])?;
    let told = status.statuses()[0];
    assert_eq!(told.gate, Gate::Missing, "{told:?}");
    assert!(told.service.remarks.iter().any(|remark| remark.contains("gate")), "{told:?}");
    assert!(!is_refused(&c, &a)?, "the truth");

    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_event("GateProven", SOON)?;
    assert!(is_refused(&c, &a)?);
    assert_eq!(ebb(&a, &["status"])?.statuses()[0].gate, Gate::Shut);
    assert_eq!(sessions.count()?.living, 3);

    // A drain under way, and the machine reboots: the hold stands, the gate does not until it is asked for.
    drain.signal("INT")?;
    assert_eq!(drain.wait(SOON)?.code, Some(7));
    drop(sessions);
    a.reboot()?;
    roles::wait_port(&a, ECHO)?;
    let status = ebb(&a, &["status"])?;
    let told = status.statuses()[0];
    assert_eq!((told.gate, told.watched_by_pid), (Gate::Missing, None), "{told:?}");
    assert_eq!(told.service.holders.len(), 1, "{told:?}");
    assert!(told.next.iter().any(|next| next == "ebb drain echo"), "{told:?}");
    let sessions = Echoes::open(&c, &a, ECHO, 4)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_event("GateProven", SOON)?;
    assert!(is_refused(&c, &a)?);
    let progress = drain.wait_left(4, SOON)?;
    assert_eq!(progress.at_start, 4, "those of before the reboot are gone: {progress:?}");
    assert_eq!(sessions.finish()?.harmed, 0);
    let answer = drain.wait(LATE)?;
    assert_eq!((answer.code, answer.drains()[0].outcome), (Some(0), Came::Stopped), "{answer:?}");
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));
    assert!(!is_refused(&c, &a)?);
    Ok(())
}
