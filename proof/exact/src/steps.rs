//! An agent that stops after each thing it does to the world, until it is let go on or killed.
//!
//! strace has the kernel stop it (SIGSTOP, all its threads) right after each system call that changes something outside:
//! a commit of the store, a copy moved into place, a batch for the firewall, a signal to a service. Nothing of the agent
//! is made for it, and no time plays a part.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ebb_kernel::netns::die_with_parent;

use crate::ebb::Ebb;
use crate::must;

const CALLS: &str = "unlink,unlinkat,rename,renameat,renameat2,sendto,sendmsg,kill,pidfd_send_signal";

/// An agent under way; killed when dropped.
#[derive(Debug)]
pub struct Stepped {
    child: Child,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    steps: Vec<&'static str>,
    /// It stands still after so many steps.
    last: Option<usize>,
    stands: bool,
}

impl Ebb {
    /// Starts `ebb agent`, which may be told to stand still after one of its steps.
    #[must_use]
    pub fn stepped(&self) -> Stepped {
        let mut command = Command::new("strace");
        // -D: strace is the grandchild, and the child is the agent itself.
        command.args(["-D", "-f", "-qq", "-e", &format!("trace={CALLS}")]);
        command.args(["-e", &format!("inject={CALLS}:signal=STOP")]).arg(self.program()).arg("agent");
        self.at_home(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        self.ns().command(die_with_parent(&mut command));
        let mut child = must("start strace", command.spawn());
        let state = Arc::new(Mutex::default());
        if let Some(stderr) = child.stderr.take() {
            let (state, pid) = (Arc::clone(&state), child.id());
            let (weak, all) = (Arc::downgrade(&state), format!("/proc/{pid}/stat"));
            std::thread::spawn(move || follow(BufReader::new(stderr).lines().map_while(Result::ok), &state, pid));
            std::thread::spawn(move || unstick(&weak, &all, pid));
        }
        Stepped { child, state }
    }
}

impl Stepped {
    /// Counts its steps from now on, and has it stand still after so many.
    pub fn stand_after(&self, steps: usize) {
        let mut state = lock(&self.state);
        state.steps.clear();
        state.last = Some(steps);
    }

    /// Its steps so far.
    #[must_use]
    pub fn steps(&self) -> Vec<&'static str> {
        lock(&self.state).steps.clone()
    }

    /// Whether it stands still.
    #[must_use]
    pub fn stands(&self) -> bool {
        lock(&self.state).stands
    }

    /// kill -9, where it stands.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets it go on after each stop but the one that was asked for. Each of its threads stops, and says so; that it stands
/// is known once the one has that did something.
fn follow(lines: impl Iterator<Item = String>, state: &Mutex<State>, pid: u32) {
    let (mut did, mut stopping) = (None, None);
    for line in lines {
        let (thread, said) = line.rsplit_once("] ").map_or(("", line.as_str()), |(thread, said)| (thread, said));
        if said.starts_with("--- SIGSTOP {") {
            stopping = Some(thread.to_owned());
        } else if said.starts_with("--- stopped by SIGSTOP ---") && stopping.as_deref() == Some(thread) {
            stopping = None;
            let mut state = lock(state);
            state.steps.extend(did.take());
            if state.last.is_some_and(|last| state.steps.len() >= last) {
                state.stands = true;
            } else {
                let _ = Command::new("kill").args(["-CONT", &pid.to_string()]).status();
            }
        } else {
            did = named(said).or(did);
        }
    }
}

/// Two threads that do something in one moment stop twice, and the kernel may tell of one stop only: whoever has not
/// moved for a while and should, is let go on.
fn unstick(state: &Weak<Mutex<State>>, stat: &str, pid: u32) {
    let mut before = None;
    while let Some(state) = state.upgrade() {
        let steps = {
            let state = lock(&state);
            (!state.stands).then_some(state.steps.len())
        };
        drop(state);
        let Ok(text) = std::fs::read_to_string(stat) else { return };
        let stopped = text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['t', 'T']));
        let now = steps.filter(|_| stopped);
        if now.is_some() && now == before {
            let _ = Command::new("kill").args(["-CONT", &pid.to_string()]).status();
        }
        before = now;
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What a system call was for; none: it changed nothing that stays.
fn named(call: &str) -> Option<&'static str> {
    let begins = |name: &str| call.starts_with(name);
    if begins("unlink") && call.contains("-journal") {
        Some("commit of the store")
    } else if begins("rename") && call.contains("held.json") {
        Some("copy in its place")
    } else if begins("send") && call.contains("NFNL_MSG_BATCH_BEGIN") {
        Some("firewall changed")
    } else if begins("pidfd_send_signal") || begins("kill") {
        Some("service signalled")
    } else {
        None
    }
}
