//! nftables messages: what goes to the kernel.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::elements::{Key, Owners, Placed};
use super::layout::{Chain, FLOW, Layout, Set, SetKind, SetNames};
use crate::netlink::{APPEND, Batch, CREATE, Message, Request, Result, Socket};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
/// `NFPROTO_INET`: IPv4 and IPv6 in one table.
pub(super) const INET: u8 = 1;
/// Elements per message: one attribute holds at most 64 kB, an element takes less than 160 bytes.
const ELEMENTS_PER_MESSAGE: usize = 300;
/// `struct nfgenmsg`.
pub(super) const FAMILY_HEADER: usize = 4;

/// `enum nf_tables_msg_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    NewSet = 9,
    GetSet = 10,
    NewElements = 12,
    GetElements = 13,
    DelElements = 14,
    NewGeneration = 15,
    GetGeneration = 16,
}

impl Kind {
    /// The netlink message type.
    pub const fn wire(self) -> u16 {
        (SUBSYSTEM << 8) | self as u16
    }
}

/// State of the ruleset of a namespace: raised by every change that anybody makes to any rule (not by packets).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    pub number: u32,
}

/// Changes to be made together.
#[derive(Debug, Default)]
pub(super) struct Transaction(Vec<(Cow<'static, str>, Request)>);

impl Transaction {
    fn push(&mut self, operation: impl Into<Cow<'static, str>>, request: Request) {
        self.0.push((operation.into(), request));
    }
}

/// The way to one table.
#[derive(Debug)]
pub(super) struct Nft {
    pub socket: Socket,
    pub table: String,
}

impl Nft {
    pub fn open(table: &str) -> Result<Self> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        // Every refused operation of a batch is answered: room for all of them.
        socket.receive_buffer(1 << 20)?;
        Ok(Self { socket, table: table.to_owned() })
    }

    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// A message about our table, whose name every kind of message has as attribute 1.
    pub fn about(&self, kind: Kind, flags: u16) -> Request {
        let mut request = bare(kind, flags);
        request.attr_str(1, &self.table);
        request
    }

    pub fn generation(&mut self) -> Result<Generation> {
        let mut number = 0;
        let mut request = Request::new(Kind::GetGeneration.wire(), 0);
        request.raw(&[0; FAMILY_HEADER]);
        self.socket.request("read the generation of the ruleset", request, |m| number = generation_of(m))?;
        Ok(Generation { number })
    }

    /// Makes the changes if the ruleset is still of this generation (else `ERESTART`); gives the generation afterwards.
    pub fn commit(&mut self, transaction: Transaction, generation: u32) -> Result<u32> {
        if transaction.0.is_empty() {
            return Ok(generation);
        }
        let mut batch = framed(transaction, generation);
        batch.push_frame("commit", frame(0x11));
        self.socket.batch(batch)?;
        // The kernel skips 0, which means "any".
        Ok(generation.wrapping_add(1).max(1))
    }

    /// Has the kernel check the changes and abandon them: a batch without its end.
    pub fn try_out(&mut self, transaction: Transaction) -> Result<()> {
        self.socket.batch(framed(transaction, 0))
    }

    pub fn delete_table(&self, transaction: &mut Transaction) {
        transaction.push("delete the table", self.about(Kind::DelTable, 0));
    }

    /// The whole table anew, in place of the one that is there if `replace`.
    pub fn build(&self, transaction: &mut Transaction, replace: bool, placed: &Placed, flows: &[Vec<u8>]) {
        if replace {
            self.delete_table(transaction);
        }
        let sets = placed.sets();
        self.build_empty(transaction, &sets);
        self.add_elements(transaction, placed);
        let none = Owners::new();
        for (name, length) in FLOW.into_iter().zip([16, 40]).filter(|(name, _)| sets.contains(name)) {
            let flows = flows.iter().filter(|key| key.len() == length);
            let keys: Vec<Key> = flows.map(|key| Key { from: key.clone(), to: None }).collect();
            let elements: Vec<_> = keys.iter().map(|key| (key, &none, None)).collect();
            self.elements(transaction, Kind::NewElements, name, &elements);
        }
    }

    /// A table with these sets and nothing in them.
    pub fn build_empty(&self, transaction: &mut Transaction, sets: &SetNames) {
        transaction.push("add the table", self.about(Kind::NewTable, CREATE));
        self.grow(transaction, &SetNames::new(), sets);
    }

    /// From a table with these sets to one with more of them. Sets that are there keep their elements and counters.
    pub fn grow(&self, transaction: &mut Transaction, from: &SetNames, to: &SetNames) {
        let (before, after) = (Layout::of(from), Layout::of(to));
        for (id, set) in (1..).zip(after.sets.iter().filter(|set| !from.contains(set.name))) {
            transaction.push(format!("add set {}", set.name), self.set(set, id));
        }
        let chain_before = |name| before.chains.iter().find(|chain| chain.name == name);
        for chain in after.chains.iter().filter(|chain| chain_before(chain.name).is_none()) {
            transaction.push(format!("add chain {}", chain.name), self.chain(chain));
        }
        for chain in &after.chains {
            match chain_before(chain.name) {
                Some(same) if same.rules == chain.rules => continue,
                Some(_) => self.flush_chain(transaction, chain),
                None => {}
            }
            self.rules(transaction, chain);
        }
    }

    /// Those of learning doors with the time that they have left.
    pub fn add_elements(&self, transaction: &mut Transaction, placed: &Placed) {
        self.all_elements(transaction, Kind::NewElements, placed);
    }

    pub fn delete_elements(&self, transaction: &mut Transaction, placed: &Placed) {
        self.all_elements(transaction, Kind::DelElements, placed);
    }

    fn all_elements(&self, transaction: &mut Transaction, kind: Kind, placed: &Placed) {
        for (set, elements) in &placed.lasting {
            let elements: Vec<_> = elements.iter().map(|(key, owners)| (key, owners, None)).collect();
            self.elements(transaction, kind, set, &elements);
        }
        let (none, now) = (Owners::new(), Instant::now());
        for ((set, key), until) in &placed.learning {
            let left = Some(until.saturating_duration_since(now)).filter(|_| kind == Kind::NewElements);
            self.elements(transaction, kind, set, &[(key, &none, left)]);
        }
    }

    fn elements(&self, transaction: &mut Transaction, kind: Kind, set: &str, all: &[Element<'_>]) {
        let (verb, flags) = if kind == Kind::NewElements { ("add", CREATE) } else { ("delete", 0) };
        for some in all.chunks(ELEMENTS_PER_MESSAGE) {
            let mut request = self.about(kind, flags);
            request.attr_str(2, set);
            request.nest(3, |list| {
                for one in some {
                    list.nest(1, |element| put_element(element, one));
                }
            });
            transaction.push(format!("{verb} {} elements of set {set}", some.len()), request);
        }
    }

    fn set(&self, set: &Set, id: u32) -> Request {
        let mut request = self.about(Kind::NewSet, CREATE);
        request.attr_str(2, set.name).attr_be32(3, set.flags()).attr_be32(4, set.key_type());
        request.attr_be32(5, set.key_length()).attr_be32(10, id);
        if set.timeout() != 0 {
            request.attr_be64(11, set.timeout());
        }
        if set.size() != 0 || set.kind == SetKind::Interval {
            request.nest(9, |description| {
                if set.size() != 0 {
                    description.attr_be32(1, set.size());
                }
                if set.kind == SetKind::Interval {
                    description.nest(2, |parts| {
                        for part in set.key {
                            parts.nest(1, |part_| _ = part_.attr_be32(1, part.length()));
                        }
                    });
                }
            });
        }
        if set.kind == SetKind::Counting {
            request.nest(17, counter);
        }
        if set.key == [super::layout::Part::Mark] {
            // For `nft list`: the key is in host order (NFTNL_UDATA_SET_KEYBYTEORDER = BYTEORDER_HOST_ENDIAN).
            request.attr(13, &[&[0, 4][..], &1u32.to_ne_bytes()].concat());
        }
        request
    }

    fn chain(&self, chain: &Chain) -> Request {
        let mut request = self.about(Kind::NewChain, CREATE);
        request.attr_str(3, chain.name);
        if let Some(hook) = chain.hook {
            request.nest(4, |r| {
                r.attr_be32(1, hook).attr(2, &chain.priority().to_be_bytes());
            });
            request.attr_be32(5, 1).attr_str(7, "filter");
        }
        request
    }

    fn flush_chain(&self, transaction: &mut Transaction, chain: &Chain) {
        let mut request = self.about(Kind::DelRule, 0);
        request.attr_str(2, chain.name);
        transaction.push(format!("flush chain {}", chain.name), request);
    }

    fn rules(&self, transaction: &mut Transaction, chain: &Chain) {
        for rule in &chain.rules {
            let mut request = self.about(Kind::NewRule, CREATE | APPEND);
            request.attr_str(2, chain.name);
            request.nest(4, |list| {
                for expr in &rule.exprs {
                    list.nest(1, |r| {
                        r.attr_str(1, expr.name).attr(2, &expr.data);
                    });
                }
            });
            request.attr(7, &comment(&rule.comment));
            transaction.push(rule.operation(chain.name), request);
        }
    }
}

/// A message with nothing but the family.
pub(super) fn bare(kind: Kind, flags: u16) -> Request {
    let mut request = Request::new(kind.wire(), flags);
    request.raw(&[INET, 0, 0, 0]);
    request
}

pub(super) fn generation_of(message: &Message<'_>) -> u32 {
    message.attributes(FAMILY_HEADER).get(1).and_then(|a| a.be32()).unwrap_or(0)
}

/// A comment as the `nft` program keeps it in user data: type 0, length, text with NUL.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![0, length];
    data.extend(text.bytes().take(usize::from(length) - 1));
    data.push(0);
    data
}

/// The comment in user data.
pub(super) fn comment_in(mut data: &[u8]) -> Option<&str> {
    while let [kind, length, rest @ ..] = data {
        let (text, after) = rest.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return std::str::from_utf8(text.strip_suffix(&[0])?).ok();
        }
        data = after;
    }
    None
}

