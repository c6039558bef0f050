//! Processes as `/proc` shows them, and careful hands on them.
//!
//! A pid is only a number that the kernel gives out again. Whoever keeps one keeps [`Process::start_ticks`] with it and
//! acts through a [`Handle`], which refuses when the number has changed hands.

pub(crate) mod dir;
mod handle;
mod owners;
mod parse;
mod socket;
pub(crate) mod sockopt;

pub use handle::{Handle, Signal};
pub use owners::{Owners, find_fd, find_fds, first_owners, owners_of, owners_of_listeners};
pub use socket::{Liveness, PeerProbe, shutdown_read};

use std::ffi::{CStr, CString, OsString};
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dir::Dir;
use parse::without_deleted;

/// Longest piece read of any one file of a process; a command line may be megabytes long.
const FILE_LIMIT: u64 = 64 * 1024;

/// Number of a process in our PID namespace; never 0 and never more than `i32::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroU32);

impl Pid {
    /// `None` for 0 (what the kernel shows for a process of a foreign PID namespace) and for numbers no process can have.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        i32::try_from(number).ok()?;
        NonZeroU32::new(number).map(Self)
    }

    /// The calling process.
    #[must_use]
    pub fn current() -> Self {
        Self::new(std::process::id()).expect("our own pid is a pid: positive and at most i32::MAX")
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// As the C type of system calls; cannot overflow, see [`Pid::new`].
    fn raw(self) -> libc::pid_t {
        self.0.get().cast_signed()
    }

    /// `/proc/PID`, held open: stays with this very process.
    fn dir(self) -> io::Result<Dir> {
        let path = CString::new(format!("/proc/{self}")).map_err(io::Error::other)?;
        Dir::open(&path)
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Pid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| Error::NotAPid { text: text.to_owned() })
    }
}

/// What went wrong with a process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process ended, or its number belongs to another process now.
    #[error("find process {pid}: it is gone")]
    Gone {
        /// Whom we looked for.
        pid: Pid,
    },
    /// The kernel does not let us: another user's process, Yama (`ptrace_scope`), or a hidden `/proc`.
    #[error("{action} process {pid}: no permission{}", yama_remark(*ptrace_scope))]
    NoPermission {
        /// Verb, as in "signal".
        action: &'static str,
        /// The process.
        pid: Pid,
        /// `/proc/sys/kernel/yama/ptrace_scope` when the act needs ptrace rights and Yama is there: 1 = only
        /// descendants unless `CAP_SYS_PTRACE`, 2 = only with it, 3 = nobody.
        ptrace_scope: Option<u8>,
    },
    /// The process does not (any longer) hold the socket.
    #[error("find socket {inode} in process {pid}: it does not hold it")]
    NotHeld {
        /// The process.
        pid: Pid,
        /// Inode of the socket.
        inode: u32,
    },
    /// The socket listens; it must never be shut down (servers spin or hang).
    #[error("shut socket {inode} of process {pid}: it is a listening socket")]
    Listening {
        /// The process.
        pid: Pid,
        /// Inode of the socket.
        inode: u32,
    },
    /// The service has not yet read what its client sent; shutting now would lose it.
    #[error("shut socket {inode} of process {pid}: {bytes} bytes are still unread")]
    Unread {
        /// The process.
        pid: Pid,
        /// Inode of the socket.
        inode: u32,
        /// Bytes in the receive queue.
        bytes: u32,
    },
    /// Data moved on it a moment ago.
    #[error("shut socket {inode} of process {pid}: data moved on it just now")]
    Active {
        /// The process.
        pid: Pid,
        /// Inode of the socket.
        inode: u32,
    },
    /// Any other refusal of the kernel.
    #[error("{action} process {pid}")]
    Kernel {
        /// Verb, as in "read".
        action: &'static str,
        /// The process.
        pid: Pid,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `/proc` itself cannot be listed.
    #[error("list /proc")]
    List {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not the number of a process.
    #[error("read {text:?} as a process number")]
    NotAPid {
        /// What was given.
        text: String,
    },
}

impl Error {
    /// Sorts an OS error of a call that concerns `pid`.
    fn of(action: &'static str, pid: Pid, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => Self::Gone { pid },
            Some(libc::EPERM | libc::EACCES) => Self::NoPermission { action, pid, ptrace_scope: None },
            _ => Self::Kernel { action, pid, source },
        }
    }

    /// The same for a call that needs ptrace rights: says what Yama has to do with it.
    fn of_ptrace(action: &'static str, pid: Pid, source: io::Error) -> Self {
        match Self::of(action, pid, source) {
            Self::NoPermission { action, pid, .. } => Self::NoPermission { action, pid, ptrace_scope: yama_scope() },
            other => other,
        }
    }
}

