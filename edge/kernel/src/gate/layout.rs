//! The table as data: its sets, chains and rules. Written to the kernel as it stands, and compared with what it lists.

use std::borrow::Cow;

use super::FLOW_TIMEOUT;
use super::expr::{self, Expr, Verdict};

/// To be raised with every change to this file that an older table must not keep.
const SCHEMA: u32 = 1;
/// Base chains come before the usual filters (0), so that our reset is the answer, and after destination NAT (-100).
const PRIORITY: i32 = -10;
/// Bound of the learnt flows, and so of their memory (roughly 100 bytes each, only when used).
const FLOWS_MAX: u32 = 262_144;
/// The operation that an older kernel may refuse; see [`Layout::new`].
pub(super) const MPTCP_RULE: &str = "add the rule for more paths of MPTCP connections";

const MPTCP_COMMENT: &str = "one more path of an MPTCP connection";

const TCP: u8 = 6;
const UDP: u8 = 17;

/// One part of a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Addr4,
    Addr6,
    Proto,
    Port,
    Mark,
}

impl Part {
    /// Bytes.
    pub fn length(self) -> u32 {
        match self {
            Self::Addr4 | Self::Mark => 4,
            Self::Addr6 => 16,
            Self::Proto => 1,
            Self::Port => 2,
        }
    }

    /// The data type's number by which the `nft` program prints it (`enum datatypes` of nftables).
    pub fn type_id(self) -> u32 {
        match self {
            Self::Addr4 => 7,
            Self::Addr6 => 8,
            Self::Proto => 12,
            Self::Port => 13,
            Self::Mark => 19,
        }
    }
}

/// What a set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetKind {
    /// Plain membership.
    Plain,
    /// Each element counts the packets that it matched.
    Counting,
    /// Elements are boxes: every part has a lower and an upper bound.
    Interval,
    /// Packets put elements in, which are forgotten.
    Flows,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub name: &'static str,
    pub key: &'static [Part],
    pub kind: SetKind,
}

impl Set {
    /// `enum nft_set_flags`.
    pub fn flags(&self) -> u32 {
        match self.kind {
            SetKind::Plain | SetKind::Counting => 0,
            SetKind::Interval => 0x4 | 0x80,
            SetKind::Flows => 0x10 | 0x20,
        }
    }

    /// Length of the key in bytes: each part is padded to 4, unless it is the only one.
    pub fn key_length(&self) -> u32 {
        match self.key {
            [part] => part.length(),
            parts => parts.iter().map(|part| part.length().next_multiple_of(4)).sum(),
        }
    }

    pub fn key_type(&self) -> u32 {
        self.key.iter().fold(0, |sum, part| (sum << 6) | part.type_id())
    }

    /// Milliseconds; 0 = none.
    pub fn timeout(&self) -> u64 {
        if self.kind == SetKind::Flows { u64::try_from(FLOW_TIMEOUT.as_millis()).unwrap_or(u64::MAX) } else { 0 }
    }

    /// Bound of its elements; 0 = none.
    pub fn size(&self) -> u32 {
        if self.kind == SetKind::Flows { FLOWS_MAX } else { 0 }
    }
}

/// What a group of six sets is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Tcp,
    Udp,
    Quic,
    Learn,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Quic, Self::Learn];

    /// Every address, one address, one forwarded address: each for IPv4 and IPv6.
    pub fn sets(self) -> [&'static str; 6] {
        match self {
            Self::Tcp => ["any4", "any6", "addr4", "addr6", "fwd4", "fwd6"],
            Self::Udp => ["udp_any4", "udp_any6", "udp_addr4", "udp_addr6", "udp_fwd4", "udp_fwd6"],
            Self::Quic => ["quic_any4", "quic_any6", "quic_addr4", "quic_addr6", "quic_fwd4", "quic_fwd6"],
            Self::Learn => ["learn_any4", "learn_any6", "learn_addr4", "learn_addr6", "learn_fwd4", "learn_fwd6"],
        }
    }

    fn kind(self) -> SetKind {
        if self == Self::Learn { SetKind::Plain } else { SetKind::Counting }
    }
}

