//! A complete tree as settings. What a value may be has been checked; what several say together is checked here.

use std::collections::{BTreeMap, BTreeSet};

use ebb_decide::services::Group;
use ebb_model::{
    AtShutdown, Backup, Check, DaemonKind, DaemonSettings, GuardSettings, HoldSettings, MailTls, MaintenanceSettings,
    NotifySettings, NotifyWay, Occasion, ProtectSettings, Settings, Span, Then, WebhookFormat,
};

use super::Config;
use super::tree::{Fields, Value};

/// One table, asked for what the schema says it has.
struct Of<'t>(&'t Fields);

impl Of<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).map(|entry| &entry.value)
    }

    fn table(&self, key: &str) -> Of<'_> {
        static NONE: Fields = Fields::new();
        Of(self.value(key).and_then(Value::table).unwrap_or(&NONE))
    }

    fn text(&self, key: &str) -> Option<String> {
        self.value(key)?.text().map(str::to_owned)
    }

    fn needed(&self, key: &str) -> String {
        self.text(key).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.value(key), Some(Value::Bool(true)))
    }

    fn number(&self, key: &str) -> f64 {
        if let Some(Value::Number(number)) = self.value(key) { *number } else { 0.0 }
    }

    fn span(&self, key: &str) -> Option<Span> {
        self.text(key)?.parse().ok()
    }

    fn texts(&self, key: &str) -> Vec<String> {
        self.value(key).map(texts_of).unwrap_or_default()
    }

    fn ports(&self, key: &str) -> Vec<u16> {
        let items = self.value(key).map(Value::list).unwrap_or_default();
        let port = |value: &Value| if let Value::Number(port) = value { Some(*port as u16) } else { None };
        items.iter().filter_map(|(_, value)| port(value)).collect()
    }

    fn text_map(&self, key: &str) -> BTreeMap<String, String> {
        let table = self.table(key);
        table.0.iter().filter_map(|(name, entry)| Some((name.clone(), entry.value.text()?.to_owned()))).collect()
    }
}

fn texts_of(value: &Value) -> Vec<String> {
    value.list().iter().filter_map(|(_, value)| value.text().map(str::to_owned)).collect()
}

/// All of it.
pub(crate) fn config(tree: &Fields) -> Config {
    let root = Of(tree);
    let services = root.table("service");
    let all = || services.0.iter().filter_map(|(name, entry)| Some((name, Of(entry.value.table()?))));
    let group = |(name, table): (&String, Of<'_>)| Group {
        name: name.clone(),
        units: table.texts("units"),
        executables: table.texts("executables"),
        quic: table.ports("quic"),
        udp: table.ports("udp"),
    };
    let says = |group: &Group| {
        !(group.units.is_empty() && group.executables.is_empty() && group.quic.is_empty() && group.udp.is_empty())
    };
    let uses = all().map(|(name, table)| (name.clone(), table.texts("uses"))).filter(|(_, uses)| !uses.is_empty());
    let (guards, notify, daemons) = (root.table("guard"), root.table("notify"), root.table("daemon"));
    let named = |table: &Of<'_>| -> Vec<String> { table.0.keys().cloned().collect() };
    Config {
        groups: all().map(group).filter(says).collect(),
        systemd: root.flag("systemd"),
        operators: root.table("access").texts("operators"),
        settings: Settings {
            holds: holds(&root.table("holds")),
            protect: protect(&root.table("protect")),
            maintenance: maintenance(&root.table("maintenance"), uses.collect()),
            guards: named(&guards).into_iter().map(|name| (name.clone(), guard(&guards.table(&name)))).collect(),
            daemons: named(&daemons).into_iter().map(|name| (name.clone(), daemon(&daemons.table(&name)))).collect(),
            notify: named(&notify).into_iter().map(|name| (name.clone(), notifier(&notify.table(&name)))).collect(),
        },
    }
}

fn holds(table: &Of<'_>) -> HoldSettings {
    HoldSettings {
        default_reason: table.text("default_reason"),
        server_leaves_open: table.texts("server_leaves_open"),
        forgotten_after: table.span("forgotten_after").unwrap_or_default(),
    }
}

fn protect(table: &Of<'_>) -> ProtectSettings {
    let shutdown = match table.needed("shutdown").as_str() {
        "delay" => AtShutdown::Delay,
        "refuse" => AtShutdown::Refuse,
        _ => AtShutdown::Allow,
    };
    ProtectSettings { services: table.texts("services"), shutdown, units: table.flag("units") }
}

