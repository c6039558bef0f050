//! Sessions, and the census that counts them.

use std::fmt;
use std::net::SocketAddr;

use crate::{Mono, Span, Stay, Use, Why};

/// Names a session for this boot: the kernel's socket cookie, which is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:x}", self.0))
    }
}

impl std::str::FromStr for SessionId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// The handshake is under way (`SYN_RECV`).
    Opening,
    /// The client is connected, the service has not accepted it yet.
    NotAccepted,
    /// Both sides are open.
    Established,
    /// The client has closed, the service has not (`CLOSE_WAIT`).
    PeerClosed,
    /// The service has closed and the kernel still sends what is left (`FIN_WAIT`, `CLOSING`, `LAST_ACK`),
    /// a process holds the socket.
    Closing,
    /// As `Closing`, but only the kernel owns it: no session any more.
    Orphan,
    /// A UDP flow with traffic within the learning time.
    Flow,
    /// No connection at all: the daemon alone knows it, as a call over UDP.
    Use,
}

impl SessionState {
    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::NotAccepted => "not accepted",
            Self::Established => "established",
            Self::PeerClosed => "peer closed",
            Self::Closing => "closing",
            Self::Orphan => "orphan",
            Self::Flow => "flow",
            Self::Use => "no connection",
        }
    }
}

/// How old a session is: the kernel does not record it, so mostly bounds are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Known to the clock's precision.
    Exactly(Span),
    /// Not younger than this.
    AtLeast(Span),
    /// Between two bounds.
    Between(Span, Span),
    /// Nothing is known.
    Unknown,
}

impl Age {
    /// The same session, known to be at least `span` old.
    #[must_use]
    pub fn not_younger_than(self, span: Span) -> Self {
        match self {
            Self::Unknown => Self::AtLeast(span),
            Self::AtLeast(age) => Self::AtLeast(age.max(span)),
            Self::Between(least, most) if span <= most => Self::Between(least.max(span), most),
            // An exact age that a witness contradicts was not exact: the witness is right.
            Self::Between(..) => Self::AtLeast(span),
            Self::Exactly(age) if age >= span => self,
            Self::Exactly(_) => Self::AtLeast(span),
        }
    }

    /// The part that is certain.
    #[must_use]
    pub const fn at_least(self) -> Span {
        match self {
            Self::Exactly(age) | Self::AtLeast(age) | Self::Between(age, _) => age,
            Self::Unknown => Span::ZERO,
        }
    }
}

/// Who knows of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SeenBy {
    /// The kernel; its daemon was not asked, or cannot tell.
    #[default]
    Kernel,
    /// Both: the daemon's use and the kernel's socket are one.
    Both,
    /// The kernel alone: the daemon was asked, and does not know this connection.
    KernelAlone,
    /// The daemon alone, and rightly: it needs no connection.
    Daemon,
    /// The daemon alone, although it should have a connection: it has just ended, or is a ghost.
    DaemonAlone,
}

impl SeenBy {
    /// In a few words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Both => "both",
            Self::KernelAlone => "kernel alone",
            Self::Daemon => "daemon",
            Self::DaemonAlone => "daemon alone",
        }
    }
}

/// One use of a service by one client: one connection, or what its daemon calls one.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Its name for this boot.
    pub id: SessionId,
    /// The client's end.
    pub peer: SocketAddr,
    /// The server's end.
    pub local: SocketAddr,
    /// How far it is.
    pub state: SessionState,
    /// How old it is.
    pub age: Age,
    /// Since data last moved in either direction.
    pub idle: Span,
    /// Bytes received from the client.
    pub bytes_in: u64,
    /// Bytes the client has acknowledged.
    pub bytes_out: u64,
    /// The socket's inode, 0 while the service has not accepted it.
    pub inode: u32,
    /// Process that holds it, where it was looked up: pid and name.
    pub process: Option<(u32, String)>,
    /// Let in past a shut gate by `--except`.
    pub excepted: bool,
    /// Why it is still here.
    pub stay: Stay,
    /// What its daemon tells of it: several on a connection that many share.
    pub uses: Vec<Use>,
    /// Who knows of it.
    pub seen_by: SeenBy,
}

impl Session {
    /// Whether *drained* waits for it: replication and monitoring are no users'.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.uses.is_empty() && self.stay != Stay::Carries || self.uses.iter().any(|one| one.role == crate::Role::User)
    }
}

/// How many sessions are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted by the service and not ended: established, peer closed, closing with an owner; UDP flows.
    pub accepted: u64,
    /// Connected, not yet accepted by the service (inode 0).
    pub not_accepted: u64,
    /// Handshakes under way.
    pub opening: u64,
    /// Sockets that only the kernel still owns; no sessions, shown apart.
    pub orphans: u64,
    /// Of the above but the orphans: let in by `--except` after the gate was shut.
    pub excepted: u64,
}

impl Counts {
    /// Everything that must be gone before the service is drained.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.accepted + self.not_accepted + self.opening
    }

    /// Counts one session in.
    pub const fn add(&mut self, state: SessionState, excepted: bool) {
        match state {
            SessionState::Opening => self.opening += 1,
            SessionState::NotAccepted => self.not_accepted += 1,
            SessionState::Established
            | SessionState::PeerClosed
            | SessionState::Closing
            | SessionState::Flow
            | SessionState::Use => {
                self.accepted += 1;
            }
            SessionState::Orphan => self.orphans += 1,
        }
        if excepted && !matches!(state, SessionState::Orphan) {
            self.excepted += 1;
        }
    }
}

/// The session that has been here longest, as far as known.
#[derive(Clone, Debug, PartialEq)]
pub struct Oldest {
    /// Its name.
    pub id: SessionId,
    /// Its client.
    pub peer: SocketAddr,
    /// Its age.
    pub age: Age,
}

/// One whole, timed observation of a service's sessions; never a delta.
#[derive(Clone, Debug, PartialEq)]
pub struct Census {
    /// When it was taken.
    pub at: Mono,
    /// Whether it was read from the kernel row by row just now. Between two such censuses the
    /// number is kept from the kernel's own closing events, and this is false.
    pub full: bool,
    /// The numbers, or why they could not be read. A count that could not be read is not zero.
    pub counts: Result<Counts, Why>,
    /// The oldest session, if any.
    pub oldest: Option<Oldest>,
}
