//! All of ebb.toml at once: guards, notices, protection, holds and maintenance on one server, and through its reboot.

mod common;

use std::time::{Duration, Instant};

use ebb_lab::ebb::{Answer, ebb, watch};
use ebb_lab::load::{Echoes, Knocks};
use ebb_lab::receivers::Receiver;
use ebb_lab::{Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Frame, Maintenance, MaintenanceState, StepState};

use common::{LATE, Outcome, SOON};

const APP: u16 = 7400;
const MAIL: u16 = 2525;
const HOOK: u16 = 8080;

/// With the client's address for `HERE`.
const CONFIG: &str = r#"
[access]
operators = ["tester"]

[service.app]
uses = ["postgresql@15-main"]

[holds]
default_reason = "as planned"
server_leaves_open = ["ssh"]

[protect]
services = ["*"]
shutdown = "refuse"
units = true

[maintenance]
deadline = "2m"
then = "ask"
watch = "12s"

[guard.backup]
kind = "backup"
from = "file"
path = "/srv/backups/*.dump"
warn = "26h"
refuse = "3d"

[guard.web-certificate]
kind = "certificates"
files = ["/etc/ssl/web/*.pem"]

[guard.app]
kind = "command"
command = ["sh", "-c", "test -e /srv/app/well || { echo the app has lost its data; exit 2; }"]

[guard.disk-var]
warn_percent = 2
refuse_percent = 1

[guard.disk-root]
warn_percent = 2
refuse_percent = 1

[guard.last-door]
others = { nginx = ["HERE:8080"] }

[notify.ops]
kind = "mail"
server = "HERE:2525"
from = "ebb <ebb@example.org>"
to = ["ops@example.org"]

[notify.hook]
kind = "webhook"
url = "http://HERE:8080/notices"

[notify.tty]
kind = "wall"
on = ["before", "start"]
"#;

