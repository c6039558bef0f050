//! Who may, who else holds, what is meant: requesters, testers, names, permissions.

mod common;

use ebb_lab::ebb::{Answer, ebb, watch};
use ebb_lab::load::Echoes;
use ebb_lab::{Client, Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Outcome as Came, RefusalKind};

use common::{LATE, Outcome, SOON};

const ECHO: u16 = roles::ECHO_PORT;

fn is_refused(client: &Client, server: &Server, port: u16) -> Result<bool> {
    let url = format!("http://{}:{port}/", server.v4());
    Ok(client.exec(&["curl", "-sS", "--max-time", "2", &url])?.code == Some(7))
}

fn is_active(server: &Server, unit: &str) -> Result<String> {
    Ok(server.exec(&["systemctl", "is-active", unit])?.stdout.trim().to_owned())
}

fn refused(answer: &Answer) -> (Option<i32>, RefusalKind, String) {
    let refusal = answer.refusals()[0];
    (answer.code, refusal.kind, format!("{} {}", refusal.why, refusal.help.clone().unwrap_or_default()))
}

#[test]
fn a_hold_is_somebodys() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("holders")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    assert_eq!(ebb(&a, &["hold", "echo", "--as", "deploy", "--reason", "release 7"])?.code, Some(0));
    let again = ebb(&a, &["hold", "echo", "--as", "deploy"])?;
    assert_eq!((again.code, again.event_names()), (Some(0), vec![]), "already so: {again:?}");
    assert_eq!(ebb(&a, &["hold", "echo"])?.code, Some(0));
    let holds = ebb(&a, &["holds"])?;
    assert_eq!(holds.frames.len(), 3, "two and done: {holds:?}");

    let answer = ebb(&a, &["resume", "echo"])?;
    let (code, kind, text) = refused(&answer);
    assert_eq!((code, kind), (Some(5), RefusalKind::HeldByOther), "{answer:?}");
    assert!(text.contains("`deploy`") && text.contains("release 7"), "{text}");
    assert!(is_refused(&c, &a, ECHO)?);
    let (code, _, text) = refused(&ebb(&a, &["resume", "echo"])?);
    assert_eq!(code, Some(5), "it is not mine any more: {text}");
    let resumed = ebb(&a, &["resume", "echo", "--as", "deploy"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(!is_refused(&c, &a, ECHO)?);
    assert_eq!(Echoes::open(&c, &a, ECHO, 1)?.finish()?.ended, 1);

    // Drained by one, held by another: it comes back with the last of them.
    let drained = ebb(&a, &["drain", "echo", "--as", "deploy"])?;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert_eq!(ebb(&a, &["hold", "echo", "--as", "operator"])?.code, Some(0));
    assert_eq!(ebb(&a, &["resume", "echo", "--as", "deploy"])?.code, Some(5));
    assert_eq!(is_active(&a, "echo")?, "inactive");
    let resumed = ebb(&a, &["resume", "echo", "--as", "operator"])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(resumed.resumes()[0].started, "{resumed:?}");
    assert!(!is_refused(&c, &a, ECHO)?);
    Ok(())
}

#[test]
fn testers_are_let_in_and_a_drained_service_may_run_on() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("testers")?;
    let (a, c, tester) = (lab.server("a")?, lab.client("c")?, lab.client("tester")?);
    roles::echo(&a)?;
    let sessions = Echoes::open(&c, &a, ECHO, 2)?;
    let range = format!("{}/32", tester.v4());
    let mut drain = watch(&a, &["drain", "echo", "--no-stop", "--except", &range])?;
    drain.wait_event("GateProven", SOON)?;
    assert!(is_refused(&c, &a, ECHO)?);
    let testing = Echoes::open(&tester, &a, ECHO, 2)?;
    assert_eq!(sessions.finish()?.harmed, 0);
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome), (Some(0), Came::Drained), "{answer:?}");
    assert_eq!((report.at_start, report.by_themselves, report.leaks.len()), (2, 2, 0), "{report:?}");
    assert_eq!(is_active(&a, "echo")?, "active");
    let status = ebb(&a, &["status", "echo"])?;
    assert_eq!(status.statuses()[0].service.state, "drained", "{status:?}");
    assert_eq!(testing.finish()?.harmed, 0, "testers go on testing");
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));
    assert!(!is_refused(&c, &a, ECHO)?);
    Ok(())
}

