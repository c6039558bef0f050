//! Requests: one per verb.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything that can be asked of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Which services there are.
    Services {
        /// Ask their daemons what they can do.
        daemons: bool,
        /// Count their sessions too.
        count: bool,
    },
    /// Drain services.
    Drain(DrainRequest),
    /// List the sessions of one service.
    Sessions(SessionsRequest),
    /// When the sessions of one service will have gone.
    Eta(EtaRequest),
    /// End sessions of one service.
    End(EndRequest),
    /// Bring services back.
    Resume(ResumeRequest),
    /// Place a hold without waiting for anything.
    Hold(HoldRequest),
    /// Release a hold without starting anything.
    Release(ReleaseRequest),
    /// All holds.
    Holds,
    /// Held services as they are now.
    Status {
        /// Only these; all held ones if empty.
        services: Vec<String>,
    },
    /// What is not as it should be.
    Doctor,
    /// Ask the guards.
    Check(CheckRequest),
    /// Lift the protection of sessions, or restore it.
    Protect(ProtectRequest),
    /// What happened.
    Events(EventsRequest),
    /// Watch the drains that are under way in a resident agent.
    Watch(WatchRequest),
    /// Take the whole server out of service, and bring it back.
    Maintenance(MaintenanceRequest),
    /// Who is told of drains and maintenances, and what could not be sent.
    Notifiers,
    /// Send a test notice.
    NotifyTest {
        /// By this notifier only; by all if none.
        name: Option<String>,
    },
}

/// Which services a verb means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// By name.
    pub services: Vec<String>,
    /// All of them.
    pub all: bool,
    /// But not these.
    pub not: Vec<String>,
    /// The whole server, with services that come later; `not`, and those that the configuration leaves open, stay open.
    #[serde(default)]
    pub server: bool,
}

/// A wish to hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// In whose name.
    pub requester: String,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// For how long it is meant, in seconds.
    pub for_seconds: Option<u64>,
    /// Bring the service back then; else it stays as it is, and that is an alarm.
    #[serde(default)]
    pub reopen: bool,
    /// Address ranges that may still come in.
    pub except: Vec<String>,
    /// Nobody can be asked for a reason: without one, and without one in the configuration, it is refused.
    #[serde(default)]
    pub unasked: bool,
}

/// What happens at a deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Say who remains and change nothing more.
    #[default]
    Ask,
    /// Goodbye, grace, destroy.
    End,
    /// Destroy at once.
    Cut,
}

/// When sessions of a class are told goodbye.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// They are waited for; at the deadline with `end`.
    #[default]
    Wait,
    /// As soon as they are seen.
    Now,
}

/// `ebb drain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Which services.
    pub which: Which,
    /// The hold.
    pub wish: Wish,
    /// Stop waiting after this many seconds.
    pub deadline_seconds: Option<u64>,
    /// What happens then.
    pub then: Then,
    /// Stop the service when it is drained.
    pub stop: bool,
    /// Quiet time before *drained* is said, in milliseconds.
    pub settle_ms: u64,
    /// Between goodbye and destruction, in milliseconds.
    pub grace_ms: u64,
    /// How long UDP flows are learnt at doors that are not shut yet, in seconds.
    pub learn_seconds: u64,
    /// When those who are idle are told goodbye.
    #[serde(default)]
    pub idle: When,
    /// When those who are at work are.
    #[serde(default)]
    pub active: When,
    /// At most so many are ended in a second.
    #[serde(default)]
    pub rate_per_second: Option<f64>,
    /// Endings are spread out over so many seconds.
    #[serde(default)]
    pub over_seconds: Option<u64>,
    /// What becomes of a mail server's queue: `leave`, `flush` or `move:HOST:PORT`.
    #[serde(default)]
    pub queue: Option<String>,
    /// Print what would happen, and change nothing. Wins over everything else.
    pub dry_run: bool,
}

/// Order of a list of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Oldest first.
    #[default]
    Age,
    /// Longest idle first.
    Idle,
    /// Most bytes first.
    Bytes,
    /// By client address.
    Peer,
}

/// `ebb sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionsRequest {
    /// Which service.
    pub service: String,
    /// Order.
    pub sort: Sort,
    /// At most so many; all if none.
    pub limit: Option<usize>,
    /// Look up which process holds each.
    pub processes: bool,
    /// Look up the names of clients' addresses.
    pub names: bool,
}

/// `ebb eta`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EtaRequest {
    /// Which service.
    pub service: String,
    /// A drain that would begin then, with those who are usually there at that hour; now if none.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<jiff::Timestamp>,
    /// How many would be left after so many seconds.
    #[serde(default)]
    pub deadline_seconds: Option<u64>,
}

/// Which sessions to end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Choose {
    /// These, by id.
    Ids(Vec<String>),
    /// Those from an address range.
    Peer(String),
    /// Those idle for longer than this, in seconds.
    IdleOver(u64),
    /// Those of this user, as the service's daemon names them.
    User(String),
    /// All.
    All,
}

