//! `ebb release`

use clap::Args;
use ebb_link::Client;
use ebb_wire::v1::{ReleaseRequest, Request};

use super::ask::look;
use crate::args::{AsArgs, WhichArgs};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::hold::Hold;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb release nginx
      release my hold; the gate opens if no other stands
  ebb release --all --as deploy
      everything that `deploy` holds

`ebb resume` also starts the service and verifies it before the gate opens.";

/// `ebb release`
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Which services.
    #[command(flatten)]
    which: WhichArgs,
    /// In whose name.
    #[command(flatten)]
    as_whom: AsArgs,
    /// Print what would be done; wins over every other flag
    #[arg(long)]
    dry_run: bool,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &ReleaseArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let request =
        ReleaseRequest { which: args.which.which(), requester: args.as_whom.requester.clone(), dry_run: args.dry_run };
    look(client, Request::Release(request), &mut Hold { dry_run: args.dry_run }, screen).await
}
