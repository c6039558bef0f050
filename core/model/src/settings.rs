//! What an operator has settled in `ebb.toml` and its drop-ins, with the defaults for all else.

use std::collections::{BTreeMap, BTreeSet};

use crate::{DaemonSettings, Span, Then};

/// All settings of one server, but how its services are named.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[holds]`
    pub holds: HoldSettings,
    /// `[protect]`
    pub protect: ProtectSettings,
    /// `[maintenance]`
    pub maintenance: MaintenanceSettings,
    /// `[guard.NAME]` and the built-in ones, by name.
    pub guards: BTreeMap<String, GuardSettings>,
    /// `[notify.NAME]`, by name.
    pub notify: BTreeMap<String, NotifySettings>,
    /// `[daemon.NAME]`, by the name of the service.
    pub daemons: BTreeMap<String, DaemonSettings>,
}

/// What holds whole servers leave open unless told otherwise, and what is said of holds.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldSettings {
    /// The reason of who gives none and cannot be asked.
    pub default_reason: Option<String>,
    /// Services that a hold on the server leaves open; `*` at the end stands for anything.
    pub server_leaves_open: Vec<String>,
    /// A hold without an end that is older is called forgotten.
    pub forgotten_after: Span,
}

impl Default for HoldSettings {
    fn default() -> Self {
        // Who mends the server, who watches it, and who would take a silent peer for a dead one.
        let open = [
            "ssh",
            "sshd",
            "prometheus-*",
            "node_exporter",
            "zabbix-agent*",
            "nagios-nrpe-server",
            "snmpd",
            "telegraf",
            "collectd",
            "munin-node",
            "check-mk-agent*",
            "netdata",
            "icinga2",
            "corosync",
            "pacemaker*",
            "keepalived",
            "drbd*",
            "chrony",
            "chronyd",
            "ntpsec",
            "systemd-*",
        ];
        Self {
            default_reason: None,
            server_leaves_open: open.map(str::to_owned).to_vec(),
            forgotten_after: Span::seconds(7 * 86_400),
        }
    }
}

/// What is done when somebody else reboots the server or stops a service while sessions live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProtectSettings {
    /// Services whose sessions are protected; `*` at the end stands for anything. None: nothing is.
    pub services: Vec<String>,
    /// What a shutdown or reboot of the server meets while there are such sessions.
    pub shutdown: AtShutdown,
    /// Refuse `systemctl stop` and `restart` of such a service too.
    pub units: bool,
}

/// What a shutdown meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtShutdown {
    /// Nothing of ours.
    #[default]
    Allow,
    /// It is delayed, for at most as long as logind lets us.
    Delay,
    /// It is refused.
    Refuse,
}

/// How a whole server is maintained.
#[derive(Clone, Debug, PartialEq)]
pub struct MaintenanceSettings {
    /// Stop waiting for the sessions of a service after this long; none: never.
    pub deadline: Option<Span>,
    /// What happens then.
    pub then: Then,
    /// How long the server is watched after it was opened again.
    pub watch: Span,
    /// Services that use others, by name: a service is drained before those it uses, and started after them.
    pub uses: BTreeMap<String, Vec<String>>,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self { deadline: None, then: Then::Ask, watch: Span::seconds(300), uses: BTreeMap::new() }
    }
}

/// One guard: a named check before and after a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardSettings {
    /// What is checked.
    pub check: Check,
    /// A refusal of this guard is a warning only.
    pub warn_only: bool,
    /// It is not asked.
    pub off: bool,
    /// No answer within this time is an answer: that it could not be told.
    pub timeout: Span,
}

