//! Counters of TCP from `/proc/thread-self/net/netstat`: of the network namespace of the calling thread.

use std::io;

const PATH: &str = "/proc/thread-self/net/netstat";

/// What can go wrong. Display completes "failed to ...".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No /proc, or not ours to read.
    #[error("read {PATH}")]
    Read {
        /// The system's answer.
        source: io::Error,
    },
    /// The file lacks a counter, or it is no number.
    #[error("find the counter {name} in {PATH}")]
    Counter {
        /// Its name in the file.
        name: &'static str,
    },
}

/// What happened in this namespace since it exists. They wrap round with the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Netstat {
    /// SYN cookies sent. When it moves there are connections that no list shows, until their client's next packet.
    pub syncookies_sent: u64,
    /// Good SYN cookies that came back.
    pub syncookies_received: u64,
    /// Connections that were dropped because a listener's queue was full.
    pub listen_overflows: u64,
}

impl Netstat {
    /// Reads the counters of this thread's network namespace.
    ///
    /// # Errors
    ///
    /// A counter that could not be read is an error, not zero.
    pub fn read() -> Result<Self, Error> {
        let text = std::fs::read_to_string(PATH).map_err(|source| Error::Read { source })?;
        Self::parse(&text)
    }

    /// From the file's text: pairs of lines with the same prefix, names in the first, numbers in the second.
    ///
    /// # Errors
    ///
    /// [`Error::Counter`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        let values: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        let counter = |name: &'static str| {
            let column = names.iter().position(|n| *n == name);
            column.and_then(|column| values.get(column)?.parse().ok()).ok_or(Error::Counter { name })
        };
        Ok(Self {
            syncookies_sent: counter("SyncookiesSent")?,
            syncookies_received: counter("SyncookiesRecv")?,
            listen_overflows: counter("ListenOverflows")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "TcpExt: SyncookiesSent SyncookiesRecv X ListenOverflows\nTcpExt: 1 2 -3 4\nIpExt: A\nIpExt: 5\n";
        let expected = Netstat { syncookies_sent: 1, syncookies_received: 2, listen_overflows: 4 };
        assert_eq!(Netstat::parse(text).unwrap(), expected);
        Netstat::read().unwrap();
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        for text in ["", "TcpExt: SyncookiesSent\n", "TcpExt: SyncookiesSent\nTcpExt: many\n"] {
            assert!(matches!(Netstat::parse(text), Err(Error::Counter { name: "SyncookiesSent" })), "{text}");
        }
    }
}
