//! `ebb end`

use clap::{ArgGroup, Args};
use ebb_link::Client;
use ebb_model::{Span, printable};
use ebb_wire::v1::{Choose, EndRequest, Request};

use super::ask::{Answer, Leave, ask, look};
use super::question::{agreed, somebody_is_there};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::end::End;
use crate::render::words::many;
use crate::screen::Screen;
use crate::values::{duration, rate, whole_seconds};

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb end nginx --idle-over 10m
      end those that have been idle for more than ten minutes
  ebb end nginx --session 1a2f 1a30
      end these; `ebb sessions nginx` shows the ids
  ebb end nginx --peer 192.0.2.0/24 --dry-run
      how many come from there
  ebb end postgresql --user report
      end those of one user
  ebb end nginx --all --over 5m --yes
      end all, spread over five minutes, without a question";

/// `ebb end`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("choose").required(true).args(["session", "peer", "user", "idle_over", "all"]))]
pub struct EndArgs {
    /// Of which service
    service: String,
    /// These sessions, by id
    #[arg(long, value_name = "ID", num_args = 1..)]
    session: Vec<String>,
    /// Those from this address or range
    #[arg(long, value_name = "CIDR")]
    peer: Option<String>,
    /// Those of this user, as `ebb sessions` shows them
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Those idle for longer than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle_over: Option<Span>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Reset them at once, without goodbye and grace
    #[arg(long)]
    cut: bool,
    /// At most so many, as in 100/s or 30/m
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<f64>,
    /// Spread them evenly over this time
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "rate")]
    over: Option<Span>,
    /// Time between the goodbye and the reset of those who do not heed it
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s", hide_short_help = true)]
    grace: Span,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only say how many it would be; wins over every other flag
    #[arg(long)]
    dry_run: bool,
}

impl EndArgs {
    fn choose(&self) -> Choose {
        if let Some(peer) = &self.peer {
            Choose::Peer(peer.clone())
        } else if let Some(user) = &self.user {
            Choose::User(user.clone())
        } else if let Some(idle) = self.idle_over {
            Choose::IdleOver(whole_seconds(idle))
        } else if self.all {
            Choose::All
        } else {
            Choose::Ids(self.session.clone())
        }
    }

    fn request(&self, dry_run: bool) -> Request {
        Request::End(EndRequest {
            service: self.service.clone(),
            choose: self.choose(),
            cut: self.cut,
            rate_per_second: self.rate,
            over_seconds: self.over.map(whole_seconds),
            grace_ms: self.grace.0,
            dry_run,
        })
    }

    fn question(&self, count: u64) -> String {
        format!("End {} of {}? [y/N] ", many(count, "session"), printable(&self.service))
    }
}

/// Asks the operator, unless told not to; then asks the agent and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &EndArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    if args.dry_run {
        return look(client, args.request(true), &mut End::default(), screen).await;
    }
    if !args.yes {
        if !somebody_is_there() {
            return Err(Problem::NobodyToAsk);
        }
        let mut count = End { only_count: true, ..End::default() };
        screen.aside(true);
        let exit = look(client, args.request(true), &mut count, screen).await?;
        screen.aside(false);
        match count.chosen {
            _ if exit != Exit::Done => return Ok(exit),
            Some(chosen) if chosen > 0 && !agreed(screen, &args.question(chosen))? => {
                screen.say("Nothing was ended.");
                screen.result(b"")?;
                return Ok(Exit::Done);
            }
            _ => {}
        }
    }
    match ask(client, args.request(false), &mut End::default(), screen, &mut Leave::by_signal()?).await? {
        Answer::Whole(exit) => Ok(exit),
        Answer::Left { .. } => {
            screen.say("\nLeft: sessions that have not been ended yet stay.");
            screen.result(b"")?;
            Ok(Exit::Detached)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, Verb};
    use clap::Parser;

    fn args(line: &str) -> EndArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Verb(Verb::End(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_choice_reaches_the_request() {
        for (line, choose) in [
            ("ebb end nginx --session 1a 2b", Choose::Ids(vec!["1a".to_owned(), "2b".to_owned()])),
            ("ebb end nginx --peer 10.0.0.0/8", Choose::Peer("10.0.0.0/8".to_owned())),
            ("ebb end nginx --idle-over 10m", Choose::IdleOver(600)),
            ("ebb end nginx --all", Choose::All),
        ] {
            assert_eq!(args(line).choose(), choose, "{line}");
        }
        let Request::End(request) = args("ebb end nginx --all --cut --rate 30/m").request(false) else { panic!() };
        assert_eq!((request.cut, request.rate_per_second, request.over_seconds), (true, Some(0.5), None));
    }

    #[test]
    fn the_question_counts() {
        assert_eq!(args("ebb end nginx --all").question(37), "End 37 sessions of nginx? [y/N] ");
    }
}
