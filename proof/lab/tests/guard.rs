//! Units that are kept from starting: what a real systemd makes of the files of `ebb_systemd::Guard`.
//!
//! The test's own program is put on the server, where it is the hand that puts and takes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "the waits are those of drains")]
mod common;

use std::fmt::Write as _;

use ebb_lab::{Host, Lab, Output, Server, roles};
use ebb_systemd::{Guard, GuardDirs, InhibitMode, Refusal, Systemd, UnitName};

use common::Outcome;

const HAND: &str = "/opt/guard-hand";
const TEXT: &str = "held by ada: TLS work. Undo: ebb resume";
const NAMED: &str = "Unit ebb:held-by-ada:TLS-work.Undo:ebb-resume.service not found.";
/// What somebody says who reads the journal.
const ASSERTED: &str = "held by ada: TLS work. Undo: ebb resume.";

/// Not a test: what the server is told to do, one line a command.
#[test]
fn the_hand() {
    let Ok(lines) = std::env::var("GUARD_HAND") else { return };
    let guard = Guard::new(GuardDirs::system("/var/lib/ebb/held".into()), "ebb");
    let run = "/run/systemd/system";
    let until_reboot = GuardDirs { units: run.into(), runtime: run.into(), marks: "/run/ebb/held".into() };
    let until_reboot = Guard::new(until_reboot, "ebb");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let systemd = Systemd::new();
    let mut said = String::new();
    for line in lines.lines() {
        let (verb, name) = line.split_once(' ').unwrap_or((line, ""));
        let unit = || UnitName::new(name).unwrap();
        let seen = match verb {
            "by-name" => guard.put(&unit(), TEXT, Refusal::ByName).unwrap().to_string(),
            "at-start" => guard.put(&unit(), TEXT, Refusal::AtStart).unwrap().to_string(),
            "until-reboot" => until_reboot.put(&unit(), TEXT, Refusal::ByName).unwrap().to_string(),
            "take-until-reboot" => until_reboot.take(&unit()).unwrap().to_string(),
            "take" => guard.take(&unit()).unwrap().to_string(),
            "state" => format!("{:?}", guard.state(&unit()).unwrap()),
            "all" => guard.all().unwrap().iter().map(UnitName::as_str).collect::<Vec<_>>().join(" "),
            "fitting" => format!("{:?}", Refusal::fitting(&runtime.block_on(systemd.unit(&unit())).unwrap())),
            "stale" => guard.needs_reload(&runtime.block_on(systemd.unit(&unit())).unwrap()).to_string(),
            "reload" => format!("{:?}", runtime.block_on(systemd.reload_daemon())),
            "inhibit" => {
                let inhibit = systemd.inhibit_shutdown("ebb", "3 sessions on nginx", InhibitMode::Block);
                let inhibitor = runtime.block_on(inhibit).unwrap();
                let list = || {
                    let out = std::process::Command::new("systemd-inhibit").args(["--list", "--no-legend"]).output();
                    String::from_utf8(out.unwrap().stdout).unwrap().contains("3 sessions on nginx")
                };
                let while_held = list();
                drop(inhibitor);
                format!("{while_held} {}", list())
            }
            other => panic!("no such verb: {other}"),
        };
        writeln!(said, "hand: {seen}").unwrap();
    }
    println!("\n{said}");
}

/// What the hand saw, one word or more for each line.
fn hand(server: &Server, lines: &[&str]) -> Result<Vec<String>, ebb_lab::LabError> {
    let told = format!("GUARD_HAND={}", lines.join("\n"));
    let out = server.check(&["env", &told, HAND, "--exact", "the_hand", "--nocapture"])?;
    Ok(out.lines().filter_map(|line| line.strip_prefix("hand: ")).map(str::to_owned).collect())
}

/// Every file, link and directory systemd is configured by, with its mode and content.
fn files(server: &Server) -> Result<String, ebb_lab::LabError> {
    let list = "cd / && find etc/systemd run/systemd/system lib/systemd/system -printf '%p %M %u %l ' -type f -exec \
                sha256sum {} \\; -o -printf '\\n' | sort; systemctl list-unit-files --no-legend --no-pager";
    server.check(&["sh", "-c", list])
}

fn journal(server: &Server, unit: &str) -> Result<String, ebb_lab::LabError> {
    server.check(&["sh", "-c", &format!("journalctl --sync; journalctl -b -q -o cat --no-pager -u '{unit}'")])
}

