//! The ebb under test, asked as an operator would.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ebb_kernel::netns::{Ns, die_with_parent};
use serde_json::Value;

use crate::child::now_us;
use crate::must;
use crate::net::Net;

/// A command that does not wait for sessions takes no longer.
const SHORT: Duration = Duration::from_secs(60);

/// ebb on the server, with a state directory of its own.
#[derive(Debug)]
pub struct Ebb {
    program: PathBuf,
    state_dir: PathBuf,
    ns: Ns,
}

/// What it said, and how it ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Each line of its standard output.
    pub frames: Vec<Value>,
    /// Its standard error.
    pub stderr: String,
}

impl Ebb {
    /// On the server of `net`.
    #[must_use]
    pub fn on(net: &Net) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let program = program();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let state_dir = std::env::temp_dir().join(format!("ebb-exact-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state_dir);
        must("make a state directory", std::fs::create_dir_all(&state_dir));
        Self { program, state_dir, ns: net.server.clone() }
    }

    /// Where a resident agent of this state directory serves.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state_dir.join("agent.sock")
    }

    /// Runs `ebb WORDS --json` to its end.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Answer {
        self.watch(words).wait(SHORT)
    }

    /// Runs it and ends the test unless it ends with 0.
    pub fn done(&self, words: &[&str]) -> Answer {
        let answer = self.run(words);
        assert_eq!(answer.code, Some(0), "ebb {words:?}: {answer:#?}");
        answer
    }

    /// Starts `ebb WORDS --json`.
    #[must_use]
    pub fn watch(&self, words: &[&str]) -> Watched {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        self.start(command, words)
    }

    /// Has an agent stay, which serves when this returns.
    #[must_use]
    pub fn agent(&self) -> Watched {
        let agent = self.watch(&["agent"]);
        let began = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            assert!(began.elapsed() < SHORT, "no agent");
            std::thread::sleep(Duration::from_millis(20));
        }
        agent
    }

    /// Runs it to its end as an ordinary user.
    #[must_use]
    pub fn run_as_nobody(&self, words: &[&str]) -> Answer {
        let mut command = Command::new("setpriv");
        // By an open descriptor, for the path to the binary may be closed to others.
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/proc/self/fd/0"]);
        command.stdin(must("open ebb", std::fs::File::open(&self.program)));
        self.start(command, words).wait(SHORT)
    }

    fn start(&self, mut command: Command, words: &[&str]) -> Watched {
        // Before a `--`, after which everything is the work's.
        self.at_home(&mut command);
        command.args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.ns.command(die_with_parent(&mut command));
        let mut child = must("start ebb", command.spawn());
        let (said, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // Whoever waits may have given up.
                    let _ = said.send((now_us(), line));
                }
            });
        }
        let stderr = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = stderr.read_to_string(&mut text);
                text
            })
        });
        Watched { words: words.join(" "), child, lines, frames: Vec::new(), stderr }
    }

    /// With frames as JSON, and with its own state directory and configuration.
    pub(crate) fn at_home(&self, command: &mut Command) {
        command.arg("--json").arg("--state-dir").arg(&self.state_dir).arg("--config").arg(self.config());
    }

    /// The binary.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Where it runs.
    pub(crate) const fn ns(&self) -> &Ns {
        &self.ns
    }

    /// Where it keeps its things.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What it keeps on disk.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        let entries = must("look into its directory", std::fs::read_dir(&self.state_dir));
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Lets others look into its directory, or not.
    pub fn let_others_look(&self, may: bool) {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(if may { 0o755 } else { 0o700 });
        must("set its directory's mode", std::fs::set_permissions(&self.state_dir, mode));
    }

    /// Writes its configuration.
    pub fn configure(&self, text: &str) {
        must("write a configuration", std::fs::write(self.config(), text));
    }

    /// Beside its directory, which may be closed to others.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.state_dir.with_extension("toml")
    }

    /// The only `status` frame of a service.
    #[must_use]
    pub fn status(&self, service: &str) -> Value {
        let answer = self.done(&["status", service]);
        answer.one("status").clone()
    }
}

impl Drop for Ebb {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state_dir);
        let _ = std::fs::remove_file(self.config());
        let _ = std::fs::remove_dir_all(self.config().with_extension("toml.d"));
    }
}

/// From the environment, else the newest of the workspace's own.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("EBB_BIN") {
        return path.into();
    }
    let beside = must("find ourselves", std::env::current_exe());
    let target = beside.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).unwrap_or(Path::new("target"));
    let candidates = [target.join("release/ebb"), target.join("debug/ebb")];
    let found = candidates.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no ebb in {}: build it, or say EBB_BIN=", target.display()))
}

/// An ebb under way; killed when dropped.
#[derive(Debug)]
pub struct Watched {
    words: String,
    child: Child,
    lines: Receiver<(u64, String)>,
    frames: Vec<Value>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Watched {
    /// Waits for a line that fits; with the time at which it was read.
    pub fn until(&mut self, what: &str, limit: Duration, fits: impl Fn(&Value) -> bool) -> (u64, Value) {
        let until = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((at, line)) => {
                    let frame: Value = must(&format!("read {line:?}"), serde_json::from_str(&line));
                    self.frames.push(frame.clone());
                    if fits(&frame) {
                        return (at, frame);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {what} from ebb {} in {limit:?}: {:#?}", self.words, self.tail())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait();
                    let stderr = self.stderr.take().and_then(|reader| reader.join().ok());
                    panic!("ebb {} ended without {what}: {status:?} {stderr:?} {:#?}", self.words, self.tail());
                }
            }
        }
    }

    /// Waits for an event of this name.
    pub fn event(&mut self, name: &str) -> (u64, Value) {
        self.until(name, SHORT, |frame| frame["type"] == "event" && frame["name"] == name)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait(mut self, limit: Duration) -> Answer {
        let until = Instant::now() + limit;
        while let Ok((_, line)) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.frames.push(must(&format!("read {line:?}"), serde_json::from_str(&line)));
        }
        let status = loop {
            match must("wait for ebb", self.child.try_wait()) {
                Some(status) => break status,
                None if Instant::now() >= until => {
                    panic!("ebb {} goes on after {limit:?}: {:#?}", self.words, self.tail())
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let stderr = self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        Answer { code: status.code(), frames: std::mem::take(&mut self.frames), stderr }
    }

    fn tail(&self) -> &[Value] {
        &self.frames[self.frames.len().saturating_sub(12)..]
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Answer {
    /// All frames of one type.
    pub fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.frames.iter().filter(move |frame| frame["type"] == kind)
    }

    /// The only frame of this type.
    #[must_use]
    pub fn one(&self, kind: &str) -> &Value {
        let frames: Vec<&Value> = self.all(kind).collect();
        let [frame] = frames[..] else { panic!("not one `{kind}`: {self:#?}") };
        frame
    }

    /// Names of the events, in order.
    #[must_use]
    pub fn events(&self) -> Vec<&str> {
        self.all("event").filter_map(|event| event["name"].as_str()).collect()
    }

    /// The text of each note.
    #[must_use]
    pub fn notes(&self) -> Vec<&str> {
        self.all("note").filter_map(|note| note["text"].as_str()).collect()
    }
}
