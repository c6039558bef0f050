//! `ebb events`

use clap::Args;
use ebb_link::Client;
use ebb_wire::v1::{EventsRequest, Request};

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::events::Events;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb events
      the last events of this server
  ebb events --service nginx --last 5
      the last five of nginx
  ebb events --follow --json
      each as it happens, as a line of JSON; Ctrl-C ends it

Numbers and journal ids are in docs/events.md; `journalctl -x` explains them where the catalog is installed.";

/// `ebb events`
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Only of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// The last so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: usize,
    /// Go on with new ones, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: EventsArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    // To follow is to be patient: no word of waiting between two events.
    screen.patient(args.follow);
    let request = EventsRequest { service: args.service, last: args.last, follow: args.follow, after: None };
    look(client, Request::Events(request), &mut Events::default(), screen).await
}
