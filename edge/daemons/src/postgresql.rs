//! PostgreSQL: its sessions by `pg_stat_activity`, ended by `pg_terminate_backend`. The gate refuses better than it could:
//! libpq goes on to its next host after a reset, and not after the server's own FATAL.

use std::net::{IpAddr, SocketAddr};

use ebb_model::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Ended, Role, Span, Use, UseKind, Uses};
use tokio_postgres::{Client, SimpleQueryRow};

use crate::libpq::{Rows, Way, number, text};
use crate::{Adapter, Answer, Error, Seen};

const POSTGRESQL: DaemonKind = DaemonKind::Postgresql;

/// `application_name`, `state` and the like are others' to others: a role without these rights sees half.
const RIGHTS: &str = "select current_setting('server_version') as version, \
    pg_has_role(current_user, 'pg_read_all_stats', 'usage') as reads, \
    pg_has_role(current_user, 'pg_signal_backend', 'usage') as signals";

/// One PostgreSQL cluster.
#[derive(Clone, Debug)]
pub(crate) struct Postgresql {
    way: Way,
    queries: bool,
}

impl Postgresql {
    pub(crate) fn new(seen: &Seen, settings: &DaemonSettings) -> Option<Self> {
        let way = Way::of(POSTGRESQL, seen, settings, "postgres")?;
        Some(Self { way, queries: settings.queries })
    }

    async fn rows(&self, query: String, most: usize) -> Result<Rows, Error> {
        let work = |client: Client| async move {
            self.limit(&client).await?;
            self.way.rows(&client, &query, most).await
        };
        self.way.with(None, work).await
    }

    /// Bounded on the server's side too: a query that hangs there holds locks.
    async fn limit(&self, client: &Client) -> Result<(), Error> {
        client.batch_execute("set statement_timeout = '5s'").await.map_err(|error| self.way.failed(&error))
    }

    /// Ends one backend. Whether it is idle is looked at by the statement that ends it, and each has one of its own: it sees
    /// states as they were when it began, and a server that sends off many at once is slow to send off each. Of 1,500
    /// sessions that began 400 transactions a second, 30 were ended within one by a statement for all, 53 by statements for
    /// 16, and none by statements for one.
    async fn ended(&self, client: &Client, (pid, born): (i32, i64), inside: bool) -> Result<Ended, Error> {
        let query = format!(
            "select state, case when {inside} or state = 'idle' then pg_terminate_backend(pid) end as ended \
             from pg_stat_get_activity({pid}) where backend_type = 'client backend' and pid <> pg_backend_pid() \
             and (extract(epoch from backend_start) * 1000000)::bigint = {born}"
        );
        let rows = match self.way.rows(client, &query, 1).await {
            Ok(rows) => rows.rows,
            // Of a superuser, say.
            Err(Error::NotPermitted { cause: said, .. } | Error::Refused { what: said, .. }) => {
                return Ok(Ended::Failed(said));
            }
            Err(error) => return Err(error),
        };
        let Some(row) = rows.first() else { return Ok(Ended::Gone) };
        Ok(match row.try_get("ended").ok().flatten() {
            Some("t") => Ended::Asked,
            Some(_) => Ended::Failed("the server could not signal it".to_owned()),
            None => Ended::Spared(text(row, "state").unwrap_or_else(|| "not idle".to_owned())),
        })
    }

    async fn asked(&self) -> Result<Abilities, Error> {
        let rows = self.rows(RIGHTS.to_owned(), 1).await?.rows;
        let has = |column: &str| rows.first().is_some_and(|row| row.try_get(column).ok().flatten() == Some("t"));
        let able = |column: &str, role: &str| {
            if has(column) {
                return Ability::Ready;
            }
            Ability::Missing { what: format!("its role lacks {role}"), help: format!("grant {role} to that role") }
        };
        Ok(Abilities {
            version: rows.first().and_then(|row| text(row, "version")),
            list: able("reads", "pg_read_all_stats"),
            refuse: Ability::Never("the gate does it: clients go on to their next host after a reset"),
            end: able("signals", "pg_signal_backend"),
            redirect: Ability::Never("its protocol has no such word"),
        })
    }
}

