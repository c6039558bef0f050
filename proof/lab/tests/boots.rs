//! Reboots and losses of power with held services, while clients knock at each held door all the time.

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ebb_lab::ebb::ebb;
use ebb_lab::load::{Knocked, Knocks};
use ebb_lab::{Client, Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Gate, Outcome as Came};

use common::{LATE, Outcome, SOON};

const HELD: [u16; 2] = [80, 5432];
/// Attempts at each held door, at least.
const ATTEMPTS: u64 = 1000;

/// One who knocks at each held door, by IPv4 and IPv6.
fn knock(c: &Client, a: &Server) -> Result<Vec<(IpAddr, u16, Knocks)>> {
    let doors = HELD.into_iter().flat_map(|port| [(IpAddr::from(a.v4()), port), (a.v6().into(), port)]);
    let knocks = doors.map(|(at, port)| Ok((at, port, Knocks::begin_through_boots(c, at, port)?))).collect();
    // Each has knocked before the boot.
    std::thread::sleep(Duration::from_millis(300));
    knocks
}

fn login(lab: &Lab, c: &Client, a: &Server) -> Outcome {
    let words = roles::ssh_command(lab, "root", a)?;
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["true"]).collect();
    let began = Instant::now();
    while !c.exec(&words)?.ok() {
        assert!(began.elapsed() < LATE, "no login");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// One boot: what is held is so, what is not can be reached.
fn boot(lab: &Lab, (c, a): (&Client, &Server), loss: bool, runs: &str, down: &str) -> Outcome {
    if loss {
        a.power_loss()?;
        a.power_on()?;
    } else {
        a.reboot()?;
    }
    login(lab, c, a)?;
    // It listens, so that only the gate keeps clients out.
    let port = if runs == "nginx" { 80 } else { 5432 };
    roles::wait_port(a, port)?;
    for (name, state) in [(runs, "draining"), (down, "stopped")] {
        let began = Instant::now();
        let answer = loop {
            let answer = ebb(a, &["status", name])?;
            // The agent may still be starting.
            if answer.code == Some(0) && answer.statuses().len() == 1 || began.elapsed() > SOON {
                break answer;
            }
        };
        let seen = answer.statuses()[0];
        assert_eq!((seen.gate, seen.service.state.as_str()), (Gate::Shut, state), "{name}: {answer:?}");
    }
    let units = a.exec(&["systemctl", "is-active", "ebb-gate", "ebb-agent"])?;
    assert_eq!(units.stdout, "active\nactive\n", "{units:?}");
    Ok(())
}

fn all_refused(knocks: Vec<(IpAddr, u16, Knocks)>, boots: usize) -> Outcome {
    for (at, port, mut knocks) in knocks {
        knocks.wait_for_1000()?;
        let knocked: Knocked = knocks.finish()?;
        assert_eq!(knocked.accepted, 0, "{at} port {port}: {knocked:?}");
        assert!(knocked.attempts() >= ATTEMPTS, "{at} port {port}: {knocked:?}");
        assert!(knocked.silences() >= boots, "not through {boots} boots: {at} port {port}: {knocked:?}");
    }
    Ok(())
}

#[test]
fn through_reboots_and_losses_of_power_nobody_is_let_in() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("boots")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    roles::postgresql(&a)?;
    roles::sshd(&lab, &a)?;
    roles::agent(&a)?;
    let postgresql = "postgresql@15-main";
    let drained = ebb(&a, &["drain", "nginx", "--settle", "100ms"])?;
    assert_eq!((drained.code, drained.drains()[0].outcome), (Some(0), Came::Stopped), "{drained:?}");
    assert_eq!(ebb(&a, &["hold", postgresql])?.code, Some(0));
    let knocks = knock(&c, &a)?;
    boot(&lab, (&c, &a), false, postgresql, "nginx")?;
    boot(&lab, (&c, &a), true, postgresql, "nginx")?;
    all_refused(knocks, 2)?;

    // The other way round: the database is down, and the web server runs behind its gate.
    let drained = ebb(&a, &["drain", postgresql, "--settle", "100ms"])?;
    assert_eq!((drained.code, drained.drains()[0].outcome), (Some(0), Came::Stopped), "{drained:?}");
    for words in [&["resume", "nginx"][..], &["hold", "nginx"]] {
        assert_eq!(ebb(&a, words)?.code, Some(0), "{words:?}");
    }
    let knocks = knock(&c, &a)?;
    boot(&lab, (&c, &a), true, "nginx", postgresql)?;
    boot(&lab, (&c, &a), false, "nginx", postgresql)?;
    all_refused(knocks, 2)?;

    for name in ["nginx", postgresql] {
        let answer = ebb(&a, &["resume", name])?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert!(c.exec(&["curl", "-sf", "--max-time", "5", &a.url("/")])?.ok());
    let host = a.v4().to_string();
    assert_eq!(c.check(&["psql", "-h", &host, "-U", "lab", "-Atc", "SELECT 1"])?, "1\n");
    Ok(())
}
