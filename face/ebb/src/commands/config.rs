//! `ebb config`

use clap::{Args, Subcommand};
use ebb_agent::{Checked, Explained, Fault, Setting};
use ebb_model::printable;
use ebb_wire::v1::{self, Frame};

use super::place;
use crate::args::Globals;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::config::Config;
use crate::screen::Screen;

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb config check
      every fault of every file, with its place and what helps; exit code 1 if there is any
  ebb config explain
      each key with its value, and the file and line that say so
  ebb config explain guard.disk-root
      the same for what begins so

The files are /etc/ebb/ebb.toml and then /etc/ebb/ebb.toml.d/*.toml by name: later ones win, key by key.
docs/configuration.md has all keys. The resident agent takes a change by itself; `systemctl reload ebb-agent` at once.";

/// `ebb config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Find every fault, and what is probably not meant; needs no agent
    Check,
    /// Show keys with their values, and who says so
    Explain {
        /// A key, or how it begins: `holds`, `guard.disk-root`; without one, all
        key: Option<String>,
    },
}

/// Does it, without an agent.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &ConfigArgs, globals: &Globals, screen: &mut Screen) -> Result<Exit, Problem> {
    let frames = match &args.what {
        What::Check => checked(ebb_agent::check_config(place(globals)).await),
        What::Explain { key } => match ebb_agent::explain_config(&globals.config, key.as_deref()) {
            Explained::Settings(settings) => settings.into_iter().map(setting).collect(),
            Explained::Faulty(faults) => faults.into_iter().map(|one| fault(one, false)).collect(),
            Explained::NoSuchKey(near) => {
                let asked = printable(key.as_deref().unwrap_or_default());
                return Err(Problem::NoSuchKey { asked, near });
            }
        },
    };
    let mut text = Config::default();
    let mut exit = Exit::Done;
    for frame in &frames {
        exit = exit.graver(Exit::of(frame));
        screen.frame(frame, &mut text)?;
    }
    screen.end(&mut text)?;
    Ok(exit)
}

fn checked(checked: Checked) -> Vec<Frame> {
    let sum = v1::Checked {
        files: checked.files.iter().map(|file| file.display().to_string()).collect(),
        faults: checked.faults.len() as u64,
        warnings: checked.warnings.len() as u64,
        unseen: checked.unseen,
    };
    let faults = checked.faults.into_iter().map(|one| fault(one, false));
    let warnings = checked.warnings.into_iter().map(|one| fault(one, true));
    faults.chain(warnings).chain([Frame::Checked(sum)]).collect()
}

fn fault(fault: Fault, warning: bool) -> Frame {
    Frame::Fault(v1::Fault {
        file: fault.file.display().to_string(),
        line: fault.at.map(|(line, _)| line as u64),
        column: fault.at.map(|(_, column)| column as u64),
        what: fault.what,
        hint: fault.hint,
        warning,
    })
}

fn setting(setting: Setting) -> Frame {
    let (file, line) = setting.origin.map(|origin| (origin.file.display().to_string(), origin.line as u64)).unzip();
    Frame::Setting(v1::Setting { key: setting.key, value: setting.value, file, line })
}
