//! `ebb drain`

use clap::{Args, ValueEnum};
use ebb_link::Client;
use ebb_model::{Queue, Span};
use ebb_wire::v1::{self, DrainRequest, MaintenanceStart, Request, Then, Wish};

use super::again;
use super::ask::{Answer, Leave, ask};
use super::question::reason;
use crate::args::{WhichArgs, WishArgs};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::drain::Drain;
use crate::screen::Screen;
use crate::values::{duration, rate, whole_seconds};

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb drain nginx --dry-run
      what would be done, and who is connected now
  ebb drain nginx
      refuse new connections, wait until the last session has ended, stop nginx
  ebb drain nginx --deadline 30m
      wait for half an hour at most, then say who is left; exit code 3
  ebb drain postgresql --deadline 2h --then end --reason \"kernel upgrade\"
      after two hours end who is left, and stop it
  ebb drain postgresql --idle now --over 5m --deadline 2h
      end who is idle, spread over five minutes, and wait for those at work
  ebb drain nginx --no-stop --except 10.0.0.0/8
      leave it running, and let 10.0.0.0/8 in to test it
  ebb drain postfix@- --queue move:mx2.example.org
      send what is in its queue by another server, and stop it when all has left
  ebb drain --all --not ssh
      everything but ssh, side by side
  ebb drain --server --not mail
      the whole server but ssh, monitoring and mail, in order; `ebb resume --server` brings it back

Ctrl-C stops only the watching: hold and gate stay, and `ebb drain` again goes on.";

/// `ebb drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Which services.
    #[command(flatten)]
    which: WhichArgs,
    /// Stop waiting after this time, as in 30m or 2h [default: none]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Span>,
    /// What happens at the deadline
    #[arg(long, value_enum, value_name = "WHAT", requires = "deadline")]
    then: Option<AtDeadline>,
    /// Leave the service running, drained and held
    #[arg(long, conflicts_with = "server")]
    no_stop: bool,
    /// The hold.
    #[command(flatten)]
    wish: WishArgs,
    /// Print what would be done and who is connected; wins over every other flag
    #[arg(long)]
    dry_run: bool,
    /// For how long nobody may be left before it counts as drained
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s", hide_short_help = true)]
    settle: Span,
    /// With --then end: time between the goodbye and the end
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s", hide_short_help = true)]
    grace: Span,
    /// When idle sessions are told goodbye: at the deadline with --then end, or at once
    #[arg(long, value_enum, value_name = "WHEN", conflicts_with = "server")]
    idle: Option<When>,
    /// When sessions that are at work are told goodbye
    #[arg(long, value_enum, value_name = "WHEN", conflicts_with = "server")]
    active: Option<When>,
    /// End at most so many, as in 100/s or 30/m: those who come back elsewhere do not all come at once
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with = "server")]
    rate: Option<f64>,
    /// Spread endings evenly over this time
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["rate", "server"])]
    over: Option<Span>,
    /// Of a mail server: leave what is deferred in its queue, try it once more (flush), or send all of it by another
    /// server (move:HOST)
    #[arg(long, value_name = "WHAT", conflicts_with = "server")]
    queue: Option<Queue>,
    /// How long UDP flows are learnt before others are refused
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s", hide_short_help = true)]
    udp_learn: Span,
}

/// When sessions of a class are told goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// At the deadline
    Wait,
    /// At once; whoever does not heed it is left alone until the deadline
    Now,
}

impl From<When> for v1::When {
    fn from(when: When) -> Self {
        match when {
            When::Wait => Self::Wait,
            When::Now => Self::Now,
        }
    }
}

/// What happens at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AtDeadline {
    /// Stop waiting, say who is left; the gate stays shut
    Ask,
    /// End who is left: a goodbye, a grace, then a reset
    End,
    /// Reset who is left at once
    Cut,
}

impl From<AtDeadline> for Then {
    fn from(then: AtDeadline) -> Self {
        match then {
            AtDeadline::Ask => Self::Ask,
            AtDeadline::End => Self::End,
            AtDeadline::Cut => Self::Cut,
        }
    }
}

impl DrainArgs {
    fn request(&self, wish: Wish) -> DrainRequest {
        DrainRequest {
            which: self.which.which(),
            wish,
            deadline_seconds: self.deadline.map(whole_seconds),
            then: self.then.map(Then::from).unwrap_or_default(),
            stop: !self.no_stop,
            settle_ms: self.settle.0,
            grace_ms: self.grace.0,
            learn_seconds: whole_seconds(self.udp_learn),
            idle: self.idle.map(Into::into).unwrap_or_default(),
            active: self.active.map(Into::into).unwrap_or_default(),
            rate_per_second: self.rate,
            over_seconds: self.over.map(whole_seconds),
            queue: self.queue.as_ref().map(ToString::to_string),
            dry_run: self.dry_run,
        }
    }

