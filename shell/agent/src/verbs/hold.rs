//! `ebb hold`, `ebb release`, `ebb holds`.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebb_link::Reply;
use ebb_model::{
    Cidr, Door, End, Event, EventKind, Hold, Learn, Level, MaintenancePlan, Origin, Proto, Record, Requester, Service,
    Span, Up, Who, Why, duration,
};
use ebb_wire::v1::{Frame, HoldReport, HoldRequest, ReleaseRequest, Wish};

use super::services::Known;
use super::status::watched;
use crate::handle::refuse_all;
use crate::world::{World, unread};
use crate::{converge, lockout, look, say};

/// A wish whose words have been checked.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) requester: Requester,
    pub(crate) reason: String,
    pub(crate) for_span: Option<Span>,
    pub(crate) reopen: bool,
    pub(crate) except: BTreeSet<Cidr>,
    /// Who asks.
    pub(crate) by: Who,
}

impl Checked {
    /// Checks the words of a wish; what is wrong comes back all at once.
    pub(crate) fn new(world: &World, wish: &Wish, by: &Who) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let default = world.config().settings.holds.default_reason.clone();
        let reason = if wish.reason.trim().is_empty() { default.unwrap_or_default() } else { wish.reason.clone() };
        if wish.unasked && reason.is_empty() {
            faults.push(
                "with --yes nobody is asked for a reason: give it with --reason TEXT, or settle one for all with \
                 `holds.default_reason` in ebb.toml"
                    .to_owned(),
            );
        }
        let requester = Requester::new(wish.requester.clone());
        if let Err(error) = &requester {
            faults.push(error.to_string());
        }
        let mut except = BTreeSet::new();
        for range in &wish.except {
            match range.parse::<Cidr>() {
                Ok(range) => drop(except.insert(range)),
                Err(fault) => faults.push(fault),
            }
        }
        match requester {
            Ok(requester) if faults.is_empty() => Ok(Self {
                requester,
                reason,
                for_span: wish.for_seconds.map(Span::seconds),
                reopen: wish.reopen,
                except,
                by: by.clone(),
            }),
            _ => Err(faults),
        }
    }
}

impl Checked {
    /// The wish of a maintenance.
    pub(crate) fn of_plan(plan: &MaintenancePlan) -> Self {
        Self {
            requester: plan.requester.clone(),
            reason: plan.reason.clone(),
            for_span: plan.meant_for,
            reopen: plan.reopen,
            except: plan.except.clone(),
            by: plan.by.clone(),
        }
    }

    /// The wish that a hold came from.
    pub(crate) fn again(hold: &Hold) -> Self {
        Self {
            requester: hold.requester.clone(),
            reason: hold.reason.clone(),
            for_span: None,
            reopen: false,
            except: hold.except.clone(),
            by: hold.by.clone(),
        }
    }
}

/// The hold of this wish on a service. A hold of the same requester goes on: it keeps its beginning. Where theirs on the
/// whole server does already what is wished, it is that.
pub(crate) fn merge(world: &World, known: &Known, service: &Service, wish: &Checked, level: Level) -> Hold {
    let now = world.now().wall;
    let theirs = |hold: &&Hold| hold.requester == wish.requester;
    let old = known.holds_of(&service.name).filter(theirs).find(|hold| !hold.whole_server);
    let nothing_more = wish.for_span.is_none() && wish.except.is_empty();
    let with_server =
        known.holds_of(&service.name).filter(theirs).find(|hold| hold.whole_server && hold.level >= level);
    if let (None, Some(hold), true) = (old, with_server, nothing_more) {
        return hold.clone();
    }
    let reason = if wish.reason.is_empty() { old.map_or("", |old| &old.reason) } else { &wish.reason };
    Hold {
        service: service.name.clone(),
        requester: wish.requester.clone(),
        level: old.map_or(level, |old| old.level.max(level)),
        reason: reason.to_owned(),
        by: old.map_or_else(|| wish.by.clone(), |old| old.by.clone()),
        since: old.map_or(now, |old| old.since),
        until: wish.for_span.map_or_else(
            || old.and_then(|old| old.until.clone()),
            |span| {
                let (boot_id, reopen) = (world.boot_id.clone(), wish.reopen);
                Some(End { wall: now + span, boot_id, mono: world.now().mono + span, reopen })
            },
        ),
        except: if wish.except.is_empty() {
            old.map(|old| old.except.clone()).unwrap_or_default()
        } else {
            wish.except.clone()
        },
        whole_server: false,
    }
}

