//! Sessions of people and programs that stay: ssh and psql.

mod common;

use ebb_lab::ebb::{ebb, watch};
use ebb_lab::{Host, Lab, roles};
use ebb_wire::v1::{Gate, Outcome as Came};

use common::{LATE, Outcome, SOON};

fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

#[test]
fn ssh_sessions_live_on_and_are_named_at_the_deadline() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("ssh")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::sshd(&lab, &a)?;
    let login = roles::ssh_command(&lab, "tester", &a)?;
    let work = "echo in; while read line; do echo got $line; done; echo out";
    let mut session = c.spawn(&[&words(&login)[..], &[work]].concat())?;
    session.wait_for("in", SOON)?;

    let answer = ebb(&a, &["drain", "ssh", "--deadline", "5s", "--then", "ask"])?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(3), Came::DeadlineReached), "{answer:?}");
    assert_eq!((report.at_start, report.left, report.cut + report.by_us), (1, 1, 0), "{report:?}");
    let left = &report.stragglers[0];
    assert!(left.peer.starts_with(&c.v4().to_string()), "{left:?}");
    assert_eq!(left.process.as_deref(), Some("sshd"), "{left:?}");
    assert!(answer.event("DeadlineReached").is_some());

    let newcomer = c.exec(&[&words(&login)[..], &["true"]].concat())?;
    assert!(newcomer.code == Some(255) && newcomer.stderr.contains("refused"), "{newcomer:?}");
    session.write(b"one\n");
    session.wait_for("got one", SOON)?;
    let sessions = ebb(&a, &["sessions", "ssh", "--limit", "10"])?;
    assert!(format!("{sessions:?}").contains("process: Some(\"sshd\")"), "{sessions:?}");
    let status = ebb(&a, &["status", "ssh"])?;
    let seen = status.statuses()[0];
    assert_eq!((seen.gate, seen.service.state.as_str()), (Gate::Shut, "draining"), "{seen:?}");
    assert_eq!((seen.watched_by_pid, seen.service.sessions), (None, Some(1)), "{seen:?}");

    let mut drain = watch(&a, &["drain", "ssh"])?;
    drain.wait_left(1, SOON)?;
    session.write(b"two\n");
    session.wait_for("got two", SOON)?;
    session.close_stdin();
    let session = session.wait(SOON)?;
    assert!(session.ok() && session.stdout.ends_with("out\n"), "{session:?}");
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(0), Came::Stopped), "{answer:?}");
    assert_eq!((report.at_start, report.by_themselves), (1, 1), "it is the same drain: {report:?}");
    assert_eq!(a.exec(&["systemctl", "is-active", "ssh"])?.stdout, "inactive\n");

    let resumed = ebb(&a, &["resume", "ssh"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(c.check(&[&words(&login)[..], &["whoami"]].concat())?, "tester\n");
    Ok(())
}

#[test]
fn a_transaction_ends_in_peace_and_newcomers_find_the_other_server() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("sql")?;
    let [a, b] = lab.servers(["a", "b"])?;
    let c = lab.client("c")?;
    roles::postgresql(&a)?;
    roles::postgresql(&b)?;
    let both = format!("host={},{} user=lab dbname=lab connect_timeout=5", a.v4(), b.v4());
    let who = ["psql", both.as_str(), "-Atc", "select host(inet_server_addr())"];
    assert_eq!(c.check(&who)?.trim(), a.v4().to_string());

    let mut session = c.spawn(&["psql", &both, "-At"])?;
    session.write(b"begin; create table t (x int); insert into t values (41);\nselect 'in ' || count(*) from t;\n");
    session.wait_for("in 1", SOON)?;
    // The wrapper unit's name means its only instance.
    let mut drain = watch(&a, &["drain", "postgresql"])?;
    drain.wait_event("GateProven", SOON)?;
    drain.wait_left(1, SOON)?;
    assert_eq!(c.check(&who)?.trim(), b.v4().to_string(), "libpq goes to the next host");
    session.write(b"update t set x = x + 1; commit;\nselect 'now ' || x from t;\n");
    session.wait_for("now 42", SOON)?;
    session.write(b"\\q\n");
    let session = session.wait(SOON)?;
    assert!(session.ok() && session.stderr.is_empty(), "{session:?}");
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(0), Came::Stopped), "{answer:?}");
    assert_eq!((report.service.as_str(), report.at_start), ("postgresql@15-main", 1), "{report:?}");
    assert!(report.refused >= 1 && report.leaks.is_empty(), "{report:?}");
    assert_eq!(a.exec(&["systemctl", "is-active", "postgresql@15-main"])?.stdout, "inactive\n");
    assert_eq!(a.sh("systemctl --failed --no-legend")?.stdout, "");

    let resumed = ebb(&a, &["resume", "postgresql"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(c.check(&who)?.trim(), a.v4().to_string());
    assert_eq!(c.check(&["psql", &both, "-Atc", "select x from t"])?, "42\n");
    Ok(())
}
