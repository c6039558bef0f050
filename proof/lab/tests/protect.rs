//! Sessions that live are protected from reboots, stops and packages by somebody else, and only while they live.

mod common;

use std::time::Instant;

use ebb_lab::ebb::{ebb, watch};
use ebb_lab::load::Echoes;
use ebb_lab::{Client, Host, Lab, Result, Running, Server, roles};
use ebb_wire::v1::Outcome as Came;

use common::{LATE, Outcome, SOON};

const CONFIG: &str = "[protect]\nservices = [\"ngin*\"]\nshutdown = \"refuse\"\nunits = true\n";

fn install(a: &Server) -> Result<()> {
    for (to, text) in [
        ("systemd/system/ebb-agent.service", include_str!("../../../packaging/ebb-agent.service")),
        ("systemd/system/ebb-gate.service", include_str!("../../../packaging/ebb-gate.service")),
        ("sysusers.d/ebb.conf", include_str!("../../../packaging/ebb.sysusers")),
    ] {
        a.put(&format!("/usr/lib/{to}"), text, 0o644)?;
    }
    a.put("/etc/ebb/ebb.toml", CONFIG, 0o644)?;
    a.check(&["systemd-sysusers"])?;
    a.check(&["systemctl", "daemon-reload"])?;
    a.check(&["systemctl", "enable", "--now", "ebb-gate.service", "ebb-agent.service"])?;
    Ok(())
}

/// A download of 64 MB that takes long.
fn download(c: &Client, a: &Server) -> Result<Running> {
    let mut download = c.spawn(&["curl", "-svo", "/dev/null", &a.url("/slow")])?;
    download.wait_for("200 OK", SOON)?;
    Ok(download)
}

/// Waits until this is, or is not any more, among what `ebb status` says.
fn wait_said(a: &Server, words: &str, there: bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let said = a.exec(&["ebb", "status"])?;
        if said.stderr.contains(words) == there {
            return Ok(());
        }
        assert!(began.elapsed() < LATE, "{words}, {there}: {said:?}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

const UNITS: &str = "stops of nginx.service by others are refused";
const REBOOT: &str = "reboot, poweroff and halt are refused";

fn main_pid(a: &Server, unit: &str) -> Result<String> {
    a.check(&["systemctl", "show", "--value", "-p", "MainPID", unit])
}

fn files(a: &Server) -> Result<String> {
    Ok(a.sh("ls /run/systemd/system/*/zz-ebb* /etc/systemd/system/*/zz-ebb* 2>/dev/null")?.stdout)
}

/// Packs what is installed of nginx again, so that it can be installed anew without a mirror.
const REPACK: &str = r#"set -e
for p in nginx nginx-common; do
  d=/tmp/$p; mkdir -p $d/DEBIAN
  dpkg-query -L $p | while read -r f; do
    if [ -e "$f" ] && [ ! -d "$f" ]; then printf '%s\n' "$f"; fi
  done | tar -cPT - | tar -xC $d
  for f in preinst postinst prerm postrm config templates conffiles triggers; do
    if [ -e /var/lib/dpkg/info/$p.$f ]; then cp -a /var/lib/dpkg/info/$p.$f $d/DEBIAN/$f; fi
  done
  dpkg-query -s $p | sed '/^Status:/d; /^Conffiles:/,/^[^ ]/{/^Conffiles:/d; /^ /d}' >$d/DEBIAN/control
  dpkg-deb -Znone -b $d /tmp/$p.deb >/dev/null
done"#;

fn reinstall(a: &Server) -> Result<()> {
    a.check(&["sh", "-c", REPACK])?;
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy", "-o", "Dpkg::Options::=--force-confold"];
    let words = ["install", "--reinstall", "/tmp/nginx.deb", "/tmp/nginx-common.deb"];
    let done = a.exec_within(LATE, &[&apt[..], &words].concat(), b"")?;
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(done.ok() && said.contains("Operation refused, unit nginx.service"), "{said}");
    Ok(())
}

#[test]
fn while_a_session_lives_stops_and_reboots_by_others_are_refused() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("protect")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    install(&a)?;
    assert_eq!(files(&a)?, "", "nobody is there");
    let mut session = download(&c, &a)?;
    wait_said(&a, UNITS, true)?;
    wait_said(&a, REBOOT, true)?;

    let pid = main_pid(&a, "nginx.service")?;
    for line in [
        "systemctl stop nginx",
        "systemctl restart nginx",
        "systemctl try-restart nginx",
        "service nginx restart",
        "deb-systemd-invoke restart nginx.service",
        "invoke-rc.d nginx stop",
    ] {
        let refused = a.sh(line)?;
        assert!(
            !refused.ok() && refused.stderr.contains("Operation refused, unit nginx.service"),
            "{line}: {refused:?}"
        );
    }
    let status = a.exec(&["systemctl", "status", "--no-pager", "nginx"])?;
    let words = "sessions live on nginx. Drain first: ebb drain nginx. Override: ebb protect off";
    assert!(status.stdout.contains(words), "{status:?}");
    a.check(&["systemctl", "reload", "nginx"])?;
    reinstall(&a)?;

    let boots = a.boots();
    for line in ["systemctl reboot", "systemctl reboot -i", "reboot", "shutdown -r now", "poweroff", "halt", "init 6"] {
        let refused = a.sh(line)?;
        let words = "Unit ebb:sessions-live-on-nginx.Drain-first:ebb-drain-nginx.Override:ebb-protect-off.service";
        assert!(refused.stderr.contains(words), "{line}: {refused:?}");
    }
    // Ctrl-Alt-Del, as the kernel tells it to PID 1.
    a.check(&["kill", "-INT", "1"])?;
    let list = a.check(&["systemd-inhibit", "--list", "--no-pager"])?;
    assert!(list.contains("1 session on nginx since") && list.contains("drain first"), "{list}");
    let asked = a.exec(&["systemctl", "reboot", "--check-inhibitors=yes"])?;
    assert!(!asked.ok() && asked.stderr.contains("drain first (ebb drain nginx)"), "{asked:?}");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!((a.boots(), main_pid(&a, "nginx.service")?), (boots, pid));
    assert!(session.is_running(), "the session goes on");

    // It has ended: a moment later all is as without ebb.
    drop(session);
    wait_said(&a, "refused", false)?;
    assert_eq!(files(&a)?, "");
    a.check(&["systemctl", "restart", "nginx"])?;
    a.reboot()?;
    Ok(())
}

#[test]
fn protection_outlives_its_agent_and_gives_way_to_a_drain() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("protected")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    install(&a)?;
    let mut sockets = Echoes::open_websockets(&c, &a, "/ws", 3)?;
    wait_said(&a, UNITS, true)?;

    // Killed, it leaves its files; without a successor that is told; the successor goes on with it.
    a.check(&["sh", "-c", "systemctl kill -s KILL --kill-whom=main ebb-agent"])?;
    assert_eq!(a.exec(&["systemctl", "stop", "nginx"])?.code, Some(4));
    wait_said(&a, UNITS, true)?;
    a.check(&[
        "sh",
        "-c",
        "systemctl mask --runtime ebb-agent; systemctl kill -s KILL --kill-whom=main ebb-agent; sleep 2",
    ])?;
    assert_eq!(a.exec(&["systemctl", "stop", "nginx"])?.code, Some(4));
    let doctor = a.exec(&["ebb", "doctor"])?;
    assert!(doctor.code == Some(1) && doctor.stdout.contains("has left this behind"), "{doctor:?}");
    a.check(&["sh", "-c", "systemctl unmask --runtime ebb-agent; systemctl start ebb-agent"])?;
    wait_said(&a, UNITS, true)?;

    // A drain is ebb's own: it waits for who is there, protects them from others, and stops.
    let mut drain = watch(&a, &["drain", "nginx"])?;
    drain.wait_left(3, SOON)?;
    assert_eq!(a.exec(&["systemctl", "stop", "nginx"])?.code, Some(4), "who is left is protected too");
    sockets.end(3)?;
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome, report.left, report.cut), (Some(0), Came::Stopped, 0, 0), "{answer:?}");
    assert_eq!(sockets.finish()?.harmed, 0);
    wait_said(&a, REBOOT, false)?;
    assert_eq!(ebb(&a, &["resume", "nginx"])?.code, Some(0));
    assert_eq!(files(&a)?, "");
    Ok(())
}

