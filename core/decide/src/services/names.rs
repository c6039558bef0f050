//! Who is who: the held ones are found again, and everybody gets a name that means nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ebb_model::{Door, Reach, Record, ServiceName, Tree};

use super::{Draft, Sight, stem};

/// A service with its name.
pub(super) type Named = (ServiceName, Draft);

/// Longest name of an executable in a service's: beside it there is room for a port and an address.
const LONGEST: usize = 160;
/// Name of what nobody is seen to own.
const UNKNOWN: &str = "unknown";

/// Names for all; second those that have no door.
pub(super) fn give(sight: &Sight, drafts: Vec<Draft>) -> (Vec<Named>, Vec<Named>) {
    let mut taken: BTreeSet<String> = sight.held.iter().map(|record| record.service.to_string()).collect();
    let mut held: BTreeMap<&ServiceName, Draft> = BTreeMap::new();
    let mut free = Vec::new();
    for draft in drafts {
        if is_known_socket(sight, &draft) {
            continue;
        }
        match record_of(sight, &draft) {
            Some(record) => held.entry(&record.service).or_default().claim(draft),
            None => free.push(draft),
        }
    }
    let uses = uses(sight, &free);
    let (by_unit, by_hand): (Vec<_>, Vec<_>) = free.into_iter().partition(|one| one.grouped || !one.units.is_empty());
    let (grouped, units): (Vec<_>, Vec<_>) = by_unit.into_iter().partition(|draft| draft.grouped);
    let (trees, without): (Vec<_>, Vec<_>) = by_hand.into_iter().partition(|draft| !draft.doors.is_empty());
    let mut named: Vec<Named> = held.into_iter().map(|(name, draft)| (name.clone(), draft)).collect();
    // Whose name says more is asked first; who has no door takes what is left, so that a client moves nobody's name.
    let mut name = |drafts: Vec<Draft>, taken: &mut BTreeSet<String>| {
        let wishes = drafts.into_iter().map(|draft| (forms(&draft, &uses), draft)).collect();
        named.extend(place(wishes, taken));
    };
    name(grouped, &mut taken);
    name(units, &mut taken);
    // What has meant a held one until now does not become another's name.
    taken.extend(sight.held.iter().flat_map(aliases_of));
    name(trees, &mut taken);
    name(without, &mut taken);
    let is_held = |name: &ServiceName| sight.held.iter().any(|record| record.service == *name);
    named.into_iter().partition(|(name, draft)| !draft.doors.is_empty() || is_held(name))
}

impl Draft {
    /// Takes another one and what names it.
    fn claim(&mut self, other: Self) {
        self.base.clone_from(&other.base);
        self.grouped |= other.grouped;
        self.take(other);
    }
}

/// Without root the owner of a socket is not seen; that of a door which is held is known all the same.
fn is_known_socket(sight: &Sight, draft: &Draft) -> bool {
    let is_unowned = draft.units.is_empty() && draft.trees.is_empty();
    is_unowned && !draft.doors.is_empty() && sight.held.iter().any(|record| draft.doors.is_subset(&record.doors))
}

/// The held service that this is. A name alone makes nobody the same, except where the configuration gives it.
fn record_of<'a>(sight: &'a Sight, draft: &Draft) -> Option<&'a Record> {
    let records = || sight.held.iter();
    let is_named = |record: &&Record| record.service.as_str() == draft.base;
    if let Some(record) = records().filter(|_| draft.grouped).find(is_named) {
        return Some(record);
    }
    if !draft.units.is_empty() {
        return records().find(|record| draft.units.iter().all(|unit| record.units.contains(unit)));
    }
    let same = |record: &&Record| draft.trees.iter().any(|tree| record.trees.iter().any(|known| is_same(tree, known)));
    // Where systemd does not answer, a unit's processes are seen as a tree.
    let of_unit = |record: &&Record| {
        sight.units.is_empty()
            && !record.units.is_empty()
            && is_named(record)
            && !draft.doors.is_disjoint(&record.doors)
    };
    let again = |record: &&Record| is_again(sight, draft, record);
    records().find(same).or_else(|| records().find(again)).or_else(|| records().find(of_unit))
}

fn is_same(tree: &Tree, known: &Tree) -> bool {
    (tree.root, tree.started_ticks) == (known.root, known.started_ticks)
}

/// Whether this took the place of processes that have ended: the same executable at one of their doors.
fn is_again(sight: &Sight, draft: &Draft, record: &Record) -> bool {
    let ended = |known: &&Tree| !sight.alive.contains(&(known.root, known.started_ticks));
    let mut ended = record.trees.iter().filter(ended);
    !draft.doors.is_disjoint(&record.doors)
        && ended.any(|known| draft.trees.iter().any(|tree| tree.executable == known.executable))
}

/// How many services have an executable or unit of this name, also held ones that do not run now.
fn uses(sight: &Sight, free: &[Draft]) -> BTreeMap<String, usize> {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for draft in free.iter().filter(|draft| !draft.doors.is_empty()) {
        *uses.entry(draft.base.clone()).or_default() += 1;
    }
    for record in &sight.held {
        let bases: BTreeSet<String> = record.trees.iter().map(|tree| clean(&tree.executable)).collect();
        for base in bases {
            *uses.entry(base).or_default() += 1;
        }
    }
    uses
}

