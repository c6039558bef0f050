//! May this drain begin: accept, already so, or a reason why not.

use std::collections::BTreeMap;

use ebb_decide::drain::Drain;
use ebb_decide::ledger::Ledger;
use ebb_model::{DrainRecord, DrainSpec, Hold, Level, Now, Origin, Proto, Record, Service, ServiceName, Up, Why};
use ebb_systemd::UnitName;
use ebb_wire::v1::Which;

use super::tracked::{Refused, Tracked};
use crate::look::no_door;
use crate::verbs::hold::{Checked, merge, record};
use crate::verbs::services::Known;
use crate::verbs::status::watched;
use crate::world::{World, unread};
use crate::{converge, look};

pub(crate) enum Admission {
    Accept(Box<Tracked>),
    AlreadySo(String),
}

/// Decides whether a service (one of `services`) is drained now, and with what. `began_before`: by an agent before us, whose deadline counts;
/// else it counts from now.
pub(crate) fn admit(
    world: &World,
    (service, services): (&Service, &[Service]),
    known: &Known,
    wish: &Checked,
    spec: &DrainSpec,
    began_before: Option<&DrainRecord>,
) -> Result<Admission, Why> {
    if !world.store().is_writable() {
        return Err(world.unwritable(&format!("write to {}", world.place.state_dir.display())));
    }
    if service.doors.is_empty() {
        return Err(no_door(service));
    }
    let mut record = record(world, known, service, spec.learn);
    if let Some(pid) = watched(world, &record) {
        return Err(Why::Watched { service: service.name.clone(), pid });
    }
    let stopped = matches!(service.up, Up::Stopped | Up::Failed) && !record.stopped.is_empty();
    let hold = merge(world, known, service, wish, level(spec));
    if stopped {
        return already_stopped(world, (service, services), known, &hold, &record);
    }
    let now = world.now();
    let (ledger, began) = going_on(world, &record)?;
    let same_boot = began_before.filter(|drain| drain.boot_id == world.boot_id);
    // Killed before it had counted anybody, it has begun all the same.
    let began = began.or_else(|| same_boot.map(|drain| Now { wall: drain.began, mono: drain.began_mono }));
    let deadline = same_boot.map_or_else(|| spec.deadline.map(|span| now.mono + span), |drain| drain.deadline);
    let before = record.drain.take().filter(|_| began.is_some());
    record.drain = Some(DrainRecord {
        requester: wish.requester.clone(),
        began: began.map_or(now.wall, |began| began.wall),
        began_mono: began.map_or(now.mono, |began| began.mono),
        boot_id: world.boot_id.clone(),
        at_start: before.as_ref().map_or(0, |drain| drain.at_start),
        leaks: before.as_ref().map_or(0, |drain| drain.leaks),
        drained_at: None,
        watcher: Some(world.me),
        spec: Some(spec.clone()),
        deadline,
    });
    let learn_until = converge::learn_until(world, &record);
    Ok(Admission::Accept(Box::new(Tracked {
        drain: Drain::new(spec.clone(), learn_until, ledger, began.map_or(now.mono, |began| began.mono))
            .until(deadline),
        refused: Refused { before: record.refused_before, ..Refused::default() },
        told_since: same_boot.map(|drain| drain.began),
        placed_now: !known.holds_of(&service.name).any(|old| old.is(&hold)),
        began: began.unwrap_or(now),
        units_up: units_up(service),
        along: Vec::new(),
        after: Vec::new(),
        written: false,
        leaks: Vec::new(),
        view: None,
        foreseen: crate::recorder::Foreseen::default(),
        wish: 0,
        gates_lost: 0,
        requester: wish.requester.clone(),
        service: service.clone(),
        hold,
        record,
    })))
}

/// What systemd stops along with a service.
#[derive(Default)]
pub(crate) struct Along {
    /// Units that are up, and no part of the service.
    pub(crate) units: Vec<String>,
    /// Services with doors among them.
    pub(crate) services: Vec<ServiceName>,
    /// Units of the service that nothing can start again.
    pub(crate) transient: Vec<String>,
}

