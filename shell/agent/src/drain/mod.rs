//! `ebb drain`: admission, then the one loop.

mod admit;
mod ending;
mod perform;
mod plan;
mod queue;
pub(crate) mod runs;
mod stop;
mod tracked;
mod views;
pub(crate) mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;

use ebb_link::{Hub, Reply};
use ebb_model::{DrainSpec, Event, EventKind, Queue, Service, ServiceName, Span, Then, When, Who, Why};
use ebb_wire::v1::{self, DrainRequest, WatchRequest};

use crate::handle::refuse_all;
use crate::verbs::hold::{Checked, usage};
use crate::verbs::services::Known;
use crate::verbs::status::watched;
use crate::world::World;
use crate::{converge, look, say};
use runs::Run;
use tracked::Tracked;
use watch::{Outside, Watch};

pub(crate) async fn answer(world: &Arc<World>, request: DrainRequest, by: &Who, reply: &Reply) -> Result<(), Why> {
    let wish = match Checked::new(world, &request.wish, by) {
        Ok(wish) => wish,
        Err(faults) => return usage(reply, &faults).await,
    };
    let spec = match spec(&request) {
        Ok(spec) => spec,
        Err(fault) => return usage(reply, &[format!("--queue: {fault}")]).await,
    };
    let around = look::around(world).await?;
    let services = &around.services;
    let known = Known::read(world)?;
    // A service without a door cannot be held; asked for by name, it is refused with its reason.
    let drainable = |service: &Service| !service.doors.is_empty();
    let (chosen, mut refused) = around.which(&request.which, drainable);
    admit::explain_missing(world, services, &mut refused).await;
    if refuse_all(reply, &refused).await {
        return Ok(());
    }
    if chosen.is_empty() {
        reply.send(say::note(None, false, "no service to drain: nothing to do")).await;
        return Ok(());
    }
    queue::possible(world, &chosen, &spec.queue).await?;
    if request.dry_run {
        return plan::tell_all(world, &chosen, services, &known, &wish, &spec, reply).await;
    }
    converge::check_support()?;
    if spec.then != Then::Ask && spec.deadline.is_some() {
        crate::verbs::end::check_destroy().await?;
    }
    let admission = world.runs.admission.lock().await;
    // What others did while we waited for our turn counts.
    let known = Known::read(world)?;
    let (under_way, fresh): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|service| world.runs.of(&service.name).is_some());
    let tracked = admit_all(world, (&fresh, services), &known, &wish, &spec, reply).await;
    for one in &tracked {
        for warning in admit::warnings(&one.service, &request.which) {
            reply.send(say::note(Some(one.service.name.as_str()), true, warning)).await;
        }
    }
    if !world.resident {
        if !tracked.is_empty() {
            Watch::new(world, services.clone(), tracked, reply, tokio::sync::mpsc::channel(watch::AHEAD)).run().await;
        }
        return Ok(());
    }
    let mut seats = Vec::new();
    for service in under_way {
        if let Some(run) = world.runs.of(&service.name) {
            seats.push((run.hub.join(), BTreeSet::from([service.name.to_string()])));
            let hold = crate::verbs::hold::merge(world, &known, service, &wish, admit::level(&spec));
            let along = admit::stopped_along_beside(world, service, services, &spec).await;
            // A loop that has just ended does not hear it; its end is what the viewer sees.
            let _ = run.outside.send(Outside::Again(Box::new((hold, spec.clone(), along)))).await;
        }
    }
    if !tracked.is_empty() {
        let names = tracked.iter().map(|one| one.service.name.to_string()).collect();
        seats.push((begin(world, services.clone(), tracked).join(), names));
    }
    drop(admission);
    let shown = seats.into_iter().map(|(seat, names)| seat.show(names, reply));
    futures_util::future::join_all(shown).await;
    Ok(())
}

