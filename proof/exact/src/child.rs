//! Processes of ours that do a part of a test, and are asked and told by lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ebb_kernel::netns::{Ns, die_with_parent};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::must;

/// A part that says nothing for so long has failed.
const ANSWER: Duration = Duration::from_secs(60);

/// The time of day in microseconds.
#[must_use]
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Heavy tests take turns, also with those of other test processes: the machine is small.
#[must_use]
pub fn heavy() -> File {
    let file = must("open the turnstile", File::create(std::env::temp_dir().join("ebb-exact.turn")));
    must("wait for our turn", file.lock());
    file
}

/// The program of the parts, which is built beside the tests.
pub(crate) fn parts() -> PathBuf {
    let here = must("find ourselves", std::env::current_exe());
    // target/PROFILE/deps/TEST-HASH, beside target/PROFILE/exact-part.
    let found = here.ancestors().skip(1).take(2).map(|dir| dir.join("exact-part")).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("exact-part is not beside {}", here.display()))
}

/// One process at work; killed when dropped.
#[derive(Debug)]
pub struct Part {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Part {
    /// Starts the part `what` in a namespace, with its orders.
    pub(crate) fn start(program: &Path, ns: &Ns, what: &str, orders: &impl Serialize) -> Self {
        let orders = must("write orders", serde_json::to_string(orders));
        let mut command = Command::new(program);
        command.args([what, &orders]).stdin(Stdio::piped()).stdout(Stdio::piped());
        ns.command(die_with_parent(&mut command));
        let mut child = must("start a part", command.spawn());
        let stdin = child.stdin.take();
        let (said, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if said.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, stdin, lines }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to it. One that has ended does not hear it.
    pub(crate) fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{line}");
        }
    }

    /// The next line that it says.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> T {
        match self.lines.recv_timeout(ANSWER) {
            Ok(line) => must(&format!("understand {line:?}"), serde_json::from_str(&line)),
            Err(RecvTimeoutError::Timeout) => panic!("no answer from a part within {ANSWER:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("a part has ended: {:?}", self.child.try_wait()),
        }
    }

    /// Asks and hears.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, line: &str) -> T {
        self.tell(line);
        self.hear()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it by SIGTERM, as a stop of the service would.
    pub fn terminate(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Gone already is just as well.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