#[test]
fn who_must_can_override_with_a_reason() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("override")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    install(&a)?;
    let _session = download(&c, &a)?;
    wait_said(&a, UNITS, true)?;
    assert!(!a.exec(&["ebb", "protect", "off", "--reason", " "])?.ok());
    assert_eq!(a.exec(&["systemctl", "stop", "nginx"])?.code, Some(4));

    let off = a.check(&["ebb", "protect", "off", "--for", "1h", "--reason", "power is failing"])?;
    assert!(off.contains("lifted by root for") && off.contains("power is failing"), "{off}");
    // At once, and it stays so although the session lives.
    assert_eq!(files(&a)?, "");
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(files(&a)?, "");
    let said = a.exec(&["ebb", "services"])?;
    assert!(said.stderr.contains("protection is lifted by root"), "{said:?}");
    let events = ebb(&a, &["events"])?;
    assert!(events.event_names().contains(&"ProtectionLifted"), "{events:?}");
    assert!(!a.check(&["systemd-inhibit", "--list", "--no-pager"])?.contains("ebb"));

    let on = a.check(&["ebb", "protect", "on"])?;
    assert!(on.contains("protected again"), "{on}");
    wait_said(&a, UNITS, true)?;
    assert_eq!(a.exec(&["systemctl", "restart", "nginx"])?.code, Some(4));
    // For a moment only.
    a.check(&["ebb", "protect", "off", "--for", "3s", "--reason", "a moment"])?;
    a.check(&["systemctl", "reload", "nginx"])?;
    wait_said(&a, UNITS, true)?;
    // An agent that is stopped in order refuses nothing any more.
    a.check(&["systemctl", "stop", "ebb-agent"])?;
    assert_eq!(files(&a)?, "");
    a.check(&["systemctl", "start", "ebb-agent"])?;
    wait_said(&a, REBOOT, true)?;
    a.check(&["ebb", "protect", "off", "--reason", "new kernel"])?;
    a.reboot()?;
    // The next boot begins protected.
    let _session = download(&c, &a)?;
    wait_said(&a, UNITS, true)?;
    Ok(())
}
