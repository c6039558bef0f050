//! Commands that change something.

use clap::{Args, ValueEnum};
use ebb_model::Span;
use ebb_wire::v1::{Then, Which, Wish};

use super::look::span;
use crate::values::{rate, whole_seconds};

/// Which services a command means.
#[derive(Clone, Debug, Args)]
pub struct WhichArgs {
    /// Which services
    #[arg(required_unless_present = "all", value_name = "SERVICE")]
    pub services: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "services")]
    pub all: bool,
    /// But not this one; may be repeated
    #[arg(long, value_name = "SERVICE", requires = "all")]
    pub not: Vec<String>,
}

impl From<&WhichArgs> for Which {
    fn from(which: &WhichArgs) -> Self {
        Self { services: which.services.clone(), all: which.all, not: which.not.clone() }
    }
}

/// The hold that a command places.
#[derive(Clone, Debug, Args)]
pub struct WishArgs {
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// In whose name the hold is; only they release it
    #[arg(long = "as", value_name = "REQUESTER", default_value = "operator")]
    pub requester: String,
    /// For how long it is meant, as in 2h (said, not enforced)
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    pub for_span: Option<Span>,
    /// Let this address range in all the same; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub except: Vec<String>,
}

impl From<&WishArgs> for Wish {
    fn from(wish: &WishArgs) -> Self {
        Self {
            requester: wish.requester.clone(),
            reason: wish.reason.clone(),
            for_seconds: wish.for_span.map(whole_seconds),
            except: wish.except.clone(),
        }
    }
}

/// What happens at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ThenArg {
    /// Say who remains, and change nothing more
    Ask,
    /// Goodbye, grace, then destroy
    End,
    /// Destroy at once
    Cut,
}

impl From<ThenArg> for Then {
    fn from(then: ThenArg) -> Self {
        match then {
            ThenArg::Ask => Self::Ask,
            ThenArg::End => Self::End,
            ThenArg::Cut => Self::Cut,
        }
    }
}

/// `ebb drain`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb drain nginx                                  wait as long as it takes, then stop it
  ebb drain nginx --dry-run                        what would happen, and to whom
  ebb drain nginx --deadline 30m                   after 30 min say who remains; the gate stays shut
  ebb drain nginx --deadline 30m --then end        after 30 min end who remains
  ebb drain nginx --no-stop --except 10.0.0.7      leave it running, drained, for a tester
  ebb drain --all --not ssh --reason 'kernel update'

Ctrl-C stops watching: hold and gate stay. The same command again goes on, `ebb resume` undoes.")]
pub struct DrainArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    #[command(flatten)]
    pub wish: WishArgs,
    /// Wait for this long at most, as in 30m
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub deadline: Option<Span>,
    /// What happens at the deadline
    #[arg(long, value_name = "WHAT", default_value = "ask", requires = "deadline")]
    pub then: ThenArg,
    /// Leave it running, drained and held
    #[arg(long)]
    pub no_stop: bool,
    /// No session may have been left for this long before it is called drained
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "2s")]
    pub settle: Span,
    /// Between goodbye and destruction
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5s")]
    pub grace: Span,
    /// How long UDP flows are learnt before others are refused
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "30s")]
    pub udp_learn: Span,
    /// Print what would happen, and change nothing; wins over everything else
    #[arg(long)]
    pub dry_run: bool,
}

/// `ebb end`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb end nginx --session 1ff58 --session 1ff60
  ebb end nginx --peer 10.1.0.0/16 --rate 100/s
  ebb end nginx --idle-over 10m --yes
  ebb end nginx --all --over 5m          spread over five minutes
  ebb end nginx --all --cut              without goodbye and grace

It asks on a terminal unless --yes is given; elsewhere --yes is needed.")]
#[command(group(clap::ArgGroup::new("choice").required(true).args(["session", "peer", "idle_over", "all"])))]
pub struct EndArgs {
    /// Of which service
    pub service: String,
    /// This session, by its id in `ebb sessions`; may be repeated
    #[arg(long, value_name = "ID")]
    pub session: Vec<String>,
    /// Those of this address range
    #[arg(long, value_name = "CIDR")]
    pub peer: Option<String>,
    /// Those idle for longer than this
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub idle_over: Option<Span>,
    /// All of them
    #[arg(long)]
    pub all: bool,
    /// Destroy at once
    #[arg(long)]
    pub cut: bool,
    /// At most so many, as in 100/s
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub rate: Option<f64>,
    /// Spread over this time
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub over: Option<Span>,
    /// Between goodbye and destruction
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5s")]
    pub grace: Span,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Only say how many
    #[arg(long)]
    pub dry_run: bool,
}

/// `ebb resume`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb resume nginx
  ebb resume --all                 everything that `operator` holds
  ebb resume nginx --as deploy     in the name of deploy

It starts what a drain had stopped, waits until each door answers a probe, and only then opens the gate.")]
pub struct ResumeArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// In whose name
    #[arg(long = "as", value_name = "REQUESTER", default_value = "operator")]
    pub requester: String,
    /// How long a service may take to be up
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "90s")]
    pub up_within: Span,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `ebb hold`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb hold nginx --reason 'broken certificate'
  ebb hold nginx --as deploy --for 15m")]
pub struct HoldArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    #[command(flatten)]
    pub wish: WishArgs,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `ebb release`
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "EXAMPLES
  ebb release nginx
  ebb release nginx --as deploy

It starts and verifies nothing; `ebb resume` does.")]
pub struct ReleaseArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// In whose name
    #[arg(long = "as", value_name = "REQUESTER", default_value = "operator")]
    pub requester: String,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