impl Along {
    /// What to know before the stop.
    pub(crate) fn warnings(&self, service: &Service, spec: &DrainSpec) -> Vec<String> {
        let mut warnings = Vec::new();
        if !spec.stop {
            return warnings;
        }
        if !self.units.is_empty() {
            warnings.push(format!("systemd stops along with it: {}; a resume starts them too", self.units.join(", ")));
        }
        if !self.transient.is_empty() {
            let units = self.transient.join(", ");
            warnings.push(format!("{units}: transient (systemd-run), nothing can start it again once it is stopped"));
        }
        if matches!(service.origin, Origin::Trees(_)) {
            warnings.push(format!(
                "{} was started by hand: `ebb resume` can verify and open it, but not start it",
                service.name
            ));
        }
        warnings
    }
}

impl Along {
    /// Without the units of services with doors: each of those is stopped, and started again, by itself.
    pub(crate) fn beside(mut self, services: &[Service]) -> Self {
        let beside = services.iter().filter(|other| self.services.contains(&other.name));
        let beside: Vec<String> = beside.flat_map(look::units_of).collect();
        self.units.retain(|unit| !beside.contains(unit));
        self
    }
}

/// The same of a drain that goes on; nothing where it is not to be stopped.
pub(crate) async fn stopped_along_beside(
    world: &World,
    service: &Service,
    services: &[Service],
    spec: &DrainSpec,
) -> Along {
    if spec.stop { stopped_along(world, service, services).await.beside(services) } else { Along::default() }
}

/// What would be stopped along with this service. Empty where it cannot be told.
pub(crate) async fn stopped_along(world: &World, service: &Service, all: &[Service]) -> Along {
    let (Some(systemd), Origin::Units { units, sockets }) = (&world.systemd, &service.origin) else {
        return Along::default();
    };
    let own = |name: &str| sockets.iter().any(|one| one == name) || units.iter().any(|one| one.name == name);
    let mut along = Along::default();
    for name in units.iter().filter_map(|unit| UnitName::new(&unit.name).ok()) {
        let Ok(unit) = systemd.unit(&name).await else { continue };
        along.transient.extend(unit.is_transient().then(|| unit.name.to_string()));
        let others = unit.stops_with.iter().map(ToString::to_string).filter(|other| !own(other));
        along.units.extend(others.filter(|other| !along.units.contains(other)).collect::<Vec<_>>());
    }
    let of = |service: &&Service| match &service.origin {
        Origin::Units { units, .. } => units.iter().any(|unit| along.units.contains(&unit.name)),
        Origin::Trees(_) => false,
    };
    along.services = all
        .iter()
        .filter(of)
        .filter(|other| !other.doors.is_empty() && other.name != service.name)
        .map(|other| other.name.clone())
        .collect();
    along
}

/// The level of the hold that a drain needs.
pub(crate) const fn level(spec: &DrainSpec) -> Level {
    if spec.stop { Level::Stopped } else { Level::Draining }
}

/// Nothing is left to drain or stop; the hold is placed if it is another requester's, and the gate put back if it was lost.
fn already_stopped(
    world: &World,
    (service, services): (&Service, &[Service]),
    known: &Known,
    hold: &Hold,
    record: &Record,
) -> Result<Admission, Why> {
    let name = &service.name;
    let _lock = world.lock()?;
    // What does not run has no flows to be learnt.
    let mut record = Record { learn: None, ..record.clone() };
    // Nobody need go on with its drain.
    if let Some(drain) = &mut record.drain {
        (drain.spec, drain.watcher) = (None, None);
    }
    world.store().place(hold, &record).map_err(|error| unread(&error))?;
    let converged = converge::converge(world, services)?;
    let others: Vec<_> = known.holds_of(name).map(|hold| format!("`{}`", hold.requester)).collect();
    let now = if known.holds_of(name).any(|old| old.is(hold)) { "" } else { "; it is held by you too now" };
    let back = if converged.changed { "; its gate was not there, and is shut again" } else { "" };
    Ok(Admission::AlreadySo(format!(
        "{name} is drained and stopped already, held by {}{now}{back}; `ebb resume {name}` brings it back",
        others.join(", ")
    )))
}

