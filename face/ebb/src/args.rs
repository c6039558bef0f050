//! The command line: verbs, and the flags that several of them share.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ebb_model::Span;
use ebb_wire::v1::{Which, Wish};

use crate::commands::agent::AgentArgs;
use crate::commands::check::CheckArgs;
use crate::commands::completions::CompletionsArgs;
use crate::commands::config::ConfigArgs;
use crate::commands::drain::DrainArgs;
use crate::commands::end::EndArgs;
use crate::commands::eta::EtaArgs;
use crate::commands::events::EventsArgs;
use crate::commands::gate::GateArgs;
use crate::commands::hold::HoldArgs;
use crate::commands::maintenance::MaintenanceArgs;
use crate::commands::man::ManArgs;
use crate::commands::notify::NotifyArgs;
use crate::commands::protect::ProtectArgs;
use crate::commands::release::ReleaseArgs;
use crate::commands::resume::ResumeArgs;
use crate::commands::services::ServicesArgs;
use crate::commands::sessions::SessionsArgs;
use crate::commands::status::StatusArgs;
use crate::commands::uninstall::UninstallArgs;
use crate::commands::watch::WatchArgs;
use crate::commands::{self, try_it::TryArgs};
use crate::values::{duration, whole_seconds};

/// What `$?` says; `docs/exit-codes.md` has them all.
const EXIT_CODES: &str = "\
Exit codes: 0 done, 3 deadline reached with sessions left, 4 a leak was seen, 5 held by another requester, \
6 ended badly, 7 detached by Ctrl-C, 8 not permitted, 9 not supported here, 10 no such service; 1 and 2 as usual.

`ebb help COMMAND` explains a command, with examples.";

/// Takes a server out of service without dropping anyone, and brings it back
#[derive(Debug, Parser)]
#[command(name = "ebb", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub globals: Globals,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// Print each frame of the answer as one line of JSON (docs/json.md)
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only the final report, and refusals
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Where holds and history are kept
    #[arg(long, global = true, value_name = "DIR", env = "EBB_STATE_DIR", default_value = "/var/lib/ebb")]
    #[arg(hide_short_help = true)]
    pub state_dir: PathBuf,
    /// The configuration; it need not exist
    #[arg(long, global = true, value_name = "FILE", env = "EBB_CONFIG", default_value = "/etc/ebb/ebb.toml")]
    #[arg(hide_short_help = true)]
    pub config: PathBuf,
    /// The resident agent's socket [default: /run/ebb/agent.sock, or agent.sock in another state directory]
    #[arg(long, global = true, value_name = "FILE", env = "EBB_SOCKET", hide_short_help = true)]
    pub socket: Option<PathBuf>,
    /// Colour the output
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_short_help = true)]
    pub color: clap::ColorChoice,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Those that ask an agent.
    #[command(flatten)]
    Verb(Verb),
    /// Stay: keep what is held, go on with drains, serve the other commands
    #[command(after_long_help = commands::agent::EXAMPLES)]
    Agent(AgentArgs),
    /// Shut the gates of all holds at boot
    #[command(after_long_help = commands::gate::EXAMPLES)]
    Gate(GateArgs),
    /// Check the configuration, or show each key with its value and its origin
    #[command(after_long_help = commands::config::EXAMPLES)]
    Config(ConfigArgs),
    /// See it at work in a minute: two servers and their clients, in namespaces of their own
    #[command(name = "try", after_long_help = commands::TRY_EXAMPLES)]
    Try(TryArgs),
    /// Print the completions of a shell
    #[command(after_long_help = commands::completions::EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(after_long_help = commands::man::EXAMPLES)]
    Man(ManArgs),
    /// Take ebb off this server: nothing of it is left
    #[command(after_long_help = commands::uninstall::EXAMPLES)]
    Uninstall(UninstallArgs),
}