/// What to remember of a service while it is held; goes on from what is remembered already. `learn`: how long the flows
/// that exist are learnt at those of its UDP doors that are not shut yet.
pub(crate) fn record(world: &World, known: &Known, service: &Service, learn: Span) -> Record {
    let (units, sockets, trees) = match &service.origin {
        Origin::Units { units, sockets } => {
            (units.iter().map(|unit| unit.name.clone()).collect(), sockets.clone(), Vec::new())
        }
        Origin::Trees(trees) => (Vec::new(), Vec::new(), trees.clone()),
    };
    let mut record = known.record_of(&service.name).cloned().unwrap_or_else(|| Record {
        service: service.name.clone(),
        doors: BTreeSet::new(),
        added: BTreeSet::new(),
        aliases: BTreeSet::new(),
        units: Vec::new(),
        sockets: Vec::new(),
        trees: Vec::new(),
        drain: None,
        stopped: Vec::new(),
        own_probes: 0,
        refused_before: 0,
        neighbours: BTreeSet::new(),
        learn: None,
    });
    record.doors.extend(&service.doors);
    if matches!(service.origin, Origin::Units { .. }) {
        record.aliases.extend(service.aliases.iter().cloned());
    }
    let doors: BTreeSet<Door> = record.doors.iter().filter(|door| door.proto == Proto::Udp).copied().collect();
    // Who asks for less does not cut short what another began.
    let before = record.learn.take().filter(|before| before.boot_id == world.boot_id);
    let span = before.map_or(learn, |before| before.span.max(learn));
    record.learn = (!doors.is_empty()).then(|| Learn { boot_id: world.boot_id.clone(), span, doors });
    for (into, from) in [(&mut record.units, units), (&mut record.sockets, sockets)] {
        into.extend(from);
        into.sort_unstable();
        into.dedup();
    }
    record.trees = trees;
    record
}

/// Says that a hold was placed.
pub(crate) fn placed(world: &World, hold: &Hold, service: &Service) -> Frame {
    let mut text = format!("{} is held by `{}`", hold.service, hold.requester);
    if !hold.reason.is_empty() {
        text = format!("{text}: {}", hold.reason);
    }
    let event = Event::new(world.now().wall, EventKind::HoldPlaced, &hold.service, text)
        .with("requester", &hold.requester)
        .with("level", hold.level.as_str())
        .with("by", &hold.by.name)
        .with("reason", &hold.reason);
    Frame::Event(say::event(world.record(&event, Some(service)), &event))
}

/// Records an event and makes its frame.
pub(crate) fn tell(world: &World, service: &Service, event: &Event) -> Frame {
    Frame::Event(say::event(world.record(event, Some(service)), event))
}

pub(crate) async fn place(world: &Arc<World>, request: HoldRequest, by: &Who, reply: &Reply) -> Result<(), Why> {
    if request.which.server {
        return super::server::hold(world, request, by, reply).await;
    }
    let wish = match Checked::new(world, &request.wish, by) {
        Ok(wish) => wish,
        Err(faults) => return usage(reply, &faults).await,
    };
    let around = look::around(world).await?;
    let (chosen, refused) = around.which(&request.which, |_| true);
    if refuse_all(reply, &refused).await {
        return Ok(());
    }
    if !request.dry_run {
        converge::check_support()?;
    }
    let learn = Span::seconds(request.learn_seconds);
    for service in chosen {
        if service.doors.is_empty() {
            return Err(look::no_door(service));
        }
        if request.dry_run {
            let mut text =
                format!("would hold {} as `{}` and shut {}", service.name, wish.requester, doors(&service.doors));
            if service.doors.iter().any(|door| door.proto == Proto::Udp) {
                text.push_str(&format!(
                    "; UDP flows are learnt for {} before, unless that is shut already",
                    duration(learn)
                ));
            }
            reply.send(say::note(Some(service.name.as_str()), false, text)).await;
            continue;
        }
        place_one(world, service, &around.services, (&wish, learn), reply).await?;
    }
    Ok(())
}

