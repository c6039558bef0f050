//! What happens to units, as edges.
//!
//! systemd announces every property change in pairs, repeats equal values and tells nothing about
//! what was missed. This reduces it to edges of `ActiveState` and says when the view was lost.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use zbus::{Connection, Message, MessageStream, OwnedVariant, Variant, export::futures_core::Stream};

use crate::{
    ActiveState, JobEnd, Systemd, UnitName,
    bus::{self, Fault, MANAGER, NAME, PROPERTIES, ROOT, UNIT},
    jobs::job_removed,
    object_path,
};

/// First pause between attempts to reach the bus again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// From here on nothing is missed. Comes first, and after each `Lost`: read the states you care for now.
    Back,
    /// The bus went away (or systemd left it): changes are missed until `Back`.
    Lost,
    /// systemd has read its unit files again: what you know of units may be old.
    Reloaded,
    /// A unit changed its state.
    State(StateEdge),
    /// A job was queued for a unit. (Which kind is seen by what the unit does.)
    JobQueued {
        /// The unit.
        unit: UnitName,
        /// The job's number.
        job: u32,
    },
    /// A job ended.
    JobEnded {
        /// The unit.
        unit: UnitName,
        /// The job's number.
        job: u32,
        /// How.
        end: JobEnd,
    },
}

/// A unit went from one state to another. A restart is several edges, through `Inactive`; while
/// there is a `job`, none of them is settled: wait for its `JobEnded`, then read the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEdge {
    /// The unit.
    pub unit: UnitName,
    /// Its state before; units that were not loaded count as inactive.
    pub from: ActiveState,
    /// Its state now.
    pub to: ActiveState,
    /// Its state now in the words of its kind (`auto-restart`, `exited`, ...).
    pub sub: String,
    /// The job that is still queued or running for it: also the very one that caused this edge.
    pub job: Option<u32>,
}

/// Follows all units of the system. On its own connection, so that an owner who looks away holds up nobody's calls.
#[derive(Debug)]
pub struct Changes {
    systemd: Systemd,
    live: Option<Live>,
    states: HashMap<UnitName, ActiveState>,
    ready: VecDeque<Change>,
    pause: Duration,
    try_at: Option<Instant>,
    attempt: Option<Attempt>,
}

type View = (Live, HashMap<UnitName, ActiveState>);

/// An attempt to reach the bus, kept between calls of `next`: an owner with much else to do drops
/// those calls more quickly than the bus answers.
struct Attempt(Pin<Box<dyn Future<Output = Result<View, Fault>> + Send>>);

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt")
    }
}

#[derive(Debug)]
struct Live {
    stream: MessageStream,
    // The stream alone would do; that it keeps the connection open is said here.
    _open: Connection,
}

impl Changes {
    pub(crate) fn new(systemd: Systemd) -> Self {
        Self {
            systemd,
            live: None,
            states: HashMap::new(),
            ready: VecDeque::new(),
            pause: PAUSE.0,
            try_at: None,
            attempt: None,
        }
    }

