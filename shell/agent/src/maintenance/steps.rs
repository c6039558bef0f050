//! The steps of a maintenance: each may be done again after a crash in its middle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ebb_decide::guards;
use ebb_decide::maintenance::accepts_worse;
use ebb_link::Reply;
use ebb_model::{
    Change, Checks, Counts, EventKind, Hold, Occasion, Run, Service, ServiceName, Span, Step, Trend, Up, Verdict, Why,
    duration,
};
use ebb_wire::v1::{DrainRequest, Then, When, Which, Wish};

use super::tell::again;
use super::{level, server_hold, tell, work};
use crate::drain;
use crate::verbs::check::{self, Asked};
use crate::verbs::hold::{Checked, release_one};
use crate::verbs::resume::Resume;
use crate::verbs::server;
use crate::verbs::services::{Known, counted};
use crate::world::{World, unread};
use crate::{lockout, look, notices, say};

/// How long a service that is brought back may take to be up.
const UP_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks at a server that was opened again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Between two questions to the guards meanwhile.
const ASK_AGAIN: Span = Span::seconds(60);
/// Between two looks whether a stop that has begun is over.
const STOPPING: Duration = Duration::from_millis(200);

pub(super) async fn perform(world: &Arc<World>, run: &Run, step: Step, reply: &Reply) -> Result<String, Why> {
    match step {
        Step::Announce => announce(world, run, reply).await,
        Step::Guards => guards(world, run, reply).await,
        Step::Hold => hold(world, run, reply).await,
        Step::Drain(layer) => drain_layer(world, run, layer, reply).await,
        Step::Work => work::perform(world, run, reply).await,
        Step::TakeBack => take_back(world, run, reply).await,
        Step::Start(layer) => start_layer(world, run, layer, reply).await,
        Step::Check => compare(world, run, reply).await,
        Step::Open => open(world, run, reply).await,
        Step::Watch => watch(world, run, reply).await,
    }
}

/// Tells people, and waits until it is time: from when it was announced first, whoever was killed meanwhile.
async fn announce(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    notices::of_run(world, run, Occasion::Before);
    notices::users::of_run(world, run, Occasion::Before);
    let began = run.journal.iter().find(|line| line.entry == ebb_model::Entry::Began(Step::Announce));
    let until = began.map_or(world.now().wall, |line| line.at) + run.plan.delay;
    let text = format!("people are told; it begins in {}", duration(until.since(world.now().wall)));
    reply.send(say::note(None, false, text)).await;
    while world.now().wall < until {
        // The wall clock may be set: never longer than a while on the other one.
        tokio::time::sleep(LOOK_AGAIN.min(until.since(world.now().wall).into())).await;
    }
    Ok("people were told".to_owned())
}

/// Under which label the list of a run is kept.
pub(super) fn label(run: &Run) -> String {
    format!("maintenance {}", run.number)
}

async fn asked(world: &Arc<World>, run: &Run, asker: Option<u32>) -> Result<Checks, Why> {
    let services: BTreeSet<ServiceName> = run.plan.layers.iter().flatten().cloned().collect();
    let asked = Asked { guards: &[], services: Some(&services), asker };
    let failed = |what: String| Why::Halted { what, help: String::new() };
    check::run(world, asked).await.map_err(failed)
}

fn back(run: &Run) -> String {
    ebb_model::resume_server(run.plan.requester.as_str())
}

/// Asks the guards before anything is touched, and keeps what they say.
async fn guards(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    let checks = asked(world, run, world.maintenance.asker()).await?;
    world.store().keep_checks(&label(run), &checks).map_err(|error| unread(&error))?;
    for guard in checks.guards.iter().filter(|guard| guard.verdict != Verdict::Pass) {
        let text = format!(
            "guard {} {}: {}",
            guard.name,
            if guard.verdict == Verdict::Warn { "warns" } else { "refuses" },
            guard.why
        );
        reply.send(say::note(None, true, text)).await;
    }
    let refusing: Vec<String> = checks.refusing().map(|guard| format!("{}: {}", guard.name, guard.why)).collect();
    let count = |verdict| checks.guards.iter().filter(|guard| guard.verdict == verdict).count();
    let summary = format!("{} pass, {} warn", count(Verdict::Pass), count(Verdict::Warn));
    match (&run.plan.override_guards, refusing.is_empty()) {
        (_, true) => Ok(summary),
        (Some(reason), false) => {
            let text =
                format!("{} refuse, and it goes on all the same ({reason}): {}", refusing.len(), refusing.join("; "));
            tell::event(world, EventKind::GuardOverridden, run, text.clone(), reply).await;
            Ok(format!("{summary}; {text}"))
        }
        (None, false) => Err(Why::Halted {
            what: format!("nothing was touched: {}", refusing.join("; ")),
            help: format!(
                "mend it, then `{}` again; in spite of it: --override-guards REASON; `{}` gives it up",
                again(run),
                back(run)
            ),
        }),
    }
}

