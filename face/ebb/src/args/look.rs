//! Commands that change nothing.

use clap::{Args, ValueEnum};
use ebb_model::Span;
use ebb_wire::v1::Sort;

use crate::values::duration;

/// `ebb services`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb services                    all of them, with their sessions counted
  ebb services --no-count         without counting
  ebb services --doors            a line for each door, and what is not held there
  ebb services --json | jq -r 'select(.type==\"service\") | .name'")]
pub struct ServicesArgs {
    /// Do not count sessions
    #[arg(long)]
    pub no_count: bool,
    /// A line for each door
    #[arg(long)]
    pub doors: bool,
}

/// Order of a list of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortArg {
    /// Oldest first
    Age,
    /// Longest idle first
    Idle,
    /// Most bytes first
    Bytes,
    /// By client address
    Peer,
}

impl From<SortArg> for Sort {
    fn from(sort: SortArg) -> Self {
        match sort {
            SortArg::Age => Self::Age,
            SortArg::Idle => Self::Idle,
            SortArg::Bytes => Self::Bytes,
            SortArg::Peer => Self::Peer,
        }
    }
}

/// `ebb sessions`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb sessions nginx                       oldest first
  ebb sessions nginx --sort idle --limit 20
  ebb sessions nginx --watch               again each second
  ebb sessions ssh --json | jq -r .peer

AGE is what the kernel can bound: `≥ 41 min` means at least so old.")]
pub struct SessionsArgs {
    /// Which service
    pub service: String,
    /// Order
    #[arg(long, value_name = "BY", default_value = "age")]
    pub sort: SortArg,
    /// Show at most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Show again each second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Do not look up which process holds each
    #[arg(long)]
    pub no_processes: bool,
    /// Look up the names of clients (asks the resolver)
    #[arg(long)]
    pub names: bool,
}

/// `ebb status`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb status               every held service
  ebb status nginx         this one, held or not")]
pub struct StatusArgs {
    /// Which services; all held ones if none is named
    pub services: Vec<String>,
}

/// `ebb events`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb events                          the last 50
  ebb events --service nginx --last 10
  ebb events --follow

Numbers and journal ids are in docs/events.md; `journalctl -x` explains them where the catalog is installed.")]
pub struct EventsArgs {
    /// Only of this service
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// The last so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub last: usize,
    /// Go on with new ones, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
}

/// Parses a duration for clap.
pub fn span(text: &str) -> Result<Span, String> {
    duration(text)
}
