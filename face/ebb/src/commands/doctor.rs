//! `ebb doctor`

use ebb_link::Client;
use ebb_wire::v1::Request;

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::doctor::Findings;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb doctor
      what is not as it should be, and the command that mends it; exit code 1 if there is anything

It looks for gates that are open although somebody holds, or shut although nobody does, for holds that may have been
forgotten, for interrupted drains, and for units that are, or are not, kept from starting.";

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    look(client, Request::Doctor, &mut Findings::default(), screen).await
}