/// Asks them again, and opens nothing if one that counts is worse than before.
async fn compare(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    let before = world.store().checks(&label(run)).map_err(|error| unread(&error))?;
    let Some(before) = before else { return Ok("there is nothing to compare with".to_owned()) };
    let after = asked(world, run, None).await?;
    let changes = guards::diff(&before, &after);
    for change in changes.iter().filter(|change| change.trend != Trend::Same) {
        let why = change.after.as_ref().map_or("it is not asked any more", |guard| guard.why.as_str());
        let text = format!("guard {} is {} now: {why}", change.name, change.trend.as_str());
        reply.send(say::note(None, change.regression, text)).await;
    }
    let worse: Vec<String> = regressions(&changes).map(|(_, text)| text).collect();
    match (worse.is_empty(), accepts_worse(run)) {
        (true, _) => Ok("equal or better than before".to_owned()),
        (false, Some(reason)) => {
            let text = format!("worse than before, and accepted ({reason}): {}", worse.join("; "));
            tell::event(world, EventKind::GuardOverridden, run, text.clone(), reply).await;
            // What was accepted is no news to who watches the server afterwards.
            world.store().keep_checks(&label(run), &after).map_err(|error| unread(&error))?;
            Ok(text)
        }
        (false, None) => Err(Why::Halted {
            what: format!("worse than before, so nothing is opened: {}", worse.join("; ")),
            help: format!(
                "mend it, then `{back}` again; in spite of it: `{back} --accept-worse REASON`",
                back = back(run)
            ),
        }),
    }
}

/// Each guard that is worse, and why.
fn regressions(changes: &[Change]) -> impl Iterator<Item = (&str, String)> {
    let why = |change: &Change| change.after.as_ref().map_or_else(String::new, |guard| guard.why.clone());
    let worse = changes.iter().filter(|change| change.regression);
    worse.map(move |change| (change.name.as_str(), format!("{}: {}", change.name, why(change))))
}

async fn hold(world: &Arc<World>, run: &Run, reply: &Reply) -> Result<String, Why> {
    notices::of_run(world, run, Occasion::Start);
    notices::users::of_run(world, run, Occasion::Start);
    let services = look::services(world).await?;
    let wish = Checked::of_plan(&run.plan);
    let mut hold = server::merge(world, &wish, level(&run.plan), &run.plan.not)?;
    if let Some(stands) = server_hold(world, run)? {
        // Done before a crash: its end is not put off by that.
        hold.until = stands.until;
    }
    let hold = server::place(world, hold, (&services, LEARN), reply).await?;
    Ok(match hold.covers.len() {
        1 => "1 service is held".to_owned(),
        count => format!("{count} services are held"),
    })
}

/// How long UDP flows are learnt: the longest keepalive of a common protocol.
const LEARN: Span = Span::seconds(30);

/// The services of a layer that are held still; the last layer has those too that have come since it was planned.
fn members(run: &Run, layer: usize, held: &BTreeSet<ServiceName>) -> Vec<ServiceName> {
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
            idle: When::Wait,
            active: When::Wait,
            rate_per_second: None,
            over_seconds: None,
            queue: None,
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
            again(run),
            back(run)
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
    let server = server_hold(world, run)?;
    let worse = accepts_worse(run);
    let mut left = server.as_ref().map_or_else(Vec::new, |server| members(run, layer, &server.covers));
    let mut troubles = lost(world, run, (layer, &left)).await?;
    let (mut started, mut failed) = (Vec::new(), Vec::new());
    // One may need another that is started after it: again, for as long as that gets on.
    while let Some(server) = server.as_ref().filter(|_| !left.is_empty()) {
        let before = left.len();
        let services = look::services(world).await?;
        let known = Known::read(world)?;
        failed.clear();
        for name in std::mem::take(&mut left) {
            let Some(service) = services.iter().find(|service| service.name == name) else { continue };
            let others: Vec<&Hold> = known.holds_of(&name).filter(|hold| !hold.is(&server.on(&name))).collect();
            if let Some(other) = others.first() {
                let text = format!("{name} is held by `{}` too, and stays down", other.requester);
                reply.send(say::note(Some(name.as_str()), true, text)).await;
                continue;
            }
            let requester = &run.plan.requester;
            let as_is = worse.is_some();
            let resume = Resume { world, service, services: &services, requester, as_is, all_holders: None, reply };
            match resume.bring_up(&known, UP_WITHIN).await {
                Ok((true, _)) => started.push(name.to_string()),
                Ok((false, _)) => {}
                Err(cause) => {
                    failed.push(by_itself(&cause));
                    left.push(name);
                }
            }
        }
        if left.len() == before {
            break;
        }
    }
    troubles.append(&mut failed);
    match (troubles.is_empty(), worse) {
        (true, _) if started.is_empty() => Ok("all of them run".to_owned()),
        (true, _) => Ok(format!("started: {}", started.join(", "))),
        (false, Some(reason)) => {
            let text = format!("not as before, and accepted ({reason}): {}", troubles.join("; "));
            tell::event(world, EventKind::GuardOverridden, run, text.clone(), reply).await;
            Ok(text)
        }
        (false, None) => Err(Why::Halted {
            what: troubles.join("; "),
            help: format!(
                "mend it, then `{back}` again; to go on with it as it is: `{back} --accept-worse REASON`",
                back = back(run)
            ),
        }),
    }
}

