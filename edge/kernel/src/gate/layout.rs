//! The table as data: its sets, chains and rules. Written to the kernel as it stands, and compared with what it lists.
//!
//! A table has only the sets that it needs, and only the rules that look into them: which sets there are says all of its
//! layout. It grows when a set more is needed, and never shrinks until it goes.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::FLOW_TIMEOUT;
use super::expr::{self, Expr, Verdict};

/// Base chains come before the usual filters (0), so that our reset is the answer, and after destination NAT (-100).
const PRIORITY: i32 = -10;
/// Bound of the learnt flows, and so of their memory (roughly 100 bytes each, only when used).
const FLOWS_MAX: u32 = 262_144;
/// The operation that an older kernel may refuse.
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
    /// Of an MPTCP connection, as it is on the wire.
    Token,
}

impl Part {
    /// Bytes.
    pub fn length(self) -> u32 {
        match self {
            Self::Addr4 | Self::Mark | Self::Token => 4,
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
            Self::Mark | Self::Token => 19,
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
    /// Each element has a time of its own at which the kernel takes it out.
    Timed,
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
            SetKind::Timed => 0x10,
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
    /// Shut UDP doors that are not refused at yet.
    Learn,
    /// Shut TCP doors where more paths of an MPTCP connection pass.
    Join,
    /// Shut UDP doors: whom the service itself sends to is a partner of its.
    Out,
}

impl Class {
    pub const ALL: [Self; 6] = [Self::Tcp, Self::Udp, Self::Quic, Self::Learn, Self::Join, Self::Out];

    /// Every address, one address, one forwarded address: each for IPv4 and IPv6.
    pub fn sets(self) -> [&'static str; 6] {
        match self {
            Self::Tcp => ["any4", "any6", "addr4", "addr6", "fwd4", "fwd6"],
            Self::Udp => ["udp_any4", "udp_any6", "udp_addr4", "udp_addr6", "udp_fwd4", "udp_fwd6"],
            Self::Quic => ["quic_any4", "quic_any6", "quic_addr4", "quic_addr6", "quic_fwd4", "quic_fwd6"],
            Self::Learn => ["learn_any4", "learn_any6", "learn_addr4", "learn_addr6", "learn_fwd4", "learn_fwd6"],
            Self::Join => ["join_any4", "join_any6", "join_addr4", "join_addr6", "join_fwd4", "join_fwd6"],
            Self::Out => ["out_any4", "out_any6", "out_addr4", "out_addr6", "out_fwd4", "out_fwd6"],
        }
    }

    fn kind(self) -> SetKind {
        match self {
            Self::Tcp | Self::Udp | Self::Quic => SetKind::Counting,
            Self::Learn => SetKind::Timed,
            Self::Join | Self::Out => SetKind::Plain,
        }
    }
}

pub(super) const OPEN: [&str; 2] = ["open4", "open6"];
pub(super) const EXCEPT: [&str; 2] = ["except4", "except6"];
pub(super) const FLOW: [&str; 2] = ["flow4", "flow6"];
pub(super) const PROBE: &str = "probe";
/// Tokens of the MPTCP connections that may get more paths.
pub(super) const TOKENS: &str = "tokens";
/// All ports of TCP doors, and of UDP doors: packets to others cost one look-up.
pub(super) const TCP_PORTS: &str = "tcp_ports";
pub(super) const UDP_PORTS: &str = "udp_ports";

/// Names of sets.
pub(super) type SetNames = BTreeSet<&'static str>;

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

#[derive(Debug, PartialEq, Eq)]
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

    /// Whether it refuses, learns or jumps: a chain of nothing but ways out is of no use.
    fn acts(&self) -> bool {
        self.exprs.iter().any(|expr| match expr.name {
            "reject" | "dynset" => true,
            "immediate" => expr.refers.is_some(),
            _ => false,
        })
    }
}

/// The whole table but its elements.
#[derive(Debug)]
pub(super) struct Layout {
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
}

impl Layout {
    /// The table with these sets: of all rules those that refer to nothing else.
    pub fn of(names: &SetNames) -> Self {
        let mut there = names.clone();
        let mut kept = Vec::new();
        for mut chain in chains() {
            chain
                .rules
                .retain(|rule| rule.exprs.iter().filter_map(|expr| expr.refers).all(|name| there.contains(name)));
            if chain.rules.iter().any(Rule::acts) {
                there.insert(chain.name);
                kept.push(chain);
            }
        }
        Self { sets: sets().into_iter().filter(|set| names.contains(set.name)).collect(), chains: kept }
    }

