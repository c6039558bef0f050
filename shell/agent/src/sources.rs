//! Sources of the kernel's events, as the loops wait for them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use ebb_kernel::{diag, gate};
use ebb_model::Why;
use tokio::io::unix::AsyncFd;

use crate::behind;
use crate::world::chain;

/// A source of the kernel's events, as tokio wants it.
pub(crate) struct Readable<T>(pub(crate) T);

impl<T: AsFd> AsFd for Readable<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Readable<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The safe way: these types keep one descriptor open for their whole life.
#[expect(deprecated, reason = "its successor is unsafe, and unsafe code lives in edge/kernel only")]
pub(crate) fn readable<T: AsFd>(source: T) -> Option<AsyncFd<Readable<T>>> {
    AsyncFd::new(Readable(source)).ok()
}

/// Waits until somebody else changes our table; the answer says who.
pub(crate) async fn gate_altered(watch: Option<&mut AsyncFd<Readable<gate::Watch>>>) -> Option<String> {
    let Some(watch) = watch else { return std::future::pending().await };
    let Ok(mut ready) = watch.readable_mut().await else { return std::future::pending().await };
    let mut by = None;
    while let Ok(Some(change)) = ready.get_inner_mut().0.try_next() {
        by = Some(format!("by {} (pid {})", ebb_model::printable(&change.by_name), change.by_pid));
    }
    ready.clear_ready();
    by
}

/// Where somebody listens now, by TCP or UDP, containers behind this host included.
pub(crate) fn listening_at() -> Result<Vec<SocketAddr>, Why> {
    let rows = diag::listeners()
        .map_err(|error| Why::Unread { what: "the listening sockets".into(), cause: chain(&error) })?;
    Ok(rows.iter().map(|row| row.local).chain(behind::listeners().into_iter().map(|(at, _)| at)).collect())
}

/// Inodes of the listening sockets: a new one means a new door or a restart.
pub(crate) fn listening() -> Result<BTreeSet<u32>, diag::Error> {
    let there = behind::listeners();
    Ok(diag::listeners()?.iter().chain(there.iter().map(|(_, row)| row)).map(|row| row.inode).collect())
}
