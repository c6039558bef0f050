//! The steps of a maintenance: each may be done again after a crash in its middle.

use std::sync::Arc;
use std::time::Duration;

use ebb_link::Reply;
use ebb_model::{Counts, EventKind, Hold, Run, Service, ServiceName, Span, Step, Up, Why, duration};
use ebb_wire::v1::{DrainRequest, Then, Which, Wish};

use super::{level, server_hold, tell, work};
use crate::drain;
use crate::verbs::hold::{Checked, release_one};
use crate::verbs::resume::Resume;
use crate::verbs::server;
use crate::verbs::services::{Known, counted};
use crate::world::World;
use crate::{lockout, look, say};

/// How long a service that is brought back may take to be up.
const UP_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks at a server that was opened again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Between two looks whether a stop that has begun is over.
const STOPPING: Duration = Duration::from_millis(200);

pub(super) async fn perform(world: &Arc<World>, run: &Run, step: Step, reply: &Reply) -> Result<String, Why> {
    match step {
        Step::Guards => Ok(String::new()),
        Step::Hold => hold(world, run, reply).await,
        Step::Drain(layer) => drain_layer(world, run, layer, reply).await,
        Step::Work => work::perform(world, run, reply).await,
        Step::TakeBack => take_back(world, run, reply).await,
        Step::Start(layer) => start_layer(world, run, layer, reply).await,
        Step::Check => Ok(String::new()),
        Step::Open => open(world, run, reply).await,
        Step::Watch => watch(world, run, reply).await,
    }
}

async fn hold(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    let services = look::services(world).await?;
    let wish = Checked::of_plan(&run.plan);
    let mut hold = server::merge(world, &wish, level(&run.plan), &run.plan.not)?;
    if let Some(stands) = server_hold(world, run)? {
        // Done before a crash: its end is not put off by that.
        hold.until = stands.until;
    }
    let hold = server::place(world, hold, (&services, LEARN), reply).await?;
    Ok(format!("{} services are held", hold.covers.len()))
}

/// How long UDP flows are learnt: the longest keepalive of a common protocol.
const LEARN: Span = Span::seconds(30);

/// The services of a layer that are held still; the last layer has those too that have come since it was planned.
fn members(run: &Run, layer: usize, held: &std::collections::BTreeSet<ServiceName>) -> Vec<ServiceName> {
    let layers = &run.plan.layers;
    let planned = |name: &ServiceName| layers.iter().flatten().any(|one| one == name);
    let fresh = held.iter().filter(|name| layer + 1 == layers.len() && !planned(name));
    let own = layers.get(layer).into_iter().flatten().filter(|name| held.contains(name));
    own.chain(fresh).cloned().collect()
}

async fn drain_layer(world: &Arc<World>, run: &Run, layer: usize, reply: &Reply) -> Result<String, Why> {
    let plan = &run.plan;
    let Some(server) = server_hold(world, run)? else { return Err(released(run)) };
    let names = members(run, layer, &server.covers);
    if !names.is_empty() {
        let request = DrainRequest {
            which: Which { services: names.iter().map(ToString::to_string).collect(), ..Which::default() },
            wish: Wish {
                requester: plan.requester.to_string(),
                reason: String::new(),
                for_seconds: None,
                reopen: false,
                except: Vec::new(),
                unasked: false,
            },
            deadline_seconds: plan.deadline.map(|span| span.0.div_ceil(1000)),
            then: match plan.then {
                ebb_model::Then::Ask => Then::Ask,
                ebb_model::Then::End => Then::End,
                ebb_model::Then::Cut => Then::Cut,
            },
            stop: !plan.drill,
            settle_ms: 2000,
            grace_ms: 5000,
            learn_seconds: LEARN.0 / 1000,
            dry_run: false,
        };
        drain::answer(world, request, &plan.by, reply).await?;
    }
    drained(world, run, &names).await
}

fn released(run: &Run) -> Why {
    Why::Halted {
        what: format!("the hold of `{}` on the server was released meanwhile", run.plan.requester),
        help: format!("`{}` ends this maintenance", ebb_model::resume_server(run.plan.requester.as_str())),
    }
}

/// What became of a layer: looked at anew, whatever was said.
async fn drained(world: &Arc<World>, run: &Run, names: &[ServiceName]) -> Result<String, Why> {
    let Some(server) = server_hold(world, run)? else { return Err(released(run)) };
    let known = Known::read(world)?;
    let services = look::services(world).await?;
    let held = services.iter().filter(|service| names.contains(&service.name) && server.covers.contains(&service.name));
    let counts = counted(world, &services, &known, held.clone()).await?;
    let mut left = Vec::new();
    for service in held {
        let record = known.record_of(&service.name);
        let proven = record.and_then(|record| record.drain.as_ref()).is_some_and(|drain| drain.drained_at.is_some());
        let down = matches!(service.up, Up::Stopped | Up::Failed);
        if if run.plan.drill { proven } else { down } {
            continue;
        }
        let sessions = counts.get(&service.name).map_or(0, Counts::left);
        left.push(match (sessions, proven) {
            (0, true) => format!("{} is drained, and was not stopped", service.name),
            (0, false) => format!("{} is not drained", service.name),
            (1, _) => format!("1 session of {} is left", service.name),
            (many, _) => format!("{many} sessions of {} are left", service.name),
        });
    }
    let all = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if left.is_empty() {
        let how = if run.plan.drill { "drained" } else { "drained and stopped" };
        return Ok(if names.is_empty() { "nothing is left to drain".to_owned() } else { format!("{how}: {all}") });
    }
    if run.plan.drill {
        return Ok(format!("{}: they would have been waited for", left.join("; ")));
    }
    let first = names.first().map(ToString::to_string).unwrap_or_default();
    Err(Why::Halted {
        what: left.join("; "),
        help: format!(
            "`ebb sessions {first}` shows who and why, `ebb end {first} --all` ends them; then `{}` goes on, `{}` goes back",
            if run.plan.requester.as_str() == ebb_model::MAINTENANCE {
                "ebb maintenance start"
            } else {
                "ebb drain --server"
            },
            ebb_model::resume_server(run.plan.requester.as_str())
        ),
    })
}

