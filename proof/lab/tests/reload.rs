//! The configuration of an agent under a real systemd: `systemctl reload` checks it, and the agent takes it.

use ebb_lab::{Host, Lab, Result, Server, roles};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn agent(a: &Server, property: &str) -> Result<String> {
    Ok(a.check(&["systemctl", "show", "--value", "-p", property, "ebb-agent.service"])?.trim().to_owned())
}

#[test]
fn a_reload_is_checked_and_taken_without_a_restart() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("reload")?;
    let a = lab.server("a")?;
    roles::echo(&a)?;
    for (name, text) in [
        ("ebb-agent.service", include_str!("../../../packaging/ebb-agent.service")),
        ("ebb-gate.service", include_str!("../../../packaging/ebb-gate.service")),
    ] {
        a.put(&format!("/usr/lib/systemd/system/{name}"), text, 0o644)?;
    }
    a.put("/usr/lib/sysusers.d/ebb.conf", include_str!("../../../packaging/ebb.sysusers"), 0o644)?;
    a.check(&["systemd-sysusers"])?;
    a.check(&["systemctl", "daemon-reload"])?;
    a.check(&["systemctl", "enable", "--now", "ebb-gate.service", "ebb-agent.service"])?;
    let pid = agent(&a, "MainPID")?;
    let names = |a: &Server| a.check(&["ebb", "services", "--no-count"]);
    assert!(!names(&a)?.contains("parrot"));

    a.check(&["mkdir", "-p", "/etc/ebb/ebb.toml.d"])?;
    a.put("/etc/ebb/ebb.toml.d/10.toml", "[service.parrot]\nunits = [\"echo\"]\n", 0o644)?;
    a.check(&["systemctl", "reload", "ebb-agent.service"])?;
    assert!(names(&a)?.contains("parrot"), "when the reload has ended it has been taken");
    let state = agent(&a, "ActiveState")?;
    assert_eq!((agent(&a, "MainPID")?, state.as_str()), (pid.clone(), "active"));

    a.put("/etc/ebb/ebb.toml", "[holds]\nforgotten_after = \"soon\"\n", 0o644)?;
    let reload = a.exec(&["systemctl", "reload", "ebb-agent.service"])?;
    assert!(!reload.ok(), "{reload:?}");
    let journal = a.check(&["journalctl", "-u", "ebb-agent.service", "-o", "cat"])?;
    assert!(journal.contains("/etc/ebb/ebb.toml:2:19: "), "the fault is in the journal: {journal}");
    assert_eq!((agent(&a, "MainPID")?, agent(&a, "ActiveState")?.as_str()), (pid, "active"));
    assert!(names(&a)?.contains("parrot"), "what was before stands");

    // A name that no unit has is only warned of; one that systemd knows is fine although it does not run.
    a.put("/etc/ebb/ebb.toml", "[service.other]\nunits = [\"nosuch\", \"systemd-fsck-root\"]\n", 0o644)?;
    let check = a.exec(&["ebb", "config", "check"])?;
    assert!(check.ok() && check.stdout.contains("`nosuch`") && !check.stdout.contains("fsck"), "{check:?}");
    Ok(())
}
