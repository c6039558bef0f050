//! Holds that were given an end: a warning before it, then the service is brought back, or an alarm is raised.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebb_decide::expiry::{Due, due};
use ebb_link::Hub;
use ebb_model::{End, Event, EventKind, Hold, Requester, ServiceName, duration};
use ebb_wire::v1::{ResumeRequest, Which};

use crate::verbs;
use crate::verbs::services::Known;
use crate::world::World;

/// How long a service that is brought back may take to be up.
const UP_WITHIN_SECONDS: u64 = 90;

/// What has been said of which hold already. A hold that is given another end is another one.
#[derive(Default)]
pub(crate) struct Told(BTreeSet<(ServiceName, Requester, i64, bool)>);

impl Told {
    /// Looks at all holds once. What takes time goes on beside it.
    pub(crate) fn look(&mut self, world: &Arc<World>, known: &Known) {
        for hold in known.holds.iter().filter(|hold| !hold.whole_server) {
            let Some(end) = &hold.until else { continue };
            match due(hold, world.now(), &world.boot_id) {
                Due::Not => {}
                Due::Soon if self.is_new(hold, end, false) => soon(world, hold, end),
                Due::Over if self.is_new(hold, end, true) => over(world, hold, end),
                Due::Soon | Due::Over => {}
            }
        }
    }

    fn is_new(&mut self, hold: &Hold, end: &End, over: bool) -> bool {
        self.0.insert((hold.service.clone(), hold.requester.clone(), end.wall.0, over))
    }
}

fn tell(world: &World, kind: EventKind, hold: &Hold, text: String) {
    let event = Event::new(world.now().wall, kind, &hold.service, text).with("requester", &hold.requester);
    world.record(&event, None);
}

fn soon(world: &World, hold: &Hold, end: &End) {
    let left = duration(end.wall.since(world.now().wall));
    let then = if end.reopen { "it is brought back then" } else { "it stays as it is" };
    let text = format!("the hold of `{}` on {} ends in {left}: {then}", hold.requester, hold.service);
    tell(world, EventKind::HoldEndsSoon, hold, text);
}

fn over(world: &Arc<World>, hold: &Hold, end: &End) {
    if !end.reopen {
        return overdue(world, hold, "it stays as it is");
    }
    let request = ResumeRequest {
        which: Which { services: vec![hold.service.to_string()], ..Which::default() },
        requester: hold.requester.to_string(),
        up_within_seconds: UP_WITHIN_SECONDS,
        as_is: false,
        all_holders: None,
        dry_run: false,
    };
    let (world, hold) = (Arc::clone(world), hold.clone());
    tokio::spawn(async move {
        // Nobody watches; what happens is in the history.
        let (_hub, reply) = Hub::new();
        let done = verbs::resume::answer(&world, request, &reply).await;
        let known = Known::read(&world);
        let stands = known.is_ok_and(|known| {
            let same = |one: &Hold| (&one.service, &one.requester) == (&hold.service, &hold.requester);
            known.holds.iter().any(same)
        });
        match done {
            Err(why) => overdue(&world, &hold, &format!("it could not be brought back: {why}")),
            Ok(()) if stands => overdue(&world, &hold, "it could not be brought back; `ebb resume` says why"),
            Ok(()) => {}
        }
    });
}

fn overdue(world: &World, hold: &Hold, text: &str) {
    let text = format!("the hold of `{}` on {} has come to its end: {text}", hold.requester, hold.service);
    tell(world, EventKind::HoldOverdue, hold, text);
}
