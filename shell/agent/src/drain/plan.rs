//! `ebb drain --dry-run`: what would happen, to whom.

use std::sync::Arc;

use ebb_link::Reply;
use ebb_model::{DrainSpec, Origin, Pace, Proto, Service, Session, SessionState, Then, When, Why, duration};
use ebb_systemd::UnitName;
use ebb_wire::v1::{self, Frame, Plan, Sort};

use super::admit::warnings;
use crate::look::no_door;
use crate::observe::{self, Book};
use crate::verbs::hold::Checked;
use crate::verbs::outlook::Outlook;
use crate::verbs::services::{Known, tell};
use crate::verbs::sessions::{pids, sort};
use crate::world::World;
use crate::{converge, daemons, say};

/// Sessions that a plan names.
const NAMED: usize = 20;

pub(crate) async fn tell_all(
    world: &Arc<World>,
    chosen: &[&Service],
    services: &[Service],
    known: &Known,
    wish: &Checked,
    spec: &DrainSpec,
    reply: &Reply,
) -> Result<(), Why> {
    let book = Book::of(services);
    let seen = converge::seen(world).ok();
    for service in chosen {
        if service.doors.is_empty() {
            return Err(no_door(service));
        }
        let (one, its) = ((*service).clone(), book.clone());
        let sessions = tokio::task::spawn_blocking(move || observe::sessions(&its, &one.name, None))
            .await
            .map_err(|error| Why::Unread { what: "the sessions".into(), cause: error.to_string() })?;
        let mut warnings = warnings(service, &v1::Which::default());
        warnings.extend(stop_warnings(world, service, spec).await);
        let mut sessions = sessions.unwrap_or_else(|why| {
            warnings.push(why.to_string());
            Vec::new()
        });
        if let Some(Err(why)) = daemons::join(world, service, &mut sessions).await {
            warnings.push(format!("the kernel's view alone: {why}"));
        }
        sessions.retain(|session| session.state != SessionState::Orphan);
        let total = sessions.len() as u64;
        sort(&mut sessions, Sort::Age);
        sessions.truncate(NAMED);
        observe::add_processes(&mut sessions, &pids(service));
        let outlook = Outlook::of_spec(world, service, spec);
        let mut outlook = outlook.as_ref().map(Outlook::ready);
        let mut told = |session: &Session| v1::Session {
            at_deadline: outlook.as_mut().map(|outlook| outlook.of(session)),
            ..say::session(session)
        };
        let plan = Plan {
            service: tell(service, known, None, seen.as_ref()),
            steps: steps(service, wish, spec, seen.as_ref()),
            warnings,
            sessions: sessions.iter().map(&mut told).collect(),
            total,
            eta: crate::verbs::eta::of_plan(world, service, &book, spec.deadline).await,
        };
        reply.send(Frame::Plan(plan)).await;
    }
    Ok(())
}

fn steps(service: &Service, wish: &Checked, spec: &DrainSpec, seen: Option<&converge::Seen>) -> Vec<String> {
    let name = &service.name;
    let reason = if wish.reason.is_empty() { String::new() } else { format!(" ({})", wish.reason) };
    let mut steps = vec![format!("write the hold of `{}` on {name}{reason} to disk", wish.requester)];
    for door in &service.doors {
        let shut = seen.is_some_and(|seen| seen.shut.contains_key(door));
        let how = match door.proto {
            Proto::Tcp => "refuse new connections with a TCP reset".to_owned(),
            Proto::Udp if shut => "it is shut already: flows that exist go on, others are refused".to_owned(),
            Proto::Udp => format!("learn the flows that exist for {}, then refuse others", duration(spec.learn)),
            Proto::Quic => "refuse new QUIC connections by their Initial packets".to_owned(),
        };
        steps.push(format!("at {door}: {how}"));
    }
    if !wish.except.is_empty() {
        let ranges: Vec<_> = wish.except.iter().map(ToString::to_string).collect();
        steps.push(format!("let {} in all the same", ranges.join(", ")));
    }
    steps.push("probe each TCP door: it must be refused".to_owned());
    steps.extend(super::queue::words(&spec.queue));
    let deadline = match (spec.deadline, spec.then) {
        (None, _) => "without a deadline".to_owned(),
        (Some(span), Then::Ask) => {
            format!("for {} at most; then say who remains and change nothing more", duration(span))
        }
        (Some(span), Then::End) => {
            format!("for {}; then end who remains: goodbye, {} of grace, destroy", duration(span), duration(spec.grace))
        }
        (Some(span), Then::Cut) => format!("for {}; then destroy the connections that remain", duration(span)),
    };
    steps.extend(endings(spec));
    steps.push(format!("wait until no session has been left for {}, {deadline}", duration(spec.settle)));
    if spec.stop {
        steps.extend(stop_steps(service));
    } else {
        steps.push(format!("leave {name} running, drained and held"));
    }
    steps
}

/// What is ended before the deadline, and how fast.
fn endings(spec: &DrainSpec) -> Option<String> {
    let who = match (spec.idle, spec.active) {
        (When::Now, When::Now) => "say goodbye to everybody at once",
        (When::Now, When::Deadline) => "say goodbye to those who are idle, also to those who become so",
        (When::Deadline, When::Now) => "say goodbye to those who are at work",
        (When::Deadline, When::Deadline) if spec.then == Then::Ask => return None,
        (When::Deadline, When::Deadline) => "endings at the deadline",
    };
    let pace = match spec.pace {
        Pace { per_hour: Some(rate), .. } if rate >= 3600 => format!(", {} a second at most", rate / 3600),
        Pace { per_hour: Some(rate), .. } => format!(", {rate} an hour at most"),
        Pace { over: Some(span), .. } => format!(", spread over {}", duration(span)),
        Pace { .. } if spec.idle == spec.active && spec.idle == When::Deadline => return None,
        Pace { .. } => String::new(),
    };
    Some(format!("{who}{pace}, the idle first"))
}

fn stop_steps(service: &Service) -> Vec<String> {
    match &service.origin {
        Origin::Units { units, sockets } => sockets
            .iter()
            .chain(units.iter().map(|unit| &unit.name))
            .map(|unit| format!("stop {unit}, and wait until it has stopped"))
            .collect(),
        Origin::Trees(trees) => trees
            .iter()
            .map(|tree| format!("send SIGTERM to {} (pid {}), and wait until it has ended", tree.executable, tree.root))
            .collect(),
    }
}

async fn stop_warnings(world: &World, service: &Service, spec: &DrainSpec) -> Vec<String> {
    if !spec.stop {
        return Vec::new();
    }
    let (Origin::Units { units, .. }, Some(systemd)) = (&service.origin, &world.systemd) else {
        let text =
            format!("{} was started by hand: `ebb resume` can verify and open it, but not start it", service.name);
        return vec![text];
    };
    let mut warnings = Vec::new();
    for unit in units {
        let Ok(name) = UnitName::new(&unit.name) else { continue };
        match systemd.unit(&name).await {
            Ok(unit) => warnings.extend(unit.stop_warnings().iter().map(|warning| format!("{}: {warning}", unit.name))),
            Err(error) => warnings.push(format!("{} could not be read: {error}", unit.name)),
        }
    }
    warnings
}
