//! The units of the tour.

use std::{fs, process::Stdio};

use ebb_systemd::{JobEnd, Systemd};
use tokio::process::Command;

use crate::{Outcome, PATIENCE, check, text, unit};

/// More than 150, together with what the system has anyway.
pub const FILL: usize = 160;

const UNITS: [(&str, &str); 20] = [
    ("plain.service", "[Service]\nExecStart=sleep infinity\nTimeoutStopSec=5\nRestart=always\nKillMode=process\n"),
    // Ends with an error when told to stop: the unit is "failed" after a stop that is "done".
    ("sore.service", "[Service]\nExecStart=sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.05; done'\n"),
    (
        "stubborn.service",
        "[Service]\nExecStart=sh -c 'trap \"\" TERM; while :; do sleep 0.05; done'\nTimeoutStopSec=1\n",
    ),
    ("slow.service", "[Service]\nExecStart=sleep infinity\nExecStop=sleep 3\n"),
    ("broken.service", "[Service]\nType=oneshot\nExecStart=false\n"),
    (
        "needs-broken.service",
        "[Unit]\nRequires=ebb-tour-broken.service\nAfter=ebb-tour-broken.service\n[Service]\nExecStart=sleep infinity\n",
    ),
    ("conditional.service", "[Unit]\nConditionPathExists=/ebb/tour/no\n[Service]\nExecStart=sleep infinity\n"),
    ("asserting.service", "[Unit]\nAssertPathExists=/ebb/tour/no\n[Service]\nExecStart=sleep infinity\n"),
    ("private.service", "[Unit]\nRefuseManualStop=yes\n[Service]\nExecStart=sleep infinity\n"),
    (
        "wrapper.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n[Unit]\nWants=ebb-tour-wrapper@1.service\n",
    ),
    ("wrapper@.service", "[Unit]\nPartOf=ebb-tour-wrapper.service\n[Service]\nExecStart=sleep infinity\n"),
    ("base.service", "[Service]\nExecStart=sleep infinity\n"),
    ("middle.service", "[Unit]\nRequires=ebb-tour-base.service\n[Service]\nExecStart=sleep infinity\n"),
    ("top.service", "[Unit]\nBindsTo=ebb-tour-middle.service\n[Service]\nExecStart=sleep infinity\n"),
    ("idle-dependant.service", "[Unit]\nRequires=ebb-tour-base.service\n[Service]\nExecStart=sleep infinity\n"),
    ("door.socket", "[Socket]\nListenStream=127.0.0.1:7901\nListenStream=/run/ebb-tour-door\n"),
    ("door.service", "[Service]\nExecStart=sleep infinity\n"),
    ("each.socket", "[Socket]\nListenStream=127.0.0.1:7902\nAccept=yes\n"),
    ("each@.service", "[Service]\nExecStart=cat\nStandardInput=socket\n"),
    ("fill@.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n"),
];

fn path(name: &str) -> String {
    format!("/run/systemd/system/ebb-tour-{name}")
}

pub async fn make(systemd: &Systemd) -> Outcome {
    for (name, content) in UNITS {
        fs::write(path(name), content).map_err(text)?;
    }
    let wants: Vec<_> = (0..FILL).map(|n| format!("ebb-tour-fill@{n}.service")).collect();
    fs::write(path("fill.target"), format!("[Unit]\nWants={}\n", wants.join(" "))).map_err(text)?;
    systemd.reload_daemon().await.map_err(text)?;
    start(systemd, "ebb-tour-fill.target").await
}

pub async fn start(systemd: &Systemd, name: &str) -> Outcome {
    let report = systemd.start(&unit(name)?, PATIENCE).await.map_err(text)?;
    check(&format!("start {name}"), report.end == JobEnd::Done && report.after.active.is_up(), &report)
}

/// Runs a command; says what it printed.
pub async fn run(command: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(command).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(text)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whatever happened before: the bus back, our units gone.
pub async fn remove() -> Outcome {
    for arguments in [
        &["kill", "--kill-whom=main", "--signal=CONT", "dbus.service"][..],
        &["reset-failed"],
        &["start", "dbus.socket", "dbus.service"],
        // First the doors, or a waiting connection starts their service again.
        &["stop", "ebb-tour-*.socket"],
    ] {
        run("systemctl", arguments).await?;
    }
    for (name, _) in UNITS {
        fs::remove_file(path(name)).map_err(text)?;
    }
    fs::remove_file(path("fill.target")).map_err(text)?;
    // Without their files no unit refuses to be stopped.
    for arguments in [&["daemon-reload"][..], &["stop", "ebb-tour-*"], &["reset-failed"]] {
        run("systemctl", arguments).await?;
    }
    Ok(())
}
