//! PgBouncer: its clients by `SHOW CLIENTS` on its console. It cannot say goodbye to one client (1.18), and a pause is no
//! drain: newcomers would wait.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ebb_model::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Role, Span, Use, UseKind, Uses};
use tokio_postgres::{Client, SimpleQueryRow};

use crate::libpq::{NAME, Rows, Way, number, text};
use crate::{Adapter, Answer, Error, MOST_USES, Seen};

const PGBOUNCER: DaemonKind = DaemonKind::Pgbouncer;
/// Who connects over the unix socket as PgBouncer's own user is this admin without a password.
const ADMIN: &str = "pgbouncer";

/// One PgBouncer.
#[derive(Clone, Debug)]
pub(crate) struct Pgbouncer {
    way: Way,
}

impl Pgbouncer {
    pub(crate) fn new(seen: &Seen, settings: &DaemonSettings) -> Option<Self> {
        Some(Self { way: Way::of(PGBOUNCER, seen, settings, "pgbouncer")? })
    }

    async fn rows(&self, command: &str, most: usize) -> Result<Rows, Error> {
        self.way.with(Some(ADMIN), |client| async move { self.way.rows(&client, command, most).await }).await
    }

    /// Its clients, and its pools, for how they hold their servers.
    async fn clients(&self, most: usize) -> Result<(Rows, Vec<SimpleQueryRow>), Error> {
        let work = |client: Client| async move {
            let clients = self.way.rows(&client, "SHOW CLIENTS", most).await?;
            Ok((clients, self.way.rows(&client, "SHOW POOLS", MOST_USES).await?.rows))
        };
        self.way.with(Some(ADMIN), work).await
    }

    async fn asked(&self) -> Result<Abilities, Error> {
        let rows = self.rows("SHOW VERSION", 1).await?.rows;
        Ok(Abilities {
            version: rows.first().and_then(|row| text(row, "version")),
            list: Ability::Ready,
            refuse: Ability::Never("the gate does it: clients go on to their next host after a reset"),
            end: Ability::Never("it has no end for one client; the kernel ends its connection"),
            redirect: Ability::Never("its protocol has no such word"),
        })
    }
}

impl Adapter for Pgbouncer {
    fn kind(&self) -> DaemonKind {
        PGBOUNCER
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            Ok(self.asked().await.unwrap_or_else(|error| {
                let help = "admin_users or stats_users in pgbouncer.ini; user and password_file in [daemon.NAME]";
                Abilities::missing(&error.to_string(), help)
            }))
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let (Rows { rows, more }, pools) = self.clients(most).await?;
            let by_session = pools.iter().filter(|row| text(row, "pool_mode").as_deref() == Some("session"));
            let by_session: BTreeSet<Pool> = by_session.map(pool).collect();
            // In its own clock, whatever its time zone: we have connected just now.
            let now = rows.iter().rev().find(|row| is_own(row)).and_then(connected);
            let uses: Vec<Use> = rows.iter().filter_map(|row| told(row, now.as_ref(), &by_session)).collect();
            // We are connected: there is one at least.
            if uses.is_empty() || uses.len() != rows.len() {
                return Err(self.way.not_understood("a list of clients without us, or with one that has no name"));
            }
            Ok(Uses { uses, more, transport: false })
        })
    }
}

/// A pool: its database and user.
type Pool = (Option<String>, Option<String>);

fn pool(row: &SimpleQueryRow) -> Pool {
    (text(row, "database"), text(row, "user"))
}

fn is_own(row: &SimpleQueryRow) -> bool {
    is(row, "database", "pgbouncer") && is(row, "application_name", NAME)
}

fn is(row: &SimpleQueryRow, column: &str, value: &str) -> bool {
    row.try_get(column).ok().flatten() == Some(value)
}

/// When a client connected: seconds in PgBouncer's own clock, and the name of its time zone.
fn connected(row: &SimpleQueryRow) -> Option<(i64, String)> {
    clock(&text(row, "connect_time")?)
}

/// `2026-11-26 15:22:01 CET`; seconds since the year 0 of a calendar without leap seconds.
fn clock(text: &str) -> Option<(i64, String)> {
    let (date, rest) = text.split_once(' ')?;
    let (time, zone) = rest.split_once(' ')?;
    let numbers = |text: &str, between: char| -> Option<[i64; 3]> {
        let parts: Option<Vec<i64>> = text.split(between).map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let ([year, month, day], [hours, minutes, seconds]) = (numbers(date, '-')?, numbers(time, ':')?);
    let sound = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let sound = sound && (0..24).contains(&hours) && (0..60).contains(&minutes) && (0..=60).contains(&seconds);
    if !sound {
        return None;
    }
    // The year begins in March: the day that leaps is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    Some((days * 86_400 + hours * 3600 + minutes * 60 + seconds, zone.to_owned()))
}

fn told(row: &SimpleQueryRow, now: Option<&(i64, String)>, by_session: &BTreeSet<Pool>) -> Option<Use> {
    let ip: Option<IpAddr> = number(row, "addr");
    let (database, state) = (text(row, "database")?, text(row, "state")?);
    let console = database == "pgbouncer";
    let role = match ip {
        _ if is_own(row) => Role::Own,
        // Who else is on the console is an operator, or what he watches it with.
        _ if console => Role::Monitoring,
        None => Role::Local,
        Some(_) => Role::User,
    };
    // In transaction mode an idle client is `active` too: only a linked server says that something is under way. In session
    // mode it keeps its server to its end, and nothing says what it does.
    let linked = text(row, "link").is_some();
    let (busy, doing) = match state.as_str() {
        "waiting" => (Busy::Active, "waits for a server"),
        _ if linked && by_session.contains(&pool(row)) => (Busy::Unknown, "keeps its server"),
        _ if linked => (Busy::Inside, "has a server"),
        _ => (Busy::Idle, "idle"),
    };
    let application = text(row, "application_name").map_or_else(String::new, |name| format!(" ({name})"));
    let age = now.zip(connected(row)).filter(|(now, at)| now.1 == at.1).map(|(now, at)| now.0 - at.0);
    Some(Use {
        user: text(row, "user"),
        what: Some(format!("{}{application}: {doing}", if console { "console" } else { &database })),
        peer: ip.zip(number::<u16>(row, "port")).map(|(ip, port)| SocketAddr::new(ip, port)),
        age: age.and_then(|seconds| u64::try_from(seconds).ok()).map(Span::seconds),
        busy,
        role,
        by_connection: ip.is_some(),
        ..Use::new(text(row, "ptr")?, UseKind::Database)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_clock() {
        let of = |text: &str| clock(text).map(|(seconds, _)| seconds);
        let day = |text: &str| of(&format!("{text} 00:00:00 UTC")).unwrap() / 86_400;
        assert_eq!(of("2026-11-26 15:22:01 CET").unwrap() - of("2026-11-26 14:21:00 CET").unwrap(), 3661);
        for (before, after, days) in [
            ("2026-12-31", "2027-01-01", 1),
            ("2026-02-28", "2026-03-01", 1),
            ("2028-02-28", "2028-03-01", 2),
            ("2026-04-30", "2026-05-01", 1),
            ("2000-01-01", "2026-11-26", 9826),
        ] {
            assert_eq!(day(after) - day(before), days, "{before}");
        }
        assert_eq!(clock("2026-11-26 15:22:01 CET").unwrap().1, "CET");
        for broken in ["", "now", "2026-13-01 00:00:00 UTC", "2026-11-26 15:22 UTC", "9223372036854775807-1-1 0:0:0 X"]
        {
            assert_eq!(clock(broken), None, "{broken}");
        }
    }
}
