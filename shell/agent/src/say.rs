//! From the model to the wire.

use ebb_model::{
    Abilities, Ability, Age, DaemonKind, Door, Event, EventKind, Hold, Oldest, Outcome, Proof, Reach, Report,
    ServerHold, Service, ServiceName, Session, SessionState, Span, Use, Wall, Why,
};
use std::collections::BTreeSet;

use ebb_wire::v1;
use jiff::Timestamp;

pub(crate) fn time(at: Wall) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Events that somebody should look at.
pub(crate) const fn is_alarm(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::HoldOverdue
            | EventKind::GateLost
            | EventKind::LeakSeen
            | EventKind::DeadlineReached
            | EventKind::ServiceStopFailed
            | EventKind::ServiceEndedElsewhere
            | EventKind::NoticeFailed
    )
}

pub(crate) fn event(sequence: u64, event: &Event) -> v1::Event {
    v1::Event {
        sequence,
        at: time(event.at),
        number: event.kind.number(),
        name: event.kind.as_str().to_owned(),
        service: event.service.as_ref().map(ToString::to_string),
        text: event.text.clone(),
        fields: event.fields.iter().map(|field| (field.name.to_string(), field.value.clone())).collect(),
    }
}

pub(crate) fn door(door: &Door, refused: Option<u64>, gate: v1::Gate, learning: Option<Span>) -> v1::Door {
    let address = match door.reach {
        Reach::Any4 => "0.0.0.0".to_owned(),
        Reach::Any6 => "::".to_owned(),
        Reach::Any => "*".to_owned(),
        Reach::Addr(ip) | Reach::Forward(ip) => ip.to_string(),
    };
    v1::Door {
        proto: door.proto.as_str().to_owned(),
        address,
        port: door.port,
        holdable: true,
        refused,
        gate,
        learning_seconds: seconds(learning),
    }
}

pub(crate) fn hold(hold: &Hold) -> v1::Hold {
    v1::Hold {
        service: hold.service.to_string(),
        requester: hold.requester.to_string(),
        level: hold.level.as_str().to_owned(),
        reason: hold.reason.clone(),
        by: hold.by.name.clone(),
        by_uid: hold.by.uid,
        since: time(hold.since),
        until: hold.until.as_ref().map(|end| time(end.wall)),
        reopens: hold.until.as_ref().is_some_and(|end| end.reopen),
        except: hold.except.iter().map(ToString::to_string).collect(),
        whole_server: hold.whole_server,
        covers: Vec::new(),
    }
}

/// A hold on the server, in a list of holds.
pub(crate) fn server_hold(server: &ServerHold) -> v1::Hold {
    let covers: Vec<String> = server.covers.iter().map(ToString::to_string).collect();
    let any = ServiceName::new(ANY).map(|any| hold(&server.on(&any)));
    any.map_or_else(|_| unreachable!("`{ANY}` is a name"), |hold| v1::Hold { covers, ..hold })
}

/// Stands for the server where a service is named.
const ANY: &str = "*";

pub(crate) fn age(age: Age) -> v1::Age {
    let at_most = match age {
        Age::Exactly(span) | Age::Between(_, span) => Some(span.as_seconds()),
        Age::AtLeast(_) | Age::Unknown => None,
    };
    v1::Age { at_least_seconds: age.at_least().as_seconds(), at_most_seconds: at_most }
}

/// Its client, as far as it is known of one without a connection.
fn peer(session: &Session) -> String {
    match session.state {
        SessionState::Use if session.peer.ip().is_unspecified() => String::new(),
        SessionState::Use if session.peer.port() == 0 => session.peer.ip().to_string(),
        _ => session.peer.to_string(),
    }
}

pub(crate) fn session(session: &Session) -> v1::Session {
    v1::Session {
        id: session.id.to_string(),
        peer: peer(session),
        peer_name: None,
        local: if session.state == SessionState::Use { String::new() } else { session.local.to_string() },
        state: session.state.as_str().to_owned(),
        age: age(session.age),
        idle_seconds: session.idle.as_seconds(),
        bytes_in: session.bytes_in,
        bytes_out: session.bytes_out,
        pid: session.process.as_ref().map(|(pid, _)| *pid),
        process: session.process.as_ref().map(|(_, name)| name.clone()),
        why: session.stay.to_string(),
        user: several(session, |one| one.user.as_deref()),
        what: several(session, |one| one.what.as_deref()),
        uses: session.uses.len() as u64,
        seen_by: session.seen_by.as_str().to_owned(),
        counts: session.counts(),
        at_deadline: None,
    }
}

/// What the uses of a session have in common, or the first of it and how many more.
fn several(session: &Session, of: impl Fn(&Use) -> Option<&str>) -> Option<String> {
    let texts: BTreeSet<&str> = session.uses.iter().filter_map(of).collect();
    let first = texts.first()?;
    Some(if texts.len() > 1 { format!("{first} and {} more", texts.len() - 1) } else { (*first).to_owned() })
}

pub(crate) fn oldest(oldest: &Oldest) -> (String, v1::Age) {
    (oldest.peer.to_string(), age(oldest.age))
}

