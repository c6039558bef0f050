//! The command line: what may be typed, and what it means.

mod look;
mod take;

pub use look::{EventsArgs, ServicesArgs, SessionsArgs, StatusArgs};
pub use take::{DrainArgs, EndArgs, HoldArgs, ReleaseArgs, ResumeArgs};

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::try_it::TryArgs;

/// `ebb --help`: commands by task.
const GROUPS: &str = "\
{before-help}{about}

Usage: {usage}

Look:
  services     Which services this server has, and their state
  sessions     Who is connected to a service, for how long, and why still
  status       Held services as they are now, and what to type next
  events       What happened, and when

Take out of service:
  drain        Refuse newcomers, wait until nobody is left, prove it, stop the service
  end          End chosen sessions, politely or at once

Bring back:
  resume       Start it, verify that each door answers, open the gate

Holds:
  hold         Refuse newcomers, and wait for nothing
  release      Release a hold, and start nothing
  holds        Who holds what, since when, and why

Learn:
  try          See it at work: a pool of two servers in namespaces, drained before your eyes
  help         This page, or that of a command: ebb help drain

Options:
{options}

Exit codes: 0 done, 3 deadline reached with sessions left, 4 a leak was seen, 5 held by another requester,
6 ended badly, 7 detached by Ctrl-C, 8 not permitted, 9 not supported here, 10 no such service; 1 and 2 as usual.
{after-help}";

/// Takes a service out of service without dropping anyone, and brings it back.
#[derive(Debug, Parser)]
#[command(name = "ebb", version, help_template = GROUPS, max_term_width = 110, disable_help_subcommand = false)]
pub struct Cli {
    /// What every command has.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every command has.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Print one JSON object per line instead of text (docs/json.md)
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and refusals only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Where holds and history are kept
    #[arg(long, global = true, value_name = "DIR", env = "EBB_STATE_DIR", default_value = "/var/lib/ebb")]
    pub state_dir: PathBuf,
    /// The configuration; need not exist
    #[arg(long, global = true, value_name = "FILE", env = "EBB_CONFIG", default_value = "/etc/ebb/ebb.toml")]
    pub config: PathBuf,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Colour,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Which services this server has, and their state
    Services(ServicesArgs),
    /// Who is connected to a service, for how long, and why still
    Sessions(SessionsArgs),
    /// Held services as they are now, and what to type next
    Status(StatusArgs),
    /// What happened, and when
    Events(EventsArgs),
    /// Refuse newcomers, wait until nobody is left, prove it, stop the service
    Drain(DrainArgs),
    /// End chosen sessions, politely or at once
    End(EndArgs),
    /// Start it, verify that each door answers, open the gate
    Resume(ResumeArgs),
    /// Refuse newcomers, and wait for nothing
    Hold(HoldArgs),
    /// Release a hold, and start nothing
    Release(ReleaseArgs),
    /// Who holds what, since when, and why
    #[command(after_long_help = "EXAMPLES\n  ebb holds\n  ebb holds --json | jq -r .service")]
    Holds,
    /// See it at work: a pool of two servers in namespaces, drained before your eyes
    #[command(after_long_help = "EXAMPLES\n  ebb try\n  ebb try --sessions 2000\n  ebb try --json")]
    Try(TryArgs),
    /// Print completions for a shell
    #[command(hide = true, after_long_help = "EXAMPLES\n  ebb completions bash > /etc/bash_completion.d/ebb")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages
    #[command(hide = true, after_long_help = "EXAMPLES\n  ebb man /usr/share/man/man1")]
    Man {
        /// Where to.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
}
