//! `ebb`, the one binary: arguments to requests, answers to text or JSON, and to an exit code.
//!
//! It decides nothing. With no agent running it starts one in this process for the length of the command.

mod args;
mod commands;
mod exit;
#[cfg(test)]
mod fixture;
mod problem;
mod render;
#[cfg(test)]
mod schema;
mod screen;
mod values;

use std::process::ExitCode;
use std::time::Duration;

use args::{Cli, Command, Globals, Verb};
use ebb_agent::{Place, Running};
use ebb_link::Client;
use exit::Exit;
use problem::Problem;
use screen::Screen;

/// What an agent may take to finish what we left behind; then it is left behind as if we had been killed.
const TIDY: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let Cli { globals, command } = args::parse();
    anstream_choice(globals.color).write_global();
    let mut screen = Screen::new(globals.json, globals.quiet);
    let done = match command {
        // On the main thread, while it is the only one: a trial makes namespaces.
        Command::Try(args) => commands::try_it::run(&args, globals.json),
        Command::Completions(args) => commands::completions::run(&args, &mut screen),
        Command::Man(args) => commands::man::run(&args, &mut screen),
        Command::Verb(verb) => with_runtime(verb, &globals, &mut screen),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(problem) => {
            screen.problem(&problem);
            problem.exit().into()
        }
    }
}

const fn anstream_choice(color: clap::ColorChoice) -> anstream::ColorChoice {
    match color {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::Always,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    }
}

fn with_runtime(verb: Verb, globals: &Globals, screen: &mut Screen) -> Result<Exit, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Problem::Start)?;
    let done = runtime.block_on(with_agent(verb, globals, screen));
    // A thread that reads the kernel may be in the middle of it; nobody waits for that any more.
    runtime.shutdown_background();
    done
}

async fn with_agent(verb: Verb, globals: &Globals, screen: &mut Screen) -> Result<Exit, Problem> {
    let (client, running) = connect(globals)?;
    let done = commands::run(verb, &client, screen).await;
    // The agent ends when its last client is gone.
    drop(client);
    let _ = tokio::time::timeout(TIDY, running.stop()).await;
    done
}

fn connect(globals: &Globals) -> Result<(Client, Running), Problem> {
    let place = Place { state_dir: globals.state_dir.clone(), config: globals.config.clone() };
    Ok(ebb_agent::start(place)?)
}
