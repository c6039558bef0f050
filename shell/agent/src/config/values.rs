//! Whether a value is what its key may be.

use std::collections::BTreeSet;

use ebb_decide::resolve::nearest;
use ebb_model::{ServiceName, Span};

use super::fault::{At, Faults, one_of, quoted};
use super::schema::Type;
use super::tree::{Entry, Value};

/// What is wrong with it: where, what, and what helps.
type Wrong = (At, String, Option<String>);

/// Checks one value, says what is wrong and marks it then. Of several types the first that fits is enough.
pub(crate) fn check(name: &str, types: &[Type], entry: &mut Entry, faults: &mut Faults) {
    if matches!(entry.value, Value::Faulty) {
        return;
    }
    let mut said: Option<Vec<Wrong>> = None;
    for of in types {
        let wrong = wrong(name, *of, entry);
        if wrong.is_empty() {
            return;
        }
        said.get_or_insert(wrong);
    }
    for (at, what, hint) in said.into_iter().flatten() {
        faults.perhaps(at, what, hint);
    }
    entry.value = Value::Faulty;
}

fn wrong(name: &str, of: Type, entry: &Entry) -> Vec<Wrong> {
    let at = entry.value_at;
    let of_type = |at: At, value: &Value| {
        let what = format!("`{name}` must be {}, and there is {} here", of.said(), value.said());
        vec![(at, what, Some(format!("as in {name} = {}", of.example())))]
    };
    match (of, &entry.value) {
        (Type::Bool, Value::Bool(_)) => Vec::new(),
        (Type::Percent, Value::Number(number)) if (0.0..=100.0).contains(number) => Vec::new(),
        (Type::Percent, Value::Number(_)) => vec![(at, format!("`{name}` must be {}", of.said()), None)],
        (Type::TextMap, Value::Table(fields)) => {
            let texts = |(key, entry): (&String, &Entry)| wrong(key, Type::Text, entry);
            fields.iter().flat_map(texts).collect()
        }
        (Type::AddressMap, Value::Table(fields)) => fields
            .iter()
            .flat_map(|(key, entry)| match &entry.value {
                Value::List(items) => {
                    items.iter().flat_map(|(at, item)| in_list(key, Type::Address, *at, item)).collect()
                }
                _ => {
                    let what = format!("`{key}` must be a list of HOST:PORT, and there is {} here", entry.value.said());
                    vec![(entry.value_at, what, Some(format!("as in {key} = [\"b.example.org:443\"]")))]
                }
            })
            .collect(),
        (Type::Command, Value::List(items)) if items.is_empty() => {
            vec![(at, format!("`{name}` names no program"), Some(format!("as in {name} = {}", of.example())))]
        }
        (_, Value::List(items)) if item_of(of).is_some() => {
            let item_of = item_of(of).unwrap_or(Type::Text);
            let mut wrong: Vec<Wrong> = items.iter().flat_map(|(at, item)| in_list(name, item_of, *at, item)).collect();
            wrong.extend(twice(name, of, items));
            wrong
        }
        (_, Value::Text(text)) => match in_text(of, text) {
            None => Vec::new(),
            Some(Err(())) => of_type(at, &entry.value),
            Some(Ok((what, hint))) => vec![(at, format!("`{name}`: {what}"), hint)],
        },
        (_, value) => of_type(at, value),
    }
}

/// What the items of a list are; none if it is no list.
const fn item_of(of: Type) -> Option<Type> {
    match of {
        Type::Texts | Type::Command => Some(Type::Text),
        Type::Patterns | Type::People | Type::Words(_) | Type::Ports => Some(of),
        Type::PathPatterns => Some(Type::PathPattern),
        Type::Mailboxes => Some(Type::Mailbox),
        _ => None,
    }
}

fn in_list(name: &str, of: Type, at: At, item: &Value) -> Vec<Wrong> {
    match (of, item) {
        (Type::Ports, Value::Number(port)) if port.fract() == 0.0 && (1.0..=65_535.0).contains(port) => Vec::new(),
        (Type::Ports, Value::Number(port)) => {
            vec![(
                at,
                format!("`{name}`: {port} is no port"),
                Some("ports are whole numbers from 1 to 65535".to_owned()),
            )]
        }
        (Type::Patterns | Type::People | Type::Words(_), Value::Text(text)) => {
            let found = match of {
                Type::Words(words) => in_text(Type::Word(words), text),
                Type::People => person(text).map(Ok),
                _ => pattern(text).map(Ok),
            };
            found.into_iter().flatten().map(|(what, hint)| (at, format!("`{name}`: {what}"), hint)).collect()
        }
        (_, Value::Text(text)) => match in_text(of, text) {
            None => Vec::new(),
            Some(Ok((what, hint))) => vec![(at, format!("`{name}`: {what}"), hint)],
            Some(Err(())) => vec![(at, format!("`{name}` must not have a text here"), None)],
        },
        (_, item) => {
            let wants = if matches!(of, Type::Ports) { "ports" } else { "texts" };
            vec![(at, format!("`{name}` is a list of {wants}, and there is {} here", item.said()), None)]
        }
    }
}

