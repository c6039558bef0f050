//! Plain TCP servers: as a unit, started by hand, and started by systemd on the first connection.

mod common;

use ebb_lab::ebb::{ebb, watch};
use ebb_lab::load::{Echoes, Knocks};
use ebb_lab::{Host, Lab, roles};
use ebb_wire::v1::{Gate, Outcome as Came, RefusalKind};

use common::{LATE, Outcome, SOON};

#[test]
fn everything_that_listens_is_found() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("all")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    roles::sshd(&lab, &a)?;
    roles::postgresql(&a)?;
    roles::echo(&a)?;
    roles::greeter(&a)?;
    let mut by_hand = a.spawn(&["python3", "/opt/echo.py", "7001"])?;
    by_hand.wait_for("ready", SOON)?;
    let _sessions = Echoes::open(&c, &a, roles::ECHO_PORT, 3)?;

    let answer = ebb(&a, &["services"])?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let found: Vec<String> = answer
        .services()
        .iter()
        .map(|service| {
            let door = |door: &ebb_wire::v1::Door| format!("{}:{}", door.address, door.port);
            let doors: Vec<String> = service.doors.iter().filter(|door| door.proto == "tcp").map(door).collect();
            let sessions = service.sessions.expect("root can count");
            format!("{} {} {sessions} {} {}", service.name, service.state, doors.join(","), service.start)
        })
        .collect();
    let cluster = a.exec(&["systemctl", "is-enabled", "postgresql@15-main"])?.stdout;
    let cluster = format!("postgresql@15-main open 0 0.0.0.0:5432,:::5432 {}", cluster.trim());
    let expected = [
        "echo open 3 0.0.0.0:7000,:::7000 enabled",
        "greeter open 0 *:7300 socket",
        "nginx open 0 0.0.0.0:80,:::80 enabled",
        cluster.as_str(),
        "python3 open 0 0.0.0.0:7001,:::7001 by hand",
        "ssh open 0 0.0.0.0:22,:::22 enabled",
        "ws-echo open 0 127.0.0.1:7191 enabled",
    ];
    assert_eq!(found, expected, "{answer:?}");
    Ok(())
}

#[test]
fn two_hundred_sessions_end_unharmed() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("echo")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    let mut sessions = Echoes::open(&c, &a, roles::ECHO_PORT, 200)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_event("GateProven", SOON)?;
    let knocks = Knocks::begin(&c, &a, roles::ECHO_PORT)?;
    drain.wait_left(200, SOON)?;
    // Behind the shut gate everyone is served on, twice at least on average, before anyone leaves.
    let began = std::time::Instant::now();
    while sessions.count()?.echoes < 400 && began.elapsed() < SOON {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    sessions.end(150)?;
    drain.wait_left(50, SOON)?;
    let sessions = sessions.finish()?;
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(0), Came::Stopped), "{answer:?}");
    assert_eq!((report.at_start, report.by_themselves, report.left), (200, 200, 0), "{report:?}");
    assert_eq!((sessions.harmed, sessions.ended), (0, 200), "{sessions:?}");
    assert!(sessions.echoes >= 400, "{sessions:?}");
    let knocked = knocks.finish()?;
    assert_eq!((knocked.accepted, knocked.other), (0, 0), "{knocked:?}");
    assert!(report.refused > 0 && report.refused <= knocked.refused, "{} of {knocked:?}", report.refused);
    assert_eq!(a.exec(&["systemctl", "is-active", "echo"])?.stdout, "inactive\n");
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));
    assert_eq!(Echoes::open(&c, &a, roles::ECHO_PORT, 5)?.finish()?.ended, 5);
    Ok(())
}