pub(crate) fn proof(proof: &Proof) -> v1::Proof {
    v1::Proof {
        doors: proof
            .doors
            .iter()
            .map(|door| v1::DoorProof {
                door: door.door.to_string(),
                refused: door.refused.is_ok(),
                why: door.refused.as_ref().err().map(ToString::to_string),
            })
            .collect(),
        empty_for_seconds: proof.empty_for.as_seconds(),
        censuses: proof.censuses,
        cookie_grace_seconds: proof.cookie_grace.as_seconds(),
    }
}

const fn outcome(outcome: &Outcome) -> (v1::Outcome, Option<&Why>) {
    match outcome {
        Outcome::Drained => (v1::Outcome::Drained, None),
        Outcome::Stopped => (v1::Outcome::Stopped, None),
        Outcome::StopFailed(why) => (v1::Outcome::StopFailed, Some(why)),
        Outcome::DeadlineReached => (v1::Outcome::DeadlineReached, None),
        Outcome::EndedElsewhere(why) => (v1::Outcome::EndedElsewhere, Some(why)),
        Outcome::Released(why) => (v1::Outcome::Released, Some(why)),
        Outcome::Failed(why) => (v1::Outcome::Failed, Some(why)),
        Outcome::Detached => (v1::Outcome::Detached, None),
    }
}

pub(crate) fn report(service: &str, requester: &str, report: &Report, stragglers: &[Session]) -> v1::DrainReport {
    let (kind, why) = outcome(&report.outcome);
    v1::DrainReport {
        service: service.to_owned(),
        requester: requester.to_owned(),
        outcome: kind,
        why: why.map(ToString::to_string),
        help: why.and_then(Why::help),
        began: time(report.began),
        took_seconds: report.took.as_seconds(),
        at_start: report.tally.at_start,
        by_themselves: report.tally.by_themselves,
        by_us: report.tally.by_us,
        cut: report.tally.cut,
        left: report.tally.left,
        longest_wait_seconds: report.longest_wait.as_seconds(),
        refused: report.refused,
        proof: report.proof.as_ref().map(proof),
        leaks: report.leaks.iter().map(session).collect(),
        stragglers: stragglers.iter().map(session).collect(),
    }
}

pub(crate) fn refusal(service: Option<&str>, why: &Why) -> v1::Frame {
    let kind = match why {
        Why::NoSuchService { .. } | Why::Ambiguous { .. } | Why::PartOf { .. } => v1::RefusalKind::NoSuchService,
        Why::HeldByOther { .. } | Why::Maintained { .. } => v1::RefusalKind::HeldByOther,
        Why::CalledOff { .. } => v1::RefusalKind::CalledOff,
        Why::NotPermitted { .. } => v1::RefusalKind::NotPermitted,
        Why::Unsupported { .. } | Why::NoDoor { .. } => v1::RefusalKind::Unsupported,
        _ => v1::RefusalKind::Failed,
    };
    v1::Frame::Refused(v1::Refusal {
        service: service.map(str::to_owned),
        kind,
        why: why.to_string(),
        help: why.help(),
    })
}

pub(crate) fn usage(why: impl Into<String>) -> v1::Frame {
    v1::Frame::Refused(v1::Refusal { service: None, kind: v1::RefusalKind::Usage, why: why.into(), help: None })
}

pub(crate) fn note(service: Option<&str>, warning: bool, text: impl Into<String>) -> v1::Frame {
    v1::Frame::Note(v1::Note { service: service.map(str::to_owned), warning, text: text.into() })
}

/// What to know of a service's UDP sockets that are taken for clients': one line, however many there are.
/// Doors that are left to the daemon.
pub(crate) fn own_doors(service: &Service) -> Option<String> {
    let doors: Vec<String> = service.own_doors.iter().map(ToString::to_string).collect();
    (!doors.is_empty())
        .then(|| format!("at {} its daemon refuses new work itself, and the gate leaves them open", doors.join(", ")))
}

fn ability(ability: &Ability) -> v1::Ability {
    let (why, help) = match ability {
        Ability::Ready => (None, None),
        Ability::Never(why) => (Some((*why).to_owned()), None),
        Ability::Missing { what, help } => (Some(what.clone()), Some(help.clone())),
    };
    v1::Ability { can: ability.is_ready(), why, help }
}

pub(crate) fn daemon(kind: DaemonKind, abilities: &Abilities) -> v1::Daemon {
    v1::Daemon {
        kind: kind.as_str().to_owned(),
        version: abilities.version.clone(),
        sessions: ability(&abilities.list),
        refuse: ability(&abilities.refuse),
        end: ability(&abilities.end),
        redirect: ability(&abilities.redirect),
    }
}

pub(crate) fn passed_over(service: &Service) -> Option<String> {
    (!service.passed_over.is_empty()).then(|| ebb_model::passed_over(service.passed_over.iter()))
}

pub(crate) fn seconds(span: Option<Span>) -> Option<f64> {
    span.map(Span::as_seconds)
}
