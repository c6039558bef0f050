//! The one way to ask: a request out, frames in, until the answer is complete or the operator leaves.

use std::time::Duration;

use ebb_link::Client;
use ebb_wire::v1::{Frame, Request};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::Text;
use crate::screen::Screen;

/// Live lines are redrawn at most this often.
const REDRAW: Duration = Duration::from_millis(200);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is complete.
    Whole(Exit),
    /// The operator left before.
    Left,
}

/// Whether the operator can leave while the agent works on, and how that is heard.
#[derive(Debug)]
pub struct Leave(Option<(Signal, Signal)>);

impl Leave {
    /// Not: a signal ends the process, and nothing is lost by that.
    pub const NEVER: Self = Self(None);

    /// By Ctrl-C or SIGTERM. A lost terminal (SIGHUP) ends the process as ever: handling it would undo `nohup`.
    ///
    /// # Errors
    /// [`Problem::Start`]
    pub fn by_signal() -> Result<Self, Problem> {
        let hear = |kind| signal(kind).map_err(Problem::Start);
        Ok(Self(Some((hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?))))
    }

    async fn asked(&mut self) {
        match &mut self.0 {
            None => std::future::pending().await,
            Some((interrupt, terminate)) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
        }
    }
}

/// Asks, and shows the answer frame by frame.
///
/// # Errors
/// [`Problem`]
pub async fn ask(
    client: &Client,
    request: Request,
    text: &mut dyn Text,
    screen: &mut Screen,
    mut leave: Leave,
) -> Result<Answer, Problem> {
    screen.begin();
    let mut frames = client.ask(request).await?;
    let mut exit = Exit::Done;
    let mut redraw = tokio::time::interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // In this order: what has been said is written when no frame waits, not after each.
        tokio::select! {
            biased;
            () = leave.asked() => {
                screen.leave()?;
                return Ok(Answer::Left);
            }
            frame = frames.next() => match frame {
                None => return Err(Problem::CutShort),
                Some(Frame::Done) => {
                    screen.end(text)?;
                    return Ok(Answer::Whole(exit));
                }
                Some(frame) => {
                    exit = exit.graver(Exit::of(&frame));
                    screen.frame(&frame, text)?;
                }
            },
            () = std::future::ready(()), if screen.has_more() => screen.flush()?,
            _ = redraw.tick() => screen.tick()?,
        }
    }
}

/// Asks where leaving needs no words.
///
/// # Errors
/// [`Problem`]
pub async fn look(
    client: &Client,
    request: Request,
    text: &mut dyn Text,
    screen: &mut Screen,
) -> Result<Exit, Problem> {
    match ask(client, request, text, screen, Leave::NEVER).await? {
        Answer::Whole(exit) => Ok(exit),
        Answer::Left => Ok(Exit::Detached),
    }
}
