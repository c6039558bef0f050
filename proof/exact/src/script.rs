//! Clients and servers in Python, by libraries that nobody here wrote.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ebb_kernel::netns::{Ns, die_with_parent};

use crate::must;

/// One that says nothing for so long has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// A script at work; killed when dropped.
#[derive(Debug)]
pub struct Script {
    child: Child,
    lines: Receiver<String>,
}

impl Script {
    /// Starts a script of this crate's folder in a namespace, and waits until it has said `in` so often.
    #[must_use]
    pub fn start(ns: &Ns, script: &str, words: &[&str], ready: usize) -> Self {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let mut command = Command::new("/usr/bin/python3");
        command.arg(path).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = must("start python3", ns.command(die_with_parent(&mut command)).spawn());
        let (tell, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
            });
        }
        let script = Self { child, lines };
        let said = script.next(ready);
        assert!(said.iter().all(|line| line == "in"), "{said:?}");
        script
    }

    /// So many lines that it says next.
    #[must_use]
    pub fn next(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| must("hear a script", self.lines.recv_timeout(LIMIT))).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