pub(super) const OPEN: [&str; 2] = ["open4", "open6"];
pub(super) const EXCEPT: [&str; 2] = ["except4", "except6"];
pub(super) const FLOW: [&str; 2] = ["flow4", "flow6"];
pub(super) const PROBE: &str = "probe";
/// All ports of UDP doors: packets to others cost one look-up.
pub(super) const UDP_PORTS: &str = "udp_ports";

#[derive(Debug)]
pub(super) struct Chain {
    pub name: &'static str,
    /// `NF_INET_*` number of the hook; `None` = only jumped to.
    pub hook: Option<u32>,
    pub rules: Vec<Rule>,
}

impl Chain {
    pub fn priority(&self) -> i32 {
        PRIORITY
    }
}

#[derive(Debug)]
pub(super) struct Rule {
    /// Printed by `nft list`, and part of the comparison.
    pub comment: String,
    pub exprs: Vec<Expr>,
}

impl Rule {
    /// What adding it is called in an error.
    pub fn operation(&self, chain: &str) -> Cow<'static, str> {
        if self.comment == MPTCP_COMMENT {
            return MPTCP_RULE.into();
        }
        format!("add rule {:?} to chain {chain}", self.comment).into()
    }
}

/// The whole table but its elements.
#[derive(Debug)]
pub(super) struct Layout {
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
}

impl Layout {
    /// `mptcp`: with the rule that lets more paths of an existing MPTCP connection in.
    pub fn new(mptcp: bool) -> Self {
        let rule = |chain, hook, rules| Chain { name: chain, hook, rules };
        Self {
            sets: sets(),
            chains: vec![
                rule("gate_quic", None, refusals(Class::Quic, &expr::unreachable())),
                rule("gate_quic_forward", None, forward_refusals(Class::Quic, &expr::unreachable())),
                rule("gate_tcp", None, tcp_rules(mptcp)),
                rule("gate_udp", None, udp_rules()),
                rule("gate_tcp_forward", None, tcp_forward_rules(mptcp)),
                rule("gate_udp_forward", None, udp_forward_rules()),
                rule("input", Some(1), base_rules("gate_tcp", "gate_udp", mptcp)),
                rule("forward", Some(2), base_rules("gate_tcp_forward", "gate_udp_forward", mptcp)),
                rule("output", Some(3), output_rules(mptcp)),
            ],
        }
    }
}

fn sets() -> Vec<Set> {
    use Part::{Addr4, Addr6, Mark, Port, Proto};
    let set = |name, key, kind| Set { name, key, kind };
    let mut sets = Vec::new();
    for class in Class::ALL {
        let [any4, any6, addr4, addr6, fwd4, fwd6] = class.sets();
        sets.extend([any4, any6].map(|name| set(name, &[Port], class.kind())));
        sets.extend([addr4, fwd4].map(|name| set(name, &[Addr4, Port], class.kind())));
        sets.extend([addr6, fwd6].map(|name| set(name, &[Addr6, Port], class.kind())));
    }
    sets.push(set(OPEN[0], &[Addr4, Port], SetKind::Plain));
    sets.push(set(OPEN[1], &[Addr6, Port], SetKind::Plain));
    sets.push(set(EXCEPT[0], &[Proto, Addr4, Addr4, Port], SetKind::Interval));
    sets.push(set(EXCEPT[1], &[Proto, Addr6, Addr6, Port], SetKind::Interval));
    sets.push(set(FLOW[0], &[Addr4, Port, Addr4, Port], SetKind::Flows));
    sets.push(set(FLOW[1], &[Addr6, Port, Addr6, Port], SetKind::Flows));
    sets.push(set(PROBE, &[Mark], SetKind::Plain));
    sets.push(set(UDP_PORTS, &[Port], SetKind::Plain));
    sets
}

fn rule(comment: &str, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule { comment: comment.to_owned(), exprs: parts.into_iter().flatten().collect() }
}

fn then(verdict: Verdict) -> Vec<Expr> {
    vec![expr::verdict(verdict)]
}

/// The two families as nftables numbers them (`NFPROTO_*`), with offset and length of the addresses in their headers.
struct Family {
    number: u8,
    source: u32,
    destination: u32,
    length: u32,
}

