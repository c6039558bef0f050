//! What a daemon itself says of its sessions: who they are, what they do, and what it can do to them.

use std::net::{IpAddr, SocketAddr};

use crate::Span;

/// A daemon that we can speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DaemonKind {
    /// Kamailio: SIP registrar and proxy.
    Kamailio,
    /// Prosody: XMPP.
    Prosody,
    /// ejabberd: XMPP.
    Ejabberd,
    /// Dovecot: IMAP, POP3.
    Dovecot,
    /// Postfix: SMTP and its queue.
    Postfix,
    /// PostgreSQL.
    Postgresql,
    /// PgBouncer, before PostgreSQL.
    Pgbouncer,
    /// HAProxy as the service itself.
    Haproxy,
    /// nginx.
    Nginx,
    /// OpenSSH's server.
    Openssh,
    /// Any other: a command of the operator's that speaks for it.
    Exec,
}

impl DaemonKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Kamailio,
        Self::Prosody,
        Self::Ejabberd,
        Self::Dovecot,
        Self::Postfix,
        Self::Postgresql,
        Self::Pgbouncer,
        Self::Haproxy,
        Self::Nginx,
        Self::Openssh,
        Self::Exec,
    ];

    /// Lower-case name, as in `ebb.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kamailio => "kamailio",
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
            Self::Dovecot => "dovecot",
            Self::Postfix => "postfix",
            Self::Postgresql => "postgresql",
            Self::Pgbouncer => "pgbouncer",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Openssh => "openssh",
            Self::Exec => "exec",
        }
    }
}

impl std::fmt::Display for DaemonKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// `[daemon.NAME]`: how the daemon of the service NAME is spoken to, where its own defaults do not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSettings {
    /// Which daemon it is; none: found by its executable.
    pub kind: Option<DaemonKind>,
    /// It is not spoken to: the kernel's view alone counts.
    pub off: bool,
    /// Its control socket: a path.
    pub socket: Option<String>,
    /// Its control address, `HOST:PORT`.
    pub address: Option<String>,
    /// As whom it is spoken to.
    pub user: Option<String>,
    /// The file that has that user's password or key.
    pub password_file: Option<String>,
    /// The database, or the configuration folder, by kind.
    pub database: Option<String>,
    /// Program and arguments of an `exec` adapter; no shell.
    pub command: Vec<String>,
    /// Who is refused is told to go there, where the protocol can say so.
    pub redirect: Option<String>,
    /// Show what a session asked last (queries may hold private data).
    pub queries: bool,
    /// Users that are no users: replication, monitoring. Their sessions are listed, and do not count.
    pub not_users: Vec<String>,
    /// No answer within this time is an answer: that it could not be told.
    pub timeout: Span,
}

impl Default for DaemonSettings {
    fn default() -> Self {
        Self {
            kind: None,
            off: false,
            socket: None,
            address: None,
            user: None,
            password_file: None,
            database: None,
            command: Vec::new(),
            redirect: None,
            queries: false,
            not_users: Vec::new(),
            timeout: Span::seconds(5),
        }
    }
}

/// Whether a daemon can do something, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It can, and may be asked now.
    Ready,
    /// It cannot: a property of the daemon. Says why in a few words.
    Never(&'static str),
    /// It could, but something is missing now.
    Missing {
        /// What.
        what: String,
        /// What helps: a command, or what to add to its configuration.
        help: String,
    },
}

impl Ability {
    /// It can, now.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// What a daemon can do for a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Its version, as it says.
    pub version: Option<String>,
    /// List its sessions with their identity.
    pub list: Ability,
    /// Refuse new work itself, while what exists goes on; where the kernel's gate does it better, `Never`.
    pub refuse: Ability,
    /// End one session by the protocol's own goodbye.
    pub end: Ability,
    /// Ask a client to go to another server.
    pub redirect: Ability,
}

impl Abilities {
    /// Nothing can be done now, for one reason.
    #[must_use]
    pub fn missing(what: &str, help: &str) -> Self {
        let missing = || Ability::Missing { what: what.to_owned(), help: help.to_owned() };
        Self { version: None, list: missing(), refuse: missing(), end: missing(), redirect: missing() }
    }
}

