//! What people are told of a drain or a maintenance.

use crate::{Occasion, ServiceName, Wall};

/// One thing that people are told, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which moment it is about.
    pub occasion: Occasion,
    /// What it is about, as in `maintenance/RUN/start`: a second one of the same key is the same notice, and is not sent.
    pub key: String,
    /// What is told.
    pub about: About,
    /// The users of the sessions that it is about: mail addresses, or names where nothing else is known.
    pub users: Vec<String>,
}

/// What a notice tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What begins, ends, or is in trouble.
    pub matter: Matter,
    /// On which server.
    pub server: String,
    /// Which services.
    pub services: Vec<NoticeService>,
    /// Why, in the requester's words; may be empty.
    pub reason: String,
    /// In whose name.
    pub requester: String,
    /// Who asked for it.
    pub by: String,
    /// When it happens, or happened.
    pub at: Wall,
    /// When it is meant to be over.
    pub until: Option<Wall>,
    /// What is wrong, in a sentence.
    pub trouble: Option<String>,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// The drain of one service.
    Drain,
    /// The maintenance of a server.
    Maintenance,
    /// Whether notices arrive.
    Test,
}

impl Matter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Drain, Self::Maintenance, Self::Test];

    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
            Self::Test => "test",
        }
    }
}

/// A service in a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeService {
    /// Its name.
    pub name: ServiceName,
    /// How many sessions are left; none if they were not counted.
    pub sessions: Option<u64>,
}

/// A notice for one recipient by one notifier, as it is kept until it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The notice.
    pub notice: Notice,
    /// By which notifier: the `NAME` of `[notify.NAME]`.
    pub notifier: String,
    /// To whom: a mail address; empty where the notifier itself says it.
    pub recipient: String,
    /// What has become of it.
    pub state: Sending,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// Since when.
    pub since: Wall,
    /// Not tried before.
    pub next: Wall,
}

/// What has become of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It is yet to be sent.
    Queued,
    /// The other end has taken it.
    Sent,
    /// It was given up.
    Failed,
}

impl Sending {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Queued, Self::Sent, Self::Failed];

    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }
}