#[test]
fn a_server_started_by_hand_is_stopped_and_awaited() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("hand")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo_script(&a)?;
    let mut first = a.spawn(&["python3", "/opt/echo.py", "7001", "7002"])?;
    let mut other = a.spawn(&["python3", "/opt/echo.py", "7003"])?;
    first.wait_for("ready", SOON)?;
    other.wait_for("ready", SOON)?;
    let services = ebb(&a, &["services"])?;
    let names: Vec<&str> = services.services().iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["python3:7001", "python3:7003"], "two of one executable are told apart by port");

    let sessions = Echoes::open(&c, &a, 7002, 10)?;
    let mut drain = watch(&a, &["drain", "python3:7001"])?;
    drain.wait_event("GateProven", SOON)?;
    for port in [7001, 7002] {
        assert_eq!(c.exec(&["curl", "-sS", &format!("http://{}:{port}/", a.v4())])?.code, Some(7), "{port}");
    }
    assert_eq!(Echoes::open(&c, &a, 7003, 1)?.finish()?.ended, 1, "the other is not touched");
    drain.wait_left(10, SOON)?;
    assert!(first.is_running());
    let sessions = sessions.finish()?;
    assert_eq!((sessions.harmed, sessions.ended), (0, 10), "{sessions:?}");
    let answer = drain.wait(LATE)?;
    assert_eq!((answer.code, answer.drains()[0].outcome), (Some(0), Came::Stopped), "{answer:?}");
    // SIGTERM, which python does not catch.
    let ended = first.wait(SOON)?;
    assert_eq!(ended.code, None, "{ended:?}");
    assert!(other.is_running());
    let status = ebb(&a, &["status", "python3:7001"])?;
    let seen = status.statuses()[0];
    assert_eq!((seen.gate, seen.service.state.as_str()), (Gate::Shut, "stopped"), "{seen:?}");

    let refused = ebb(&a, &["resume", "python3:7001"])?;
    let why = refused.refusals()[0];
    assert_eq!((refused.code, why.kind), (Some(1), RefusalKind::Failed), "{refused:?}");
    assert!(why.why.contains("by hand"), "{why:?}");
    let help = why.help.as_deref().unwrap_or_default();
    assert!(help.contains("python3 /opt/echo.py 7001 7002"), "{help}");
    assert_eq!(c.exec(&["curl", "-sS", &format!("http://{}:7001/", a.v4())])?.code, Some(7), "still held");
    let mut again = a.spawn(&["python3", "/opt/echo.py", "7001", "7002"])?;
    again.wait_for("ready", SOON)?;
    assert_eq!(c.exec(&["curl", "-sS", &format!("http://{}:7001/", a.v4())])?.code, Some(7), "held, though it runs");
    let resumed = ebb(&a, &["resume", "python3:7001"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(Echoes::open(&c, &a, 7001, 2)?.finish()?.ended, 2);
    Ok(())
}

/// Its name depends on what else runs; the hold must not.
#[test]
fn a_hold_on_one_of_two_outlives_the_other() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("names")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo_script(&a)?;
    let mut first = a.spawn(&["python3", "/opt/echo.py", "7001"])?;
    let mut other = a.spawn(&["python3", "/opt/echo.py", "7003"])?;
    first.wait_for("ready", SOON)?;
    other.wait_for("ready", SOON)?;
    assert_eq!(ebb(&a, &["hold", "python3:7001"])?.code, Some(0));
    drop(other);
    let services = ebb(&a, &["services"])?;
    let names: Vec<&str> = services.services().iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["python3:7001"], "{services:?}");
    // Something else that makes ebb rewrite the gate.
    roles::greeter(&a)?;
    assert_eq!(ebb(&a, &["hold", "greeter"])?.code, Some(0));
    assert_eq!(c.exec(&["curl", "-sS", &format!("http://{}:7001/", a.v4())])?.code, Some(7), "still held");
    let drained = ebb(&a, &["drain", "python3:7001"])?;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert!(!first.is_running());
    Ok(())
}

#[test]
fn a_socket_activated_service_is_one_with_its_socket() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("greeter")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::greeter(&a)?;
    let active = |unit: &str| a.exec(&["systemctl", "is-active", unit]).map(|out| out.stdout.trim().to_owned());

    // Never used: the socket alone.
    let answer = ebb(&a, &["drain", "greeter"])?;
    assert_eq!((answer.code, answer.drains()[0].outcome), (Some(0), Came::Stopped), "{answer:?}");
    assert_eq!((active("greeter.socket")?, active("greeter.service")?), ("inactive".into(), "inactive".into()));
    let resumed = ebb(&a, &["resume", "greeter"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(active("greeter.socket")?, "active");

    let talk = format!(
        "exec 3<>/dev/tcp/{}/7300; read -r hello <&3; echo $hello; while read -r line; do \
                        echo $line >&3; read -r back <&3; echo back $back; done",
        a.v4()
    );
    let mut session = c.spawn(&["bash", "-c", &talk])?;
    session.wait_for("hello from a", SOON)?;
    let mut drain = watch(&a, &["drain", "greeter"])?;
    drain.wait_event("GateProven", SOON)?;
    drain.wait_left(1, SOON)?;
    for address in [a.v4().to_string(), format!("[{}]", a.v6())] {
        assert_eq!(c.exec(&["curl", "-sS", &format!("http://{address}:7300/")])?.code, Some(7));
    }
    session.write(b"one\n");
    session.wait_for("back one", SOON)?;
    assert_eq!((active("greeter.socket")?, active("greeter.service")?), ("active".into(), "active".into()));
    session.close_stdin();
    assert!(session.wait(SOON)?.ok());
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(0), Came::Stopped), "{answer:?}");
    assert_eq!((report.at_start, report.by_themselves), (1, 1), "{report:?}");
    assert_eq!((active("greeter.socket")?, active("greeter.service")?), ("inactive".into(), "inactive".into()));

    let resumed = ebb(&a, &["resume", "greeter"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!((active("greeter.socket")?, active("greeter.service")?), ("active".into(), "active".into()));
    let mut session = c.spawn(&["bash", "-c", &talk])?;
    session.wait_for("hello from a", SOON)?;
    Ok(())
}
