//! Rules as set elements, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::layout::{Class, EXCEPT, FLOW, OPEN, PROBE, SetNames, TCP_PORTS, TOKENS, UDP_PORTS};
use super::{Door, Except, Proto, Reach, Rules};

/// The key of an element; `to` is the upper bound in a set of boxes. Parts are padded to 4 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub from: Vec<u8>,
    pub to: Option<Vec<u8>>,
}

/// What an element's comment says: which of the rules that need this very element there are. Empty where the key says all.
pub(super) type Owners = BTreeSet<&'static str>;

/// All elements of the sets that rules are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Placed {
    /// Those that stay until they are taken out.
    pub lasting: BTreeMap<&'static str, BTreeMap<Key, Owners>>,
    /// Those of learning doors: the kernel takes each out at its time, without us.
    pub learning: Learning,
}

/// Elements of the sets of learning doors, and when each goes. They have no owners: a shut UDP door of which any
/// element is here learns.
pub(super) type Learning = BTreeMap<(&'static str, Key), Instant>;

/// What an element says about the door of which it is one part.
const KINDS: [&str; 5] = ["ipv4", "ipv6", "dual", "address", "forward"];
const PROTOS: [(&str, Proto, Class, u8); 3] =
    [("tcp", Proto::Tcp, Class::Tcp, 6), ("udp", Proto::Udp, Class::Udp, 17), ("quic", Proto::Quic, Class::Quic, 17)];
/// Comment of an exception's element: protocol and kind of its door.
const EXCEPT_OWNERS: [[&str; 5]; 3] = [
    ["tcp ipv4", "tcp ipv6", "tcp dual", "tcp address", "tcp forward"],
    ["udp ipv4", "udp ipv6", "udp dual", "udp address", "udp forward"],
    ["quic ipv4", "quic ipv6", "quic dual", "quic address", "quic forward"],
];

impl Placed {
    /// Elements of rules in their normal form.
    pub fn of(rules: &Rules) -> Self {
        let mut placed = Self::default();
        for door in &rules.shut {
            placed.put_door(class(door.proto), door);
        }
        for (door, until) in &rules.learn {
            for (set, key, _) in spots(Class::Learn, door) {
                let at = placed.learning.entry((set, key)).or_insert(*until);
                *at = (*at).max(*until);
            }
        }
        for door in &rules.mptcp {
            placed.put_spots(Class::Join, door);
        }
        for token in &rules.tokens {
            placed.put(TOKENS, plain(token.to_be_bytes().to_vec()), None);
        }
        for (address, port) in &rules.open {
            placed.put(family_of(OPEN, *address), address_key(*address, *port), None);
        }
        for except in &rules.except {
            let (set, key) = box_of(except);
            placed.put(set, key, Some(except_owner(&except.door)));
        }
        if rules.probe_mark != 0 {
            placed.put(PROBE, plain(rules.probe_mark.to_ne_bytes().to_vec()), None);
        }
        placed
    }

    fn put(&mut self, set: &'static str, key: Key, owner: Option<&'static str>) {
        self.lasting.entry(set).or_default().entry(key).or_default().extend(owner);
    }

    fn put_door(&mut self, class: Class, door: &Door) {
        self.put_spots(class, door);
        if door.proto == Proto::Udp {
            self.put_spots(Class::Out, door);
        }
        let ports = if door.proto == Proto::Tcp { TCP_PORTS } else { UDP_PORTS };
        self.put(ports, plain(door.port.to_be_bytes().to_vec()), None);
    }

    fn put_spots(&mut self, class: Class, door: &Door) {
        for (set, key, owner) in spots(class, door) {
            self.put(set, key, owner);
        }
    }

    /// The sets that a table with these elements needs.
    pub fn sets(&self) -> SetNames {
        let learning = self.learning.keys().map(|(set, _)| *set);
        let mut names: SetNames = self.lasting.keys().copied().chain(learning).collect();
        for (index, name) in Class::Out.sets().into_iter().enumerate() {
            if names.contains(name) {
                names.insert(FLOW[index % 2]);
            }
        }
        names
    }

    /// Lasting elements that `other` lacks, or has with another comment.
    pub fn minus(&self, other: &Self) -> Self {
        let lacking =
            |set: &str, key: &Key, owners: &Owners| other.lasting.get(set).and_then(|s| s.get(key)) != Some(owners);
        let mut rest = Self::default();
        for (set, elements) in &self.lasting {
            let here: BTreeMap<_, _> =
                elements.iter().filter(|(k, o)| lacking(set, k, o)).map(|(k, o)| (k.clone(), o.clone())).collect();
            if !here.is_empty() {
                rest.lasting.insert(set, here);
            }
        }
        rest
    }

    pub fn count(&self) -> usize {
        self.lasting.values().map(BTreeMap::len).sum::<usize>() + self.learning.len()
    }

    /// Whether the door of this element of a learning door is shut.
    pub fn refuses_after(&self, (set, key): &(&'static str, Key)) -> bool {
        let slot = Class::Learn.sets().iter().position(|name| name == set);
        let shut = slot.and_then(|slot| self.lasting.get(Class::Udp.sets()[slot]));
        shut.is_some_and(|elements| elements.contains_key(key))
    }

    pub fn has_udp(&self) -> bool {
        self.lasting.contains_key(UDP_PORTS)
    }

    /// The rules that these elements are made of. What makes no sense is left out: placing the result again then
    /// gives other elements.
    pub fn rules(&self) -> Rules {
        let mut rules = Rules::default();
        for class in Class::ALL {
            let doors = match class {
                Class::Tcp | Class::Udp | Class::Quic => &mut rules.shut,
                Class::Join => &mut rules.mptcp,
                // They follow from the others.
                Class::Learn | Class::Out => continue,
            };
            for set in class.sets() {
                doors.extend(self.elements(set).flat_map(|(key, owners)| doors_of(class, set, key, owners)));
            }
        }
        let learns = |door: &Door| {
            let elements = spots(Class::Learn, door).into_iter();
            elements.filter_map(|(set, key, _)| self.learning.get(&(set, key))).max().map(|until| (*door, *until))
        };
        rules.learn = rules.shut.iter().filter(|door| door.proto == Proto::Udp).filter_map(learns).collect();
        for set in OPEN {
            rules.open.extend(self.elements(set).filter_map(|(key, _)| address_of(&key.from)));
        }
        for set in EXCEPT {
            rules.except.extend(self.elements(set).flat_map(|(key, owners)| excepts_of(key, owners)));
        }
        let tokens = self.elements(TOKENS).filter_map(|(key, _)| key.from.first_chunk());
        rules.tokens = tokens.map(|token| u32::from_be_bytes(*token)).collect();
        let mark = self.elements(PROBE).next().and_then(|(key, _)| key.from.first_chunk());
        rules.probe_mark = mark.map_or(0, |mark| u32::from_ne_bytes(*mark));
        rules
    }

    fn elements(&self, set: &str) -> impl Iterator<Item = (&Key, &Owners)> {
        self.lasting.get(set).into_iter().flatten()
    }
}

/// The comment that is one of ours.
pub(super) fn owner(text: &str) -> Option<&'static str> {
    KINDS.iter().chain(EXCEPT_OWNERS.as_flattened()).find(|known| **known == text).copied()
}

/// The elements of a door with their owners.
pub(super) fn spots(class: Class, door: &Door) -> Vec<(&'static str, Key, Option<&'static str>)> {
    let [any4, any6, addr4, addr6, fwd4, fwd6] = class.sets();
    let any = plain(door.port.to_be_bytes().to_vec());
    match door.reach {
        Reach::Any4 => vec![(any4, any, Some(KINDS[0]))],
        Reach::Any6 => vec![(any6, any, Some(KINDS[1]))],
        Reach::Any => vec![(any4, any.clone(), Some(KINDS[2])), (any6, any, Some(KINDS[2]))],
        Reach::Addr(address) => vec![(family_of([addr4, addr6], address), address_key(address, door.port), None)],
        Reach::Forward(address) => vec![(family_of([fwd4, fwd6], address), address_key(address, door.port), None)],
    }
}

pub(super) fn class(proto: Proto) -> Class {
    PROTOS[proto as usize].2
}

fn doors_of(class: Class, set: &str, key: &Key, owners: &Owners) -> Vec<Door> {
    let proto = match class {
        Class::Tcp | Class::Join => Proto::Tcp,
        Class::Udp | Class::Learn | Class::Out => Proto::Udp,
        Class::Quic => Proto::Quic,
    };
    let slot = class.sets().iter().position(|name| *name == set);
    let reaches: Vec<(Reach, u16)> = match slot {
        Some(0 | 1) => {
            let port = key.from.first_chunk().map_or(0, |port| u16::from_be_bytes(*port));
            owners.iter().filter_map(|owner| any_reach(owner)).map(|reach| (reach, port)).collect()
        }
        Some(2 | 3) => address_of(&key.from).map(|(ip, port)| (Reach::Addr(ip), port)).into_iter().collect(),
        _ => address_of(&key.from).map(|(ip, port)| (Reach::Forward(ip), port)).into_iter().collect(),
    };
    reaches.into_iter().map(|(reach, port)| Door { proto, reach, port }).collect()
}

fn any_reach(owner: &str) -> Option<Reach> {
    let index = KINDS.iter().position(|kind| *kind == owner)?;
    [Reach::Any4, Reach::Any6, Reach::Any].get(index).copied()
}

fn plain(from: Vec<u8>) -> Key {
    Key { from, to: None }
}

fn family_of<T: Copy>([v4, v6]: [T; 2], address: IpAddr) -> T {
    if address.is_ipv4() { v4 } else { v6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address_key(address: IpAddr, port: u16) -> Key {
    plain([octets(address), padded(&port.to_be_bytes())].concat())
}

fn padded(part: &[u8]) -> Vec<u8> {
    let mut part = part.to_vec();
    part.resize(part.len().next_multiple_of(4), 0);
    part
}

/// Address and port of the bytes `address . port`.
fn address_of(key: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = match key.len() {
        8 => (IpAddr::from(*key.first_chunk::<4>()?), &key[4..6]),
        20 => (IpAddr::from(*key.first_chunk::<16>()?), &key[16..18]),
        _ => return None,
    };
    Some((address, u16::from_be_bytes([port[0], port[1]])))
}

/// Source and destination of the key of a flow.
pub(super) fn flow_of(key: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, destination) = key.split_at_checked(key.len() / 2)?;
    Some((address_of(source)?.into(), address_of(destination)?.into()))
}

fn except_owner(door: &Door) -> &'static str {
    let kind = match door.reach {
        Reach::Any4 => 0,
        Reach::Any6 => 1,
        Reach::Any => 2,
        Reach::Addr(_) => 3,
        Reach::Forward(_) => 4,
    };
    EXCEPT_OWNERS[door.proto as usize][kind]
}

/// The box of an exception: protocol, sources, destinations, port.
fn box_of(except: &Except) -> (&'static str, Key) {
    let (source, prefix) = except.from;
    let protocol = padded(&[PROTOS[except.door.proto as usize].3]);
    let port = padded(&except.door.port.to_be_bytes());
    let first = octets(source);
    let last: Vec<u8> = first.iter().enumerate().map(|(index, byte)| byte | host_bits(prefix, index)).collect();
    let (low, high) = match except.door.reach {
        Reach::Addr(to) | Reach::Forward(to) => (octets(to), octets(to)),
        _ => (vec![0; first.len()], vec![0xff; first.len()]),
    };
    let from = [protocol.clone(), first, low, port.clone()].concat();
    let to = [protocol, last, high, port].concat();
    (family_of(EXCEPT, source), Key { from, to: Some(to) })
}

/// Bits of byte `index` of an address that are behind a prefix of this length.
fn host_bits(prefix: u8, index: usize) -> u8 {
    let kept = usize::from(prefix).saturating_sub(index * 8).min(8);
    if kept == 8 { 0 } else { 0xff >> kept }
}

fn excepts_of(key: &Key, owners: &Owners) -> Vec<Except> {
    let parse = |owner: &str| {
        let (proto, kind) = owner.split_once(' ')?;
        let proto = PROTOS.iter().find(|p| p.0 == proto)?.1;
        let length = (key.from.len().checked_sub(8)?) / 2;
        let to = key.to.as_ref()?;
        let (source, last) = (key.from.get(4..4 + length)?, to.get(4..4 + length)?);
        let prefix = source.iter().zip(last).map(|(a, b)| (a ^ b).leading_zeros()).sum::<u32>();
        let port = u16::from_be_bytes(*key.from.last_chunk::<4>()?.first_chunk()?);
        let destination = ip(key.from.get(4 + length..4 + 2 * length)?)?;
        let reach = match kind {
            "address" => Reach::Addr(destination),
            "forward" => Reach::Forward(destination),
            any => any_reach(any)?,
        };
        Some(Except { from: (ip(source)?, u8::try_from(prefix).ok()?), door: Door { proto, reach, port } })
    };
    owners.iter().filter_map(|owner| parse(owner)).collect()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}

/// Without the exceptions that a wider one covers: the kernel takes no box within another.
pub(super) fn without_covered(excepts: &BTreeSet<Except>) -> BTreeSet<Except> {
    let all: Vec<(Except, Key)> = excepts.iter().map(|except| (*except, box_of(except).1)).collect();
    let covers = |wide: &Key, narrow: &Key| {
        wide != narrow
            && wide.from.len() == narrow.from.len()
            && parts(&wide.from).zip(parts(&narrow.from)).all(|(wide, narrow)| wide <= narrow)
            && parts(wide.to.as_deref().unwrap_or_default())
                .zip(parts(narrow.to.as_deref().unwrap_or_default()))
                .all(|(wide, narrow)| wide >= narrow)
    };
    let kept = all.iter().filter(|(_, key)| !all.iter().any(|(_, wide)| covers(wide, key)));
    kept.map(|(except, _)| *except).collect()
}

/// Protocol, source, destination and port of a box's corner.
fn parts(corner: &[u8]) -> impl Iterator<Item = &[u8]> {
    let address = corner.len().saturating_sub(8) / 2;
    [0..4, 4..4 + address, 4 + address..4 + 2 * address, 4 + 2 * address..corner.len()]
        .into_iter()
        .filter_map(|range| corner.get(range))
}
