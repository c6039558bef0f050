//! Ending connections from outside (`SOCK_DESTROY`): the peer gets a reset, the program here `ECONNABORTED`.

use super::row::{ID_LENGTH, RowId, State};
use super::{Diag, Error, Result};
use crate::netlink::{self, Batch, Request};

/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
/// Requests sent at once; each refused one is answered in the receive buffer.
const AT_ONCE: usize = 128;

/// What became of a connection that was to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is ended by us.
    Destroyed,
    /// It was no more.
    Gone,
}

/// What became of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Ended by us.
    pub destroyed: u64,
    /// Were no more.
    pub gone: u64,
    /// Not touched because they are no sessions.
    pub refused: u64,
}

impl RowId {
    fn is_session(&self) -> bool {
        !matches!(self.state, State::Listen | State::TimeWait | State::Close | State::Other(_))
    }

    fn destroy(&self) -> Request {
        request(self.family, self.protocol, &self.raw)
    }
}

fn request(family: u8, protocol: u8, id: &[u8; ID_LENGTH]) -> Request {
    let mut request = Request::new(DESTROY, 0);
    request.raw(&[family, protocol, 0, 0]).raw(&u32::MAX.to_ne_bytes()).raw(id);
    request
}

impl Diag {
    /// Ends exactly this connection: one that has taken its address since is not touched.
    ///
    /// # Errors
    ///
    /// [`Error::NotASession`] for listeners and the like, [`Error::NoDestroy`], or the kernel's (`EPERM`).
    pub fn destroy(&mut self, id: &RowId) -> Result<Ended> {
        if !id.is_session() {
            return Err(Error::NotASession { state: id.state, local: id.local() });
        }
        match self.socket.request("end a connection", id.destroy(), |_| {}) {
            Ok(()) => Ok(Ended::Destroyed),
            Err(error) => ended(error),
        }
    }

    /// Ends many, without waiting for each.
    ///
    /// # Errors
    ///
    /// The first that is neither "gone" nor "not a session"; some may have been ended then.
    pub fn destroy_many(&mut self, ids: impl IntoIterator<Item = RowId>) -> Result<Ends> {
        let mut ends = Ends::default();
        let mut ids = ids.into_iter().peekable();
        while ids.peek().is_some() {
            let mut batch = Batch::new();
            let mut asked = 0;
            for id in ids.by_ref().take(AT_ONCE) {
                if id.is_session() {
                    batch.push("end a connection", id.destroy());
                    asked += 1;
                } else {
                    ends.refused += 1;
                }
            }
            let (gone, failed) = self.send(batch)?;
            ends.gone += gone;
            ends.destroyed += asked - gone;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(ends)
    }

    /// How many were gone, and the first other error.
    fn send(&mut self, batch: Batch) -> Result<(u64, Option<Error>)> {
        let (mut gone, mut failed) = (0, None);
        self.socket.batch_each(batch, |operation, error| {
            let Some((source, message)) = error else { return };
            match ended(netlink::Error::Refused { operation, message, source }) {
                Ok(_) => gone += 1,
                Err(error) => failed = failed.take().or(Some(error)),
            }
        })?;
        Ok((gone, failed))
    }

    /// Whether this kernel can end connections and we may: asks to end one that cannot exist.
    ///
    /// # Errors
    ///
    /// The kernel's (`EPERM`).
    pub fn destroy_support(&mut self) -> Result<bool> {
        let mut id = [0; ID_LENGTH];
        id[1] = 1;
        id[3] = 1;
        id[4..8].copy_from_slice(&[127, 0, 0, 1]);
        id[20..24].copy_from_slice(&[127, 0, 0, 1]);
        id[40..].fill(0xfe);
        let tcp = request(libc::AF_INET as u8, libc::IPPROTO_TCP as u8, &id);
        match self.socket.request("find out whether connections can be ended", tcp, |_| {}) {
            Ok(()) => Ok(true),
            Err(error) => match ended(error) {
                Ok(_) => Ok(true),
                Err(Error::NoDestroy) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }
}

/// An answer that is no plain yes.
fn ended(error: netlink::Error) -> Result<Ended> {
    match error.errno() {
        Some(libc::ENOENT) => Ok(Ended::Gone),
        Some(libc::EOPNOTSUPP) => Err(Error::NoDestroy),
        _ => Err(error.into()),
    }
}

/// [`Diag::destroy`] in the network namespace of this thread.
///
/// # Errors
///
/// As [`Diag::destroy`].
pub fn destroy(id: &RowId) -> Result<Ended> {
    Diag::open()?.destroy(id)
}

/// [`Diag::destroy_many`] in the network namespace of this thread.
///
/// # Errors
///
/// As [`Diag::destroy_many`].
pub fn destroy_many(ids: impl IntoIterator<Item = RowId>) -> Result<Ends> {
    Diag::open()?.destroy_many(ids)
}

/// [`Diag::destroy_support`] in the network namespace of this thread.
///
/// # Errors
///
/// As [`Diag::destroy_support`].
pub fn destroy_support() -> Result<bool> {
    Diag::open()?.destroy_support()
}
