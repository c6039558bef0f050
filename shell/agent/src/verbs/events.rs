//! `ebb events`.

use std::sync::Arc;
use std::time::Duration;

use ebb_link::Reply;
use ebb_model::{ServiceName, Why};
use ebb_wire::v1::{EventsRequest, Frame};

use crate::say;
use crate::world::{World, unread};

/// Between two looks at the history while following: other processes write it.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

pub(crate) async fn answer(world: &Arc<World>, request: EventsRequest, reply: &Reply) -> Result<(), Why> {
    let service = match request.service.map(ServiceName::new) {
        None => None,
        Some(Ok(name)) => Some(name),
        Some(Err(error)) => {
            reply.send(say::usage(error.to_string())).await;
            return Ok(());
        }
    };
    let mut newest = world.store().newest_event().map_err(|error| unread(&error))?;
    let (after, last) = request.after.map_or((0, request.last), |after| (after, usize::MAX));
    let kept = world.store().events(after, last, service.as_ref()).map_err(|error| unread(&error))?;
    for (sequence, event) in &kept {
        newest = newest.max(*sequence);
        reply.send(Frame::Event(say::event(*sequence, event))).await;
    }
    while request.follow && !reply.is_gone() {
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = reply.gone() => return Ok(()),
        }
        let fresh = world.store().events(newest, usize::MAX, service.as_ref()).map_err(|error| unread(&error))?;
        for (sequence, event) in &fresh {
            newest = *sequence;
            reply.send(Frame::Event(say::event(*sequence, event))).await;
        }
    }
    Ok(())
}
