//! Holds that were given an end: a warning before it, then the service is brought back, or an alarm is raised.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebb_decide::expiry::{Due, due, due_at};
use ebb_link::Hub;
use ebb_model::{End, Event, EventKind, Hold, Requester, ServerHold, ServiceName, duration};
use ebb_wire::v1::{ResumeRequest, Which};

use crate::verbs;
use crate::verbs::services::Known;
use crate::world::World;
use crate::{maintenance, notices};

/// How long a service that is brought back may take to be up.
const UP_WITHIN_SECONDS: u64 = 90;

/// What has been said of which hold already. A hold that is given another end is another one.
#[derive(Default)]
pub(crate) struct Told(BTreeSet<(Option<ServiceName>, Requester, i64, bool)>);

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
        self.0.insert((Some(hold.service.clone()), hold.requester.clone(), end.wall.0, over))
    }

    /// The same for the holds on the server.
    pub(crate) fn look_at_server(&mut self, world: &Arc<World>) {
        let servers = world.store().server_holds().unwrap_or_default();
        for server in servers {
            let Some(end) = server.until.clone() else { continue };
            let due = due_at(&end, server.since, world.now(), &world.boot_id);
            let key = |over| (None, server.requester.clone(), end.wall.0, over);
            match due {
                Due::Not => {}
                Due::Soon if self.0.insert(key(false)) => {
                    let left = duration(end.wall.since(world.now().wall));
                    let then = if end.reopen { "it is brought back then" } else { "it stays as it is" };
                    let text = format!("the hold of `{}` on the server ends in {left}: {then}", server.requester);
                    tell_server(world, EventKind::HoldEndsSoon, &server, text);
                }
                Due::Over if self.0.insert(key(true)) => over_server(world, server, end.reopen),
                Due::Soon | Due::Over => {}
            }
        }
    }
}

fn tell_server(world: &World, kind: EventKind, server: &ServerHold, text: String) {
    let event = Event::of_server(world.now().wall, kind, text).with("requester", &server.requester);
    world.record(&event, None);
}

fn over_server(world: &Arc<World>, server: ServerHold, reopen: bool) {
    let overdue = |world: &World, server: &ServerHold, how: &str| {
        let text = format!("the hold of `{}` on the server has come to its end: {how}", server.requester);
        tell_server(world, EventKind::HoldOverdue, server, text.clone());
        notices::server_overdue(world, server, &text);
    };
    if !reopen {
        return overdue(world, &server, "it stays as it is");
    }
    let world = Arc::clone(world);
    tokio::spawn(async move {
        // Nobody watches; what happens is in the history.
        let (_hub, reply) = Hub::new();
        let done = maintenance::at_end(&world, &server, &reply).await;
        let stands =
            world.store().server_holds().is_ok_and(|all| all.iter().any(|one| one.requester == server.requester));
        match done {
            Err(why) => overdue(&world, &server, &format!("it could not be brought back: {why}")),
            Ok(()) if stands => {
                overdue(&world, &server, "it could not be brought back; `ebb maintenance status` says why");
            }
            Ok(()) => {}
        }
    });
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
