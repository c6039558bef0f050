//! `ebb maintenance`: the whole server out of service, and back. What comes next is decided from the plan and the journal
//! alone, so that a crash or a reboot at any point goes on where it was.

mod drive;
mod plan;
mod steps;
mod tell;
mod work;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ebb_decide::maintenance::{Next, called_off, is_coming_back, next};
use ebb_link::{Hub, Reply};
use ebb_model::{Entry, Level, Line, MaintenancePlan, Requester, Run, ServerHold, ServiceName, Step, Who, Why, Work};
use ebb_wire::v1::{Frame, MaintenanceFinish, MaintenanceRequest, MaintenanceStart};
use tokio::sync::Notify;

use crate::handle::refuse_all;
use crate::verbs::hold::{Checked, usage};
use crate::verbs::server;
use crate::world::{World, unread};
use crate::{converge, look, say};

pub(crate) use drive::{adopt, is_driven};
pub(crate) use tell::again;

/// The maintenance that this agent drives, if any.
#[derive(Default)]
pub(crate) struct Driven {
    live: Mutex<Option<Live>>,
    /// The process that asked for it: its own login is not somebody else's.
    asker: Mutex<Option<u32>>,
    /// Held while a request looks whether there is one and begins one.
    asking: tokio::sync::Mutex<()>,
}

/// Where viewers join, and how the driver hears that the journal has a new word.
#[derive(Clone)]
pub(crate) struct Live {
    hub: Hub,
    word: Arc<Notify>,
}

