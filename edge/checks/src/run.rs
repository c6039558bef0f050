//! Running a command of the operator's: outside of our own sandbox, bounded in time and output, and whole: what it has
//! started is ended with it.

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebb_model::{Span, duration, printable};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// So much of each stream is kept: the beginning of the output, the end of what is said on standard error.
const KEPT: usize = 64 * 1024;
/// Something that a command left behind may hold its pipe open; it is not waited for longer than this.
const DRAIN: Duration = Duration::from_millis(500);
/// systemd is given longer than the command that it ends.
const SYSTEMD: Duration = Duration::from_secs(3);

/// How the units begin in which commands run: who lists units that have failed passes over these.
pub const UNIT: &str = "ebb-command-";
/// How many have been run.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Where a command runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// As our own child, with what we may and may not.
    #[default]
    Here,
    /// In a unit of its own that systemd makes for it: in none of our sandbox, and nothing of it stays.
    Systemd,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// Program and arguments; no shell.
    pub command: &'a [String],
    /// Added to the environment. The values are secrets: they are in no message and no argument.
    pub environment: BTreeMap<String, String>,
    /// Ended, with all that it has started, after this long.
    pub within: Span,
    /// Where.
    pub place: Place,
}

impl<'a> Order<'a> {
    /// With nothing added to the environment.
    #[must_use]
    pub const fn new(command: &'a [String], within: Span, place: Place) -> Self {
        Self { command, environment: BTreeMap::new(), within, place }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The first 64 KiB of its standard output.
    pub out: String,
    /// The last 64 KiB of its standard error.
    pub err: String,
    /// It said more than that.
    pub cut: bool,
}

impl Ran {
    /// The first line that says anything: of its output, or of its standard error. Printable.
    #[must_use]
    pub fn first_line(&self) -> String {
        let line = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).map(printable);
        line(&self.out).or_else(|| line(&self.err)).unwrap_or_default()
    }
}

/// Why there is no answer of a command.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to run.
    #[error("the command is empty")]
    Empty,
    /// There is no such program.
    #[error("there is no program `{}`", printable(program))]
    NoProgram {
        /// Its name.
        program: String,
    },
    /// It could not be started.
    #[error("failed to start `{}`", printable(program))]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// systemd did not run it.
    #[error("systemd did not run `{}`: {}", printable(program), printable(said))]
    Systemd {
        /// Its name.
        program: String,
        /// The last that systemd-run said.
        said: String,
    },
    /// It did not end in time, and was ended with all that it has started.
    #[error("`{}` did not end within {}, and was ended", printable(program), duration(*within))]
    TooSlow {
        /// Its name.
        program: String,
        /// The limit.
        within: Span,
    },
}

/// An error with its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Runs it to its end. Its standard input is empty; it stands in `/`.
///
/// # Errors
/// [`RunError`]: it was not started, or did not end by itself. An exit code other than 0 is an answer.
pub async fn run(order: &Order<'_>) -> Result<Ran, RunError> {
    let program = order.command.first().filter(|program| !program.is_empty()).ok_or(RunError::Empty)?;
    let (mut command, limit) = match order.place {
        Place::Here => (here(program, order), Duration::from(order.within)),
        Place::Systemd => (by_systemd(program, order), Duration::from(order.within) + SYSTEMD),
    };
    command.envs(&order.environment).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir("/").process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => RunError::NoProgram { program: program.clone() },
        _ => RunError::Start { program: program.clone(), source },
    })?;
    // Also when nobody waits for the answer any more.
    let group = Group(child.id());
    let seen = follow(&mut child, limit).await;
    drop(group);
    let status = child.wait().await;
    let slow = || RunError::TooSlow { program: program.clone(), within: order.within };
    let (out, err) = seen.ok_or_else(slow)?;
    match (order.place, status) {
        (_, Err(source)) => Err(RunError::Start { program: program.clone(), source }),
        (Place::Here, Ok(status)) => Ok(ran(&out, &err, status.code())),
        (Place::Systemd, Ok(_)) => reported(program, order.within, &out, &err),
    }
}

fn here(program: &str, order: &Order<'_>) -> Command {
    let mut command = Command::new(program);
    command.args(&order.command[1..]);
    command
}

