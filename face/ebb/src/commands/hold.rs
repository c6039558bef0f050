//! `ebb hold`

use clap::Args;
use ebb_link::Client;
use ebb_model::Span;
use ebb_wire::v1::{HoldRequest, Request};

use super::ask::look;
use super::question::reason;
use crate::args::{WhichArgs, WishArgs};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::hold::Hold;
use crate::screen::Screen;
use crate::values::{duration, whole_seconds};

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb hold nginx --reason \"disk is failing\"
      refuse new connections from now on, also after a reboot
  ebb hold nginx --as health --for 2h
      in the name of a health check, meant for two hours
  ebb hold nginx --except 192.0.2.7
      let only one tester in
  ebb hold --server --reason \"the rack loses power\"
      all services but ssh and monitoring, and those that come later";

/// `ebb hold`
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// Which services.
    #[command(flatten)]
    which: WhichArgs,
    /// The hold.
    #[command(flatten)]
    wish: WishArgs,
    /// Print what would be done; wins over every other flag
    #[arg(long)]
    dry_run: bool,
    /// How long UDP flows are learnt before others are refused
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s", hide_short_help = true)]
    udp_learn: Span,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &HoldArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let mut wish = args.wish.wish();
    if !args.dry_run {
        reason(&mut wish, screen)?;
    }
    let request = HoldRequest {
        which: args.which.which(),
        wish,
        learn_seconds: whole_seconds(args.udp_learn),
        dry_run: args.dry_run,
    };
    look(client, Request::Hold(request), &mut Hold { dry_run: args.dry_run }, screen).await
}
