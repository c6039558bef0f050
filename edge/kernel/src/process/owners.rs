//! Who holds which socket, by the links in `/proc/PID/fd`.
//!
//! Costs about 2 microseconds per descriptor: meant for the listeners of a service and the rows on a screen, never for all
//! established sockets of a busy machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::RawFd;

use super::{Error, Pid, number_of, parse};

/// Holders of sockets, and whom we could not ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// Inode of a socket -> the processes that hold it, each once, in the order asked. No entry = nobody found.
    pub holders: BTreeMap<u32, Vec<Pid>>,
    /// Processes whose descriptors we may not see; any of them may be a holder too.
    pub hidden: Vec<Pid>,
}

/// A program's listening sockets are looked for among so many of its sockets first.
const FIRST_SOCKETS: usize = 64;

/// Finds the holders of `inodes` among the processes given. Processes that vanish meanwhile hold nothing.
///
/// All are asked, even when every inode has a holder: forked servers share their listeners.
#[must_use]
pub fn owners_of(inodes: &BTreeSet<u32>, among: impl Iterator<Item = Pid>) -> Owners {
    owners_within(inodes, among, usize::MAX)
}

/// The same for *listening* sockets, which a program opens before it has clients: among a process's first sockets.
/// Only for those that nobody has there is everything looked through. A server with 20,000 clients then costs
/// a few microseconds and not 40 ms; in exchange a holder who got such a socket late, beside others, may be left out.
#[must_use]
pub fn owners_of_listeners(inodes: &BTreeSet<u32>, among: &[Pid]) -> Owners {
    let mut owners = first_owners(inodes, among.iter().copied());
    let missing: BTreeSet<u32> = inodes.iter().filter(|inode| !owners.holders.contains_key(inode)).copied().collect();
    owners.holders.extend(owners_of(&missing, among.iter().copied()).holders);
    owners
}

/// The holders that have one of these among their first sockets; others are not looked for.
#[must_use]
pub fn first_owners(inodes: &BTreeSet<u32>, among: impl Iterator<Item = Pid>) -> Owners {
    owners_within(inodes, among, FIRST_SOCKETS)
}

fn owners_within(inodes: &BTreeSet<u32>, among: impl Iterator<Item = Pid>, most: usize) -> Owners {
    let mut owners = Owners::default();
    if inodes.is_empty() {
        return owners;
    }
    for pid in among {
        let mut seen = 0;
        let walked = for_each_socket(pid, |_, inode| {
            seen += 1;
            if seen > most {
                return ControlFlow::Break(());
            }
            if inodes.contains(&inode) {
                let holders = owners.holders.entry(inode).or_default();
                if holders.last() != Some(&pid) {
                    holders.push(pid);
                }
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = walked
            && !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
        {
            owners.hidden.push(pid);
        }
    }
    owners
}

/// The number under which a process has a socket open; `None` when it does not, or is gone. The answer is stale at once.
///
/// # Errors
/// [`Error::NoPermission`] when its descriptors are hidden from us.
pub fn find_fd(pid: Pid, inode: u32) -> Result<Option<RawFd>, Error> {
    let mut found = None;
    let walked = for_each_socket(pid, |fd, candidate| {
        if candidate == inode {
            found = Some(fd);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    match walked.map_err(|source| Error::of_ptrace("read the descriptors of", pid, source)) {
        Ok(()) => Ok(found),
        Err(Error::Gone { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The numbers under which a process has these sockets open, in one walk: looking for each by itself takes the square of
/// their number. Stale at once; those that it does not hold are left out.
///
/// # Errors
/// [`Error::NoPermission`] when its descriptors are hidden from us; [`Error::Gone`].
pub fn find_fds(pid: Pid, inodes: &BTreeSet<u32>) -> Result<BTreeMap<u32, RawFd>, Error> {
    let mut found = BTreeMap::new();
    let walked = for_each_socket(pid, |fd, candidate| {
        if inodes.contains(&candidate) {
            found.insert(candidate, fd);
        }
        if found.len() == inodes.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    walked.map(|()| found).map_err(|source| Error::of_ptrace("read the descriptors of", pid, source))
}

fn for_each_socket(pid: Pid, mut each: impl FnMut(RawFd, u32) -> ControlFlow<()>) -> io::Result<()> {
    let dir = pid.dir()?.sub(c"fd")?;
    // Long enough for "socket:[4294967295]"; anything cut is a file and not ours.
    let mut buffer = [0_u8; 32];
    dir.for_each(|entry| {
        // A descriptor closed between listing and reading is not an error.
        let inode = dir.link(entry.name, &mut buffer).ok().and_then(|target| parse::tagged(target, b"socket"));
        let fd = number_of(entry.name).and_then(|fd| RawFd::try_from(fd).ok());
        match (fd, inode.and_then(|inode| u32::try_from(inode).ok())) {
            (Some(fd), Some(inode)) => each(fd, inode),
            _ => ControlFlow::Continue(()),
        }
    })
}
