//! A tree against the schema: first each file by itself, then all of them together.

use std::collections::btree_map::Entry as Slot;

use ebb_decide::resolve::nearest;
use ebb_model::{HoldSettings, ServiceName};

use super::fault::{At, Faults, one_of, quoted};
use super::schema::{Key, TABLES, TOP, Table, Type};
use super::tree::{Entry, Fields, Value, default};
use super::values;

/// Takes away what no schema knows, and marks values that may not be.
pub(crate) fn check(fields: &mut Fields, faults: &mut Faults) {
    fields.retain(|name, entry| {
        if let Some(key) = TOP.iter().find(|key| key.name == name) {
            values::check(name, &[key.of], entry, faults);
            return true;
        }
        let Some(table) = TABLES.iter().find(|table| table.name == name) else {
            unknown_at_top(name, entry, faults);
            return false;
        };
        let Value::Table(inner) = &mut entry.value else {
            let what = format!("`{name}` must be a table, and there is {} here", entry.value.said());
            faults.with(entry.value_at, what, format!("write {} above its keys", table.title()));
            return false;
        };
        if table.named {
            named(table, inner, faults);
        } else {
            keys(table, &table.title(), inner, faults);
        }
        true
    });
}

fn unknown_at_top(name: &str, entry: &Entry, faults: &mut Faults) {
    let is_table = matches!(entry.value, Value::Table(_));
    let tables = || TABLES.iter().map(|table| table.name);
    let near = nearest(name, tables().chain(TOP.iter().map(|key| key.name)));
    let owner = TABLES.iter().find(|table| table.keys.iter().any(|key| key.name == name));
    let hint = match (near, owner) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(owner)) if !is_table => format!("it belongs under {}", owner.title()),
        _ => format!("tables are {}", one_of(&tables().collect::<Vec<_>>())),
    };
    let what = if is_table { "table" } else { "key" };
    faults.with(entry.at, format!("there is no {what} {}", quoted(name)), hint);
}

fn named(table: &Table, inner: &mut Fields, faults: &mut Faults) {
    inner.retain(|name, entry| {
        if let Err(error) = ServiceName::new(name.clone()) {
            faults.say(entry.at, error.to_string());
        }
        let title = format!("[{}.{name}]", table.name);
        match &mut entry.value {
            Value::Table(fields) => keys(table, &title, fields, faults),
            value => {
                let what = format!("{} is not a table but {}", quoted(&format!("{}.{name}", table.name)), value.said());
                faults.with(entry.at, what, format!("give it a name: write {} above its keys", table.title()));
                return false;
            }
        }
        true
    });
}

fn keys(table: &Table, title: &str, fields: &mut Fields, faults: &mut Faults) {
    fields.retain(|name, entry| {
        let types: Vec<Type> = table.keys.iter().filter(|key| key.name == name).map(|key| key.of).collect();
        if types.is_empty() {
            let names: Vec<&str> = names(table.keys.iter());
            let hint = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", one_of(&names)),
            };
            faults.with(entry.at, format!("there is no key {} in {title}", quoted(name)), hint);
            // Kept: it was meant to say something, and who says nothing is told so.
            entry.value = Value::Faulty;
            return true;
        }
        values::check(name, &types, entry, faults);
        true
    });
}

/// Each name once, in the schema's order.
fn names<'k>(keys: impl Iterator<Item = &'k Key>) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for key in keys {
        if !names.contains(&key.name) {
            names.push(key.name);
        }
    }
    names
}

/// Adds what nobody has said, and checks what depends on the kind. With `broken` files nothing is said to be missing.
pub(crate) fn complete(tree: &mut Fields, broken: bool, faults: &mut Faults) {
    fill(tree, TOP.iter());
    for table in &TABLES {
        let entry = match tree.entry(table.name.to_owned()) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => slot.insert(nobodys(Value::Table(Fields::new()))),
        };
        let Value::Table(fields) = &mut entry.value else { continue };
        if !table.named {
            fill(fields, table.keys.iter());
            continue;
        }
        for (name, entry) in fields {
            let at = entry.at;
            if let Value::Table(fields) = &mut entry.value {
                one(table, name, at, fields, broken, faults);
            }
        }
    }
    if let Some(Value::Table(holds)) = tree.get_mut("holds").map(|entry| &mut entry.value) {
        let open = HoldSettings::default().server_leaves_open;
        let open = open.into_iter().map(|name| (At::default(), Value::Text(name))).collect();
        holds.entry("server_leaves_open".to_owned()).or_insert_with(|| nobodys(Value::List(open)));
    }
}

fn nobodys(value: Value) -> Entry {
    Entry { at: At::default(), value_at: At::default(), value }
}

fn fill<'k>(fields: &mut Fields, keys: impl Iterator<Item = &'k Key>) {
    for key in keys {
        if let Some(written) = key.default {
            fields.entry(key.name.to_owned()).or_insert_with(|| nobodys(default(written)));
        }
    }
}

/// One named table: its kind decides which keys it has.
fn one(table: &Table, name: &str, at: At, fields: &mut Fields, broken: bool, faults: &mut Faults) {
    let word = |key: &str| fields.get(key).map(|entry| entry.value.text().unwrap_or_default().to_owned());
    // A daemon's kind is found out where nobody says it.
    let has_kinds = table.keys.iter().any(|key| key.name == "kind" && key.needed);
    let kind = match (has_kinds, word("kind"), word("from")) {
        (false, ..) => String::new(),
        (true, None, _) => {
            missing(table, name, "kind", at, broken, faults);
            return;
        }
        // What it is has been said to be wrong.
        (true, Some(kind), _) if kind.is_empty() => return,
        (true, Some(kind), Some(from)) if kind == "backup" && !from.is_empty() => format!("{kind}/{from}"),
        (true, Some(kind), _) => kind,
    };
    // A backup of unknown origin may have the keys of any.
    let of_unknown = kind == "backup";
    let fits = |key: &Key| key.fits(&kind) || of_unknown && key.kinds.iter().any(|one| one.starts_with("backup/"));
    fields.retain(|key, entry| {
        if matches!(entry.value, Value::Faulty) {
            return true;
        }
        let mut rows = table.keys.iter().filter(|row| row.name == key);
        if let Some(row) = rows.find(|row| fits(row)) {
            values::check(key, &[row.of], entry, faults);
            return true;
        }
        // The built-in one was of another kind.
        if !entry.at.is_default() {
            let own = names(table.keys.iter().filter(|row| fits(row)));
            let what = format!("a {} of kind `{kind}` has no `{key}`", table.name);
            faults.with(entry.at, what, format!("it has {}", one_of(&own)));
        }
        false
    });
    let own = || table.keys.iter().filter(|row| row.fits(&kind));
    for key in own().filter(|key| key.needed && !fields.contains_key(key.name)) {
        missing(table, name, key.name, at, broken, faults);
    }
    fill(fields, own());
}

fn missing(table: &Table, name: &str, key: &str, at: At, broken: bool, faults: &mut Faults) {
    let of = table.keys.iter().find(|row| row.name == key).map(|row| row.of);
    let hint = match of {
        Some(Type::Word(words)) => format!("{key} = {}", one_of(words)),
        Some(of) => format!("as in {key} = {}", of.example()),
        None => String::new(),
    };
    if !broken {
        faults.with(at, format!("{} {} has no `{key}`", table.name, quoted(name)), hint);
    }
}