fn yama_scope() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}

fn yama_remark(scope: Option<u8>) -> String {
    scope.filter(|scope| *scope > 0).map_or_else(String::new, |scope| format!(" (kernel.yama.ptrace_scope = {scope})"))
}

/// What a process is doing, from the third field of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// R
    Running,
    /// S, the usual one
    Sleeping,
    /// D: waits for a disk or the like and cannot be killed
    Uninterruptible,
    /// T or t: stopped by a signal or a debugger
    Stopped,
    /// Z or X: ended, not yet collected by its parent; holds nothing any more
    Ended,
    /// I: an idle kernel thread
    Idle,
    /// A letter of kernels to come.
    Other(char),
}

/// One process at one instant. Fields that the kernel may hide from ordinary users are optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Its parent; `None` for the first process and for one whose parent is outside our PID namespace.
    pub parent: Option<Pid>,
    /// Start in clock ticks since boot, as seen in our time namespace; with the pid it names a process for good.
    pub start_ticks: u64,
    /// How long ago it started (by `CLOCK_BOOTTIME`, so sleep of the machine counts), to 10 ms.
    pub start_age: Duration,
    /// Short name, at most 15 bytes; set by the process itself, so not to be trusted.
    pub comm: String,
    /// Its program; `None` for kernel threads, ended processes and those of other users. Relative to its own root.
    pub exe: Option<PathBuf>,
    /// Arguments, at most the first 64 KiB; empty for kernel threads and ended processes.
    pub cmdline: Vec<OsString>,
    /// Effective user.
    pub uid: u32,
    /// Path in the unified (v2) hierarchy, as `/system.slice/x.service`; also on hybrid machines. `None` without cgroup2.
    pub cgroup_path: Option<String>,
    /// Inode of its network namespace; `None` where hidden.
    pub net_namespace: Option<u64>,
    /// What it is doing.
    pub state: State,
}

/// Reads one process; `None` when there is none of this number (any more).
///
/// # Errors
/// [`Error::NoPermission`] where `/proc` is mounted with `hidepid=1`; [`Error::Kernel`] for anything unexpected.
pub fn read(pid: Pid) -> Result<Option<Process>, Error> {
    match pid.dir().and_then(|dir| read_in(pid, &dir)) {
        Ok(process) => Ok(Some(process)),
        Err(source) => match Error::of("read", pid, source) {
            Error::Gone { .. } => Ok(None),
            other => Err(other),
        },
    }
}

/// What one file tells of a process: a fifth of the cost of [`read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// Which.
    pub pid: Pid,
    /// Its parent; as in [`Process::parent`].
    pub parent: Option<Pid>,
    /// Start in clock ticks since boot.
    pub start_ticks: u64,
    /// How long ago it started, to 10 ms.
    pub start_age: Duration,
    /// Short name, at most 15 bytes; set by the process itself, so not to be trusted.
    pub comm: String,
}

/// One process in brief; `None` when there is none of this number (any more), or it is hidden from us.
#[must_use]
pub fn brief(pid: Pid) -> Option<Brief> {
    let stat = parse::stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)?;
    let parse::Stat { comm, parent, start_ticks, .. } = stat;
    Some(Brief { pid, parent, start_ticks, start_age: age_of(start_ticks), comm })
}