    /// The whole server: a maintenance in the operator's name, whose work is done by hand.
    fn of_server(&self) -> MaintenanceStart {
        MaintenanceStart {
            wish: self.wish.wish(),
            not: self.which.not.clone(),
            delay_seconds: 0,
            deadline_seconds: self.deadline.map(whole_seconds),
            then: self.then.map(Into::into),
            command: Vec::new(),
            reboot: false,
            drill: false,
            watch_seconds: None,
            override_guards: None,
            asker_pid: Some(std::process::id()),
            dry_run: self.dry_run,
        }
    }

    /// What Ctrl-C leaves behind, and how to go on. `resident`: the agent goes on;
    /// `stopping`: a stop has begun.
    fn left(&self, resident: bool, stopping: bool) -> String {
        let requester = &self.wish.as_whom.requester;
        let (stays, watch) = if resident {
            let watch = if self.which.all { "ebb watch".to_owned() } else { again("watch", &self.which, "") };
            ("The agent goes on with it: hold and gate stay, and all else is done as asked.", watch)
        } else {
            let stays = if stopping {
                "Nobody watches any more. Hold and gate stay; the stop that has begun goes on."
            } else {
                "Nobody watches any more. Hold and gate stay: new connections are refused, and nothing is stopped."
            };
            (stays, again("drain", &self.which, requester))
        };
        format!(
            "\n{stays}\n  to watch again: {watch}\n  to see it:      {}\n  to undo:        {}",
            if self.which.all { "ebb status".to_owned() } else { again("status", &self.which, "") },
            again("resume", &self.which, requester)
        )
    }
}

/// Asks and shows, until it is over or the operator leaves.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &DrainArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    if args.which.server {
        return super::maintenance::start(args.of_server(), client, screen).await;
    }
    let mut wish = args.wish.wish();
    if !args.dry_run {
        reason(&mut wish, screen)?;
    }
    let mut leave = if args.dry_run { Leave::NEVER } else { Leave::by_signal()? };
    let answer = match ask(client, Request::Drain(args.request(wish)), &mut Drain, screen, &mut leave).await {
        // The agent was replaced, or killed: the next one goes on with what this one left under way.
        Err(Problem::CutShort) if client.is_resident() => {
            screen.say("The agent has ended; the drain goes on with the next one.");
            super::watch::rejoin(&args.which.services, client, screen, &mut leave).await?
        }
        // Whoever read it has gone, and the drain is not over: that is no success.
        Err(problem) if problem.is_broken_pipe() && !args.dry_run => return Ok(Exit::Detached),
        answer => answer?,
    };
    match answer {
        Answer::Whole(exit) => Ok(exit),
        Answer::Left { stopping } => {
            screen.say(&args.left(client.is_resident(), stopping));
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

    fn args(line: &str) -> DrainArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Verb(Verb::Drain(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn request(line: &str) -> DrainRequest {
        let args = args(line);
        args.request(args.wish.wish())
    }

    #[test]
    fn defaults_wait_for_ever_and_stop() {
        let request = request("ebb drain nginx");
        assert_eq!(request.deadline_seconds, None);
        assert_eq!((request.stop, request.then, request.dry_run), (true, Then::Ask, false));
        assert_eq!((request.settle_ms, request.grace_ms, request.learn_seconds), (2000, 5000, 30));
        assert_eq!((request.wish.requester.as_str(), request.wish.reason.as_str()), ("operator", ""));
    }

    #[test]
    fn each_flag_reaches_the_request() {
        let request = request(
            "ebb drain nginx ssh --deadline 1h30m --then cut --no-stop --reason upgrade --as deploy --for 2d --except \
             10.0.0.0/8 --except ::1 --dry-run --settle 500ms",
        );
        assert_eq!(request.which.services, ["nginx", "ssh"]);
        assert_eq!((request.deadline_seconds, request.then), (Some(5400), Then::Cut));
        assert_eq!((request.stop, request.dry_run, request.settle_ms), (false, true, 500));
        assert_eq!(request.wish.for_seconds, Some(172_800));
        assert_eq!(request.wish.except, ["10.0.0.0/8", "::1"]);
        assert_eq!((request.wish.requester.as_str(), request.wish.reason.as_str()), ("deploy", "upgrade"));
    }

    #[test]
    fn leaving_says_what_stays_and_how_to_go_on() {
        let text = args("ebb drain nginx --as deploy").left(false, false);
        assert!(text.contains("Hold and gate stay"));
        assert!(text.ends_with(
            "  to watch again: ebb drain nginx --as deploy\n  to see it:      ebb status nginx\n  to undo:        ebb \
             resume nginx --as deploy"
        ));
        let resident = args("ebb drain nginx --as deploy").left(true, false);
        assert!(resident.contains("The agent goes on") && resident.contains("to watch again: ebb watch nginx\n"));
        assert!(args("ebb drain --all").left(false, false).contains("to see it:      ebb status\n"));
    }
}