/// Services that are under way to be drained are opened at once; one that is being stopped at this moment is let go down
/// first, and started with the others.
async fn take_back(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    let requester = &run.plan.requester;
    let mut opened = Vec::new();
    while let Some(server) = server_hold(world, run)? {
        let services = look::services(world).await?;
        let known = Known::read(world)?;
        let mut stopping = false;
        for service in services.iter().filter(|service| server.covers.contains(&service.name)) {
            let record = known.record_of(&service.name);
            let stopped = record.is_some_and(|record| !record.stopped.is_empty());
            let under_way = record.and_then(|record| record.drain.as_ref()).is_some_and(|drain| drain.spec.is_some());
            if stopped && (world.runs.of(&service.name).is_none() || service.up == Up::Stopped) {
                continue;
            }
            if !under_way && world.runs.of(&service.name).is_none() {
                continue;
            }
            match release_one(world, service, &services, requester) {
                Ok((frames, _)) => {
                    opened.push(service.name.to_string());
                    for frame in frames {
                        reply.send(frame).await;
                    }
                }
                Err(Why::BeingStopped { .. }) => stopping = true,
                Err(why) => return Err(why),
            }
        }
        if !stopping {
            break;
        }
        tokio::time::sleep(STOPPING).await;
    }
    Ok(if opened.is_empty() {
        "no drain was under way".to_owned()
    } else {
        format!("opened again: {}", opened.join(", "))
    })
}

/// Starts what this maintenance has stopped, behind the shut gate. What others hold stays down.
async fn start_layer(world: &Arc<World>, run: &Run, layer: usize, reply: &Reply) -> Result<String, Why> {
    let Some(server) = server_hold(world, run)? else { return Ok("nothing is held any more".to_owned()) };
    let requester = &run.plan.requester;
    let mut left: Vec<ServiceName> = members(run, layer, &server.covers);
    let (mut started, mut why) = (Vec::new(), None);
    // One may need another that is started after it: again, for as long as that gets on.
    loop {
        let before = left.len();
        let services = look::services(world).await?;
        let known = Known::read(world)?;
        let mut failed = Vec::new();
        for name in std::mem::take(&mut left) {
            let Some(service) = services.iter().find(|service| service.name == name) else { continue };
            let others: Vec<&Hold> = known.holds_of(&name).filter(|hold| !hold.is(&server.on(&name))).collect();
            if let Some(other) = others.first() {
                let text = format!("{name} is held by `{}` too, and stays down", other.requester);
                reply.send(say::note(Some(name.as_str()), true, text)).await;
                continue;
            }
            let resume =
                Resume { world, service, services: &services, requester, as_is: false, all_holders: None, reply };
            match resume.bring_up(&known, UP_WITHIN).await {
                Ok((true, _)) => started.push(name.to_string()),
                Ok((false, _)) => {}
                Err(cause) => {
                    why = Some(cause);
                    failed.push(name);
                }
            }
        }
        if failed.is_empty() {
            break;
        }
        if failed.len() == before {
            return Err(why.unwrap_or_else(|| released(run)));
        }
        left = failed;
    }
    Ok(if started.is_empty() { "all of them run".to_owned() } else { format!("started: {}", started.join(", ")) })
}

/// Releases each service, then the server.
async fn open(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    let requester = &run.plan.requester;
    let services = look::services(world).await?;
    if let Some(server) = server_hold(world, run)? {
        let remaining = server::release_all(world, &server, &services, reply).await?;
        if !remaining.is_empty() {
            let text: Vec<String> =
                remaining.iter().map(|hold| format!("{} by `{}`", hold.service, hold.requester)).collect();
            let text = format!("still held by others: {}", text.join(", "));
            reply.send(say::note(None, true, text.clone())).await;
            return Ok(text);
        }
    }
    lockout::converge(world, None).await?;
    Ok(format!("`{requester}` holds nothing any more"))
}

/// Looks for a while whether the server stays well.
async fn watch(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    let began = run.journal.iter().find(|line| line.entry == ebb_model::Entry::Began(Step::Watch));
    let until = began.map_or(world.now().wall, |line| line.at) + run.plan.watch;
    let mut seen = std::collections::BTreeSet::new();
    while world.now().wall < until {
        let services = look::services(world).await?;
        for name in run.plan.layers.iter().flatten() {
            if let Some(text) = regression(name, services.iter().find(|service| service.name == *name))
                && seen.insert(text.clone())
            {
                tell::event(world, EventKind::RegressionSeen, run, text, reply).await;
            }
        }
        let left = until.since(world.now().wall);
        tokio::time::sleep(LOOK_AGAIN.min(left.into())).await;
    }
    if seen.is_empty() {
        return Ok(format!("well for {}", duration(run.plan.watch)));
    }
    Ok(format!("worse than before: {}", seen.into_iter().collect::<Vec<_>>().join("; ")))
}

fn regression(name: &ServiceName, service: Option<&Service>) -> Option<String> {
    match service.map(|service| service.up) {
        None => Some(format!("{name} does not listen any more")),
        Some(Up::Failed) => Some(format!("{name} has failed")),
        Some(Up::Stopped) => Some(format!("{name} was stopped")),
        Some(Up::Running | Up::Changing) => None,
    }
}