#[test]
fn two_at_once_and_what_cannot_be_meant() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("words")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::nginx(&a)?;
    roles::echo(&a)?;
    let sessions = Echoes::open(&c, &a, ECHO, 3)?;

    let (code, kind, text) = refused(&ebb(&a, &["drain", "ngnix"])?);
    assert_eq!((code, kind), (Some(10), RefusalKind::NoSuchService));
    assert!(text.contains("did you mean nginx"), "{text}");
    let (code, _, text) = refused(&ebb(&a, &["drain", "nginx", "eco"])?);
    assert!(code == Some(10) && text.contains("echo"), "{text}");
    assert!(!is_refused(&c, &a, 80)?, "one wrong name, and nothing is begun");

    let planned = ebb(&a, &["drain", "nginx", "echo", "--deadline", "1s", "--then", "cut", "--dry-run"])?;
    let text = format!("{planned:?}");
    assert_eq!(planned.code, Some(0), "{text}");
    assert!(text.contains("after 5s is killed"), "what Debian's nginx does: {text}");
    assert!(ebb(&a, &["holds"])?.frames.len() == 1 && !is_refused(&c, &a, 80)?, "nothing was done");
    assert_eq!(a.check(&["nft", "list", "tables"])?, "");

    let as_tester = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "ebb"];
    let out = a.exec(&[&as_tester[..], &["drain", "nginx", "--json"]].concat())?;
    assert_eq!(out.code, Some(8), "{out:?}");
    assert!(!is_refused(&c, &a, 80)?);
    let out = a.exec(&[&as_tester[..], &["services", "--json"]].concat())?;
    assert!(out.ok() && out.stdout.contains("\"nginx\""), "reading needs no root: {out:?}");

    let mut drain = watch(&a, &["drain", "nginx", "echo"])?;
    // Each by itself: nginx has nobody, and does not wait for echo.
    drain.wait_event("ServiceStopped", LATE)?;
    assert_eq!((is_active(&a, "nginx")?, is_active(&a, "echo")?), ("inactive".into(), "active".into()));
    assert!(is_refused(&c, &a, 80)? && is_refused(&c, &a, ECHO)?);
    assert_eq!(sessions.finish()?.harmed, 0);
    let answer = drain.wait(LATE)?;
    let came: Vec<_> = answer.drains().iter().map(|report| (report.service.clone(), report.outcome)).collect();
    assert_eq!(came, [("nginx".to_owned(), Came::Stopped), ("echo".to_owned(), Came::Stopped)], "{answer:?}");
    assert_eq!(answer.code, Some(0));
    let resumed = ebb(&a, &["resume", "--all"])?;
    assert_eq!((resumed.code, resumed.resumes().len()), (Some(0), 2), "{resumed:?}");
    Ok(())
}

#[test]
fn a_wrapper_unit_means_its_instances() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("wrapper")?;
    let a = lab.server("a")?;
    roles::postgresql(&a)?;
    // A second cluster: the wrapper's name is two services now.
    a.check(&["pg_createcluster", "15", "other"])?;
    a.check(&["systemctl", "start", "postgresql@15-other"])?;
    let (code, kind, text) = refused(&ebb(&a, &["drain", "postgresql.service"])?);
    assert_eq!((code, kind), (Some(10), RefusalKind::NoSuchService), "{text}");
    assert!(text.contains("postgresql@15-main") && text.contains("postgresql@15-other"), "{text}");
    let drained = ebb(&a, &["drain", "postgresql@15-other"])?;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert!(
        drained.notes().iter().any(|note| note.contains("/var/run/postgresql/.s.PGSQL.5433")),
        "a unix socket is a door that is not held: {drained:?}"
    );
    assert_eq!(is_active(&a, "postgresql@15-main")?, "active");
    assert_eq!(ebb(&a, &["resume", "postgresql@15-other"])?.code, Some(0));
    Ok(())
}
