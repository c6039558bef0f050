//! `ebb completions`

use clap::Args;
use clap_complete::Shell;

use crate::args;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb completions bash > /etc/bash_completion.d/ebb
      for all users of bash
  ebb completions fish > ~/.config/fish/completions/ebb.fish
      for one user of fish";

/// `ebb completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Of which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints them.
///
/// # Errors
/// [`Problem::Output`]
pub fn run(args: &CompletionsArgs, screen: &mut Screen) -> Result<Exit, Problem> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "ebb", &mut text);
    screen.result(&text)?;
    Ok(Exit::Done)
}