/// Why a service does not come back, without what `ebb resume` would say: here something else is typed.
fn by_itself(why: &Why) -> String {
    match why {
        Why::StartByHand { command, .. } if !command.is_empty() => format!("{why} (it was: {command})"),
        other => other.to_string(),
    }
}

/// Services that were stopped for this maintenance, and released by somebody meanwhile, and do not run.
async fn lost(world: &Arc<World>, run: &Run, (layer, held): (usize, &[ServiceName])) -> Result<Vec<String>, Why> {
    let began = run.journal.iter().any(|line| line.entry == ebb_model::Entry::Began(Step::Drain(layer)));
    let planned = run.plan.layers.get(layer).into_iter().flatten();
    // What others hold is theirs to bring back.
    let known = Known::read(world)?;
    let free = |name: &&ServiceName| began && !held.contains(name) && known.holds_of(name).next().is_none();
    let missing: Vec<&ServiceName> = planned.filter(free).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let services = look::services(world).await?;
    let runs = |name: &ServiceName| services.iter().any(|one| one.name == *name && one.up == Up::Running);
    let text = |name: &ServiceName| format!("{name} was released by somebody meanwhile, and does not run: start it");
    Ok(missing.into_iter().filter(|name| !runs(name)).map(text).collect())
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
    let before = world.store().checks(&label(run)).map_err(|error| unread(&error))?;
    let mut seen = BTreeSet::new();
    let mut asked_at = None;
    let mut ended = "";
    while world.now().wall < until {
        if seen_enough(world, run)? {
            ended = "ended before its time, as asked; until then ";
            break;
        }
        let services = look::services(world).await?;
        for name in run.plan.layers.iter().flatten() {
            if let Some(text) = regression(name, services.iter().find(|service| service.name == *name))
                && seen.insert(text.clone())
            {
                tell::regression(world, run, name.as_str(), &text, reply).await;
            }
        }
        let now = world.now().mono;
        if let Some(before) = before.as_ref().filter(|_| asked_at.is_none_or(|at| now.since(at) >= ASK_AGAIN)) {
            asked_at = Some(now);
            for (guard, text) in regressions(&guards::diff(before, &asked(world, run, None).await?)) {
                if seen.insert(text.clone()) {
                    tell::regression(world, run, guard, &text, reply).await;
                }
            }
        }
        let left = until.since(world.now().wall);
        tokio::time::sleep(LOOK_AGAIN.min(left.into())).await;
    }
    if seen.is_empty() {
        let well = if ended.is_empty() { run.plan.watch } else { world.now().wall.since(until - run.plan.watch) };
        return Ok(format!("{ended}well for {}", duration(well)));
    }
    Ok(format!("{ended}worse than before: {}", seen.into_iter().collect::<Vec<_>>().join("; ")))
}

/// Somebody has asked for the end once more since it is watched: they have seen enough.
fn seen_enough(world: &World, run: &Run) -> Result<bool, Why> {
    let now = world.store().run(Some(run.number)).map_err(|error| unread(&error))?;
    let Some(now) = now else { return Ok(true) };
    let watched = now.journal.iter().position(|line| line.entry == ebb_model::Entry::Began(Step::Watch));
    let since = now.journal.get(watched.unwrap_or(now.journal.len())..).unwrap_or_default();
    Ok(since.iter().any(|line| matches!(line.entry, ebb_model::Entry::FinishAsked { .. })))
}

fn regression(name: &ServiceName, service: Option<&Service>) -> Option<String> {
    match service.map(|service| service.up) {
        None => Some(format!("{name} does not listen any more")),
        Some(Up::Failed) => Some(format!("{name} has failed")),
        Some(Up::Stopped) => Some(format!("{name} was stopped")),
        Some(Up::Running | Up::Changing) => None,
    }
}
