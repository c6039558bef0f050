//! Which doors must be shut: from all holds on this server, always as a whole.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ebb_model::{Cidr, Door, Hold, Mono, Proto, Reach, Record, Service, ServiceName};

/// What the gate must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Doors where new sessions are refused.
    pub shut: BTreeSet<Door>,
    /// UDP doors whose flows are being learnt; nothing is refused there yet.
    pub learn: BTreeSet<Door>,
    /// Addresses and ports that a wildcard door above would shut too, but that are other services'.
    pub open: BTreeSet<(IpAddr, u16)>,
    /// Who may still come in, where.
    pub except: BTreeSet<(Cidr, Door)>,
}

/// The rules for all holds at the time `now` of the boot `boot_id`. `services`: those that run now; none where nothing
/// has started yet, then the neighbours are as last seen.
#[must_use]
pub fn rules(holds: &[Hold], records: &[Record], services: Option<&[Service]>, now: Mono, boot_id: &str) -> Rules {
    let mut rules = Rules::default();
    for record in records {
        let own: Vec<&Hold> = holds.iter().filter(|hold| hold.service == record.service).collect();
        if own.is_empty() {
            continue;
        }
        for door in &record.doors {
            let drain = record.drain.as_ref().filter(|drain| drain.boot_id == boot_id);
            let learning = drain.and_then(|drain| drain.learn_until).is_some_and(|until| now < until);
            let learns = door.proto == Proto::Udp && learning;
            if learns {
                rules.learn.insert(*door)
            } else {
                rules.shut.insert(*door)
            };
            rules.except.extend(except(&own).into_iter().map(|range| (range, *door)));
        }
    }
    match services {
        Some(services) => {
            let held: BTreeSet<&ServiceName> = holds.iter().map(|hold| &hold.service).collect();
            for service in services.iter().filter(|service| !held.contains(&service.name)) {
                rules.open.extend(service.doors.iter().filter_map(|door| kept_open(door, &rules.shut)));
            }
        }
        None => {
            let seen = records.iter().flat_map(|record| &record.neighbours);
            let doors = seen.map(|(ip, port)| Door { proto: Proto::Tcp, reach: Reach::Addr(*ip), port: *port });
            let kept: Vec<_> = doors
                .filter(|door| !rules.shut.contains(door))
                .filter_map(|door| kept_open(&door, &rules.shut))
                .collect();
            rules.open.extend(kept);
        }
    }
    rules
}

/// The addresses that must stay open because of one record's doors, to be remembered with it.
#[must_use]
pub fn neighbours(rules: &Rules, record: &Record) -> BTreeSet<(IpAddr, u16)> {
    let ports: BTreeSet<u16> = record.doors.iter().map(|door| door.port).collect();
    rules.open.iter().filter(|(_, port)| ports.contains(port)).copied().collect()
}

/// Who may come in past several holds: only those whom every one of them excepts.
fn except(holds: &[&Hold]) -> BTreeSet<Cidr> {
    holds
        .iter()
        .flat_map(|hold| &hold.except)
        .filter(|range| {
            let inside = |wider: &Cidr| wider.prefix <= range.prefix && wider.contains(range.ip);
            holds.iter().all(|hold| hold.except.iter().any(inside))
        })
        .copied()
        .collect()
}

/// The address of another service's door that a wildcard in `shut` would shut as well.
fn kept_open(door: &Door, shut: &BTreeSet<Door>) -> Option<(IpAddr, u16)> {
    let Reach::Addr(ip) = door.reach else { return None };
    let covered = |wide: &&Door| match wide.reach {
        Reach::Any => true,
        Reach::Any4 => ip.is_ipv4(),
        Reach::Any6 => ip.is_ipv6(),
        Reach::Addr(_) | Reach::Forward(_) => false,
    };
    shut.iter().filter(|wide| wide.port == door.port).find(covered).map(|_| (ip, door.port))
}

