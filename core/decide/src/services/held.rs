//! Services that are held: what is remembered of them, beside what was found.

use std::collections::{BTreeMap, BTreeSet};

use ebb_model::{Door, Origin, Record, Service, ServiceName, StartType, UnitSight, Up};

use super::names::{Named, aliases_of};
use super::{Listener, Sight, door, finish};

/// All services: those found, with the doors that are held beside those they have now, and the held ones that have no
/// listening socket any more.
pub(super) fn complete(sight: &Sight, named: Vec<Named>) -> Vec<Service> {
    let mut services: BTreeMap<ServiceName, Service> = named
        .into_iter()
        .map(|(name, draft)| finish(sight, name, draft))
        .map(|service| (service.name.clone(), service))
        .collect();
    for record in &sight.held {
        match services.get_mut(&record.service) {
            Some(service) => remember(sight, service, record),
            None => drop(services.insert(record.service.clone(), remembered(sight, record))),
        }
    }
    let mut services: Vec<Service> = services.into_values().collect();
    mark_shared(&mut services);
    services
}

fn lives(sight: &Sight, tree: &ebb_model::Tree) -> bool {
    sight.alive.contains(&(tree.root, tree.started_ticks))
}

/// Adds to a service that was found what is only remembered.
fn remember(sight: &Sight, service: &mut Service, record: &Record) {
    service.doors.extend(&record.doors);
    service.aliases.extend(aliases_of(record));
    if let Origin::Trees(trees) = &mut service.origin {
        // One that has closed its listening socket may still serve its sessions.
        trees.extend(record.trees.iter().filter(|tree| lives(sight, tree)).cloned());
        trees.sort_unstable();
        trees.dedup();
    }
}

/// A service of which nothing was found.
fn remembered(sight: &Sight, record: &Record) -> Service {
    let up_of = |name: &String| sight.units.get(name).map_or(Up::Stopped, |unit| unit.up);
    let units: Vec<UnitSight> =
        record.units.iter().map(|name| UnitSight { name: name.clone(), up: up_of(name) }).collect();
    let start = record.units.iter().find_map(|name| sight.units.get(name)?.file_state.clone());
    let by_hand = units.is_empty();
    // What nobody owns (a socket of the kernel's own) runs as long as it listens.
    let listens = || sight.listeners.iter().any(|listener| record.doors.contains(&door(listener)));
    let is_of = |listener: &Listener| {
        listener.unit.as_ref().is_some_and(|unit| record.units.contains(unit) || record.sockets.contains(unit))
    };
    let lives = record.trees.iter().any(|tree| lives(sight, tree)) || (by_hand && record.trees.is_empty() && listens());
    Service {
        name: record.service.clone(),
        doors: record.doors.clone(),
        passed_over: BTreeSet::new(),
        own_doors: BTreeSet::new(),
        unix_doors: BTreeSet::new(),
        shared_with: BTreeSet::new(),
        // Its units may go by another name now (a group in the configuration): what they serve is its all the same.
        cgroups: sight.listeners.iter().filter(|one| is_of(one)).filter_map(|one| one.cgroup).collect(),
        up: match units.iter().map(|unit| unit.up).min() {
            Some(up) => up,
            None if lives => Up::Running,
            None => Up::Stopped,
        },
        start: match start {
            Some(state) => StartType::Unit(state),
            None if by_hand => StartType::ByHand,
            None => StartType::Unknown,
        },
        aliases: aliases_of(record),
        origin: if by_hand {
            Origin::Trees(record.trees.clone())
        } else {
            Origin::Units { units, sockets: record.sockets.clone() }
        },
    }
}

/// One that has stopped shares nothing with those who listen at its doors now.
fn mark_shared(services: &mut [Service]) {
    let mut by_door: BTreeMap<Door, BTreeSet<ServiceName>> = BTreeMap::new();
    for service in services.iter().filter(|service| matches!(service.up, Up::Running | Up::Changing)) {
        for door in &service.doors {
            by_door.entry(*door).or_default().insert(service.name.clone());
        }
    }
    for service in services {
        let others = service.doors.iter().filter_map(|door| by_door.get(door)).flatten();
        service.shared_with = others.filter(|name| **name != service.name).cloned().collect();
    }
}
