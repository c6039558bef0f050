//! One of each frame, for tests.

use std::collections::BTreeMap;

use ebb_wire::v1::{
    Advice, Age, BestHour, Checked, Door, DoorProof, DrainReport, EndReport, Eta, Event, Fault, Finding, Forecast,
    Frame, Gate, Guard, Hold, HoldReport, Listed, Maintenance, MaintenanceState, Note, Noticed, Notifier, Outcome,
    Plan, Progress, Proof, Refusal, RefusalKind, ResumeReport, Service, Session, Setting, Status, Step, StepState,
    Trend, Verdict,
};
use jiff::tz::TimeZone;

use crate::render::View;

pub fn view() -> View {
    View { zone: TimeZone::UTC, now: "2026-11-21T07:30:00Z".parse().unwrap(), width: None }
}

pub fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

pub fn door() -> Door {
    Door {
        proto: "tcp".to_owned(),
        address: "0.0.0.0".to_owned(),
        port: 80,
        holdable: true,
        refused: None,
        gate: Gate::Open,
        learning_seconds: None,
    }
}

pub fn hold() -> Hold {
    Hold {
        service: "nginx".to_owned(),
        requester: "deploy".to_owned(),
        level: "stopped".to_owned(),
        reason: "release 41".to_owned(),
        by: "ci".to_owned(),
        by_uid: 1001,
        since: "2026-11-21T06:50:00Z".parse().unwrap(),
        until: None,
        reopens: false,
        except: Vec::new(),
        whole_server: false,
        covers: Vec::new(),
    }
}

pub fn fault() -> Fault {
    Fault {
        file: "/etc/ebb/ebb.toml".to_owned(),
        line: Some(3),
        column: Some(1),
        what: "there is no key `unit` in [service.mail]".to_owned(),
        hint: Some("did you mean `units`?".to_owned()),
        warning: false,
    }
}

pub fn checked() -> Checked {
    Checked { files: vec!["/etc/ebb/ebb.toml".to_owned()], faults: 1, warnings: 0, unseen: None }
}

pub fn setting() -> Setting {
    Setting {
        key: "guard.disk-root.warn_percent".to_owned(),
        value: Some("15".to_owned()),
        file: Some("/etc/ebb/ebb.toml.d/10-disk.toml".to_owned()),
        line: Some(2),
    }
}

pub fn service() -> Service {
    Service {
        name: "nginx".to_owned(),
        state: "open".to_owned(),
        sessions: Some(212),
        doors: vec![door(), Door { port: 443, ..door() }],
        start: "enabled".to_owned(),
        units: vec!["nginx.service".to_owned()],
        pids: Vec::new(),
        shared_with: Vec::new(),
        holders: Vec::new(),
        remarks: Vec::new(),
        daemon: None,
    }
}

pub fn session() -> Session {
    Session {
        id: "1a2f".to_owned(),
        peer: "10.0.0.7:51234".to_owned(),
        peer_name: None,
        local: "10.0.0.1:80".to_owned(),
        state: "established".to_owned(),
        age: Age { at_least_seconds: 2460.0, at_most_seconds: None },
        idle_seconds: 12.0,
        bytes_in: 1500,
        bytes_out: 33_000_000,
        pid: Some(812),
        process: Some("nginx".to_owned()),
        why: "idle".to_owned(),
        user: None,
        what: None,
        uses: 0,
        seen_by: "kernel".to_owned(),
        counts: true,
        at_deadline: None,
    }
}

pub fn progress() -> Progress {
    Progress {
        service: "nginx".to_owned(),
        doing: "draining".to_owned(),
        state: "draining".to_owned(),
        left: Some(37),
        not_accepted: 0,
        at_start: 212,
        oldest_peer: Some("10.0.0.7:51234".to_owned()),
        oldest_age: Some(Age { at_least_seconds: 2460.0, at_most_seconds: None }),
        ending_per_minute: 12.0,
        elapsed_seconds: 190.0,
        deadline_in_seconds: Some(1610.0),
        refused: 31,
        why: "37 sessions are left".to_owned(),
        eta: None,
    }
}

