//! Which doors must be shut: from all holds on this server, always as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ebb_model::{Cidr, Door, Hold, Mono, Proto, Reach, Record, Service, ServiceName};

/// What the gate must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Doors where new sessions are refused.
    pub shut: BTreeSet<Door>,
    /// UDP doors of these whose flows are learnt, and nothing refused, until then.
    pub learn: BTreeMap<Door, Mono>,
    /// Addresses and ports that a wildcard door above would shut too, but that are other services'.
    pub open: BTreeSet<(IpAddr, u16)>,
    /// Who may still come in, where.
    pub except: BTreeSet<(Cidr, Door)>,
}

/// The gate as it is in the kernel. What somebody else took away a moment ago counts as there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// In which boot.
    pub boot_id: String,
    /// At which time of it.
    pub now: Mono,
    /// Doors that are shut.
    pub shut: BTreeSet<Door>,
    /// Those of them that learn, and until when.
    pub learn: BTreeMap<Door, Mono>,
}

/// The rules for all holds, going on from the gate as it is. `services`: those that run now; none where nothing has
/// started yet, then the neighbours are as last seen.
#[must_use]
pub fn rules(holds: &[Hold], records: &[Record], services: Option<&[Service]>, standing: &Standing) -> Rules {
    let mut rules = Rules::default();
    for record in records {
        let own: Vec<&Hold> = holds.iter().filter(|hold| hold.service == record.service).collect();
        if own.is_empty() {
            continue;
        }
        for door in &record.doors {
            rules.shut.insert(*door);
            if let Some(until) = learns_until(record, door, standing) {
                let at = rules.learn.entry(*door).or_insert(until);
                *at = until.max(*at);
            }
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

/// Until when a door that is to be shut learns, if it does: one that was not shut from now on, one that learns already as
/// before. What is shut is never opened again to be learnt, whoever asks anew.
#[must_use]
pub fn learns_until(record: &Record, door: &Door, standing: &Standing) -> Option<Mono> {
    let learn =
        record.learn.as_ref().filter(|learn| learn.boot_id == standing.boot_id && learn.doors.contains(door))?;
    let whole = standing.now + learn.span;
    match standing.learn.get(door) {
        // Nobody of ours made it longer.
        Some(until) => Some(whole.min(*until)),
        None if standing.shut.contains(door) => None,
        None => Some(whole),
    }
    .filter(|until| door.proto == Proto::Udp && standing.now < *until)
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
    use ebb_model::{Learn, Level, Origin, Requester, Span, StartType, Up, Wall, Who};

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
            whole_server: false,
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
            aliases: BTreeSet::new(),
            units: vec![],
            sockets: vec![],
            trees: vec![],
            drain: None,
            stopped: vec![],
            own_probes: 0,
            refused_before: 0,
            neighbours: BTreeSet::new(),
            learn: None,
        }
    }

    fn nothing() -> Standing {
        Standing::default()
    }

    fn service(name: &str, door: Door) -> Service {
        Service {
            name: ServiceName::new(name).unwrap(),
            origin: Origin::Trees(vec![]),
            doors: [door].into(),
            passed_over: BTreeSet::new(),
            own_doors: BTreeSet::new(),
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
        assert_eq!(rules(&[], &[record], Some(&[]), &nothing()), Rules::default());
    }

    #[test]
    fn a_neighbour_on_the_same_port_stays_open_unless_held_itself() {
        let ip: IpAddr = "10.0.0.2".parse().unwrap();
        let (a, b) = (door(Proto::Tcp, Reach::Any4), door(Proto::Tcp, Reach::Addr(ip)));
        let services = [service("a", a), service("b", b)];
        let records = [record("a", &[a]), record("b", &[b])];
        let one = rules(&[hold("a", "x", &[])], &records, Some(&services), &nothing());
        assert_eq!((one.shut, one.open), ([a].into(), [(ip, 80)].into()));
        let both = rules(&[hold("a", "x", &[]), hold("b", "x", &[])], &records, Some(&services), &nothing());
        assert_eq!((both.shut, both.open), ([a, b].into(), BTreeSet::new()));
    }

    #[test]
    fn before_anybody_listens_neighbours_are_as_last_seen() {
        let ip: IpAddr = "10.0.0.2".parse().unwrap();
        let (a, b) = (door(Proto::Tcp, Reach::Any4), door(Proto::Tcp, Reach::Addr(ip)));
        let services = [service("a", a), service("b", b)];
        let mut records = [record("a", &[a]), record("b", &[b])];
        let holds = [hold("a", "x", &[])];
        let running = rules(&holds, &records, Some(&services), &nothing());
        records[0].neighbours = neighbours(&running, &records[0]);
        assert_eq!(rules(&holds, &records, None, &nothing()), running);
        let both = rules(&[hold("a", "x", &[]), hold("b", "x", &[])], &records, None, &nothing());
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
        let except = rules(&holds, &records, Some(&[]), &nothing()).except;
        assert_eq!(except, [("10.1.0.0/16".parse().unwrap(), a)].into());
    }

    fn at(now: u64) -> Standing {
        Standing { boot_id: "b".into(), now: Mono(now), ..nothing() }
    }

    /// A held service with a door of each protocol, all of which are to be learnt.
    fn learning() -> ([Hold; 1], [Record; 1], [Door; 3]) {
        let doors = [Proto::Tcp, Proto::Udp, Proto::Quic].map(|proto| door(proto, Reach::Any));
        let learn = Learn { boot_id: "b".into(), span: Span(30), doors: doors.into() };
        ([hold("a", "x", &[])], [Record { learn: Some(learn), ..record("a", &doors) }], doors)
    }

    #[test]
    fn udp_is_shut_from_the_beginning_and_learns_first_and_tcp_and_quic_do_not() {
        let (holds, records, doors) = learning();
        let rules = rules(&holds, &records, Some(&[]), &at(100));
        assert_eq!((rules.shut, rules.learn), (doors.into(), [(doors[1], Mono(130))].into()));
    }

    #[test]
    fn what_is_shut_is_not_opened_to_be_learnt_whoever_asks_again() {
        let (_, records, doors) = learning();
        let holds = [hold("a", "x", &[]), hold("a", "y", &[])];
        let learnt = |standing: &Standing| rules(&holds, &records, Some(&[]), standing).learn;
        let shut = Standing { shut: doors.into(), ..at(100) };
        assert_eq!(learnt(&shut), [].into());
        // It goes on as it began, and nobody makes it longer.
        let until = |until| Standing { learn: [(doors[1], Mono(until))].into(), ..shut.clone() };
        assert_eq!(learnt(&until(107)), [(doors[1], Mono(107))].into());
        assert_eq!(learnt(&until(999)), [(doors[1], Mono(130))].into());
        assert_eq!(learnt(&until(99)), [].into(), "it is over");
    }

    #[test]
    fn after_a_reboot_and_at_a_door_that_opened_later_nothing_is_learnt() {
        let (holds, mut records, doors) = learning();
        let standing = Standing { boot_id: "another".into(), ..at(100) };
        assert_eq!(rules(&holds, &records, Some(&[]), &standing).learn, [].into());
        let later = Door { port: 81, ..doors[1] };
        records[0].doors.insert(later);
        let rules = rules(&holds, &records, Some(&[]), &at(100));
        assert!(rules.shut.contains(&later) && !rules.learn.contains_key(&later));
    }

    #[test]
    fn a_door_of_two_services_learns_for_the_longer_of_both() {
        let (holds, records, doors) = learning();
        let mut other = Record { service: ServiceName::new("b").unwrap(), ..records[0].clone() };
        other.learn.as_mut().unwrap().span = Span(50);
        let (holds, records) = ([holds[0].clone(), hold("b", "x", &[])], [records[0].clone(), other]);
        assert_eq!(rules(&holds, &records, Some(&[]), &at(100)).learn, [(doors[1], Mono(150))].into());
    }
}
