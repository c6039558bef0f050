//! What `dispatcher.list` says of a set.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::Kamailio;
use crate::Error;
use crate::error::short;

/// The two letters by which Kamailio shows a destination: what it is (Active, Inactive, Trying, Disabled), and whether it
/// is probed (P), never (N), or only when it failed (X).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(char, char);

impl Flags {
    pub(super) fn read(text: &str) -> Option<Self> {
        let letters: Vec<char> = text.chars().collect();
        match letters.as_slice() {
            [state @ ('A' | 'I' | 'T' | 'D'), probed @ ('P' | 'X' | 'N')] => Some(Self(*state, *probed)),
            _ => None,
        }
    }

    pub(super) fn is_active(self) -> bool {
        self.0 == 'A'
    }

    pub(super) fn is_disabled(self) -> bool {
        self.0 == 'D'
    }

    /// As `dispatcher.set_state` takes it.
    pub(super) fn order(self) -> String {
        let probed = if self.1 == 'P' && !self.is_disabled() { "p" } else { "" };
        format!("{}{probed}", self.0.to_ascii_lowercase())
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1)
    }
}

/// The destination, and how many others of its set are active.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) flags: Flags,
    pub(super) others_active: usize,
}

#[derive(Deserialize)]
struct Sets {
    #[serde(rename = "RECORDS")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "SET")]
    set: Set,
}

#[derive(Deserialize)]
struct Set {
    #[serde(rename = "ID")]
    id: u32,
    #[serde(rename = "TARGETS")]
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "DEST")]
    destination: Destination,
}

#[derive(Deserialize)]
struct Destination {
    #[serde(rename = "URI")]
    uri: String,
    #[serde(rename = "FLAGS")]
    flags: String,
}

/// Finds a destination. Kamailio compares them without regard to case, and changes the first alone where one is in a set
/// twice.
pub(super) fn read(told: &Value, of: &Kamailio) -> Result<Seen, Error> {
    let not_understood = |what: String| Error::NotUnderstood { at: of.at.clone(), what: short(&what) };
    let sets = Sets::deserialize(told).map_err(|error| not_understood(error.to_string()))?;
    let missing = |what: String, help: String| Error::Missing { at: of.at.clone(), what, help: short(&help) };
    let Some(Record { set }) = sets.records.iter().find(|record| record.set.id == of.set) else {
        let ids: Vec<_> = sets.records.iter().map(|record| record.set.id.to_string()).collect();
        return Err(missing(format!("set {} of its dispatcher", of.set), format!("it has {}", ids.join(", "))));
    };
    let mut found = None;
    let mut others_active = 0;
    for Target { destination } in &set.targets {
        let flags = Flags::read(&destination.flags);
        let flags = flags.ok_or_else(|| not_understood(format!("the flags {}", destination.flags)))?;
        if !destination.uri.eq_ignore_ascii_case(&of.destination) {
            others_active += usize::from(flags.is_active());
        } else if found.replace(flags).is_some() {
            let why = format!("{} is twice in set {}", short(&of.destination), of.set);
            return Err(Error::Cannot { at: of.at.clone(), why });
        }
    }
    let flags = found.ok_or_else(|| {
        let uris: Vec<_> = set.targets.iter().map(|target| target.destination.uri.as_str()).collect();
        missing(format!("{} in set {}", short(&of.destination), of.set), format!("it has {}", uris.join(", ")))
    })?;
    Ok(Seen { flags, others_active })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(set: u32, destination: &str) -> Kamailio {
        Kamailio { at: "/k".to_owned(), set, destination: destination.to_owned() }
    }

    fn told() -> Value {
        let to = |uri: &str, flags: &str| json!({"DEST": {"URI": uri, "FLAGS": flags, "PRIORITY": 0}});
        json!({"NRSETS": 2, "RECORDS": [
            {"SET": {"ID": 2, "TARGETS": [to("sip:a", "AX"), to("sip:a", "AX")]}},
            {"SET": {"ID": 1, "TARGETS": [to("sip:a:5060", "AP"), to("sip:b:5060", "IP"), to("sip:c:5060", "AX")]}},
        ]})
    }

    #[test]
    fn a_destination_is_found_with_its_flags() {
        let seen = read(&told(), &of(1, "sip:A:5060")).unwrap();
        assert_eq!((seen.flags.to_string(), seen.others_active), ("AP".to_owned(), 1));
        assert_eq!(
            ["AP", "IP", "AX", "TP", "DX", "DP"].map(|text| Flags::read(text).unwrap().order()),
            ["ap", "ip", "a", "tp", "d", "d"]
        );
    }

    #[test]
    fn what_is_not_there_says_what_is() {
        let error = read(&told(), &of(3, "sip:a")).unwrap_err().to_string();
        assert!(error.contains("no set 3") && error.contains("it has 2, 1"), "{error}");
        let error = read(&told(), &of(1, "sip:z")).unwrap_err().to_string();
        assert!(error.contains("sip:b:5060"), "{error}");
        assert!(matches!(read(&told(), &of(2, "sip:a")), Err(Error::Cannot { .. })), "only the first would be changed");
    }

    #[test]
    fn nonsense_is_an_error() {
        for told in [
            json!(null),
            json!([]),
            json!({"RECORDS": 7}),
            json!({"RECORDS": [{"SET": {"ID": 1, "TARGETS": [{"DEST": {"URI": "sip:a", "FLAGS": "\u{1b}[2J"}}]}}]}),
        ] {
            let error = read(&told, &of(1, "sip:a")).unwrap_err();
            assert!(matches!(error, Error::NotUnderstood { .. }) && !error.to_string().contains('\u{1b}'), "{error}");
        }
    }
}