    /// All sets that there can be; `mptcp`: with those for more paths of MPTCP connections.
    pub fn all_sets(mptcp: bool) -> SetNames {
        let join = Class::Join.sets();
        let all = sets().into_iter().map(|set| set.name);
        all.filter(|name| mptcp || !(*name == TOKENS || join.contains(name))).collect()
    }
}

/// Those that are jumped to come first.
fn chains() -> Vec<Chain> {
    let chain = |name, rules| Chain { name, hook: None, rules };
    let base = |name, hook, rules| Chain { name, hook: Some(hook), rules };
    vec![
        chain("gate_quic", refusals(Class::Quic, &expr::unreachable())),
        chain("gate_quic_forward", forward_refusals(Class::Quic, &expr::unreachable())),
        chain("gate_tcp", tcp_rules()),
        chain("gate_udp", udp_rules()),
        chain("gate_tcp_forward", tcp_forward_rules()),
        chain("gate_udp_forward", udp_forward_rules()),
        chain("sent_udp", sent_rules()),
        chain("sent_udp_forward", sent_forward_rules()),
        base("input", 1, base_rules("sent_udp_forward", "gate_tcp", "gate_udp")),
        base("forward", 2, base_rules("sent_udp_forward", "gate_tcp_forward", "gate_udp_forward")),
        base("output", 3, output_rules()),
    ]
}

fn sets() -> Vec<Set> {
    use Part::{Addr4, Addr6, Mark, Port, Proto, Token};
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
    sets.push(set(TCP_PORTS, &[Port], SetKind::Plain));
    sets.push(set(UDP_PORTS, &[Port], SetKind::Plain));
    sets.push(set(TOKENS, &[Token], SetKind::Plain));
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

    fn source_and_port(&self) -> Vec<Expr> {
        vec![expr::network(self.source, self.length, 0), expr::transport(0, 2, self.words())]
    }

    /// The key of the flow to which a packet belongs that comes in.
    fn flow(&self) -> Vec<Expr> {
        self.flow_from((self.source, 0), (self.destination, 2))
    }

    /// The same of one that goes out.
    fn flow_out(&self) -> Vec<Expr> {
        self.flow_from((self.destination, 2), (self.source, 0))
    }

    /// Peer and door, each as offset of the address and of the port.
    fn flow_from(&self, peer: (u32, u32), door: (u32, u32)) -> Vec<Expr> {
        vec![
            expr::network(peer.0, self.length, 0),
            expr::transport(peer.1, 2, self.words()),
            expr::network(door.0, self.length, self.words() + 1),
            expr::transport(door.1, 2, 2 * self.words() + 1),
        ]
    }

    fn except(&self) -> Vec<Expr> {
        self.except_from(self.source, (self.destination, 2))
    }

    fn except_out(&self) -> Vec<Expr> {
        self.except_from(self.destination, (self.source, 0))
    }

    fn except_from(&self, peer: u32, door: (u32, u32)) -> Vec<Expr> {
        vec![
            expr::l4proto(0),
            expr::network(peer, self.length, 1),
            expr::network(door.0, self.length, self.words() + 1),
            expr::transport(door.1, 2, 2 * self.words() + 1),
        ]
    }
}

/// What a rule compares with a set: the fields of a packet, in the registers from word 0 on.
type Fields = fn(&Family) -> Vec<Expr>;

/// One rule for each family: key in the set of that family, then `action`.
fn each_family(comment: &str, sets: [&'static str; 2], key: Fields, action: &[Expr]) -> Vec<Rule> {
    let one = |(family, set): (&Family, &'static str)| {
        rule(comment, [family.only(), key(family), vec![expr::is_in(set)], action.to_vec()])
    };
    FAMILIES.iter().zip(sets).map(one).collect()
}

fn port(_: &Family) -> Vec<Expr> {
    vec![expr::transport(2, 2, 0)]
}

fn source_port(_: &Family) -> Vec<Expr> {
    vec![expr::transport(0, 2, 0)]
}

/// A SYN without ACK, FIN, RST: what begins a connection, with or without data (Fast Open) and ECN bits.
fn begins() -> Vec<Expr> {
    const FIN_SYN_RST_ACK: u8 = 0x17;
    const SYN: u8 = 0x02;
    vec![expr::l4proto(0), expr::is(&[TCP]), expr::transport(13, 1, 0), expr::and(&[FIN_SYN_RST_ACK]), expr::is(&[SYN])]
}

/// The same at a port that we know.
fn begins_at_ports() -> Vec<Expr> {
    [begins(), vec![expr::transport(2, 2, 0), expr::is_in(TCP_PORTS)]].concat()
}

/// `end`: offset of the port in the header, 0 = from it, 2 = to it.
fn at_udp_ports(end: u32) -> Vec<Expr> {
    vec![expr::l4proto(0), expr::is(&[UDP]), expr::transport(end, 2, 0), expr::is_in(UDP_PORTS)]
}

fn base_rules(sent: &'static str, tcp: &'static str, udp: &'static str) -> Vec<Rule> {
    vec![
        rule("UDP from the ports we know", [at_udp_ports(0), then(Verdict::Jump(sent))]),
        rule("new TCP connections at the ports we know", [begins_at_ports(), then(Verdict::Jump(tcp))]),
        rule("UDP at the ports we know", [at_udp_ports(2), then(Verdict::Jump(udp))]),
    ]
}

/// Own probes of a forwarded door carry their mark here; a mark on forwarded packets is somebody else's.
fn output_rules() -> Vec<Rule> {
    let probe = || vec![expr::mark(), expr::is_in(PROBE)];
    let mut rules = base_rules("sent_udp", "gate_tcp_forward", "gate_udp_forward");
    rules.insert(2, rule("own probe", [at_udp_ports(2), probe(), then(Verdict::Return)]));
    rules.insert(1, rule("own probe", [begins_at_ports(), probe(), then(Verdict::Return)]));
    rules
}

/// One more path of an MPTCP connection that exists is no newcomer. It says so by an option that a stranger can send as
/// well, and the kernel takes a SYN for plain TCP whose option has another length, comes with a second MPTCP option or
/// after the end of the options: all that an expression does not see. So the option must be whole and its token one
/// that we know.
fn join_rules(first: usize, key: Fields) -> Vec<Rule> {
    const MPTCP: u8 = 30;
    const LENGTH_OF_SYN: u8 = 12;
    const MP_JOIN: u8 = 0x10;
    let one = |(family, set): (&Family, &'static str)| {
        let join = [expr::tcp_option(MPTCP, 1, 2), expr::and(&[0xff, 0xf0]), expr::is(&[LENGTH_OF_SYN, MP_JOIN])];
        let known = [expr::tcp_option(MPTCP, 4, 4), expr::is_in(TOKENS)];
        let at_door = [key(family), vec![expr::is_in(set)]].concat();
        rule(MPTCP_COMMENT, [family.only(), join.into(), known.into(), at_door, then(Verdict::Return)])
    };
    FAMILIES.iter().zip(pick(Class::Join, first)).map(one).collect()
}

fn probe_rule() -> Rule {
    // Index 1 is the loopback interface in every namespace.
    let local = vec![expr::incoming_interface(), expr::is(&1u32.to_ne_bytes())];
    rule("own probe", [local, vec![expr::mark(), expr::is_in(PROBE)], then(Verdict::Return)])
}

fn pick(class: Class, first: usize) -> [&'static str; 2] {
    [class.sets()[first], class.sets()[first + 1]]
}

fn except_rules(key: Fields) -> Vec<Rule> {
    each_family("may come in", EXCEPT, key, &then(Verdict::Return))
}

fn open_rules(key: Fields) -> Vec<Rule> {
    each_family("listener of others", OPEN, key, &then(Verdict::Return))
}

/// Refusals at the doors of kind `first` (as in [`Class::sets`]).
fn shut_rules(class: Class, first: usize, key: Fields, action: &Expr) -> Vec<Rule> {
    let mut rules = if class == Class::Tcp { join_rules(first, key) } else { Vec::new() };
    rules.extend(each_family("shut", pick(class, first), key, std::slice::from_ref(action)));
    rules
}

/// One address, then listeners of others, then every address: as the kernel chooses among listeners.
fn refusals(class: Class, action: &Expr) -> Vec<Rule> {
    let mut rules = shut_rules(class, 2, Family::destination_and_port, action);
    rules.extend(open_rules(Family::destination_and_port));
    rules.extend(shut_rules(class, 0, port, action));
    rules
}

fn forward_refusals(class: Class, action: &Expr) -> Vec<Rule> {
    shut_rules(class, 4, Family::destination_and_port, action)
}

fn tcp_rules() -> Vec<Rule> {
    let mut rules = vec![probe_rule()];
    rules.extend(except_rules(Family::except));
    rules.extend(refusals(Class::Tcp, &expr::reset()));
    rules
}

fn tcp_forward_rules() -> Vec<Rule> {
    let mut rules = except_rules(Family::except);
    rules.extend(forward_refusals(Class::Tcp, &expr::reset()));
    rules
}

/// A known flow passes and is renewed.
fn known_flow_rules() -> Vec<Rule> {
    let one = |(family, set): (&Family, &'static str)| {
        let pass = vec![expr::is_in(set), expr::renew_in(set)];
        rule("known flow", [family.only(), family.flow(), pass, then(Verdict::Accept)])
    };
    FAMILIES.iter().zip(FLOW).map(one).collect()
}

/// At a learning door every packet passes, and its flow is known from then on. The door is shut already: it refuses as
/// soon as the kernel has taken its element out of the set of learning doors, with or without us.
fn learn_rules(first: usize, door: Fields) -> Vec<Rule> {
    flow_rules(Class::Learn, first, (door, Family::flow), &then(Verdict::Accept))
}

/// Whom a service sends to from a door of it is known from then on.
fn sent_to_rules(first: usize, door: Fields) -> Vec<Rule> {
    flow_rules(Class::Out, first, (door, Family::flow_out), &[])
}

fn flow_rules(class: Class, first: usize, (door, flow): (Fields, Fields), action: &[Expr]) -> Vec<Rule> {
    let one = |((family, set), flows): ((&Family, &'static str), &'static str)| {
        let renew = vec![expr::renew_in(flows)];
        rule("learn", [family.only(), door(family), vec![expr::is_in(set)], flow(family), renew, action.to_vec()])
    };
    FAMILIES.iter().zip(pick(class, first)).zip(FLOW).map(one).collect()
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
    let refuse = expr::unreachable();
    let mut rules = known_flow_rules();
    rules.push(probe_rule());
    rules.extend(except_rules(Family::except));
    rules.extend(initial_rules("gate_quic"));
    // A learning door is a shut one: learning comes first. One address, then listeners of others, then every address.
    rules.extend(learn_rules(2, Family::destination_and_port));
    rules.extend(shut_rules(Class::Udp, 2, Family::destination_and_port, &refuse));
    rules.extend(open_rules(Family::destination_and_port));
    rules.extend(learn_rules(0, port));
    rules.extend(shut_rules(Class::Udp, 0, port, &refuse));
    rules
}

fn udp_forward_rules() -> Vec<Rule> {
    let mut rules = known_flow_rules();
    rules.extend(except_rules(Family::except));
    rules.extend(initial_rules("gate_quic_forward"));
    rules.extend(learn_rules(4, Family::destination_and_port));
    rules.extend(forward_refusals(Class::Udp, &expr::unreachable()));
    rules
}

/// What a service sends from its door, while learning and while shut: an idle partner's flow may be forgotten when the
/// service speaks first, and the answer to that is no newcomer.
fn sent_rules() -> Vec<Rule> {
    let mut rules = except_rules(Family::except_out);
    rules.extend(sent_to_rules(2, Family::source_and_port));
    rules.extend(open_rules(Family::source_and_port));
    rules.extend(sent_to_rules(0, source_port));
    rules
}

/// The same of a service behind this host; to this host itself its packets come by the input hook.
fn sent_forward_rules() -> Vec<Rule> {
    let mut rules = except_rules(Family::except_out);
    rules.extend(sent_to_rules(4, Family::source_and_port));
    rules
}
