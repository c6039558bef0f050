//! `ebb services`

use clap::Args;
use ebb_link::Client;
use ebb_wire::v1::Request;

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::Text;
use crate::render::doors::Doors;
use crate::render::services::Services;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb services
      all services of this server
  ebb services --doors
      a line for each door, and what cannot be held there
  ebb services --json | jq -r 'select(.type == \"service\" and .state != \"open\").name'
      names of those that are not open";

/// `ebb services`
#[derive(Debug, Args)]
pub struct ServicesArgs {
    /// Do not count sessions
    #[arg(long)]
    no_count: bool,
    /// A line for each door
    #[arg(long)]
    doors: bool,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &ServicesArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let (mut services, mut doors) = (Services::default(), Doors::default());
    let text: &mut dyn Text = if args.doors { &mut doors } else { &mut services };
    look(client, Request::Services { count: !args.no_count, daemons: args.doors }, text, screen).await
}
