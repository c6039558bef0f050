//! `ebb protect`

use clap::{Args, Subcommand};
use ebb_link::Client;
use ebb_model::Span;
use ebb_wire::v1::{ProtectRequest, Request};

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::protect::Protect;
use crate::screen::Screen;
use crate::values::{duration, whole_seconds};

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb protect off --for 10m --reason \"power supply is failing\"
      let this server be rebooted, and its services be stopped, although sessions live
  ebb protect on
      protect them again

What is protected, and from what, is settled by [protect] in ebb.toml; `ebb status` shows what is refused now.";

/// `ebb protect`
#[derive(Debug, Args)]
pub struct ProtectArgs {
    /// Which way.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lift it: until the next boot, or for --for
    Off {
        /// Why; it goes to the history and the journal
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// For how long
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        length: Option<Span>,
    },
    /// Restore it
    On,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &ProtectArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let request = match &args.what {
        What::Off { reason, length } => {
            ProtectRequest { off: true, reason: reason.clone(), for_seconds: length.map(whole_seconds) }
        }
        What::On => ProtectRequest { off: false, reason: String::new(), for_seconds: None },
    };
    look(client, Request::Protect(request), &mut Protect, screen).await
}
