//! All keys of `ebb.toml`: what each may be, for what, and what it is where nobody says. `docs/configuration.md` is
//! compared with it.

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Text,
    /// A list of texts.
    Texts,
    /// Names of services; `*` at the end stands for anything.
    Patterns,
    /// Login names, and `@GROUP`.
    People,
    Ports,
    Duration,
    /// A duration above 0.
    Timeout,
    /// From 0 to 100.
    Percent,
    Word(&'static [&'static str]),
    Words(&'static [&'static str]),
    /// A path from the root.
    Path,
    /// The same; `*` in the last part stands for anything.
    PathPattern,
    PathPatterns,
    /// A program and its arguments.
    Command,
    /// `HOST:PORT`
    Address,
    Url,
    /// `NAME@DOMAIN`
    Mailbox,
    Mailboxes,
    /// A table of texts, with any keys.
    TextMap,
    /// A table of lists of `HOST:PORT`, with any keys.
    AddressMap,
}

impl Type {
    /// What must be written, for a sentence.
    pub(crate) const fn said(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Text | Self::Word(_) => "a text",
            Self::Path | Self::PathPattern => "a path, as a text",
            Self::Texts | Self::Patterns | Self::People | Self::Words(_) => "a list of texts",
            Self::PathPatterns => "a list of paths, each a text",
            Self::Ports => "a list of ports",
            Self::Duration | Self::Timeout => "a length of time, as a text",
            Self::Percent => "a number from 0 to 100",
            Self::Command => "a list of texts: a program and its arguments",
            Self::Address => "HOST:PORT, as a text",
            Self::Url => "a URL, as a text",
            Self::Mailbox => "a mail address, as a text",
            Self::Mailboxes => "a list of mail addresses, each a text",
            Self::TextMap => "a table of texts",
            Self::AddressMap => "a table of lists of HOST:PORT",
        }
    }

    /// How one is written.
    pub(crate) const fn example(self) -> &'static str {
        match self {
            Self::Bool => "true",
            Self::Text | Self::Word(_) => "\"text\"",
            Self::Path | Self::PathPattern => "\"/var/backups/dump\"",
            Self::Texts | Self::Patterns | Self::Words(_) => "[\"one\", \"two\"]",
            Self::People => "[\"ana\", \"@sre\"]",
            Self::PathPatterns => "[\"/etc/ssl/private/*.pem\"]",
            Self::Ports => "[4433]",
            Self::Duration | Self::Timeout => "\"30m\"",
            Self::Percent => "10",
            Self::Command => "[\"/usr/local/bin/check\", \"--all\"]",
            Self::Address => "\"mail.example.org:25\"",
            Self::Url => "\"https://chat.example.org/hooks/1\"",
            Self::Mailbox => "\"ebb@example.org\"",
            Self::Mailboxes => "[\"ana@example.org\"]",
            Self::TextMap => "{ NAME = \"text\" }",
            Self::AddressMap => "{ NAME = [\"b.example.org:443\"] }",
        }
    }
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) of: Type,
    /// For which kinds, `KIND` or `backup/FROM`; none: for all.
    pub(crate) kinds: &'static [&'static str],
    /// It must be there.
    pub(crate) needed: bool,
    /// What it is where nobody says, as it would be written.
    pub(crate) default: Option<&'static str>,
}

impl Key {
    /// Whether tables of this kind have it: `KIND` or `KIND/FROM`.
    pub(crate) fn fits(&self, kind: &str) -> bool {
        let general = kind.split('/').next();
        self.kinds.is_empty() || self.kinds.iter().any(|one| *one == kind || Some(*one) == general)
    }
}

/// One table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// It is a table of tables, each with a name: `[guard.NAME]`.
    pub(crate) named: bool,
    pub(crate) keys: &'static [Key],
}

impl Table {
    /// As it is written.
    pub(crate) fn title(&self) -> String {
        if self.named { format!("[{}.NAME]", self.name) } else { format!("[{}]", self.name) }
    }
}

const fn key(name: &'static str, of: Type) -> Key {
    Key { name, of, kinds: &[], needed: false, default: None }
}

const fn or(key: Key, default: &'static str) -> Key {
    Key { default: Some(default), ..key }
}

const fn needed(key: Key) -> Key {
    Key { needed: true, ..key }
}

const fn only(kinds: &'static [&'static str], key: Key) -> Key {
    Key { kinds, ..key }
}

/// Keys that stand before the first table.
pub(crate) const TOP: [Key; 1] = [or(key("systemd", Type::Bool), "true")];

/// Kinds of guards.
pub(crate) const GUARDS: [&str; 9] =
    ["permission", "disk", "failed-units", "users", "certificates", "clock", "last-door", "backup", "command"];
/// Where the age of a backup is read.
pub(crate) const BACKUPS: [&str; 6] = ["restic", "borg", "pgbackrest", "barman", "file", "command"];
/// Daemons that can be spoken to; compared with the model's.
pub(crate) const DAEMONS: [&str; 11] = [
    "kamailio",
    "prosody",
    "ejabberd",
    "dovecot",
    "postfix",
    "postgresql",
    "pgbouncer",
    "haproxy",
    "nginx",
    "openssh",
    "exec",
];
/// Ways to tell somebody.
pub(crate) const WAYS: [&str; 3] = ["mail", "webhook", "wall"];

