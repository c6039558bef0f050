//! ebb comes and goes: as a package and by hand, and what was there before is there after, byte for byte.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use ebb_lab::ebb::{ebb, watch};
use ebb_lab::load::Echoes;
use ebb_lab::{Host, Lab, Result, Server, roles};
use ebb_wire::v1::Outcome as Came;

use common::{LATE, Outcome, SOON};

/// Makes a package of the ebb under test, as `cargo xtask deb` does.
fn package(dir: &Path, version: &str) -> Result<PathBuf> {
    let Some(binary) = ebb_lab::ebb_binary()? else { panic!("there is no ebb to be packed") };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut xtask = Command::new(cargo);
    xtask.args(["run", "--quiet", "--package", "xtask", "--", "deb", "--quick", "--version", version]);
    xtask.arg("--out").arg(dir).arg("--binary").arg(binary);
    let made = xtask.output().unwrap_or_else(|error| panic!("cargo xtask deb: {error}"));
    assert!(made.status.success(), "{made:?}");
    Ok(String::from_utf8_lossy(&made.stdout).trim().into())
}

/// Puts a package on the server; gives its path there.
fn carry(a: &Server, package: &Path) -> Result<String> {
    let to = format!("/tmp/{}", package.file_name().unwrap_or_default().to_string_lossy());
    a.put(&to, std::fs::read(package).unwrap_or_default(), 0o644)?;
    Ok(to)
}

/// Every file with mode, owner, size and target, the content of all that is configured, the firewall, the units.
fn as_it_is(a: &Server) -> Result<String> {
    // Logs, what dpkg and apt write of themselves, and copies of before that the tools of groups make.
    let all = "find / -xdev \\( -path /var/log -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache/apt \
               -o -path /etc/group- -o -path /etc/gshadow- -o -path /etc/.pwd.lock -o -path /root \
               -o -path /var/lib/systemd/timers -o -path /var/lib/private -o -path /var/tmp \\) -prune -o \
               \\( -type f -printf '%p %m %u %g %s\\n' \\) -o -printf '%p %m %u %g %l\\n' | sort; \
               find /etc /usr/lib/systemd /var/lib/systemd/catalog -type f ! -name group- ! -name gshadow- \
               ! -name .pwd.lock | sort | xargs sha1sum; \
               find /run/ebb /run/systemd/system; nft list ruleset; systemctl list-unit-files --no-pager; \
               systemctl is-enabled nginx; systemctl is-active nginx; getent group; dpkg -l";
    Ok(a.exec(&["sh", "-c", all])?.stdout)
}

/// What differs, line by line: the whole would be some 20,000 lines.
fn assert_same(before: &str, after: &str) {
    let missing = |of: &str, from: &str| -> Vec<String> {
        let there: std::collections::BTreeSet<&str> = from.lines().collect();
        of.lines().filter(|line| !there.contains(line)).map(str::to_owned).collect()
    };
    let (gone, new) = (missing(before, after), missing(after, before));
    assert!(before.lines().count() > 1000, "the listing lists: {before}");
    assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
}

/// A server on which there is no ebb yet; the program under test is kept aside.
fn bare(a: &Server) -> Result<()> {
    a.check(&["mv", "/usr/bin/ebb", "/root/ebb"])?;
    a.check(&["journalctl", "--update-catalog"])?;
    Ok(())
}

const APT: [&str; 5] = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"];

fn apt(a: &Server, words: &[&str]) -> Result<ebb_lab::Output> {
    a.exec_within(LATE, &[&APT, words].concat(), b"")
}

