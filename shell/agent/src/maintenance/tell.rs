//! A maintenance as it is said: steps, events, and the last word.

use std::sync::Arc;

use ebb_decide::maintenance::{Next, is_coming_back, next, steps};
use ebb_link::Reply;
use ebb_model::{Entry, Event, EventKind, Line, MAINTENANCE, Occasion, Run, Step, Wall, Work, resume_server};
use ebb_wire::v1::{self, Frame, MaintenanceState, StepState};

use crate::world::World;
use crate::{notices, say};

/// The services that a step is about.
pub(super) fn services_of(run: &Run, step: Step) -> Vec<String> {
    let layers = &run.plan.layers;
    let names = |layer: usize| layers.get(layer).into_iter().flatten().map(ToString::to_string).collect();
    match step {
        Step::Drain(layer) | Step::Start(layer) => names(layer),
        Step::Hold | Step::Open => layers.iter().flatten().map(ToString::to_string).collect(),
        Step::Announce | Step::Guards | Step::Work | Step::TakeBack | Step::Check | Step::Watch => Vec::new(),
    }
}

pub(super) async fn step(
    run: &Run,
    step: Step,
    state: StepState,
    text: String,
    took_seconds: Option<f64>,
    reply: &Reply,
) {
    let mut planned = planned(run);
    place_in(&mut planned, step);
    let place = planned.iter().position(|one| *one == step).map_or(0, |place| place + 1);
    let frame = v1::Step {
        number: place,
        of: planned.len(),
        name: step.to_string(),
        services: services_of(run, step),
        state,
        text,
        took_seconds,
    };
    reply.send(Frame::Step(frame)).await;
}

/// The steps of the plan, with those that came because it was asked back in the middle.
fn planned(run: &Run) -> Vec<Step> {
    let mut all = steps(run);
    for line in &run.journal {
        if let Entry::Began(step) = line.entry {
            place_in(&mut all, step);
        }
    }
    all
}

/// One that was not planned comes before the way back.
fn place_in(all: &mut Vec<Step>, step: Step) {
    if !all.contains(&step) {
        let back = |step: &Step| matches!(step, Step::Start(_) | Step::Check | Step::Open);
        let place = all.iter().position(back).unwrap_or(all.len());
        all.insert(place, step);
    }
}

async fn say_event(world: &World, event: Event, reply: &Reply) {
    reply.send(Frame::Event(say::event(world.record(&event, None), &event))).await;
}

/// Whether the history has such an event of this run: whoever drove it before us may have been killed before they told it.
/// What cannot be read is told once more.
fn is_told(world: &World, run: &Run, kind: EventKind) -> bool {
    let last = world.store().last_event_at(None, kind.number());
    last.ok().flatten().zip(run.journal.first()).is_some_and(|(at, first)| at >= first.at)
}

/// Once for each run.
pub(super) async fn began(world: &Arc<World>, run: &Run, reply: &Reply) {
    if is_told(world, run, EventKind::MaintenanceBegan) {
        return;
    }
    let (plan, run) = (&run.plan, run.number);
    let what = if plan.drill { "a drill of the maintenance" } else { "the maintenance" };
    let why = if plan.reason.is_empty() { String::new() } else { format!(": {}", plan.reason) };
    let text = format!("{what} of this server began, as `{}` by {}{why}", plan.requester, plan.by.name);
    let event = Event::of_server(world.now().wall, EventKind::MaintenanceBegan, text)
        .with("run", run)
        .with("requester", &plan.requester)
        .with("by", &plan.by.name)
        .with("reason", &plan.reason);
    say_event(world, event, reply).await;
}

/// Before its journal says that it is over: nobody looks at it after that. Once for each run.
pub(super) async fn finished(world: &Arc<World>, run: &Run, reply: &Reply) {
    if is_told(world, run, EventKind::MaintenanceFinished) {
        return;
    }
    // What was called off before anybody was told of it is not told as one that is over.
    if run
        .journal
        .iter()
        .any(|line| line.entry == Entry::Began(Step::Hold) || line.entry == Entry::Began(Step::Announce))
    {
        notices::of_run(world, run, Occasion::End);
    }
    super::work::forget(world, run);
    let run = run.number;
    let _ = world.store().forget_checks(&format!("maintenance {run}"));
    let text = format!("maintenance {run} is over: what it held is released");
    let event = Event::of_server(world.now().wall, EventKind::MaintenanceFinished, text).with("run", run);
    say_event(world, event, reply).await;
}

pub(super) async fn halted(world: &Arc<World>, run: &Run, step: Step, why: &str, reply: &Reply) {
    let text = format!("maintenance {} waits for somebody: {step}: {why}", run.number);
    let event = Event::of_server(world.now().wall, EventKind::MaintenanceHalted, text)
        .with("run", run.number)
        .with("step", step)
        .with("why", why);
    say_event(world, event, reply).await;
    notices::trouble_of_run(world, run, &run.journal.len().to_string(), &format!("{step}: {why}"));
}

