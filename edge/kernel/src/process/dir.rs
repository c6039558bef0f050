//! A directory held open by descriptor, for reading many small kernel files fast.
//!
//! Everything is relative to the descriptor. For `/proc/PID` that is more than speed: the open directory stays bound to
//! that one process, so a recycled pid can never mix two processes into one answer (reads give `ESRCH` once it is gone).
//! No path is built per entry, and the type comes with the name (`getdents64`), so walking needs no `stat`.
#![expect(unsafe_code, reason = "openat, readlinkat and getdents64 have no safe form in std")]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// Bytes asked of one `getdents64`: about 1000 fd links or 400 cgroup files.
const LISTING_BYTES: usize = 32 * 1024;

/// An open directory.
pub(crate) struct Dir {
    file: File,
}

/// One entry of a directory; `.` and `..` are never reported.
pub(crate) struct Entry<'a> {
    /// Name without any path.
    pub name: &'a CStr,
    /// Whether it is itself a directory.
    pub is_dir: bool,
}

impl Dir {
    /// Opens a directory by absolute path.
    pub(crate) fn open(path: &CStr) -> io::Result<Self> {
        let file = open_at(libc::AT_FDCWD, path, libc::O_DIRECTORY)?;
        Ok(Self { file })
    }

    /// Opens a directory below this one.
    pub(crate) fn sub(&self, name: &CStr) -> io::Result<Self> {
        let file = open_at(self.file.as_raw_fd(), name, libc::O_DIRECTORY)?;
        Ok(Self { file })
    }

    /// Inode number of the directory itself.
    pub(crate) fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// The content of a file below, at most `limit` bytes of it.
    pub(crate) fn read(&self, name: &CStr, limit: u64) -> io::Result<Vec<u8>> {
        let file = open_at(self.file.as_raw_fd(), name, 0)?;
        let mut content = Vec::with_capacity(1024);
        file.take(limit).read_to_end(&mut content)?;
        Ok(content)
    }

    /// The target of a symbolic link below, cut at the size of `buffer`.
    pub(crate) fn link<'b>(&self, name: &CStr, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        // SAFETY: name is NUL-terminated, buffer is writable for its whole length, both live through the call.
        let length =
            unsafe { libc::readlinkat(self.file.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        Ok(&buffer[..length])
    }

    /// Calls `each` for every entry until it breaks. An open `Dir` can be listed once.
    pub(crate) fn for_each(&self, mut each: impl FnMut(Entry<'_>) -> ControlFlow<()>) -> io::Result<()> {
        let mut buffer = vec![0_u8; LISTING_BYTES];
        loop {
            // SAFETY: the descriptor is open, the buffer is writable for the length given.
            let length = unsafe {
                libc::syscall(libc::SYS_getdents64, self.file.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
            };
            let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
            if length == 0 || parse_listing(&buffer[..length], &mut each).is_break() {
                return Ok(());
            }
        }
    }
}

fn open_at(at: RawFd, name: &CStr, flags: libc::c_int) -> io::Result<File> {
    // SAFETY: name is NUL-terminated and lives through the call; no memory is handed over.
    let fd = unsafe { libc::openat(at, name.as_ptr(), flags | libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Layout of `struct linux_dirent64`: u64 inode, i64 offset, u16 record length, u8 type, name with NUL.
fn parse_listing(mut rest: &[u8], each: &mut impl FnMut(Entry<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
    while let Some((_inode_and_offset, after)) = rest.split_first_chunk::<16>()
        && let Some((&[low, high, kind], name)) = after.split_first_chunk::<3>()
    {
        let record = usize::from(u16::from_ne_bytes([low, high]));
        let Some(next) = rest.get(record.max(1)..) else { break };
        if let Ok(name) = CStr::from_bytes_until_nul(name)
            && name != c"."
            && name != c".."
        {
            each(Entry { name, is_dir: kind == libc::DT_DIR })?;
        }
        rest = next;
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn lists_like_std() {
        let base = std::env::temp_dir().join(format!("ebb-kernel-dir-{}", std::process::id()));
        std::fs::create_dir_all(base.join("folder")).unwrap();
        for number in 0..1500 {
            std::fs::write(base.join(format!("file-with-a-long-name-{number}")), b"x").unwrap();
        }
        let path = std::ffi::CString::new(base.to_str().unwrap()).unwrap();
        let dir = Dir::open(&path).unwrap();
        let mut ours = BTreeMap::new();
        dir.for_each(|entry| {
            ours.insert(entry.name.to_str().unwrap().to_owned(), entry.is_dir);
            ControlFlow::Continue(())
        })
        .unwrap();
        let theirs: BTreeMap<String, bool> = std::fs::read_dir(&base)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                (entry.file_name().into_string().unwrap(), meta.is_dir())
            })
            .collect();
        let folder = std::fs::metadata(base.join("folder")).unwrap().ino();
        assert_eq!(dir.sub(c"folder").unwrap().inode().unwrap(), folder);
        std::fs::remove_dir_all(&base).unwrap();
        assert_eq!(ours.len(), 1501);
        assert_eq!(ours, theirs);
    }

    #[test]
    fn broken_listing_neither_loops_nor_panics() {
        let mut record = vec![0_u8; 24];
        for length in [0_u16, 1, 18, 24, 25, 65535] {
            record[16..18].copy_from_slice(&length.to_ne_bytes());
            let _ = parse_listing(&record, &mut |_| ControlFlow::Continue(()));
        }
        let _ = parse_listing(&[0xff; 64], &mut |_| ControlFlow::Continue(()));
    }
}
