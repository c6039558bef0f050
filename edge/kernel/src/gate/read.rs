//! Reading the table back and comparing it with what we would have made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::elements::{self, Key, Owners, Placed, flow_of, spots};
use super::layout::{FLOW, Layout, Set, SetKind, SetNames};
use super::message::{FAMILY_HEADER, INET, Kind, Nft, bare, comment_in};
use super::{Door, Flow, LEARN_SLACK, Reach, Rules, Seen};
use crate::netlink::{Attribute, Attributes, Message, Result};

/// Where an element of a learning door never goes: nobody learns for so long.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The table as found.
#[derive(Debug)]
pub(super) struct Found {
    /// Whether sets, chains and rules are ours to the byte; else what is not.
    pub structure: std::result::Result<(), String>,
    /// Those of the sets we know that are there.
    pub sets: SetNames,
    pub placed: Placed,
    /// Packets that matched an element.
    counters: BTreeMap<(&'static str, Key), u64>,
    /// Keys and times of the flows, where they were asked for.
    flow_times: Vec<(Vec<u8>, Duration)>,
    pub flows: Vec<Vec<u8>>,
}

/// Sets by name, chains by name, rules by chain.
#[derive(Debug, Default)]
struct Structure {
    sets: BTreeMap<String, FoundSet>,
    chains: BTreeMap<String, FoundChain>,
    rules: BTreeMap<String, Vec<FoundRule>>,
}

#[derive(Debug, PartialEq, Eq)]
struct FoundSet {
    flags: u32,
    key_type: u32,
    key_length: u32,
    timeout: u64,
    size: u32,
    counts: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct FoundChain {
    hook: Option<(u32, i32)>,
    policy: Option<u32>,
    kind: Option<String>,
}

#[derive(Debug)]
struct FoundRule {
    comment: String,
    /// Name and attributes of each expression.
    exprs: Vec<(String, Vec<u8>)>,
}

/// The table, if there is one. Only whole if the generation of the ruleset did not change meanwhile.
pub(super) fn read(nft: &mut Nft, with_flows: bool) -> Result<Option<Found>> {
    let Some(flags) = table_flags(nft)? else { return Ok(None) };
    let structure = structure(nft)?;
    let sets = known_sets(&structure);
    let layout = Layout::of(&sets);
    let verdict = if flags == 0 { compare(&layout, &structure) } else { Err("the table has flags".to_owned()) };
    let mut found = Found {
        structure: verdict,
        sets,
        placed: Placed::default(),
        counters: BTreeMap::new(),
        flow_times: Vec::new(),
        flows: Vec::new(),
    };
    for set in layout.sets.iter().filter(|set| set.kind != SetKind::Flows) {
        if structure.sets.get(set.name).is_some_and(|found| found.key_length == set.key_length()) {
            read_elements(nft, set, &mut found)?;
        }
    }
    if with_flows {
        found.flow_times = flows(nft)?;
        found.flows = found.flow_times.iter().map(|flow| flow.0.clone()).collect();
    }
    Ok(Some(found))
}

/// Keys of the learnt flows and the time each has left.
pub(super) fn flows(nft: &mut Nft) -> Result<Vec<(Vec<u8>, Duration)>> {
    let mut flows = Vec::new();
    for set in FLOW {
        let take = |element: Attributes<'_>| {
            let key = value(element.get(1)?)?;
            let expires = element.get(5).and_then(|a| a.be64()).unwrap_or(0);
            flows.push((key.to_vec(), Duration::from_millis(expires)));
            Some(())
        };
        match each_element(nft, set, take) {
            // A table of another version or altered by others lacks it: then nothing is known.
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(flows)
}

/// `None`: there is no such table.
fn table_flags(nft: &mut Nft) -> Result<Option<u32>> {
    let request = nft.about(Kind::GetTable, 0);
    let mut flags = 0;
    let result = nft.socket.request("read the table", request, |message| {
        flags = message.attributes(FAMILY_HEADER).get(2).and_then(|a| a.be32()).unwrap_or(0);
    });
    match result {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        other => other.map(|()| Some(flags)),
    }
}

/// Whether a listed object is of our table: older kernels list those of all tables.
fn is_ours(message: &Message<'_>, table: &str) -> bool {
    message.body.first() == Some(&INET) && message.attributes(FAMILY_HEADER).get(1).and_then(|a| a.str()) == Some(table)
}

fn text(attributes: &Attributes<'_>, kind: u16) -> Option<String> {
    attributes.get(kind).and_then(|a| a.str()).map(str::to_owned)
}

fn structure(nft: &mut Nft) -> Result<Structure> {
    let mut structure = Structure::default();
    let table = nft.table.clone();
    let request = nft.about(Kind::GetSet, 0);
    nft.socket.dump("list the sets", request, |message| {
        let attributes = message.attributes(FAMILY_HEADER);
        if let Some(name) = text(&attributes, 2).filter(|_| is_ours(message, &table)) {
            structure.sets.insert(name, set(&attributes));
        }
    })?;
    nft.socket.dump("list the chains", bare(Kind::GetChain, 0), |message| {
        let attributes = message.attributes(FAMILY_HEADER);
        if let Some(name) = text(&attributes, 3).filter(|_| is_ours(message, &table)) {
            structure.chains.insert(name, chain(&attributes));
        }
    })?;
    let request = nft.about(Kind::GetRule, 0);
    nft.socket.dump("list the rules", request, |message| {
        let attributes = message.attributes(FAMILY_HEADER);
        if let Some(chain) = text(&attributes, 2).filter(|_| is_ours(message, &table)) {
            structure.rules.entry(chain).or_default().push(rule(&attributes));
        }
    })?;
    Ok(structure)
}

fn set(attributes: &Attributes<'_>) -> FoundSet {
    let number = |kind| attributes.get(kind).and_then(|a: Attribute<'_>| a.be32()).unwrap_or(0);
    let size = attributes.get(9).and_then(|a| a.nested().get(1)).and_then(|a| a.be32()).unwrap_or(0);
    FoundSet {
        flags: number(3),
        key_type: number(4),
        key_length: number(5),
        timeout: attributes.get(11).and_then(|a| a.be64()).unwrap_or(0),
        size,
        counts: attributes.get(17).is_some(),
    }
}

fn chain(attributes: &Attributes<'_>) -> FoundChain {
    let hook = attributes.get(4).map(|hook| {
        let number = |kind| hook.nested().get(kind).and_then(|a| a.be32()).unwrap_or(0);
        (number(1), number(2).cast_signed())
    });
    FoundChain { hook, policy: attributes.get(5).and_then(|a| a.be32()), kind: text(attributes, 7) }
}

fn rule(attributes: &Attributes<'_>) -> FoundRule {
    let comment = attributes.get(7).and_then(|a| comment_in(a.data)).unwrap_or_default().to_owned();
    let list = attributes.get(4).map(|a| a.nested()).into_iter().flatten();
    let expr = |a: Attribute<'_>| {
        let nested = a.nested();
        (text(&nested, 1).unwrap_or_default(), nested.get(2).map(|d| d.data.to_vec()).unwrap_or_default())
    };
    FoundRule { comment, exprs: list.map(expr).collect() }
}

fn known_sets(found: &Structure) -> SetNames {
    let all = Layout::all_sets(true).into_iter();
    all.filter(|name| found.sets.contains_key(*name)).collect()
}

/// Says what is not as we make a table with these sets.
fn compare(layout: &Layout, found: &Structure) -> std::result::Result<(), String> {
    same_names("sets", layout.sets.iter().map(|set| set.name), found.sets.keys())?;
    same_names("chains", layout.chains.iter().map(|chain| chain.name), found.chains.keys())?;
    for set in &layout.sets {
        let ours = FoundSet {
            flags: set.flags(),
            key_type: set.key_type(),
            key_length: set.key_length(),
            timeout: set.timeout(),
            size: set.size(),
            counts: set.kind == SetKind::Counting,
        };
        if found.sets.get(set.name) != Some(&ours) {
            return Err(format!("set {} is of another kind", set.name));
        }
    }
    for chain in &layout.chains {
        let hook = chain.hook.map(|hook| (hook, chain.priority()));
        let ours = FoundChain { hook, policy: hook.map(|_| 1), kind: hook.map(|_| "filter".to_owned()) };
        if found.chains.get(chain.name) != Some(&ours) {
            return Err(format!("chain {} is of another kind", chain.name));
        }
        let rules = found.rules.get(chain.name).map(Vec::as_slice).unwrap_or_default();
        if rules.len() != chain.rules.len() {
            return Err(format!("chain {} has {} rules in place of {}", chain.name, rules.len(), chain.rules.len()));
        }
        for (number, (ours, theirs)) in (1..).zip(chain.rules.iter().zip(rules)) {
            let same = ours.comment == theirs.comment
                && ours.exprs.len() == theirs.exprs.len()
                && ours.exprs.iter().zip(&theirs.exprs).all(|(a, (n, b))| a.is_listed_as(n, &Attributes::new(b)));
            if !same {
                return Err(format!("rule {number} of chain {} is another", chain.name));
            }
        }
    }
    Ok(())
}

fn same_names<'a>(
    what: &str,
    ours: impl Iterator<Item = &'static str>,
    theirs: impl Iterator<Item = &'a String>,
) -> std::result::Result<(), String> {
    let ours: BTreeSet<&str> = ours.collect();
    let theirs: BTreeSet<&str> = theirs.map(String::as_str).collect();
    match ours.symmetric_difference(&theirs).next() {
        None => Ok(()),
        Some(name) if ours.contains(name) => Err(format!("{name} is missing among the {what}")),
        Some(name) => Err(format!("{name} is foreign among the {what}")),
    }
}

fn value(attribute: Attribute<'_>) -> Option<&[u8]> {
    attribute.nested().get(1).map(|a| a.data)
}

fn each_element(nft: &mut Nft, set: &str, mut each: impl FnMut(Attributes<'_>) -> Option<()>) -> Result<()> {
    let mut request = nft.about(Kind::GetElements, 0);
    request.attr_str(2, set);
    nft.socket.dump(format!("list the elements of set {set}"), request, |message| {
        let list = message.attributes(FAMILY_HEADER).get(3);
        for element in list.map(|a| a.nested()).into_iter().flatten() {
            each(element.nested());
        }
    })
}

/// Owners that are none of ours count as none: the element is then not as we make it.
fn read_elements(nft: &mut Nft, set: &Set, found: &mut Found) -> Result<()> {
    let (set, kind) = (set.name, set.kind);
    each_element(nft, set, |element| {
        let from = value(element.get(1)?)?.to_vec();
        let key = Key { from, to: element.get(10).and_then(value).map(<[u8]>::to_vec) };
        if kind == SetKind::Timed {
            let left = element.get(5).and_then(|a| a.be64()).map_or(FOREVER, Duration::from_millis);
            found.placed.learning.insert((set, key), Instant::now() + left.min(FOREVER));
            return Some(());
        }
        let comment = element.get(6).and_then(|a| comment_in(a.data)).unwrap_or_default();
        let owners: Owners = comment.split(", ").filter_map(elements::owner).collect();
        if let Some(packets) = packets(&element) {
            found.counters.insert((set, key.clone()), packets);
        }
        found.placed.lasting.entry(set).or_default().insert(key, owners);
        Some(())
    })
}

/// Packets of the element's counter.
fn packets(element: &Attributes<'_>) -> Option<u64> {
    let counter = element.get(7)?.nested();
    counter.get(1).filter(|name| name.str() == Some("counter"))?;
    counter.get(2)?.nested().get(2)?.be64()
}

impl Found {
    /// As told to the caller. `applied`: the elements that should be there, if known.
    pub fn seen(&self, applied: Option<&Placed>) -> Seen {
        let rules = self.placed.rules();
        let altered = match &self.structure {
            Err(what) => Some(what.clone()),
            Ok(()) if !self.is_as_we_make_it(&rules) => Some("elements are not as we make them".to_owned()),
            Ok(()) if applied.is_some_and(|applied| !self.is_as_applied(applied)) => {
                Some("elements were added or removed".to_owned())
            }
            Ok(()) => None,
        };
        let count = |door: &Door| {
            let spots = spots(elements::class(door.proto), door).into_iter();
            spots.filter_map(|(set, key, _)| self.counters.get(&(set, key))).sum()
        };
        let refused = rules.shut.iter().map(|door| (*door, count(door))).collect();
        let flows = self.flow_times.iter().filter_map(|(key, expires)| flow(&rules, key, *expires)).collect();
        Seen { rules, refused, flows, altered }
    }

    fn is_as_we_make_it(&self, rules: &Rules) -> bool {
        let made = Placed::of(&rules.normal());
        let endless = Instant::now() + FOREVER / 2;
        // The elements of one door go one after the other; none may be there that is of no door, or never goes.
        let ends = |(key, until): (_, &Instant)| *until < endless && made.learning.contains_key(key);
        made.lasting == self.placed.lasting && self.placed.learning.iter().all(ends)
    }

    /// That the kernel has taken out what has come to its end is as it should be.
    fn is_as_applied(&self, applied: &Placed) -> bool {
        let soon = Instant::now() + LEARN_SLACK;
        let (theirs, ours) = (&self.placed.learning, &applied.learning);
        let there = |(key, until): (_, &Instant)| match theirs.get(key) {
            Some(found) => is_about(*found, *until),
            None => *until <= soon,
        };
        let known = |(key, until): (_, &Instant)| ours.contains_key(key) || *until <= soon;
        applied.lasting == self.placed.lasting && ours.iter().all(there) && theirs.iter().all(known)
    }
}

/// Whether two times mean the same: between telling the kernel and reading it back some time passes.
pub(super) fn is_about(one: Instant, other: Instant) -> bool {
    one.saturating_duration_since(other) <= LEARN_SLACK && other.saturating_duration_since(one) <= LEARN_SLACK
}

/// A flow at one of our doors; of doors that are no longer there nothing is said.
fn flow(rules: &Rules, key: &[u8], expires: Duration) -> Option<Flow> {
    let (peer, local) = flow_of(key)?;
    let (ip, port) = (local.ip(), local.port());
    let any = if ip.is_ipv4() { Reach::Any4 } else { Reach::Any6 };
    let mut reaches = vec![Reach::Addr(ip), Reach::Forward(ip)];
    if !rules.open.contains(&(ip, port)) {
        reaches.extend([any, Reach::Any]);
    }
    let doors = reaches.into_iter().map(|reach| Door { proto: super::Proto::Udp, reach, port });
    let door = doors.into_iter().find(|door| rules.shut.contains(door))?;
    Some(Flow { door, peer, local, expires })
}

#[cfg(test)]
pub(super) fn fuzzed(message: &Message<'_>) {
    let attributes = message.attributes(FAMILY_HEADER);
    let _ = (set(&attributes), chain(&attributes), is_ours(message, "x"));
    let rules = [("input".to_owned(), vec![rule(&attributes)])].into();
    let all = Layout::of(&Layout::all_sets(true));
    let _ = compare(&all, &Structure { rules, ..Structure::default() });
    let _ = (packets(&attributes), comment_in(message.body), flow_of(message.body));
    let key = Key { from: message.body.to_vec(), to: Some(message.body.to_vec()) };
    for set in all.sets {
        let owners = ["tcp address", "ipv4", "udp forward"].into();
        let lasting = [(set.name, [(key.clone(), owners)].into())].into();
        let placed = Placed { lasting, learning: [((set.name, key.clone()), Instant::now())].into() };
        let _ = Placed::of(&placed.rules());
    }
}
