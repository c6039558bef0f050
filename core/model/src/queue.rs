//! What becomes of the messages that a mail server has in its queue when it is drained.

use std::fmt;
use std::net::IpAddr;

/// What becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// What is on its way is waited for, what is deferred stays.
    #[default]
    Leave,
    /// What is deferred is tried once more, and waited for while that goes on.
    Flush,
    /// The same, and all that would leave by SMTP leaves by this server.
    Move(NextHop),
}

/// A mail server that takes mail for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// A name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// As Postfix reads it: in brackets, so that it is no domain with MX records.
impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]:{}", self.host, self.port)
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave => f.write_str("leave"),
            Self::Flush => f.write_str("flush"),
            Self::Move(hop) => write!(f, "move:{hop}"),
        }
    }
}

impl std::str::FromStr for Queue {
    type Err = String;

    /// `leave`, `flush`, `move:HOST`, `move:HOST:PORT`; an IPv6 address is in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("leave", _) => Ok(Self::Leave),
            ("flush", _) => Ok(Self::Flush),
            (_, Some(("move", hop))) => hop.parse().map(Self::Move),
            _ => Err("it is `leave`, `flush`, or `move:HOST` with the mail server that takes the queue".to_owned()),
        }
    }
}

impl std::str::FromStr for NextHop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is no HOST or HOST:PORT (an IPv6 address in brackets)", crate::printable(text));
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, Some("")),
            },
        };
        let port = match port.ok_or_else(wrong)? {
            "" => 25,
            port => port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
        };
        let part = |part: &str| {
            let ok = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
            ok && !part.is_empty() && part.len() < 64 && !part.starts_with('-')
        };
        let named = host.len() < 254 && host.trim_end_matches('.').split('.').all(part);
        if host.parse::<IpAddr>().is_err() && !named {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_back() {
        for (typed, shown) in [
            ("leave", "leave"),
            ("flush", "flush"),
            ("move:mx2", "move:[mx2]:25"),
            ("move:mx2.x.test:2525", "move:[mx2.x.test]:2525"),
            ("move:10.0.0.7:587", "move:[10.0.0.7]:587"),
            ("move:[2001:db8::7]", "move:[2001:db8::7]:25"),
            ("move:[2001:db8::7]:26", "move:[2001:db8::7]:26"),
        ] {
            let queue: Queue = typed.parse().unwrap();
            assert_eq!(queue.to_string(), shown);
            assert_eq!(shown.parse(), Ok(queue));
        }
        let bad =
            ["", "move", "move:", "move: x", "move:a b", "move:x:0", "move:x:99999", "move:x\ny=1", "move:[x", "drop"];
        for bad in bad.into_iter().chain(["move:-x", "move:x..y", "move:2001:db8::7", "move:$x", "move:[x]y"]) {
            assert!(bad.parse::<Queue>().is_err(), "{bad:?}");
        }
    }
}
