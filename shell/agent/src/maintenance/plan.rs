//! What a maintenance will be: the same data is shown by `--dry-run` and carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebb_decide::maintenance::{layers, next, steps};
use ebb_link::Reply;
use ebb_model::{
    Counts, Entry, Line, MaintenancePlan, Run, Service, ServiceName, Span, Step, Then, Wall, Why, Work, duration,
};
use ebb_wire::v1::{self, Frame, MaintenanceStart, StepState};

use super::{level, tell};
use crate::drain::{self, stopped_along};
use crate::say;
use crate::verbs::hold::Checked;
use crate::verbs::server;
use crate::verbs::services::{Known, counted};
use crate::world::World;

/// In a drill nobody is waited for longer than this, unless that is said.
const DRILL: Span = Span::seconds(300);

pub(super) const fn then(asked: v1::Then) -> Then {
    match asked {
        v1::Then::Ask => Then::Ask,
        v1::Then::End => Then::End,
        v1::Then::Cut => Then::Cut,
    }
}

pub(super) async fn make(
    world: &Arc<World>,
    request: &MaintenanceStart,
    wish: &Checked,
    not: Vec<ServiceName>,
    services: &[Service],
) -> Result<MaintenancePlan, Why> {
    let config = world.config();
    let settings = &config.settings;
    let deadline = request.deadline_seconds.map(Span::seconds).or(settings.maintenance.deadline);
    let then = request.then.map_or(settings.maintenance.then, then);
    let mut plan = MaintenancePlan {
        requester: wish.requester.clone(),
        reason: wish.reason.clone(),
        by: wish.by.clone(),
        layers: Vec::new(),
        not,
        meant_for: wish.for_span,
        reopen: wish.reopen,
        except: wish.except.clone(),
        delay: Span::seconds(request.delay_seconds),
        deadline: if request.drill { deadline.or(Some(DRILL)) } else { deadline },
        // In a drill nobody is ended.
        then: if request.drill { Then::Ask } else { then },
        work: match (request.reboot, request.command.is_empty()) {
            (true, _) => Work::Reboot,
            (false, true) => Work::ByHand,
            (false, false) => Work::Command(request.command.clone()),
        },
        drill: request.drill,
        watch: request.watch_seconds.map_or(settings.maintenance.watch, Span::seconds),
        override_guards: request.override_guards.clone(),
    };
    let hold = server::merge(world, wish, level(&plan), &plan.not)?;
    let mut covered: BTreeSet<ServiceName> =
        server::covered(&hold, services).into_iter().map(|service| service.name.clone()).collect();
    covered.extend(hold.covers);
    let uses = uses(world, &covered, services).await;
    plan.layers = layers(&covered, &uses);
    Ok(plan)
}

/// Of each service those that must outlive it: as the configuration says, and those that would take it along in their stop.
async fn uses(
    world: &Arc<World>,
    covered: &BTreeSet<ServiceName>,
    services: &[Service],
) -> BTreeMap<ServiceName, BTreeSet<ServiceName>> {
    let mut uses: BTreeMap<ServiceName, BTreeSet<ServiceName>> = BTreeMap::new();
    let config = world.config();
    let settings = &config.settings;
    for (user, used) in &settings.maintenance.uses {
        let (Ok(user), used) = (ServiceName::new(user.clone()), used.iter().cloned().map(ServiceName::new)) else {
            continue;
        };
        uses.entry(user).or_default().extend(used.flatten());
    }
    for service in services.iter().filter(|service| covered.contains(&service.name)) {
        for user in stopped_along(world, service, services).await {
            uses.entry(user).or_default().insert(service.name.clone());
        }
    }
    uses
}

/// Shows it, and changes nothing.
pub(super) async fn tell(
    world: &Arc<World>,
    plan: MaintenancePlan,
    services: &[Service],
    reply: &Reply,
) -> Result<(), Why> {
    let known = Known::read(world)?;
    let named = |service: &&Service| plan.layers.iter().flatten().any(|name| *name == service.name);
    let counts = counted(world, services, &known, services.iter().filter(named)).await.unwrap_or_default();
    let run = Run { number: 0, plan, journal: Vec::new() };
    tell_steps(&run, &steps(&run), &counts, reply).await;
    let names: Vec<String> = run.plan.layers.iter().flatten().map(ToString::to_string).collect();
    let together = v1::Which { services: names, ..v1::Which::default() };
    for service in services.iter().filter(|service| together.services.contains(&service.name.to_string())) {
        for warning in drain::warnings(world, (service, services), &together, !run.plan.drill).await {
            reply.send(say::note(Some(service.name.as_str()), true, warning)).await;
        }
    }
    let wish = Checked::of_plan(&run.plan);
    let hold = server::merge(world, &wish, level(&run.plan), &run.plan.not)?;
    server::left_open(&hold, services, reply).await?;
    if run.plan.work == Work::Reboot && !run.plan.drill {
        let open = services.iter().filter(|service| server::leaves(&hold, service));
        let counts = counted(world, services, &known, open).await.unwrap_or_default();
        let some = counts.iter().filter(|(_, counts)| counts.left() > 0);
        let some: Vec<String> = some.map(|(name, counts)| format!("{name} ({})", counts.left())).collect();
        if !some.is_empty() {
            let text = format!("the reboot ends the sessions of what stays open: {}", some.join(", "));
            reply.send(say::note(None, true, text)).await;
        }
    }
    Ok(())
}

