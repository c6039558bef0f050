//! Holds on the whole server: all its services, with those that come later, but for some.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebb_link::Reply;
use ebb_model::{
    End, Event, EventKind, Hold, Level, Record, Requester, ServerHold, Service, ServiceName, Span, Up, Who, Why,
};
use ebb_wire::v1::{Frame, HoldReport, HoldRequest, ReleaseRequest};

use super::hold::{Checked, gate_shut, record, tell, usage};
use super::services::Known;
use crate::handle::refuse_all;
use crate::world::{World, unread};
use crate::{converge, lockout, look, say};

/// The services that a hold on the server means now: those with a door that it does not leave open.
pub(crate) fn covered<'a>(server: &ServerHold, services: &'a [Service]) -> Vec<&'a Service> {
    let runs = |service: &&Service| !matches!(service.up, Up::Stopped | Up::Failed);
    let meant = |service: &&Service| !service.doors.is_empty() && !leaves(server, service);
    services.iter().filter(runs).filter(meant).collect()
}

pub(crate) fn leaves(server: &ServerHold, service: &Service) -> bool {
    let units = look::units_of(service);
    let stems = units.iter().map(|unit| unit.strip_suffix(".service").unwrap_or(unit));
    let names = std::iter::once(service.name.as_str()).chain(service.aliases.iter().map(String::as_str));
    server.leaves(names.chain(stems))
}

/// The hold of this wish on the server. One of the same requester goes on: it keeps its beginning, and what it holds.
pub(crate) fn merge(world: &World, wish: &Checked, level: Level, not: &[ServiceName]) -> Result<ServerHold, Why> {
    let servers = world.store().server_holds().map_err(|error| unread(&error))?;
    let old = servers.into_iter().find(|server| server.requester == wish.requester);
    let now = world.now();
    let until = wish.for_span.map(|span| End {
        wall: now.wall + span,
        boot_id: world.boot_id.clone(),
        mono: now.mono + span,
        reopen: wish.reopen,
    });
    let open: BTreeSet<String> = world.config().settings.holds.server_leaves_open.iter().cloned().collect();
    let mut server = old.unwrap_or_else(|| ServerHold {
        requester: wish.requester.clone(),
        level,
        reason: wish.reason.clone(),
        by: wish.by.clone(),
        since: now.wall,
        until: None,
        except: wish.except.clone(),
        covers: BTreeSet::new(),
        leaves_open: open,
    });
    server.level = server.level.max(level);
    server.until = until.or(server.until);
    if !wish.reason.is_empty() {
        server.reason.clone_from(&wish.reason);
    }
    if !wish.except.is_empty() {
        server.except.clone_from(&wish.except);
    }
    server.leaves_open.extend(not.iter().map(ToString::to_string));
    server.covers.retain(|service| !not.contains(service));
    Ok(server)
}

/// Writes it down with all that must be remembered, and shuts the gates; what comes of it is said.
pub(crate) async fn place(
    world: &World,
    mut server: ServerHold,
    (services, learn): (&[Service], Span),
    reply: &Reply,
) -> Result<ServerHold, Why> {
    let mut frames = Vec::new();
    {
        let _lock = world.lock()?;
        let known = Known::read(world)?;
        let stands = world.store().server_holds().map_err(|error| unread(&error))?;
        let before = stands.iter().find(|one| one.requester == server.requester);
        let fresh: Vec<&Service> =
            covered(&server, services).into_iter().filter(|service| !server.covers.contains(&service.name)).collect();
        server.covers.extend(fresh.iter().map(|service| service.name.clone()));
        let records: Vec<Record> = fresh.iter().map(|service| record(world, &known, service, learn)).collect();
        world.store().place_server(&server, &records).map_err(|error| unread(&error))?;
        if before != Some(&server) {
            frames.push(placed(world, &server));
        }
        if converge::converge(world, services)?.changed {
            frames.extend(fresh.iter().map(|service| tell(world, service, &gate_shut(world, service))));
        }
    }
    for frame in frames {
        reply.send(frame).await;
    }
    Ok(server)
}

