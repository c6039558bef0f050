//! The written form of holds, records and events: JSON with its own types, so that a change of the
//! model cannot silently change what is on disk.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ebb_model::{
    Cidr, Door, DrainRecord, DrainSpec, End, Event, EventKind, Field, Hold, Learn, Level, Mono, Pace, Proto, Queue,
    Reach, Record, Requester, ServerHold, ServiceName, Span, Stopped, Then, Tree, Wall, Watcher, When, Who,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct HoldV1 {
    level: String,
    reason: String,
    by_uid: u32,
    by_name: String,
    since_ms: i64,
    until_ms: Option<i64>,
    #[serde(default)]
    until_boot_id: String,
    #[serde(default)]
    until_mono_ms: u64,
    #[serde(default)]
    reopen: bool,
    except: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct DoorV1 {
    proto: String,
    reach: String,
    address: Option<IpAddr>,
    port: u16,
}

#[derive(Serialize, Deserialize)]
struct TreeV1 {
    root: u32,
    started_ticks: u64,
    executable: String,
    command: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoppedV1 {
    Unit(String),
    Tree(TreeV1),
}

#[derive(Serialize, Deserialize)]
struct DrainV1 {
    requester: String,
    began_ms: i64,
    began_mono_ms: u64,
    boot_id: String,
    at_start: u64,
    leaks: u64,
    drained_ms: Option<i64>,
    watcher: Option<(u32, u64)>,
    #[serde(default)]
    spec: Option<SpecV1>,
    #[serde(default)]
    deadline_mono_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct SpecV1 {
    deadline_ms: Option<u64>,
    then: String,
    stop: bool,
    settle_ms: u64,
    grace_ms: u64,
    learn_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    idle_now: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    active_now: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_hour: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RecordV1 {
    doors: Vec<DoorV1>,
    #[serde(default)]
    added: Vec<DoorV1>,
    #[serde(default)]
    aliases: Vec<String>,
    units: Vec<String>,
    sockets: Vec<String>,
    trees: Vec<TreeV1>,
    drain: Option<DrainV1>,
    stopped: Vec<StoppedV1>,
    #[serde(default)]
    own_probes: u64,
    refused_before: u64,
    #[serde(default)]
    neighbours: Vec<(IpAddr, u16)>,
    #[serde(default)]
    learn: Option<LearnV1>,
}

#[derive(Serialize, Deserialize)]
struct LearnV1 {
    boot_id: String,
    span_ms: u64,
    doors: Vec<DoorV1>,
}

pub(crate) fn json<T: Serialize>(value: &T) -> String {
    // Plain structs with string keys: serialising them cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

pub(crate) fn hold_to(hold: &Hold) -> String {
    json(&hold_v1(hold))
}

fn hold_v1(hold: &Hold) -> HoldV1 {
    HoldV1 {
        level: hold.level.as_str().to_owned(),
        reason: hold.reason.clone(),
        by_uid: hold.by.uid,
        by_name: hold.by.name.clone(),
        since_ms: hold.since.0,
        until_ms: hold.until.as_ref().map(|end| end.wall.0),
        until_boot_id: hold.until.as_ref().map(|end| end.boot_id.clone()).unwrap_or_default(),
        until_mono_ms: hold.until.as_ref().map_or(0, |end| end.mono.0),
        reopen: hold.until.as_ref().is_some_and(|end| end.reopen),
        except: hold.except.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn hold_from(service: &str, requester: &str, text: &str) -> Result<Hold, String> {
    hold_from_v1(service, requester, serde_json::from_str(text).map_err(|error| error.to_string())?)
}

fn hold_from_v1(service: &str, requester: &str, hold: HoldV1) -> Result<Hold, String> {
    Ok(Hold {
        service: ServiceName::new(service).map_err(|error| error.to_string())?,
        requester: Requester::new(requester).map_err(|error| error.to_string())?,
        level: match hold.level.as_str() {
            "draining" => Level::Draining,
            "stopped" => Level::Stopped,
            other => return Err(format!("unknown level `{other}`")),
        },
        reason: hold.reason,
        by: Who { uid: hold.by_uid, name: hold.by_name },
        since: Wall(hold.since_ms),
        until: hold.until_ms.map(|at| End {
            wall: Wall(at),
            boot_id: hold.until_boot_id.clone(),
            mono: Mono(hold.until_mono_ms),
            reopen: hold.reopen,
        }),
        except: hold.except.iter().map(|range| range.parse::<Cidr>()).collect::<Result<_, _>>()?,
        whole_server: false,
    })
}

#[derive(Serialize, Deserialize)]
struct ServerHoldV1 {
    hold: HoldV1,
    leaves_open: Vec<String>,
}

pub(crate) fn server_hold_to(server: &ServerHold) -> String {
    let Ok(any) = ServiceName::new(ANY) else { return String::new() };
    json(&ServerHoldV1 { hold: hold_v1(&server.on(&any)), leaves_open: server.leaves_open.iter().cloned().collect() })
}

/// Stands for a service where none is meant.
const ANY: &str = "server";

/// `covers` is a table of its own.
pub(crate) fn server_hold_from(requester: &str, text: &str) -> Result<ServerHold, String> {
    let server: ServerHoldV1 = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let hold = hold_from_v1(ANY, requester, server.hold)?;
    Ok(ServerHold {
        requester: hold.requester,
        level: hold.level,
        reason: hold.reason,
        by: hold.by,
        since: hold.since,
        until: hold.until,
        except: hold.except,
        covers: BTreeSet::new(),
        leaves_open: server.leaves_open.into_iter().collect(),
    })
}

fn door_to(door: &Door) -> DoorV1 {
    let (reach, address) = match door.reach {
        Reach::Any4 => ("any4", None),
        Reach::Any6 => ("any6", None),
        Reach::Any => ("any", None),
        Reach::Addr(ip) => ("address", Some(ip)),
        Reach::Forward(ip) => ("forward", Some(ip)),
    };
    DoorV1 { proto: door.proto.as_str().to_owned(), reach: reach.to_owned(), address, port: door.port }
}

fn door_from(door: &DoorV1) -> Result<Door, String> {
    let proto = match door.proto.as_str() {
        "tcp" => Proto::Tcp,
        "udp" => Proto::Udp,
        "quic" => Proto::Quic,
        other => return Err(format!("unknown protocol `{other}`")),
    };
    let reach = match (door.reach.as_str(), door.address) {
        ("any4", None) => Reach::Any4,
        ("any6", None) => Reach::Any6,
        ("any", None) => Reach::Any,
        ("address", Some(ip)) => Reach::Addr(ip),
        ("forward", Some(ip)) => Reach::Forward(ip),
        (other, _) => return Err(format!("unknown reach `{other}`")),
    };
    Ok(Door { proto, reach, port: door.port })
}

fn tree_to(tree: &Tree) -> TreeV1 {
    TreeV1 {
        root: tree.root,
        started_ticks: tree.started_ticks,
        executable: tree.executable.clone(),
        command: tree.command.clone(),
    }
}

fn tree_from(tree: TreeV1) -> Tree {
    Tree { root: tree.root, started_ticks: tree.started_ticks, executable: tree.executable, command: tree.command }
}

pub(crate) fn record_to(record: &Record) -> String {
    json(&RecordV1 {
        doors: record.doors.iter().map(door_to).collect(),
        added: record.added.iter().map(door_to).collect(),
        aliases: record.aliases.iter().cloned().collect(),
        units: record.units.clone(),
        sockets: record.sockets.clone(),
        trees: record.trees.iter().map(tree_to).collect(),
        drain: record.drain.as_ref().map(|drain| DrainV1 {
            requester: drain.requester.as_str().to_owned(),
            began_ms: drain.began.0,
            began_mono_ms: drain.began_mono.0,
            boot_id: drain.boot_id.clone(),
            at_start: drain.at_start,
            leaks: drain.leaks,
            drained_ms: drain.drained_at.map(|at| at.0),
            watcher: drain.watcher.map(|watcher| (watcher.pid, watcher.started_ticks)),
            spec: drain.spec.as_ref().map(spec_to),
            deadline_mono_ms: drain.deadline.map(|at| at.0),
        }),
        stopped: record
            .stopped
            .iter()
            .map(|stopped| match stopped {
                Stopped::Unit(name) => StoppedV1::Unit(name.clone()),
                Stopped::Tree(tree) => StoppedV1::Tree(tree_to(tree)),
            })
            .collect(),
        own_probes: record.own_probes,
        refused_before: record.refused_before,
        neighbours: record.neighbours.iter().copied().collect(),
        learn: record.learn.as_ref().map(|learn| LearnV1 {
            boot_id: learn.boot_id.clone(),
            span_ms: learn.span.0,
            doors: learn.doors.iter().map(door_to).collect(),
        }),
    })
}

pub(crate) const fn then_to(then: Then) -> &'static str {
    match then {
        Then::Ask => "ask",
        Then::End => "end",
        Then::Cut => "cut",
    }
}

pub(crate) fn then_from(then: &str) -> Result<Then, String> {
    match then {
        "ask" => Ok(Then::Ask),
        "end" => Ok(Then::End),
        "cut" => Ok(Then::Cut),
        other => Err(format!("unknown end of a deadline `{other}`")),
    }
}

fn spec_to(spec: &DrainSpec) -> SpecV1 {
    SpecV1 {
        deadline_ms: spec.deadline.map(|span| span.0),
        then: then_to(spec.then).to_owned(),
        stop: spec.stop,
        settle_ms: spec.settle.0,
        grace_ms: spec.grace.0,
        learn_ms: spec.learn.0,
        idle_now: spec.idle == When::Now,
        active_now: spec.active == When::Now,
        per_hour: spec.pace.per_hour,
        over_ms: spec.pace.over.map(|span| span.0),
        queue: (spec.queue != Queue::Leave).then(|| spec.queue.to_string()),
    }
}

fn spec_from(spec: &SpecV1) -> Result<DrainSpec, String> {
    Ok(DrainSpec {
        deadline: spec.deadline_ms.map(Span),
        then: then_from(&spec.then)?,
        stop: spec.stop,
        settle: Span(spec.settle_ms),
        grace: Span(spec.grace_ms),
        learn: Span(spec.learn_ms),
        idle: if spec.idle_now { When::Now } else { When::Deadline },
        active: if spec.active_now { When::Now } else { When::Deadline },
        pace: Pace { per_hour: spec.per_hour, over: spec.over_ms.map(Span) },
        queue: spec.queue.as_deref().map_or(Ok(Queue::Leave), str::parse)?,
    })
}

pub(crate) fn record_from(service: &str, text: &str) -> Result<Record, String> {
    let record: RecordV1 = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let drain = record.drain.map(|drain| -> Result<DrainRecord, String> {
        Ok(DrainRecord {
            requester: Requester::new(drain.requester).map_err(|error| error.to_string())?,
            began: Wall(drain.began_ms),
            began_mono: Mono(drain.began_mono_ms),
            boot_id: drain.boot_id,
            at_start: drain.at_start,
            leaks: drain.leaks,
            drained_at: drain.drained_ms.map(Wall),
            watcher: drain.watcher.map(|(pid, started_ticks)| Watcher { pid, started_ticks }),
            spec: drain.spec.as_ref().map(spec_from).transpose()?,
            deadline: drain.deadline_mono_ms.map(Mono),
        })
    });
    Ok(Record {
        service: ServiceName::new(service).map_err(|error| error.to_string())?,
        doors: record.doors.iter().map(door_from).collect::<Result<_, _>>()?,
        added: record.added.iter().map(door_from).collect::<Result<_, _>>()?,
        aliases: record.aliases.into_iter().collect(),
        units: record.units,
        sockets: record.sockets,
        trees: record.trees.into_iter().map(tree_from).collect(),
        drain: drain.transpose()?,
        stopped: record
            .stopped
            .into_iter()
            .map(|stopped| match stopped {
                StoppedV1::Unit(name) => Stopped::Unit(name),
                StoppedV1::Tree(tree) => Stopped::Tree(tree_from(tree)),
            })
            .collect(),
        own_probes: record.own_probes,
        refused_before: record.refused_before,
        neighbours: record.neighbours.into_iter().collect(),
        learn: record.learn.map(learn_from).transpose()?,
    })
}

fn learn_from(learn: LearnV1) -> Result<Learn, String> {
    Ok(Learn {
        boot_id: learn.boot_id,
        span: Span(learn.span_ms),
        doors: learn.doors.iter().map(door_from).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn fields_to(event: &Event) -> String {
    let fields: Vec<(&str, &str)> =
        event.fields.iter().map(|field| (field.name.as_ref(), field.value.as_str())).collect();
    json(&fields)
}

/// A row of the history.
pub(crate) struct EventRow {
    sequence: i64,
    at_ms: i64,
    number: u16,
    service: Option<String>,
    text: String,
    fields: String,
}

impl EventRow {
    pub(crate) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            sequence: row.get(0)?,
            at_ms: row.get(1)?,
            number: row.get(2)?,
            service: row.get(3)?,
            text: row.get(4)?,
            fields: row.get(5)?,
        })
    }

    pub(crate) fn into_event(self) -> Option<(u64, Event)> {
        let kind = *EventKind::ALL.iter().find(|kind| kind.number() == self.number)?;
        let fields: Vec<(String, String)> = serde_json::from_str(&self.fields).ok()?;
        let event = Event {
            at: Wall(self.at_ms),
            kind,
            service: self.service.and_then(|name| ServiceName::new(name).ok()),
            text: self.text,
            fields: fields.into_iter().map(|(name, value)| Field { name: name.into(), value }).collect(),
        };
        Some((u64::try_from(self.sequence).unwrap_or(0), event))
    }
}
