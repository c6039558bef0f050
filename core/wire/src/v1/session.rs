//! Sessions, and lists of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Age;

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its name for this boot, for `ebb end --session`.
    pub id: String,
    /// Client address and port.
    pub peer: String,
    /// Its name, where it was asked for and is known.
    pub peer_name: Option<String>,
    /// Server address and port.
    pub local: String,
    /// `established`, `not accepted`, ...
    pub state: String,
    /// How old.
    pub age: Age,
    /// Since data last moved, in seconds.
    pub idle_seconds: f64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client, acknowledged.
    pub bytes_out: u64,
    /// Process that holds it.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<String>,
    /// Why it is still here.
    pub why: String,
    /// Who it is, as the service's daemon tells: a login, a SIP address, a JID.
    pub user: Option<String>,
    /// What it does, as the daemon tells: `IDLE`, `idle in transaction`, `call to ...`.
    pub what: Option<String>,
    /// How many sessions of the daemon are on this connection: none if it was not asked or does not know it.
    pub uses: u64,
    /// Who knows of it: `kernel` (the daemon was not asked), `both`, `kernel alone`, `daemon` (it needs no connection),
    /// `daemon alone` (it should have one: a ghost).
    pub seen_by: String,
    /// Whether *drained* waits for it.
    pub counts: bool,
    /// What becomes of it at the deadline of the drain that it stands in the way of.
    pub at_deadline: Option<AtDeadline>,
}

/// What becomes of a session at a deadline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AtDeadline {
    /// How likely it has ended by itself before, 0 to 1; none if too little is known of lifetimes.
    pub gone: Option<f64>,
    /// What is done to it else: `left`, `goodbye`, `cut`.
    pub then: String,
}

/// What can be done about sessions that are here for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Advice {
    /// The reason, as `why` of a session says it, without its numbers.
    pub why: String,
    /// How many sessions are.
    pub count: u64,
    /// What it means, and what helps.
    pub text: String,
}

/// The list of sessions is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Listed {
    /// Of which service.
    pub service: String,
    /// How many there are, listed or not.
    pub total: u64,
    /// How many were listed.
    pub shown: u64,
    /// Sockets that only the kernel still owns: no sessions.
    pub orphans: u64,
    /// For each reason that somebody can do something about.
    pub advice: Vec<Advice>,
}