/// The names that a service may have, best first; the last is nobody else's.
fn forms(draft: &Draft, uses: &BTreeMap<String, usize>) -> Vec<String> {
    let base = &draft.base;
    if draft.grouped || !draft.units.is_empty() {
        return std::iter::once(base).chain(draft.units.first()).cloned().collect();
    }
    let root = draft.trees.first().map_or(0, |tree| tree.root);
    let mut forms = Vec::new();
    let others = uses.get(base).copied().unwrap_or(0) - usize::from(!draft.doors.is_empty());
    if others == 0 && base != UNKNOWN {
        forms.push(base.clone());
    }
    // Containers of one image all have its ports.
    forms.extend(container(draft).map(|address| format!("{base}@{address}")));
    if let Some(door) = lowest(draft) {
        let port = format!("{base}:{}", door.port);
        let address = format!("{port}@{}", address(door));
        forms.extend([port, address.clone(), format!("{address}@{root}")]);
    }
    forms
}

/// Gives each its best name that nobody else wishes as well or has.
fn place(mut wishes: Vec<(Vec<String>, Draft)>, taken: &mut BTreeSet<String>) -> Vec<Named> {
    let mut placed = Vec::new();
    let mut round = 0;
    while !wishes.is_empty() {
        let mut wished: BTreeMap<String, usize> = BTreeMap::new();
        for form in wishes.iter().filter_map(|(forms, _)| forms.get(round)) {
            *wished.entry(form.clone()).or_default() += 1;
        }
        let mut left = Vec::new();
        for (forms, draft) in wishes {
            let Some(form) = forms.get(round) else { continue };
            let name = ServiceName::new(form.clone()).ok().filter(|_| wished[form] == 1 && !taken.contains(form));
            match name {
                Some(name) => {
                    taken.insert(form.clone());
                    placed.push((name, draft));
                }
                None => left.push((forms, draft)),
            }
        }
        wishes = left;
        round += 1;
    }
    placed
}

/// What of an executable's name a service's name may have.
pub(super) fn clean(executable: &str) -> String {
    let is_bad = |c: char| c.is_control() || c.is_whitespace() || c == '/';
    let text: String = executable.chars().map(|c| if is_bad(c) { '-' } else { c }).collect();
    let mut text = text.trim_start_matches('-').to_owned();
    while text.len() > LONGEST {
        text.pop();
    }
    if text.is_empty() { UNKNOWN.to_owned() } else { text }
}

/// Other ways to write the name of what has these doors, whatever else runs: `python3:7000`, and with the address
/// `python3:7000@10.0.0.1` or `python3@10.0.0.1:7000`.
pub(super) fn aliases<'a>(base: &str, doors: impl Iterator<Item = &'a Door>) -> BTreeSet<String> {
    let mut aliases = BTreeSet::new();
    for door in doors {
        let (ip, port) = (address(door), door.port);
        aliases.insert(format!("{base}:{port}"));
        aliases.insert(format!("{base}:{port}@{ip}"));
        aliases.insert(format!("{base}@{}", SocketAddr::new(ip, port)));
        if let Reach::Forward(ip) = door.reach {
            aliases.insert(format!("{base}@{ip}"));
        }
    }
    aliases
}

/// Where a door is bound.
fn address(door: &Door) -> IpAddr {
    match door.reach {
        Reach::Any4 => IpAddr::from([0; 4]),
        Reach::Any6 | Reach::Any => IpAddr::from([0; 16]),
        Reach::Addr(ip) | Reach::Forward(ip) => ip,
    }
}

/// The door that names it: of the lowest TCP port, else of the lowest.
fn lowest(draft: &Draft) -> Option<&Door> {
    let doors = draft.doors.iter().chain(draft.passed_over.iter().filter(|_| draft.doors.is_empty()));
    doors.min_by_key(|door| (!door.is_tcp(), door.port))
}

/// The lowest address of a service that is in a container alone.
fn container(draft: &Draft) -> Option<IpAddr> {
    let forward = |door: &Door| if let Reach::Forward(ip) = door.reach { Some(ip) } else { None };
    draft.doors.iter().map(forward).collect::<Option<BTreeSet<_>>>()?.pop_first()
}

/// Names to which a service answers that is known from its record alone.
pub(super) fn aliases_of(record: &Record) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = record.trees.iter().map(|tree| clean(&tree.executable)).collect();
    let at_doors: Vec<_> = names.iter().map(|base| aliases(base, record.doors.iter())).collect();
    names.extend(at_doors.into_iter().flatten());
    // As of one that runs: `postgresql` for its lone instance.
    names.extend(record.units.iter().filter_map(|unit| stem(unit).split_once('@')).map(|(base, _)| base.to_owned()));
    names.extend(record.aliases.iter().cloned());
    names.remove(record.service.as_str());
    names
}