fn app(a: &Server) -> Result<()> {
    roles::echo_script(a)?;
    let unit = format!(
        "[Unit]\nDescription=An application with a database\n[Service]\nExecStart=/usr/bin/python3 /opt/echo.py {APP}\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    a.put("/etc/systemd/system/app.service", unit, 0o644)?;
    a.enable("app.service")?;
    roles::wait_port(a, APP)
}

fn files(a: &Server) -> Result<()> {
    a.check(&["mkdir", "-p", "/srv/backups", "/srv/app", "/etc/ssl/web"])?;
    a.put("/srv/app/well", "", 0o644)?;
    a.put("/srv/backups/app.dump", "data", 0o600)?;
    a.check(&["touch", "-d", "10 days ago", "/srv/backups/app.dump"])?;
    certificate(a, "90")
}

/// Made by openssl, valid for so many days.
fn certificate(a: &Server, days: &str) -> Result<()> {
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=a -days \"$0\" \
                -keyout /dev/null 2>/dev/null";
    let made = std::process::Command::new("sh").args(["-c", make, days]).output();
    let made = made.expect("openssl runs here").stdout;
    a.put("/etc/ssl/web/a.pem", made, 0o644)
}

fn maintenance(a: &Server) -> Result<Option<Maintenance>> {
    let last = |frame| if let Frame::Maintenance(one) = frame { Some(one) } else { None };
    Ok(ebb(a, &["maintenance", "status"])?.frames.into_iter().find_map(last))
}

fn until(a: &Server, state: MaintenanceState, limit: Duration) -> Result<Maintenance> {
    let began = Instant::now();
    loop {
        let now = maintenance(a)?;
        if let Some(now) = now.clone().filter(|now| now.state == state) {
            return Ok(now);
        }
        assert!(began.elapsed() < limit, "not {state:?}: {now:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn history(a: &Server) -> Result<Answer> {
    ebb(a, &["events", "--last", "1000"])
}

/// Which services an event happened to, in order.
fn order(history: &Answer, name: &str) -> Vec<String> {
    let events = ebb_lab::ebb::events(&history.frames).filter(|event| event.name == name);
    events.filter_map(|event| event.service.clone()).collect()
}

fn wait_status(a: &Server, words: &str, there: bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let said = a.exec(&["ebb", "status"])?;
        if said.stderr.contains(words) == there {
            return Ok(());
        }
        assert!(began.elapsed() < LATE, "{words}, {there}: {said:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn reboot_is_refused(a: &Server) -> Result<()> {
    let refused = a.exec(&["systemctl", "reboot"])?;
    assert!(!refused.ok() && refused.stderr.contains("Drain-first:ebb-drain-"), "{refused:?}");
    Ok(())
}

/// Nobody holds anything, and all of it runs.
fn nothing_is_touched(a: &Server) -> Result<()> {
    let holds = ebb(a, &["holds"])?;
    assert!(!holds.frames.iter().any(|frame| matches!(frame, Frame::Hold(_))), "{holds:?}");
    assert!(!a.check(&["nft", "list", "tables"])?.contains("ebb"));
    for unit in ["nginx", "postgresql@15-main", "echo", "app", "ssh"] {
        assert_eq!(a.exec(&["systemctl", "is-active", unit])?.stdout.trim(), "active", "{unit}");
    }
    Ok(())
}

/// How often a notice of this key came to the hook.
fn told(hook: &Receiver, key: &str) -> usize {
    hook.bodies().iter().filter(|body| body["key"] == key).count()
}

#[test]
fn all_of_a_configuration_works_together_through_a_reboot() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("whole")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    let (mails, hook) = (Receiver::mail(&c, MAIL)?, Receiver::hook(&c, HOOK)?);
    roles::nginx(&a)?;
    roles::postgresql(&a)?;
    roles::echo(&a)?;
    app(&a)?;
    roles::sshd(&lab, &a)?;
    files(&a)?;
    a.put("/etc/ebb/ebb.toml", CONFIG.replace("HERE", &c.v4().to_string()), 0o644)?;
    let check = a.exec(&["ebb", "config", "check"])?;
    assert!(check.ok() && !check.stdout.contains("ebb.toml:"), "{check:?}");
    roles::agent(&a)?;

    // A guard refuses: nothing is touched, and somebody is told.
    let refused = ebb(&a, &["maintenance", "start", "--yes"])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    nothing_is_touched(&a)?;
    let trouble = hook_of(&hook, "maintenance/1/trouble/")?;
    assert!(trouble.contains("backup: ") && trouble.contains("as planned"), "{trouble}");
    mails.wait(&["To: ops@example.org", "Subject: a: trouble", "backup: "], SOON)?;
    a.check(&["touch", "/srv/backups/app.dump"])?;

    // Sessions live: they are protected from others, and not from the maintenance.
    let mut echoes = Echoes::open(&c, &a, roles::ECHO_PORT, 5)?;
    let mut apps = Echoes::open(&c, &a, APP, 3)?;
    wait_status(&a, "reboot, poweroff and halt are refused", true)?;
    reboot_is_refused(&a)?;
    let mut viewer = watch(&a, &["maintenance", "start", "--reboot", "--in", "3s", "--reason", "kernel", "--yes"])?;
    viewer.wait_left(5, SOON)?;
    reboot_is_refused(&a)?;
    let stop = a.exec(&["systemctl", "stop", "app"])?;
    assert_eq!(stop.code, Some(4), "who is left is protected from others: {stop:?}");
    for key in ["maintenance/2/before", "maintenance/2/start"] {
        hook.wait(&[&format!("{key}\"")], SOON)?;
    }
    let knocks: Vec<_> = [80, 5432, APP].map(|port| Knocks::begin_through_boots(&c, a.v4().into(), port)).into();
    // What the guards found well is not well any more when the server comes back.
    a.check(&["rm", "/srv/app/well"])?;
    let boots = a.boots();
    echoes.end(5)?;
    apps.end(3)?;
    a.wait_boot_after(boots)?;

    let halted = until(&a, MaintenanceState::Halted, LATE)?;
    let failed = halted.steps.iter().find(|step| step.state == StepState::Failed);
    let failed = failed.unwrap_or_else(|| panic!("no step failed: {halted:#?}"));
    assert!(failed.name == "check" && failed.text.contains("app: the app has lost its data"), "{failed:?}");
    hook.wait(&["maintenance/2/trouble/", "the app has lost its data"], SOON)?;
    for knocked in knocks {
        let knocked = knocked?.finish()?;
        assert!(knocked.accepted == 0 && knocked.refused > 100, "{knocked:?}");
    }
    in_order(&a)?;
    assert_eq!((echoes.finish()?.harmed, apps.finish()?.harmed), (0, 0));

    // Accepted, it is opened and watched; a service that dies then is told.
    let mut finish = watch(&a, &["maintenance", "finish", "--accept-worse", "restored by hand"])?;
    finish.wait_event("GateOpened", LATE)?;
    // The guards are asked once more first.
    std::thread::sleep(Duration::from_secs(2));
    a.check(&["systemctl", "kill", "-s", "KILL", "echo"])?;
    finish.wait_event("RegressionSeen", SOON)?;
    hook.wait(&["maintenance/2/trouble/watch/echo", "watch: echo "], SOON)?;
    a.check(&["systemctl", "reset-failed", "echo"])?;
    a.check(&["systemctl", "start", "echo"])?;
    let over = until(&a, MaintenanceState::Over, LATE)?;
    assert!(over.steps.iter().all(|step| step.state == StepState::Done), "{over:#?}");
    assert!(c.exec(&["curl", "-sf", "--max-time", "5", &a.url("/")])?.ok());

    hook.wait(&["maintenance/2/end\""], SOON)?;
    mails.wait(&["Subject: a: maintenance is over"], SOON)?;
    each_once(&a, &hook, &mails)
}

/// The app is stopped before the database that it uses, and started after it.
fn in_order(a: &Server) -> Outcome {
    let history = history(a)?;
    let place = |name: &str, service: &str| order(&history, name).iter().position(|one| one == service);
    let database = "postgresql@15-main";
    assert!(place("ServiceStopped", "app").is_some(), "{history:?}");
    assert!(place("ServiceStopped", "app") < place("ServiceStopped", database), "{history:?}");
    assert!(place("ServiceStarted", database) < place("ServiceStarted", "app"), "{history:?}");
    Ok(())
}

fn hook_of(hook: &Receiver, key: &str) -> Result<String> {
    hook.wait(&[&format!("\"key\":\"{key}")], SOON)
}

/// Each notice of the maintenance has come once to each, across the reboot.
fn each_once(a: &Server, hook: &Receiver, mails: &Receiver) -> Outcome {
    for occasion in ["before", "start", "end"] {
        assert_eq!(told(hook, &format!("maintenance/2/{occasion}")), 1, "{occasion}: {:#?}", hook.bodies());
    }
    let troubles = hook.bodies().iter().filter(|body| body["occasion"] == "trouble").count();
    assert_eq!(troubles, 3, "guards, check, watch: {:#?}", hook.bodies());
    let subjects = ["maintenance begins at", "maintenance has begun", "maintenance is over", "trouble"];
    let counts = subjects.map(|subject| {
        let head = format!("Subject: a: {subject}");
        mails.got().iter().filter(|mail| mail.contains(&head)).count()
    });
    assert_eq!(counts, [1, 1, 1, 3], "{:#?}", mails.got());
    let history = history(a)?;
    let sent = ebb_lab::ebb::events(&history.frames).filter(|event| event.name == "NoticeSent").count();
    assert_eq!(sent, 6 + 6 + 2, "by the hook, by mail, by wall: {history:?}");
    assert_eq!(history.event_names().iter().filter(|name| **name == "NoticeFailed").count(), 0, "{history:?}");
    let list = a.check(&["ebb", "notify", "list"])?;
    assert!(!list.contains("error"), "{list}");
    Ok(())
}
