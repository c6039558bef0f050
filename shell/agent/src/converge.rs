//! Makes the gate in the kernel what all holds on disk ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ebb_decide::gate::Standing;
use ebb_kernel::{diag, gate};
use ebb_model::{Door, Mono, Record, Service, Span, Why};

use crate::convert::{door_from, door_to};
use crate::world::{PROBE_MARK, TABLE, World, chain, unread};

/// What converging did.
pub(crate) struct Converged {
    /// The kernel had to be changed.
    pub(crate) changed: bool,
}

/// Makes the gate what the holds ask for. `services` are those found now: others' doors on a port that
/// is shut by wildcard are kept open.
pub(crate) fn converge(world: &World, services: &[Service]) -> Result<Converged, Why> {
    world.with_gate(|gate| {
        let seen = gate.seen().map_err(|error| gate_error(&error))?;
        let mut rules = wanted(world, services, &standing(world, gate, seen.as_ref()))?;
        add_joins(&mut rules);
        let applied = gate.apply(&rules).map_err(|error| gate_error(&error))?;
        let before = seen.filter(gate::Seen::intact);
        let same = before.is_some_and(|seen| lasting(&seen.rules) == lasting(&rules.normal()));
        if !rules.mptcp.is_empty() {
            // Whoever came in while we looked may have more paths too; now that it is shut nobody else comes.
            add_joins(&mut rules);
            gate.apply(&rules).map_err(|error| gate_error(&error))?;
        }
        world.remember_rules(rules.clone());
        // Built although it was there: somebody took it away while we looked.
        let rebuilt = matches!(applied, gate::Applied::Built { .. });
        Ok(Converged { changed: applied != gate::Applied::Nothing && (rebuilt || !same) })
    })
}

/// Makes the gate what it was made last, where the holds on disk cannot be read.
pub(crate) fn as_before(world: &World) -> Result<(), Why> {
    let Some(rules) = world.last_rules() else { return Ok(()) };
    world.with_gate(|gate| gate.apply(&rules).map(drop).map_err(|error| gate_error(&error)))
}

/// Connections come and go, and learning ends by itself: the gate is the same.
fn lasting(rules: &gate::Rules) -> gate::Rules {
    let rules = rules.clone();
    gate::Rules { mptcp: Default::default(), tokens: Default::default(), learn: Default::default(), ..rules }
}

/// Nobody learns longer; what is asked for may be any number.
const LEARN_MOST: Duration = Duration::from_secs(365 * 86_400);

/// The gate as it is, or as it was before somebody took it away.
fn standing(world: &World, gate: &gate::Gate, seen: Option<&gate::Seen>) -> Standing {
    let now = world.now().mono;
    let mut standing = Standing { boot_id: world.boot_id.clone(), now, ..Standing::default() };
    if let Some(rules) = gate.standing().or_else(|| seen.map(|seen| &seen.rules)) {
        standing.shut = rules.shut.iter().map(door_from).collect();
        standing.learn = rules.learn.iter().map(|(door, until)| (door_from(door), now + left(*until))).collect();
    }
    standing
}

fn left(until: Instant) -> Span {
    until.saturating_duration_since(Instant::now()).into()
}

/// Until when flows are learnt at a door of this service, if it is held as `record` says.
pub(crate) fn learn_until(world: &World, record: &Record) -> Option<Mono> {
    let standing = world.with_gate(|gate| {
        let seen = gate.seen().map_err(|error| gate_error(&error))?;
        Ok(standing(world, gate, seen.as_ref()))
    });
    // Not to be read: then it is as if nothing were shut, and the drain waits too long rather than too short.
    let standing = standing.unwrap_or_else(|_| Standing {
        boot_id: world.boot_id.clone(),
        now: world.now().mono,
        ..Standing::default()
    });
    record.doors.iter().filter_map(|door| ebb_decide::gate::learns_until(record, door, &standing)).max()
}

/// Lets more paths of the MPTCP connections that exist pass at the doors where they came in. Where that cannot be read,
/// or a plain TCP listener is at the same port (it would take a path for a new connection), none passes.
fn add_joins(rules: &mut gate::Rules) {
    let listeners = diag::listeners().unwrap_or_default();
    let is_mptcp = |door: &&gate::Door| {
        let at_port =
            || listeners.iter().filter(|row| row.state == diag::State::Listen && row.local.port() == door.port);
        door.proto == gate::Proto::Tcp
            && !matches!(door.reach, gate::Reach::Forward(_))
            && at_port().next().is_some()
            && at_port().all(|row| row.mptcp)
    };
    rules.mptcp = rules.shut.iter().filter(is_mptcp).copied().collect();
    rules.tokens.clear();
    if !rules.mptcp.is_empty() {
        let ports = rules.mptcp.iter().map(|door| door.port).collect();
        let query = diag::Query { proto: diag::SockProto::Mptcp, ports, info: true, ..diag::Query::default() };
        // What was read of a list that is not whole are connections all the same.
        let _ = diag::dump(&query, &mut |row| rules.tokens.extend(row.token));
    }
}

