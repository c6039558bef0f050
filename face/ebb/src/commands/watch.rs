//! `ebb watch`

use clap::Args;
use ebb_link::Client;
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

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: WatchArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let request = Request::Watch(WatchRequest { services: args.services });
    match ask(client, request, &mut Drain, screen, Leave::by_signal()?).await? {
        Answer::Whole(exit) => Ok(exit),
        Answer::Left { .. } => {
            screen.say("\nThe agent goes on with it; `ebb watch` shows it again.");
            screen.result(b"")?;
            Ok(Exit::Detached)
        }
    }
}
