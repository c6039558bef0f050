//! `ebb status`

use clap::Args;
use ebb_link::Client;
use ebb_wire::v1::Request;

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::status::Held;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb status
      all services that are held
  ebb status nginx
      one, held or not";

/// `ebb status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which services; those that are held if none is named
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: StatusArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    look(client, Request::Status { services: args.services }, &mut Held::default(), screen).await
}