/// Commands that ask an agent.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the services of this server: state, sessions, doors, holders
    #[command(after_long_help = commands::services::EXAMPLES)]
    Services(ServicesArgs),
    /// Refuse new connections, wait until nobody is left, stop the service
    #[command(after_long_help = commands::drain::EXAMPLES)]
    Drain(Box<DrainArgs>),
    /// List the sessions of a service, and why each is still here
    #[command(after_long_help = commands::sessions::EXAMPLES)]
    Sessions(SessionsArgs),
    /// Say when those who are connected will have gone, and which hour is best for a drain
    #[command(after_long_help = commands::eta::EXAMPLES)]
    Eta(EtaArgs),
    /// End chosen sessions of a service
    #[command(after_long_help = commands::end::EXAMPLES)]
    End(EndArgs),
    /// Start a service, verify it, let new connections in again
    #[command(after_long_help = commands::resume::EXAMPLES)]
    Resume(ResumeArgs),
    /// Refuse new connections, and wait for nothing
    #[command(after_long_help = commands::hold::EXAMPLES)]
    Hold(HoldArgs),
    /// Release a hold, and start nothing
    #[command(after_long_help = commands::release::EXAMPLES)]
    Release(ReleaseArgs),
    /// List all holds: whose, why, since when
    #[command(after_long_help = commands::holds::EXAMPLES)]
    Holds,
    /// Show held services as they are now, and what to type next
    #[command(after_long_help = commands::status::EXAMPLES)]
    Status(StatusArgs),
    /// Show what happened
    #[command(after_long_help = commands::events::EXAMPLES)]
    Events(EventsArgs),
    /// Find what is not as it should be, and what mends it
    #[command(after_long_help = commands::doctor::EXAMPLES)]
    Doctor,
    /// Take the whole server out of service: drain, stop, work or reboot, verify, and back
    #[command(after_long_help = commands::maintenance::EXAMPLES)]
    Maintenance(MaintenanceArgs),
    /// Ask the guards: is this server fit to be worked on, and as well as before
    #[command(after_long_help = commands::check::EXAMPLES)]
    Check(CheckArgs),
    /// Lift the protection of live sessions from reboots and stops by others, or restore it
    #[command(after_long_help = commands::protect::EXAMPLES)]
    Protect(ProtectArgs),
    /// Watch a drain that the resident agent goes on with
    #[command(after_long_help = commands::watch::EXAMPLES)]
    Watch(WatchArgs),
    /// Who is told of drains and maintenances: list them, or send them a test
    #[command(after_long_help = commands::notify::EXAMPLES)]
    Notify(NotifyArgs),
}

/// Commands by task, as `ebb --help` lists them.
const TASKS: [(&str, &[&str]); 6] = [
    ("Look", &["services", "sessions", "eta", "status", "check", "doctor", "events"]),
    ("Take out of service", &["drain", "watch", "end", "maintenance"]),
    ("Bring back", &["resume"]),
    ("Holds", &["hold", "release", "holds"]),
    ("Stay", &["agent", "protect", "gate", "config", "notify", "uninstall"]),
    ("Learn", &["try", "completions", "man", "help"]),
];

/// Which services.
#[derive(Clone, Debug, Args)]
pub struct WhichArgs {
    /// Services by name; `ebb services` lists them
    #[arg(value_name = "SERVICE", required_unless_present_any = ["all", "server"])]
    pub services: Vec<String>,
    /// All services that there are now, each by itself
    #[arg(long, conflicts_with = "services")]
    pub all: bool,
    /// The whole server, with services that come later; ssh and monitoring stay open (docs/guide.md)
    #[arg(long, conflicts_with_all = ["services", "all"])]
    pub server: bool,
    /// With --all or --server: but not this one
    // Not `requires = "all"`: clap forgives that where a service is named, because it conflicts with --all.
    #[arg(long, value_name = "SERVICE", conflicts_with = "services")]
    pub not: Vec<String>,
}

impl WhichArgs {
    /// As sent.
    #[must_use]
    pub fn which(&self) -> Which {
        Which { services: self.services.clone(), all: self.all, not: self.not.clone(), server: self.server }
    }
}

/// In whose name.
#[derive(Clone, Debug, Args)]
pub struct AsArgs {
    /// In whose name: only the requester of a hold releases it
    #[arg(long = "as", value_name = "REQUESTER", default_value = "operator")]
    pub requester: String,
}

/// What happens at the end of a hold that was given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AtEnd {
    /// It stays, and that is an alarm
    Stay,
    /// The service is started, verified and opened
    Reopen,
}

