//! `ebb agent`

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Globals;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb agent
      stay: keep what is held, go on with drains whose viewers have left, serve the other commands
  ip netns exec trial ebb agent --state-dir /tmp/trial
      the same with a state directory, a socket and a network of its own, to try it

packaging/ebb-agent.service runs it under systemd. SIGTERM ends it; holds, gates and drains stay, and the next agent goes on.
SIGHUP makes it read its configuration again, which it does by itself too, some seconds after a change.";

/// `ebb agent`
#[derive(Debug, Args)]
pub struct AgentArgs {}

/// Where its socket is: beside the state directory's own things, unless that is the usual one.
#[must_use]
pub fn socket(globals: &Globals) -> PathBuf {
    match &globals.socket {
        Some(path) => path.clone(),
        None if globals.state_dir.as_os_str() == "/var/lib/ebb" => "/run/ebb/agent.sock".into(),
        None => globals.state_dir.join("agent.sock"),
    }
}

/// Stays until it is told to end.
///
/// # Errors
/// [`Problem`]
pub async fn run(globals: &Globals, screen: &mut Screen) -> Result<Exit, Problem> {
    let hear = |kind| signal(kind).map_err(Problem::Start);
    let (mut interrupt, mut terminate) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    // From the beginning: unheard, it would end us.
    let mut hangup = hear(SignalKind::hangup())?;
    let path = socket(globals);
    let resident = ebb_agent::reside(super::place(globals), path.clone()).await?;
    let adopted = match resident.adopted() {
        0 => String::new(),
        1 => "; goes on with 1 drain".to_owned(),
        count => format!("; goes on with {count} drains"),
    };
    screen.say(&format!("serves at {}{adopted}", path.display()));
    screen.result(b"")?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let again = async || {
        let _ = hangup.recv().await;
    };
    resident.serve(stop, again).await;
    Ok(Exit::Done)
}
