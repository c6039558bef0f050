//! `ebb status`: held services as they are now.

use std::sync::Arc;

use ebb_link::Reply;
use ebb_model::{Record, Service, Stopped, Why, resume_server};
use ebb_wire::v1::{self, Frame, Gate, Status, Which};

use super::services::{Known, counted, tell};
use crate::handle::refuse_all;
use crate::world::World;
use crate::{converge, look, protect, say};

pub(crate) async fn answer(world: &Arc<World>, names: Vec<String>, reply: &Reply) -> Result<(), Why> {
    let around = look::around(world).await?;
    let known = Known::read(world)?;
    let held = |service: &Service| known.holds_of(&service.name).next().is_some();
    let which = Which { all: names.is_empty(), services: names, ..Which::default() };
    let (chosen, refused) = around.which(&which, held);
    refuse_all(reply, &refused).await;
    let counts = counted(world, &around.services, &known, chosen.iter().copied()).await;
    if let Err(why) = &counts {
        reply.send(say::note(None, true, format!("sessions are not counted: {why}"))).await;
    }
    if let Some(text) = protect::told(world) {
        reply.send(say::note(None, false, text)).await;
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
            next: next(&told, record),
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

/// The same, unless that is an agent in whose hands the drain is no more.
pub(crate) fn watched(world: &World, record: &Record) -> Option<u32> {
    let over = |pid: &u32| world.resident && *pid == world.me.pid && world.runs.of(&record.service).is_none();
    watcher(record).filter(|pid| !over(pid))
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

fn next(told: &v1::Service, record: Option<&Record>) -> Vec<String> {
    let name = &told.name;
    if told.holders.is_empty() {
        return vec![format!("ebb drain {name}")];
    }
    // Each requester releases its own hold only.
    let resume = told.holders.iter().map(|hold| {
        if hold.whole_server { resume_server(&hold.requester) } else { command("resume", name, &hold.requester) }
    });
    let by_hand = record.is_some_and(|record| record.stopped.iter().any(|stopped| matches!(stopped, Stopped::Tree(_))));
    match told.state.as_str() {
        "draining" => {
            let drain = record.and_then(|record| record.drain.as_ref());
            let requester = drain.map_or(told.holders[0].requester.as_str(), |drain| drain.requester.as_str());
            let first = [command("drain", name, requester), format!("ebb sessions {name}")];
            first.into_iter().chain(resume).collect()
        }
        "stopped" if by_hand => {
            let mut resume = resume;
            let first = resume.next().map(|resume| format!("start {name} as before, then {resume}"));
            first.into_iter().chain(resume).collect()
        }
        _ => resume.collect(),
    }
}

/// `ebb VERB NAME`, in the name of whom the hold is.
pub(crate) fn command(verb: &str, name: &str, requester: &str) -> String {
    let as_whom = if requester == "operator" { String::new() } else { format!(" --as {requester}") };
    format!("ebb {verb} {name}{as_whom}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(state: &str, requesters: &[&str]) -> v1::Service {
        let hold = |requester: &&str| v1::Hold {
            service: "x".into(),
            requester: (*requester).into(),
            level: "draining".into(),
            reason: String::new(),
            by: "root".into(),
            by_uid: 0,
            since: jiff::Timestamp::UNIX_EPOCH,
            until: None,
            reopens: false,
            except: Vec::new(),
            whole_server: false,
            covers: Vec::new(),
        };
        v1::Service {
            name: "x".into(),
            state: state.into(),
            sessions: Some(0),
            doors: Vec::new(),
            start: "enabled".into(),
            units: Vec::new(),
            pids: Vec::new(),
            shared_with: Vec::new(),
            holders: requesters.iter().map(hold).collect(),
            remarks: Vec::new(),
            daemon: None,
        }
    }

    #[test]
    fn what_to_type_next_is_in_the_name_of_whom_the_hold_is() {
        assert_eq!(next(&told("open", &[]), None), ["ebb drain x"]);
        assert_eq!(next(&told("drained", &["operator"]), None), ["ebb resume x"]);
        assert_eq!(next(&told("stopped", &["deploy", "operator"]), None), ["ebb resume x --as deploy", "ebb resume x"]);
        let draining = ["ebb drain x --as deploy", "ebb sessions x", "ebb resume x --as deploy"];
        assert_eq!(next(&told("draining", &["deploy"]), None), draining);
    }
}