fn said(out: &Output, code: i32, words: &str) -> bool {
    out.code == Some(code) && out.stderr.contains(words)
}

fn prepare(server: &Server) -> Outcome {
    server.put(HAND, std::fs::read(std::env::current_exe().unwrap()).unwrap(), 0o755)?;
    roles::nginx(server)?;
    roles::greeter(server)?;
    let sleep = "[Service]\nExecStart=/bin/sleep 1000\n";
    for (file, text) in [
        ("needs.service", format!("[Unit]\nRequires=nginx.service\n{sleep}")),
        ("wants.service", format!("[Unit]\nWants=nginx.service\nAfter=nginx.service\n{sleep}")),
        ("always.service", format!("{sleep}Restart=always\nRestartSec=50ms\n")),
        ("tick.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n".to_owned()),
        ("tick.timer", "[Timer]\nOnCalendar=*:*:*\nAccuracySec=1ms\n".to_owned()),
        ("a\\x2db@.service", format!("{sleep}[Install]\nWantedBy=multi-user.target\n")),
        // A default target that needs the held service must still boot.
        ("site.target", "[Unit]\nRequires=multi-user.target nginx.service\nAllowIsolate=yes\n".to_owned()),
    ] {
        server.put(&format!("/etc/systemd/system/{file}"), text, 0o644)?;
    }
    server.check(&[
        "sh",
        "-c",
        "mkdir /etc/systemd/system/always.service.d; systemctl daemon-reload; \
        systemctl set-default site.target; systemctl mask haproxy; systemctl enable 'a\\x2db@1.service'; \
        systemctl start always tick.timer 'a\\x2db@1.service'",
    ])?;
    Ok(())
}

const UNITS: [&str; 6] =
    ["nginx.service", "greeter.service", "greeter.socket", "always.service", "a\\x2db@1.service", "haproxy.service"];

#[test]
fn guarded_units_stay_down_and_say_why() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("guard")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    prepare(&a)?;
    let before = files(&a)?;
    assert_eq!(hand(&a, &["fitting tick.service", "fitting greeter.service"])?, ["AtStart", "ByName"]);

    let mut put: Vec<String> = UNITS.iter().map(|unit| format!("by-name {unit}")).collect();
    put.extend(["at-start tick.service", "stale nginx.service", "reload", "stale nginx.service"].map(str::to_owned));
    let put: Vec<&str> = put.iter().map(String::as_str).collect();
    assert_eq!(hand(&a, &put)?[6..], ["true", "true", "Ok(())", "false"]);

    while_they_run(&a)?;
    after_the_stop(&a, &c)?;
    a.reboot()?;
    after_a_reboot(&a)?;

    let mut take: Vec<String> = UNITS.iter().map(|unit| format!("take {unit}")).collect();
    take.extend(
        ["take tick.service", "all", "stale nginx.service", "reload", "stale nginx.service"].map(str::to_owned),
    );
    let take: Vec<&str> = take.iter().map(String::as_str).collect();
    assert_eq!(hand(&a, &take)?[6..], ["true", "", "true", "Ok(())", "false"]);
    assert_eq!(files(&a)?, before, "nothing is left");
    a.check(&["systemctl", "start", "nginx", "greeter.socket", "always", "a\\x2db@1.service"])?;
    assert_eq!(c.check(&["curl", "-s", &a.url("/")])?, "ok a\n");
    assert!(said(&a.exec(&["systemctl", "start", "haproxy"])?, 1, "haproxy.service is masked"));
    assert_eq!(hand(&a, &["inhibit"])?, ["true false"]);

    hand(&a, &["until-reboot reboot.target", "reload"])?;
    assert!(said(&a.exec(&["systemctl", "reboot"])?, 5, &format!("Call to Reboot failed: {NAMED}")));
    assert_eq!(hand(&a, &["take-until-reboot reboot.target", "reload"])?, ["true", "Ok(())"]);
    assert_eq!(files(&a)?, before);
    a.reboot()?;
    Ok(())
}

