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

/// Finds the holders of `inodes` among the processes given. Processes that vanish meanwhile hold nothing.
///
/// All are asked, even when every inode has a holder: forked servers share their listeners.
#[must_use]
pub fn owners_of(inodes: &BTreeSet<u32>, among: impl Iterator<Item = Pid>) -> Owners {
    let mut owners = Owners::default();
    if inodes.is_empty() {
        return owners;
    }
    for pid in among {
        let walked = for_each_socket(pid, |_, inode| {
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
