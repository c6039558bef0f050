//! What several values say together.

use std::collections::{BTreeMap, BTreeSet};

use ebb_model::Span;

use super::fault::{At, Faults, quoted};
use super::tree::{Entry, Fields, Value};

/// The named tables of one name, in the order in which they are written.
pub(crate) fn named<'t>(tree: &'t Fields, table: &str) -> Vec<(&'t str, &'t Entry, &'t Fields)> {
    let tables = tree.get(table).and_then(|entry| entry.value.table());
    let each = tables.into_iter().flatten().filter_map(|(name, one)| Some((name.as_str(), one, one.value.table()?)));
    let mut all: Vec<_> = each.collect();
    all.sort_by_key(|(_, one, _)| one.at);
    all
}

/// Says what contradicts itself, and in `warnings` what is probably not meant.
pub(crate) fn check(tree: &Fields, faults: &mut Faults, warnings: &mut Faults) {
    services(tree, faults);
    cycles(tree, faults);
    for (name, _, guard) in named(tree, "guard") {
        limits(name, guard, faults);
    }
    for (name, entry, way) in named(tree, "notify") {
        notify(name, entry.at, way, faults, warnings);
    }
    let table = |name: &str| tree.get(name).and_then(|entry| entry.value.table());
    if let Some(holds) = table("maintenance")
        && let Some(then) = written(holds, "then").filter(|_| !holds.contains_key("deadline"))
    {
        warnings.say(then.at, "`then` says nothing without a `deadline`");
    }
    if let Some(protect) = table("protect") {
        let of_nothing =
            protect.get("services").is_some_and(|entry| matches!(&entry.value, Value::List(items) if items.is_empty()));
        for key in ["shutdown", "units"] {
            let idle = |entry: &&Entry| {
                of_nothing && !matches!(&entry.value, Value::Bool(false)) && entry.value.text() != Some("allow")
            };
            if let Some(entry) = written(protect, key).filter(idle) {
                let hint = "services = [\"*\"] protects all".to_owned();
                warnings.with(entry.at, format!("`{key}` protects nothing: `services` names none"), hint);
            }
        }
    }
}

/// What somebody wrote.
fn written<'t>(fields: &'t Fields, key: &str) -> Option<&'t Entry> {
    fields.get(key).filter(|entry| !entry.at.is_default())
}

/// Texts of a list, each with its place.
pub(crate) fn texts<'t>(fields: &'t Fields, key: &str) -> Vec<(At, &'t str)> {
    let items = fields.get(key).map(|entry| entry.value.list()).unwrap_or_default();
    items.iter().filter_map(|(at, value)| Some((*at, value.text()?))).collect()
}

/// Without the ending that everybody leaves out.
pub(crate) fn plain(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}

/// Each unit and executable belongs to one service, and each service names something.
fn services(tree: &Fields, faults: &mut Faults) {
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, entry, fields) in named(tree, "service") {
        let says = |value: &Value| matches!(value, Value::Faulty) || !value.list().is_empty();
        if !fields.values().any(|entry| says(&entry.value)) {
            let hint = format!("as in units = [\"{}\"]", name.chars().take(40).collect::<String>());
            let what =
                format!("service {} names neither units nor executables nor ports nor what it uses", quoted(name));
            faults.with(entry.at, what, hint);
        }
        for (at, unit) in ["units", "executables"].iter().flat_map(|key| texts(fields, key)) {
            if let Some(other) = owner.insert(plain(unit), name) {
                let what = format!("{} is in service {} already", quoted(unit), quoted(other));
                faults.with(at, what, "take it out of one of them".to_owned());
            }
        }
    }
}

/// A service is drained before those it uses: none may use itself, through others either.
fn cycles(tree: &Fields, faults: &mut Faults) {
    let services = named(tree, "service");
    let uses: BTreeMap<&str, Vec<(At, &str)>> =
        services.iter().map(|(name, _, fields)| (*name, texts(fields, "uses"))).collect();
    let mut told = BTreeSet::new();
    for (name, ..) in &services {
        let mut seen = BTreeSet::new();
        // Each with the first step that led there.
        let first = uses.get(name).into_iter().flatten();
        let mut open: Vec<(At, &str)> = first.map(|(at, used)| (*at, plain(used))).collect();
        while let Some((at, used)) = open.pop() {
            if used == *name {
                if told.insert(*name) {
                    let what =
                        format!("{} uses itself, through what it uses: none could be drained first", quoted(name));
                    faults.say(at, what);
                }
                break;
            }
            if seen.insert(used) {
                open.extend(uses.get(used).into_iter().flatten().map(|(_, next)| (at, plain(next))));
            }
        }
    }
}

/// A warning comes before a refusal.
fn limits(name: &str, guard: &Fields, faults: &mut Faults) {
    let kind = guard.get("kind").and_then(|entry| entry.value.text()).unwrap_or_default();
    let span = |key: &str| guard.get(key)?.value.text()?.parse::<Span>().ok();
    let number = |key: &str| if let Value::Number(number) = guard.get(key)?.value { Some(number) } else { None };
    let (key, early) = match kind {
        "disk" => {
            ("refuse_percent", number("refuse_percent") > number("warn_percent") && number("warn_percent").is_some())
        }
        "certificates" => ("refuse", span("refuse") > span("warn") && span("warn").is_some()),
        "backup" => ("refuse", span("refuse").is_some() && span("refuse") < span("warn")),
        _ => return,
    };
    // At the one that somebody wrote.
    let warn = key.replace("refuse", "warn");
    if let Some(entry) = written(guard, key).or_else(|| written(guard, &warn)).filter(|_| early) {
        let hint = format!("compare `{warn}` with `{key}`; `ebb config explain guard.{name}` shows both");
        faults.with(entry.value_at, format!("guard {} would refuse before it warns", quoted(name)), hint);
    }
}

fn notify(name: &str, at: At, way: &Fields, faults: &mut Faults, warnings: &mut Faults) {
    if let Some(on) = written(way, "on").filter(|on| matches!(&on.value, Value::List(items) if items.is_empty())) {
        let hint = "leave `on` out for all of before, start, end and trouble".to_owned();
        warnings.with(on.at, format!("notify {} is told nothing: `on` names no occasion", quoted(name)), hint);
    }
    if way.get("kind").and_then(|entry| entry.value.text()) != Some("mail") {
        return;
    }
    let text = |key: &str| way.get(key).and_then(|entry| entry.value.text());
    for (one, other) in [("login", "password_file"), ("password_file", "login")] {
        if let Some(entry) = way.get(one).filter(|_| !way.contains_key(other)) {
            faults.say(entry.at, format!("`{one}` needs `{other}` beside it"));
        }
    }
    let nobody = way.get("to").is_some_and(|entry| matches!(&entry.value, Value::List(items) if items.is_empty()));
    if nobody && !matches!(way.get("users").map(|entry| &entry.value), Some(Value::Bool(true) | Value::Faulty)) {
        let hint = "as in to = [\"ana@example.org\"], or users = true".to_owned();
        faults.with(at, format!("notify {} tells nobody", quoted(name)), hint);
    }
    let local =
        ["localhost:", "127.", "[::1]:"].iter().any(|host| text("server").unwrap_or_default().starts_with(host));
    if let Some(login) = way.get("login").filter(|_| text("tls") == Some("none") && !local) {
        let hint = "tls = \"starttls\" or \"always\"".to_owned();
        warnings.with(login.at, "the password goes through the network for everybody to read".to_owned(), hint);
    }
}
