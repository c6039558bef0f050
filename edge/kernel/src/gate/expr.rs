//! nftables expressions as attribute bytes. Numbers are from `linux/netfilter/nf_tables.h`.

use crate::netlink::{Attributes, Request};

/// One expression of a rule: its name and its attributes, in the form in which the kernel lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expr {
    pub name: &'static str,
    pub data: Vec<u8>,
    /// The set that it looks into or the chain that it jumps to.
    pub refers: Option<&'static str>,
}

/// Where a rule continues.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    Accept,
    Return,
    Jump(&'static str),
}

/// `NFTA_DATA_VALUE` within an `NFTA_*_DATA`.
const DATA_VALUE: u16 = 1;
/// `NFTA_DATA_VERDICT`.
const DATA_VERDICT: u16 = 2;

impl Expr {
    fn new(name: &'static str, fill: impl FnOnce(&mut Request)) -> Self {
        let mut request = Request::new(0, 0);
        fill(&mut request);
        Self { name, data: request.body().to_vec(), refers: None }
    }

    fn to(self, refers: &'static str) -> Self {
        Self { refers: Some(refers), ..self }
    }

    /// Whether the kernel's listing is this expression: each attribute of ours as it is, and no other but zeroes
    /// (newer kernels list attributes that we do not know, with their default).
    pub fn is_listed_as(&self, name: &str, listed: &Attributes<'_>) -> bool {
        let ours = || Attributes::new(&self.data);
        name == self.name
            && ours().all(|our| listed.get(our.kind).is_some_and(|theirs| theirs.data == our.data))
            && listed.clone().all(|their| ours().get(their.kind).is_some() || their.data.iter().all(|b| *b == 0))
    }
}

/// Number of the register that begins at the 32-bit word `word`, as the kernel lists it: whole 128-bit registers are
/// 1 to 4, other words 8 and up.
fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { 1 + word / 4 } else { 8 + word }
}

fn meta(key: u32, word: u32) -> Expr {
    Expr::new("meta", |r| {
        r.attr_be32(1, register(word)).attr_be32(2, key);
    })
}

/// `NFT_META_NFPROTO` into register word 0: 2 = IPv4, 10 = IPv6.
pub(super) fn family() -> Expr {
    meta(15, 0)
}

/// `NFT_META_L4PROTO`.
pub(super) fn l4proto(word: u32) -> Expr {
    meta(16, word)
}

/// `NFT_META_MARK`.
pub(super) fn mark() -> Expr {
    meta(3, 0)
}

/// `NFT_META_IIF`: index of the interface a packet came in by.
pub(super) fn incoming_interface() -> Expr {
    meta(4, 0)
}

/// Loads `length` bytes at `offset` of the network header.
pub(super) fn network(offset: u32, length: u32, word: u32) -> Expr {
    payload(1, offset, length, word)
}

/// Loads `length` bytes at `offset` of the transport header.
pub(super) fn transport(offset: u32, length: u32, word: u32) -> Expr {
    payload(2, offset, length, word)
}

fn payload(base: u32, offset: u32, length: u32, word: u32) -> Expr {
    Expr::new("payload", |r| {
        r.attr_be32(1, register(word)).attr_be32(2, base).attr_be32(3, offset).attr_be32(4, length);
    })
}

/// Loads `length` bytes at `offset` of a TCP option; the rule ends when the packet lacks the option.
pub(super) fn tcp_option(kind: u8, offset: u32, length: u32) -> Expr {
    Expr::new("exthdr", |r| {
        r.attr_be32(1, register(0)).attr_u8(2, kind).attr_be32(3, offset).attr_be32(4, length);
        r.attr_be32(5, 0).attr_be32(6, 1);
    })
}

/// Register word 0 &= mask.
pub(super) fn and(mask: &[u8]) -> Expr {
    let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
    Expr::new("bitwise", |r| {
        r.attr_be32(1, register(0)).attr_be32(2, register(0)).attr_be32(3, length);
        r.nest(4, |r| _ = r.attr(DATA_VALUE, mask));
        r.nest(5, |r| _ = r.attr(DATA_VALUE, &vec![0; mask.len()]));
        r.attr_be32(6, 0);
    })
}

/// Ends the rule unless register word 0 is this.
pub(super) fn is(value: &[u8]) -> Expr {
    Expr::new("cmp", |r| {
        r.attr_be32(1, register(0)).attr_be32(2, 0);
        r.nest(3, |r| _ = r.attr(DATA_VALUE, value));
    })
}

/// Ends the rule unless the key that begins at register word 0 is in the set; counts at the element.
pub(super) fn is_in(set: &'static str) -> Expr {
    let lookup = Expr::new("lookup", |r| {
        r.attr_str(1, set).attr_be32(2, register(0)).attr_be32(5, 0);
    });
    lookup.to(set)
}

/// Puts the key that begins at register word 0 into the set, or renews it there.
pub(super) fn renew_in(set: &'static str) -> Expr {
    let renew = Expr::new("dynset", |r| {
        r.attr_str(1, set).attr_be32(3, 1).attr_be32(4, register(0));
    });
    renew.to(set)
}

/// `reject with tcp reset`.
pub(super) fn reset() -> Expr {
    Expr::new("reject", |r| {
        r.attr_be32(1, 1);
    })
}

/// `reject with icmpx port-unreachable`.
pub(super) fn unreachable() -> Expr {
    Expr::new("reject", |r| {
        r.attr_be32(1, 2).attr_u8(2, 1);
    })
}

pub(super) fn verdict(verdict: Verdict) -> Expr {
    let (code, chain) = match verdict {
        Verdict::Accept => (1, None),
        Verdict::Return => (-5i32, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
    };
    let immediate = Expr::new("immediate", |r| {
        r.attr_be32(1, 0);
        r.nest(2, |r| {
            r.nest(DATA_VERDICT, |r| {
                r.attr(1, &code.to_be_bytes());
                if let Some(chain) = chain {
                    r.attr_str(2, chain);
                }
            });
        });
    });
    Expr { refers: chain, ..immediate }
}
