//! `ebb services`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebb_decide::effective::{self, Seen};
use ebb_decide::gate;
use ebb_link::Reply;
use ebb_model::{Counts, Door, Hold, Origin, Record, Requester, Service, ServiceName, Up, Why, duration};
use ebb_wire::v1;

use crate::converge;
use crate::daemons;
use crate::look;
use crate::observe::{self, Book};
use crate::protect;
use crate::say;
use crate::world::{World, unread};

pub(crate) async fn answer(world: &Arc<World>, count: bool, ask: bool, reply: &Reply) -> Result<(), Why> {
    let services = look::services(world).await?;
    let known = Known::read(world)?;
    let counts = if count { counted(world, &services, &known, services.iter()).await } else { Ok(BTreeMap::new()) };
    let gate = converge::seen(world);
    for service in &services {
        let count = counts.as_ref().ok().and_then(|counts| counts.get(&service.name)).copied();
        let mut told = tell(service, &known, count, gate.as_ref().ok());
        if let Some(daemon) = daemons::of(world, service).filter(|_| ask) {
            told.daemon = Some(say::daemon(daemon.kind(), &daemon.abilities().await));
        }
        reply.send(v1::Frame::Service(told)).await;
    }
    if let Some(text) = protect::told(world) {
        reply.send(say::note(None, false, text)).await;
    }
    if let Err(why) = counts {
        reply.send(say::note(None, true, format!("sessions are not counted: {why}"))).await;
    }
    Ok(())
}

/// Holds and records, read together.
pub(crate) struct Known {
    pub(crate) holds: Vec<Hold>,
    pub(crate) records: Vec<Record>,
    /// In which boot.
    boot_id: String,
}

impl Known {
    pub(crate) fn read(world: &World) -> Result<Self, Why> {
        let store = world.store();
        let holds = store.holds().map_err(|error| unread(&error))?;
        let records = store.records().map_err(|error| unread(&error))?;
        Ok(Self { holds, records, boot_id: world.boot_id.clone() })
    }

    pub(crate) fn holds_of<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a Hold> {
        self.holds.iter().filter(move |hold| hold.service == *service)
    }

    /// The hold of a requester on a service: its own one before that on the whole server.
    pub(crate) fn of_requester<'a>(&'a self, service: &'a ServiceName, requester: &Requester) -> Option<&'a Hold> {
        self.holds_of(service).filter(|hold| hold.requester == *requester).min_by_key(|hold| hold.whole_server)
    }

    /// Other held services whose gate shuts a door of this one too, each with that door of theirs.
    pub(crate) fn held_elsewhere(&self, service: &Service) -> BTreeMap<ServiceName, Door> {
        let others = self.records.iter().filter(|record| record.service != service.name);
        let held = others.filter(|record| self.holds_of(&record.service).next().is_some());
        held.filter_map(|record| {
            let shuts = |held: &&Door| service.doors.iter().any(|door| gate::shuts(held, door));
            record.doors.iter().find(shuts).map(|door| (record.service.clone(), *door))
        })
        .collect()
    }

    pub(crate) fn record_of(&self, service: &ServiceName) -> Option<&Record> {
        self.records.iter().find(|record| record.service == *service)
    }
}

/// Counts the sessions of some services in one walk over the kernel's sockets.
pub(crate) async fn counted(
    world: &World,
    all: &[Service],
    known: &Known,
    of: impl Iterator<Item = &Service>,
) -> Result<BTreeMap<ServiceName, Counts>, Why> {
    let mut book = Book::of(all);
    let names: BTreeSet<ServiceName> = of.map(|service| service.name.clone()).collect();
    // Testers that `--except` let in are told from those who were there before the gate.
    let mut before = BTreeMap::new();
    for hold in known.holds.iter().filter(|hold| !hold.except.is_empty() && names.contains(&hold.service)) {
        book.except(&hold.service, known.holds_of(&hold.service).flat_map(|hold| hold.except.clone()));
        let baseline = world.store().baseline(&hold.service).map_err(|error| unread(&error))?;
        before.extend(baseline.map(|baseline| (hold.service.clone(), baseline)));
    }
    let count = tokio::task::spawn_blocking(move || observe::count(&book, &names))
        .await
        .map_err(|error| Why::Unread { what: "the sessions".into(), cause: error.to_string() })??;
    let sum = |name: &ServiceName, seen: &Vec<ebb_decide::ledger::Seen>| {
        let fresh = |id| before.get(name).is_some_and(|baseline| !baseline.contains(id));
        let mut counts = Counts::default();
        seen.iter().for_each(|session| counts.add(session.state, session.may_enter && fresh(&session.id)));
        counts
    };
    Ok(count.seen.iter().map(|(name, seen)| (name.clone(), sum(name, seen))).collect())
}

