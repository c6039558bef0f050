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
use ebb_agent::Running;
use ebb_link::{Client, Found};
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
        Command::Gate(args) => commands::gate::run(&args, &globals, &mut screen),
        Command::Config(args) => with_runtime(commands::config::run(&args, &globals, &mut screen)),
        Command::Uninstall(args) => with_runtime(commands::uninstall::run(&args, &globals, &mut screen)),
        Command::Agent(_) => with_runtime(commands::agent::run(&globals, &mut screen)),
        Command::Verb(verb) => with_runtime(with_agent(verb, &globals, &mut screen)),
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

fn with_runtime(work: impl Future<Output = Result<Exit, Problem>>) -> Result<Exit, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Problem::Start)?;
    let done = runtime.block_on(work);
    // A thread that reads the kernel may be in the middle of it; nobody waits for that any more.
    runtime.shutdown_background();
    done
}

async fn with_agent(verb: Verb, globals: &Globals, screen: &mut Screen) -> Result<Exit, Problem> {
    let (client, running) = connect(globals).await?;
    let done = commands::run(verb, &client, screen).await;
    // An agent of ours ends when its last client is gone.
    drop(client);
    if let Some(running) = running {
        let _ = tokio::time::timeout(TIDY, running.stop()).await;
    }
    done
}

/// To the resident agent; where none is, or it does not speak to us, one in this process with our own rights.
async fn connect(globals: &Globals) -> Result<(Client, Option<Running>), Problem> {
    if let Found::Agent(client) = Client::find(&commands::agent::socket(globals), ebb_agent::behalf()).await? {
        return Ok((client, None));
    }
    let (client, running) = ebb_agent::start(commands::place(globals))?;
    Ok((client, Some(running)))
}
