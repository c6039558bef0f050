//! `ebb holds`

use ebb_link::Client;
use ebb_wire::v1::Request;

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::holds::Holds;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb holds
      whose, why, since when, until when
  ebb holds --json | jq -r 'select(.requester == \"deploy\").service'
      what `deploy` holds";

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    look(client, Request::Holds, &mut Holds::default(), screen).await
}
