//! `ebb notify`

use clap::{Args, Subcommand};
use ebb_link::Client;
use ebb_wire::v1::Request;

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::notify::Notify;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb notify list
      who is told by which way, what is queued or was given up, and the last error
  ebb notify test
      a test notice by every notifier; exit code 1 if any could not be sent
  ebb notify test ops
      by one of them";

/// `ebb notify`
#[derive(Debug, Args)]
pub struct NotifyArgs {
    /// What to do.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List notifiers, and what could not be sent
    List,
    /// Send a test notice
    Test {
        /// By this notifier only
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: NotifyArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let request = match args.what {
        What::List => Request::Notifiers,
        What::Test { name } => Request::NotifyTest { name },
    };
    look(client, request, &mut Notify::default(), screen).await
}
