//! Names and records as they are written: `192.0.2.7`, `2001:db8::7`, `10 20 5222 m1.example.org.`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use domain::base::Rtype;
use domain::base::name::Name;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::short;

/// A name of the DNS, in full; upper and lower case are one.
pub(crate) type DnsName = Name<Vec<u8>>;

/// Reads a name; it is in full with or without its last dot.
pub(super) fn name(text: &str, what: &str) -> Result<DnsName, Error> {
    let name = DnsName::from_str(text).ok().filter(|name| !name.is_root());
    name.ok_or_else(|| Error::Settings {
        what: format!("`{}` as {what}", short(text)),
        help: "write a name of the DNS, such as m1.example.org".to_owned(),
    })
}

/// The kinds of records by which clients find a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Addresses of IPv4.
    A,
    /// Addresses of IPv6.
    Aaaa,
    /// Servers with priority, weight and port.
    Srv,
}

impl Kind {
    pub(super) const fn rtype(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
            Self::Srv => Rtype::SRV,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        })
    }
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Srv { priority: u16, weight: u16, port: u16, target: DnsName },
}

impl Value {
    /// Reads one, as it is shown.
    pub(super) fn read(kind: Kind, text: &str) -> Result<Self, Error> {
        let value = match kind {
            Kind::A => text.parse().ok().map(Self::A),
            Kind::Aaaa => text.parse().ok().map(Self::Aaaa),
            Kind::Srv => srv(text),
        };
        value.ok_or_else(|| Error::Settings {
            what: format!("`{}` as {kind}", short(text)),
            help: match kind {
                Kind::A => "write an address of IPv4".to_owned(),
                Kind::Aaaa => "write an address of IPv6".to_owned(),
                Kind::Srv => "write PRIORITY WEIGHT PORT TARGET".to_owned(),
            },
        })
    }
}

fn srv(text: &str) -> Option<Value> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let [priority, weight, port, target] = words.as_slice() else { return None };
    let number = |word: &str| word.parse().ok();
    let target = DnsName::from_str(target).ok()?;
    Some(Value::Srv { priority: number(priority)?, weight: number(weight)?, port: number(port)?, target })
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Srv { priority, weight, port, target } => {
                write!(f, "{priority} {weight} {port} {}", target.fmt_with_dot())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_are_shown() {
        for (kind, text) in
            [(Kind::A, "192.0.2.7"), (Kind::Aaaa, "2001:db8::7"), (Kind::Srv, "10 20 5222 M1.example.org.")]
        {
            assert_eq!(Value::read(kind, text).unwrap().to_string(), text);
        }
        let (upper, lower) = ["1 2 3 M1.X.", "1 2 3 m1.x"].map(|text| Value::read(Kind::Srv, text).unwrap()).into();
        assert_eq!(upper, lower, "case and the last dot are nothing");
        for (kind, text) in [(Kind::A, "2001:db8::7"), (Kind::Srv, "1 2 3"), (Kind::Srv, "1 2 65536 x."), (Kind::A, "")]
        {
            assert!(matches!(Value::read(kind, text), Err(Error::Settings { .. })), "{text}");
        }
        assert!(name("", "zone").is_err() && name(".", "zone").is_err() && name(&"x".repeat(64), "zone").is_err());
    }
}
