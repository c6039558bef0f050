//! `ebb uninstall`

use clap::Args;
use ebb_agent::{Keep, Removal, perform, plan_removal, tell_journal};
use ebb_wire::v1::{Frame, Note, Refusal, RefusalKind};

use crate::args::Globals;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::uninstall::Steps;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb uninstall --dry-run
      what would be removed, step by step
  ebb uninstall
      stop the agent, open the gate, remove drop-ins, units, state, configuration and the program itself
  ebb uninstall --force --reason \"this server is scrapped\"
      although services are held: their gates open, and the reason goes to the journal

It refuses while anybody holds a service, and says what releases each hold. What a package has installed is left to it:
`apt purge ebb`. If a step fails, the others are not begun; the same command goes on with what is left.";

/// `ebb uninstall`
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Remove it although services are held; needs --reason
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT", requires = "force")]
    reason: Option<String>,
    /// Leave /etc/ebb, and what was changed of ebb's own units
    #[arg(long)]
    keep_config: bool,
    /// Only what acts; a package's script removes the rest. Not for people
    #[arg(long, hide = true)]
    for_package: bool,
    /// Print the same plan, and change nothing; wins over every other flag
    #[arg(long)]
    dry_run: bool,
}

/// Plans, and does it.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &UninstallArgs, globals: &Globals, screen: &mut Screen) -> Result<Exit, Problem> {
    let place = super::place(globals);
    let keep = Keep { config: args.keep_config, for_package: args.for_package };
    let removal = plan_removal(&place, keep).await?;
    let mut text = Steps { dry_run: args.dry_run, any: false };
    let reason = args.reason.as_deref().filter(|reason| args.force && !reason.trim().is_empty());
    let stands = !removal.holds.is_empty() || removal.unread.is_some();
    let mut exit = Exit::Done;
    if stands && reason.is_none() {
        for refusal in refusals(&removal) {
            let frame = Frame::Refused(refusal);
            exit = exit.graver(Exit::of(&frame));
            screen.frame(&frame, &mut text)?;
        }
        // Nothing is to be said of steps that are not taken.
        text.any = true;
        text.dry_run = false;
        screen.end(&mut text)?;
        return Ok(exit);
    }
    if let Some(reason) = reason.filter(|_| stands && !args.dry_run) {
        let by = ebb_agent::behalf().map_or_else(|| "root".to_owned(), |(_, name)| name);
        tell_journal(&removal, &by, reason);
    }
    for step in &removal.steps {
        let done = if args.dry_run { Ok(()) } else { perform(&place, step).await };
        let frame = match done {
            Ok(()) => note(false, step.to_string()),
            Err(cause) => Frame::Refused(Refusal {
                service: None,
                kind: RefusalKind::Failed,
                why: format!("failed to {step}: {cause}"),
                help: Some("what was done before stays done; mend it, and type the same command again".to_owned()),
            }),
        };
        exit = exit.graver(Exit::of(&frame));
        screen.frame(&frame, &mut text)?;
        if exit != Exit::Done {
            break;
        }
        screen.flush()?;
    }
    for word in &removal.notes {
        screen.frame(&note(true, word.clone()), &mut text)?;
    }
    screen.end(&mut text)?;
    Ok(exit)
}

fn note(warning: bool, text: String) -> Frame {
    Frame::Note(Note { service: None, warning, text })
}

fn refusals(removal: &Removal) -> Vec<Refusal> {
    let force = "ebb uninstall --force --reason TEXT";
    let mut all: Vec<Refusal> = removal
        .holds
        .iter()
        .map(|hold| Refusal {
            service: Some(hold.service.clone()),
            kind: RefusalKind::HeldByOther,
            why: hold.text.clone(),
            help: Some(hold.release.clone()),
        })
        .collect();
    if let Some(cause) = &removal.unread {
        all.push(Refusal {
            service: None,
            kind: RefusalKind::Failed,
            why: format!("whether anybody holds a service cannot be read: {cause}"),
            help: None,
        });
    }
    if let Some(last) = all.last_mut() {
        let help = last.help.take().map_or_else(String::new, |help| format!("{help}; "));
        last.help = Some(format!("{help}to remove ebb all the same, and open what is held: {force}"));
    }
    all
}