/// A wish to hold.
#[derive(Clone, Debug, Args)]
pub struct WishArgs {
    /// In whose name.
    #[command(flatten)]
    pub as_whom: AsArgs,
    /// Why; everybody who looks sees it. On a terminal it is asked for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// For how long it is meant; what happens then is --at-end's, by the resident agent
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub meant_for: Option<Span>,
    /// At the end of --for: stay shut and raise an alarm, or bring the service back
    #[arg(long, value_enum, value_name = "WHAT", requires = "meant_for", default_value_t = AtEnd::Stay)]
    pub at_end: AtEnd,
    /// Let this address or range in all the same, to test; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub except: Vec<String>,
    /// Ask nothing: a reason must be given, or be settled in ebb.toml
    #[arg(long, short)]
    pub yes: bool,
}

impl WishArgs {
    /// As sent.
    #[must_use]
    pub fn wish(&self) -> Wish {
        Wish {
            requester: self.as_whom.requester.clone(),
            reason: self.reason.clone(),
            for_seconds: self.meant_for.map(whole_seconds),
            reopen: self.at_end == AtEnd::Reopen,
            except: self.except.clone(),
            unasked: self.yes,
        }
    }
}

/// The whole command line.
#[must_use]
pub fn command() -> clap::Command {
    let command = Cli::command();
    let head = command.get_styles().get_header();
    let about = |name: &str| match name {
        "help" => "Explain a command, with examples".to_owned(),
        _ => command
            .find_subcommand(name)
            .and_then(|found| found.get_about())
            .map(ToString::to_string)
            .unwrap_or_default(),
    };
    let mut list = String::new();
    for (task, names) in TASKS {
        list.push_str(&format!("{head}{task}:{head:#}\n"));
        for name in names {
            list.push_str(&format!("  {name:<12} {}\n", about(name)));
        }
        list.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{head}Options:{head:#}\n{{options}}{{after-help}}"
    );
    command.help_template(template)
}

/// Parses the process's arguments; says what is wrong, or helps, and exits.
#[must_use]
pub fn parse() -> Cli {
    let mut matches = command().get_matches();
    Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn help_lists_each_command_once_by_task_with_its_summary() {
        let listed: Vec<&str> = TASKS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let help = command().render_help().to_string();
        for sub in command().get_subcommands() {
            let name = sub.get_name();
            assert_eq!(listed.iter().filter(|one| **one == name).count(), 1, "{name} belongs to one task");
            let about = sub.get_about().unwrap_or_else(|| panic!("{name} lacks a summary"));
            assert!(help.contains(&format!("  {name:<12} {about}")), "help lacks {name}");
        }
        assert_eq!(listed.len(), command().get_subcommands().count() + 1, "`help` is made by clap");
    }

    #[test]
    fn the_help_of_each_command_has_examples_that_parse() {
        for sub in command().get_subcommands_mut() {
            let name = sub.get_name().to_owned();
            let help = sub.render_long_help().to_string();
            let (_, examples) = help.split_once("EXAMPLES\n").unwrap_or_else(|| panic!("{name} lacks EXAMPLES"));
            let typed: Vec<&str> = examples.lines().filter_map(|line| line.trim().strip_prefix("ebb ")).collect();
            assert!(!typed.is_empty(), "{name}: no example begins with `ebb`");
            for line in typed {
                let line = line.split(" | ").next().unwrap_or_default().split(" > ").next().unwrap_or_default();
                let words = split(line);
                assert_eq!(words[0], name, "an example of another command: ebb {line}");
                let parsed = command().try_get_matches_from(std::iter::once("ebb".to_owned()).chain(words));
                assert!(parsed.is_ok(), "ebb {line}: {}", parsed.unwrap_err());
            }
        }
    }

    /// Words as a shell splits them, as far as our examples need it.
    fn split(line: &str) -> Vec<String> {
        line.split('"')
            .enumerate()
            .flat_map(|(number, part)| match number % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "ebb drain",
            "ebb drain nginx --all",
            "ebb drain nginx --not ssh",
            "ebb drain --not ssh",
            "ebb drain nginx --then cut",
            "ebb drain nginx --deadline 30",
            "ebb end nginx",
            "ebb end nginx --all --peer 10.0.0.0/8",
            "ebb end nginx --all --rate 100",
            "ebb sessions",
            "ebb sessions nginx --sort colour",
            "ebb resume",
            "ebb uninstall --force",
            "ebb protect off",
        ] {
            let error = command().try_get_matches_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