#[test]
fn the_package_comes_and_goes_and_leaves_nothing() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("package")?;
    let a = lab.server("a")?;
    roles::nginx(&a)?;
    bare(&a)?;
    let deb = carry(&a, &package(lab.dir(), "0.1.0")?)?;
    let before = as_it_is(&a)?;

    let installed = apt(&a, &["install", &deb])?;
    assert!(installed.ok(), "{installed:?}");
    for unit in ["ebb-gate", "ebb-agent"] {
        assert_eq!(a.exec(&["systemctl", "is-enabled", unit])?.stdout.trim(), "enabled", "{unit}");
    }
    assert_eq!(a.exec(&["systemctl", "is-active", "ebb-agent"])?.stdout.trim(), "active", "{installed:?}");
    let answer = ebb(&a, &["drain", "nginx", "--reason", "new kernel"])?;
    assert_eq!((answer.code, answer.drains()[0].outcome), (Some(0), Came::Stopped), "{answer:?}");

    // While it is held, neither goes: it says whose the hold is, and what to do.
    for verb in ["remove", "purge"] {
        let refused = apt(&a, &[verb, "ebb"])?;
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(!refused.ok(), "{said}");
        for word in ["nginx is held stopped by `operator`", "new kernel", "ebb resume nginx", "--force --reason"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    assert!(a.check(&["dpkg-query", "-W", "-f=${Status}", "ebb"])?.contains("ok installed"));
    let started = a.exec(&["systemctl", "start", "nginx"])?;
    assert!(!started.ok() && started.stderr.contains("nginx-is-held-by-operator"), "{started:?}");
    assert_eq!(a.exec(&["systemctl", "is-active", "ebb-agent"])?.stdout.trim(), "active");

    let answer = ebb(&a, &["resume", "nginx"])?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    // Removed, nothing acts any more; what was recorded stays for a later installation.
    let removed = apt(&a, &["remove", "ebb"])?;
    assert!(removed.ok(), "{removed:?}");
    assert!(!a.exec(&["pgrep", "-x", "ebb"])?.ok() && a.exec(&["test", "-e", "/var/lib/ebb/ebb.db"])?.ok());
    let again = apt(&a, &["install", &deb])?;
    assert!(again.ok(), "{again:?}");
    let agent = a.exec(&["systemctl", "is-active", "ebb-agent", "ebb-gate"])?;
    assert_eq!(agent.stdout.lines().next(), Some("active"), "{agent:?}");
    let purged = apt(&a, &["purge", "ebb"])?;
    assert!(purged.ok(), "{purged:?}");
    assert_same(&before, &as_it_is(&a)?);
    Ok(())
}

#[test]
fn a_drain_does_not_notice_that_the_package_was_upgraded() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("upgrade")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    bare(&a)?;
    let debs = ["0.1.0", "0.1.1"].map(|version| carry(&a, &package(lab.dir(), version)?));
    let [old, new] = debs;
    assert!(apt(&a, &["install", &old?])?.ok());
    let mut sessions = Echoes::open(&c, &a, roles::ECHO_PORT, 20)?;
    let mut drain = watch(&a, &["drain", "echo"])?;
    drain.wait_left(20, SOON)?;
    let pid = ["systemctl", "show", "--value", "-p", "MainPID", "ebb-agent.service"];
    let first = a.check(&pid)?;
    let upgraded = apt(&a, &["install", &new?])?;
    assert!(upgraded.ok(), "{upgraded:?}");
    assert_eq!(a.check(&["dpkg-query", "-W", "-f=${Version}", "ebb"])?, "0.1.1");
    assert_ne!(a.check(&pid)?, first, "another agent serves");
    sessions.end(20)?;
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome, report.at_start), (Some(0), Came::Stopped, 20), "{answer:?}");
    assert_eq!((report.by_themselves, report.left, report.leaks.len()), (20, 0, 0), "{answer:?}");
    assert_eq!(sessions.finish()?.harmed, 0);
    Ok(())
}

