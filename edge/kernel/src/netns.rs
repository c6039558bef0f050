//! Network namespaces: entering one for a moment, starting programs in one, and small worlds of several.
//!
//! Everything that the kernel keeps per namespace (sockets, nftables, sock_diag) is seen from the namespace of the *thread*
//! that opens the socket. [`in_ns`] therefore works on a thread of its own and never moves the caller's.
#![expect(unsafe_code, reason = "setns, unshare and prctl have no safe form in std")]

mod behind;
mod link;
mod user;
mod world;

pub use behind::{Behind, Seen, behind};
pub use link::{Links, Prefix};
pub use user::{Forbidden, unshare_user_net};
pub use world::World;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use crate::process::Pid;

/// What went wrong with namespaces or their links.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process whose namespace was asked for has ended.
    #[error("find the network namespace of process {pid}: it is gone")]
    Gone {
        /// The process.
        pid: Pid,
    },
    /// We lack the right (`CAP_SYS_ADMIN` to enter or make one, `CAP_NET_ADMIN` for links, ptrace rights to look at one).
    #[error("{action}: no permission")]
    NoPermission {
        /// What was tried, as in "enter the network namespace".
        action: &'static str,
    },
    /// No user namespace for us, with the reason.
    #[error("make a user namespace: {why}")]
    Forbidden {
        /// Who or what forbids it.
        why: Forbidden,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not a name for a network interface: 1 to 15 bytes, no slash, colon or blank, not `.` or `..`.
    #[error("use {name:?} as the name of an interface")]
    Name {
        /// What was given.
        name: String,
    },
    /// No interface of this name in the namespace.
    #[error("find interface {name}")]
    NoLink {
        /// What was asked for.
        name: String,
    },
    /// Not an address with a prefix length.
    #[error("read {text:?} as ADDRESS/LENGTH")]
    Prefix {
        /// What was given.
        text: String,
    },
    /// Any other trouble with links.
    #[error(transparent)]
    Netlink(crate::netlink::Error),
    /// Any other refusal of the kernel.
    #[error("{action}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    fn of(action: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NoPermission { action },
            _ => Self::Kernel { action, source },
        }
    }
}

/// A network namespace, kept alive as long as this lives.
#[derive(Debug, Clone)]
pub struct Ns {
    fd: Arc<OwnedFd>,
    inode: u64,
}

impl PartialEq for Ns {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

impl Eq for Ns {}

impl Ns {
    /// That of the calling thread.
    ///
    /// # Errors
    /// [`Error::Kernel`] when `/proc` cannot be read.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net").map_err(|source| Error::of("open the current network namespace", source))
    }

    /// That of another process.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::NoPermission`] for another user's process, else [`Error::Kernel`].
    pub fn of(pid: Pid) -> Result<Self, Error> {
        Self::open(&format!("/proc/{pid}/ns/net")).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Error::Gone { pid },
            _ => Error::of("open the network namespace of a process", source),
        })
    }

    /// A new, empty one (not even its loopback is up), inside the user namespace we are in. Needs `CAP_SYS_ADMIN` there.
    ///
    /// # Errors
    /// [`Error::NoPermission`], [`Error::Kernel`].
    pub fn fresh() -> Result<Self, Error> {
        on_own_thread(|| {
            // SAFETY: no memory involved; concerns this thread only, which ends right after.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
                return Err(Error::of("make a network namespace", io::Error::last_os_error()));
            }
            Self::current()
        })?
    }

    /// Its number, as in [`crate::process::Process::net_namespace`].
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Makes a program start inside. The namespace lives at least as long as `command`.
    pub fn command<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let ns = self.clone();
        // SAFETY: between fork and exec only setns is called, which is a bare system call, and an error made of a number.
        unsafe { command.pre_exec(move || ns.enter()) }
    }

    /// Moves the calling thread for good; hence private.
    fn enter(&self) -> io::Result<()> {
        // SAFETY: an open descriptor and a number.
        let answer = unsafe { libc::setns(self.fd.as_raw_fd(), libc::CLONE_NEWNET) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn open(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { fd: Arc::new(OwnedFd::from(file)), inode })
    }
}

/// Does something inside a namespace, on a thread made for it; sockets opened there stay there, wherever they are used.
///
/// # Errors
/// [`Error::NoPermission`] without `CAP_SYS_ADMIN` here and there; [`Error::Kernel`] when no thread can be had.
pub fn in_ns<T: Send>(ns: &Ns, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    on_own_thread(|| {
        ns.enter().map_err(|source| Error::of("enter the network namespace", source))?;
        Ok(work())
    })?
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(String::from("netns"))
            .spawn_scoped(scope, work)
            .map_err(|source| Error::Kernel { action: "start a thread", source })?;
        thread.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes a program end (SIGKILL) together with the **thread** that starts it, so that none outlives us, even if we are killed.
/// Start it from a thread that lives long. A program that changes user or has file capabilities loses this.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    let die = move || {
        // SAFETY: plain numbers.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the wish was uttered: then nobody would ever end us.
        // SAFETY: no memory involved.
        if unsafe { libc::getppid() }.cast_unsigned() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: between fork and exec only prctl and getppid are called, which are bare system calls.
    unsafe { command.pre_exec(die) }
}

#[cfg(test)]
mod tests;
