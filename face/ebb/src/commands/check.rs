//! `ebb check`

use clap::Args;
use ebb_link::Client;
use ebb_wire::v1::{CheckRequest, Request};

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::check::Guards;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb check
      ask all guards; exit code 1 if one refuses
  ebb check disk-root failed-units
      only these
  ebb check --save
      before some work: keep the list
  ebb check --diff
      after it: what is better or worse than in the list kept; exit code 1 if something is worse that counts

Guards are built in, or written in ebb.toml; docs/guards.md explains each.";

/// `ebb check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Which guards; all if none is named
    #[arg(value_name = "GUARD")]
    guards: Vec<String>,
    /// Keep the list, to compare later ones with it
    #[arg(long)]
    save: bool,
    /// Compare with the list that was kept
    #[arg(long)]
    diff: bool,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: CheckArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let CheckArgs { guards, save, diff } = args;
    let request = CheckRequest { guards, save, against: diff, asker_pid: Some(std::process::id()) };
    look(client, Request::Check(request), &mut Guards::default(), screen).await
}
