//! Commands inside a server or a client.
//!
//! Each runs in a cgroup of its own, so that it can be ended whole, by name of the group and not of a program.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{LabError, Result};

/// How long [`Host::exec`] and its kin let a command run.
const EXEC_LIMIT: Duration = Duration::from_secs(60);
/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(5);
/// How long to wait for the last words of a command that ended but left a child with its output open.
const LAST_WORDS: Duration = Duration::from_millis(500);

static NEXT_GROUP: AtomicU64 = AtomicU64::new(0);

/// How a command ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output; what is not UTF-8 is replaced.
    pub stdout: String,
    /// Standard error; what is not UTF-8 is replaced.
    pub stderr: String,
}

impl Output {
    /// Whether the exit code is 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

/// Where commands of a host run.
#[derive(Debug, Clone)]
pub struct Place {
    /// Groups are made in here.
    pub(crate) cgroup: PathBuf,
    /// The words before the command that lead into the host's namespaces.
    pub(crate) enter: Vec<String>,
    /// Whether the first process stays outside and waits (nsenter into a pid namespace), or becomes the command.
    pub(crate) forks: bool,
}

/// What servers and clients have in common: an address, and commands.
pub trait Host {
    /// Its name in the lab; a server's host name.
    fn name(&self) -> &str;
    /// Its IPv4 address, 10.77.0.x.
    fn v4(&self) -> Ipv4Addr;
    /// Its IPv6 address, `fd77::x`.
    fn v6(&self) -> Ipv6Addr;
    /// How to get in.
    ///
    /// # Errors
    /// When a server is off.
    #[doc(hidden)]
    fn place(&self) -> Result<Place>;

    /// `http://ADDRESS` and the path, which begins with a slash.
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.v4())
    }

    /// As [`Host::url`] by IPv6.
    fn url6(&self, path: &str) -> String {
        format!("http://[{}]{path}", self.v6())
    }

    /// Starts a command and does not wait. Standard input is a pipe and stays open.
    ///
    /// # Errors
    /// When the host is off or the machine cannot start programs; a command not found is an exit code (127).
    fn spawn(&self, argv: &[&str]) -> Result<Running> {
        Running::start(&self.place()?, argv)
    }

    /// Runs a command for at most 60 s, with nothing to read. What it leaves running in the background stays.
    ///
    /// # Errors
    /// When it cannot start or takes too long; a command that fails is an [`Output`] like any other.
    fn exec(&self, argv: &[&str]) -> Result<Output> {
        self.exec_within(EXEC_LIMIT, argv, b"")
    }

    /// Runs a command with a time limit of its own and something to read.
    ///
    /// # Errors
    /// As [`Host::exec`].
    fn exec_within(&self, limit: Duration, argv: &[&str], input: &[u8]) -> Result<Output> {
        let mut running = self.spawn(argv)?;
        running.write(input);
        running.close_stdin();
        running.wait(limit)
    }

    /// Runs a line of shell, as [`Host::exec`]. A daemon started by hand needs its output redirected.
    ///
    /// # Errors
    /// As [`Host::exec`].
    fn sh(&self, line: &str) -> Result<Output> {
        self.exec(&["sh", "-c", line])
    }

    /// Runs a command that must succeed; its standard output.
    ///
    /// # Errors
    /// As [`Host::exec`], and when its exit code is not 0.
    fn check(&self, argv: &[&str]) -> Result<String> {
        let out = self.exec(argv)?;
        if out.ok() {
            return Ok(out.stdout);
        }
        let command = format!("{}: {}", self.name(), argv.join(" "));
        Err(LabError::Command { command, code: out.code, text: out.stdout + &out.stderr })
    }
}

/// A command under way; killed, with all it started, when this is dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    group: PathBuf,
    forks: bool,
    stdin: Option<ChildStdin>,
    stdout: Arc<Heard>,
    stderr: Arc<Heard>,
    ended: Option<ExitStatus>,
    /// A command that was waited for may leave a daemon behind on purpose.
    spare: bool,
}