impl Adapter for Postgresql {
    fn kind(&self) -> DaemonKind {
        POSTGRESQL
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            Ok(self.asked().await.unwrap_or_else(|error| {
                Abilities::missing(&error.to_string(), "[daemon.NAME] in ebb.toml names socket, user and password_file")
            }))
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let query = if self.queries { "left(query, 200)" } else { "null" };
            let query = format!(
                "select pid, backend_type, usename, datname, application_name, host(client_addr) as ip, client_port, \
                 state, extract(epoch from backend_start) * 1000000 as born, \
                 extract(epoch from clock_timestamp() - backend_start) as age, \
                 extract(epoch from clock_timestamp() - state_change) as idle, \
                 extract(epoch from clock_timestamp() - xact_start) as inside, \
                 pid = pg_backend_pid() as own, {query} as query, count(*) over () as total \
                 from pg_stat_activity where backend_type in ('client backend', 'walsender') \
                 order by backend_start limit {most}"
            );
            let rows = self.rows(query, most).await?.rows;
            // We are connected: there is one at least.
            let total = rows.first().and_then(|row| number::<u64>(row, "total"));
            let total = total.ok_or_else(|| self.way.not_understood("not even our own session"))?;
            let uses: Vec<Use> = rows.iter().filter_map(told).collect();
            if uses.len() != rows.len() {
                return Err(self.way.not_understood("a session without a pid or a beginning"));
            }
            Ok(Uses { more: total.saturating_sub(uses.len() as u64), uses, transport: false })
        })
    }

    fn end<'a>(&'a self, keys: &'a [String], _text: &'a str, inside: bool) -> Answer<'a, Vec<Ended>> {
        Box::pin(async move {
            let work = |client: Client| async move {
                self.limit(&client).await?;
                let mut all = Vec::with_capacity(keys.len());
                for key in keys {
                    all.push(match pair(key) {
                        Some(pair) => self.ended(&client, pair, inside).await?,
                        None => Ended::Gone,
                    });
                }
                Ok(all)
            };
            self.way.with(None, work).await
        })
    }
}

/// A pid and the microsecond in which its backend began: a pid alone may be another's by now.
fn pair(key: &str) -> Option<(i32, i64)> {
    let (pid, born) = key.split_once('@')?;
    Some((pid.parse().ok()?, born.parse().ok()?))
}

fn span(row: &SimpleQueryRow, column: &str) -> Option<Span> {
    number::<f64>(row, column).map(|seconds| Span((seconds.clamp(0.0, 1e12) * 1000.0) as u64))
}

fn told(row: &SimpleQueryRow) -> Option<Use> {
    let pid: u32 = number(row, "pid")?;
    let born = number::<f64>(row, "born")?;
    let is = |column: &str, value: &str| row.try_get(column).ok().flatten() == Some(value);
    let ip: Option<IpAddr> = number(row, "ip");
    let local = ip.is_none();
    let role = match () {
        () if is("own", "t") => Role::Own,
        () if is("backend_type", "walsender") => Role::Replication,
        () if local => Role::Local,
        () => Role::User,
    };
    let state = text(row, "state");
    let busy = match state.as_deref() {
        Some("idle") => Busy::Idle,
        Some("active" | "fastpath function call") => Busy::Active,
        Some(state) if state.starts_with("idle in transaction") => Busy::Inside,
        // From PostgreSQL 17 on it is listed before it has said who it is.
        Some("starting") => Busy::NotLoggedIn,
        _ => Busy::Unknown,
    };
    Some(Use {
        user: text(row, "usename"),
        what: Some(doing(row, state.as_deref(), busy)),
        peer: ip.zip(number::<u16>(row, "client_port")).map(|(ip, port)| SocketAddr::new(ip, port)),
        pid: Some(pid),
        age: span(row, "age"),
        idle: if busy == Busy::Active { Some(Span::ZERO) } else { span(row, "idle") },
        busy,
        role,
        by_connection: !local,
        ..Use::new(format!("{pid}@{born:.0}"), UseKind::Database)
    })
}

/// `appdb (pgbench): idle in transaction for 12 s`
fn doing(row: &SimpleQueryRow, state: Option<&str>, busy: Busy) -> String {
    let database = text(row, "datname").unwrap_or_else(|| "no database".to_owned());
    let application = text(row, "application_name").map_or_else(String::new, |name| format!(" ({name})"));
    let state = state.unwrap_or("state not shown");
    let inside = span(row, "inside").filter(|_| busy == Busy::Inside || busy == Busy::Active);
    let inside = inside.map_or_else(String::new, |span| format!(" for {}", ebb_model::duration(span)));
    let query = text(row, "query").map_or_else(String::new, |query| format!(": {query}"));
    format!("{database}{application}: {state}{inside}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_pid_and_its_beginning() {
        assert_eq!(pair("12@1795231801490000"), Some((12, 1_795_231_801_490_000)));
        for key in ["", "12", "12@", "@1", "12@1) or true --", "x@1"] {
            assert_eq!(pair(key), None, "{key}");
        }
    }
}
