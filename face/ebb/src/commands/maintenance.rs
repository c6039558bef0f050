//! `ebb maintenance`, and `ebb drain --server`, `ebb resume --server`.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use ebb_link::{Client, LinkError};
use ebb_model::{MAINTENANCE, Span};
use ebb_wire::v1::{MaintenanceFinish, MaintenanceRequest, MaintenanceStart, Request, Wish};

use super::ask::{Answer, Leave, ask, look};
use super::drain::AtDeadline;
use super::question;
use crate::args::AtEnd;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::maintenance::Maintenance;
use crate::screen::Screen;
use crate::values::{duration, whole_seconds};

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb maintenance start --dry-run
      what would be done, in which order, and who is connected now
  ebb maintenance start --reason \"new disks\"
      refuse new connections everywhere but at ssh and monitoring, drain and stop all services; the work is yours
  ebb maintenance start --reason \"kernel 6.1.140\" --reboot
      the same, then reboot, start, verify, open, and watch for 5 minutes
  ebb maintenance start --reason \"security updates\" --deadline 30m --then end -- apt-get -y upgrade
      the work is a command; after half an hour who is left is ended
  ebb maintenance start --reason \"new switch\" --in 15m --for 1h
      tell people now, and begin in a quarter of an hour; `ebb maintenance finish` calls it off
  ebb maintenance start --drill
      everything but stop and work, and then back: how long would it take
  ebb maintenance status
      how far it is, and what to type next
  ebb maintenance finish
      start what was stopped, verify it, let new connections in

Ctrl-C stops only the watching. A crash or a reboot at any point is gone on with by the resident agent.";

/// `ebb maintenance`
#[derive(Debug, Args)]
pub struct MaintenanceArgs {
    /// What to do.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take the whole server out of service, or go on with one that waits for somebody
    Start(Box<StartArgs>),
    /// Show how far it is, and what to type next
    Status,
    /// Watch it until it rests
    Watch,
    /// Bring the server back
    Finish(FinishArgs),
}

/// `ebb maintenance start`
#[derive(Debug, Args)]
struct StartArgs {
    /// Why; everybody who looks sees it. On a terminal it is asked for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// For how long it is meant; what happens then is --at-end's, by the resident agent
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    meant_for: Option<Span>,
    /// At the end of --for: stay shut and raise an alarm, or bring the server back
    #[arg(long, value_enum, value_name = "WHAT", requires = "meant_for", default_value_t = AtEnd::Stay)]
    at_end: AtEnd,
    /// Leave this service open; may be repeated
    #[arg(long, value_name = "SERVICE")]
    not: Vec<String>,
    /// Let this address or range in all the same, to test; may be repeated
    #[arg(long, value_name = "CIDR")]
    except: Vec<String>,
    /// Tell people now (docs/notify.md), and begin after this time
    #[arg(long = "in", value_name = "TIME", value_parser = duration)]
    delay: Option<Span>,
    /// Stop waiting for the sessions of a service after this time [default: maintenance.deadline in ebb.toml, or none]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Span>,
    /// What happens at the deadline [default: maintenance.then in ebb.toml, or ask]
    #[arg(long, value_enum, value_name = "WHAT")]
    then: Option<AtDeadline>,
    /// The work is a reboot
    #[arg(long, conflicts_with = "command")]
    reboot: bool,
    /// Everything but stop and work, and then back
    #[arg(long, conflicts_with_all = ["reboot", "command"])]
    drill: bool,
    /// How long the server is watched after it was opened [default: maintenance.watch in ebb.toml, or 5m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    watch: Option<Span>,
    /// Go on in spite of guards that refuse, for this reason, which is written down
    #[arg(long, value_name = "REASON")]
    override_guards: Option<String>,
    /// Ask nothing: a reason must be given, or be settled in ebb.toml
    #[arg(long, short)]
    yes: bool,
    /// Print what would be done, and who is connected; wins over every other flag
    #[arg(long)]
    dry_run: bool,
    /// The work: a command and its arguments. Without one it is done by hand, until `ebb maintenance finish`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl StartArgs {
    fn request(&self) -> MaintenanceStart {
        MaintenanceStart {
            wish: Wish {
                requester: MAINTENANCE.to_owned(),
                reason: self.reason.clone(),
                for_seconds: self.meant_for.map(whole_seconds),
                reopen: self.at_end == AtEnd::Reopen,
                except: self.except.clone(),
                unasked: self.yes && !self.dry_run,
            },
            not: self.not.clone(),
            delay_seconds: self.delay.map_or(0, whole_seconds),
            deadline_seconds: self.deadline.map(whole_seconds),
            then: self.then.map(Into::into),
            command: self.command.clone(),
            reboot: self.reboot,
            drill: self.drill,
            watch_seconds: self.watch.map(whole_seconds),
            override_guards: self.override_guards.clone(),
            asker_pid: Some(std::process::id()),
            dry_run: self.dry_run,
        }
    }
}

