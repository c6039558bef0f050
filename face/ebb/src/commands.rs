//! One file per command: arguments to a request, the answer to text and an exit code. Nothing is decided here.

pub mod agent;
pub mod ask;
pub mod check;
pub mod completions;
pub mod config;
pub mod doctor;
pub mod drain;
pub mod end;
pub mod eta;
pub mod events;
pub mod gate;
pub mod hold;
pub mod holds;
pub mod maintenance;
pub mod man;
pub mod notify;
pub mod protect;
pub mod question;
pub mod release;
pub mod resume;
pub mod services;
pub mod sessions;
pub mod status;
pub mod try_it;
pub mod uninstall;
pub mod watch;

use ebb_link::Client;

use crate::args::{Globals, Verb};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::words::shell_word;
use crate::screen::Screen;

/// How to see it at work.
pub const TRY_EXAMPLES: &str = "\
EXAMPLES
  ebb try
      drain one of two servers under load, before your eyes; no root needed
  ebb try --sessions 50 --seconds 10
      the same, smaller and shorter
  ebb try --json
      only the figures";

/// Carries out a verb.
///
/// # Errors
/// [`Problem`]: what could not be asked or written. What the agent refuses is in the exit code.
pub async fn run(verb: Verb, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    match verb {
        Verb::Services(args) => services::run(&args, client, screen).await,
        Verb::Drain(args) => drain::run(&args, client, screen).await,
        Verb::Sessions(args) => sessions::run(&args, client, screen).await,
        Verb::Eta(args) => eta::run(&args, client, screen).await,
        Verb::End(args) => end::run(&args, client, screen).await,
        Verb::Resume(args) => resume::run(&args, client, screen).await,
        Verb::Hold(args) => hold::run(&args, client, screen).await,
        Verb::Release(args) => release::run(&args, client, screen).await,
        Verb::Holds => holds::run(client, screen).await,
        Verb::Status(args) => status::run(args, client, screen).await,
        Verb::Events(args) => events::run(args, client, screen).await,
        Verb::Check(args) => check::run(args, client, screen).await,
        Verb::Doctor => doctor::run(client, screen).await,
        Verb::Protect(args) => protect::run(&args, client, screen).await,
        Verb::Watch(args) => watch::run(args, client, screen).await,
        Verb::Maintenance(args) => maintenance::run(args, client, screen).await,
        Verb::Notify(args) => notify::run(args, client, screen).await,
    }
}

/// Where an agent keeps and finds its things.
pub fn place(globals: &Globals) -> ebb_agent::Place {
    ebb_agent::Place { state_dir: globals.state_dir.clone(), config: globals.config.clone() }
}

/// `ebb VERB` with the same services and requester, to be typed again.
fn again(verb: &str, which: &crate::args::WhichArgs, requester: &str) -> String {
    let mut words = vec!["ebb".to_owned(), verb.to_owned()];
    if which.all {
        words.push("--all".to_owned());
    }
    if which.server {
        words.push("--server".to_owned());
    }
    words.extend(which.services.iter().map(|name| shell_word(name)));
    if !requester.is_empty() && requester != "operator" {
        words.extend(["--as".to_owned(), shell_word(requester)]);
    }
    words.join(" ")
}