/// An element: its key, its owners, and the time after which the kernel takes it out, where it has one of its own.
type Element<'a> = (&'a Key, &'a Owners, Option<Duration>);

fn put_element(element: &mut Request, (key, owners, timeout): &Element<'_>) {
    element.nest(1, |r| _ = r.attr(1, &key.from));
    if let Some(to) = &key.to {
        element.nest(10, |r| _ = r.attr(1, to));
    }
    if let Some(timeout) = timeout {
        // The kernel takes 0 for "never".
        element.attr_be64(4, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
    }
    if !owners.is_empty() {
        let text: Vec<&str> = owners.iter().copied().collect();
        element.attr(6, &comment(&text.join(", ")));
    }
}

/// An empty counter.
fn counter(request: &mut Request) {
    request.attr_str(1, "counter");
    request.nest(2, |r| {
        r.attr_be64(1, 0).attr_be64(2, 0);
    });
}

/// Begin (0x10) or end (0x11) of a batch.
fn frame(kind: u16) -> Request {
    let mut request = Request::new(kind, 0);
    let [high, low] = SUBSYSTEM.to_be_bytes();
    request.raw(&[0, 0, high, low]);
    request
}

fn framed(transaction: Transaction, generation: u32) -> Batch {
    let mut batch = Batch::new();
    let mut begin = frame(0x10);
    if generation != 0 {
        begin.attr_be32(1, generation);
    }
    batch.push_frame("change the ruleset", begin);
    for (operation, request) in transaction.0 {
        batch.push(operation, request);
    }
    batch
}