/// What the README says.
fn by_hand(a: &Server) -> Result<()> {
    a.check(&["cp", "/root/ebb", "/usr/bin/ebb"])?;
    for (to, text) in [
        ("systemd/catalog/ebb.catalog", include_str!("../../../packaging/ebb.catalog")),
        ("systemd/system/ebb-agent.service", include_str!("../../../packaging/ebb-agent.service")),
        ("systemd/system/ebb-gate.service", include_str!("../../../packaging/ebb-gate.service")),
        ("sysusers.d/ebb.conf", include_str!("../../../packaging/ebb.sysusers")),
        ("ebb/policy-rc.d", include_str!("../../../packaging/policy-rc.d")),
    ] {
        a.put(&format!("/usr/lib/{to}"), text, 0o755)?;
    }
    a.put("/etc/ebb/ebb.toml", "[access]\noperators = [\"tester\"]\n", 0o644)?;
    let rest = "journalctl --update-catalog && ebb man /usr/share/man/man1 && systemd-sysusers && \
                update-alternatives --quiet --install /usr/sbin/policy-rc.d policy-rc.d /usr/lib/ebb/policy-rc.d 10 && \
                ebb completions bash >/usr/share/bash-completion/completions/ebb && \
                systemctl daemon-reload && systemctl enable --now ebb-gate ebb-agent";
    a.check(&["sh", "-c", rest])?;
    Ok(())
}

#[test]
fn what_was_installed_by_hand_goes_without_a_trace() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("uninstall")?;
    let a = lab.server("a")?;
    roles::nginx(&a)?;
    a.check(&["mkdir", "-p", "/usr/share/man/man1", "/usr/share/bash-completion/completions"])?;
    bare(&a)?;
    let before = as_it_is(&a)?;
    by_hand(&a)?;

    let answer = ebb(&a, &["drain", "nginx", "--as", "deploy"])?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for words in [&["ebb", "uninstall"][..], &["ebb", "uninstall", "--dry-run"]] {
        let refused = a.exec(words)?;
        assert_eq!(refused.code, Some(5), "{refused:?}");
        assert!(refused.stderr.contains("ebb resume nginx --as deploy"), "{refused:?}");
    }
    assert_eq!(ebb(&a, &["resume", "nginx", "--as", "deploy"])?.code, Some(0));

    // It is cut off in the middle, and goes on.
    let plan = a.check(&["ebb", "uninstall", "--dry-run"])?;
    assert!(plan.ends_with("remove /usr/bin/ebb\n") && plan.contains("stop and disable ebb-agent.service"), "{plan}");
    a.check(&["mount", "--bind", "/run/ebb", "/run/ebb"])?;
    let cut = a.exec(&["ebb", "uninstall"])?;
    assert!(cut.code == Some(1) && cut.stderr.contains("failed to remove /run/ebb"), "{cut:?}");
    a.check(&["umount", "/run/ebb"])?;
    let rest = a.exec(&["ebb", "uninstall"])?;
    assert!(rest.ok() && !rest.stdout.contains("ebb-agent.service\n"), "{rest:?}");
    let done: Vec<&str> = cut.stdout.lines().chain(rest.stdout.lines()).collect();
    assert_eq!(done, plan.lines().collect::<Vec<_>>(), "what was planned was done, each once");
    assert_same(&before, &as_it_is(&a)?);
    assert_eq!(a.check(&["/root/ebb", "uninstall"])?, "Nothing of ebb is here to be removed.\n");

    // With a reason it goes although somebody holds, and says who was held.
    by_hand(&a)?;
    let answer = ebb(&a, &["drain", "nginx"])?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let forced = a.exec(&["ebb", "uninstall", "--force", "--reason", "scrapped"])?;
    assert!(forced.ok() && forced.stderr.contains("systemctl start nginx.service"), "{forced:?}");
    a.check(&["systemctl", "start", "nginx"])?;
    let journal = a.check(&["journalctl", "-q", "-o", "cat", "-t", "ebb", "--no-pager"])?;
    assert!(
        journal.contains("removes ebb although nginx is held stopped") && journal.contains("scrapped"),
        "{journal}"
    );
    assert_same(&before, &as_it_is(&a)?);
    Ok(())
}