impl Running {
    fn start(place: &Place, argv: &[&str]) -> Result<Self> {
        let number = NEXT_GROUP.fetch_add(1, Ordering::Relaxed);
        let group = place.cgroup.join(format!("lab.run.{number}"));
        fs::create_dir(&group).map_err(LabError::file("create", &group))?;
        let mut child = Command::new("sh")
            .args(["-c", r#"echo $$ >"$0/cgroup.procs" && exec "$@""#])
            .arg(&group)
            .args(&place.enter)
            .args(argv)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| LabError::Start { program: argv.join(" "), source })?;
        Ok(Self {
            command: argv.join(" "),
            stdin: child.stdin.take(),
            stdout: Heard::listen(child.stdout.take()),
            stderr: Heard::listen(child.stderr.take()),
            child,
            group,
            forks: place.forks,
            ended: None,
            spare: false,
        })
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// Gives it something to read. One that has ended or closed its input does not hear it; no error.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal ("TERM", "INT", "STOP", …) to the command and all it started.
    ///
    /// # Errors
    /// When its processes cannot be listed or `kill` cannot be started; that they just ended is no error.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let list = self.group.join("cgroup.procs");
        let text = fs::read_to_string(&list).map_err(LabError::file("read", &list))?;
        let mut pids: Vec<&str> = text.lines().collect();
        // nsenter waits outside for the command and shall report how it ended.
        let outside = self.child.id().to_string();
        if self.forks {
            pids.retain(|pid| *pid != outside);
        }
        let program = || format!("kill -s {signal}");
        Command::new("sh")
            .args(["-c", r#"kill -s "$0" "$@" 2>/dev/null"#, signal])
            .args(pids)
            .status()
            .map_err(|source| LabError::Start { program: program(), source })?;
        Ok(())
    }

    /// Waits until standard output or standard error contains the text.
    ///
    /// # Errors
    /// When it does not within the limit, or the command ended without; with all it said.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let over = !self.is_running() || start.elapsed() > limit;
            if over {
                self.hear_out();
            }
            if self.stdout().contains(text) || self.stderr().contains(text) {
                return Ok(());
            }
            if over {
                let what = format!("{text:?} from `{}`", self.command);
                return Err(LabError::NotSeen { what, limit, text: self.all_said() });
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits for the command to end by itself. What it started in the background is left alone.
    ///
    /// # Errors
    /// When it has not ended within the limit; then it is killed.
    pub fn wait(mut self, limit: Duration) -> Result<Output> {
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() > limit {
                self.kill();
                let text = self.all_said();
                return Err(LabError::TooSlow { command: self.command.clone(), limit, text });
            }
            thread::sleep(LOOK);
        }
        self.spare = true;
        self.hear_out();
        let code = self.ended.and_then(|status| status.code());
        Ok(Output { code, stdout: self.stdout(), stderr: self.stderr() })
    }

    fn all_said(&self) -> String {
        self.stdout() + &self.stderr()
    }

    fn hear_out(&self) {
        let until = Instant::now() + LAST_WORDS;
        self.stdout.wait_end(until);
        self.stderr.wait_end(until);
    }

    fn kill(&mut self) {
        // Fails where the whole lab is being removed already, which kills it too.
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.spare {
            self.kill();
        }
        remove_group(&self.group);
    }
}

/// Removes an empty cgroup. The last process leaves it a moment after it was waited for; one that a daemon
/// still lives in stays until the host ends.
fn remove_group(group: &Path) {
    for _ in 0..20 {
        if fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        let populated = fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|t| !t.is_empty());
        thread::sleep(if populated { LOOK * 2 } else { LOOK });
    }
}

/// What came out of a pipe, collected by a thread which ends with the pipe.
#[derive(Debug, Default)]
struct Heard {
    state: Mutex<(Vec<u8>, bool)>,
    ended: Condvar,
}

impl Heard {
    fn listen(pipe: Option<impl Read + Send + 'static>) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        let ours = Arc::clone(&heard);
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            if let Some(mut pipe) = pipe {
                while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                    ours.lock().0.extend_from_slice(&buffer[..n]);
                }
            }
            ours.lock().1 = true;
            ours.ended.notify_all();
        });
        heard
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().0).into_owned()
    }

    fn wait_end(&self, until: Instant) {
        let mut state = self.lock();
        while !state.1 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