/// Something has become worse since the server was opened again; `of` is the service or the guard.
pub(super) async fn regression(world: &Arc<World>, run: &Run, of: &str, text: &str, reply: &Reply) {
    let event = Event::of_server(world.now().wall, EventKind::RegressionSeen, text.to_owned())
        .with("run", run.number)
        .with("of", of);
    say_event(world, event, reply).await;
    notices::trouble_of_run(world, run, &format!("watch/{of}"), &format!("{}: {text}", Step::Watch));
}

pub(super) async fn event(world: &Arc<World>, kind: EventKind, run: &Run, text: String, reply: &Reply) {
    say_event(world, Event::of_server(world.now().wall, kind, text).with("run", run.number), reply).await;
}

/// The work in a few words.
pub(super) fn work(work: &Work) -> String {
    match work {
        Work::ByHand => "by hand".to_owned(),
        Work::Command(command) => command_line(command),
        Work::Reboot => "reboot".to_owned(),
    }
}

/// As it would be typed: a word that a shell would take apart is quoted.
pub(super) fn command_line(words: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:=,+@%".contains(&b));
    let one = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A run as it is now.
pub(super) fn maintenance(world: &World, run: &Run) -> v1::Maintenance {
    let plan = &run.plan;
    let first = run.journal.first().map_or(Wall(0), |line| line.at);
    let over = run.journal.iter().find(|line| line.entry == Entry::Over).map(|line| line.at);
    let state = match next(run) {
        Next::Do(_) | Next::End => MaintenanceState::UnderWay,
        Next::AwaitFinish => MaintenanceState::InWork,
        Next::Halted(..) => MaintenanceState::Halted,
        Next::Over => MaintenanceState::Over,
    };
    // What cannot be read is taken to stand.
    let held = super::server_hold(world, run).map_or(true, |hold| hold.is_some());
    v1::Maintenance {
        run: run.number,
        state,
        requester: plan.requester.to_string(),
        by: plan.by.name.clone(),
        reason: plan.reason.clone(),
        held,
        drill: plan.drill,
        work: work(&plan.work),
        began: say::time(first),
        until: plan.meant_for.map(|span| say::time(first + plan.delay + span)),
        took_seconds: over.unwrap_or(world.now().wall).since(first).as_seconds(),
        steps: journal_steps(world, run),
        next: commands(run, state, held),
    }
}

fn journal_steps(world: &World, run: &Run) -> Vec<v1::Step> {
    let planned = planned(run);
    // Once it is over, what was never begun was not part of it.
    let over = run.journal.iter().find(|line| line.entry == Entry::Over).map(|line| line.at);
    let lines = |step: Step| {
        run.journal.iter().filter(
            move |line| matches!(line.entry, Entry::Began(one) | Entry::Done(one) | Entry::Failed(one) if one == step),
        )
    };
    let one = |(place, step): (usize, &Step)| {
        let last: Option<&Line> = lines(*step).next_back();
        let began = lines(*step).next().map(|line| line.at);
        let (state, until) = match last.map(|line| (&line.entry, line.at)) {
            Some((Entry::Done(_), at)) => (StepState::Done, Some(at)),
            Some((Entry::Failed(_), at)) => (StepState::Failed, Some(at)),
            Some(_) => (StepState::Began, Some(over.unwrap_or(world.now().wall))),
            None => (StepState::Planned, None),
        };
        (state != StepState::Planned || over.is_none()).then(|| v1::Step {
            number: place + 1,
            of: planned.len(),
            name: step.to_string(),
            services: services_of(run, *step),
            state,
            text: last.map(|line| line.text.clone()).unwrap_or_default(),
            took_seconds: began.zip(until).map(|(began, until)| until.since(began).as_seconds()),
        })
    };
    planned.iter().enumerate().filter_map(one).collect()
}

/// It had the server held, and somebody has released it.
pub(super) fn was_released(run: &Run, held: bool) -> bool {
    let done = |step| run.journal.iter().any(|line| line.entry == Entry::Done(step));
    !held && done(Step::Hold) && !done(Step::Open)
}

/// What goes on with it, in its requester's name.
pub(crate) fn again(run: &Run) -> String {
    match run.plan.requester.as_str() {
        MAINTENANCE => "ebb maintenance start".to_owned(),
        "operator" => "ebb drain --server".to_owned(),
        other => format!("ebb drain --server --as {other}"),
    }
}

/// What to type next.
fn commands(run: &Run, state: MaintenanceState, held: bool) -> Vec<String> {
    let requester = run.plan.requester.as_str();
    let back = resume_server(requester);
    let (again, watch) = (again(run), "ebb maintenance watch".to_owned());
    match state {
        MaintenanceState::Over => Vec::new(),
        MaintenanceState::UnderWay => vec![watch, back],
        MaintenanceState::InWork => vec![back],
        // Where it was released meanwhile, or is on its way back, there is nothing to go on with.
        MaintenanceState::Halted if is_coming_back(run) || was_released(run, held) => vec![back],
        MaintenanceState::Halted => vec![again, back],
    }
}