pub(crate) async fn usage(reply: &Reply, faults: &[String]) -> Result<(), Why> {
    for fault in faults {
        reply.send(say::usage(fault.clone())).await;
    }
    Ok(())
}

async fn place_one(
    world: &World,
    service: &Service,
    services: &[Service],
    (wish, learn): (&Checked, Span),
    reply: &Reply,
) -> Result<(), Why> {
    let mut frames = Vec::new();
    let report = {
        let _lock = world.lock()?;
        let known = Known::read(world)?;
        let hold = merge(world, &known, service, wish, Level::Draining);
        let changed = known.holds.iter().all(|old| *old != hold);
        world.store().place(&hold, &record(world, &known, service, learn)).map_err(|error| unread(&error))?;
        let converged = converge::converge(world, services)?;
        if changed {
            frames.push(placed(world, &hold, service));
        }
        if converged.changed {
            frames.push(tell(world, service, &gate_shut(world, service)));
        }
        let seen = converge::seen(world).ok();
        HoldReport {
            hold: say::hold(&hold),
            changed,
            shut: seen.as_ref().is_some_and(|seen| seen.holds(&service.doors)),
            learning_seconds: say::seconds(seen.and_then(|seen| seen.learning(&service.doors))),
            remaining: others(&known, service, &hold),
        }
    };
    for frame in frames {
        reply.send(frame).await;
    }
    reply.send(Frame::Held(report)).await;
    Ok(())
}