/// All tables.
pub(crate) const TABLES: [Table; 8] = [
    Table { name: "access", named: false, keys: &[or(key("operators", Type::People), "[]")] },
    Table { name: "service", named: true, keys: &SERVICE },
    Table { name: "holds", named: false, keys: &HOLDS },
    Table { name: "protect", named: false, keys: &PROTECT },
    Table { name: "maintenance", named: false, keys: &MAINTENANCE },
    Table { name: "guard", named: true, keys: &GUARD },
    Table { name: "notify", named: true, keys: &NOTIFY },
    Table { name: "daemon", named: true, keys: &DAEMON },
];

const SERVICE: [Key; 5] = [
    or(key("units", Type::Texts), "[]"),
    or(key("executables", Type::Texts), "[]"),
    or(key("quic", Type::Ports), "[]"),
    or(key("udp", Type::Ports), "[]"),
    or(key("uses", Type::Texts), "[]"),
];

const HOLDS: [Key; 3] = [
    key("default_reason", Type::Text),
    // The default is the model's: who mends and watches a server.
    key("server_leaves_open", Type::Patterns),
    or(key("forgotten_after", Type::Duration), "\"7d\""),
];

const PROTECT: [Key; 3] = [
    or(key("services", Type::Patterns), "[]"),
    or(key("shutdown", Type::Word(&["allow", "delay", "refuse"])), "\"allow\""),
    or(key("units", Type::Bool), "false"),
];

const MAINTENANCE: [Key; 3] = [
    key("deadline", Type::Duration),
    or(key("then", Type::Word(&["ask", "end", "cut"])), "\"ask\""),
    or(key("watch", Type::Duration), "\"5m\""),
];

const GUARD: [Key; 20] = [
    needed(key("kind", Type::Word(&GUARDS))),
    or(key("warn_only", Type::Bool), "false"),
    or(key("off", Type::Bool), "false"),
    or(key("timeout", Type::Timeout), "\"30s\""),
    needed(only(&["disk"], key("path", Type::Path))),
    needed(only(&["backup/file"], key("path", Type::PathPattern))),
    or(only(&["disk"], key("warn_percent", Type::Percent)), "10"),
    or(only(&["disk"], key("refuse_percent", Type::Percent)), "3"),
    needed(only(&["certificates"], key("files", Type::PathPatterns))),
    or(only(&["certificates"], key("warn", Type::Duration)), "\"14d\""),
    or(only(&["certificates"], key("refuse", Type::Duration)), "\"1d\""),
    only(&["last-door"], or(key("others", Type::AddressMap), "{}")),
    needed(only(&["backup"], key("from", Type::Word(&BACKUPS)))),
    or(only(&["backup"], key("warn", Type::Duration)), "\"26h\""),
    or(only(&["backup"], key("refuse", Type::Duration)), "\"3d\""),
    only(&["backup/restic", "backup/borg"], or(key("environment", Type::TextMap), "{}")),
    needed(only(&["backup/borg"], key("repository", Type::Text))),
    needed(only(&["backup/pgbackrest"], key("stanza", Type::Text))),
    needed(only(&["backup/barman"], key("server", Type::Text))),
    needed(only(&["command", "backup/command"], key("command", Type::Command))),
];

const DAEMON: [Key; 12] = [
    key("kind", Type::Word(&DAEMONS)),
    or(key("off", Type::Bool), "false"),
    key("socket", Type::Path),
    key("address", Type::Address),
    key("user", Type::Text),
    key("password_file", Type::Path),
    key("database", Type::Text),
    or(key("command", Type::Texts), "[]"),
    key("redirect", Type::Text),
    or(key("queries", Type::Bool), "false"),
    or(key("not_users", Type::Texts), "[]"),
    or(key("timeout", Type::Timeout), "\"5s\""),
];

const NOTIFY: [Key; 15] = [
    needed(key("kind", Type::Word(&WAYS))),
    or(key("on", Type::Words(&["before", "start", "end", "trouble"])), "[\"before\", \"start\", \"end\", \"trouble\"]"),
    key("subject", Type::Text),
    key("text", Type::Text),
    or(key("timeout", Type::Timeout), "\"10s\""),
    or(only(&["mail"], key("server", Type::Address)), "\"localhost:25\""),
    or(only(&["mail"], key("tls", Type::Word(&["none", "starttls", "always"]))), "\"none\""),
    only(&["mail"], key("login", Type::Text)),
    only(&["mail"], key("password_file", Type::Path)),
    needed(only(&["mail"], key("from", Type::Mailbox))),
    or(only(&["mail"], key("to", Type::Mailboxes)), "[]"),
    or(only(&["mail"], key("users", Type::Bool)), "false"),
    needed(only(&["webhook"], key("url", Type::Url))),
    or(only(&["webhook"], key("format", Type::Word(&["json", "slack", "teams", "matrix"]))), "\"json\""),
    or(only(&["webhook"], key("headers", Type::TextMap)), "{}"),
];