fn maintenance(table: &Of<'_>, uses: BTreeMap<String, Vec<String>>) -> MaintenanceSettings {
    let then = match table.needed("then").as_str() {
        "end" => Then::End,
        "cut" => Then::Cut,
        _ => Then::Ask,
    };
    let watch = table.span("watch").unwrap_or_default();
    MaintenanceSettings { deadline: table.span("deadline"), then, watch, uses }
}

fn guard(table: &Of<'_>) -> GuardSettings {
    GuardSettings {
        check: guard_check(table),
        warn_only: table.flag("warn_only"),
        off: table.flag("off"),
        timeout: table.span("timeout").unwrap_or_default(),
    }
}

fn guard_check(table: &Of<'_>) -> Check {
    let (warn, refuse) = (table.span("warn").unwrap_or_default(), table.span("refuse").unwrap_or_default());
    match table.needed("kind").as_str() {
        "disk" => Check::Disk {
            path: table.needed("path"),
            warn_percent: table.number("warn_percent"),
            refuse_percent: table.number("refuse_percent"),
        },
        "failed-units" => Check::FailedUnits,
        "users" => Check::Users,
        "certificates" => Check::Certificates { files: table.texts("files"), warn, refuse },
        "clock" => Check::Clock,
        "last-door" => {
            let others = table.table("others");
            let others = others.0.iter().map(|(name, entry)| (name.clone(), texts_of(&entry.value)));
            Check::LastDoor { others: others.collect() }
        }
        "backup" => Check::Backup { kind: backup(table), warn, refuse },
        "command" => Check::Command { command: table.texts("command") },
        _ => Check::Permission,
    }
}

fn backup(table: &Of<'_>) -> Backup {
    let environment = table.text_map("environment");
    match table.needed("from").as_str() {
        "restic" => Backup::Restic { environment },
        "borg" => Backup::Borg { repository: table.needed("repository"), environment },
        "pgbackrest" => Backup::PgBackRest { stanza: table.needed("stanza") },
        "barman" => Backup::Barman { server: table.needed("server") },
        "file" => Backup::File { path: table.needed("path") },
        _ => Backup::Command { command: table.texts("command") },
    }
}

fn notifier(table: &Of<'_>) -> NotifySettings {
    let on = table.texts("on");
    let on: BTreeSet<Occasion> =
        Occasion::ALL.into_iter().filter(|occasion| on.iter().any(|word| word == occasion.as_str())).collect();
    NotifySettings {
        way: way(table),
        on,
        subject: table.text("subject"),
        text: table.text("text"),
        timeout: table.span("timeout").unwrap_or_default(),
    }
}

fn daemon(table: &Of<'_>) -> DaemonSettings {
    let kind = table.text("kind");
    DaemonSettings {
        kind: DaemonKind::ALL.into_iter().find(|one| kind.as_deref() == Some(one.as_str())),
        off: table.flag("off"),
        socket: table.text("socket"),
        address: table.text("address"),
        user: table.text("user"),
        password_file: table.text("password_file"),
        database: table.text("database"),
        command: table.texts("command"),
        redirect: table.text("redirect"),
        queries: table.flag("queries"),
        not_users: table.texts("not_users"),
        timeout: table.span("timeout").unwrap_or_default(),
    }
}

fn way(table: &Of<'_>) -> NotifyWay {
    match table.needed("kind").as_str() {
        "mail" => NotifyWay::Mail {
            server: table.needed("server"),
            tls: match table.needed("tls").as_str() {
                "starttls" => MailTls::StartTls,
                "always" => MailTls::Always,
                _ => MailTls::None,
            },
            login: table.text("login").zip(table.text("password_file")),
            from: table.needed("from"),
            to: table.texts("to"),
            users: table.flag("users"),
        },
        "webhook" => NotifyWay::Webhook {
            url: table.needed("url"),
            format: match table.needed("format").as_str() {
                "slack" => WebhookFormat::Slack,
                "teams" => WebhookFormat::Teams,
                "matrix" => WebhookFormat::Matrix,
                _ => WebhookFormat::Json,
            },
            headers: table.text_map("headers"),
        },
        _ => NotifyWay::Wall,
    }
}
