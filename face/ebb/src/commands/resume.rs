//! `ebb resume`

use clap::Args;
use ebb_link::Client;
use ebb_model::Span;
use ebb_wire::v1::{Request, ResumeRequest};

use super::ask::{Answer, Leave, ask};
use super::{again, question};
use crate::args::{AsArgs, WhichArgs};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::resume::Resume;
use crate::screen::Screen;
use crate::values::{duration, whole_seconds};

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb resume nginx
      release my hold, start nginx, verify each door, let new connections in
  ebb resume --all
      everything that the operator holds
  ebb resume nginx --as deploy
      in the name of another requester
  ebb resume nginx --all-holders --reason \"the deploy job has died\" --yes
      release the holds of all requesters; it is written down
  ebb resume --server
      the whole server, after `ebb drain --server`
  ebb resume nginx --as-is
      after its ports were changed: verify the doors that it has now, not those that it had
  ebb resume nginx --dry-run
      what would be done";

/// `ebb resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Which services.
    #[command(flatten)]
    which: WhichArgs,
    /// In whose name.
    #[command(flatten)]
    as_whom: AsArgs,
    /// How long a service may take until it answers
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90s", hide_short_help = true)]
    up_within: Span,
    /// Take the doors that it has now for those that it should have
    #[arg(long)]
    as_is: bool,
    /// With --server: open although a check is worse than before, for this reason, which is written down
    #[arg(long, value_name = "REASON", requires = "server")]
    accept_worse: Option<String>,
    /// Release the holds of all requesters, not only mine: needs a reason, which is written down
    #[arg(long, conflicts_with = "server")]
    all_holders: bool,
    /// With --all-holders: why
    #[arg(long, value_name = "TEXT", requires = "all_holders", default_value = "", hide_default_value = true)]
    reason: String,
    /// With --all-holders: do not ask
    #[arg(long, short, requires = "all_holders")]
    yes: bool,
    /// Print what would be done; wins over every other flag
    #[arg(long)]
    dry_run: bool,
}

impl ResumeArgs {
    fn request(&self, all_holders: Option<String>) -> Request {
        Request::Resume(ResumeRequest {
            which: self.which.which(),
            requester: self.as_whom.requester.clone(),
            up_within_seconds: whole_seconds(self.up_within),
            as_is: self.as_is,
            all_holders,
            dry_run: self.dry_run,
        })
    }
}

/// Others' holds are released for a reason, by somebody who has said so twice; none if they have not.
fn overriding(args: &ResumeArgs, screen: &mut Screen) -> Result<Option<String>, Problem> {
    if args.dry_run {
        return Ok(Some("--dry-run".to_owned()));
    }
    if args.yes {
        return Ok(Some(args.reason.clone()));
    }
    if !question::somebody_is_there() {
        return Err(Problem::NobodyToAsk);
    }
    let which = again("status", &args.which, "");
    if !question::agreed(screen, &format!("Release the holds of all requesters (`{which}` shows them)? [y/N] "))? {
        return Ok(None);
    }
    let typed = &args.reason;
    Ok(Some(if typed.is_empty() {
        question::answer(screen, "Reason, which is written down: ")?
    } else {
        typed.clone()
    }))
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &ResumeArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    if args.which.server {
        let requester = args.as_whom.requester.clone();
        return super::maintenance::finish(requester, args.accept_worse.clone(), args.dry_run, client, screen).await;
    }
    let all_holders = match args.all_holders {
        true => match overriding(args, screen)? {
            Some(reason) => Some(reason),
            None => {
                screen.say("Nothing was released.");
                screen.result(b"")?;
                return Ok(Exit::Done);
            }
        },
        false => None,
    };
    let mut leave = if args.dry_run { Leave::NEVER } else { Leave::by_signal()? };
    match ask(client, args.request(all_holders), &mut Resume::new(args.dry_run), screen, &mut leave).await? {
        Answer::Whole(exit) => Ok(exit),
        Answer::Left { .. } => {
            let status = if args.which.all { "ebb status".to_owned() } else { again("status", &args.which, "") };
            let resume = again("resume", &args.which, &args.as_whom.requester);
            screen.say(&format!("\nLeft in the middle.\n  to see how it is: {status}\n  to go on:         {resume}"));
            screen.result(b"")?;
            Ok(Exit::Detached)
        }
    }
}
