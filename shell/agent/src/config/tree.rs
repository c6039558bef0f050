//! A file as a tree of values, each with its place.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{At, Faults};

/// A table.
pub(crate) type Fields = BTreeMap<String, Entry>;

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the key is.
    pub(crate) at: At,
    /// Where the value is.
    pub(crate) value_at: At,
    pub(crate) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bool(bool),
    Number(f64),
    Text(String),
    Time,
    List(Vec<(At, Value)>),
    Table(Fields),
    /// It was something that it may not be, and that has been said.
    Faulty,
}

impl Value {
    /// What it is, for a sentence.
    pub(crate) const fn said(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Time => "a time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Faulty => "what it may not be",
        }
    }

    pub(crate) const fn table(&self) -> Option<&Fields> {
        if let Self::Table(fields) = self { Some(fields) } else { None }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn list(&self) -> &[(At, Self)] {
        if let Self::List(items) = self { items } else { &[] }
    }
}

/// Reads a file. Where it is no TOML, what is above the first such line is taken all the same. False then.
pub(crate) fn read(file: usize, text: &str, faults: &mut Faults) -> (Fields, bool) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut sound = text.len();
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        faults.say(At { file, offset }, format!("this is no TOML: {}", error.message()));
        let line = text.as_bytes()[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        sound = sound.min(line);
    }
    (fields(file, sound, table.get_ref()), errors.is_empty())
}

fn fields(file: usize, sound: usize, table: &DeTable<'_>) -> Fields {
    let mut fields = Fields::new();
    for (key, value) in table {
        let span = value.span();
        if key.span().start > sound || span.end > sound {
            continue;
        }
        let (at, value_at) = (At { file, offset: key.span().start }, At { file, offset: span.start });
        let entry = Entry { at, value_at, value: value_of(file, sound, value) };
        fields.insert(key.get_ref().to_string(), entry);
    }
    fields
}

fn value_of(file: usize, sound: usize, value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        // One that is too large is no port and no percentage either.
        DeValue::Integer(number) => Value::Number(
            i64::from_str_radix(number.as_str(), number.radix()).map_or(f64::INFINITY, |whole| whole as f64),
        ),
        DeValue::Float(number) => Value::Number(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(_) => Value::Time,
        DeValue::Array(items) => {
            let item =
                |item: &Spanned<DeValue<'_>>| (At { file, offset: item.span().start }, value_of(file, sound, item));
            Value::List(items.iter().map(item).collect())
        }
        DeValue::Table(table) => Value::Table(fields(file, sound, table)),
    }
}

/// Lays a file over those before it: tables by key, all else as a whole.
pub(crate) fn lay_over(below: &mut Fields, above: Fields) {
    for (name, above) in above {
        match below.entry(name) {
            Slot::Vacant(slot) => drop(slot.insert(above)),
            Slot::Occupied(mut slot) => {
                let below = slot.get_mut();
                match (&mut below.value, above.value) {
                    (Value::Table(fields), Value::Table(over)) => {
                        lay_over(fields, over);
                        (below.at, below.value_at) = (above.at, above.value_at);
                    }
                    (_, value) => *below = Entry { value, ..above },
                }
            }
        }
    }
}

/// A default, as the schema writes it.
pub(crate) fn default(written: &str) -> Value {
    DeValue::parse(written).map_or(Value::Faulty, |value| value_of(0, written.len(), &value))
}
