//! The daemons' own view. One folder or file for each daemon; [`Adapter`] is what they have in common.
//!
//! An adapter speaks to a daemon that nobody changed, over the control channel that its package opens, within a time
//! limit, and with bounded memory. What a daemon cannot do is data ([`Abilities`]), never an error at the wrong moment.
//! What is written is read back. Nothing is decided here.

pub mod call;
mod dovecot;
mod exec;
mod haproxy;
mod kamailio;
mod libpq;
mod nginx;
mod openssh;
mod pgbouncer;
mod postfix;
mod postgresql;
mod proc;
mod prosody;
pub mod recognise;
mod unix;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ebb_model::{Abilities, DaemonKind, Ended, Queue, Uses};

pub use recognise::{Seen, recognise};

/// Uses that are read of one daemon at most; it may have more.
pub const MOST_USES: usize = 100_000;
/// Bytes that one answer of a daemon may have at most.
pub const MOST_BYTES: usize = 64 << 20;

/// Why a daemon could not be asked, or its answer not be used. Nothing is concluded from it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to it: no socket, nobody listens.
    #[error("{daemon} is not reached at {at}: {cause}")]
    NotReached {
        /// Which daemon.
        daemon: DaemonKind,
        /// Where.
        at: String,
        /// Why.
        cause: String,
    },
    /// We may not.
    #[error("{daemon} refuses us at {at}: {cause}")]
    NotPermitted {
        /// Which daemon.
        daemon: DaemonKind,
        /// Where.
        at: String,
        /// What it said.
        cause: String,
    },
    /// It did not answer in time.
    #[error("{daemon} does not answer within {} s", .within.as_secs_f64())]
    Late {
        /// Which daemon.
        daemon: DaemonKind,
        /// How long it was waited for.
        within: Duration,
    },
    /// It answered something else than it should.
    #[error("{daemon} gave an answer that is not understood: {what}")]
    NotUnderstood {
        /// Which daemon.
        daemon: DaemonKind,
        /// What, printable and short.
        what: String,
    },
    /// It said no.
    #[error("{daemon} did not do it: {what}")]
    Refused {
        /// Which daemon.
        daemon: DaemonKind,
        /// What it said, printable and short.
        what: String,
    },
    /// It has no such thing; its [`Abilities`] say so.
    #[error("{daemon} cannot do that")]
    Cannot {
        /// Which daemon.
        daemon: DaemonKind,
    },
}

/// An answer that takes a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// How new work is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for the client to read: printable, one line.
    pub text: String,
    /// Where it may go instead.
    pub redirect: Option<String>,
}

/// A daemon of this server that can be spoken to. Each call opens what it needs and closes it again; all are bounded by
/// [`within`] in the one who calls.
pub trait Adapter: Send + Sync + std::fmt::Debug {
    /// Which.
    fn kind(&self) -> DaemonKind;

    /// What can be done now. Asks the daemon; a daemon that does not answer has [`Abilities::missing`].
    fn abilities(&self) -> Answer<'_, Abilities>;

    /// All uses of the service, at most `most`.
    ///
    /// # Errors
    /// [`Error`]
    fn uses(&self, most: usize) -> Answer<'_, Uses>;

    /// Has the daemon refuse new work, while what exists goes on. Doing it again is no fault. Read back.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Cannot`] where the kernel's gate does it better.
    fn refuse<'a>(&'a self, _refusal: &'a Refusal) -> Answer<'a, ()> {
        let daemon = self.kind();
        Box::pin(async move { Err(Error::Cannot { daemon }) })
    }

    /// Takes that back. Doing it again is no fault. Read back.
    ///
    /// # Errors
    /// [`Error`]
    fn admit(&self) -> Answer<'_, ()> {
        let daemon = self.kind();
        Box::pin(async move { Err(Error::Cannot { daemon }) })
    }

    /// Whether it refuses new work now, as it says itself.
    ///
    /// # Errors
    /// [`Error`]
    fn refuses(&self) -> Answer<'_, bool> {
        let daemon = self.kind();
        Box::pin(async move { Err(Error::Cannot { daemon }) })
    }

    /// What becomes of the messages in its queue, beside what would anyway. Doing it again is no fault. For
    /// [`Queue::Leave`], takes back what another has changed; the answer says whether there was anything.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Cannot`] where there is no queue of messages.
    fn queue<'a>(&'a self, _queue: &'a Queue) -> Answer<'a, bool> {
        let daemon = self.kind();
        Box::pin(async move { Err(Error::Cannot { daemon }) })
    }

    /// Ends these uses (their [`ebb_model::Use::key`]s) by the protocol's own goodbye, which carries `text` where it can.
    /// With `inside` also those whose work an end would undo. One answer for each, in their order.
    ///
    /// # Errors
    /// [`Error`], if none could be asked.
    fn end<'a>(&'a self, _keys: &'a [String], _text: &'a str, _inside: bool) -> Answer<'a, Vec<Ended>> {
        let daemon = self.kind();
        Box::pin(async move { Err(Error::Cannot { daemon }) })
    }

    /// Asks the clients of these uses to go to `target`. One answer for each, in their order.
    ///
    /// # Errors
    /// [`Error`], if none could be asked.
    fn redirect<'a>(&'a self, _keys: &'a [String], _target: &'a str) -> Answer<'a, Vec<Ended>> {
        let daemon = self.kind();
        Box::pin(async move { Err(Error::Cannot { daemon }) })
    }
}

/// An answer, or that there was none in time.
///
/// # Errors
/// [`Error`]
pub async fn within<T>(limit: Duration, daemon: DaemonKind, answer: Answer<'_, T>) -> Result<T, Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Late { daemon, within: limit }),
    }
}