pub fn report() -> DrainReport {
    let proven = |door: &str| DoorProof { door: door.to_owned(), refused: true, why: None };
    DrainReport {
        service: "nginx".to_owned(),
        requester: "operator".to_owned(),
        outcome: Outcome::Stopped,
        why: None,
        help: None,
        began: "2026-11-21T07:01:28Z".parse().unwrap(),
        took_seconds: 724.0,
        at_start: 212,
        by_themselves: 209,
        by_us: 2,
        cut: 1,
        left: 0,
        longest_wait_seconds: 718.0,
        refused: 31,
        proof: Some(Proof {
            doors: vec![proven("tcp 0.0.0.0:80"), proven("tcp 0.0.0.0:443")],
            empty_for_seconds: 2.0,
            censuses: 4,
            cookie_grace_seconds: 0.0,
        }),
        leaks: Vec::new(),
        stragglers: Vec::new(),
    }
}

pub fn resumed() -> ResumeReport {
    ResumeReport {
        service: "nginx".to_owned(),
        was_held: true,
        started: true,
        open: true,
        verified: vec!["tcp 0.0.0.0:80".to_owned(), "tcp 0.0.0.0:443".to_owned()],
        took_seconds: 1.25,
        remaining: Vec::new(),
    }
}

pub fn held() -> HoldReport {
    let hold = Hold {
        requester: "operator".to_owned(),
        reason: "kernel upgrade".to_owned(),
        by: "root".to_owned(),
        by_uid: 0,
        ..hold()
    };
    HoldReport { hold, changed: true, shut: true, learning_seconds: None, remaining: Vec::new() }
}

pub fn event() -> Event {
    Event {
        sequence: 17,
        at: "2026-11-21T07:01:28Z".parse().unwrap(),
        number: 201,
        name: "GateShut".to_owned(),
        service: Some("nginx".to_owned()),
        text: "the gate is shut at 2 doors".to_owned(),
        fields: BTreeMap::from([("doors".to_owned(), "2".to_owned())]),
    }
}

pub fn finding() -> Finding {
    Finding {
        service: Some("nginx".to_owned()),
        what: "it is held, but open at tcp *:80".to_owned(),
        mend: "ebb drain nginx".to_owned(),
    }
}

pub fn guard() -> Guard {
    Guard {
        name: "failed-units".to_owned(),
        verdict: Some(Verdict::Refuse),
        why: "postfix@-.service has failed".to_owned(),
        measured: Some(1.0),
        measured_in: Some("count".to_owned()),
        amiss: vec!["postfix@-.service".to_owned()],
        trend: Some(Trend::Worse),
        verdict_before: Some(Verdict::Pass),
        regression: true,
    }
}

pub fn notifier() -> Notifier {
    Notifier {
        name: "ops".to_owned(),
        way: Some("mail".to_owned()),
        via: Some("mail.example.org:587".to_owned()),
        to: vec!["ops@example.org".to_owned()],
        on: vec!["start".to_owned(), "trouble".to_owned()],
        queued: 1,
        failed: 0,
        sent: 12,
        next: Some("2026-11-21T07:05:00Z".parse().unwrap()),
        last_error: Some("no answer within 10 s".to_owned()),
    }
}

pub fn noticed() -> Noticed {
    Noticed {
        notifier: "ops".to_owned(),
        recipient: Some("ops@example.org".to_owned()),
        sent: true,
        why: None,
        remarks: Vec::new(),
        took_seconds: 0.4,
    }
}

pub fn note() -> Note {
    Note { service: Some("nginx".to_owned()), warning: true, text: "clients may retry".to_owned() }
}

pub fn refusal(kind: RefusalKind) -> Refusal {
    Refusal { service: Some("nginx".to_owned()), kind, why: "it was not done".to_owned(), help: None }
}

pub fn ended() -> EndReport {
    EndReport {
        service: "nginx".to_owned(),
        dry_run: false,
        chosen: 37,
        by_themselves: 4,
        by_us: 30,
        cut: 3,
        failed: 0,
        why: None,
        took_seconds: 5.2,
    }
}

