//! What goes wrong in the middle of a drain: ebb killed, services restarted or stopped by others, the bus gone.

mod common;

use ebb_lab::ebb::{Answer, ebb, watch};
use ebb_lab::load::{Echoes, Knocks};
use ebb_lab::{Client, Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Gate, Outcome as Came};

use common::{LATE, Outcome, SOON};

const ECHO: u16 = roles::ECHO_PORT;

fn is_refused(client: &Client, server: &Server, port: u16) -> Result<bool> {
    let url = format!("http://{}:{port}/", server.v4());
    // 7 is refused; an echo server that accepts answers with something else.
    Ok(client.exec(&["curl", "-sS", "--max-time", "2", &url])?.code == Some(7))
}

fn is_active(server: &Server, unit: &str) -> Result<String> {
    Ok(server.exec(&["systemctl", "is-active", unit])?.stdout.trim().to_owned())
}

fn stopped(answer: &Answer) -> bool {
    answer.code == Some(0) && answer.drains()[0].outcome == Came::Stopped
}

#[test]
fn ebb_killed_or_left_keeps_its_word() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("killed")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    let mut sessions = Echoes::open(&c, &a, ECHO, 20)?;

    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_event("GateProven", SOON)?;
    drain.wait_left(20, SOON)?;
    drain.signal("KILL")?;
    assert_eq!(drain.wait(SOON)?.code, None);
    let knocks = Knocks::begin(&c, &a, ECHO)?;
    let status = ebb(&a, &["status"])?;
    let seen = status.statuses()[0];
    assert_eq!((seen.gate, seen.watched_by_pid), (Gate::Shut, None), "{seen:?}");
    assert_eq!((seen.service.state.as_str(), seen.service.sessions), ("draining", Some(20)), "{seen:?}");
    assert!(seen.next.iter().any(|next| next == "ebb drain echo"), "{seen:?}");

    sessions.end(5)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    let progress = drain.wait_left(15, SOON)?;
    assert_eq!(progress.at_start, 20, "it goes on, it does not begin anew");
    drain.signal("INT")?;
    let answer = drain.wait(SOON)?;
    assert_eq!(answer.code, Some(7), "{answer:?}");
    let status = ebb(&a, &["status", "echo"])?;
    let seen = status.statuses()[0];
    assert_eq!((seen.gate, seen.watched_by_pid, seen.at_start), (Gate::Shut, None, Some(20)), "{seen:?}");
    let history = ebb(&a, &["events"])?;
    assert!(history.event("Detached").is_some(), "{history:?}");

    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_left(15, SOON)?;
    let second = ebb(&a, &["drain", "echo"])?;
    assert_eq!(second.code, Some(1), "watched already: {second:?}");
    let sessions = sessions.finish()?;
    assert_eq!((sessions.harmed, sessions.ended), (0, 20), "{sessions:?}");
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert!(stopped(&answer), "{answer:?}");
    assert_eq!((report.at_start, report.by_themselves, report.leaks.len()), (20, 20, 0), "{report:?}");
    let knocked = knocks.finish()?;
    assert_eq!((knocked.accepted, knocked.other), (0, 0), "{knocked:?}");

    // Undone, by resume alone, what a killed one began.
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));
    let sessions = Echoes::open(&c, &a, ECHO, 3)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_event("GateProven", SOON)?;
    drain.signal("KILL")?;
    drain.wait(SOON)?;
    assert!(is_refused(&c, &a, ECHO)?);
    let resumed = ebb(&a, &["resume", "echo"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(resumed.resumes()[0].open && !resumed.resumes()[0].started, "{resumed:?}");
    assert_eq!(Echoes::open(&c, &a, ECHO, 2)?.finish()?.ended, 2);
    assert_eq!(sessions.finish()?.harmed, 0);
    assert!(!a.check(&["nft", "list", "tables"])?.contains("ebb"));
    Ok(())
}

#[test]
fn a_service_that_others_restart_or_stop() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("others")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;

    // Restarted: its sessions are gone with it, the gate is not.
    let _sessions = Echoes::open(&c, &a, ECHO, 5)?;
    let mut drain = watch(&a, &["drain", "echo", "--settle", "3s"])?;
    drain.wait_left(5, SOON)?;
    a.check(&["systemctl", "restart", "echo"])?;
    drain.wait_event("ServiceRestartedElsewhere", SOON)?;
    roles::wait_port(&a, ECHO)?;
    let knocks = Knocks::begin(&c, &a, ECHO)?;
    let answer = drain.wait(LATE)?;
    assert!(stopped(&answer), "{answer:?}");
    let knocked = knocks.finish()?;
    assert_eq!((knocked.accepted, knocked.other), (0, 0), "{knocked:?}");
    assert_eq!(is_active(&a, "echo")?, "inactive");
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));

    // Stopped.
    let _sessions = Echoes::open(&c, &a, ECHO, 5)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_left(5, SOON)?;
    a.check(&["systemctl", "stop", "echo"])?;
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(6), Came::EndedElsewhere), "{answer:?}");
    assert!(answer.event("ServiceEndedElsewhere").is_some(), "{answer:?}");
    a.check(&["systemctl", "start", "echo"])?;
    roles::wait_port(&a, ECHO)?;
    assert!(is_refused(&c, &a, ECHO)?, "held all the same");
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));
    assert!(!is_refused(&c, &a, ECHO)?);

    // It died.
    let _sessions = Echoes::open(&c, &a, ECHO, 5)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_left(5, SOON)?;
    a.check(&["systemctl", "kill", "-s", "KILL", "echo"])?;
    let answer = drain.wait(LATE)?;
    assert_eq!((answer.code, answer.drains()[0].outcome), (Some(6), Came::EndedElsewhere), "{answer:?}");
    let resumed = ebb(&a, &["resume", "echo"])?;
    assert_eq!(resumed.code, Some(1), "it was not ours to stop, so not ours to start: {resumed:?}");
    Ok(())
}

