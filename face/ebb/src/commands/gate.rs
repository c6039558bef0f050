//! `ebb gate`

use clap::{Args, Subcommand};

use crate::args::Globals;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb gate restore
      shut the gates of all holds, as they are on disk: what packaging/ebb-gate.service does at boot";

/// `ebb gate`
#[derive(Debug, Args)]
pub struct GateArgs {
    /// What to do with it.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Shut the gates of all holds as they are on disk; needs no agent, no systemd and no network
    Restore,
}

/// Does it, without an agent.
///
/// # Errors
/// [`Problem`]
pub fn run(args: &GateArgs, globals: &Globals, screen: &mut Screen) -> Result<Exit, Problem> {
    let What::Restore = args.what;
    let restored = ebb_agent::restore_gate(&globals.state_dir).map_err(Problem::Gate)?;
    let text = match restored.doors {
        0 => "no service is held: every gate is open".to_owned(),
        doors => format!("new connections are refused at {doors} doors of {} held services", restored.services),
    };
    screen.say(&text);
    if let Some(why) = &restored.from_copy {
        screen.say(&format!("warning: the store could not be read, this is its copy: {why}"));
    }
    screen.result(b"")?;
    // Seen as a failed unit, with the gates shut all the same.
    Ok(if restored.from_copy.is_some() { Exit::Failed } else { Exit::Done })
}
