//! `ebb`: parses, asks the agent, renders, exits. It decides nothing.

mod args;
mod commands;
mod exit;
mod problem;
mod render;
mod values;

#[cfg(test)]
mod fixture;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Colour, Verb};
use exit::Exit;
use problem::Problem;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.common.color {
        Colour::Auto => {}
        Colour::Always => anstream::ColorChoice::Always.write_global(),
        Colour::Never => anstream::ColorChoice::Never.write_global(),
    }
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            commands::say_problem(&problem, &cli.common);
            problem.exit().into()
        }
    }
}

fn run(cli: &Cli) -> Result<Exit, Problem> {
    match &cli.verb {
        // It makes namespaces, which only a process of one thread can: before any runtime.
        Verb::Try(args) => commands::try_it::run(args, cli.common.json),
        Verb::Completions { shell } => commands::generate::completions(*shell),
        Verb::Man { dir } => commands::generate::man(dir),
        verb => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Problem::Start)?;
            let exit = runtime.block_on(commands::run(verb, &cli.common));
            // A lookup that still blocks must not hold up the exit.
            runtime.shutdown_background();
            exit
        }
    }
}