pub fn listed() -> Listed {
    Listed {
        service: "nginx".to_owned(),
        total: 212,
        shown: 100,
        orphans: 3,
        advice: vec![Advice {
            why: "idle".to_owned(),
            count: 180,
            text: "an end loses nothing: `ebb drain nginx --idle now`".to_owned(),
        }],
    }
}

pub fn eta() -> Eta {
    let at = |hour: &str| format!("2026-11-2{hour}:00Z").parse().unwrap();
    Eta {
        service: "nginx".to_owned(),
        from: at("1T07:30"),
        sessions: Some(212),
        usual: false,
        recorded: 4000,
        needed: 200,
        forecast: Some(Forecast {
            half_seconds: 360.0,
            most_seconds: 1500.0,
            nearly_all_seconds: 4440.0,
            last_seconds: 4800.0,
            last_from_seconds: 2160.0,
            last_to_seconds: 9840.0,
            left_at_deadline: Some(17.0),
            beyond: 0,
        }),
        deadline_seconds: Some(1800),
        best: Some(BestHour { at: at("2T04:00"), sessions: 12, most_seconds: 1500.0, last_to_seconds: 4800.0 }),
    }
}

pub fn plan() -> Plan {
    Plan {
        service: service(),
        steps: vec!["place a hold of operator".to_owned(), "shut the gate at 2 doors".to_owned()],
        warnings: vec!["nginx cuts what is left 5 s after its stop".to_owned()],
        sessions: vec![session()],
        total: 212,
        eta: Some(Eta { best: None, ..eta() }),
    }
}

pub fn status() -> Status {
    Status {
        service: Service { state: "draining".to_owned(), sessions: Some(37), holders: vec![held().hold], ..service() },
        gate: Gate::Shut,
        learning_seconds: None,
        refused: 31,
        at_start: Some(212),
        began: Some("2026-11-21T07:01:28Z".parse().unwrap()),
        drained_at: None,
        stopped_by_us: false,
        watched_by_pid: Some(4711),
        leaks: 0,
        next: vec!["ebb drain nginx".to_owned(), "ebb resume nginx".to_owned()],
    }
}

pub fn step() -> Step {
    Step {
        number: 3,
        of: 9,
        name: "drain 1".to_owned(),
        services: vec!["nginx".to_owned()],
        state: StepState::Done,
        text: "drained and stopped: nginx".to_owned(),
        took_seconds: Some(75.0),
    }
}

pub fn maintenance() -> Maintenance {
    Maintenance {
        run: 4,
        state: MaintenanceState::InWork,
        requester: "maintenance".to_owned(),
        by: "ana".to_owned(),
        reason: "new disks".to_owned(),
        held: true,
        drill: false,
        work: "by hand".to_owned(),
        began: "2026-11-21T07:00:00Z".parse().unwrap(),
        until: None,
        took_seconds: 90.0,
        steps: vec![step()],
        next: vec!["ebb maintenance finish".to_owned()],
    }
}

/// One of each.
pub fn frames() -> Vec<Frame> {
    vec![
        Frame::Event(event()),
        Frame::Progress(progress()),
        Frame::Session(session()),
        Frame::Service(service()),
        Frame::Hold(hold()),
        Frame::Plan(plan()),
        Frame::Note(note()),
        Frame::Finding(finding()),
        Frame::Step(step()),
        Frame::Maintenance(maintenance()),
        Frame::Fault(fault()),
        Frame::Checked(checked()),
        Frame::Setting(setting()),
        Frame::Guard(guard()),
        Frame::Drained(report()),
        Frame::Resumed(resumed()),
        Frame::Status(status()),
        Frame::Ended(ended()),
        Frame::Listed(listed()),
        Frame::Eta(eta()),
        Frame::Held(held()),
        Frame::Released(HoldReport { shut: false, ..held() }),
        Frame::Notifier(notifier()),
        Frame::Noticed(noticed()),
        Frame::Refused(refusal(RefusalKind::Failed)),
        Frame::Done,
    ]
}