/// What stands in a list that knows no order twice. A command may.
fn twice(name: &str, of: Type, items: &[(At, Value)]) -> Vec<Wrong> {
    let mut seen = BTreeSet::new();
    if of == Type::Command {
        return Vec::new();
    }
    let said = |value: &Value| match value {
        Value::Text(text) => quoted(text),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let again = items.iter().filter(|(_, item)| !seen.insert(said(item)) && !said(item).is_empty());
    again.map(|(at, item)| (*at, format!("`{name}` has {} twice", said(item)), None)).collect()
}

type Said = (String, Option<String>);

/// What is wrong with a text; `Err`: that it is one.
fn in_text(of: Type, text: &str) -> Option<Result<Said, ()>> {
    let said = |what: String, hint: &str| Some(Ok((what, Some(hint.to_owned()).filter(|hint| !hint.is_empty()))));
    let one_line = !text.chars().any(char::is_control);
    match of {
        _ if text.is_empty() && of != Type::Bool => said("it is empty".to_owned(), ""),
        Type::Text => None,
        Type::Duration | Type::Timeout => match text.parse::<Span>() {
            Err(error) => said(format!("{} is no length of time", quoted(text)), &error.to_string()),
            Ok(Span::ZERO) if of == Type::Timeout => said("no answer comes within no time".to_owned(), ""),
            Ok(_) => None,
        },
        Type::Word(words) if words.contains(&text) => None,
        Type::Word(words) => {
            let near = nearest(text, words.iter().copied()).map(|near| format!("did you mean `{near}`? "));
            let hint = format!("{}it is {}", near.unwrap_or_default(), one_of(words));
            said(format!("there is no {}", quoted(text)), &hint)
        }
        Type::Path | Type::PathPattern if !text.starts_with('/') || !one_line => {
            said(format!("{} is no path from the root", quoted(text)), "begin it with `/`")
        }
        Type::PathPattern if text.rsplit_once('/').is_some_and(|(folders, _)| folders.contains('*')) => {
            said("`*` may stand in the last part only".to_owned(), "")
        }
        Type::Path | Type::PathPattern => None,
        Type::Address if is_address(text) => None,
        Type::Address => said(format!("{} is not HOST:PORT", quoted(text)), &format!("as in {}", of.example())),
        Type::Url if is_url(text) && one_line => None,
        // It may have a secret in it: not quoted.
        Type::Url => said("this is no URL".to_owned(), "it begins with http:// or https://, and has a host"),
        Type::Mailbox if is_mailbox(text) => None,
        Type::Mailbox => said(format!("{} is no mail address", quoted(text)), &format!("as in {}", of.example())),
        _ => Some(Err(())),
    }
}

fn pattern(text: &str) -> Option<Said> {
    let name = text.strip_suffix('*').unwrap_or(text);
    if name.contains('*') {
        return Some((format!("`*` in {} may stand at the end only", quoted(text)), None));
    }
    if name.is_empty() && text == "*" {
        return None;
    }
    ServiceName::new(name).err().map(|error| (error.to_string(), None))
}

fn person(text: &str) -> Option<Said> {
    let name = text.strip_prefix('@').unwrap_or(text);
    let fine = !name.is_empty() && !name.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':' || c == '@');
    let hint = || Some("a login name, or @GROUP".to_owned());
    (!fine).then(|| (format!("{} is nobody's name", quoted(text)), hint()))
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c)),
    };
    host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    host.is_some_and(|host| !host.is_empty()) && !text.chars().any(char::is_whitespace)
}

/// An address, or `NAME <ADDRESS>` with a plain name.
fn is_mailbox(text: &str) -> bool {
    let Some((name, rest)) = text.split_once('<') else { return is_mail_address(text) };
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_".contains(c);
    let name_fits = name.strip_suffix(' ').is_some_and(|name| !name.trim().is_empty() && name.chars().all(plain));
    name_fits && rest.strip_suffix('>').is_some_and(is_mail_address)
}

fn is_mail_address(text: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "<>,;\"".contains(c);
    let parts = text.split_once('@');
    parts.is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && !text.chars().any(odd)
}

#[cfg(test)]
mod tests {
    use super::is_mailbox;

    #[test]
    fn a_sender_may_have_a_name() {
        for fine in ["ebb@example.org", "ebb <ebb@example.org>", "ebb on web-1 <ebb@example.org>"] {
            assert!(is_mailbox(fine), "{fine}");
        }
        for odd in
            ["ebb", "<ebb@example.org>", "ebb <ebb>", "a, b <c@d>", "ebb <a@b> x", "e\n <a@b>", "x <a@b", " <a@b>"]
        {
            assert!(!is_mailbox(odd), "{odd}");
        }
    }
}