/// `ebb maintenance finish`
#[derive(Debug, Args)]
struct FinishArgs {
    /// Open although a check is worse than before, for this reason, which is written down
    #[arg(long, value_name = "REASON")]
    accept_worse: Option<String>,
    /// Print what would be done; wins over every other flag
    #[arg(long)]
    dry_run: bool,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: MaintenanceArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    match args.what {
        What::Start(args) => start(args.request(), client, screen).await,
        What::Status => look(client, Request::Maintenance(MaintenanceRequest::Status), &mut Maintenance, screen).await,
        What::Watch => shown(MaintenanceRequest::Watch, client, screen).await,
        What::Finish(args) => {
            finish(MAINTENANCE.to_owned(), args.accept_worse.clone(), args.dry_run, client, screen).await
        }
    }
}

/// `ebb maintenance start`, `ebb drain --server`
///
/// # Errors
/// [`Problem`]
pub async fn start(mut request: MaintenanceStart, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    if !request.dry_run {
        question::reason(&mut request.wish, screen)?;
    }
    shown(MaintenanceRequest::Start(request), client, screen).await
}

/// `ebb maintenance finish`, `ebb resume --server`
///
/// # Errors
/// [`Problem`]
pub async fn finish(
    requester: String,
    accept_worse: Option<String>,
    dry_run: bool,
    client: &Client,
    screen: &mut Screen,
) -> Result<Exit, Problem> {
    shown(MaintenanceRequest::Finish(MaintenanceFinish { requester, accept_worse, dry_run }), client, screen).await
}

/// How long an agent may be away: a server may be rebooted without us, but not its agent alone.
const AWAY: Duration = Duration::from_secs(60);
/// Between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(200);

/// Shows it until it rests; an agent that is replaced meanwhile is not noticed.
async fn shown(request: MaintenanceRequest, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let mut request = request;
    let undo = ebb_model::resume_server(match &request {
        MaintenanceRequest::Start(start) => &start.wish.requester,
        MaintenanceRequest::Finish(finish) => &finish.requester,
        MaintenanceRequest::Status | MaintenanceRequest::Watch => MAINTENANCE,
    });
    let mut until = None::<Instant>;
    let mut leave = Leave::by_signal()?;
    loop {
        let asked = Request::Maintenance(request.clone());
        match ask(client, asked, &mut Maintenance, screen, &mut leave).await {
            Ok(Answer::Whole(exit)) => return Ok(exit),
            Ok(Answer::Left { .. }) => break,
            // The agent was replaced, or killed: the next one goes on with it.
            Err(Problem::CutShort) if client.is_resident() => {
                screen.say("The agent has ended; the maintenance goes on with the next one.");
                until = Some(Instant::now() + AWAY);
            }
            Err(Problem::Link(LinkError::Gone | LinkError::Socket { .. }))
                if until.is_some_and(|until| Instant::now() < until) =>
            {
                if leave.within(AGAIN).await {
                    break;
                }
            }
            Err(problem) => return Err(problem),
        }
        request = MaintenanceRequest::Watch;
    }
    screen.say(&left(client.is_resident(), &undo));
    screen.result(b"")?;
    Ok(Exit::Detached)
}

fn left(resident: bool, undo: &str) -> String {
    let (what, first) = if resident {
        ("The agent goes on with it.", "to watch again: ebb maintenance watch")
    } else {
        ("Nobody goes on with it now: what is held stays held.", "to go on:       the same command again")
    };
    format!("\n{what}\n  {first}\n  to see it:      ebb maintenance status\n  to undo:        {undo}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, Verb};
    use clap::Parser;

    fn start(line: &str) -> MaintenanceStart {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Verb(Verb::Maintenance(MaintenanceArgs { what: What::Start(args) })) => args.request(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_flag_reaches_the_request() {
        let request = start("ebb maintenance start");
        assert_eq!(
            (request.wish.requester.as_str(), request.deadline_seconds, request.then),
            ("maintenance", None, None)
        );
        assert!(request.command.is_empty() && !request.reboot && !request.drill && !request.wish.unasked);
        let request = start(
            "ebb maintenance start --reason x --for 2h --at-end reopen --not mail --deadline 30m --then end --watch 1m \
             --yes --override-guards known -- apt-get -y upgrade",
        );
        assert_eq!(request.command, ["apt-get", "-y", "upgrade"]);
        assert_eq!((request.deadline_seconds, request.watch_seconds), (Some(1800), Some(60)));
        assert_eq!((request.wish.for_seconds, request.wish.reopen, request.wish.unasked), (Some(7200), true, true));
        assert_eq!((request.not, request.override_guards.as_deref()), (vec!["mail".to_owned()], Some("known")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "ebb maintenance",
            "ebb maintenance start --reboot -- true",
            "ebb maintenance start --drill --reboot",
            "ebb maintenance start nginx",
            "ebb maintenance start --at-end reopen",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