/// Whether who holds the one door refuses newcomers at the other too, or at some of its addresses.
#[must_use]
pub fn shuts(held: &Door, other: &Door) -> bool {
    let wide = |reach: Reach| matches!(reach, Reach::Any | Reach::Any4 | Reach::Any6);
    let (a, b) = (held.reach, other.reach);
    // A door at an address of its own is kept open beside a wildcard.
    let meet = match (a, b) {
        (Reach::Any4, Reach::Any6) | (Reach::Any6, Reach::Any4) => false,
        (Reach::Addr(ip), Reach::Any4) => ip.is_ipv4(),
        (Reach::Addr(ip), Reach::Any6) => ip.is_ipv6(),
        (Reach::Addr(_), Reach::Any) => true,
        _ => a == b || (wide(a) && wide(b)),
    };
    meet && held.port == other.port && held.is_tcp() == other.is_tcp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebb_model::{DrainRecord, Level, Origin, Requester, StartType, Up, Wall, Who};

    fn hold(service: &str, requester: &str, except: &[&str]) -> Hold {
        Hold {
            service: ServiceName::new(service).unwrap(),
            requester: Requester::new(requester).unwrap(),
            level: Level::Draining,
            reason: String::new(),
            by: Who { uid: 0, name: "root".into() },
            since: Wall(0),
            until: None,
            except: except.iter().map(|range| range.parse().unwrap()).collect(),
        }
    }

    fn door(proto: Proto, reach: Reach) -> Door {
        Door { proto, reach, port: 80 }
    }

    fn record(service: &str, doors: &[Door]) -> Record {
        Record {
            service: ServiceName::new(service).unwrap(),
            doors: doors.iter().copied().collect(),
            added: BTreeSet::new(),
            units: vec![],
            sockets: vec![],
            trees: vec![],
            drain: None,
            stopped: vec![],
            own_probes: 0,
            refused_before: 0,
            neighbours: BTreeSet::new(),
        }
    }

    fn service(name: &str, door: Door) -> Service {
        Service {
            name: ServiceName::new(name).unwrap(),
            origin: Origin::Trees(vec![]),
            doors: [door].into(),
            passed_over: BTreeSet::new(),
            unix_doors: BTreeSet::new(),
            shared_with: BTreeSet::new(),
            cgroups: BTreeSet::new(),
            up: Up::Running,
            start: StartType::ByHand,
            aliases: BTreeSet::new(),
        }
    }

    #[test]
    fn no_hold_no_rules() {
        let record = record("a", &[door(Proto::Tcp, Reach::Any)]);
        assert_eq!(rules(&[], &[record], Some(&[]), Mono(0), ""), Rules::default());
    }

    #[test]
    fn a_neighbour_on_the_same_port_stays_open_unless_held_itself() {
        let ip: IpAddr = "10.0.0.2".parse().unwrap();
        let (a, b) = (door(Proto::Tcp, Reach::Any4), door(Proto::Tcp, Reach::Addr(ip)));
        let services = [service("a", a), service("b", b)];
        let records = [record("a", &[a]), record("b", &[b])];
        let one = rules(&[hold("a", "x", &[])], &records, Some(&services), Mono(0), "");
        assert_eq!((one.shut, one.open), ([a].into(), [(ip, 80)].into()));
        let both = rules(&[hold("a", "x", &[]), hold("b", "x", &[])], &records, Some(&services), Mono(0), "");
        assert_eq!((both.shut, both.open), ([a, b].into(), BTreeSet::new()));
    }

    #[test]
    fn before_anybody_listens_neighbours_are_as_last_seen() {
        let ip: IpAddr = "10.0.0.2".parse().unwrap();
        let (a, b) = (door(Proto::Tcp, Reach::Any4), door(Proto::Tcp, Reach::Addr(ip)));
        let services = [service("a", a), service("b", b)];
        let mut records = [record("a", &[a]), record("b", &[b])];
        let holds = [hold("a", "x", &[])];
        let running = rules(&holds, &records, Some(&services), Mono(0), "");
        records[0].neighbours = neighbours(&running, &records[0]);
        assert_eq!(rules(&holds, &records, None, Mono(0), ""), running);
        let both = rules(&[hold("a", "x", &[]), hold("b", "x", &[])], &records, None, Mono(0), "");
        assert_eq!((both.shut, both.open), ([a, b].into(), BTreeSet::new()), "held itself meanwhile");
    }

    #[test]
    fn a_door_is_shut_by_the_same_or_a_wider_one_but_not_beside_a_wildcard() {
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let shut = |held, at| shuts(&door(Proto::Tcp, held), &door(Proto::Tcp, at));
        assert!(shut(Reach::Any4, Reach::Any4) && shut(Reach::Any4, Reach::Any) && shut(Reach::Any, Reach::Any6));
        assert!(shut(Reach::Addr(one), Reach::Any4) && shut(Reach::Addr(one), Reach::Addr(one)));
        assert!(!shut(Reach::Any, Reach::Addr(one)) && !shut(Reach::Addr(one), Reach::Addr(other)));
        assert!(!shut(Reach::Any4, Reach::Any6) && !shut(Reach::Addr(one), Reach::Any6));
        assert!(!shuts(&door(Proto::Tcp, Reach::Any), &door(Proto::Udp, Reach::Any)));
    }

    #[test]
    fn a_tester_must_be_excepted_by_every_hold() {
        let a = door(Proto::Tcp, Reach::Any);
        let records = [record("a", &[a])];
        let holds = [hold("a", "x", &["10.0.0.0/8"]), hold("a", "y", &["10.1.0.0/16", "192.0.2.1"])];
        let except = rules(&holds, &records, Some(&[]), Mono(0), "").except;
        assert_eq!(except, [("10.1.0.0/16".parse().unwrap(), a)].into());
    }

    #[test]
    fn udp_is_learnt_first_and_tcp_and_quic_are_not() {
        let doors = [Proto::Tcp, Proto::Udp, Proto::Quic].map(|proto| door(proto, Reach::Any));
        let mut records = [record("a", &doors)];
        records[0].drain = Some(DrainRecord {
            requester: Requester::operator(),
            began: Wall(0),
            began_mono: Mono(0),
            boot_id: String::new(),
            at_start: 0,
            leaks: 0,
            drained_at: None,
            learn_until: Some(Mono(30)),
            watcher: None,
            spec: None,
            deadline: None,
        });
        let at = |now| rules(&[hold("a", "x", &[])], &records, Some(&[]), Mono(now), "");
        assert_eq!((at(29).learn, at(29).shut), ([doors[1]].into(), [doors[0], doors[2]].into()));
        assert_eq!((at(30).learn, at(30).shut), ([].into(), doors.into()));
    }
}
