//! `ebb watch`

use std::time::{Duration, Instant};

use clap::Args;
use ebb_link::{Client, LinkError};
use ebb_wire::v1::{Request, WatchRequest};

use super::ask::{Answer, Leave, ask};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::drain::Drain;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb watch nginx
      watch the drain of nginx that the resident agent goes on with, to its report
  ebb watch
      all drains that are under way

Ctrl-C leaves; the drain goes on. Without a resident agent `ebb drain` goes on with a drain that was left.";

/// `ebb watch`
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Which drains; all that are under way if none is named
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// How long an agent may be away: systemd starts it again after a second.
const AWAY: Duration = Duration::from_secs(60);
/// Between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(200);

/// Joins drains again whose agent has ended in the middle, once another one is there; as often as it takes.
///
/// # Errors
/// [`Problem`]: no agent came back.
pub async fn rejoin(
    services: &[String],
    client: &Client,
    screen: &mut Screen,
    leave: &mut Leave,
) -> Result<Answer, Problem> {
    let mut until = Instant::now() + AWAY;
    loop {
        let request = Request::Watch(WatchRequest { services: services.to_vec(), rejoin: true });
        match ask(client, request, &mut Drain, screen, leave).await {
            Err(Problem::Link(LinkError::Gone | LinkError::Socket { .. })) if Instant::now() < until => {
                if leave.within(AGAIN).await {
                    return Ok(Answer::Left { stopping: false });
                }
            }
            Err(Problem::CutShort) => until = Instant::now() + AWAY,
            other => return other,
        }
    }
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: WatchArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let request = Request::Watch(WatchRequest { services: args.services.clone(), rejoin: false });
    let mut leave = Leave::by_signal()?;
    let answer = match ask(client, request, &mut Drain, screen, &mut leave).await {
        Err(Problem::CutShort) if client.is_resident() => rejoin(&args.services, client, screen, &mut leave).await?,
        answer => answer?,
    };
    match answer {
        Answer::Whole(exit) => Ok(exit),
        Answer::Left { .. } => {
            screen.say("\nThe agent goes on with it; `ebb watch` shows it again.");
            screen.result(b"")?;
            Ok(Exit::Detached)
        }
    }
}
