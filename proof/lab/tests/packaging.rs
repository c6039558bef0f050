//! The units that are shipped, on a real systemd. The test's own program stands in for ebb: it does in their
//! sandboxes what the agent and the gate's restoring have to do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "the waits are those of drains")]
mod common;

use std::{fs, thread, time::Duration};

use ebb_lab::{Host, Lab, LabError, Server, roles};
use ebb_systemd::{Lockout, LockoutDirs, Notify, Refusal, Systemd, UnitName};

use common::Outcome;

const HAND: &str = "/opt/packaging-hand";
const AS_EBB: &str = "#!/bin/sh\nexport STAND_IN=\"$*\"\nexec /opt/packaging-hand --exact the_stand_in --nocapture\n";

/// Not a test: what runs as `/usr/bin/ebb`.
#[test]
fn the_stand_in() {
    match std::env::var("STAND_IN").as_deref() {
        Ok("agent") => agent(),
        Ok("gate restore") => run("nft add table inet stand_in && test -w /var/lib/ebb"),
        _ => {}
    }
}

fn run(script: &str) {
    let out = std::process::Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {out:?}");
}

/// Everything the agent may, then everything it may not, then a life until somebody makes it silent.
fn agent() {
    let notify = Notify::from_env();
    let every = notify.watchdog_limit().unwrap() / 2;
    let lockout = Lockout::new(LockoutDirs::system("/var/lib/ebb/held".into()), "ebb");
    let unit = UnitName::new("echo.service").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let systemd = Systemd::new();
    if !fs::exists("/run/ebb/done").unwrap() {
        assert!(lockout.put(&unit, "held for a test", Refusal::ByName).unwrap());
        runtime.block_on(systemd.reload_daemon()).unwrap();
        assert!(lockout.take(&unit).unwrap());
        runtime.block_on(systemd.reload_daemon()).unwrap();
        runtime.block_on(systemd.stop(&unit, Duration::from_secs(10))).unwrap();
        assert!(runtime.block_on(systemd.start(&unit, Duration::from_secs(10))).unwrap().after.active.is_up());
        for may in [
            "touch /var/lib/ebb/x /run/ebb/x && chgrp ebb /run/ebb/x",
            "nft add table inet x && nft delete table inet x",
            "p=$(pgrep -u tester sleep); ls -l /proc/$p/fd/0 /proc/$p/ns/net; nsenter -t $p -n true; kill $p",
            "ss -K -H dst 192.0.2.1",
        ] {
            run(may);
        }
        for may_not in
            ["touch /etc/x", "touch /usr/bin/x", "touch /root/x", "mount -t tmpfs none /tmp", "unshare -m true"]
        {
            run(&format!("! {{ {may_not}; }} 2>/dev/null"));
        }
        fs::write("/run/ebb/done", "").unwrap();
    }
    notify.ready("2 holds").unwrap();
    while !fs::exists("/run/ebb/silent").unwrap() {
        notify.watchdog().unwrap();
        thread::sleep(every);
    }
    fs::remove_file("/run/ebb/silent").unwrap();
    thread::sleep(Duration::from_secs(60));
}

fn install(a: &Server) -> Outcome {
    a.put(HAND, fs::read(std::env::current_exe().unwrap()).unwrap(), 0o755)?;
    a.put("/usr/bin/ebb", AS_EBB, 0o755)?;
    for (to, text) in [
        ("systemd/system/ebb-agent.service", include_str!("../../../packaging/ebb-agent.service")),
        ("systemd/system/ebb-gate.service", include_str!("../../../packaging/ebb-gate.service")),
        ("sysusers.d/ebb.conf", include_str!("../../../packaging/ebb.sysusers")),
    ] {
        a.put(&format!("/usr/lib/{to}"), text, 0o644)?;
    }
    let short = "[Service]\nWatchdogSec=1s\n";
    a.put("/etc/systemd/system/ebb-agent.service.d/lab.conf", short, 0o644)?;
    roles::echo(a)?;
    a.check(&["systemd-sysusers"])?;
    a.check(&["systemctl", "daemon-reload"])?;
    Ok(())
}

/// One property of a unit.
fn property(a: &Server, unit: &str, name: &str) -> Result<String, LabError> {
    Ok(a.check(&["systemctl", "show", "--value", "-p", name, unit])?.trim().to_owned())
}

/// Waits until a property of the agent's unit is another.
fn changes_from(a: &Server, name: &str, old: &str) -> Result<String, LabError> {
    for _ in 0..100 {
        let now = property(a, "ebb-agent.service", name)?;
        if now != old {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{name} is still {old}");
}

#[test]
fn the_shipped_units_do_their_job_in_their_sandbox() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("units")?;
    let a = lab.server("a")?;
    install(&a)?;
    for unit in ["ebb-agent.service", "ebb-gate.service"] {
        let out = a.exec(&["systemd-analyze", "verify", "--man=no", &format!("/usr/lib/systemd/system/{unit}")])?;
        assert!(out.ok() && !out.stderr.contains("ebb-"), "{out:?}");
    }
    let rated =
        |unit, worst| a.exec(&["systemd-analyze", "security", "--no-pager", &format!("--threshold={worst}"), unit]);
    for (unit, worst) in [("ebb-agent.service", "35"), ("ebb-gate.service", "25")] {
        let out = rated(unit, worst)?;
        assert!(out.ok(), "{}", out.stdout);
    }

    let victim = "setpriv --reuid tester --clear-groups unshare -Un sleep 1000 >/dev/null 2>&1 & sleep 0.3";
    a.check(&["sh", "-c", victim])?;
    let out = a.exec(&["systemctl", "enable", "--now", "ebb-agent", "ebb-gate"])?;
    assert!(out.ok(), "{}", a.check(&["journalctl", "-q", "-n", "40", "--no-pager", "-u", "ebb-agent"])?);
    assert_eq!(property(&a, "ebb-agent.service", "StatusText")?, "2 holds");
    assert_eq!(property(&a, "ebb-gate.service", "ConditionResult")?, "no", "no store, no gates");

    // Silent, it is replaced; its directory stays.
    a.check(&["touch", "/run/ebb/silent"])?;
    assert_eq!(changes_from(&a, "NRestarts", "0")?, "1");
    changes_from(&a, "SubState", "auto-restart")?;
    assert!(a.sh("journalctl -q -u ebb-agent")?.stdout.contains("Watchdog timeout"));
    assert!(a.exec(&["test", "-e", "/run/ebb/done"])?.ok());

    a.check(&["touch", "/var/lib/ebb/ebb.db"])?;
    a.reboot()?;
    a.check(&["nft", "list", "table", "inet", "stand_in"])?;
    let at = |unit, name| property(&a, unit, name).map(|usec| usec.parse::<u64>().unwrap());
    let shut = at("ebb-gate.service", "ExecMainExitTimestampMonotonic")?;
    for later in ["network-pre.target", "sysinit.target", "echo.service"] {
        assert!(shut <= at(later, "ActiveEnterTimestampMonotonic")?, "{later}");
    }
    Ok(())
}
