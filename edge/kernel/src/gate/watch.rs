//! Being told when somebody else changes the table.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use super::Result;
use super::message::{FAMILY_HEADER, INET, Kind};
use crate::netlink::{Error as NetlinkError, Message, Socket};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Bytes: a reload of a large firewall is thousands of messages.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// What somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The table is no more, as after `nft flush ruleset`.
    TableGone,
    /// Something in it was added, changed or removed; or we do not know, because messages were lost.
    Altered,
}

/// A change of the table by another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The thread that did it, as the first pid namespace numbers it (a single-threaded program's pid); 0 = unknown.
    pub by_pid: u32,
    /// Its name (`comm`, 15 bytes at most); empty = unknown.
    pub by_name: String,
}

/// Notices changes to one table of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    pending: Pending,
}

#[derive(Debug)]
struct Pending {
    table: String,
    namespace: u64,
    /// What the commit that is being told did to our table so far, and through which socket.
    touched: Option<ChangeKind>,
    changes: VecDeque<Change>,
}

impl AsFd for Watch {
    /// Readable when [`try_next`](Watch::try_next) may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Watch {
    /// From now on; open it before reading the table.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_ADMIN`.
    pub fn open(table: &str) -> Result<Self> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        socket.receive_buffer(RECEIVE_BUFFER)?;
        socket.join(GROUP)?;
        let namespace = own_namespace();
        let pending = Pending { table: table.to_owned(), namespace, touched: None, changes: VecDeque::new() };
        Ok(Self { socket, pending })
    }

    /// The next change by another process; `None` = nothing more for now. Never waits.
    ///
    /// # Errors
    ///
    /// When the socket fails. Lost messages are no error but a change of unknown author.
    pub fn try_next(&mut self) -> Result<Option<Change>> {
        if let Some(change) = self.pending.changes.pop_front() {
            return Ok(Some(change));
        }
        let pending = &mut self.pending;
        match self.socket.drain("read changes of the ruleset", |message| pending.take(message)) {
            Err(NetlinkError::Overflow { .. }) => {
                let lost = Change { kind: ChangeKind::Altered, by_pid: 0, by_name: String::new() };
                pending.touched = None;
                pending.changes.push_back(lost);
            }
            other => other?,
        }
        Ok(self.pending.changes.pop_front())
    }
}

impl Pending {
    /// A commit is told object by object, with the generation message (which names the author) at its end.
    fn take(&mut self, message: &Message<'_>) {
        let attributes = message.attributes(FAMILY_HEADER);
        if message.kind != Kind::NewGeneration.wire() {
            let of_ours = message.body.first() == Some(&INET)
                && attributes.get(1).and_then(|a| a.str()) == Some(self.table.as_str());
            if of_ours {
                let gone = message.kind == Kind::DelTable.wire();
                self.touched = Some(if gone { ChangeKind::TableGone } else { ChangeKind::Altered });
            }
            return;
        }
        let Some(kind) = self.touched.take() else { return };
        if is_own_port(self.namespace, message.port) {
            return;
        }
        self.changes.push_back(Change {
            kind,
            by_pid: attributes.get(2).and_then(|a| a.be32()).unwrap_or(0),
            by_name: attributes.get(3).and_then(|a| a.str()).unwrap_or_default().to_owned(),
        });
    }
}

/// Ports of this process's gates with their network namespace. The generation message names a *thread* and that in the
/// first pid namespace, so that we cannot know ourselves by it; the port of the socket is ours for certain. Ports of closed
/// gates stay (what they did may not have been read yet), the oldest go: the kernel hands ports out at random.
static OWN_PORTS: Mutex<VecDeque<(u64, u32)>> = Mutex::new(VecDeque::new());
/// More gates than one process has open.
const OWN_PORTS_MAX: usize = 1024;

pub(super) fn remember_port(port: u32) {
    let mut ports = OWN_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    ports.push_back((own_namespace(), port));
    if ports.len() > OWN_PORTS_MAX {
        ports.pop_front();
    }
}

fn is_own_port(namespace: u64, port: u32) -> bool {
    OWN_PORTS.lock().unwrap_or_else(PoisonError::into_inner).contains(&(namespace, port))
}

/// Number of the calling thread's network namespace; 0 without /proc.
fn own_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |metadata| metadata.ino())
}

#[cfg(test)]
pub(super) fn fuzzed(message: &Message<'_>) {
    let changes = VecDeque::new();
    let mut pending = Pending { table: String::new(), namespace: 0, touched: None, changes };
    pending.take(message);
}
