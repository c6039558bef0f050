//! Requests: one per verb.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything that can be asked of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Which services there are.
    Services {
        /// Count their sessions too.
        count: bool,
    },
    /// Drain services.
    Drain(DrainRequest),
    /// List the sessions of one service.
    Sessions(SessionsRequest),
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
    /// Lift the protection of sessions, or restore it.
    Protect(ProtectRequest),
    /// What happened.
    Events(EventsRequest),
    /// Watch the drains that are under way in a resident agent.
    Watch(WatchRequest),
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