    /// The next change; waits for ever. May be dropped and called again (`select!`) without loss.
    /// Nothing is read between calls, so do not stay away for minutes: the bus keeps what was not
    /// read, up to its own limit.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return change;
            }
            let Some(live) = &mut self.live else {
                self.reach().await;
                continue;
            };
            match poll_fn(|cx| Pin::new(&mut live.stream).poll_next(cx)).await {
                Some(Ok(message)) => self.take(&message),
                Some(Err(_)) => {}
                None => self.lose(),
            }
        }
    }

    fn lose(&mut self) {
        self.live = None;
        self.ready.push_back(Change::Lost);
    }

    /// Goes on with the attempt to connect, subscribe and read the first states; a pause after a failure.
    async fn reach(&mut self) {
        if self.attempt.is_none() {
            if let Some(at) = self.try_at {
                sleep_until(at).await;
            }
            self.try_at = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        let systemd = &self.systemd;
        let attempt = self.attempt.get_or_insert_with(|| Attempt(Box::pin(connect(systemd.clone()))));
        let reached = poll_fn(|cx| attempt.0.as_mut().poll(cx)).await;
        self.attempt = None;
        if let Ok((live, states)) = reached {
            self.live = Some(live);
            self.states = states;
            self.pause = PAUSE.0;
            self.ready.push_back(Change::Back);
        }
    }

    fn take(&mut self, message: &Message) {
        let header = message.header();
        let Some(member) = header.member() else {
            return;
        };
        let change = match member.as_str() {
            "PropertiesChanged" => self.edge(message),
            "JobNew" => job_queued(message),
            "JobRemoved" => job_ended(message),
            // Sent twice: true when it begins, false when it is done.
            "Reloading" => (message.body().deserialize::<bool>().ok() == Some(false)).then_some(Change::Reloaded),
            // systemd left the bus or came to it: our subscription is gone with the old name.
            "NameOwnerChanged" => return self.lose(),
            // UnitRemoved is no end of a unit: a reload sends it for every unit.
            _ => None,
        };
        self.ready.extend(change);
    }

    fn edge(&mut self, message: &Message) -> Option<Change> {
        let unit = object_path::to_unit(message.header().path()?.as_str())?;
        type Body = (String, HashMap<String, OwnedVariant>, Vec<String>);
        let (_, changed, _) = message.body().deserialize::<Body>().ok()?;
        let to = ActiveState::from_word(word(&changed, "ActiveState")?);
        let sub = word(&changed, "SubState").unwrap_or_default().to_owned();
        let job = match changed.get("Job").map(|job| &**job) {
            Some(Variant::Structure(job)) => match job.fields().first() {
                Some(Variant::U32(id)) if *id != 0 => Some(*id),
                _ => None,
            },
            _ => None,
        };
        let from = self.go(&unit, &to)?;
        Some(Change::State(StateEdge { unit, from, to, sub, job }))
    }

    /// Notes the state; gives the one before if it was another.
    fn go(&mut self, unit: &UnitName, to: &ActiveState) -> Option<ActiveState> {
        let from = match to {
            // Inactive is what unknown units are, so it need not be kept.
            ActiveState::Inactive => self.states.remove(unit),
            _ => self.states.insert(unit.clone(), to.clone()),
        }
        .unwrap_or(ActiveState::Inactive);
        (from != *to).then_some(from)
    }
}

fn word<'a>(changed: &'a HashMap<String, OwnedVariant>, key: &str) -> Option<&'a str> {
    match changed.get(key).map(|value| &**value) {
        Some(Variant::Str(text)) => Some(text.as_str()),
        _ => None,
    }
}

fn job_queued(message: &Message) -> Option<Change> {
    let body = message.body();
    let (job, _, unit) = body.deserialize::<(u32, zbus::OwnedObjectPath, String)>().ok()?;
    Some(Change::JobQueued { unit: UnitName::new(&unit).ok()?, job })
}

fn job_ended(message: &Message) -> Option<Change> {
    let (job, _, unit, result) = job_removed(message)?;
    let unit = UnitName::new(&unit).ok()?;
    Some(Change::JobEnded { unit, job, end: JobEnd::from_word(&result) })
}

