//! The daemons' own view on a real systemd, by the shipped agent in its sandbox, with what the packages set.

#[expect(dead_code, reason = "one wait is enough")]
mod common;

use ebb_lab::ebb::{Answer, ebb};
use ebb_lab::{Host, Lab, Server, roles};
use ebb_wire::v1::{Frame, Session};

use common::{Outcome, SOON};

/// The users that are told of a service, in order.
fn users(answer: &Answer) -> Vec<&str> {
    let of = |session: &'_ Session| session.user.is_some();
    let mut users: Vec<&str> = sessions(answer).filter(|one| of(one)).filter_map(|one| one.user.as_deref()).collect();
    users.sort_unstable();
    users
}

fn sessions(answer: &Answer) -> impl Iterator<Item = &Session> {
    answer.frames.iter().filter_map(|frame| if let Frame::Session(session) = frame { Some(session) } else { None })
}

/// Messages that are deferred.
fn parked(answer: &Answer) -> usize {
    sessions(answer).filter(|one| one.what.as_deref().is_some_and(|what| what.starts_with("deferred"))).count()
}

/// What its daemon can do, of these: sessions, refuse, end.
fn can(a: &Server, name: &str) -> Result<[bool; 3], common::Failure> {
    let answer = ebb(a, &["services", "--doors"])?;
    let found = answer.frames.iter().find_map(|frame| match frame {
        Frame::Service(service) if service.name == name => service.daemon.as_ref(),
        _ => None,
    });
    let daemon = found.unwrap_or_else(|| panic!("no daemon of {name}: {answer:?}"));
    Ok([&daemon.sessions, &daemon.refuse, &daemon.end].map(|ability| ability.can))
}

#[test]
fn the_agent_in_its_sandbox_speaks_to_the_daemons_of_the_packages() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("daemons")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::postgresql(&a)?;
    roles::sshd(&lab, &a)?;
    roles::kamailio(&a)?;
    roles::postfix(&a)?;
    roles::agent(&a)?;

    // As its own user over its own socket.
    let postgresql = "postgresql@15-main";
    assert_eq!(can(&a, postgresql)?, [true, false, true]);
    let host = format!("host={} user=lab dbname=lab", a.v4());
    let mut sql = c.spawn(&["psql", &host, "-At"])?;
    sql.write(b"select 'in';\n");
    sql.wait_for("in", SOON)?;
    assert_eq!(users(&ebb(&a, &["sessions", postgresql])?), ["lab"]);
    let drained = ebb(&a, &["drain", postgresql, "--no-stop", "--idle", "now", "--settle", "100ms"])?;
    let report = drained.drains()[0];
    assert_eq!((drained.code, report.by_us, report.cut), (Some(0), 1, 0), "{drained:?}");
    sql.write(b"select 1;\n\\q\n");
    let sql = sql.wait(SOON)?;
    assert!(sql.stderr.contains("terminating connection due to administrator command"), "{sql:?}");
    assert_eq!(ebb(&a, &["resume", postgresql])?.code, Some(0));

    // By its processes.
    let login = roles::ssh_command(&lab, "tester", &a)?;
    let login: Vec<&str> = login.iter().map(String::as_str).collect();
    let mut shell = c.spawn(&[&login[..], &["echo in; read line"]].concat())?;
    shell.wait_for("in", SOON)?;
    assert_eq!(users(&ebb(&a, &["sessions", "ssh"])?), ["tester"]);
    shell.close_stdin();
    shell.wait(SOON)?;

    // Over its FIFO, whose folder is another user's; and after its restart it refuses again, by the agent.
    assert_eq!(can(&a, "kamailio")?, [true, true, true]);
    let flag = || a.check(&["kamcmd", "htable.dump", "ebb"]);
    let drained = ebb(&a, &["drain", "kamailio", "--no-stop", "--settle", "100ms", "--udp-learn", "0s"])?;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert!(flag()?.contains("drain"), "{}", flag()?);
    a.check(&["systemctl", "restart", "kamailio"])?;
    let began = std::time::Instant::now();
    while !a.exec(&["kamcmd", "htable.dump", "ebb"])?.stdout.contains("drain") {
        assert!(began.elapsed() < SOON, "it takes new calls after a restart");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(ebb(&a, &["resume", "kamailio"])?.code, Some(0));
    assert!(!flag()?.contains("drain"), "{}", flag()?);

    // Its queue, over the folder that the sandbox lets it write to.
    let before = a.read("/etc/postfix/main.cf")?;
    a.check(&["sh", "-c", "printf 'Subject: x\n\nx\n' | sendmail -f root@lab.test a@lab.test"])?;
    let deferred = || ebb(&a, &["sessions", "postfix@-"]).map(|answer| parked(&answer));
    let began = std::time::Instant::now();
    while deferred()? != 1 {
        assert!(began.elapsed() < SOON, "nothing is deferred: {:?}", ebb(&a, &["sessions", "postfix@-"])?);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let words = ["drain", "postfix@-", "--no-stop", "--settle", "100ms", "--queue", "move:127.0.0.1:2526"];
    let drained = ebb(&a, &words)?;
    let log = a.check(&["sh", "-c", "journalctl --no-pager -o short-precise | grep postfix"])?;
    assert_eq!((drained.code, deferred()?), (Some(0), 0), "{drained:?}\n{log}");
    assert_ne!(a.read("/etc/postfix/main.cf")?, before);
    assert_eq!(ebb(&a, &["resume", "postfix@-"])?.code, Some(0));
    assert_eq!(a.read("/etc/postfix/main.cf")?, before, "byte for byte");
    Ok(())
}
