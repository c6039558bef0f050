//! Guards under a real systemd: what is amiss is seen, what became worse is named, and the operator's commands run
//! outside of the agent's sandbox, and leave nothing behind.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ebb_checks::run::{Order, Place, Ran, RunError, run};
use ebb_lab::ebb::{Answer, ebb};
use ebb_lab::{Host, Lab, Result, Server, roles};
use ebb_model::Span;
use ebb_wire::v1::{Guard, Trend, Verdict};

use common::{LATE, Outcome, SOON};

const AGENT: &str = include_str!("../../../packaging/ebb-agent.service");

fn guard<'a>(answer: &'a Answer, name: &str) -> &'a Guard {
    let found = answer.guards().into_iter().find(|guard| guard.name == name);
    found.unwrap_or_else(|| panic!("no guard {name} in {answer:?}"))
}

fn says(answer: &Answer, name: &str) -> Option<Verdict> {
    guard(answer, name).verdict
}

/// As a package would.
fn install(a: &Server) -> Result<()> {
    a.put("/usr/lib/systemd/system/ebb-agent.service", AGENT, 0o644)?;
    a.put("/usr/lib/sysusers.d/ebb.conf", include_str!("../../../packaging/ebb.sysusers"), 0o644)?;
    a.check(&["systemd-sysusers"])?;
    a.check(&["systemctl", "daemon-reload"])?;
    a.check(&["systemctl", "start", "ebb-agent.service"])?;
    Ok(())
}

#[test]
fn what_is_amiss_is_seen_and_what_became_worse_is_named() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("check")?;
    let a = lab.server("a")?;
    roles::echo(&a)?;
    install(&a)?;
    let kept = ebb(&a, &["check", "--save"])?;
    assert_eq!(kept.code, Some(0), "{kept:?}");
    for name in ["permission", "disk-root", "disk-var", "failed-units", "users"] {
        assert_eq!(says(&kept, name), Some(Verdict::Pass), "{:?}", guard(&kept, name));
    }
    // The agent may not ask the kernel; timedated may. What it says is the machine's own clock.
    let clock = guard(&kept, "clock");
    let said = a.check(&["timedatectl", "show", "--value", "-p", "NTPSynchronized"])?;
    assert_eq!(clock.verdict == Some(Verdict::Pass), said.trim() == "yes", "{clock:?}");
    assert!(!clock.why.starts_with("it could not be told"), "{clock:?}");
    let last = guard(&kept, "last-door");
    assert!(last.verdict == Some(Verdict::Warn) && last.amiss.contains(&"echo".to_owned()), "{last:?}");

    let same = ebb(&a, &["check", "--diff"])?;
    assert!(same.code == Some(0) && same.guards().iter().all(|one| one.trend == Some(Trend::Same)), "{same:?}");

    // A unit fails, of a kind without processes; then another, which is worse though the verdict is the same.
    a.put("/etc/systemd/system/mnt-none.mount", "[Mount]\nWhat=/dev/none\nWhere=/mnt/none\nType=ext4\n", 0o644)?;
    a.check(&["systemctl", "daemon-reload"])?;
    assert!(!a.exec(&["systemctl", "start", "mnt-none.mount"])?.ok());
    let one = ebb(&a, &["check"])?;
    assert_eq!((one.code, says(&one, "failed-units")), (Some(1), Some(Verdict::Refuse)), "{one:?}");
    assert_eq!(guard(&one, "failed-units").why, "mnt-none.mount has failed");
    assert_eq!(ebb(&a, &["check", "--save"])?.code, Some(1));
    assert_eq!(ebb(&a, &["check", "--diff"])?.code, Some(0), "as it was");
    a.exec(&["systemd-run", "--unit=broken", "--wait", "--quiet", "false"])?;
    let two = ebb(&a, &["check", "--diff"])?;
    let units = guard(&two, "failed-units");
    assert_eq!((two.code, units.trend, units.regression), (Some(1), Some(Trend::Worse), true), "{units:?}");
    assert_eq!(units.amiss, ["broken.service", "mnt-none.mount"]);
    a.check(&["systemctl", "reset-failed"])?;
    let better = ebb(&a, &["check", "--diff"])?;
    assert_eq!((better.code, guard(&better, "failed-units").trend), (Some(0), Some(Trend::Better)), "{better:?}");

    // Everybody of the group may look, and only operators keep a list.
    a.check(&["usermod", "-aG", "ebb", "tester"])?;
    let look =
        a.exec(&["setpriv", "--reuid", "tester", "--regid", "tester", "--init-groups", "ebb", "check", "--json"])?;
    assert!(look.ok() && look.stdout.contains("\"name\":\"disk-root\""), "{look:?}");
    let keep =
        a.exec(&["setpriv", "--reuid", "tester", "--regid", "tester", "--init-groups", "ebb", "check", "--save"])?;
    assert_eq!(keep.code, Some(8), "{keep:?}");

    // An almost full disk. The agent has its own view of mounts made later; a command of its own has the machine's.
    a.check(&["systemctl", "stop", "ebb-agent.service"])?;
    a.check(&["sh", "-c", "mount -t tmpfs -o size=10m tmpfs /var && head -c 10300000 /dev/zero >/var/fill"])?;
    let full = ebb(&a, &["check", "disk-var", "disk-root"])?;
    a.check(&["umount", "-l", "/var"])?;
    assert_eq!((full.code, says(&full, "disk-var")), (Some(1), Some(Verdict::Refuse)), "{full:?}");
    assert_eq!(says(&full, "disk-root"), Some(Verdict::Pass));
    Ok(())
}