fn placed(world: &World, server: &ServerHold) -> Frame {
    let names: Vec<String> = server.covers.iter().map(ToString::to_string).collect();
    let mut text = format!("the whole server is held by `{}`: {}", server.requester, names.join(", "));
    if !server.reason.is_empty() {
        text = format!("{text} ({})", server.reason);
    }
    let event = Event::of_server(world.now().wall, EventKind::HoldPlaced, text)
        .with("requester", &server.requester)
        .with("level", server.level.as_str())
        .with("by", &server.by.name)
        .with("reason", &server.reason)
        .with("services", names.join(" "));
    Frame::Event(say::event(world.record(&event, None), &event))
}

/// `ebb hold --server`
pub(crate) async fn hold(world: &Arc<World>, request: HoldRequest, by: &Who, reply: &Reply) -> Result<(), Why> {
    let wish = match Checked::new(world, &request.wish, by) {
        Ok(wish) => wish,
        Err(faults) => return usage(reply, &faults).await,
    };
    let around = look::around(world).await?;
    let (not, refused) = around.names(&request.which.not);
    if refuse_all(reply, &refused).await {
        return Ok(());
    }
    let mut server = merge(world, &wish, Level::Draining, &not)?;
    let meant = covered(&server, &around.services);
    // What is stopped for somebody's hold is meant too: it must not come back with theirs.
    let known = Known::read(world)?;
    let stopped = around.services.iter().filter(|service| {
        let ours = known.record_of(&service.name).is_some_and(|record| !record.stopped.is_empty());
        ours && !leaves(&server, service)
    });
    let stopped: Vec<&Service> = stopped.collect();
    if request.dry_run {
        for service in meant.iter().chain(&stopped) {
            let text = format!("would hold {} with the whole server as `{}`", service.name, wish.requester);
            reply.send(say::note(Some(service.name.as_str()), false, text)).await;
        }
        return left_open(&server, &around.services, reply).await;
    }
    server.covers.extend(stopped.into_iter().map(|service| service.name.clone()));
    if meant.is_empty() && server.covers.is_empty() {
        return nothing(reply).await;
    }
    converge::check_support()?;
    let server = place(world, server, (&around.services, Span::seconds(request.learn_seconds)), reply).await?;
    left_open(&server, &around.services, reply).await?;
    let seen = converge::seen(world).ok();
    let known = Known::read(world)?;
    let doors: BTreeSet<_> = known
        .records
        .iter()
        .filter(|record| server.covers.contains(&record.service))
        .flat_map(|r| r.doors.clone())
        .collect();
    let report = HoldReport {
        hold: say::server_hold(&server),
        changed: true,
        shut: seen.as_ref().is_some_and(|seen| seen.holds(&doors)),
        learning_seconds: say::seconds(seen.and_then(|seen| seen.learning(&doors))),
        remaining: Vec::new(),
    };
    reply.send(Frame::Held(report)).await;
    Ok(())
}

pub(crate) async fn nothing(reply: &Reply) -> Result<(), Why> {
    reply.send(say::note(None, false, "no service of this server has a door to be held: nothing to do")).await;
    Ok(())
}

/// Says which services stay open, and that this was meant.
pub(crate) async fn left_open(server: &ServerHold, services: &[Service], reply: &Reply) -> Result<(), Why> {
    let open = services.iter().filter(|service| !service.doors.is_empty() && leaves(server, service));
    let names: Vec<String> = open.map(|service| service.name.to_string()).collect();
    if !names.is_empty() {
        let text = format!("stays open: {} (`holds.server_leaves_open` in ebb.toml, or --not)", names.join(", "));
        reply.send(say::note(None, false, text)).await;
    }
    Ok(())
}

/// `ebb release --server`
pub(crate) async fn release(world: &Arc<World>, request: ReleaseRequest, reply: &Reply) -> Result<(), Why> {
    let requester = match Requester::new(request.requester.clone()) {
        Ok(requester) => requester,
        Err(error) => return usage(reply, &[error.to_string()]).await,
    };
    let servers = world.store().server_holds().map_err(|error| unread(&error))?;
    let Some(server) = servers.into_iter().find(|server| server.requester == requester) else {
        let text = format!("`{requester}` does not hold the server: nothing to do");
        reply.send(say::note(None, false, text)).await;
        return Ok(());
    };
    let run = crate::maintenance::current(world)?.filter(|run| run.plan.requester == requester);
    if let Some(run) = run {
        return Err(Why::Halted {
            what: format!(
                "maintenance {} stands on this hold, and has stopped services that must come back",
                run.number
            ),
            help: format!("`{}` brings them back, and releases it", ebb_model::resume_server(requester.as_str())),
        });
    }
    if request.dry_run {
        let names: Vec<String> = server.covers.iter().map(ToString::to_string).collect();
        let text = format!("would release the server from `{requester}`: {}", names.join(", "));
        reply.send(say::note(None, false, text)).await;
        return Ok(());
    }
    let services = look::services(world).await?;
    let remaining = release_all(world, &server, &services, reply).await?;
    let shut = !remaining.is_empty();
    let hold = say::server_hold(&server);
    reply.send(Frame::Released(HoldReport { hold, changed: true, shut, learning_seconds: None, remaining })).await;
    Ok(())
}

