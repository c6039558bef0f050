//! `ebb man`

use std::path::PathBuf;

use clap::Args;

use crate::args::Cli;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb man | man -l -
      read the page of ebb itself
  ebb man /usr/local/share/man/man1
      write one page for ebb and one for each command";

/// `ebb man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command here; without it, print the page of ebb
    dir: Option<PathBuf>,
}

/// Prints or writes them.
///
/// # Errors
/// [`Problem::Output`], [`Problem::Man`]
pub fn run(args: &ManArgs, screen: &mut Screen) -> Result<Exit, Problem> {
    // Not the command line with commands by task: a page has sections of its own for them.
    let command = <Cli as clap::CommandFactory>::command();
    match &args.dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).map_err(Problem::Output)?;
            screen.result(&page)?;
        }
        Some(dir) => {
            clap_mangen::generate_to(command, dir).map_err(|cause| Problem::Man { dir: dir.clone(), cause })?;
        }
    }
    Ok(Exit::Done)
}