#[test]
fn who_else_is_logged_in() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("checkusers")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::sshd(&lab, &a)?;
    install(&a)?;
    let login = |user: &str| roles::ssh_command(&lab, user, &a);
    let words = |list: &[String], more: &[&str]| {
        list.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect::<Vec<_>>()
    };
    let spawn = |list: Vec<String>| c.spawn(&list.iter().map(String::as_str).collect::<Vec<_>>());
    let exec = |list: Vec<String>| c.exec(&list.iter().map(String::as_str).collect::<Vec<_>>());
    let alone = exec(words(&login("root")?, &["-tt", "ebb check users"]))?;
    assert!(alone.stdout.contains("nobody else is logged in"), "{alone:?}");

    let mut other = spawn(words(&login("tester")?, &["-tt", "echo in; cat"]))?;
    other.wait_for("in", SOON)?;
    let seen = exec(words(&login("root")?, &["-tt", "ebb check users"]))?;
    let from = format!("also logged in: tester at pts/0 from {}", c.v4());
    assert!(seen.ok() && seen.stdout.contains("warn") && seen.stdout.contains(&from), "{seen:?}");
    assert_eq!(seen.stdout.matches("tester at").count(), 1, "utmp and logind name the same login: {seen:?}");
    let by_agent = ebb(&a, &["check", "users"])?;
    assert_eq!(guard(&by_agent, "users").amiss.len(), 1, "{by_agent:?}");
    Ok(())
}