/// A restart is refused before the stop; a process that dies is not started again; a timer goes on.
fn while_they_run(a: &Server) -> Outcome {
    for verb in ["start", "restart", "try-restart"] {
        let out = a.exec(&["systemctl", verb, "nginx"])?;
        assert!(said(&out, 5, NAMED), "{verb}: {out:?}");
    }
    assert!(a.exec(&["systemctl", "reload", "nginx"])?.ok());
    assert_eq!(a.exec(&["systemctl", "is-active", "nginx"])?.stdout, "active\n");
    a.check(&["systemctl", "kill", "-s", "KILL", "always"])?;
    a.check(&["sh", "-c", "sleep 1.5"])?;
    assert_eq!(a.exec(&["systemctl", "is-active", "always"])?.stdout, "failed\n");
    let log = journal(a, "always.service")?;
    assert!(log.contains(&format!("Failed to schedule restart job: {NAMED}")), "{log}");
    assert_eq!(a.exec(&["systemctl", "is-active", "tick.timer"])?.stdout, "active\n");
    let log = journal(a, "tick.service")?;
    assert!(log.contains(&format!("Assertion failed for tick.service - {ASSERTED}")), "{log}");
    let out = a.exec(&["systemctl", "start", "tick"])?;
    assert!(said(&out, 1, "Assertion failed on job for tick.service."), "{out:?}");
    Ok(())
}

/// By hand, by others that need or want it, by a package's script, by a client.
fn after_the_stop(a: &Server, c: &ebb_lab::Client) -> Outcome {
    let down = ["systemctl", "stop", "nginx", "greeter.socket", "greeter", "a\\x2db@1.service"];
    a.check(&down)?;
    let starts: [&[&str]; 7] = [
        &["systemctl", "start", "nginx"],
        &["systemctl", "start", "greeter.socket"],
        &["systemctl", "start", "a\\x2db@1.service"],
        &["systemctl", "start", "needs"],
        &["systemctl", "enable", "--now", "nginx"],
        &["deb-systemd-invoke", "start", "nginx.service"],
        &["invoke-rc.d", "nginx", "start"],
    ];
    for start in starts {
        let out = a.exec(start)?;
        assert!(said(&out, 5, NAMED), "{start:?}: {out:?}");
    }
    a.check(&["systemctl", "start", "wants"])?;
    let log = journal(a, "nginx.service")?;
    assert!(log.contains(&format!("Assertion failed for nginx.service - {ASSERTED}")), "{log}");
    let status = a.exec(&["systemctl", "status", "nginx"])?;
    for words in
        [&format!("nginx.service - {TEXT}"), "zz-ebb-held.conf", "!/var/lib/ebb/held/nginx.service was not met"]
    {
        assert!(status.stdout.contains(words), "{words}: {status:?}");
    }
    let knock = c.exec(&["curl", "-s", &format!("http://{}:{}/", a.v4(), roles::GREETER_PORT)])?;
    assert_eq!(knock.code, Some(7), "refused: {knock:?}");

    // A package's script takes the refusal as an error, unless Debian's policy knows.
    let upgrade = ["dpkg-reconfigure", "-fnoninteractive", "nginx"];
    assert!(!a.exec(&upgrade)?.ok());
    a.put("/usr/sbin/policy-rc.d", include_str!("../../../packaging/policy-rc.d"), 0o755)?;
    let out = a.exec(&upgrade)?;
    assert!(said(&out, 0, &format!("nginx.service: {TEXT}\n")), "{out:?}");
    assert!(a.exec(&["deb-systemd-invoke", "start", "ssh.service"])?.ok(), "what is not held starts");
    a.check(&["sh", "-c", "systemctl stop ssh; rm /usr/sbin/policy-rc.d"])?;
    Ok(())
}

/// Enabled units stay down by the barrier alone; the words come back when put again.
fn after_a_reboot(a: &Server) -> Outcome {
    for unit in ["nginx", "greeter.socket", "a\\x2db@1.service"] {
        assert_eq!(a.exec(&["systemctl", "is-enabled", unit])?.stdout, "enabled\n", "{unit}");
        assert_eq!(a.exec(&["systemctl", "is-active", unit])?.stdout, "inactive\n", "{unit}");
        let log = journal(a, unit)?;
        assert!(log.contains(&format!("- {ASSERTED}")), "{unit}: {log}");
    }
    let out = a.exec(&["systemctl", "start", "nginx"])?;
    assert!(said(&out, 1, "Assertion failed on job for nginx.service."), "{out:?}");
    let mended = hand(a, &["state nginx.service", "by-name nginx.service", "state nginx.service", "reload"])?;
    assert_eq!(mended, ["Partial([(Words, Missing)])", "true", "Whole", "Ok(())"]);
    let out = a.exec(&["systemctl", "start", "nginx"])?;
    assert!(said(&out, 5, NAMED), "{out:?}");
    Ok(())
}