fn doors<'a>(doors: impl IntoIterator<Item = &'a Door>) -> String {
    doors.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Says that the gate of a service was shut: where new connections are refused, and where that comes later.
pub(crate) fn gate_shut(world: &World, service: &Service) -> Event {
    let seen = converge::seen(world).ok();
    let learning = seen.as_ref().and_then(|seen| seen.learning(&service.doors));
    let (learn, refuse): (Vec<&Door>, Vec<&Door>) =
        service.doors.iter().partition(|door| seen.as_ref().is_some_and(|seen| seen.learn.contains_key(door)));
    let event = |text: String| {
        let text = format!("{} {text}", service.name);
        Event::new(world.now().wall, EventKind::GateShut, &service.name, text).with("doors", doors(&service.doors))
    };
    let refuses = format!("refuses new connections at {}", doors(refuse.iter().copied()));
    let Some(left) = learning else { return event(refuses) };
    // As it was asked for, not a moment less.
    let left = duration(Span(left.0.next_multiple_of(1000)));
    let learns =
        format!("learns the UDP flows at {} for {left}, and refuses others then", doors(learn.iter().copied()));
    let text = if refuse.is_empty() { learns } else { format!("{refuses}, {learns}") };
    event(text).with("learning", doors(learn)).with("for", left)
}

fn others(known: &Known, service: &Service, mine: &Hold) -> Vec<ebb_wire::v1::Hold> {
    known.holds_of(&service.name).filter(|hold| !hold.is(mine)).map(say::hold).collect()
}

pub(crate) async fn release(world: &Arc<World>, request: ReleaseRequest, reply: &Reply) -> Result<(), Why> {
    if request.which.server {
        return super::server::release(world, request, reply).await;
    }
    let requester = match Requester::new(request.requester.clone()) {
        Ok(requester) => requester,
        Err(error) => return usage(reply, &[error.to_string()]).await,
    };
    let around = look::around(world).await?;
    let known = Known::read(world)?;
    let mine = |service: &Service| known.holds_of(&service.name).any(|hold| hold.requester == requester);
    let (chosen, refused) = around.which(&request.which, mine);
    if refuse_all(reply, &refused).await {
        return Ok(());
    }
    for service in chosen {
        if !mine(service) {
            let why = Why::NotHeld { service: service.name.clone(), requester: requester.clone() };
            reply.send(say::refusal(Some(service.name.as_str()), &why)).await;
        } else if request.dry_run {
            let text = format!("would release {} from `{requester}`", service.name);
            reply.send(say::note(Some(service.name.as_str()), false, text)).await;
        } else {
            let (frames, report) = release_one(world, service, &around.services, &requester)?;
            if let Err(why) = lockout::converge(world, None).await {
                let text = format!("what kept it from starting could not be taken away: {why}");
                reply.send(say::note(Some(service.name.as_str()), true, text)).await;
            }
            for frame in frames {
                reply.send(frame).await;
            }
            reply.send(Frame::Released(report)).await;
        }
    }
    Ok(())
}

/// A drain that stops its service must have its gate: who came in now would be dropped.
pub(crate) fn not_being_stopped(world: &World, known: &Known, service: &Service) -> Result<(), Why> {
    let record = known.record_of(&service.name).filter(|record| !record.stopped.is_empty());
    match record.and_then(|record| watched(world, record)) {
        Some(pid) => Err(Why::BeingStopped { service: service.name.clone(), pid }),
        None => Ok(()),
    }
}

/// Releases one hold and opens the gate if no other stands.
pub(crate) fn release_one(
    world: &World,
    service: &Service,
    services: &[Service],
    requester: &Requester,
) -> Result<(Vec<Frame>, HoldReport), Why> {
    let _lock = world.lock()?;
    let known = Known::read(world)?;
    let Some(hold) = known.of_requester(&service.name, requester).cloned() else {
        return Err(Why::NotHeld { service: service.name.clone(), requester: requester.clone() });
    };
    not_being_stopped(world, &known, service)?;
    if hold.whole_server {
        super::server::leave_open(world, service, requester)?;
    } else {
        world.store().release(&service.name, requester).map_err(|error| unread(&error))?;
    }
    world.runs.released(&service.name, requester);
    converge::converge(world, services)?;
    let now = world.now().wall;
    let held = duration(now.since(hold.since));
    let text = format!("`{requester}` released {} after {held}", service.name);
    let event =
        Event::new(now, EventKind::HoldReleased, &service.name, text).with("requester", requester).with("held", held);
    let mut frames = vec![tell(world, service, &event)];
    let mut remaining = others(&known, service, &hold);
    // A door that another held service has too stays shut.
    for other in known.held_elsewhere(service).keys() {
        remaining.extend(known.holds_of(other).map(say::hold));
    }
    if remaining.is_empty() {
        let event = gate_opened(world, service, &hold, known.record_of(&service.name));
        frames.push(tell(world, service, &event));
    }
    let shut = !remaining.is_empty();
    let learning = converge::seen(world).ok().and_then(|seen| seen.learning(&service.doors));
    let learning_seconds = say::seconds(learning);
    Ok((frames, HoldReport { hold: say::hold(&hold), changed: true, shut, learning_seconds, remaining }))
}

/// That new connections are let in again, for the last hold was released.
pub(crate) fn gate_opened(world: &World, service: &Service, hold: &Hold, record: Option<&Record>) -> Event {
    let name = &service.name;
    let text = if matches!(service.up, Up::Stopped | Up::Failed) {
        format!("the gate of {name} is open; it does not run, and whoever starts it lets new connections in")
    } else {
        format!("{name} accepts new connections")
    };
    let event = Event::new(world.now().wall, EventKind::GateOpened, name, text)
        .with("requester", &hold.requester)
        .with("by", &hold.by.name)
        .with("reason", &hold.reason);
    // A part of a hold on the whole server: that tells of itself.
    let drain = record.filter(|_| !hold.whole_server).and_then(crate::notices::drain_told);
    drain.map_or(event.clone(), |drain| event.with("drain", drain))
}

pub(crate) async fn list(world: &Arc<World>, reply: &Reply) -> Result<(), Why> {
    let (holds, servers) = {
        let store = world.store();
        (store.holds().map_err(|error| unread(&error))?, store.server_holds().map_err(|error| unread(&error))?)
    };
    for server in &servers {
        reply.send(Frame::Hold(say::server_hold(server))).await;
    }
    for hold in holds.iter().filter(|hold| !hold.whole_server) {
        reply.send(Frame::Hold(say::hold(hold))).await;
    }
    Ok(())
}
