//! The cgroup v2 tree: from the number that a socket carries to the path of its unit, and to the processes inside.
//!
//! The cgroup id of sock_diag (`INET_DIAG_CGROUP_ID`) is the inode number of the directory, the same from inside and outside
//! of a cgroup namespace. A directory made anew (a unit restarted) has a new number; a number without a directory is a unit
//! that is gone, not an error. Works on unified and on hybrid machines (cgroup2 at `/sys/fs/cgroup/unified`).

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CString, OsString};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::process::Pid;
use crate::process::dir::Dir;

/// What went wrong with the cgroup tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing of type cgroup2 is mounted: neither a unified nor a hybrid machine, or a container without it.
    #[error("find the cgroup2 tree: none is mounted")]
    NotMounted,
    /// The list of mounts could not be read.
    #[error("read /proc/self/mountinfo")]
    Mounts {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory of the tree could not be read (that it is gone is no error).
    #[error("read cgroup {path}")]
    Read {
        /// Its path in the tree.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Whether a question is about one cgroup or about all below it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This cgroup only.
    Itself,
    /// This one and everything below: right for a unit, which may have inner cgroups of its own.
    All,
}

/// The mounted cgroup2 tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    mount: PathBuf,
}

impl Tree {
    /// Finds it in `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// [`Error::NotMounted`], [`Error::Mounts`].
    pub fn find() -> Result<Self, Error> {
        let mounts = std::fs::read("/proc/self/mountinfo").map_err(|source| Error::Mounts { source })?;
        mount_point(&mounts).map(|mount| Self { mount }).ok_or(Error::NotMounted)
    }

    /// Where it is mounted, as `/sys/fs/cgroup`.
    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The id that a cgroup has now; `None` when there is no such cgroup (any more). `path` as in `/system.slice/x.service`.
    ///
    /// # Errors
    /// [`Error::Read`] for anything but a missing directory.
    pub fn id_of(&self, path: &str) -> Result<Option<u64>, Error> {
        let read = self.open(path.as_bytes()).and_then(|dir| dir.inode());
        some_unless_gone(read).map_err(|source| Error::Read { path: path.to_owned(), source })
    }

    /// The processes of a cgroup; none when it does not exist. Processes of foreign PID namespaces are left out.
    ///
    /// # Errors
    /// [`Error::Read`] for anything but a missing directory.
    pub fn pids_of(&self, path: &str, depth: Depth) -> Result<BTreeSet<Pid>, Error> {
        let mut pids = BTreeSet::new();
        self.walk(path, depth, |_, dir| {
            for line in dir.read(c"cgroup.procs", u64::MAX)?.split(|byte| *byte == b'\n') {
                // 0 is how the kernel writes a process that has no number in our PID namespace.
                pids.extend(std::str::from_utf8(line).ok().and_then(|line| line.parse().ok()).and_then(Pid::new));
            }
            Ok(())
        })?;
        Ok(pids)
    }

    /// All cgroups that exist now, by id.
    ///
    /// # Errors
    /// [`Error::Read`] when a directory cannot be read; one that vanishes during the walk is left out.
    pub fn map(&self) -> Result<Map, Error> {
        let mut paths = HashMap::new();
        self.walk("/", Depth::All, |path, dir| {
            paths.insert(dir.inode()?, String::from_utf8_lossy(path).into_owned());
            Ok(())
        })?;
        Ok(Map { paths })
    }

    /// Visits cgroups without recursion, so depth costs no stack. Order is not defined.
    fn walk(
        &self,
        start: &str,
        depth: Depth,
        mut visit: impl FnMut(&[u8], &Dir) -> io::Result<()>,
    ) -> Result<(), Error> {
        let mut waiting = vec![start.trim_end_matches('/').as_bytes().to_vec()];
        while let Some(path) = waiting.pop() {
            let visited = self.open(&path).and_then(|dir| {
                visit(if path.is_empty() { b"/" } else { &path }, &dir)?;
                if depth == Depth::All { add_children(&dir, &path, &mut waiting) } else { Ok(()) }
            });
            some_unless_gone(visited)
                .map_err(|source| Error::Read { path: String::from_utf8_lossy(&path).into_owned(), source })?;
        }
        Ok(())
    }

    fn open(&self, path: &[u8]) -> io::Result<Dir> {
        let full = [self.mount.as_os_str().as_bytes(), b"/", path].concat();
        Dir::open(&CString::new(full).map_err(io::Error::other)?)
    }
}

/// A snapshot of the tree: cgroup id to path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map {
    paths: HashMap<u64, String>,
}

impl Map {
    /// Finds the tree and reads it.
    ///
    /// # Errors
    /// As [`Tree::find`] and [`Tree::map`].
    pub fn read() -> Result<Self, Error> {
        Tree::find()?.map()
    }

    /// Path of the cgroup with this id; `None` for one that is gone, or made after the snapshot.
    #[must_use]
    pub fn path_of(&self, id: u64) -> Option<&str> {
        self.paths.get(&id).map(String::as_str)
    }

    /// Id that this path had. Looks at every entry: for a few questions, not for many.
    #[must_use]
    pub fn id_of(&self, path: &str) -> Option<u64> {
        self.paths.iter().find(|(_, candidate)| *candidate == path).map(|(id, _)| *id)
    }

    /// Every cgroup, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.paths.iter().map(|(id, path)| (*id, path.as_str()))
    }
}

fn add_children(dir: &Dir, path: &[u8], waiting: &mut Vec<Vec<u8>>) -> io::Result<()> {
    dir.for_each(|entry| {
        if entry.is_dir {
            waiting.push([path, b"/", entry.name.to_bytes()].concat());
        }
        ControlFlow::Continue(())
    })
}

/// A cgroup removed under our hands shows as `ENOENT` or `ENODEV`; `EOPNOTSUPP` is a threaded one, whose processes are listed
/// by its parent.
fn some_unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENOTDIR | libc::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Line of mountinfo (proc(5)): `ID PARENT DEV ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS`. Of several, the one
/// that shows the whole tree.
fn mount_point(mountinfo: &[u8]) -> Option<PathBuf> {
    let mut found: Option<(bool, PathBuf)> = None;
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let (Some(root), Some(point)) = (fields.nth(3), fields.next()) else { continue };
        if fields.skip_while(|field| *field != b"-").nth(1) != Some(b"cgroup2") {
            continue;
        }
        let whole = root == b"/";
        if found.as_ref().is_none_or(|(before, _)| whole && !before) {
            found = Some((whole, PathBuf::from(OsString::from_vec(unescaped(point)))));
        }
    }
    found.map(|(_, point)| point)
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn unescaped(mut field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    while let Some((first, rest)) = field.split_first() {
        match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                field = after;
            }
            _ => {
                plain.push(*first);
                field = rest;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests;
