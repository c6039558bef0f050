//! The server: real store, real decisions, a gate that is a set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ebb_decide::effective::{self, Seen};
use ebb_decide::expiry::{Due, due_at};
use ebb_decide::gate::{self, Standing};
use ebb_model::{
    Door, EffectiveState, End, Hold, Level, Mono, Now, Origin, Proto, Reach, Record, Requester, ServerHold, Service,
    ServiceName, Span, StartType, Up, Wall, Who,
};
use ebb_store::Store;

use crate::Dice;
use crate::reference::{Reference, Wish};

const REQUESTERS: [&str; 5] = ["operator", "maintenance", "deploy", "health", "roll"];
/// A port, and the address where it is not a wildcard.
type At = (u16, Option<[u8; 4]>);
/// Two of them share a port, one by a wildcard and one by an address of its own.
const SERVICES: [(&str, &[At]); 5] = [
    ("web", &[(80, None), (443, None)]),
    ("intern", &[(80, Some([10, 0, 0, 7]))]),
    ("mail", &[(25, None)]),
    ("chat", &[(5222, None), (5269, None)]),
    ("ssh", &[(22, None)]),
];

/// A server in memory, but for its store.
pub struct World {
    dir: PathBuf,
    /// None while the process is dead.
    store: Option<Store>,
    /// The kernel's.
    shut: BTreeSet<Door>,
    wall: i64,
    mono: u64,
    boot: u64,
    /// What has really passed since the beginning of the world, whatever the clocks say.
    passed: u64,
    /// Which services listen now.
    there: BTreeSet<usize>,
    /// Which services a hold on the server has come upon, by requester.
    covered: BTreeMap<usize, BTreeSet<usize>>,
    reference: Reference,
    did: Vec<String>,
}

fn requester(number: usize) -> Requester {
    Requester::new(REQUESTERS[number]).expect("a name")
}

fn name(number: usize) -> ServiceName {
    ServiceName::new(SERVICES[number].0).expect("a name")
}

fn number(name: &ServiceName) -> usize {
    SERVICES.iter().position(|(known, _)| *known == name.as_str()).expect("one of ours")
}

fn doors(service: usize) -> BTreeSet<Door> {
    let door = |(port, address): &At| Door {
        proto: Proto::Tcp,
        reach: address.map_or(Reach::Any, |ip| Reach::Addr(ip.into())),
        port: *port,
    };
    SERVICES[service].1.iter().map(door).collect()
}

fn service(number: usize) -> Service {
    Service {
        name: name(number),
        aliases: BTreeSet::new(),
        origin: Origin::Trees(Vec::new()),
        doors: doors(number),
        unix_doors: BTreeSet::new(),
        passed_over: BTreeSet::new(),
        own_doors: BTreeSet::new(),
        shared_with: BTreeSet::new(),
        cgroups: BTreeSet::new(),
        start: StartType::ByHand,
        up: Up::Running,
    }
}

fn record(number: usize) -> Record {
    Record {
        service: name(number),
        doors: doors(number),
        added: BTreeSet::new(),
        aliases: BTreeSet::new(),
        units: Vec::new(),
        sockets: Vec::new(),
        trees: Vec::new(),
        drain: None,
        stopped: Vec::new(),
        own_probes: 0,
        refused_before: 0,
        neighbours: BTreeSet::new(),
        learn: None,
    }
}