/// Admits those that may begin; why the others may not is said.
async fn admit_all(
    world: &World,
    (fresh, services): (&[&Service], &[Service]),
    known: &Known,
    wish: &Checked,
    spec: &DrainSpec,
    reply: &Reply,
) -> Vec<Tracked> {
    let names: BTreeSet<&ServiceName> = fresh.iter().map(|service| &service.name).collect();
    let mut tracked = Vec::new();
    for service in fresh {
        let along =
            if spec.stop { admit::stopped_along(world, service, services).await } else { admit::Along::default() };
        let others: Vec<_> = along.services.iter().filter(|other| !names.contains(other)).cloned().collect();
        if !others.is_empty() {
            let why = Why::StopsAlso { service: service.name.clone(), others };
            reply.send(say::refusal(Some(service.name.as_str()), &why)).await;
            continue;
        }
        for warning in along.warnings(service, spec) {
            reply.send(say::note(Some(service.name.as_str()), true, warning)).await;
        }
        match admit::admit(world, (service, services), known, wish, spec, None) {
            Ok(admit::Admission::Accept(one)) => {
                let along = along.beside(services);
                tracked.push(Tracked { along: along.units, after: along.services, ..*one });
            }
            Ok(admit::Admission::AlreadySo(text)) => {
                reply.send(say::note(Some(service.name.as_str()), false, text)).await;
            }
            Err(why) => drop(reply.send(say::refusal(Some(service.name.as_str()), &why)).await),
        }
    }
    tracked
}

/// Services with doors that systemd would stop along with this one: they use it.
pub(crate) async fn stopped_along(world: &World, service: &Service, services: &[Service]) -> Vec<ServiceName> {
    admit::stopped_along(world, service, services).await.services
}

/// What to know before a service is drained together with these, and stopped where that is meant.
pub(crate) async fn warnings(
    world: &World,
    (service, services): (&Service, &[Service]),
    together: &v1::Which,
    stop: bool,
) -> Vec<String> {
    let mut warnings = admit::warnings(service, together);
    let spec = DrainSpec { stop, ..DrainSpec::default() };
    let along = admit::stopped_along_beside(world, service, services, &spec).await;
    warnings.extend(along.warnings(service, &spec));
    warnings
}

/// Begins a drain that goes on without viewers.
pub(crate) fn begin(world: &Arc<World>, services: Vec<Service>, tracked: Vec<Tracked>) -> Hub {
    let (hub, reply) = Hub::new();
    let names: Vec<ServiceName> = tracked.iter().map(|one| one.service.name.clone()).collect();
    let (outside, inbox) = tokio::sync::mpsc::channel(watch::AHEAD);
    for one in &tracked {
        let run = Run { hub: hub.clone(), outside: outside.clone(), requester: one.requester.clone() };
        world.runs.add(one.service.name.clone(), run);
    }
    let world = Arc::clone(world);
    tokio::spawn(async move {
        Watch::new(&world, services, tracked, &reply, (outside.clone(), inbox)).run().await;
        for name in &names {
            world.runs.remove(name, &outside);
        }
    });
    hub
}

/// Goes on with what an agent before us left under way: killed, or replaced by us.
pub(crate) async fn adopt(world: &Arc<World>) -> Result<usize, Why> {
    // For the whole of it: nobody begins meanwhile what we are about to go on with.
    let _admission = world.runs.admission.lock().await;
    let known = Known::read(world)?;
    let runs = world.runs.all();
    let left = |record: &ebb_model::Record| {
        let under_way = record.drain.as_ref().is_some_and(|drain| drain.spec.is_some());
        under_way && !runs.contains_key(&record.service) && watched(world, record).is_none()
    };
    if !known.records.iter().any(left) {
        return Ok(0);
    }
    let services = look::services(world).await?;
    let mut tracked = Vec::new();
    for record in known.records.iter().filter(|record| left(record)) {
        let Some(drain) = record.drain.as_ref() else { continue };
        let Some(spec) = &drain.spec else { continue };
        let hold = known.holds_of(&record.service).find(|hold| hold.requester == drain.requester);
        let service = services.iter().find(|service| service.name == record.service);
        let (Some(hold), Some(service)) = (hold, service) else { continue };
        let wish = Checked::again(hold);
        match admit::admit(world, (service, &services), &known, &wish, spec, Some(drain)) {
            Ok(admit::Admission::Accept(one)) => {
                let along = admit::stopped_along_beside(world, service, &services, spec).await;
                tracked.push(Tracked { along: along.units, after: along.services, ..*one });
            }
            Ok(admit::Admission::AlreadySo(_)) => {
                if perform::told(world, &service.name, EventKind::ServiceStopped, drain.began) {
                    continue;
                }
                let text = format!("{} was stopped, drained; that was found after its agent had ended", service.name);
                let event = Event::new(world.now().wall, EventKind::ServiceStopped, &service.name, text);
                world.record(&event, Some(service));
            }
            Err(_) => {}
        }
    }
    let count = tracked.len();
    if count > 0 {
        begin(world, services.clone(), tracked);
    }
    Ok(count)
}

