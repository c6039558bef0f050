//! The socket: requests with an answer, dumps, batches, and events without blocking.
#![expect(unsafe_code, reason = "std has no netlink sockets")]

use std::borrow::Cow;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{ACK, Batch, DUMP, Error, Message, Messages, Request, Result};

/// `NLMSG_ERROR`: also the good answer, with code 0.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: end of a dump.
pub(super) const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`.
const DUMP_INTERRUPTED: u16 = 0x10;
/// The kernel sends dumps in pieces of at most 32 kB; the rest is for large single messages.
const BUFFER: usize = 64 * 1024;
/// Seconds to wait for an answer. The kernel answers within the send call, so that this only bounds a fault.
const ANSWER_SECONDS: libc::time_t = 10;
/// Above this the send buffer is enlarged: the default (212,992) holds a message of about this size.
const LARGE_SEND: usize = 96 * 1024;

/// A netlink socket of one protocol, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens and binds one. `protocol` is `libc::NETLINK_NETFILTER`, `NETLINK_ROUTE`, `NETLINK_SOCK_DIAG`, ...
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] with `EPROTONOSUPPORT` when the kernel lacks the protocol.
    pub fn open(protocol: libc::c_int) -> Result<Self> {
        let failed = |source| Error::socket("open a netlink socket", source);
        // SAFETY: plain system call without pointers.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        checked(raw).map_err(failed)?;
        // SAFETY: `raw` is a descriptor that was just made and that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let mut socket = Self { fd, port: 0, sequence: 1, buffer: vec![0; BUFFER] };
        socket.bind().map_err(failed)?;
        // The two only make errors better (Linux 4.12, 4.3): an older kernel may lack them.
        let _ = socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32);
        let _ = socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32);
        let patience = libc::timeval { tv_sec: ANSWER_SECONDS, tv_usec: 0 };
        socket.option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &patience).map_err(failed)?;
        Ok(socket)
    }

    fn bind(&mut self) -> io::Result<()> {
        // SAFETY: sockaddr_nl is plain old data; all zero is a valid value ("the kernel chooses the port").
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: `address` lives through both calls and `length` is its size.
        unsafe {
            checked(libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length))?;
            checked(libc::getsockname(self.fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length))?;
        }
        self.port = address.nl_pid;
        Ok(())
    }

    fn option<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is a live reference and the length is that of its type.
        let result = unsafe {
            let length = size_of::<T>() as libc::socklen_t;
            libc::setsockopt(self.fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
        };
        checked(result).map(drop)
    }

    /// The port (`nl_pid`) of this socket: notifications of changes made through it carry it.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Joins a multicast group (the number, not the bit).
    ///
    /// # Errors
    ///
    /// `EPERM` where the group needs `CAP_NET_ADMIN`, `EINVAL`/`ENOENT` when the kernel has no such group.
    pub fn join(&self, group: u32) -> Result<()> {
        self.option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group)
            .map_err(|source| Error::socket(format!("join netlink group {group}"), source))
    }

    /// Sets the receive buffer in bytes, beyond the system's limit where we may (`SO_RCVBUFFORCE`), else up to it.
    ///
    /// # Errors
    ///
    /// Only when the socket is unusable.
    pub fn receive_buffer(&self, bytes: i32) -> Result<()> {
        self.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
            .or_else(|_| self.option(libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes))
            .map_err(|source| Error::socket("enlarge the receive buffer", source))
    }

    /// Sends one request, gives every answer but the acknowledgement to `each`, and waits for the acknowledgement.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with what the kernel says.
    pub fn request(
        &mut self,
        operation: impl Into<Cow<'static, str>>,
        request: Request,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<()> {
        let operation = operation.into();
        let sequence = self.next_sequence();
        self.send(&operation, &request.sealed(sequence, ACK))?;
        self.answers(&operation, |operation, message| {
            if message.sequence != sequence {
                return Ok(false);
            }
            if message.kind == ERROR {
                return accepted(operation, message).map(|()| true);
            }
            each(message);
            Ok(false)
        })
    }

    /// Sends a request for all objects (`NLM_F_DUMP` is added) and gives each to `each`.
    ///
    /// # Errors
    ///
    /// What `each` has seen is whole only when this is `Ok`: [`Error::Interrupted`] and [`Error::Overflow`] say that it is not.
    pub fn dump(
        &mut self,
        operation: impl Into<Cow<'static, str>>,
        request: Request,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<()> {
        let operation = operation.into();
        let sequence = self.next_sequence();
        let mut interrupted = false;
        self.send(&operation, &request.sealed(sequence, DUMP))?;
        self.answers(&operation, |operation, message| {
            if message.sequence != sequence {
                return Ok(false);
            }
            interrupted |= message.flags & DUMP_INTERRUPTED != 0;
            match message.kind {
                ERROR | DONE => accepted(operation, message).map(|()| true),
                _ => {
                    each(message);
                    Ok(false)
                }
            }
        })?;
        if interrupted { Err(Error::Interrupted { operation }) } else { Ok(()) }
    }

    /// Sends all messages of a batch in one go and waits for the answer to the last. An error names the operation that
    /// the kernel refused first. Whether the others took effect then is up to the family (nftables: none did).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] of the first refused operation.
    pub fn batch(&mut self, batch: Batch) -> Result<()> {
        let mut first = None;
        self.batch_each(batch, |operation, error| {
            if let Some((source, message)) = error
                && first.is_none()
            {
                first = Some(Error::Refused { operation, message, source });
            }
        })?;
        first.map_or(Ok(()), Err)
    }

    /// As [`batch`](Self::batch), but gives each refused operation, and the answer to the last one, to `each`.
    pub(crate) fn batch_each(
        &mut self,
        batch: Batch,
        mut each: impl FnMut(Cow<'static, str>, Option<(io::Error, Option<String>)>),
    ) -> Result<()> {
        let Some(last) = batch.operations.iter().rposition(|o| !o.is_frame) else { return Ok(()) };
        let first = self.sequence.wrapping_add(1);
        let (mut names, mut bytes) = (Vec::with_capacity(batch.operations.len()), Vec::new());
        for (index, operation) in batch.operations.into_iter().enumerate() {
            let sequence = self.next_sequence();
            bytes.extend_from_slice(&operation.request.sealed(sequence, if index == last { ACK } else { 0 }));
            names.push((operation.name, operation.is_frame));
        }
        let operation = names[last].0.clone();
        self.send(&operation, &bytes)?;
        self.answers(&operation, |_, message| {
            let index = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            let Some((name, is_frame)) = names.get(index).filter(|_| message.kind == ERROR) else { return Ok(false) };
            let error = message.error();
            let over = index == last || (*is_frame && error.is_some());
            each(name.clone(), error);
            Ok(over)
        })
    }

    /// Reads what has arrived, without blocking; each datagram's messages go to `each`. Returns when nothing is left.
    ///
    /// # Errors
    ///
    /// [`Error::Overflow`] when messages were lost; reading may go on afterwards.
    pub fn drain(&mut self, operation: &'static str, mut each: impl FnMut(&Message<'_>)) -> Result<()> {
        loop {
            match receive(&self.fd, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(None) => {}
                Ok(Some(length)) => Messages::new(&self.buffer[..length]).for_each(|m| each(&m)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Error::socket(operation, error)),
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, operation: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > LARGE_SEND {
            let wanted = i32::try_from(bytes.len() * 2).unwrap_or(i32::MAX);
            self.option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &wanted)
                .or_else(|_| self.option(libc::SOL_SOCKET, libc::SO_SNDBUF, &wanted))
                .map_err(|source| Error::socket("enlarge the send buffer", source))?;
        }
        loop {
            // SAFETY: pointer and length describe `bytes`, which outlives the call.
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(Error::socket(operation.to_owned(), error));
            }
        }
    }

    /// Receives until `each` says that the answer is complete.
    fn answers(&mut self, operation: &str, mut each: impl FnMut(&str, &Message<'_>) -> Result<bool>) -> Result<()> {
        loop {
            let length = match receive(&self.fd, &mut self.buffer, 0) {
                Ok(Some(length)) => length,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::answer(operation, "the kernel did not answer"));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Error::answer(operation, "an answer larger than 64 kB"));
                }
                Err(error) => return Err(Error::socket(operation.to_owned(), error)),
            };
            let mut messages = Messages::new(&self.buffer[..length]);
            for message in messages.by_ref() {
                if each(operation, &message)? {
                    return Ok(());
                }
            }
            if messages.is_malformed() {
                return Err(Error::answer(operation, "a malformed answer"));
            }
        }
    }
}

fn accepted(operation: &str, message: &Message<'_>) -> Result<()> {
    match message.error() {
        None => Ok(()),
        Some((source, message)) => Err(Error::Refused { operation: operation.to_owned().into(), message, source }),
    }
}

/// One datagram of the kernel; `None` for one that somebody else sent. `InvalidData`: it was cut.
fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: libc::c_int) -> io::Result<Option<usize>> {
    loop {
        // SAFETY: sockaddr_nl is plain old data; all zero is a valid value.
        let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let mut from_length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: pointers and lengths describe `buffer` and `from`, which outlive the call.
        let got = unsafe {
            libc::recvfrom(
                fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                flags | libc::MSG_TRUNC,
                (&raw mut from).cast(),
                &raw mut from_length,
            )
        };
        match usize::try_from(got) {
            Ok(_) if from.nl_pid != 0 => return Ok(None),
            Ok(length) if length > buffer.len() => return Err(io::ErrorKind::InvalidData.into()),
            Ok(length) => return Ok(Some(length)),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