/// Releases a hold on the server, and opens the gate of each service that nobody else holds. The holds of others that
/// keep some of them shut are the answer.
pub(crate) async fn release_all(
    world: &World,
    server: &ServerHold,
    services: &[Service],
    reply: &Reply,
) -> Result<Vec<ebb_wire::v1::Hold>, Why> {
    let (known, remaining) = {
        let _lock = world.lock()?;
        let known = Known::read(world)?;
        for service in services.iter().filter(|service| server.covers.contains(&service.name)) {
            super::hold::not_being_stopped(world, &known, service)?;
        }
        world.store().release_server(&server.requester).map_err(|error| unread(&error))?;
        for service in &server.covers {
            world.runs.released(service, &server.requester);
        }
        converge::converge(world, services)?;
        let holds = Known::read(world)?.holds;
        (known, holds.into_iter().filter(|hold| server.covers.contains(&hold.service)).collect::<Vec<Hold>>())
    };
    if let Err(why) = lockout::converge(world, None).await {
        let text = format!("what kept units from starting could not be taken away: {why}");
        reply.send(say::note(None, true, text)).await;
    }
    let text = format!("`{}` released the whole server", server.requester);
    let event = Event::of_server(world.now().wall, EventKind::HoldReleased, text).with("requester", &server.requester);
    reply.send(Frame::Event(say::event(world.record(&event, None), &event))).await;
    for service in services.iter().filter(|service| server.covers.contains(&service.name)) {
        if remaining.iter().all(|hold| hold.service != service.name) {
            let hold = server.on(&service.name);
            let event = super::hold::gate_opened(world, service, &hold, known.record_of(&service.name));
            reply.send(tell(world, service, &event)).await;
        }
    }
    Ok(remaining.iter().map(say::hold).collect())
}

/// Takes one service out of a hold on the server; with the last one that hold goes too. Call it with the lock.
pub(crate) fn leave_open(world: &World, service: &Service, requester: &Requester) -> Result<(), Why> {
    let mut store = world.store();
    let servers = store.server_holds().map_err(|error| unread(&error))?;
    let Some(mut server) = servers.into_iter().find(|server| server.requester == *requester) else { return Ok(()) };
    server.covers.remove(&service.name);
    server.leaves_open.insert(service.name.to_string());
    if server.covers.is_empty() {
        store.release_server(requester).map(drop).map_err(|error| unread(&error))
    } else {
        store.place_server(&server, &[]).map_err(|error| unread(&error))
    }
}

/// Services that have come since the server was held, and are meant by that too: they are held with it. Call it without
/// the lock; the answer is how many.
pub(crate) fn cover_new(world: &World, services: &[Service]) -> Result<Vec<(ServiceName, Requester)>, Why> {
    if world.store().server_holds().is_ok_and(|servers| servers.is_empty()) {
        return Ok(Vec::new());
    }
    let _lock = world.lock()?;
    let servers = world.store().server_holds().map_err(|error| unread(&error))?;
    let mut added = Vec::new();
    for mut server in servers {
        let known = Known::read(world)?;
        let fresh: Vec<&Service> =
            covered(&server, services).into_iter().filter(|service| !server.covers.contains(&service.name)).collect();
        if fresh.is_empty() {
            continue;
        }
        let records: Vec<Record> = fresh.iter().map(|service| record(world, &known, service, Span::ZERO)).collect();
        server.covers.extend(fresh.iter().map(|service| service.name.clone()));
        world.store().place_server(&server, &records).map_err(|error| unread(&error))?;
        added.extend(fresh.iter().map(|service| (service.name.clone(), server.requester.clone())));
    }
    Ok(added)
}