/// The names of the variables only are arguments: everybody may read those.
fn by_systemd(program: &str, order: &Order<'_>) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--wait", "--pipe", "--collect", "--service-type=exec", "--description=a command of ebb"]);
    // systemd counts microseconds.
    let within = match order.within.0 {
        within if within > u64::MAX / 2000 => "infinity".to_owned(),
        within => format!("{}ms", within.max(1)),
    };
    command.arg(format!("--property=RuntimeMaxSec={within}"));
    command.arg(format!("--unit={UNIT}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    // It has had its time when it is told to end.
    command.arg("--property=TimeoutStopSec=1s").arg("--property=WorkingDirectory=/");
    command.args(order.environment.keys().map(|name| format!("--setenv={name}")));
    // It would put variables in the place of their names.
    command.arg("--").arg(program).args(order.command[1..].iter().map(|word| word.replace('$', "$$")));
    // What it says of the end must come to us, in words as we know them.
    command.env("SYSTEMD_LOG_TARGET", "console").env("SYSTEMD_LOG_LEVEL", "info");
    command.env("SYSTEMD_LOG_COLOR", "0").env("SYSTEMD_LOG_TIME", "0").env("SYSTEMD_LOG_LOCATION", "0");
    command
}

/// Ends a process group.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // Its leader is not waited for yet: the number is still its own. Nobody may be left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Waits for the end, reading all that is said meanwhile; none if it does not come in time. Whoever holds the pipes
/// open after the end is not waited for. The process stays to be waited for: its number, and its group's, are its own.
async fn follow(child: &mut Child, limit: Duration) -> Option<(Kept, Kept)> {
    let (mut out, mut err) = (Kept::new(End::First), Kept::new(End::Last));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = ended(child.id());
    let reading = async { tokio::join!(out.read(stdout), err.read(stderr)) };
    let both = async {
        tokio::pin!(reading, ended);
        tokio::select! {
            _ = &mut reading => ended.await,
            () = &mut ended => drop(timeout(DRAIN, reading).await),
        }
    };
    let in_time = timeout(limit, both).await.is_ok();
    in_time.then_some((out, err))
}

/// Waits until a process has ended, and leaves it unreaped.
async fn ended(pid: Option<u32>) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let Some(Ok(handle)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
    #[expect(deprecated, reason = "its successor is unsafe; a pidfd is one descriptor for its whole life")]
    let Ok(handle) = AsyncFd::with_interest(handle, Interest::READABLE) else { return };
    let _ = handle.readable().await;
}

/// Which end of a stream is kept, where it is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    First,
    Last,
}

/// What is kept of a stream.
#[derive(Debug)]
struct Kept {
    end: End,
    bytes: Vec<u8>,
    cut: bool,
}

impl Kept {
    const fn new(end: End) -> Self {
        Self { end, bytes: Vec::new(), cut: false }
    }

    /// To its end; what is too much is read all the same, so that nobody waits to write it.
    async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut part = vec![0; 8 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            self.add(&part[..count]);
        }
    }

    fn add(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
        let over = self.bytes.len().saturating_sub(KEPT);
        self.cut |= over > 0;
        match self.end {
            End::First => self.bytes.truncate(KEPT),
            End::Last => drop(self.bytes.drain(..over)),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

fn ran(out: &Kept, err: &Kept, code: Option<i32>) -> Ran {
    Ran { code, out: out.text(), err: err.text(), cut: out.cut || err.cut }
}

/// With which code systemd ends for a program that it could not execute (`EXIT_EXEC`).
const NOT_EXECUTED: i32 = 203;
/// systemd-run's last words: its own exit code does not tell a command that ended with 1 from one that was never
/// started.
const RESULT: &str = "Finished with result: ";
const ENDED: &str = "Main processes terminated with: ";

fn reported(program: &str, within: Span, out: &Kept, err: &Kept) -> Result<Ran, RunError> {
    let text = err.text();
    // The last word is systemd-run's; it need not begin a line, if the command has not ended its own.
    let Some(at) = text.rfind(RESULT) else {
        let said = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing was said");
        if said.starts_with("Failed to find executable") {
            return Err(RunError::NoProgram { program: program.to_owned() });
        }
        return Err(RunError::Systemd { program: program.to_owned(), said: said.to_owned() });
    };
    let (own, report) = text.split_at(at);
    let said = |word: &str| report.lines().find_map(|line| line.trim().strip_prefix(word));
    if said(RESULT) == Some("timeout") {
        return Err(RunError::TooSlow { program: program.to_owned(), within });
    }
    // `code=exited/status=1`; later also `code=exited, status=1/FAILURE`.
    let part = |name: &str| said(ENDED)?.split([',', '/', ' ']).find_map(|part| part.trim().strip_prefix(name));
    let code = match (part("code="), part("status=")) {
        (Some("exited"), Some(status)) => status.parse().ok(),
        _ => None,
    };
    let first = own.lines().next().filter(|line| line.starts_with("Running as unit: "));
    let own = first.map_or(own, |line| own[line.len()..].trim_start_matches('\n'));
    let ran = Ran { err: own.to_owned(), ..ran(out, err, code) };
    if ran.code == Some(NOT_EXECUTED) && ran.first_line().is_empty() {
        return Err(RunError::Systemd { program: program.to_owned(), said: "it cannot be executed".to_owned() });
    }
    Ok(ran)
}

#[cfg(test)]
mod tests;