impl Driven {
    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asker(&self) -> Option<u32> {
        *self.asker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<Live> {
        self.lock().clone()
    }
}

pub(crate) async fn answer(
    world: &Arc<World>,
    request: MaintenanceRequest,
    by: &Who,
    reply: &Reply,
) -> Result<(), Why> {
    match request {
        MaintenanceRequest::Start(request) => start(world, request, by, reply).await,
        MaintenanceRequest::Finish(request) => finish(world, request, by, reply).await,
        MaintenanceRequest::Status => status(world, reply).await,
        MaintenanceRequest::Watch => watch(world, reply).await,
    }
}

/// The newest run that is not over.
pub(crate) fn current(world: &World) -> Result<Option<Run>, Why> {
    let run = world.store().run(None).map_err(|error| unread(&error))?;
    Ok(run.filter(|run| !run.is_over()))
}

pub(crate) fn line(world: &World, entry: Entry, text: impl Into<String>) -> Line {
    Line { at: world.now().wall, boot_id: world.boot_id.clone(), entry, text: text.into() }
}

fn write(world: &World, run: u64, entry: Entry, text: impl Into<String>) -> Result<(), Why> {
    let line = line(world, entry, text);
    world.store().add_line(run, &line).map_err(|error| unread(&error))
}

async fn start(world: &Arc<World>, request: MaintenanceStart, by: &Who, reply: &Reply) -> Result<(), Why> {
    let wish = match Checked::new(world, &request.wish, by) {
        Ok(wish) => wish,
        Err(faults) => return usage(reply, &faults).await,
    };
    if request.override_guards.as_deref().is_some_and(|reason| reason.trim().is_empty()) {
        return usage(reply, &["to go on in spite of a guard needs a reason".to_owned()]).await;
    }
    let asking = world.maintenance.asking.lock().await;
    *world.maintenance.asker.lock().unwrap_or_else(PoisonError::into_inner) = request.asker_pid;
    let wheel = if request.dry_run { None } else { drive::wheel(world)? };
    let around = look::around(world).await?;
    let (not, refused) = around.names(&request.not);
    if refuse_all(reply, &refused).await {
        return Ok(());
    }
    if let Some(run) = current(world)? {
        let untouched = matches!(next(&run), Next::Halted(Step::Guards, _));
        if !untouched || run.plan.requester != wish.requester {
            may_go_on(world, &run, (&request, &wish, &not), by, reply).await?;
            drop(asking);
            if request.dry_run {
                return rest_of(world, run, reply).await;
            }
            drive::drive_or_join(world, run.number, wheel, reply).await?;
            return not_called_off(world, run.number);
        }
        // Nothing was touched yet: it is asked for anew, perhaps in another way.
        if !request.dry_run {
            write(world, run.number, Entry::Over, "asked for anew")?;
        }
    }
    let plan = plan::make(world, &request, &wish, not, &around.services).await?;
    if plan.deadline.is_none() && request.then.is_some_and(|then| then != ebb_wire::v1::Then::Ask) {
        let fault = "--then says what happens at the deadline, and there is none: give --deadline, or `maintenance.deadline` in ebb.toml";
        return usage(reply, &[fault.to_owned()]).await;
    }
    work::possible(world, &plan.work)?;
    if plan.layers.is_empty() && plan.work != Work::ByHand {
        return Err(Why::Halted {
            what: format!("no service of this server has a door to be held: `{}` is not done", tell::work(&plan.work)),
            help: "nobody would be protected by a maintenance: do it without one".to_owned(),
        });
    }
    if plan.layers.is_empty() {
        return server::nothing(reply).await;
    }
    if request.dry_run {
        return plan::tell(world, plan, &around.services, reply).await;
    }
    converge::check_support()?;
    if !world.resident {
        let text = "no agent is resident: after a reboot, or when this command is left, nobody goes on with it; \
                    the same command again does (`systemctl enable --now ebb-gate ebb-agent` makes an agent stay)";
        reply.send(say::note(None, true, text)).await;
    }
    let first = line(world, Entry::StartAsked, &by.name);
    let number = world.store().begin_run(&plan, &first).map_err(|error| unread(&error))?;
    drop(asking);
    drive::drive_or_join(world, number, wheel, reply).await?;
    not_called_off(world, number)
}

/// Whoever has asked for a maintenance, and sees it over, has not got it when somebody else has called it off.
fn not_called_off(world: &World, number: u64) -> Result<(), Why> {
    let run = world.store().run(Some(number)).map_err(|error| unread(&error))?;
    let by = run.as_ref().and_then(called_off).map(|line| line.text.clone());
    by.map_or(Ok(()), |by| Err(Why::CalledOff { run: number, by }))
}

/// Whoever asks for something else than was planned does not mean to go on with that.
fn as_planned(run: &Run, request: &MaintenanceStart, wish: &Checked, not: &[ServiceName]) -> Result<(), Why> {
    let plan = &run.plan;
    let work = match (request.command.is_empty(), request.reboot) {
        (true, false) => None,
        (true, true) => Some(Work::Reboot),
        (false, _) => Some(Work::Command(request.command.clone())),
    };
    let deadline = request.deadline_seconds.map(ebb_model::Span::seconds);
    let other = if request.drill != plan.drill {
        if plan.drill { "is a drill" } else { "is no drill" }.to_owned()
    } else if let Some(asked) = work.filter(|work| *work != plan.work) {
        format!("has the work `{}`, not `{}`", tell::work(&plan.work), tell::work(&asked))
    } else if deadline.is_some() && deadline != plan.deadline {
        "has another --deadline".to_owned()
    } else if !plan.drill && request.then.is_some_and(|then| plan::then(then) != plan.then) {
        "has another --then".to_owned()
    } else if wish.for_span.is_some() && (wish.for_span, wish.reopen) != (plan.meant_for, plan.reopen) {
        "has another --for or --at-end".to_owned()
    } else if request.delay_seconds > 0 && ebb_model::Span::seconds(request.delay_seconds) != plan.delay {
        "has another --in".to_owned()
    } else if !wish.except.is_empty() && wish.except != plan.except {
        "has another --except".to_owned()
    } else if request.watch_seconds.is_some_and(|watch| ebb_model::Span::seconds(watch) != plan.watch) {
        "has another --watch".to_owned()
    } else if !not.is_empty() && not.iter().collect::<BTreeSet<_>>() != plan.not.iter().collect() {
        "has another --not".to_owned()
    } else {
        return Ok(());
    };
    let requester = plan.requester.as_str();
    Err(Why::Halted {
        what: format!("maintenance {} is not over, and {other}", run.number),
        help: format!(
            "`{}` goes on with it as it was planned; `{}` brings the server back, and then it can begin anew",
            again(run),
            ebb_model::resume_server(requester)
        ),
    })
}

/// What is being brought back is not gone forward with, and what nobody holds any more is no maintenance.
fn goes_forward(world: &World, run: &Run, driven: bool) -> Result<(), Why> {
    let requester = run.plan.requester.as_str();
    if driven && is_coming_back(run) {
        return Err(Why::Halted {
            what: format!("maintenance {} is being brought back at this moment", run.number),
            help: format!(
                "`ebb maintenance watch` shows it; `{}` ends the watch; begin anew when it is over",
                ebb_model::resume_server(requester)
            ),
        });
    }
    if !is_coming_back(run) && tell::was_released(run, server_hold(world, run)?.is_some()) {
        return Err(Why::Halted {
            what: format!("maintenance {} does not hold the server any more: somebody has released it", run.number),
            help: format!("`{}` ends it; then it can begin anew", ebb_model::resume_server(requester)),
        });
    }
    Ok(())
}

/// A plan beside one that stands: that is what would be gone on with.
async fn rest_of(world: &World, run: Run, reply: &Reply) -> Result<(), Why> {
    reply.send(Frame::Maintenance(tell::maintenance(world, &run))).await;
    Ok(())
}

/// One that is not over is gone on with by who began it, and watched by them.
async fn may_go_on(
    world: &World,
    run: &Run,
    (request, wish, not): (&MaintenanceStart, &Checked, &[ServiceName]),
    by: &Who,
    reply: &Reply,
) -> Result<(), Why> {
    let requester = run.plan.requester.clone();
    if requester != wish.requester {
        return Err(Why::Maintained { run: run.number, requester });
    }
    as_planned(run, request, wish, not)?;
    goes_forward(world, run, world.maintenance.live().is_some())?;
    let text = format!("maintenance {} is not over: it is gone on with, as it was planned", run.number);
    reply.send(say::note(None, false, text)).await;
    if matches!(next(run), Next::Halted(..)) && !request.dry_run {
        write(world, run.number, Entry::StartAsked, &by.name)?;
    }
    Ok(())
}

async fn finish(world: &Arc<World>, request: MaintenanceFinish, by: &Who, reply: &Reply) -> Result<(), Why> {
    let requester = match Requester::new(request.requester.clone()) {
        Ok(requester) => requester,
        Err(error) => return usage(reply, &[error.to_string()]).await,
    };
    if request.accept_worse.as_deref().is_some_and(|reason| reason.trim().is_empty()) {
        return usage(reply, &["to open although a check is worse needs a reason".to_owned()]).await;
    }
    let asking = world.maintenance.asking.lock().await;
    let run = match current(world)? {
        Some(run) if run.plan.requester != requester => {
            return Err(Why::Maintained { run: run.number, requester: run.plan.requester });
        }
        Some(run) => run,
        None => match held_without_run(world, &requester)? {
            Some(server) => run_of(world, &server, request.dry_run)?,
            None => {
                let text = format!(
                    "no maintenance of `{requester}` is under way, and it does not hold the server: nothing to do"
                );
                reply.send(say::note(None, false, text)).await;
                return Ok(());
            }
        },
    };
    if request.dry_run {
        let services = look::services(world).await?;
        return plan::tell_back(run, &services, reply).await;
    }
    work::must_not_run(world, &run).await?;
    let wheel = drive::wheel(world)?;
    write(world, run.number, Entry::FinishAsked { accept_worse: request.accept_worse.clone() }, &by.name)?;
    if let Some(live) = world.maintenance.live() {
        live.word.notify_one();
    }
    drop(asking);
    drive::drive_or_join(world, run.number, wheel, reply).await
}

fn held_without_run(world: &World, requester: &Requester) -> Result<Option<ServerHold>, Why> {
    let servers = world.store().server_holds().map_err(|error| unread(&error))?;
    Ok(servers.into_iter().find(|server| server.requester == *requester))
}

/// A hold on the server that was placed by itself is released in the same way: as the second half of a maintenance.
fn run_of(world: &World, server: &ServerHold, dry_run: bool) -> Result<Run, Why> {
    let plan = MaintenancePlan {
        requester: server.requester.clone(),
        reason: server.reason.clone(),
        by: server.by.clone(),
        layers: vec![server.covers.iter().cloned().collect()],
        not: Vec::new(),
        meant_for: None,
        reopen: false,
        except: server.except.clone(),
        delay: ebb_model::Span::ZERO,
        deadline: None,
        then: ebb_model::Then::Ask,
        work: Work::ByHand,
        drill: false,
        watch: ebb_model::Span::ZERO,
        override_guards: None,
    };
    let lines = [Step::Guards, Step::Hold, Step::Drain(0)].map(|step| [Entry::Began(step), Entry::Done(step)]).concat();
    let first = line(world, Entry::StartAsked, &server.by.name);
    let journal: Vec<Line> = lines.into_iter().map(|entry| line(world, entry, "held before")).collect();
    if dry_run {
        let journal = [first].into_iter().chain(journal).collect();
        return Ok(Run { number: 0, plan, journal });
    }
    let mut store = world.store();
    let number = store.begin_run(&plan, &first).map_err(|error| unread(&error))?;
    for line in &journal {
        store.add_line(number, line).map_err(|error| unread(&error))?;
    }
    store
        .run(Some(number))
        .map_err(|error| unread(&error))?
        .ok_or_else(|| Why::Unread { what: "the run".to_owned(), cause: "it was written, and is not there".to_owned() })
}

async fn status(world: &Arc<World>, reply: &Reply) -> Result<(), Why> {
    let run = world.store().run(None).map_err(|error| unread(&error))?;
    match run {
        Some(run) => drop(reply.send(Frame::Maintenance(tell::maintenance(world, &run))).await),
        None => drop(reply.send(say::note(None, false, "no maintenance has been made on this server")).await),
    }
    Ok(())
}

async fn watch(world: &Arc<World>, reply: &Reply) -> Result<(), Why> {
    match world.maintenance.live() {
        Some(live) if live.hub.join().show_run(reply).await => Ok(()),
        _ => status(world, reply).await,
    }
}

/// The hold on the server that a run has.
fn server_hold(world: &World, run: &Run) -> Result<Option<ServerHold>, Why> {
    held_without_run(world, &run.plan.requester)
}

/// What its services are held for.
const fn level(plan: &MaintenancePlan) -> Level {
    if plan.drill { Level::Draining } else { Level::Stopped }
}

/// All is drained, and the work is done now: a reboot is a part of it, or may be.
pub(crate) fn is_at_work(world: &World) -> bool {
    let run = current(world).ok().flatten();
    let at_work =
        |run: &Run| matches!(next(run), Next::AwaitFinish | Next::Do(Step::Work) | Next::Halted(Step::Work, _));
    run.is_some_and(|run| at_work(&run) && !run.plan.drill)
}

/// Services that are being brought back by a maintenance: nothing keeps them from starting.
pub(crate) fn coming_back(world: &World) -> BTreeSet<ServiceName> {
    let run = current(world).ok().flatten().filter(is_coming_back);
    let server = run.and_then(|run| server_hold(world, &run).ok().flatten());
    server.map(|server| server.covers).unwrap_or_default()
}

/// A hold on the server has come to its end, and is to be released then.
pub(crate) async fn at_end(world: &Arc<World>, server: &ServerHold, reply: &Reply) -> Result<(), Why> {
    let request = MaintenanceFinish { requester: server.requester.to_string(), accept_worse: None, dry_run: false };
    finish(world, request, &server.by, reply).await
}