/// What kind of use it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UseKind {
    /// A call, a dialog of SIP.
    Call,
    /// A registration of SIP: where a phone is reached.
    Registration,
    /// An XMPP stream.
    Stream,
    /// An IMAP or POP3 login.
    Mailbox,
    /// A connection on which mail is handed over.
    Smtp,
    /// A message in a queue.
    Message,
    /// A database session.
    Database,
    /// A connection that is passed on to another server.
    Proxied,
    /// A request or WebSocket of HTTP.
    Http,
    /// A login to a shell, or a transfer of files.
    Login,
    /// Anything else.
    Other,
}

impl UseKind {
    /// In one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Registration => "registration",
            Self::Stream => "stream",
            Self::Mailbox => "mailbox",
            Self::Smtp => "smtp",
            Self::Message => "message",
            Self::Database => "database",
            Self::Proxied => "proxied",
            Self::Http => "http",
            Self::Login => "login",
            Self::Other => "other",
        }
    }
}

/// How busy a use is, as the daemon sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Busy {
    /// At work: a call, a query, a transfer.
    Active,
    /// Between two pieces of work, and inside something that an end would undo: a transaction, a mail half sent.
    Inside,
    /// Nothing is under way: an end loses nothing.
    Idle,
    /// It never said who it is.
    NotLoggedIn,
    /// Its connection is gone; the daemon keeps it for its client to come back.
    Resumable,
    /// The daemon does not say.
    Unknown,
}

/// Whose use it is: what counts for *drained*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A user's: counts.
    User,
    /// A copy's replication: listed, does not count.
    Replication,
    /// Monitoring, by the operator's rule: listed, does not count.
    Monitoring,
    /// A client of this server's own, over a unix socket, which no gate holds: listed, does not count.
    Local,
    /// Where somebody is reached, as a SIP registration: nothing is under way. Listed, does not count.
    Presence,
    /// It waits for a time or a person and not for us, as a deferred message: listed, does not count.
    Parked,
    /// Our own connection to the daemon: not even listed.
    Own,
}

impl Role {
    /// In one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Replication => "replication",
            Self::Monitoring => "monitoring",
            Self::Local => "local",
            Self::Presence => "presence",
            Self::Parked => "parked",
            Self::Own => "ours",
        }
    }
}

/// One use of a service, as its daemon tells it. Texts are as the daemon gave them: they pass [`crate::printable`] before
/// they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// By which the daemon is asked to end it; means nothing to others.
    pub key: String,
    /// What kind of use.
    pub kind: UseKind,
    /// Who: a login, a SIP address, a JID.
    pub user: Option<String>,
    /// What it does: `call to sip:x@y`, `IDLE`, `idle in transaction`.
    pub what: Option<String>,
    /// The client's end, where the daemon knows address and port: the key to its connection.
    pub peer: Option<SocketAddr>,
    /// The client's address, where no port is known.
    pub peer_ip: Option<IpAddr>,
    /// The process that serves this one use alone: the other key to its connection.
    pub pid: Option<u32>,
    /// How long it has been there.
    pub age: Option<Span>,
    /// Since anything happened.
    pub idle: Option<Span>,
    /// How busy it is.
    pub busy: Busy,
    /// Whose.
    pub role: Role,
    /// It lives by a connection of its own: without one it is over, or a ghost. A call over UDP, a stream that can be
    /// resumed and a queued message do not.
    pub by_connection: bool,
}

impl Use {
    /// One of which nothing is known but its key and kind.
    #[must_use]
    pub const fn new(key: String, kind: UseKind) -> Self {
        Self {
            key,
            kind,
            user: None,
            what: None,
            peer: None,
            peer_ip: None,
            pid: None,
            age: None,
            idle: None,
            busy: Busy::Unknown,
            role: Role::User,
            by_connection: true,
        }
    }
}

/// All uses of a service at one time, or the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Each.
    pub uses: Vec<Use>,
    /// The daemon has so many more that were not read: the list would have been too long.
    pub more: u64,
    /// Connections only carry what is told here, as those of SIP do: by themselves they are no sessions.
    pub transport: bool,
}

/// What became of one use that was to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The daemon has said goodbye, or will at once.
    Asked,
    /// It was not there any more.
    Gone,
    /// It was left alone, for a reason: it is inside a transaction, say.
    Spared(String),
    /// The daemon did not do it.
    Failed(String),
}