impl World {
    /// An empty server with a store in this directory.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        let _ = std::fs::remove_dir_all(&dir);
        let mut world = Self {
            dir,
            store: None,
            shut: BTreeSet::new(),
            wall: 1_700_000_000_000,
            mono: 1000,
            boot: 1,
            passed: 0,
            there: [0, 1, 2].into(),
            covered: BTreeMap::new(),
            reference: Reference::default(),
            did: Vec::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let mut store = Store::open(&self.dir).unwrap_or_else(|error| self.fail(&error.to_string()));
        // As the lock does that everybody takes before they change anything.
        store.make().unwrap_or_else(|error| self.fail(&error.to_string()));
        self.store = Some(store);
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("a process that lives")
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\nafter {:#?}\nwith {:#?}", self.did, self.reference)
    }

    fn now(&self) -> Now {
        Now { wall: Wall(self.wall), mono: Mono(self.mono) }
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    fn end(&self, end: Option<(u64, bool)>) -> Option<End> {
        end.map(|(at, reopen)| {
            let span = Span(at - self.passed);
            End { wall: Wall(self.wall) + span, boot_id: self.boot_id(), mono: Mono(self.mono) + span, reopen }
        })
    }

    /// Something happens.
    pub fn step(&mut self, dice: &mut Dice) {
        let (who, what) = (dice.below(5) as usize, dice.below(5) as usize);
        match dice.below(16) {
            0..=3 if self.there.contains(&what) => self.hold(who, what, dice),
            4 | 5 => self.release(who, what),
            6 => self.hold_server(who, dice),
            7 => self.release_server(who),
            8 => self.take_out(who, what),
            9 => self.release_all(what),
            10 => self.pass(dice.below(4) * 20_000),
            11 => self.set_clock(dice),
            12 => self.appear_or_go(what),
            13 => self.flush(),
            14 => self.crash(dice),
            15 => self.reboot(dice),
            _ => {}
        }
        self.check_holds();
    }

    fn wished(&mut self, wish: Wish) {
        self.reference.wish(wish);
    }

    fn hold(&mut self, who: usize, what: usize, dice: &mut Dice) {
        let level = if dice.one_in(2) { Level::Stopped } else { Level::Draining };
        let end = dice.one_in(3).then(|| (self.passed + 1 + dice.below(50_000), dice.one_in(2)));
        self.did.push(format!("{} holds {} {level:?} {end:?}", REQUESTERS[who], SERVICES[what].0));
        let (own, wall, until) = (requester(who), self.wall, self.end(end));
        let held = self.store().holds().expect("holds");
        let old = held.iter().find(|hold| !hold.whole_server && hold.service == name(what) && hold.requester == own);
        let hold = Hold {
            service: name(what),
            requester: own,
            level: old.map_or(level, |old| old.level.max(level)),
            reason: "why".into(),
            by: Who { uid: 0, name: "root".into() },
            since: old.map_or(Wall(wall), |old| old.since),
            until: until.or_else(|| old.and_then(|old| old.until.clone())),
            except: BTreeSet::new(),
            whole_server: false,
        };
        self.store().place(&hold, &record(what)).expect("place");
        self.wished(Wish { requester: who, service: Some(what), level, end, open: BTreeSet::new() });
        self.converge_or_die(dice);
    }

    fn release(&mut self, who: usize, what: usize) {
        self.did.push(format!("{} releases {}", REQUESTERS[who], SERVICES[what].0));
        let removed = self.store().release(&name(what), &requester(who)).expect("release");
        if removed != self.reference.release(who, Some(what)) {
            self.fail("another's hold was released, or one's own was not");
        }
        self.converge();
    }

    fn hold_server(&mut self, who: usize, dice: &mut Dice) {
        let level = if dice.one_in(2) { Level::Stopped } else { Level::Draining };
        let open: BTreeSet<usize> = if dice.one_in(2) { [4].into() } else { [4, dice.below(4) as usize].into() };
        let end = dice.one_in(3).then(|| (self.passed + 1 + dice.below(50_000), dice.one_in(2)));
        self.did.push(format!("{} holds the server {level:?} but {open:?} {end:?}", REQUESTERS[who]));
        let servers = self.store().server_holds().expect("server holds");
        let old = servers.into_iter().find(|server| server.requester == requester(who));
        let until = self.end(end).or_else(|| old.as_ref().and_then(|old| old.until.clone()));
        let names = open.iter().map(|service| SERVICES[*service].0.to_owned());
        let mut server = old.unwrap_or_else(|| ServerHold {
            requester: requester(who),
            level,
            reason: "why".into(),
            by: Who { uid: 0, name: "root".into() },
            since: Wall(self.wall),
            until: None,
            except: BTreeSet::new(),
            covers: BTreeSet::new(),
            leaves_open: BTreeSet::new(),
        });
        server.level = server.level.max(level);
        server.until = until;
        server.leaves_open.extend(names);
        let leaves = server.clone();
        server.covers.retain(|service| !leaves.leaves([service.as_str()]));
        let fresh: Vec<usize> =
            self.there.iter().copied().filter(|service| !leaves.leaves([SERVICES[*service].0])).collect();
        server.covers.extend(fresh.iter().map(|service| name(*service)));
        if server.covers.is_empty() {
            // As the product has it: there is nothing to hold.
            self.store().release_server(&requester(who)).expect("release");
            self.reference.release(who, None);
            self.covered.remove(&who);
            return self.converge();
        }
        let records: Vec<Record> = fresh.iter().map(|service| record(*service)).collect();
        self.store().place_server(&server, &records).expect("place the server");
        self.covered.entry(who).or_default().extend(fresh);
        self.wished(Wish { requester: who, service: None, level, end, open });
        self.converge_or_die(dice);
    }

    fn release_server(&mut self, who: usize) {
        self.did.push(format!("{} releases the server", REQUESTERS[who]));
        let removed = self.store().release_server(&requester(who)).expect("release");
        if removed != self.reference.release(who, None) {
            self.fail("another's hold on the server was released, or one's own was not");
        }
        self.covered.remove(&who);
        self.converge();
    }

    /// One service is taken out of a hold on the server.
    fn take_out(&mut self, who: usize, what: usize) {
        let servers = self.store().server_holds().expect("server holds");
        let Some(mut server) = servers.into_iter().find(|server| server.requester == requester(who)) else { return };
        self.did.push(format!("{} takes {} out", REQUESTERS[who], SERVICES[what].0));
        server.covers.remove(&name(what));
        server.leaves_open.insert(SERVICES[what].0.to_owned());
        if server.covers.is_empty() {
            self.store().release_server(&requester(who)).expect("release");
            self.reference.release(who, None);
            self.covered.remove(&who);
        } else {
            self.store().place_server(&server, &[]).expect("place the server");
            for wish in &mut self.reference.wishes {
                if (wish.requester, wish.service) == (who, None) {
                    wish.open.insert(what);
                }
            }
        }
        self.converge();
    }

    /// `resume --all-holders`
    fn release_all(&mut self, what: usize) {
        self.did.push(format!("all release {}", SERVICES[what].0));
        for who in 0..REQUESTERS.len() {
            self.store().release(&name(what), &requester(who)).expect("release");
            self.reference.release(who, Some(what));
            let covers = self.reference.holders(what, |by, service| self.is_covered(by, service));
            if covers.iter().any(|(by, _, server)| *by == who && *server) {
                self.take_out(who, what);
            }
        }
        self.converge();
        if self.holds_of(what).next().is_some() {
            self.fail("somebody holds it still");
        }
    }

    fn is_covered(&self, who: usize, what: usize) -> bool {
        self.covered.get(&who).is_some_and(|services| services.contains(&what))
    }

    fn pass(&mut self, ms: u64) {
        self.did.push(format!("{ms} ms pass"));
        self.passed += ms;
        self.mono += ms;
        self.wall += i64::try_from(ms).unwrap_or(0);
        self.look();
    }

    /// The wall clock is set; nothing has passed.
    fn set_clock(&mut self, dice: &mut Dice) {
        let by = dice.below(2_000_000) as i64 - 1_000_000;
        self.did.push(format!("the clock is set by {by} ms"));
        self.wall += by;
        self.look();
    }

    fn appear_or_go(&mut self, what: usize) {
        self.did.push(format!("{} comes or goes", SERVICES[what].0));
        if !self.there.remove(&what) {
            self.there.insert(what);
        }
        self.look();
    }

    /// Somebody flushes the firewall; the keeper puts it back.
    fn flush(&mut self) {
        self.did.push("the firewall is flushed".to_owned());
        self.shut.clear();
        self.look();
    }

    /// kill -9: the process is gone, disk and kernel stay; the next one comes.
    fn crash(&mut self, dice: &mut Dice) {
        self.did.push("the process is killed".to_owned());
        self.store = None;
        if dice.one_in(4) {
            // Whoever has lost the store has its copy.
            self.did.push("the store is lost".to_owned());
            let _ = std::fs::remove_file(self.dir.join("ebb.db"));
        }
        self.start();
        self.check_holds();
        self.look();
    }

    /// Disk stays; what the kernel had is gone, and the gate is there again before anybody comes.
    fn reboot(&mut self, dice: &mut Dice) {
        self.did.push("the server is rebooted".to_owned());
        self.store = None;
        self.shut.clear();
        self.boot += 1;
        self.mono = 500;
        // The clock goes on by the hardware's, which has not been set.
        self.wall += 1000;
        self.passed += 1000;
        let both = if dice.one_in(3) {
            ebb_store::copy(&self.dir)
        } else {
            Store::open_to_read(&self.dir).and_then(|store| Ok((store.holds()?, store.records()?)))
        };
        match both {
            Ok((holds, records)) => self.shut = gate::rules(&holds, &records, None, &Standing::default()).shut,
            // Nothing was ever held: there is no copy yet.
            Err(_) if !self.dir.join("held.json").exists() && self.reference.is_empty() => {}
            Err(error) => self.fail(&format!("the gate at boot: {error}")),
        }
        self.check_gate();
        self.start();
        self.look();
    }

    /// What the keeper does each second: new services, ends, the gate.
    fn look(&mut self) {
        for mut server in self.store().server_holds().expect("server holds") {
            let meant = |service: &&usize| !server.leaves([SERVICES[**service].0]);
            let fresh: Vec<usize> = self
                .there
                .iter()
                .filter(meant)
                .copied()
                .filter(|service| !server.covers.contains(&name(*service)))
                .collect();
            if fresh.is_empty() {
                continue;
            }
            server.covers.extend(fresh.iter().map(|service| name(*service)));
            let records: Vec<Record> = fresh.iter().map(|service| record(*service)).collect();
            self.store().place_server(&server, &records).expect("place the server");
            let who = REQUESTERS.iter().position(|known| *known == server.requester.as_str()).expect("one of ours");
            self.covered.entry(who).or_default().extend(fresh);
        }
        self.ends();
        self.converge();
    }

    /// Holds that have come to their end. In the boot in which the end was said, none ends before its time has really
    /// passed, whatever the wall clock says.
    fn ends(&mut self) {
        let (now, boot_id) = (self.now(), self.boot_id());
        let is_over = |until: &Option<End>, since: Wall| {
            until.as_ref().is_some_and(|end| end.reopen && due_at(end, since, now, &boot_id) == Due::Over)
        };
        let same_boot = |until: &Option<End>| until.as_ref().is_some_and(|end| end.boot_id == boot_id);
        let due = self.reference.over(self.passed);
        for hold in self.store().holds().expect("holds") {
            if hold.whole_server || !is_over(&hold.until, hold.since) {
                continue;
            }
            let who = REQUESTERS.iter().position(|known| *known == hold.requester.as_str()).expect("one of ours");
            let what = number(&hold.service);
            if same_boot(&hold.until) && !due.contains(&(who, Some(what))) {
                self.fail(&format!("{} on {} ended before its time", REQUESTERS[who], SERVICES[what].0));
            }
            self.store().release(&hold.service, &hold.requester).expect("release");
            self.reference.release(who, Some(what));
        }
        for server in self.store().server_holds().expect("server holds") {
            if !is_over(&server.until, server.since) {
                continue;
            }
            let who = REQUESTERS.iter().position(|known| *known == server.requester.as_str()).expect("one of ours");
            if same_boot(&server.until) && !due.contains(&(who, None)) {
                self.fail(&format!("{} on the server ended before its time", REQUESTERS[who]));
            }
            self.store().release_server(&server.requester).expect("release");
            self.reference.release(who, None);
            self.covered.remove(&who);
        }
    }

    /// After a wish is on disk the process may die before the kernel has it.
    fn converge_or_die(&mut self, dice: &mut Dice) {
        if dice.one_in(8) {
            self.did.push("killed between disk and kernel".to_owned());
            self.store = None;
            self.start();
            self.check_holds();
        }
        self.converge();
    }

    /// Makes the gate what the holds on disk ask for.
    fn converge(&mut self) {
        let services: Vec<Service> = self.there.iter().map(|number| service(*number)).collect();
        let (holds, records) = (self.store().holds().expect("holds"), self.store().records().expect("records"));
        let standing =
            Standing { boot_id: self.boot_id(), now: Mono(self.mono), shut: self.shut.clone(), ..Standing::default() };
        self.shut = gate::rules(&holds, &records, Some(&services), &standing).shut;
        self.check_gate();
    }

    fn holds_of(&self, what: usize) -> impl Iterator<Item = (usize, Level, bool)> {
        self.reference.holders(what, |who, service| self.is_covered(who, service)).into_iter()
    }

    /// No gate is open while any hold stands, and none is shut that nobody means.
    fn check_gate(&self) {
        for (what, (name, _)) in SERVICES.iter().enumerate() {
            let held = self.holds_of(what).next().is_some();
            for door in doors(what) {
                if held && !self.shut.contains(&door) {
                    self.fail(&format!("{name} is held, and {door} is open"));
                }
            }
        }
        let meant: BTreeSet<Door> =
            (0..SERVICES.len()).filter(|what| self.holds_of(*what).next().is_some()).flat_map(doors).collect();
        if let Some(left) = self.shut.difference(&meant).next() {
            self.fail(&format!("{left} is shut, and nobody means it"));
        }
    }

    /// What is on disk is what is wished, with nothing beside it; and the state that is shown follows from it.
    fn check_holds(&mut self) {
        let holds = self.store().holds().expect("holds");
        for (what, (known, _)) in SERVICES.iter().enumerate() {
            let place = |hold: &Hold| REQUESTERS.iter().position(|one| *one == hold.requester.as_str());
            let own = holds.iter().filter(|hold| hold.service == name(what));
            let mut seen: Vec<(usize, Level, bool)> =
                own.map(|hold| (place(hold).expect("one of ours"), hold.level, hold.whole_server)).collect();
            seen.sort_by_key(|(requester, _, server)| (*server, *requester));
            let wanted: Vec<_> = self.holds_of(what).collect();
            if seen != wanted {
                self.fail(&format!("{known}: on disk {seen:?}, wished {wanted:?}"));
            }
            let up = if self.there.contains(&what) { Up::Running } else { Up::Stopped };
            let state = effective::state(Seen { held: !seen.is_empty(), up, left: Some(0), proven: false });
            let must = match (up, wanted.is_empty()) {
                (Up::Stopped, _) => EffectiveState::Stopped,
                (_, true) => EffectiveState::Open,
                (_, false) => EffectiveState::Draining,
            };
            if state != must {
                self.fail(&format!("{known} is called {state:?}"));
            }
        }
        let records: BTreeSet<usize> =
            self.store().records().expect("records").iter().map(|record| number(&record.service)).collect();
        let held: BTreeSet<usize> = (0..SERVICES.len()).filter(|what| self.holds_of(*what).next().is_some()).collect();
        if records != held {
            self.fail(&format!("remembered {records:?}, held {held:?}"));
        }
    }

    /// Everybody releases what is theirs: nothing is left.
    pub fn all_release(&mut self) {
        for wish in self.reference.wishes.clone() {
            match wish.service {
                Some(what) => self.release(wish.requester, what),
                None => self.release_server(wish.requester),
            }
        }
        let empty = self.store().holds().expect("holds").is_empty()
            && self.store().server_holds().expect("server holds").is_empty()
            && self.store().records().expect("records").is_empty();
        if !empty || !self.shut.is_empty() {
            self.fail("something is left after the last release");
        }
        let (holds, records) = ebb_store::copy(&self.dir).unwrap_or_default();
        if !(holds.is_empty() && records.is_empty()) {
            self.fail("something is left in the copy");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.store = None;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
