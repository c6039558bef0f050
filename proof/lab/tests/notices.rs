//! Notices from the agent as it is shipped: in its sandbox, under a real systemd.

mod common;

use ebb_lab::{Host, Lab, roles};

use common::{LATE, Outcome, SOON};

const CONFIG: &str = "[notify.shells]\nkind = \"wall\"\n\n[notify.missing]\nkind = \"mail\"\nserver = \"127.0.0.1:25\"\n\
                      from = \"ebb@example.org\"\nto = [\"ops@example.org\"]\nlogin = \"ebb\"\n\
                      password_file = \"/etc/ebb/open.password\"\n";

#[test]
fn who_is_logged_in_is_told_by_the_agent_in_its_sandbox() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("notices")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::sshd(&lab, &a)?;
    roles::echo(&a)?;
    a.put("/etc/ebb/ebb.toml", CONFIG, 0o644)?;
    a.put("/etc/ebb/open.password", "s3cret\n", 0o644)?;
    for (to, text) in [
        ("systemd/system/ebb-agent.service", include_str!("../../../packaging/ebb-agent.service")),
        ("systemd/system/ebb-gate.service", include_str!("../../../packaging/ebb-gate.service")),
        ("sysusers.d/ebb.conf", include_str!("../../../packaging/ebb.sysusers")),
    ] {
        a.put(&format!("/usr/lib/{to}"), text, 0o644)?;
    }
    a.check(&["systemd-sysusers"])?;
    a.check(&["systemctl", "daemon-reload"])?;
    a.check(&["systemctl", "enable", "--now", "ebb-gate.service", "ebb-agent.service"])?;

    let login = roles::ssh_command(&lab, "tester", &a)?;
    let login: Vec<&str> = login.iter().map(String::as_str).collect();
    // With a terminal of its own: somebody who is logged in.
    let mut session = c.spawn(&[&login[..], &["-tt", "echo in; sleep 600"]].concat())?;
    session.wait_for("in", SOON)?;
    let tested = a.exec(&["ebb", "notify", "test", "shells"])?;
    assert!(tested.ok(), "{tested:?}");
    session.wait_for("a: this is a test of shells", SOON)?;
    a.check(&["ebb", "drain", "echo", "--reason", "new $HOME %n kernel"])?;
    session.wait_for("a: echo is being drained", LATE)?;
    session.wait_for("Reason: new $HOME %n kernel", SOON)?;
    a.check(&["ebb", "resume", "echo"])?;
    session.wait_for("a: echo accepts new sessions again", SOON)?;

    let refused = a.exec(&["ebb", "notify", "test", "missing"])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("everybody may read it: chmod 600 /etc/ebb/open.password"), "{refused:?}");
    Ok(())
}
