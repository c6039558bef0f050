//! Who is logged in, as Dovecot's `anvil` tells over its unix socket: the list that `doveadm who` shows. Asked directly:
//! `doveadm` would read the whole configuration first, and fail with it; this is one question and one list.

use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::DOVECOT;
use crate::{Error, MOST_BYTES, MOST_USES, call};

/// Version 1 is Dovecot 2's up to 2.3; anvil closes the connection at another major one.
const QUESTION: &[u8] = b"VERSION\tanvil\t1\t0\nCONNECT-DUMP\n";

/// One line: sessions of one user from one address in one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// `imap`, `pop3`, `lmtp`.
    pub(super) service: String,
    /// Of the client, as Dovecot was told; none over a unix socket, and for a delivery.
    pub(super) ip: Option<IpAddr>,
    pub(super) user: String,
    /// In the PID namespace of Dovecot.
    pub(super) pid: u32,
    /// How many sessions.
    pub(super) count: u32,
}

/// What anvil told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) rows: Vec<Row>,
    /// The process that has made the socket, in our PID namespace. None if it lives outside of ours.
    pub(super) listens: Option<u32>,
}

/// Asks.
pub(super) async fn ask(path: &str) -> Result<Told, Error> {
    let not_reached = |error: std::io::Error| {
        let (daemon, at, cause) = (DOVECOT, path.to_owned(), error.to_string());
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Error::NotPermitted { daemon, at, cause },
            _ => Error::NotReached { daemon, at, cause },
        }
    };
    let mut anvil = UnixStream::connect(path).await.map_err(not_reached)?;
    let listens = anvil.peer_cred().map_err(not_reached)?.pid();
    anvil.write_all(QUESTION).await.map_err(not_reached)?;
    let (mut all, mut some) = (Vec::new(), vec![0; 1 << 16]);
    while !ends(&all) {
        let count = anvil.read(&mut some).await.map_err(not_reached)?;
        if count == 0 {
            return Err(not_understood("its list has no end; only Dovecot 2.3 is known"));
        }
        all.extend_from_slice(some.get(..count).unwrap_or_default());
        if all.len() > MOST_BYTES {
            return Err(not_understood(&format!("more than {MOST_BYTES} bytes")));
        }
    }
    let listens = listens.and_then(|pid| u32::try_from(pid).ok());
    Ok(Told { rows: rows(&all)?, listens })
}

/// An empty line ends the list.
fn ends(all: &[u8]) -> bool {
    all == b"\n" || all.ends_with(b"\n\n")
}

/// All lines up to the empty one.
pub(super) fn rows(all: &[u8]) -> Result<Vec<Row>, Error> {
    let text = String::from_utf8_lossy(all);
    let Some(list) = text.strip_suffix('\n').filter(|list| list.is_empty() || list.ends_with('\n')) else {
        return Err(not_understood("its list has no end"));
    };
    let mut rows = Vec::new();
    for line in list.lines() {
        if rows.len() > MOST_USES {
            return Err(not_understood(&format!("more than {MOST_USES} lines")));
        }
        rows.push(row(line).ok_or_else(|| not_understood(&format!("the line `{line}`")))?);
    }
    Ok(rows)
}

/// `imap/192.0.2.7/ana`, process, how many. A delivery has no address: `lmtp/ana`.
fn row(line: &str) -> Option<Row> {
    let mut fields = line.split('\t');
    let (who, pid, count) = (fields.next()?, fields.next()?, fields.next()?);
    let who = unescaped(who);
    let (service, rest) = who.split_once('/').filter(|(service, _)| !service.is_empty())?;
    let (ip, user) = match rest.split_once('/') {
        Some(("", user)) => (None, user),
        Some((ip, user)) => match ip.parse() {
            Ok(ip) => (Some(ip), user),
            Err(_) => (None, rest),
        },
        None => (None, rest),
    };
    let (service, user) = (service.to_owned(), user.to_owned());
    let (pid, count) = (pid.parse().ok()?, count.parse().ok().filter(|count| *count > 0)?);
    Some(Row { service, ip, user, pid, count })
}

/// Dovecot writes a tab, a line's end and a few others as `\001` and a letter.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut all = text.chars();
    while let Some(one) = all.next() {
        plain.push(match one {
            '\u{1}' => match all.next() {
                Some('0') => '\0',
                Some('1') => '\u{1}',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => break,
            },
            other => other,
        });
    }
    plain
}

fn not_understood(what: &str) -> Error {
    Error::NotUnderstood { daemon: DOVECOT, what: call::short(what) }
}