/// Shows the way back, and changes nothing.
pub(super) async fn tell_back(mut run: Run, _services: &[Service], reply: &Reply) -> Result<(), Why> {
    let mut journal =
        |entry| run.journal.push(Line { at: Wall(0), boot_id: String::new(), entry, text: String::new() });
    journal(Entry::FinishAsked { accept_worse: None });
    let mut left = Vec::new();
    while let ebb_decide::maintenance::Next::Do(step) = next(&run) {
        left.push(step);
        run.journal.push(Line { at: Wall(0), boot_id: String::new(), entry: Entry::Done(step), text: String::new() });
    }
    tell_steps(&run, &left, &BTreeMap::new(), reply).await;
    Ok(())
}

async fn tell_steps(run: &Run, steps: &[Step], counts: &BTreeMap<ServiceName, Counts>, reply: &Reply) {
    for (place, step) in steps.iter().enumerate() {
        let frame = v1::Step {
            number: place + 1,
            of: steps.len(),
            name: step.to_string(),
            services: tell::services_of(run, *step),
            state: StepState::Planned,
            text: words(run, *step, counts),
            took_seconds: None,
        };
        reply.send(Frame::Step(frame)).await;
        let last_drain = *step == Step::Drain(run.plan.layers.len().saturating_sub(1));
        if last_drain && !run.plan.drill && run.plan.work == Work::ByHand {
            let text =
                format!("then the work by hand, until `{}`", ebb_model::resume_server(run.plan.requester.as_str()));
            reply.send(say::note(None, false, text)).await;
        }
    }
}

/// What a step will do.
fn words(run: &Run, step: Step, counts: &BTreeMap<ServiceName, Counts>) -> String {
    let plan = &run.plan;
    let names = |layer: usize| plan.layers.get(layer).map(Vec::as_slice).unwrap_or_default();
    let listed = |names: &[ServiceName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match step {
        Step::Announce => format!("tell people, and begin {} later", duration(plan.delay)),
        Step::Guards => match &plan.override_guards {
            None => "ask the guards; one that refuses halts it before anything is touched".to_owned(),
            Some(reason) => format!("ask the guards, and go on whatever they say: {reason}"),
        },
        Step::Hold => {
            let all: Vec<ServiceName> = plan.layers.iter().flatten().cloned().collect();
            format!("hold the server as `{}`: new connections are refused at {}", plan.requester, listed(&all))
        }
        Step::Drain(layer) => {
            let one = |name: &ServiceName| {
                let left = counts.get(name).map(Counts::left);
                let plural = if left == Some(1) { "" } else { "s" };
                left.map_or_else(|| name.to_string(), |left| format!("{name} ({left} session{plural} now)"))
            };
            let what = names(layer).iter().map(one).collect::<Vec<_>>().join(", ");
            let until = match (plan.deadline, plan.then) {
                (None, _) => "as long as it takes".to_owned(),
                (Some(span), Then::Ask) => format!("for {} at most", duration(span)),
                (Some(span), Then::End) => format!("after {} who is left is ended", duration(span)),
                (Some(span), Then::Cut) => format!("after {} who is left is cut", duration(span)),
            };
            let stop = if plan.drill { "stop nothing" } else { "stop" };
            format!("drain {what}, {until}; then {stop}")
        }
        Step::Work => match &plan.work {
            Work::ByHand => "by hand".to_owned(),
            Work::Command(command) => format!("run: {}", tell::command_line(command)),
            Work::Reboot => "reboot the server".to_owned(),
        },
        Step::TakeBack => "end the drains that are under way still".to_owned(),
        Step::Start(layer) => format!("start {} and verify each door behind the shut gate", listed(names(layer))),
        Step::Check => "ask the guards again: nothing may be worse than before".to_owned(),
        Step::Open => "release the server: new connections are let in".to_owned(),
        Step::Watch => format!("watch it for {}", duration(plan.watch)),
    }
}