const FAMILIES: [Family; 2] = [
    Family { number: 2, source: 12, destination: 16, length: 4 },
    Family { number: 10, source: 8, destination: 24, length: 16 },
];

impl Family {
    fn only(&self) -> Vec<Expr> {
        vec![expr::family(), expr::is(&[self.number])]
    }

    /// Words that an address takes.
    fn words(&self) -> u32 {
        self.length / 4
    }

    fn destination_and_port(&self) -> Vec<Expr> {
        vec![expr::network(self.destination, self.length, 0), expr::transport(2, 2, self.words())]
    }

    fn flow(&self) -> Vec<Expr> {
        vec![
            expr::network(self.source, self.length, 0),
            expr::transport(0, 2, self.words()),
            expr::network(self.destination, self.length, self.words() + 1),
            expr::transport(2, 2, 2 * self.words() + 1),
        ]
    }

    fn except(&self) -> Vec<Expr> {
        vec![
            expr::l4proto(0),
            expr::network(self.source, self.length, 1),
            expr::network(self.destination, self.length, self.words() + 1),
            expr::transport(2, 2, 2 * self.words() + 1),
        ]
    }
}

/// One rule for each family: key in the set of that family, then `action`.
fn each_family(comment: &str, sets: [&str; 2], key: fn(&Family) -> Vec<Expr>, action: &[Expr]) -> Vec<Rule> {
    let one = |(family, set): (&Family, &str)| {
        rule(comment, [family.only(), key(family), vec![expr::is_in(set)], action.to_vec()])
    };
    FAMILIES.iter().zip(sets).map(one).collect()
}

fn port(_: &Family) -> Vec<Expr> {
    vec![expr::transport(2, 2, 0)]
}

/// A SYN without ACK, FIN, RST: what begins a connection, with or without data (Fast Open) and ECN bits.
fn begins() -> Vec<Expr> {
    const FIN_SYN_RST_ACK: u8 = 0x17;
    const SYN: u8 = 0x02;
    vec![expr::l4proto(0), expr::is(&[TCP]), expr::transport(13, 1, 0), expr::and(&[FIN_SYN_RST_ACK]), expr::is(&[SYN])]
}

fn at_udp_ports() -> Vec<Expr> {
    vec![expr::l4proto(0), expr::is(&[UDP]), expr::transport(2, 2, 0), expr::is_in(UDP_PORTS)]
}

/// The first rule's comment tells which layout this is.
pub(super) fn signature(mptcp: bool) -> String {
    format!("schema {SCHEMA}{}: new TCP connections", if mptcp { "" } else { " without mptcp" })
}

fn base_rules(tcp: &'static str, udp: &'static str, mptcp: bool) -> Vec<Rule> {
    vec![
        rule(&signature(mptcp), [begins(), then(Verdict::Jump(tcp))]),
        rule("UDP at the ports we know", [at_udp_ports(), then(Verdict::Jump(udp))]),
    ]
}

/// Own probes of a forwarded door carry their mark here; a mark on forwarded packets is somebody else's.
fn output_rules(mptcp: bool) -> Vec<Rule> {
    let probe = || vec![expr::mark(), expr::is_in(PROBE)];
    let mut rules = base_rules("gate_tcp_forward", "gate_udp_forward", mptcp);
    rules.insert(1, rule("own probe", [at_udp_ports(), probe(), then(Verdict::Return)]));
    rules.insert(0, rule("own probe", [begins(), probe(), then(Verdict::Return)]));
    rules
}

fn mptcp_rule(mptcp: bool) -> Option<Rule> {
    const MPTCP: u8 = 30;
    const MP_JOIN: u8 = 0x10;
    let join = vec![expr::tcp_option(MPTCP, 2, 1), expr::and(&[0xf0]), expr::is(&[MP_JOIN])];
    mptcp.then(|| rule(MPTCP_COMMENT, [join, then(Verdict::Return)]))
}

fn probe_rule() -> Rule {
    // Index 1 is the loopback interface in every namespace.
    let local = vec![expr::incoming_interface(), expr::is(&1u32.to_ne_bytes())];
    rule("own probe", [local, vec![expr::mark(), expr::is_in(PROBE)], then(Verdict::Return)])
}

fn pick(class: Class, first: usize) -> [&'static str; 2] {
    [class.sets()[first], class.sets()[first + 1]]
}

