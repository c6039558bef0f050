//! Hands on one socket of another process, through a duplicate of its descriptor.
//!
//! The duplicate is closed at once: while we hold it, the application's own `close()` would send no FIN.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

use super::{Error, Handle, find_fd, sockopt};
use crate::diag::TcpInfo;

/// How often a descriptor may change under our hands before we say that it is not held.
const ATTEMPTS: usize = 4;
/// As much of `struct tcp_info` as is looked at, and more.
const INFO: usize = 256;

/// Tells an idle server process, in the mildest way there is, that its client left: shuts the *reading* side of its
/// socket, so that it sees a clean end and takes its normal path (closes, logs a plain disconnect).
///
/// Only for idle connections: a request half received is lost. What can be seen is looked at in this moment: nothing unread,
/// no listener, and no data for `quiet`, since a request may be on its way. `number` is that of the descriptor, if it is known.
/// Needs `CAP_SYS_PTRACE` for foreign processes.
///
/// # Errors
/// [`Error::Gone`], [`Error::NoPermission`], [`Error::NotHeld`], [`Error::Listening`], [`Error::Unread`], [`Error::Active`]; else
/// [`Error::Kernel`].
pub fn shutdown_read(process: &Handle, inode: u32, number: Option<RawFd>, quiet: Duration) -> Result<(), Error> {
    let pid = process.pid();
    let copy = duplicate(process, inode, number)?;
    let kernel = |source| Error::of_ptrace("shut a socket of", pid, source);
    if sockopt::get(copy.as_fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN).map_err(kernel)? != 0 {
        return Err(Error::Listening { pid, inode });
    }
    let mut info = [0; INFO];
    // No TCP: it has no such thing.
    let length = sockopt::get_bytes(copy.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).unwrap_or(0);
    let info = TcpInfo::parse(&info[..length]);
    let moved = Duration::from_millis(u64::from(info.last_data_sent_ms.min(info.last_data_recv_ms)));
    if length > 0 && moved < quiet {
        return Err(Error::Active { pid, inode });
    }
    match sockopt::unread(copy.as_fd()).map_err(kernel)? {
        0 => sockopt::shutdown(copy.as_fd(), libc::SHUT_RD).map_err(kernel),
        bytes => Err(Error::Unread { pid, inode, bytes }),
    }
}

/// Gets our own descriptor of exactly the socket `inode`. The process may close and reuse the number at any time, so what
/// came is looked at again.
fn duplicate(process: &Handle, inode: u32, mut number: Option<RawFd>) -> Result<OwnedFd, Error> {
    let pid = process.pid();
    for _ in 0..ATTEMPTS {
        let Some(fd) = number.take().map_or_else(|| find_fd(pid, inode), |fd| Ok(Some(fd)))? else { break };
        match process.duplicate(fd).and_then(|copy| same_socket(copy, inode)) {
            Ok(Some(copy)) => return Ok(copy),
            Ok(None) => {}
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
            Err(error) => return Err(Error::of_ptrace("share a socket of", pid, error)),
        }
    }
    if process.wait_exit(Duration::ZERO)? { Err(Error::Gone { pid }) } else { Err(Error::NotHeld { pid, inode }) }
}

fn same_socket(copy: OwnedFd, inode: u32) -> io::Result<Option<OwnedFd>> {
    let file = File::from(copy);
    let seen = file.metadata()?;
    let same = seen.file_type().is_socket() && seen.ino() == u64::from(inode);
    Ok(same.then(|| OwnedFd::from(file)))
}

/// What a [`PeerProbe`] found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// The peer's kernel (or a middlebox in its place) answered. Says nothing about the application there.
    Alive,
    /// At least two probes got no answer.
    Silent,
    /// Nothing learnt: too early, data in flight keeps probes back, or the connection is ending anyway.
    Unknown,
    /// The connection ended meanwhile.
    Ended,
}