/// `ebb end`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndRequest {
    /// Of which service.
    pub service: String,
    /// Which sessions.
    pub choose: Choose,
    /// Destroy at once, without goodbye and grace.
    pub cut: bool,
    /// At most so many per second.
    pub rate_per_second: Option<f64>,
    /// Spread evenly over this many seconds.
    pub over_seconds: Option<u64>,
    /// Between goodbye and destruction, in milliseconds.
    pub grace_ms: u64,
    /// Only say which.
    pub dry_run: bool,
}

/// `ebb resume`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// Which services; with `all`, those that the requester holds.
    pub which: Which,
    /// In whose name.
    pub requester: String,
    /// How long a service may take to be up, in seconds.
    pub up_within_seconds: u64,
    /// Take the doors that it has now for those that it should have.
    #[serde(default)]
    pub as_is: bool,
    /// Release the holds of all requesters, for this reason.
    #[serde(default)]
    pub all_holders: Option<String>,
    /// Print what would happen, and change nothing.
    pub dry_run: bool,
}

/// `ebb hold`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Which services.
    pub which: Which,
    /// The hold.
    pub wish: Wish,
    /// How long UDP flows are learnt at doors that are not shut yet, in seconds.
    #[serde(default = "learn_seconds")]
    pub learn_seconds: u64,
    /// Print what would happen, and change nothing.
    pub dry_run: bool,
}

/// Of who does not say: the longest keepalive of a common protocol.
const fn learn_seconds() -> u64 {
    30
}

/// `ebb release`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Which services.
    pub which: Which,
    /// In whose name.
    pub requester: String,
    /// Print what would happen, and change nothing.
    pub dry_run: bool,
}

/// `ebb check`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// Which guards; all if empty.
    pub guards: Vec<String>,
    /// Keep the list, to compare later ones with it.
    #[serde(default)]
    pub save: bool,
    /// Compare with the list that was kept.
    #[serde(default)]
    pub against: bool,
    /// The asker's process: its own login is not somebody else's.
    #[serde(default)]
    pub asker_pid: Option<u32>,
}

/// `ebb events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsRequest {
    /// Only of this service.
    pub service: Option<String>,
    /// The last so many.
    pub last: usize,
    /// Go on with new ones until the asker leaves.
    pub follow: bool,
    /// All after this place in the history come first, however many.
    #[serde(default)]
    pub after: Option<u64>,
}

/// `ebb watch`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// Which drains; all that are under way if empty.
    pub services: Vec<String>,
    /// They were watched before, and their agent has ended: say what became of those that are over.
    #[serde(default)]
    pub rejoin: bool,
}

/// `ebb maintenance`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum MaintenanceRequest {
    /// Begin one, or go on with the one that halted.
    Start(MaintenanceStart),
    /// How far it is.
    Status,
    /// Watch it until it rests.
    Watch,
    /// The work is done, or is not to be done: bring the server back.
    Finish(MaintenanceFinish),
}

/// `ebb maintenance start`, `ebb drain --server`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceStart {
    /// The hold on the server.
    pub wish: Wish,
    /// Services that stay open, beside those that the configuration leaves open.
    #[serde(default)]
    pub not: Vec<String>,
    /// Stop waiting for the sessions of a service after this many seconds; the configuration's if none.
    #[serde(default)]
    pub deadline_seconds: Option<u64>,
    /// What happens then; the configuration's if none.
    #[serde(default)]
    pub then: Option<Then>,
    /// Tell people, and begin after so many seconds.
    #[serde(default)]
    pub delay_seconds: u64,
    /// The work: program and arguments. By hand if empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// The work is a reboot.
    #[serde(default)]
    pub reboot: bool,
    /// Everything but stop and work, and then back.
    #[serde(default)]
    pub drill: bool,
    /// How long the server is watched after it was opened, in seconds; the configuration's if none.
    #[serde(default)]
    pub watch_seconds: Option<u64>,
    /// Go on in spite of guards that refuse, for this reason.
    #[serde(default)]
    pub override_guards: Option<String>,
    /// The process that asks: its own login is not somebody else's.
    #[serde(default)]
    pub asker_pid: Option<u32>,
    /// Print what would happen, and change nothing. Wins over everything else.
    #[serde(default)]
    pub dry_run: bool,
}

/// `ebb maintenance finish`, `ebb resume --server`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceFinish {
    /// In whose name.
    pub requester: String,
    /// Open although a check is worse than before, for this reason.
    #[serde(default)]
    pub accept_worse: Option<String>,
    /// Print what would happen, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// `ebb protect`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProtectRequest {
    /// Lift it; else restore it.
    pub off: bool,
    /// Why it is lifted.
    #[serde(default)]
    pub reason: String,
    /// For how long, in seconds; until the next boot if none.
    #[serde(default)]
    pub for_seconds: Option<u64>,
}