/// All processes that we may look at, ordered by number; those that vanish meanwhile are left out.
///
/// # Errors
/// [`Error::List`] when `/proc` cannot be listed, [`Error::Kernel`] for anything unexpected.
pub fn all() -> Result<Vec<Process>, Error> {
    let mut found = Vec::new();
    for pid in pids()? {
        match read(pid) {
            Ok(process) => found.extend(process),
            Err(Error::NoPermission { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(found)
}

/// The numbers of all processes, ordered; much cheaper than [`all`].
///
/// # Errors
/// [`Error::List`] when `/proc` cannot be listed.
pub fn pids() -> Result<Vec<Pid>, Error> {
    let mut found = Vec::new();
    let listed = Dir::open(c"/proc").and_then(|dir| {
        dir.for_each(|entry| {
            found.extend(number_of(entry.name).and_then(Pid::new));
            ControlFlow::Continue(())
        })
    });
    listed.map_err(|source| Error::List { source })?;
    found.sort_unstable();
    Ok(found)
}

/// Whether any process runs in the group that this one leads, or led. One that has left the group is not seen, and one that
/// has ended and was not waited for does not run.
#[must_use]
pub fn group_runs(leader: Pid) -> bool {
    let runs = |pid: Pid| {
        let stat = pid.dir().and_then(|dir| dir.read(c"stat", FILE_LIMIT)).ok().and_then(|stat| parse::stat(&stat));
        stat.is_some_and(|stat| stat.group == leader.get() && stat.state != State::Ended)
    };
    runs(leader) || pids().is_ok_and(|all| all.into_iter().any(runs))
}

/// Start of a process in ticks, for telling it from a later one of the same number.
fn start_ticks_of(pid: Pid) -> io::Result<u64> {
    let stat = pid.dir()?.read(c"stat", FILE_LIMIT)?;
    Ok(parse::stat(&stat).ok_or_else(unreadable)?.start_ticks)
}

fn read_in(pid: Pid, dir: &Dir) -> io::Result<Process> {
    let stat = parse::stat(&dir.read(c"stat", FILE_LIMIT)?).ok_or_else(unreadable)?;
    let uid = parse::effective_uid(&dir.read(c"status", FILE_LIMIT)?).ok_or_else(unreadable)?;
    let cgroup = dir.read(c"cgroup", FILE_LIMIT).or_else(none_if_hidden)?;
    let cmdline = dir.read(c"cmdline", FILE_LIMIT).or_else(none_if_hidden)?;
    let mut buffer = vec![0_u8; libc::PATH_MAX as usize];
    let exe = link_if_seen(dir, c"exe", &mut buffer)?
        .map(|target| PathBuf::from(OsString::from_vec(without_deleted(target).to_vec())));
    let net_namespace = link_if_seen(dir, c"ns/net", &mut buffer)?.and_then(|target| parse::tagged(target, b"net"));
    Ok(Process {
        pid,
        parent: stat.parent,
        start_ticks: stat.start_ticks,
        start_age: age_of(stat.start_ticks),
        comm: stat.comm,
        exe,
        cmdline: parse::arguments(&cmdline),
        uid,
        cgroup_path: parse::unified_cgroup(&cgroup),
        net_namespace,
        state: stat.state,
    })
}

fn link_if_seen<'b>(dir: &Dir, name: &CStr, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
    match dir.link(name, buffer) {
        Ok(target) => Ok(Some(target)),
        // Not there (kernel thread, ended), or not for our eyes. ESRCH is the process itself going: then all of it goes.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EACCES | libc::EPERM)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn none_if_hidden(error: io::Error) -> io::Result<Vec<u8>> {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => Ok(Vec::new()),
        _ => Err(error),
    }
}

fn age_of(start_ticks: u64) -> Duration {
    let started = Duration::from_millis(start_ticks.saturating_mul(1000) / crate::boot::ticks_per_second());
    Duration::from_millis(crate::boot::boottime_ms()).saturating_sub(started)
}

fn number_of(name: &CStr) -> Option<u32> {
    let bytes = name.to_bytes();
    // "+5" parses as a number too, but is no process.
    if !bytes.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer has an unknown form")
}

#[cfg(test)]
mod tests;
