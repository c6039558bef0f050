//! The one loop of a maintenance: what comes next, do it, write it down.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Instant;

use ebb_decide::maintenance::{Next, next};
use ebb_link::{Hub, Reply};
use ebb_model::{Entry, Run, Step, Why, printable};
use ebb_wire::v1::{Frame, StepState};
use tokio::sync::Notify;

use super::{Live, current, steps, tell, write};
use crate::say;
use crate::world::{World, unread};

/// Takes the wheel, before anything is written: what another process drives is not changed under its hands. None where we
/// drive one ourselves, which can be joined.
pub(super) fn wheel(world: &World) -> Result<Option<File>, Why> {
    if world.maintenance.live().is_some() {
        return Ok(None);
    }
    if !world.store().is_writable() {
        return Err(Why::NotPermitted { what: format!("write to {}", world.place.state_dir.display()) });
    }
    world.store().make().map_err(|error| unread(&error))?;
    only_one(world).map(Some)
}

/// Drives a run until it rests, or watches the one that drives it already.
pub(super) async fn drive_or_join(world: &Arc<World>, run: u64, wheel: Option<File>, reply: &Reply) -> Result<(), Why> {
    if !world.resident {
        let _only = wheel.map_or_else(|| only_one(world), Ok)?;
        drive(world, run, reply, &Notify::new()).await?;
        return rest(world, run, reply).await;
    }
    let seat = {
        let mut live = world.maintenance.lock();
        match live.as_ref() {
            Some(live) => live.hub.join(),
            None => begin(world, run, wheel, &mut live)?.join(),
        }
    };
    if !seat.show_run(reply).await {
        // It came to rest in this very moment.
        rest(world, run, reply).await?;
    }
    Ok(())
}

/// The last word on a run that rests.
async fn rest(world: &World, number: u64, reply: &Reply) -> Result<(), Why> {
    let run = world.store().run(Some(number)).map_err(|error| unread(&error))?;
    if let Some(run) = run {
        reply.send(Frame::Maintenance(tell::maintenance(world, &run))).await;
    }
    Ok(())
}

/// Begins to drive a run without waiting for it.
fn begin(world: &Arc<World>, run: u64, wheel: Option<File>, live: &mut Option<Live>) -> Result<Hub, Why> {
    let only = wheel.map_or_else(|| only_one(world), Ok)?;
    let (hub, reply) = Hub::new();
    let word = Arc::new(Notify::new());
    *live = Some(Live { hub: hub.clone(), word: Arc::clone(&word) });
    let world = Arc::clone(world);
    tokio::spawn(async move {
        loop {
            if let Err(why) = drive(&world, run, &reply, &word).await {
                world.complain(&format!("maintenance {run} cannot be gone on with: {why}"));
                reply.send(say::refusal(None, &why)).await;
                *world.maintenance.lock() = None;
                break;
            }
            // Whoever has said another word has joined before we look, or finds nobody here after.
            let mut live = world.maintenance.lock();
            let now = world.store().run(Some(run)).ok().flatten();
            if now.as_ref().is_some_and(|run| matches!(next(run), Next::Do(_) | Next::End)) {
                continue;
            }
            if let Some(run) = now {
                reply.offer(Frame::Maintenance(tell::maintenance(&world, &run)));
            }
            *live = None;
            drop(only);
            break;
        }
    });
    Ok(hub)
}

/// Goes on with a run that an agent before us, or a command that was killed, left in the middle.
pub(crate) fn adopt(world: &Arc<World>) -> Result<(), Why> {
    let mut live = world.maintenance.lock();
    if live.is_some() {
        return Ok(());
    }
    match current(world)? {
        Some(run) if matches!(next(&run), Next::Do(_) | Next::End) => match begin(world, run.number, None, &mut live) {
            // A command drives it.
            Err(Why::Halted { .. }) => Ok(()),
            other => other.map(drop),
        },
        _ => Ok(()),
    }
}

/// Two would each do what the other does.
fn only_one(world: &World) -> Result<File, Why> {
    let path = world.place.state_dir.join("maintenance.lock");
    let failed = |error: std::io::Error| Why::Unwritten { what: path.display().to_string(), cause: error.to_string() };
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => Err(Why::Halted {
            what: "another process drives this maintenance at this moment".to_owned(),
            help: "`ebb maintenance status` shows how far it is".to_owned(),
        }),
    }
}

/// Whether some process drives it now.
pub(crate) fn is_driven(world: &World) -> bool {
    only_one(world).is_err()
}

async fn drive(world: &Arc<World>, number: u64, reply: &Reply, word: &Notify) -> Result<(), Why> {
    loop {
        let run = world.store().run(Some(number)).map_err(|error| unread(&error))?;
        let Some(run) = run else { return Ok(()) };
        if run.journal.len() == 1 {
            tell::began(world, &run, reply).await;
        }
        match next(&run) {
            Next::Do(step) => do_step(world, &run, step, reply, word).await?,
            Next::End => {
                tell::finished(world, &run, reply).await;
                write(world, number, Entry::Over, "")?;
            }
            Next::AwaitFinish | Next::Halted(..) | Next::Over => return Ok(()),
        }
    }
}

async fn do_step(world: &Arc<World>, run: &Run, step: Step, reply: &Reply, word: &Notify) -> Result<(), Why> {
    write(world, run.number, Entry::Began(step), "")?;
    tell::step(run, step, StepState::Began, String::new(), None, reply).await;
    let began = Instant::now();
    let done = tokio::select! {
        done = steps::perform(world, run, step, reply) => done,
        // Asked back in the middle: the journal has it, and it decides.
        () = word.notified(), if matches!(step, Step::Announce | Step::Drain(_)) => return Ok(()),
    };
    let took = Some(began.elapsed().as_secs_f64());
    match done {
        Ok(text) => {
            write(world, run.number, Entry::Done(step), &text)?;
            tell::step(run, step, StepState::Done, text, took, reply).await;
        }
        Err(why) => {
            let help = why.help().map_or_else(String::new, |help| format!("; {help}"));
            let text = printable(&format!("{why}{help}"));
            write(world, run.number, Entry::Failed(step), &text)?;
            tell::step(run, step, StepState::Failed, text.clone(), took, reply).await;
            tell::halted(world, run, step, &text, reply).await;
        }
    }
    Ok(())
}