fn except_rules() -> Vec<Rule> {
    each_family("may come in", EXCEPT, Family::except, &then(Verdict::Return))
}

fn open_rules() -> Vec<Rule> {
    each_family("listener of others", OPEN, Family::destination_and_port, &then(Verdict::Return))
}

/// One address, then listeners of others, then every address.
fn refusals(class: Class, action: &Expr) -> Vec<Rule> {
    let action = std::slice::from_ref(action);
    let mut rules = each_family("shut", pick(class, 2), Family::destination_and_port, action);
    rules.extend(open_rules());
    rules.extend(each_family("shut", pick(class, 0), port, action));
    rules
}

fn forward_refusals(class: Class, action: &Expr) -> Vec<Rule> {
    each_family("shut", pick(class, 4), Family::destination_and_port, std::slice::from_ref(action))
}

fn tcp_rules(mptcp: bool) -> Vec<Rule> {
    let mut rules: Vec<Rule> = mptcp_rule(mptcp).into_iter().collect();
    rules.push(probe_rule());
    rules.extend(except_rules());
    rules.extend(refusals(Class::Tcp, &expr::reset()));
    rules
}

fn tcp_forward_rules(mptcp: bool) -> Vec<Rule> {
    let mut rules: Vec<Rule> = mptcp_rule(mptcp).into_iter().collect();
    rules.extend(except_rules());
    rules.extend(forward_refusals(Class::Tcp, &expr::reset()));
    rules
}

/// A known flow passes and is renewed.
fn known_flow_rules() -> Vec<Rule> {
    let one = |(family, set): (&Family, &str)| {
        let pass = vec![expr::is_in(set), expr::renew_in(set)];
        rule("known flow", [family.only(), family.flow(), pass, then(Verdict::Accept)])
    };
    FAMILIES.iter().zip(FLOW).map(one).collect()
}

fn learn_rules(first: usize, key: fn(&Family) -> Vec<Expr>) -> Vec<Rule> {
    let one = |((family, door), flow): ((&Family, &str), &str)| {
        let at_door = vec![expr::is_in(door)];
        rule("learn", [family.only(), key(family), at_door, family.flow(), vec![expr::renew_in(flow)]])
    };
    FAMILIES.iter().zip(pick(Class::Learn, first)).zip(FLOW).map(one).collect()
}

/// QUIC's Initial packets: long header (first bit), packet type (third and fourth), version. The second bit may be
/// anything (RFC 9287). Type numbers differ between version 1 (RFC 9000) and 2 (RFC 9369).
fn initial_rules(chain: &'static str) -> Vec<Rule> {
    let versions = [("QUIC version 1 Initial", 0x80u8, 0x0000_0001u32), ("QUIC version 2 Initial", 0x90, 0x6b33_43cf)];
    let one = |(comment, first, version): (&str, u8, u32)| {
        let first = vec![expr::transport(8, 1, 0), expr::and(&[0xb0]), expr::is(&[first])];
        let version = vec![expr::transport(9, 4, 0), expr::is(&version.to_be_bytes())];
        rule(comment, [first, version, then(Verdict::Jump(chain))])
    };
    versions.map(one).into()
}

fn udp_rules() -> Vec<Rule> {
    let mut rules = known_flow_rules();
    rules.push(probe_rule());
    rules.extend(except_rules());
    rules.extend(initial_rules("gate_quic"));
    let mut shut = refusals(Class::Udp, &expr::unreachable());
    // Learning comes after the refusals (what is refused is not learnt); at one address before the listeners of
    // others, at every address after them.
    let any = shut.split_off(4);
    rules.extend(shut.drain(..2));
    rules.extend(learn_rules(2, Family::destination_and_port));
    rules.extend(shut);
    rules.extend(any);
    rules.extend(learn_rules(0, port));
    rules
}

fn udp_forward_rules() -> Vec<Rule> {
    let mut rules = known_flow_rules();
    rules.extend(except_rules());
    rules.extend(initial_rules("gate_quic_forward"));
    rules.extend(forward_refusals(Class::Udp, &expr::unreachable()));
    rules.extend(learn_rules(4, Family::destination_and_port));
    rules
}
