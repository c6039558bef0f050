//! `ebb protect`: lifts the protection of sessions, and restores it.

use std::sync::Arc;

use ebb_link::Reply;
use ebb_model::{Span, Who, Why};
use ebb_wire::v1::{Frame, ProtectRequest};

use crate::world::World;
use crate::{protect, say};

pub(crate) async fn answer(world: &Arc<World>, request: ProtectRequest, by: &Who, reply: &Reply) -> Result<(), Why> {
    if request.off && request.reason.trim().is_empty() {
        reply.send(say::usage("protection is lifted for a reason: add --reason TEXT")).await;
        return Ok(());
    }
    let event = if request.off {
        let length = request.for_seconds.map(Span::seconds);
        Some(protect::lift(world, &by.name, &request.reason, length).await?)
    } else {
        protect::restore(world, &by.name)?
    };
    match event {
        Some(event) => {
            let sequence = world.record(&event, None);
            reply.send(Frame::Event(say::event(sequence, &event))).await;
        }
        None => {
            reply.send(say::note(None, false, "protection was not lifted: nothing is changed")).await;
        }
    }
    if protect::settings(world).services.is_empty() {
        reply.send(say::note(None, true, "no service is protected: `[protect]` in ebb.toml names none")).await;
    } else if !request.off && !world.resident {
        reply.send(say::note(None, true, "no agent is resident: nothing is protected without one")).await;
    }
    Ok(())
}
