//! `sock_diag`: the kernel's list of TCP, UDP and MPTCP sockets, and its way to end a connection.
//!
//! What could not be listed whole is an error, never a short list. One [`Diag`] sees one network namespace: that of the
//! thread which opened it. The functions of this module open one for the length of the call.

mod destroy;
mod query;
mod row;
#[cfg(test)]
mod tests;

pub use destroy::{Ended, Ends, destroy, destroy_many, destroy_support};
pub use query::{Family, Query, SockProto, dump, listeners};
pub use row::{Row, RowId, State, StateSet, TcpInfo, Timer, TimerKind};

use crate::netlink::{self, Socket};

/// Short for a result with this module's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong. Display completes "failed to ...".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel's answer. Listing that was interrupted or lost messages is here too.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// Listeners, closed connections and unconnected UDP sockets are not ended from outside: programs spin or hang.
    #[error("end a socket in state {state:?} at {local}: not a session")]
    NotASession {
        /// Its state as listed.
        state: State,
        /// Its address.
        local: std::net::SocketAddr,
    },
    /// The kernel was built without `CONFIG_INET_DIAG_DESTROY`.
    #[error("end a connection: this kernel cannot (CONFIG_INET_DIAG_DESTROY)")]
    NoDestroy,
}

/// The sockets of one network namespace: that of the thread which opened it.
#[derive(Debug)]
pub struct Diag {
    socket: Socket,
}

impl Diag {
    /// Opens the way. Listing needs no right, ending does (`CAP_NET_ADMIN`).
    ///
    /// # Errors
    ///
    /// When the kernel has no `sock_diag`.
    pub fn open() -> Result<Self> {
        let socket = Socket::open(libc::NETLINK_SOCK_DIAG)?;
        socket.receive_buffer(1 << 20)?;
        Ok(Self { socket })
    }
}
