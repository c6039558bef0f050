//! The maintenance of a whole server under a real systemd, with a reboot in the middle, and with an agent that is killed
//! all the way.

mod common;

use std::time::{Duration, Instant};

use ebb_lab::ebb::{Answer, ebb};
use ebb_lab::load::{Echoes, Knocks};
use ebb_lab::{Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Frame, Maintenance, MaintenanceState, StepState};

use common::{LATE, Outcome, SOON};

/// All that systemd reads here, and the firewall, as text.
fn as_it_is(a: &Server) -> Result<String> {
    let all = "find /etc/systemd /lib/systemd/system /run/systemd/system/*.d -type f -exec sha1sum {} + 2>/dev/null | sort; \
               find /etc/systemd -type l -printf '%p %l\\n' | sort; ls /var/lib/ebb/held 2>/dev/null; nft list ruleset; \
               systemctl is-enabled nginx echo ssh postgresql";
    Ok(a.exec(&["sh", "-c", all])?.stdout)
}

fn maintenance(a: &Server) -> Result<Option<Maintenance>> {
    Ok(ebb(a, &["maintenance", "status"])?.frames.into_iter().find_map(last))
}

fn last(frame: Frame) -> Option<Maintenance> {
    if let Frame::Maintenance(one) = frame { Some(one) } else { None }
}

fn until_over(a: &Server, limit: Duration, each: impl Fn() -> Result<()>) -> Result<Maintenance> {
    let began = Instant::now();
    loop {
        each()?;
        let now = maintenance(a)?;
        if let Some(now) = now.filter(|now| now.state == MaintenanceState::Over) {
            return Ok(now);
        }
        assert!(began.elapsed() < limit, "not over: {:#?}", maintenance(a)?);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn done(run: &Maintenance) -> Vec<&str> {
    run.steps.iter().filter(|step| step.state == StepState::Done).map(|step| step.name.as_str()).collect()
}

fn events(a: &Server, name: &str) -> Result<usize> {
    let answer: Answer = ebb(a, &["events", "--last", "1000"])?;
    Ok(answer.event_names().into_iter().filter(|one| *one == name).count())
}

#[test]
fn a_server_is_drained_rebooted_verified_and_opened_by_one_command() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("maintain")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    roles::postgresql(&a)?;
    roles::echo(&a)?;
    roles::sshd(&lab, &a)?;
    roles::agent(&a)?;
    let before = as_it_is(&a)?;
    let boot = a.boot_id()?;
    let planned = ebb(&a, &["maintenance", "start", "--reboot", "--dry-run"])?;
    assert!(planned.notes().iter().any(|note| note.starts_with("stays open: ssh")), "{planned:?}");

    let mut sessions = Echoes::open(&c, &a, roles::ECHO_PORT, 20)?;
    // In the background of the server: who is started from outside keeps the lab's server from going down.
    let start = "ebb maintenance start --reboot --reason kernel --yes --watch 5s --json >/root/viewer 2>&1 </dev/null; \
                 echo $? >/root/viewer.code";
    a.check(&["sh", "-c", &format!("setsid sh -c '{start}' >/dev/null 2>&1 </dev/null &")])?;
    let asked = Instant::now();
    while events(&a, "DrainBegan")? < 4 {
        assert!(asked.elapsed() < SOON, "no drain: {:#?}", maintenance(&a)?);
        std::thread::sleep(Duration::from_millis(50));
    }
    let boots = a.boots();
    let knocks: Vec<_> = [80, 5432, roles::ECHO_PORT].map(|port| Knocks::begin(&c, &a, port)).into();
    // Nobody is hurried.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(sessions.count()?.harmed, 0);
    sessions.end(20)?;
    a.wait_boot_after(boots)?;
    assert_ne!(a.boot_id()?, boot);
    // Nobody was let in before all of it was verified.
    let opened = |a: &Server| events(a, "GateOpened");
    let shut = Instant::now();
    while opened(&a)? == 0 {
        assert!(shut.elapsed() < LATE, "it is not opened: {:#?}", maintenance(&a)?);
        std::thread::sleep(Duration::from_millis(100));
    }
    for knocked in knocks {
        let knocked = knocked?.finish()?;
        assert!(knocked.refused > 100, "{knocked:?}");
    }
    let run = until_over(&a, LATE, || Ok(()))?;
    let wanted = ["guards", "hold", "drain 1", "work", "start 1", "check", "open", "watch"];
    assert_eq!(done(&run), wanted, "{run:#?}");
    assert_eq!(run.steps[3].text, "the server was rebooted", "{run:#?}");
    assert_eq!(run.steps[7].text, "well for 5.0 s", "{run:#?}");
    for name in ["nginx", "postgresql@15-main", "echo", "ssh"] {
        assert_eq!(a.exec(&["systemctl", "is-active", name])?.stdout.trim(), "active", "{name}");
    }
    assert!(c.exec(&["curl", "-sf", "--max-time", "5", &a.url("/")])?.ok());
    assert_eq!(as_it_is(&a)?, before, "all is as it was");
    assert_eq!(ebb(&a, &["doctor"])?.code, Some(0));
    Ok(())
}

/// Killed again and again while it goes forth and back: it converges, and nothing is done twice.
#[test]
fn an_agent_that_is_killed_all_the_way_does_each_step_once() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("killmaint")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    roles::echo(&a)?;
    roles::agent(&a)?;
    let before = as_it_is(&a)?;
    // So that systemd starts it again each time at once.
    let mut sessions = Echoes::open(&c, &a, roles::ECHO_PORT, 5)?;
    let work = "echo once $0 ${1}% >>/root/work; sleep 3; echo twice >>/root/work";
    let killer = "for i in $(seq 12); do sleep 1.7; systemctl kill -s KILL ebb-agent; done";
    let words = [
        "ebb",
        "maintenance",
        "start",
        "--yes",
        "--reason",
        "x",
        "--watch",
        "2s",
        "--json",
        "--",
        "sh",
        "-c",
        work,
        "$HOME",
        "a b",
    ];
    let _viewer = a.spawn(&words)?;
    let began = Instant::now();
    while events(&a, "DrainBegan")? < 2 {
        assert!(began.elapsed() < SOON, "{:#?}", maintenance(&a)?);
        std::thread::sleep(Duration::from_millis(50));
    }
    let knocks = Knocks::begin(&c, &a, 80)?;
    let killing = a.spawn(&["sh", "-c", killer])?;
    sessions.end(5)?;
    let opened = Instant::now();
    while events(&a, "GateOpened")? == 0 && opened.elapsed() < LATE {
        std::thread::sleep(Duration::from_millis(20));
    }
    let run = until_over(&a, LATE * 2, || Ok(()))?;
    drop(killing);
    assert_eq!(done(&run), ["guards", "hold", "drain 1", "work", "start 1", "check", "open", "watch"], "{run:#?}");
    assert_eq!(a.read("/root/work")?, "once $HOME a b%\ntwice\n", "the work was done once");
    for (name, times) in [("MaintenanceBegan", 1), ("ServiceStopped", 3), ("WorkBegan", 1), ("ServiceStarted", 3)] {
        assert_eq!(events(&a, name)?, times, "{name}");
    }
    let knocked = knocks.finish()?;
    assert!(knocked.refused > 100, "{knocked:?}");
    assert_eq!(sessions.finish()?.harmed, 0);
    assert_eq!(as_it_is(&a)?, before, "all is as it was");
    Ok(())
}
