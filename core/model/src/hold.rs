//! Holds: durable wishes, each somebody's.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Mono, Requester, ServiceName, Wall};

/// How much a hold forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Refuse new sessions.
    Draining,
    /// Refuse new sessions and keep the service from running once it is empty.
    Stopped,
}

impl Level {
    /// Lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// A person, as the kernel names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Real user id of the caller.
    pub uid: u32,
    /// Login name, behind `sudo` the one who called it.
    pub name: String,
}

/// An address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// Network address, with the bits behind the prefix cleared.
    pub ip: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

impl Cidr {
    /// Whether `ip` lies in the range; IPv4-mapped addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        Self::new(ip.to_canonical(), self.prefix).is_ok_and(|range| range == *self)
    }

    /// A range from any address in it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn new(ip: IpAddr, prefix: u8) -> Result<Self, String> {
        let masked = match ip {
            IpAddr::V4(_) if prefix > 32 => return Err(format!("/{prefix} is longer than an IPv4 address")),
            IpAddr::V6(_) if prefix > 128 => return Err(format!("/{prefix} is longer than an IPv6 address")),
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into())
            }
        };
        Ok(Self { ip: masked, prefix })
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(|_| format!("`{ip}` is no IP address; write 192.0.2.7 or 192.0.2.0/24"))?;
        let full = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => full,
            Some(digits) => digits.parse().map_err(|_| format!("`/{digits}` is no prefix length"))?,
        };
        Self::new(ip, prefix)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.ip, self.prefix))
    }
}

/// When a hold is meant to end, on both clocks: the wall's may be set to any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// On the wall clock: what was told.
    pub wall: Wall,
    /// In which boot it was said.
    pub boot_id: String,
    /// On the clock of that boot.
    pub mono: Mono,
    /// Bring the service back then; else it stays as it is, and that is an alarm.
    pub reopen: bool,
}

/// A durable wish that a service's gate be shut. One requester has at most one on a service, beside the one that it may
/// have on the whole server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What is held.
    pub service: ServiceName,
    /// Who wishes it, and alone may release it.
    pub requester: Requester,
    /// How much it forbids.
    pub level: Level,
    /// Why, in the requester's words; may be empty.
    pub reason: String,
    /// The person or program that placed it.
    pub by: Who,
    /// Since when.
    pub since: Wall,
    /// When it is meant to end, if that was said.
    pub until: Option<End>,
    /// Who may still come in.
    pub except: BTreeSet<Cidr>,
    /// It is the whole server that is held; this is what that means for one of its services.
    pub whole_server: bool,
}

impl Hold {
    /// Whether they are one and the same, whatever has become of their words since.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (&self.service, &self.requester, self.whole_server) == (&other.service, &other.requester, other.whole_server)
    }
}

/// A durable wish that all services of the server be held, but for some. One requester has at most one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHold {
    /// Who wishes it, and alone may release it.
    pub requester: Requester,
    /// How much it forbids.
    pub level: Level,
    /// Why, in the requester's words; may be empty.
    pub reason: String,
    /// The person or program that placed it.
    pub by: Who,
    /// Since when.
    pub since: Wall,
    /// When it is meant to end, if that was said.
    pub until: Option<End>,
    /// Who may still come in.
    pub except: BTreeSet<Cidr>,
    /// Services that it holds. Those that come later are added, unless they are left open.
    pub covers: BTreeSet<ServiceName>,
    /// Services that it leaves open; `*` at the end of one stands for anything.
    pub leaves_open: BTreeSet<String>,
}

impl ServerHold {
    /// What it means for one of its services.
    #[must_use]
    pub fn on(&self, service: &ServiceName) -> Hold {
        Hold {
            service: service.clone(),
            requester: self.requester.clone(),
            level: self.level,
            reason: self.reason.clone(),
            by: self.by.clone(),
            since: self.since,
            until: self.until.clone(),
            except: self.except.clone(),
            whole_server: true,
        }
    }

    /// Whether it leaves a service open that goes by any of these names.
    #[must_use]
    pub fn leaves<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        names.into_iter().any(|name| self.leaves_open.iter().any(|pattern| fits(pattern, name)))
    }
}

/// The requester of `ebb maintenance`.
pub const MAINTENANCE: &str = "maintenance";

/// The command that brings the whole server back in the name of a requester.
#[must_use]
pub fn resume_server(requester: &str) -> String {
    match requester {
        MAINTENANCE => "ebb maintenance finish".to_owned(),
        "operator" => "ebb resume --server".to_owned(),
        other => format!("ebb resume --server --as {other}"),
    }
}

/// Whether a name is meant by a pattern: `*` at the end stands for anything.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_end_with_a_star_or_are_names() {
        assert!(fits("ssh", "ssh") && !fits("ssh", "sshd") && fits("prometheus-*", "prometheus-node-exporter"));
        assert!(fits("*", "anything") && !fits("a*b", "axb") && !fits("prometheus-*", "prometheus"));
    }

    #[test]
    fn ranges_parse_mask_and_contain() {
        let range: Cidr = "10.1.2.3/8".parse().unwrap();
        assert_eq!(range.to_string(), "10.0.0.0/8");
        assert!(range.contains("10.255.0.1".parse().unwrap()));
        assert!(range.contains("::ffff:10.0.0.9".parse().unwrap()));
        assert!(!range.contains("11.0.0.1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!(!"::/0".parse::<Cidr>().unwrap().contains("8.8.8.8".parse().unwrap()));
        for bad in ["10.0.0.0/33", "x", "10.0.0.1/", "::/129", "10.0.0.1/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
