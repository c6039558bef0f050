//! A process held by pidfd, so that no signal can ever reach a successor of the same number.
#![expect(unsafe_code, reason = "pidfd system calls have no safe form in stable std")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::{Error, Pid, start_ticks_of};

/// Keeps the arithmetic of instants and of poll's milliseconds in range.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The signals that a drain may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Signal {
    /// Hang up: reload, for many daemons.
    Hangup = libc::SIGHUP,
    /// As Ctrl-C.
    Interrupt = libc::SIGINT,
    /// Polite stop of nginx.
    Quit = libc::SIGQUIT,
    /// The usual request to end.
    Terminate = libc::SIGTERM,
    /// Ends at once.
    Kill = libc::SIGKILL,
    /// For the daemon's own use.
    User1 = libc::SIGUSR1,
    /// For the daemon's own use.
    User2 = libc::SIGUSR2,
    /// Polite end of the workers of nginx and Apache.
    WindowChange = libc::SIGWINCH,
    /// Freezes.
    Stop = libc::SIGSTOP,
    /// Goes on.
    Continue = libc::SIGCONT,
}

/// A hold on one very process.
#[derive(Debug)]
pub struct Handle {
    pid: Pid,
    fd: OwnedFd,
}

impl Handle {
    /// Takes hold of the process that was seen with this number and start ([`super::Process::start_ticks`]).
    ///
    /// # Errors
    /// [`Error::Gone`] when it ended, also when its number has been given to another process meanwhile.
    pub fn open(pid: Pid, start_ticks: u64) -> Result<Self, Error> {
        let fd = pidfd_open(pid).map_err(|source| Error::of("take hold of", pid, source))?;
        // After the pidfd, not before: what has this number now is either whom we hold or a successor, whose start differs.
        let seen = start_ticks_of(pid).map_err(|source| Error::of("read", pid, source))?;
        if seen == start_ticks { Ok(Self { pid, fd }) } else { Err(Error::Gone { pid }) }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to this process and no other.
    ///
    /// # Errors
    /// [`Error::Gone`] when it has ended and been collected, [`Error::NoPermission`] for another user's process.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        // SAFETY: the pidfd is open; a null siginfo and no flags are allowed (pidfd_send_signal(2)).
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if answer < 0 { Err(Error::of("signal", self.pid, io::Error::last_os_error())) } else { Ok(()) }
    }

    /// Waits until it has ended, at most so long (and never more than a day); `true` when it has. An ended but uncollected
    /// process has ended.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the kernel refuses to wait.
    pub fn wait_exit(&self, timeout: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout.min(LONGEST_WAIT);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: a wait of 0.3 ms must not become a busy loop of zero waits.
            let wait = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd, as the count says.
            let ready = unsafe { libc::poll(&raw mut poll, 1, wait) };
            if ready > 0 {
                return Ok(true);
            }
            if ready < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(Error::of("wait for", self.pid, error));
                }
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// A duplicate of one of its descriptors: the same open socket, in our hands.
    pub(super) fn duplicate(&self, fd: RawFd) -> io::Result<OwnedFd> {
        // SAFETY: plain numbers; the kernel checks the pidfd, our rights and the number.
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.fd.as_raw_fd(), fd, 0) };
        owned(copy)
    }
}

fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.raw(), 0) };
    owned(fd)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(fd) {
        // SAFETY: a descriptor which the kernel has just made for us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