/// `ebb watch`.
pub(crate) async fn watch(world: &Arc<World>, request: &WatchRequest, reply: &Reply) -> Result<(), Why> {
    if !world.resident {
        return Err(Why::Unsupported {
            what: "no agent is resident: no drain goes on without its viewer".to_owned(),
            help: "`ebb drain NAME` goes on with a drain that was left; `systemctl enable --now ebb-agent` makes an agent stay"
                .to_owned(),
        });
    }
    let runs = world.runs.all();
    let (mut seats, mut missing) = (Vec::new(), Vec::new());
    if request.services.is_empty() {
        for (name, run) in &runs {
            seats.push((run.hub.join(), BTreeSet::from([name.to_string()])));
        }
    } else {
        let around = look::around(world).await?;
        let which = v1::Which { services: request.services.clone(), ..v1::Which::default() };
        let (chosen, refused) = around.which(&which, |_| true);
        if refuse_all(reply, &refused).await {
            return Ok(());
        }
        for service in chosen {
            match runs.get(&service.name) {
                Some(run) => seats.push((run.hub.join(), BTreeSet::from([service.name.to_string()]))),
                None => missing.push(service.name.clone()),
            }
        }
    }
    let all = seats.is_empty() && request.services.is_empty();
    if request.rejoin && (all || !missing.is_empty()) {
        ended_meanwhile(world, &missing, all, reply).await?;
        missing.clear();
    }
    for name in missing {
        let text = format!("no drain of {name} is under way; `ebb status {name}` shows it as it is");
        reply.send(say::note(Some(name.as_str()), false, text)).await;
    }
    if all && !request.rejoin {
        reply.send(say::note(None, false, "no drain is under way: nothing to watch")).await;
    }
    let shown = seats.into_iter().map(|(seat, names)| seat.show(names, reply));
    futures_util::future::join_all(shown).await;
    Ok(())
}

/// What became of drains that ended while their viewer was without an agent: drained is no failure, all else is.
async fn ended_meanwhile(world: &World, missing: &[ServiceName], all: bool, reply: &Reply) -> Result<(), Why> {
    let known = Known::read(world)?;
    let records = known.records.iter().filter(|record| all || missing.contains(&record.service));
    let seen: Vec<ServiceName> = records.clone().map(|record| record.service.clone()).collect();
    for record in records {
        let name = &record.service;
        let drain = record.drain.as_ref();
        if drain.is_some_and(|drain| drain.drained_at.is_some() && drain.boot_id == world.boot_id) {
            let text = format!("{name} has been drained meanwhile; `ebb status {name}` shows it as it is");
            reply.send(say::note(Some(name.as_str()), false, text)).await;
        } else {
            reply.send(say::refusal(Some(name.as_str()), &Why::NotDrained { service: name.clone() })).await;
        }
    }
    for name in missing.iter().filter(|name| !seen.contains(name)) {
        reply.send(say::refusal(Some(name.as_str()), &Why::NotDrained { service: name.clone() })).await;
    }
    Ok(())
}

fn spec(request: &DrainRequest) -> Result<DrainSpec, String> {
    Ok(DrainSpec {
        deadline: request.deadline_seconds.map(Span::seconds),
        then: match request.then {
            v1::Then::Ask => Then::Ask,
            v1::Then::End => Then::End,
            v1::Then::Cut => Then::Cut,
        },
        stop: request.stop,
        // Longer than an hour nobody waits for silence; what is asked for may be any number.
        settle: Span(request.settle_ms).min(Span::seconds(3600)),
        grace: Span(request.grace_ms),
        learn: Span::seconds(request.learn_seconds),
        idle: when(request.idle),
        active: when(request.active),
        pace: crate::verbs::end::pace(request.rate_per_second, request.over_seconds),
        queue: request.queue.as_deref().map_or(Ok(Queue::Leave), str::parse)?,
    })
}

const fn when(when: v1::When) -> When {
    match when {
        v1::When::Wait => When::Deadline,
        v1::When::Now => When::Now,
    }
}