/// The keepalive settings that a probe changes, in the order of setting; `SO_KEEPALIVE` last, for it starts the timer.
/// A user timeout is put off: with one, the kernel would end the connection after a single unanswered probe.
const PROBING: [(i32, i32, i32); 5] = [
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 0),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 100),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 1),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 1),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
];

/// A harmless question to the peer of an idle TCP connection of another process: short keepalives for some seconds, never
/// enough of them to end it; then the process's own settings again (also on drop).
///
/// Start many, wait [`PeerProbe::NEEDED`], finish all.
#[derive(Debug)]
pub struct PeerProbe<'h> {
    process: &'h Handle,
    inode: u32,
    began: Instant,
    /// What to restore; empty once restored.
    before: Vec<(i32, i32, i32)>,
}

impl<'h> PeerProbe<'h> {
    /// When a verdict is there: the first probe leaves after 1 s, the second unanswered one shows after 2 to 3 s.
    pub const NEEDED: Duration = Duration::from_secs(4);

    /// Begins to ask.
    ///
    /// # Errors
    /// As [`shutdown_read`]; [`Error::Kernel`] when it is no TCP socket.
    pub fn start(process: &'h Handle, inode: u32) -> Result<Self, Error> {
        let pid = process.pid();
        let copy = duplicate(process, inode, None)?;
        let kernel = |source| Error::of_ptrace("probe a socket of", pid, source);
        if sockopt::get(copy.as_fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN).map_err(kernel)? != 0 {
            return Err(Error::Listening { pid, inode });
        }
        let mut before = Vec::with_capacity(PROBING.len());
        for (level, name, _) in PROBING {
            before.push((level, name, sockopt::get(copy.as_fd(), level, name).map_err(kernel)?));
        }
        // From here on the probe exists, so that its end restores whatever has been set.
        let probe = Self { process, inode, began: Instant::now(), before };
        for (level, name, value) in PROBING {
            sockopt::set(copy.as_fd(), level, name, value).map_err(kernel)?;
        }
        Ok(probe)
    }

    /// Reads the verdict and restores the settings.
    ///
    /// # Errors
    /// [`Error::NoPermission`] or [`Error::Kernel`]; an ended process or connection is an answer, not an error.
    pub fn finish(mut self) -> Result<Liveness, Error> {
        let copy = match duplicate(self.process, self.inode, None) {
            Err(Error::Gone { .. } | Error::NotHeld { .. }) => {
                self.before.clear();
                return Ok(Liveness::Ended);
            }
            other => other?,
        };
        let mut info = [0_u8; 104];
        let read = sockopt::get_bytes(copy.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut info);
        self.restore(&copy);
        read.map_err(|source| Error::of_ptrace("probe a socket of", self.process.pid(), source))?;
        Ok(verdict(&info, self.began.elapsed()))
    }

    /// In reverse, so that keepalive stops first. Best effort: the connection may be ending this very moment.
    fn restore(&mut self, copy: &OwnedFd) {
        for (level, name, value) in std::mem::take(&mut self.before).into_iter().rev() {
            let _ = sockopt::set(copy.as_fd(), level, name, value);
        }
    }
}

impl Drop for PeerProbe<'_> {
    fn drop(&mut self) {
        if !self.before.is_empty()
            && let Ok(copy) = duplicate(self.process, self.inode, None)
        {
            self.restore(&copy);
        }
    }
}

/// From `struct tcp_info` (linux/tcp.h): state at byte 0, unanswered probes at 3, `last_ack_recv` in ms at 56.
fn verdict(info: &[u8; 104], asked_for: Duration) -> Liveness {
    const ESTABLISHED: u8 = 1;
    const CLOSE: u8 = 7;
    let last_ack = Duration::from_millis(u64::from(u32::from_ne_bytes([info[56], info[57], info[58], info[59]])));
    match (info[0], info[3]) {
        (CLOSE, _) => Liveness::Ended,
        (ESTABLISHED, 0) if last_ack < asked_for => Liveness::Alive,
        (ESTABLISHED, 2..) => Liveness::Silent,
        _ => Liveness::Unknown,
    }
}
