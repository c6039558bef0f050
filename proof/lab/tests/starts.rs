//! Every way in which others start what is held, and that what was is there again afterwards, byte for byte.

#[expect(dead_code, reason = "the waits are those of drains")]
mod common;

use std::time::Duration;

use ebb_lab::ebb::ebb;
use ebb_lab::{Host, Lab, Output, Result, Server, roles};
use ebb_wire::v1::Outcome as Came;

use common::Outcome;

/// Words of the hold, and what undoes it, as systemd names what it refuses to start.
const WORDS: [&str; 3] = ["nginx-is-held-by-operator", "new-kernel", "ebb-resume-nginx"];
const UNITS: [&str; 7] =
    ["nginx", "echo", "ssh", "greeter.socket", "greeter.service", "haproxy.service", "postgresql@15-main"];

/// Somebody else's rules, and a door that is shut by them.
const OTHERS: &str = "table inet others { set blocked { type ipv4_addr; elements = { 192.0.2.7 }; }; \
                      chain input { type filter hook input priority filter; policy accept; \
                      ip saddr @blocked drop; tcp dport 9 reject; }; }";

/// All that systemd reads, with modes and contents; the firewall; what is enabled, disabled or masked.
fn as_it_is(a: &Server) -> Result<String> {
    let all = "cd / && find etc/systemd run/systemd/system run/systemd/transient lib/systemd -printf '%p %M %u %g %l ' \
               -type f -exec sha256sum {} \\; -o -printf '\\n' 2>/dev/null | sort; nft list ruleset; \
               for unit; do printf '%s ' \"$unit\"; systemctl is-enabled \"$unit\"; done; ls -A /var/lib/ebb/held";
    Ok(a.exec(&[&["sh", "-c", all, "sh"], &UNITS[..]].concat())?.stdout)
}

fn refused(out: &Output, why: &str) {
    assert!(!out.ok(), "{why}: {out:?}");
    for word in WORDS {
        assert!(out.stderr.contains(word), "{why}, {word}: {out:?}");
    }
}

fn is_down(a: &Server) -> Outcome {
    for unit in ["nginx.service", "greeter.service", "greeter.socket"] {
        let active = a.exec(&["systemctl", "is-active", unit])?;
        assert!(["inactive\n", "failed\n"].contains(&active.stdout.as_str()), "{unit}: {active:?}");
    }
    assert_eq!(a.check(&["ss", "-Hltn", "sport = :80 or sport = :7300"])?, "");
    Ok(())
}

fn prepare(lab: &Lab, a: &Server) -> Outcome {
    roles::nginx(a)?;
    roles::echo(a)?;
    roles::greeter(a)?;
    roles::sshd(lab, a)?;
    roles::agent(a)?;
    a.put("/tmp/others.nft", OTHERS, 0o644)?;
    a.check(&["nft", "-f", "/tmp/others.nft"])?;
    a.check(&["systemctl", "mask", "haproxy"])?;
    // Started by hand and not enabled.
    a.check(&["systemctl", "disable", "echo"])?;
    for (file, text) in [
        ("web-again.timer", "[Timer]\nOnCalendar=*:*:*\nAccuracySec=1ms\nUnit=web-again.service\n"),
        ("web-again.service", "[Service]\nType=oneshot\nExecStart=/bin/systemctl restart nginx.service\n"),
        // A timer that starts the very unit.
        ("nginx.timer", "[Timer]\nOnCalendar=*:*:*\nAccuracySec=1ms\n"),
        ("web-user.service", "[Unit]\nRequires=nginx.service\n[Service]\nExecStart=/bin/sleep 1000\n"),
    ] {
        a.put(&format!("/etc/systemd/system/{file}"), text, 0o644)?;
    }
    a.check(&["systemctl", "daemon-reload"])?;
    Ok(())
}

/// As a package's script, an administrator, needrestart, another unit or a timer would.
fn start_in_all_ways(a: &Server) -> Outcome {
    for words in [
        &["systemctl", "start", "nginx"][..],
        &["systemctl", "restart", "nginx"],
        &["systemctl", "enable", "--now", "nginx"],
        &["systemctl", "reload-or-restart", "nginx.service"],
        // needrestart's own command
        &["systemctl", "restart", "nginx.service"],
        &["service", "nginx", "start"],
        &["deb-systemd-invoke", "restart", "nginx.service"],
        &["invoke-rc.d", "nginx", "start"],
        &["systemctl", "start", "web-user"],
    ] {
        refused(&a.exec(words)?, &words.join(" "));
    }
    let socket = a.exec(&["systemctl", "start", "greeter.socket"])?;
    assert!(!socket.ok() && socket.stderr.contains("greeter-is-held-by-operator"), "{socket:?}");
    a.check(&["systemctl", "start", "nginx.timer", "web-again.timer"])?;
    std::thread::sleep(Duration::from_millis(2500));
    a.check(&["systemctl", "stop", "nginx.timer", "web-again.timer"])?;
    a.exec(&["systemctl", "reset-failed", "web-again.service"])?;
    is_down(a)
}

/// dpkg replaces the binary, the unit file and the enabled state, and its script wants to start what is held.
fn reinstall(a: &Server) -> Outcome {
    let install = "apt-get -q -y install --reinstall /opt/packages/nginx*.deb </dev/null";
    let limit = Duration::from_secs(120);
    // Without Debian's policy the script takes the refusal for an error, and says whose hold it is.
    let out = a.exec_within(limit, &["sh", "-c", install], b"")?;
    refused(&Output { stderr: format!("{}{}", out.stdout, out.stderr), ..out }, "reinstalled");
    is_down(a)?;
    a.put("/usr/sbin/policy-rc.d", include_str!("../../../packaging/policy-rc.d"), 0o755)?;
    let out = a.exec_within(limit, &["dpkg", "--configure", "-a"], b"")?;
    assert!(out.ok() && out.stderr.contains("is held by operator"), "{out:?}");
    is_down(a)?;
    a.check(&["rm", "/usr/sbin/policy-rc.d"])?;
    Ok(())
}

#[test]
fn nobody_starts_what_is_held_and_what_was_is_there_again() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("starts")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    prepare(&lab, &a)?;
    let before = as_it_is(&a)?;
    for line in ["echo disabled", "haproxy.service masked", "nginx enabled", "table inet others"] {
        assert!(before.contains(line), "{line}: {before}");
    }
    for (name, reason) in [("nginx", "new kernel"), ("greeter", ""), ("echo", "")] {
        let words = ["drain", name, "--settle", "100ms", "--reason", reason];
        let answer = ebb(&a, &words)?;
        assert_eq!((answer.code, answer.drains()[0].outcome), (Some(0), Came::Stopped), "{answer:?}");
    }
    is_down(&a)?;
    start_in_all_ways(&a)?;
    reinstall(&a)?;
    let masked = a.exec(&["systemctl", "start", "haproxy"])?;
    assert!(!masked.ok() && masked.stderr.contains("masked"), "{masked:?}");

    for name in ["nginx", "greeter", "echo"] {
        let answer = ebb(&a, &["resume", name])?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert!(c.exec(&["curl", "-sf", "--max-time", "5", &a.url("/")])?.ok());
    pretty(&before, &as_it_is(&a)?);
    Ok(())
}

/// Line by line: the whole is long.
fn pretty(before: &str, after: &str) {
    let gone: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    let new: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    assert!(before == after, "gone: {gone:#?}\nnew: {new:#?}");
}
