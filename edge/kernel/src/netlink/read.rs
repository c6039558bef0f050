//! Reading what the kernel sends. Nothing here panics or reads outside the bytes given; what makes no sense ends the iteration.

use std::io;

use super::HEADER;

/// One message as received.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: of the request that it answers.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket that asked for it (in notifications: that made the change).
    pub port: u32,
    /// All after the netlink header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind a fixed part of `skip` bytes.
    #[must_use]
    pub fn attributes(&self, skip: usize) -> Attributes<'a> {
        Attributes::new(self.body.get(skip.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The error code of an `NLMSG_ERROR` or `NLMSG_DONE` message and the kernel's words; `None` = all well.
    pub(super) fn error(&self) -> Option<(io::Error, Option<String>)> {
        let code = self.body.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        (code != 0).then(|| (io::Error::from_raw_os_error(code.saturating_neg()), self.words()))
    }

    /// `NLMSGERR_ATTR_MSG`, if any.
    fn words(&self) -> Option<String> {
        const CAPPED: u16 = 0x100;
        const TLVS: u16 = 0x200;
        if self.flags & TLVS == 0 {
            return None;
        }
        let skip = if self.kind == super::socket::DONE {
            4
        } else if self.flags & CAPPED != 0 {
            4 + HEADER
        } else {
            let original = self.body.get(4..8)?.try_into().map(u32::from_ne_bytes).ok()?;
            4usize.checked_add(usize::try_from(original).ok()?)?
        };
        let start = skip.checked_next_multiple_of(4)?;
        let mut attributes = Attributes::new(self.body.get(start..)?);
        attributes.find(|a| a.kind == 1).and_then(|a| a.str().map(str::to_owned))
    }
}

/// The messages of one datagram.
#[derive(Debug, Clone)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Over the bytes of one datagram.
    #[must_use]
    pub fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }

    /// Whether bytes are left that are no message: the datagram was malformed.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        !self.0.is_empty()
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.first_chunk::<HEADER>()?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = usize::try_from(word(0)).ok()?;
        let body = self.0.get(HEADER..length)?;
        let message = Message { kind: half(4), flags: half(6), sequence: word(8), port: word(12), body };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// One attribute: its kind without the flags, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The kind, without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    pub kind: u16,
    /// The content.
    pub data: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes within.
    #[must_use]
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.data)
    }

    /// As a byte.
    #[must_use]
    pub fn u8(&self) -> Option<u8> {
        self.data.first().copied()
    }

    /// As 32 bits in host order; `None` when too short.
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        self.data.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// As 32 bits in network order.
    #[must_use]
    pub fn be32(&self) -> Option<u32> {
        self.data.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// As 64 bits in host order.
    #[must_use]
    pub fn u64(&self) -> Option<u64> {
        self.data.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }

    /// As 64 bits in network order.
    #[must_use]
    pub fn be64(&self) -> Option<u64> {
        self.data.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// As text up to the first NUL; `None` when it is not UTF-8.
    #[must_use]
    pub fn str(&self) -> Option<&'a str> {
        let end = self.data.iter().position(|b| *b == 0).unwrap_or(self.data.len());
        std::str::from_utf8(&self.data[..end]).ok()
    }
}

/// Attributes one after the other; ends at the first that makes no sense.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Over raw bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first one of this kind.
    #[must_use]
    pub fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.clone().find(|a| a.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        let header = self.0.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let data = self.0.get(4..length)?;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, data })
    }
}