/// The ledger and beginning of a drain that was interrupted in this boot, if there is one; else new ones.
fn going_on(world: &World, record: &Record) -> Result<(Ledger, Option<Now>), Why> {
    let Some(drain) = record.drain.as_ref().filter(|drain| drain.boot_id == world.boot_id) else {
        return Ok((Ledger::default(), None));
    };
    let baseline = world.store().baseline(&record.service).map_err(|error| unread(&error))?;
    let Some(baseline) = baseline else { return Ok((Ledger::default(), None)) };
    let began = Now { wall: drain.began, mono: drain.began_mono };
    Ok((Ledger::continued(baseline, drain.at_start), Some(began)))
}

fn units_up(service: &Service) -> BTreeMap<String, Up> {
    match &service.origin {
        Origin::Trees(_) => BTreeMap::new(),
        Origin::Units { units, sockets } => units
            .iter()
            .map(|unit| (unit.name.clone(), unit.up))
            .chain(sockets.iter().map(|socket| (socket.clone(), Up::Running)))
            .collect(),
    }
}

/// What to know before a service is drained.
pub(crate) fn warnings(service: &Service, which: &Which) -> Vec<String> {
    let mut warnings = Vec::new();
    for other in &service.shared_with {
        if !is_named(which, other) {
            warnings.push(Why::SharedDoor { service: service.name.clone(), with: other.clone() }.to_string());
        }
    }
    if !service.unix_doors.is_empty() {
        let paths: Vec<_> = service.unix_doors.iter().map(|door| door.path.clone()).collect();
        let now = look::unix_clients(&paths);
        warnings.push(format!(
            "unix sockets are not held: {}; their clients ({now} now) are not waited for, and a stop ends them",
            paths.join(", ")
        ));
    }
    warnings.extend(crate::say::own_doors(service));
    warnings.extend(crate::say::passed_over(service));
    for door in &service.doors {
        match (door.proto, door.port) {
            (Proto::Udp, 53) => warnings.push(format!(
                "{door}: each DNS query is a flow of its own, so new clients are refused but no session can be told; take the server out of resolver and NS lists first"
            )),
            (Proto::Udp, 5060 | 5061) => warnings.push(format!(
                "{door}: a phone's new call comes over its old UDP flow; only the SIP server itself can refuse it"
            )),
            (Proto::Udp, _) => warnings.push(format!(
                "{door}: UDP flows that exist go on, others are refused once they have been learnt"
            )),
            (Proto::Tcp | Proto::Quic, _) => {}
        }
    }
    warnings
}

fn is_named(which: &Which, name: &ServiceName) -> bool {
    which.services.iter().any(|service| service == name.as_str())
}

/// A name that fits no service with a door may be a unit that is stopped, or one with unix sockets only:
/// then that is the reason.
pub(crate) async fn explain_missing(world: &World, services: &[Service], refused: &mut [(String, Why)]) {
    for (typed, why) in refused {
        if !matches!(why, Why::NoSuchService { .. } | Why::NotPermitted { .. }) {
            continue;
        }
        let Some(systemd) = &world.systemd else {
            let unix = look::unix_paths_of_executable(typed);
            if let Some(service) = ServiceName::new(typed.clone()).ok().filter(|_| !unix.is_empty()) {
                *why = Why::NoDoor { service, unix, udp: Vec::new() };
            }
            continue;
        };
        let unit = if typed.contains('.') { typed.clone() } else { format!("{typed}.service") };
        let has = |service: &&Service| look::units_of(service).contains(&unit);
        if let Some(service) = services.iter().find(has) {
            *why = Why::PartOf { name: typed.clone(), service: service.name.clone() };
            continue;
        }
        let Ok(name) = UnitName::new(&unit) else { continue };
        let Ok(unit) = systemd.unit(&name).await else { continue };
        if unit.is_wrapper() {
            let instances = systemd.instances(&unit).await.unwrap_or_default();
            let fits: Vec<String> = instances.iter().map(|line| line.name.stem().to_owned()).collect();
            if !fits.is_empty() {
                *why = Why::Ambiguous { name: typed.clone(), fits };
            }
            continue;
        }
        if !unit.active_state.is_up() {
            *why = Why::NotRunning { unit: unit.name.to_string(), state: unit.active_state.to_string() };
            continue;
        }
        let Ok(service) = ServiceName::new(typed.clone()) else { continue };
        let unix = look::unix_paths_of(unit.control_group.as_deref());
        *why = Why::NoDoor { service, unix, udp: Vec::new() };
    }
}
