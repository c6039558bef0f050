//! Netlink: messages with nested attributes, and a socket that matches every answer to what was asked.
//!
//! [`Request`] builds one message, [`Batch`] several that the kernel takes in one go, [`Attributes`] and [`Messages`]
//! read without ever panicking, whatever the bytes are. Numbers are in host order unless the name says `be`
//! (nftables speaks big-endian, the rest of netlink host order).
//!
//! A [`Socket`] belongs to the network namespace of the thread that opens it.

mod error;
mod read;
mod socket;
#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use read::{Attribute, Attributes, Message, Messages};
pub use socket::Socket;

use std::borrow::Cow;

/// `NLM_F_REQUEST`: every message to the kernel has it ([`Request::new`] sets it).
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer even when all went well.
pub const ACK: u16 = 0x4;
/// `NLM_F_REPLACE` of a "new" request.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL` of a "new" request: fail when it exists.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE` of a "new" request.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND` of a "new" request.
pub const APPEND: u16 = 0x800;
/// `NLM_F_DUMP` of a "get" request: all objects.
pub const DUMP: u16 = 0x300;
/// `NLA_F_NESTED`: to be or-ed to the kind of a nest where a family insists on it (rtnetlink's newer parts do).
pub const NESTED: u16 = 0x8000;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// One message to the kernel, under construction.
///
/// Its sequence number is filled in by the [`Socket`] or [`Batch`] that sends it.
#[derive(Debug, Clone)]
pub struct Request {
    buf: Vec<u8>,
}

impl Request {
    /// A message of this type; `flags` are added to `NLM_F_REQUEST`.
    #[must_use]
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut buf = Vec::with_capacity(256);
        buf.extend_from_slice(&0u32.to_ne_bytes());
        buf.extend_from_slice(&kind.to_ne_bytes());
        buf.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        buf.extend_from_slice(&[0; 8]);
        Self { buf }
    }

    /// Appends raw bytes (the fixed part of the family behind the netlink header), padded to 4.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends one attribute.
    pub fn attr(&mut self, kind: u16, data: &[u8]) -> &mut Self {
        put_attr(&mut self.buf, kind, data);
        self
    }

    /// An 8-bit attribute.
    pub fn attr_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }

    /// A 16-bit attribute in host order.
    pub fn attr_u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// A 32-bit attribute in host order.
    pub fn attr_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// A 32-bit attribute in network order.
    pub fn attr_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// A 64-bit attribute in network order.
    pub fn attr_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// A NUL-terminated string attribute.
    pub fn attr_str(&mut self, kind: u16, text: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// An attribute that holds the attributes which `fill` appends.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        fill(self);
        close_attr(&mut self.buf, start, kind);
        self
    }

    /// All after the netlink header, as built so far.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.buf[HEADER..]
    }

    fn pad(&mut self) {
        while !self.buf.len().is_multiple_of(4) {
            self.buf.push(0);
        }
    }

    fn sealed(mut self, sequence: u32, more_flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.buf.len()).unwrap_or(u32::MAX);
        let flags = u16::from_ne_bytes([self.buf[6], self.buf[7]]) | more_flags;
        self.buf[0..4].copy_from_slice(&length.to_ne_bytes());
        self.buf[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.buf[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.buf
    }
}

/// Appends one attribute to a buffer. Longer than an attribute can be (65,531 bytes) is a caller's mistake and is cut.
fn put_attr(buf: &mut Vec<u8>, kind: u16, data: &[u8]) {
    let start = buf.len();
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(&data[..data.len().min(usize::from(u16::MAX) - 4)]);
    close_attr(buf, start, kind);
}

fn close_attr(buf: &mut Vec<u8>, start: usize, kind: u16) {
    let length = u16::try_from(buf.len() - start).unwrap_or(u16::MAX);
    buf[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    buf[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
    while !buf.len().is_multiple_of(4) {
        buf.push(0);
    }
}

/// Messages that the kernel takes together, each with the name of what it does, for the error.
#[derive(Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    name: Cow<'static, str>,
    request: Request,
    is_frame: bool,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one message; `operation` completes "failed to ...".
    pub fn push(&mut self, operation: impl Into<Cow<'static, str>>, request: Request) {
        self.operations.push(Operation { name: operation.into(), request, is_frame: false });
    }

    /// Adds a message that the kernel answers only with an error, and with nothing after it (begin and end of a batch).
    pub fn push_frame(&mut self, operation: impl Into<Cow<'static, str>>, request: Request) {
        self.operations.push(Operation { name: operation.into(), request, is_frame: true });
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}