/// What a guard checks.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// That every step is permitted.
    Permission,
    /// Free space and free inodes where `path` lies, in percent: less is a warning, or a refusal.
    Disk {
        /// Where.
        path: String,
        /// Less than this is a warning.
        warn_percent: f64,
        /// Less than this is a refusal.
        refuse_percent: f64,
    },
    /// That no unit has failed.
    FailedUnits,
    /// That nobody else is logged in.
    Users,
    /// That certificates are valid for some time still.
    Certificates {
        /// Files in PEM; `*` in the last part stands for anything.
        files: Vec<String>,
        /// Valid for less is a warning.
        warn: Span,
        /// Valid for less is a refusal.
        refuse: Span,
    },
    /// That the clock is synchronised.
    Clock,
    /// That a service is not the last one that listens at a port of this server: another server offers it too.
    LastDoor {
        /// Addresses, `HOST:PORT`, at which another member offers the same; by service.
        others: BTreeMap<String, Vec<String>>,
    },
    /// That a backup is not older than this.
    Backup {
        /// Of what kind.
        kind: Backup,
        /// Older is a warning.
        warn: Span,
        /// Older is a refusal.
        refuse: Span,
    },
    /// That a command ends with 0; with 1 it warns, with anything else it refuses. Its first line says why.
    Command {
        /// Program and arguments; no shell.
        command: Vec<String>,
    },
}

/// How the age of the newest backup is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backup {
    /// `restic snapshots`, with these variables in its environment.
    Restic {
        /// `RESTIC_REPOSITORY`, `RESTIC_PASSWORD_FILE` and the like.
        environment: BTreeMap<String, String>,
    },
    /// `borg list`.
    Borg {
        /// Where.
        repository: String,
        /// `BORG_PASSCOMMAND` and the like.
        environment: BTreeMap<String, String>,
    },
    /// `pgbackrest info`.
    PgBackRest {
        /// Which stanza.
        stanza: String,
    },
    /// `barman list-backup`.
    Barman {
        /// Which server.
        server: String,
    },
    /// The newest file that fits; `*` in the last part stands for anything.
    File {
        /// Where.
        path: String,
    },
    /// A command that prints the time of the newest backup: RFC 3339, or seconds since 1970.
    Command {
        /// Program and arguments; no shell.
        command: Vec<String>,
    },
}

/// When somebody is told of a maintenance or a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    /// Some time before it begins.
    Before,
    /// It begins.
    Start,
    /// It is over, and all is as it was.
    End,
    /// Something needs somebody.
    Trouble,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Before, Self::Start, Self::End, Self::Trouble];

    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Start => "start",
            Self::End => "end",
            Self::Trouble => "trouble",
        }
    }
}

/// Somebody who is told, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifySettings {
    /// By which way.
    pub way: NotifyWay,
    /// When.
    pub on: BTreeSet<Occasion>,
    /// Template of the subject or first line; the built-in one if none.
    pub subject: Option<String>,
    /// Template of the text; the built-in one if none.
    pub text: Option<String>,
    /// No answer within this time is a failure.
    pub timeout: Span,
}

/// By which way somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub enum NotifyWay {
    /// Mail by SMTP.
    Mail {
        /// `HOST:PORT`.
        server: String,
        /// How the connection is kept private.
        tls: MailTls,
        /// Login name, and the file that has the password.
        login: Option<(String, String)>,
        /// Sender.
        from: String,
        /// Recipients.
        to: Vec<String>,
        /// Send to the users of the sessions that remain too, where their addresses are known.
        users: bool,
    },
    /// An HTTP POST.
    Webhook {
        /// Where; `http://` or `https://`.
        url: String,
        /// In whose words.
        format: WebhookFormat,
        /// More headers; a value that begins with `file:` is read from there.
        headers: BTreeMap<String, String>,
    },
    /// `wall`: everybody who is logged in to a terminal.
    Wall,
}

/// How a mail connection is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// Not at all: a relay on this server.
    None,
    /// STARTTLS, which must succeed.
    StartTls,
    /// TLS from the first byte.
    Always,
}

/// In whose words a webhook speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Our own, `docs/notify.md`.
    Json,
    /// Slack's incoming webhooks, which Mattermost, Rocket.Chat and Discord's `/slack` take too.
    Slack,
    /// Microsoft Teams' workflows: an adaptive card.
    Teams,
    /// Matrix: `m.room.message` by PUT, the transaction's id added to the URL.
    Matrix,
}
