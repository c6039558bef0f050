//! Each key with its value, and who says so.

use std::path::{Path, PathBuf};

use ebb_decide::resolve::nearest;
use ebb_model::printable;

use super::fault::{Fault, quoted};
use super::schema::{Key, TABLES, TOP};
use super::tree::{Entry, Fields, Value};
use super::{Found, find};

/// A key that is set, or could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As it is typed: `guard.disk-root.path`.
    pub key: String,
    /// As it is written in `ebb.toml`; none if it is not set. What may be a secret is not in it.
    pub value: Option<String>,
    /// Who says so; none: nobody, it is the default.
    pub origin: Option<Origin>,
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In which file.
    pub file: PathBuf,
    /// In which line, from 1.
    pub line: usize,
}

/// What came of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explained {
    /// All keys that begin so.
    Settings(Vec<Setting>),
    /// None begins so; perhaps this one was meant.
    NoSuchKey(Option<String>),
    /// The configuration has faults.
    Faulty(Vec<Fault>),
}

/// The keys that are `key` or below it; without one, all.
#[must_use]
pub fn explain(path: &Path, key: Option<&str>) -> Explained {
    let found = find(path);
    if !found.faults.is_empty() {
        return Explained::Faulty(found.faults);
    }
    let all = settings(&found);
    let Some(asked) = key.map(|key| key.trim_end_matches('.')) else { return Explained::Settings(all) };
    let asked = asked.trim_start_matches('[').trim_end_matches(']');
    // A name with a dot in it may be typed without its quotes.
    let bare = |key: &str| key.replace('"', "");
    let begins = |key: &str| key.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let fits = |setting: &Setting| begins(&setting.key) || begins(&bare(&setting.key));
    let some: Vec<Setting> = all.iter().filter(|setting| fits(setting)).cloned().collect();
    if !some.is_empty() || TABLES.iter().any(|table| table.name == asked) {
        return Explained::Settings(some);
    }
    let mut known: Vec<&str> = Vec::new();
    for setting in &all {
        // Tables may be asked for too.
        known.push(&setting.key);
        known.extend(setting.key.match_indices('.').map(|(at, _)| &setting.key[..at]));
    }
    Explained::NoSuchKey(nearest(asked, known).map(str::to_owned))
}

fn settings(found: &Found) -> Vec<Setting> {
    let mut all = Vec::new();
    for key in &TOP {
        one(found, &found.tree, "", key, &mut all);
    }
    for table in &TABLES {
        let Some(fields) = found.tree.get(table.name).and_then(|entry| entry.value.table()) else { continue };
        if !table.named {
            table.keys.iter().for_each(|key| one(found, fields, table.name, key, &mut all));
            continue;
        }
        for (name, entry) in fields {
            let Some(fields) = entry.value.table() else { continue };
            let text = |key: &str| fields.get(key).and_then(|entry| entry.value.text());
            let kind = match (text("kind"), text("from")) {
                (Some(kind), Some(from)) if kind == "backup" => format!("{kind}/{from}"),
                (kind, _) => kind.unwrap_or_default().to_owned(),
            };
            let above = format!("{}.{}", table.name, name_of(name));
            table.keys.iter().filter(|key| key.fits(&kind)).for_each(|key| one(found, fields, &above, key, &mut all));
        }
    }
    all
}

/// One key, or each of its own where it is a table.
fn one(found: &Found, fields: &Fields, above: &str, key: &Key, all: &mut Vec<Setting>) {
    let name = if above.is_empty() { key.name.to_owned() } else { format!("{above}.{}", key.name) };
    let entry = fields.get(key.name);
    match entry.map(|entry| &entry.value) {
        Some(Value::Table(inner)) if !inner.is_empty() => {
            for (inner_name, inner) in inner {
                let secret = key.name == "environment" || key.name == "headers";
                let shown = if secret { veiled(inner_name, inner) } else { written(&inner.value) };
                let name = format!("{name}.{}", name_of(inner_name));
                all.push(setting(found, &name, Some(&shown), Some(inner)));
            }
        }
        value => {
            let shown = value.map(|value| match (key.name, value) {
                ("url" | "repository", Value::Text(text)) => written(&Value::Text(without_secret(text))),
                _ => written(value),
            });
            all.push(setting(found, &name, shown.as_deref(), entry));
        }
    }
}

fn setting(found: &Found, key: &str, value: Option<&str>, entry: Option<&Entry>) -> Setting {
    let origin = entry.and_then(|entry| found.origin(entry.at));
    let origin = origin.map(|(file, line)| Origin { file: file.to_owned(), line });
    Setting { key: printable(key), value: value.map(printable), origin }
}

/// A name as it is written in a key.
fn name_of(name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare && !name.is_empty() { name.to_owned() } else { written(&Value::Text(name.to_owned())) }
}

/// A value as TOML.
fn written(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => toml::Value::String(text.clone()).to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|(_, value)| written(value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(_) => "{}".to_owned(),
        Value::Time | Value::Faulty => String::new(),
    }
}

/// Only what names a file is no secret for sure.
fn veiled(name: &str, entry: &Entry) -> String {
    let names_a_file = entry.value.text().is_some_and(|text| text.starts_with("file:")) || name.ends_with("_FILE");
    if names_a_file { written(&entry.value) } else { "(not shown)".to_owned() }
}

/// A URL up to its host: a path may be a key, and what stands before `@` a password.
fn without_secret(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let more = if path.is_empty() { "" } else { "/..." };
    format!("{scheme}://{host}{more}")
}

impl Explained {
    /// Why there is nothing to show, in a sentence.
    #[must_use]
    pub fn no_such_key(asked: &str) -> String {
        format!("there is no key {}", quoted(&printable(asked)))
    }
}