/// Subscribes first and reads the states afterwards: a change in between is seen twice, never missed.
async fn connect(systemd: Systemd) -> Result<View, Fault> {
    let open = systemd.bus.own_line().await?;
    let rules = [
        format!(
            "type='signal',sender='{NAME}',interface='{PROPERTIES}',member='PropertiesChanged',path_namespace='{ROOT}/unit',arg0='{UNIT}'"
        ),
        format!("type='signal',sender='{NAME}',interface='{MANAGER}',path='{ROOT}'"),
        format!("type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{NAME}'"),
    ];
    bus::subscribe(&open, &rules).await?;
    // Not before: a stream that fills up while nobody polls it would hold up the calls above.
    let stream = MessageStream::from(&open);
    // On the other connection: this one's stream is not polled meanwhile.
    let lines = systemd.all_rows().await?;
    let states = lines
        .into_iter()
        .filter(|line| line.active != ActiveState::Inactive)
        .map(|line| (line.name, line.active))
        .collect();
    Ok((Live { stream, _open: open }, states))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(unit: &str, state: &str, job: u32) -> Message {
        let path = object_path::of_unit(&UnitName::new(unit).unwrap());
        let job_path = zbus::ObjectPath::try_from("/").unwrap();
        let values: HashMap<&str, Variant<'_>> = HashMap::from([
            ("ActiveState", Variant::from(state)),
            ("SubState", Variant::from("x")),
            ("Job", Variant::from((job, job_path))),
        ]);
        let none: Vec<&str> = Vec::new();
        Message::signal(path.as_str(), PROPERTIES, "PropertiesChanged").build(&(UNIT, values, none)).unwrap()
    }

    fn edges(changes: &mut Changes) -> Vec<(String, ActiveState, ActiveState, Option<u32>)> {
        let all = changes.ready.drain(..);
        all.filter_map(|change| match change {
            Change::State(edge) => Some((edge.unit.to_string(), edge.from, edge.to, edge.job)),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn repetitions_are_no_edges_and_a_restart_shows_its_job() {
        let mut changes = Changes::new(Systemd::new());
        for (state, job) in [
            ("active", 0),
            ("active", 0),
            ("deactivating", 9),
            ("deactivating", 9),
            ("inactive", 9),
            ("inactive", 9),
            ("active", 0),
        ] {
            changes.take(&changed("x.service", state, job));
        }
        let x = "x.service".to_owned();
        assert_eq!(
            edges(&mut changes),
            [
                (x.clone(), ActiveState::Inactive, ActiveState::Active, None),
                (x.clone(), ActiveState::Active, ActiveState::Deactivating, Some(9)),
                (x.clone(), ActiveState::Deactivating, ActiveState::Inactive, Some(9)),
                (x, ActiveState::Inactive, ActiveState::Active, None),
            ]
        );
    }

    /// A reload forgets every unit and makes it anew: seen on 252. That is not a stop.
    #[test]
    fn a_forgotten_unit_has_not_stopped() {
        let mut changes = Changes::new(Systemd::new());
        changes.take(&changed("x.service", "active", 0));
        let path = zbus::ObjectPath::try_from("/x").unwrap();
        let removed = Message::signal(ROOT, MANAGER, "UnitRemoved").build(&("x.service", path)).unwrap();
        changes.take(&removed);
        changes.take(&changed("x.service", "active", 0));
        assert_eq!(edges(&mut changes).len(), 1);
        changes.take(&changed("x.service", "inactive", 0));
        assert_eq!(edges(&mut changes).len(), 1);
        assert!(changes.states.is_empty());
    }

    #[test]
    fn jobs_reloads_and_nonsense() {
        let mut changes = Changes::new(Systemd::new());
        let path = zbus::ObjectPath::try_from("/org/freedesktop/systemd1/job/4").unwrap();
        let signal = |member: &'static str| Message::signal(ROOT, MANAGER, member);
        changes.take(&signal("JobNew").build(&(4_u32, &path, "x.service")).unwrap());
        changes.take(&signal("JobRemoved").build(&(4_u32, &path, "x.service", "canceled")).unwrap());
        changes.take(&signal("Reloading").build(&true).unwrap());
        changes.take(&signal("Reloading").build(&false).unwrap());
        changes.take(&signal("JobRemoved").build(&"nonsense").unwrap());
        changes.take(&signal("StartupFinished").build(&(1_u64, 2_u64)).unwrap());
        let unit = UnitName::new("x.service").unwrap();
        assert_eq!(
            changes.ready,
            [
                Change::JobQueued { unit: unit.clone(), job: 4 },
                Change::JobEnded { unit, job: 4, end: JobEnd::Canceled },
                Change::Reloaded,
            ]
        );
    }
}
