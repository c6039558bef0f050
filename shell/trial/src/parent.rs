//! The first process of a trial: starts the stage, waits for its end, and tidies up.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::error::started;
use crate::place::Place;
use crate::process::OURSELVES;
use crate::waiting::LIMIT;
use crate::{Error, Options, Role};

/// So long the stage may need to end its processes when we let go of it.
const TIDYING: Duration = Duration::from_secs(2);

/// How a trial ended. The stage has told its story and its figures by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Stage(u8),
    /// The stage was killed, by this signal.
    Killed(i32),
    /// By Ctrl-C or the like; nothing is left of it.
    Interrupted,
    /// It took longer than it may, and did not even say so; nothing is left of it.
    TooLong,
}

/// A whole trial: 60 s at most. Its story appears on our own standard output and standard error. When this returns, no process
/// and no file of it is left; if we are killed, the stage sees to that.
///
/// # Errors
/// [`Error::NoPlace`], [`Error::Start`]: nothing has happened then.
pub async fn run(options: &Options) -> Result<Ended, Error> {
    let place = Place::make()?;
    let mut command = Command::new(OURSELVES);
    if let Some(colour) = options.colour {
        // The usual signs, which every process of the trial understands.
        command.env_remove("NO_COLOR").env(if colour { "CLICOLOR_FORCE" } else { "NO_COLOR" }, "1");
    }
    let mut stage = command
        .arg0("ebb")
        .args(options.arguments(Role::Stage, place.dir()))
        .stdin(Stdio::piped())
        // Ctrl-C is for us alone: the commands on the stage would take it as said to them.
        .process_group(0)
        .spawn()
        .map_err(started("start the stage"))?;
    // The leash: must live as long as we want the stage to.
    let leash = stage.stdin.take();
    let ended = watch(&mut stage).await?;
    drop(leash);
    if timeout(TIDYING, stage.wait()).await.is_err() {
        // Everything on the stage is bound to end with it. Gone already: so much the better.
        let _ = stage.kill().await;
    }
    drop(place);
    Ok(ended)
}

async fn watch(stage: &mut Child) -> Result<Ended, Error> {
    let hear = |kind| signal(kind).map_err(started("listen for signals"));
    let mut interrupt = hear(SignalKind::interrupt())?;
    let mut terminate = hear(SignalKind::terminate())?;
    let mut hang_up = hear(SignalKind::hangup())?;
    tokio::select! {
        status = stage.wait() => status.map(ended).map_err(started("wait for the stage")),
        _ = interrupt.recv() => Ok(Ended::Interrupted),
        _ = terminate.recv() => Ok(Ended::Interrupted),
        _ = hang_up.recv() => Ok(Ended::Interrupted),
        () = sleep(LIMIT - TIDYING) => Ok(Ended::TooLong),
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code().and_then(|code| u8::try_from(code).ok()), status.signal()) {
        (Some(code), _) => Ended::Stage(code),
        (None, signal) => Ended::Killed(signal.unwrap_or(0)),
    }
}