/// A service as said.
pub(crate) fn tell(
    service: &Service,
    known: &Known,
    counts: Option<Counts>,
    gate: Option<&converge::Seen>,
) -> v1::Service {
    let holders: Vec<v1::Hold> = known.holds_of(&service.name).map(say::hold).collect();
    let record = known.record_of(&service.name);
    let drain = record.and_then(|record| record.drain.as_ref());
    let left = counts.map(|counts| counts.left());
    let held = !holders.is_empty();
    let state = effective::state(Seen {
        held,
        up: service.up,
        left: counts.map(|counts| counts.left() - counts.excepted),
        // Proven in this boot, and the gate has not been lost since, as far as that can be told.
        proven: drain.is_some_and(|drain| drain.drained_at.is_some() && drain.boot_id == known.boot_id)
            && gate.is_none_or(|gate| gate.holds(&service.doors)),
    });
    v1::Service {
        name: service.name.to_string(),
        state: state.as_str().to_owned(),
        sessions: left,
        doors: doors(service, held, gate),
        start: service.start.to_string(),
        units: look::units_of(service),
        pids: match &service.origin {
            Origin::Trees(trees) => trees.iter().map(|tree| tree.root).collect(),
            Origin::Units { .. } => Vec::new(),
        },
        shared_with: service.shared_with.iter().map(ToString::to_string).collect(),
        remarks: remarks(service, known, gate),
        daemon: None,
        holders,
    }
}

fn doors(service: &Service, held: bool, gate: Option<&converge::Seen>) -> Vec<v1::Door> {
    let gate_at = |door: &Door| match gate {
        None => v1::Gate::Unknown,
        Some(gate) if gate.intact && gate.learn.contains_key(door) => v1::Gate::Learning,
        Some(gate) if gate.intact && gate.shut.contains_key(door) => v1::Gate::Shut,
        Some(_) if held => v1::Gate::Missing,
        Some(_) => v1::Gate::Open,
    };
    let refused = |door| gate.and_then(|gate| gate.shut.get(door)).copied();
    let learning = |door| gate.and_then(|gate| gate.learn.get(door)).copied();
    let mut doors: Vec<v1::Door> =
        service.doors.iter().map(|door| say::door(door, refused(door), gate_at(door), learning(door))).collect();
    doors.extend(
        service
            .own_doors
            .iter()
            .map(|door| v1::Door { holdable: false, ..say::door(door, None, v1::Gate::Open, None) }),
    );
    doors.extend(service.unix_doors.iter().map(|door| v1::Door {
        proto: "unix".into(),
        address: door.path.clone(),
        port: 0,
        holdable: false,
        refused: None,
        gate: v1::Gate::Open,
        learning_seconds: None,
    }));
    doors
}

fn remarks(service: &Service, known: &Known, gate: Option<&converge::Seen>) -> Vec<String> {
    let mut remarks = Vec::new();
    if service.up == Up::Failed {
        remarks.push("systemd calls it failed".to_owned());
    }
    let held = known.holds_of(&service.name).next().is_some();
    let elsewhere = known.held_elsewhere(service);
    for (name, door) in &elsewhere {
        remarks.push(format!("{door} is held as {name}: newcomers are refused there; `ebb status {name}` tells more"));
    }
    let shut = gate.map(|gate| gate.holds(&service.doors));
    match (held, shut) {
        (true, Some(false)) => remarks.push(format!(
            "it is held, but the gate is not whole (a reboot, or somebody flushed it): `ebb drain {}` shuts it again",
            service.name
        )),
        (false, Some(true)) if !service.doors.is_empty() && elsewhere.is_empty() => {
            remarks.push(format!("the gate is shut without a hold: `ebb resume {}` opens it", service.name));
        }
        _ => {}
    }
    if let Some(left) = gate.and_then(|gate| gate.learning(&service.doors)) {
        remarks.push(format!("UDP flows are learnt for {} more; until then newcomers come in there", duration(left)));
    }
    for other in service.shared_with.iter().filter(|other| !elsewhere.contains_key(other)) {
        remarks.push(format!("shares a door with {other}: a gate shuts both"));
    }
    remarks.extend(say::own_doors(service));
    remarks.extend(say::passed_over(service));
    remarks
}
