//! `ebb status`: held services as they are now.

use std::sync::Arc;

use ebb_link::Reply;
use ebb_model::{Record, Service, Stopped, Why};
use ebb_wire::v1::{Frame, Gate, Status, Which};

use super::services::{Known, counted, tell};
use crate::handle::refuse_all;
use crate::world::World;
use crate::{converge, look, say};

pub(crate) async fn answer(world: &Arc<World>, names: Vec<String>, reply: &Reply) -> Result<(), Why> {
    let services = look::services(world).await?;
    let known = Known::read(world)?;
    let held = |service: &Service| known.holds_of(&service.name).next().is_some();
    let which = Which { all: names.is_empty(), services: names, not: Vec::new() };
    let (chosen, refused) = look::which(&which, &services, held);
    refuse_all(reply, &refused).await;
    let counts = counted(world, &services, &known, chosen.iter().copied()).await;
    if let Err(why) = &counts {
        reply.send(say::note(None, true, format!("sessions are not counted: {why}"))).await;
    }
    let seen = converge::seen(world);
    for service in chosen {
        let count = counts.as_ref().ok().and_then(|counts| counts.get(&service.name)).copied();
        let told = tell(service, &known, count, seen.as_ref().ok());
        let record = known.record_of(&service.name);
        let drain = record.and_then(|record| record.drain.as_ref());
        let status = Status {
            gate: gate(seen.as_ref().ok(), service, held(service)),
            learning_seconds: say::seconds(seen.as_ref().ok().and_then(|seen| seen.learning(&service.doors))),
            refused: (seen.as_ref().map_or(0, |seen| seen.refused(&service.doors))
                + record.map_or(0, |record| record.refused_before))
            .saturating_sub(record.map_or(0, |record| record.own_probes)),
            at_start: drain.map(|drain| drain.at_start),
            began: drain.map(|drain| say::time(drain.began)),
            drained_at: drain.and_then(|drain| drain.drained_at).map(say::time),
            stopped_by_us: record.is_some_and(|record| !record.stopped.is_empty()),
            watched_by_pid: record.and_then(watcher),
            leaks: drain.map_or(0, |drain| drain.leaks),
            next: next(&told.state, &told.name, !told.holders.is_empty(), record),
            service: told,
        };
        reply.send(Frame::Status(status)).await;
    }
    Ok(())
}

/// The process that watches a drain now.
pub(crate) fn watcher(record: &Record) -> Option<u32> {
    let watcher = record.drain.as_ref()?.watcher?;
    look::is_alive(watcher.pid, watcher.started_ticks).then_some(watcher.pid)
}

fn gate(seen: Option<&converge::Seen>, service: &Service, held: bool) -> Gate {
    match (seen, held) {
        (None, _) => Gate::Unknown,
        (Some(seen), _) if seen.intact && seen.learning(&service.doors).is_some() => Gate::Learning,
        (Some(seen), true) if seen.holds(&service.doors) => Gate::Shut,
        (Some(_), true) => Gate::Missing,
        (Some(seen), false) if !service.doors.is_empty() && seen.holds(&service.doors) => Gate::Shut,
        (Some(_), false) => Gate::Open,
    }
}

fn next(state: &str, name: &str, held: bool, record: Option<&Record>) -> Vec<String> {
    if !held {
        return vec![format!("ebb drain {name}")];
    }
    let resume = format!("ebb resume {name}");
    let by_hand = record.is_some_and(|record| record.stopped.iter().any(|stopped| matches!(stopped, Stopped::Tree(_))));
    match state {
        "draining" => vec![format!("ebb drain {name}"), format!("ebb sessions {name}"), resume],
        "stopped" if by_hand => vec![format!("start {name} as before, then {resume}")],
        _ => vec![resume],
    }
}