#[test]
fn a_door_that_opens_late_and_stops_that_go_wrong() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("doors")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    a.put("/opt/late.py", LATE_DOOR, 0o644)?;
    unit(&a, "late", "ExecStart=/usr/bin/python3 /opt/late.py 7100 7101")?;
    a.put("/opt/stuck.sh", "#!/bin/sh\nexit 3\n", 0o755)?;
    roles::echo_script(&a)?;
    // Ends `failed`, but it is down: python dies of SIGINT with code 1.
    unit(&a, "sour", "ExecStart=/usr/bin/python3 /opt/echo.py 7200\nKillSignal=SIGINT")?;
    // Somebody brings it back whenever it stops.
    unit(
        &a,
        "again",
        "ExecStart=/usr/bin/python3 /opt/echo.py 7400\nExecStopPost=/usr/bin/systemctl --no-block start again",
    )?;
    for (name, port) in [("late", 7100), ("sour", 7200), ("again", 7400)] {
        a.check(&["systemctl", "start", name])?;
        roles::wait_port(&a, port)?;
    }

    let mut session = c.spawn(&["python3", "-c", TALK, &a.v4().to_string(), "7100"])?;
    session.wait_for("in", SOON)?;
    let mut drain = watch(&a, &["drain", "late"])?;
    drain.wait_left(1, SOON)?;
    session.write(b"open\n");
    session.wait_for("opened", SOON)?;
    drain.wait_event("DoorAdded", SOON)?;
    assert!(is_refused(&c, &a, 7101)?);
    assert!(a.sh("ss -Hltn 'sport = :7101'")?.stdout.contains("7101"), "it does listen");
    session.close_stdin();
    assert!(session.wait(SOON)?.ok());
    let answer = drain.wait(LATE)?;
    assert!(stopped(&answer), "{answer:?}");
    let resumed = ebb(&a, &["resume", "late"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(resumed.resumes()[0].verified.len(), 4, "the late door too: {resumed:?}");
    assert!(!is_refused(&c, &a, 7101)?);

    let answer = ebb(&a, &["drain", "sour"])?;
    assert!(stopped(&answer), "{answer:?}");
    assert_eq!(is_active(&a, "sour")?, "inactive", "`failed` would mislead");

    let answer = ebb(&a, &["drain", "again"])?;
    assert!(stopped(&answer), "what starts it again is refused: {answer:?}");
    std::thread::sleep(SOON / 20);
    assert_ne!(is_active(&a, "again")?, "active");
    assert!(is_refused(&c, &a, 7400)?);
    Ok(())
}

#[test]
fn the_bus_goes_away_in_the_middle() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("bus")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    let sessions = Echoes::open(&c, &a, ECHO, 10)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_left(10, SOON)?;
    a.check(&["systemctl", "restart", "dbus"])?;
    assert_eq!(sessions.finish()?.harmed, 0);
    let answer = drain.wait(LATE)?;
    assert!(stopped(&answer), "after a restart of the bus: {answer:?}");
    assert_eq!(is_active(&a, "echo")?, "inactive");
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));

    let sessions = Echoes::open(&c, &a, ECHO, 10)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_left(10, SOON)?;
    a.check(&["systemctl", "stop", "dbus.socket", "dbus"])?;
    let names = ebb(&a, &["services"])?;
    assert!(names.services().iter().any(|service| service.name == "echo"), "{names:?}");
    assert_eq!(sessions.finish()?.harmed, 0);
    let answer = drain.wait(LATE)?;
    assert!(stopped(&answer), "without a bus: {answer:?}");
    assert_eq!(is_active(&a, "echo")?, "inactive");
    let resumed = ebb(&a, &["resume", "echo"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(is_active(&a, "echo")?, "active");
    Ok(())
}

fn unit(server: &Server, name: &str, lines: &str) -> Result<()> {
    server.put(&format!("/etc/systemd/system/{name}.service"), format!("[Service]\n{lines}\n"), 0o644)?;
    server.check(&["systemctl", "daemon-reload"]).map(drop)
}

/// Opens its second port when a client says so, and then at every start: as a reload with a longer configuration.
const LATE_DOOR: &str = r#"
import asyncio, os, sys
async def serve(reader, writer):
    while line := await reader.readline():
        if line == b"open\n":
            open("/run/late", "w")
            await asyncio.start_server(serve, None, int(sys.argv[2]))
            line = b"opened\n"
        writer.write(line)
    writer.close()
async def main():
    if os.path.exists("/run/late"):
        await asyncio.start_server(serve, None, int(sys.argv[2]))
    await (await asyncio.start_server(serve, None, int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"#;

/// Passes lines on and prints what comes back.
const TALK: &str = r#"
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
print("in", flush=True)
back = s.makefile()
for line in sys.stdin:
    s.sendall(line.encode())
    print(back.readline(), end="", flush=True)
"#;
