//! `ebb drain`: admission, then the one loop.

mod admit;
mod perform;
mod plan;
mod tracked;
mod watch;

use std::sync::Arc;

use ebb_link::Reply;
use ebb_model::{DrainSpec, Span, Then, Why};
use ebb_wire::v1::{self, DrainRequest};

use crate::handle::refuse_all;
use crate::verbs::hold::{Checked, usage};
use crate::verbs::services::Known;
use crate::world::World;
use crate::{converge, look, say};

pub(crate) async fn answer(world: &Arc<World>, request: DrainRequest, reply: &Reply) -> Result<(), Why> {
    let wish = match Checked::new(&request.wish) {
        Ok(wish) => wish,
        Err(faults) => return usage(reply, &faults).await,
    };
    let spec = spec(&request);
    let services = look::services(world).await?;
    let known = Known::read(world)?;
    // A service without a door cannot be held; asked for by name, it is refused with its reason.
    let drainable = |service: &ebb_model::Service| !service.doors.is_empty();
    let (chosen, mut refused) = look::which(&request.which, &services, drainable);
    admit::explain_missing(world, &mut refused).await;
    if refuse_all(reply, &refused).await {
        return Ok(());
    }
    if chosen.is_empty() {
        reply.send(say::note(None, false, "no service to drain: nothing to do")).await;
        return Ok(());
    }
    if request.dry_run {
        return plan::tell_all(world, &chosen, &services, &known, &wish, &spec, reply).await;
    }
    converge::check_support()?;
    if spec.then != Then::Ask && spec.deadline.is_some() {
        crate::verbs::end::check_destroy().await?;
    }
    let mut tracked = Vec::new();
    for service in chosen {
        match admit::admit(world, service, &known, &wish, &spec) {
            Ok(admit::Admission::Accept(one)) => tracked.push(*one),
            Ok(admit::Admission::AlreadySo(text)) => {
                reply.send(say::note(Some(service.name.as_str()), false, text)).await;
            }
            Err(why) => drop(reply.send(say::refusal(Some(service.name.as_str()), &why)).await),
        }
    }
    for one in &tracked {
        for warning in admit::warnings(&one.service, &request.which) {
            reply.send(say::note(Some(one.service.name.as_str()), true, warning)).await;
        }
    }
    if tracked.is_empty() {
        return Ok(());
    }
    watch::Watch::new(world, services.clone(), tracked, reply).run().await;
    Ok(())
}

fn spec(request: &DrainRequest) -> DrainSpec {
    DrainSpec {
        deadline: request.deadline_seconds.map(Span::seconds),
        then: match request.then {
            v1::Then::Ask => Then::Ask,
            v1::Then::End => Then::End,
            v1::Then::Cut => Then::Cut,
        },
        stop: request.stop,
        settle: Span(request.settle_ms),
        grace: Span(request.grace_ms),
        learn: Span::seconds(request.learn_seconds),
    }
}