fn wanted(world: &World, services: &[Service], standing: &Standing) -> Result<gate::Rules, Why> {
    let (holds, records) = {
        let store = world.store();
        (store.holds().map_err(|error| unread(&error))?, store.records().map_err(|error| unread(&error))?)
    };
    let rules = ebb_decide::gate::rules(&holds, &records, Some(services), standing);
    for record in &records {
        let neighbours = ebb_decide::gate::neighbours(&rules, record);
        if neighbours != record.neighbours && world.store().is_writable() {
            let record = Record { neighbours, ..record.clone() };
            // Only for the next boot, and then at worst a neighbour waits for the agent.
            let _ = world.store().remember(&record);
        }
    }
    Ok(to_kernel(&rules, standing.now))
}

/// The rules as the kernel's room has them; `now` is the time on which they stand.
pub(crate) fn to_kernel(rules: &ebb_decide::gate::Rules, now: Mono) -> gate::Rules {
    let clock = Instant::now();
    let at = |until: Mono| clock + Duration::from(until.since(now)).min(LEARN_MOST);
    gate::Rules {
        shut: rules.shut.iter().map(door_to).collect(),
        learn: rules.learn.iter().map(|(door, until)| (door_to(door), at(*until))).collect(),
        open: rules.open.clone(),
        except: rules
            .except
            .iter()
            .map(|(range, door)| gate::Except { from: (range.ip, range.prefix), door: door_to(door) })
            .collect(),
        probe_mark: PROBE_MARK,
        mptcp: Default::default(),
        tokens: Default::default(),
    }
}

/// The gate as it is in the kernel.
pub(crate) struct Seen {
    /// Our table is there and as we made it.
    pub(crate) intact: bool,
    /// Doors that are shut, and the attempts refused there.
    pub(crate) shut: BTreeMap<Door, u64>,
    /// UDP doors of these that let everybody in and learn their flows, and for how long still.
    pub(crate) learn: BTreeMap<Door, Span>,
}

impl Seen {
    /// Whether all of these doors are held.
    pub(crate) fn holds(&self, doors: &BTreeSet<Door>) -> bool {
        self.intact && doors.iter().all(|door| self.shut.contains_key(door))
    }

    /// How long the last of these doors still learns; none if they all refuse.
    pub(crate) fn learning(&self, doors: &BTreeSet<Door>) -> Option<Span> {
        doors.iter().filter_map(|door| self.learn.get(door)).max().copied()
    }

    /// Attempts refused at these doors.
    pub(crate) fn refused(&self, doors: &BTreeSet<Door>) -> u64 {
        doors.iter().filter_map(|door| self.shut.get(door)).sum()
    }
}

/// Reads the gate; an absent table is one that shuts nothing.
pub(crate) fn seen(world: &World) -> Result<Seen, Why> {
    let Some(seen) = world.with_gate(|gate| gate.seen().map_err(|error| gate_error(&error)))? else {
        return Ok(Seen { intact: true, shut: BTreeMap::new(), learn: BTreeMap::new() });
    };
    let counted = |door: &gate::Door| (door_from(door), seen.refused.get(door).copied().unwrap_or(0));
    Ok(Seen {
        intact: seen.intact(),
        shut: seen.rules.shut.iter().map(counted).collect(),
        learn: seen.rules.learn.iter().map(|(door, until)| (door_from(door), left(*until))).collect(),
    })
}

/// The UDP flows that are known. Beside the gate that is kept: many take a while.
pub(crate) fn flows() -> Result<Vec<gate::Flow>, Why> {
    let mut gate = gate::Gate::open(TABLE).map_err(|error| gate_error(&error))?;
    let seen = gate.seen().map_err(|error| gate_error(&error))?;
    Ok(seen.map(|seen| seen.flows).unwrap_or_default())
}

/// Whether a gate can be made here at all; asked before anything is changed.
pub(crate) fn check_support() -> Result<(), Why> {
    match gate::support() {
        Ok(gate::Support::Ready { .. }) => Ok(()),
        Ok(gate::Support::NoPermission) => Err(Why::NotPermitted { what: "change the firewall".to_owned() }),
        Ok(gate::Support::Missing { what }) => Err(no_nftables(&what)),
        Err(error) => Err(gate_error(&error)),
    }
}

fn no_nftables(missing: &ebb_kernel::netlink::Error) -> Why {
    Why::Unsupported {
        what: format!("this kernel cannot hold a gate: {}", chain(missing)),
        help: "load it (`modprobe nf_tables`), or use a kernel with CONFIG_NF_TABLES and NF_TABLES_INET".to_owned(),
    }
}

pub(crate) fn gate_error(error: &gate::Error) -> Why {
    const EPERM: i32 = 1;
    match error.errno() {
        Some(EPERM) => Why::NotPermitted { what: "change the firewall".to_owned() },
        _ => Why::Unread { what: "the gate".to_owned(), cause: chain(error) },
    }
}