/// The lines of the agent's unit that make its sandbox.
fn sandbox() -> String {
    let keys =
        ["Protect", "Private", "Restrict", "ReadWritePaths", "Capability", "NoNew", "Lock", "Memory", "SystemCall"];
    let line = |line: &&str| keys.iter().any(|key| line.starts_with(key));
    AGENT.lines().filter(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn commands_run_outside_of_the_agents_sandbox() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("checkrun")?;
    let a = lab.server("a")?;
    let own = std::env::current_exe().and_then(std::fs::read).expect("our own executable");
    a.put("/usr/bin/inside", own, 0o755)?;
    let unit = format!(
        "[Service]\nType=oneshot\nExecStart=/usr/bin/inside --exact --ignored --nocapture inside\n{}\n",
        sandbox()
    );
    a.put("/etc/systemd/system/inside.service", unit, 0o644)?;
    a.check(&["systemctl", "daemon-reload"])?;
    let ended = a.exec(&["systemctl", "start", "inside.service"])?;
    let journal = a.check(&["journalctl", "--no-pager", "-o", "cat", "-u", "inside.service"])?;
    assert!(ended.ok() && journal.contains("1 passed"), "{ended:?}\n{journal}");
    assert_eq!(a.check(&["cat", "/etc/ebb-outside"])?, "x\n");
    assert!(!a.exec(&["test", "-e", "/etc/ebb-inside"])?.ok());
    assert_eq!(a.sh("systemctl list-units --all --no-legend 'ebb-command-*'")?.stdout, "", "nothing stays");
    Ok(())
}

async fn outside(script: &str, within: Span) -> std::result::Result<Ran, RunError> {
    let command = ["sh", "-c", script].map(str::to_owned);
    let mut order = Order::new(&command, within, Place::Systemd);
    order.environment = BTreeMap::from([("SECRET".to_owned(), "of \"ours\"".to_owned())]);
    run(&order).await
}

fn is_there(mark: &str) -> bool {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
    })
}

/// Nobody may be left of it; systemd ends them after it has told us.
fn wait_gone(mark: &str) {
    let began = Instant::now();
    while is_there(mark) {
        assert!(began.elapsed() < LATE, "a process with {mark} stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
#[ignore = "it is run inside a server, by the test above"]
async fn inside() {
    let long = Span::seconds(30);
    assert!(std::fs::write("/etc/ebb-inside", "x").is_err(), "this is the agent's sandbox");
    let ran = outside("echo x >/etc/ebb-outside && grep CapEff /proc/self/status; echo $SECRET", long).await.unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(!own.contains(ran.out.lines().next().unwrap()), "it may more than we: {ran:?}");
    assert_eq!((ran.out.lines().nth(1), ran.err.as_str()), (Some("of \"ours\""), ""));

    let words = ["printf", "%s|", "$SECRET", "${HOME}", "$$", "%n", "a  b"].map(str::to_owned);
    let as_typed = run(&Order::new(&words, long, Place::Systemd)).await.unwrap();
    assert_eq!(as_typed.out, "$SECRET|${HOME}|$$|%n|a  b|");
    for (script, code) in
        [("exit 1", Some(1)), ("exit 2", Some(2)), ("echo; echo x; exit 203", Some(203)), ("kill -9 $$", None)]
    {
        assert_eq!(outside(script, long).await.unwrap().code, code, "{script}");
    }
    let garbage = outside(r"printf '\033[2J\377 words\n'; echo oops >&2; exit 1", long).await.unwrap();
    assert_eq!(garbage.first_line(), "\u{fffd}[2J\u{fffd} words");
    assert_eq!((garbage.code, garbage.err.as_str()), (Some(1), "oops\n"));
    let much = outside("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 4", long).await.unwrap();
    assert!(much.cut && much.code == Some(4) && much.out.len() == 65_536, "{} {:?}", much.out.len(), much.code);

    let nowhere = ["/no/such/program".to_owned()];
    let nowhere = run(&Order::new(&nowhere, long, Place::Systemd)).await;
    assert!(matches!(nowhere, Err(RunError::NoProgram { .. })), "{nowhere:?}");
    let text = ["/etc/passwd".to_owned()];
    let text = run(&Order::new(&text, long, Place::Systemd)).await;
    assert!(matches!(text, Err(RunError::Systemd { .. })), "{text:?}");

    let slow = outside("trap '' TERM; setsid sleep 71001 & sleep 71001", Span::seconds(1)).await;
    assert!(matches!(slow, Err(RunError::TooSlow { .. })), "{slow:?}");
    wait_gone("71001");
    let left = outside("setsid sleep 71002 & echo done", long).await.unwrap();
    assert_eq!((left.code, left.first_line().as_str()), (Some(0), "done"));
    wait_gone("71002");
}
