//! The disk under the store is full, or read-only: what was acknowledged stands, what cannot be written is refused.

#[expect(dead_code, reason = "nothing is waited for that takes long")]
mod common;

use std::time::{Duration, Instant};

use ebb_lab::ebb::ebb;
use ebb_lab::load::Knocks;
use ebb_lab::{Client, Host, Lab, Server, roles};

use common::{Outcome, SOON};

const STATE: &str = "/var/lib/ebb";

fn agent_serves(a: &Server) -> Outcome {
    let began = Instant::now();
    while !a.exec(&["systemctl", "is-active", "ebb-agent"])?.ok() {
        assert!(began.elapsed() < SOON, "{}", a.sh("journalctl -n 20 --no-pager -u ebb-agent")?.stdout);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn gate_is_there(a: &Server) -> Outcome {
    let began = Instant::now();
    while !a.exec(&["nft", "list", "table", "inet", "ebb"])?.ok() {
        assert!(began.elapsed() < SOON, "{}", a.sh("journalctl -n 20 --no-pager -u ebb-agent")?.stdout);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What is held is listed and shut, nothing else is, and changes are refused with `why`.
fn stands(c: &Client, a: &Server, why: &str) -> Outcome {
    let knocks = Knocks::begin(c, a, roles::ECHO_PORT)?;
    for words in [
        &["hold", "nginx"][..],
        &["drain", "nginx"],
        &["hold", "echo", "--as", "deploy"],
        &["release", "echo"],
        &["resume", "echo"],
    ] {
        let answer = ebb(a, words)?;
        assert_ne!(answer.code, Some(0), "{words:?}: {answer:?}");
        // A drain says it in its report.
        let said = format!("{answer:?}").to_lowercase();
        assert!(said.contains(why) && said.contains("ebb.db"), "{words:?}: {answer:?}");
    }
    let holds = ebb(a, &["holds"])?;
    assert!(holds.code == Some(0) && format!("{holds:?}").contains("echo"), "{holds:?}");
    assert!(!format!("{holds:?}").contains("nginx") && !format!("{holds:?}").contains("deploy"), "{holds:?}");
    assert!(c.exec(&["curl", "-sf", "--max-time", "5", &a.url("/")])?.ok(), "nginx is not held");
    let knocked = knocks.finish()?;
    assert!(knocked.accepted == 0 && knocked.refused > 0, "{knocked:?}");
    Ok(())
}

#[test]
fn on_a_full_or_read_only_disk_what_was_acknowledged_stands() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("disk")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    roles::echo(&a)?;
    a.check(&["sh", "-c", &format!("mkdir -p {STATE} && mount -t tmpfs -o size=1m small {STATE}")])?;
    roles::agent(&a)?;
    assert_eq!(ebb(&a, &["hold", "echo"])?.code, Some(0));

    a.exec(&["dd", "if=/dev/zero", &format!("of={STATE}/full"), "bs=4k"])?;
    stands(&c, &a, "full")?;
    // Another agent finds it so, and others take the gate away.
    a.check(&["systemctl", "kill", "-s", "KILL", "ebb-agent"])?;
    std::thread::sleep(Duration::from_millis(1500));
    agent_serves(&a)?;
    stands(&c, &a, "full")?;
    a.check(&["nft", "delete", "table", "inet", "ebb"])?;
    gate_is_there(&a)?;
    stands(&c, &a, "full")?;
    a.check(&["rm", &format!("{STATE}/full")])?;

    // No process may have it open for writing while it becomes so.
    a.check(&["systemctl", "stop", "ebb-agent"])?;
    a.check(&["mount", "-o", "remount,ro", STATE])?;
    stands(&c, &a, "read-only")?;
    // As at a boot.
    a.check(&["nft", "delete", "table", "inet", "ebb"])?;
    a.check(&["systemctl", "restart", "ebb-gate"])?;
    stands(&c, &a, "read-only")?;
    // An agent cannot stay, and says why.
    a.exec(&["systemctl", "start", "ebb-agent"])?;
    let said = a.sh("journalctl --sync; journalctl -b -o cat --no-pager -u ebb-agent | tail -5")?.stdout;
    assert!(said.contains("Read-only") && said.contains(STATE), "{said}");
    a.exec(&["systemctl", "stop", "ebb-agent"])?;
    stands(&c, &a, "read-only")?;

    a.check(&["mount", "-o", "remount,rw", STATE])?;
    a.check(&["systemctl", "restart", "ebb-agent"])?;
    for words in [&["hold", "nginx"][..], &["release", "nginx"], &["resume", "echo"]] {
        let answer = ebb(&a, words)?;
        assert_eq!(answer.code, Some(0), "{words:?}: {answer:?}");
    }
    assert!(!a.exec(&["nft", "list", "table", "inet", "ebb"])?.ok());
    Ok(())
}
