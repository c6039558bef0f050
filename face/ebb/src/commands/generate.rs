//! Completions and man pages, from the one description of the command line.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::Exit;
use crate::problem::Problem;

/// `ebb completions`
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(shell: clap_complete::Shell) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ebb", &mut script);
    let mut said = crate::render::Said { out: script, ..Default::default() };
    super::write(&mut said)?;
    Ok(Exit::Done)
}

/// `ebb man`
///
/// # Errors
/// The directory cannot be written.
pub fn man(dir: &Path) -> Result<Exit, Problem> {
    let failed = |cause| Problem::Man { dir: dir.to_owned(), cause };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    Ok(Exit::Done)
}
