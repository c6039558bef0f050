//! `ebb resume`

use clap::Args;
use ebb_link::Client;
use ebb_model::Span;
use ebb_wire::v1::{Request, ResumeRequest};

use super::again;
use super::ask::{Answer, Leave, ask};
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
    /// Print what would be done; wins over every other flag
    #[arg(long)]
    dry_run: bool,
}

impl ResumeArgs {
    fn request(&self) -> Request {
        Request::Resume(ResumeRequest {
            which: self.which.which(),
            requester: self.as_whom.requester.clone(),
            up_within_seconds: whole_seconds(self.up_within),
            as_is: self.as_is,
            dry_run: self.dry_run,
        })
    }
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &ResumeArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let leave = if args.dry_run { Leave::NEVER } else { Leave::by_signal()? };
    match ask(client, args.request(), &mut Resume::new(args.dry_run), screen, leave).await? {
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
