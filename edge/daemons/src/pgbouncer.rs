//! PgBouncer: its clients by `SHOW CLIENTS` on its console. It cannot say goodbye to one client (1.18), and a pause is no
//! drain: newcomers would wait.

use std::net::{IpAddr, SocketAddr};

use ebb_model::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Role, Use, UseKind, Uses};
use tokio_postgres::SimpleQueryRow;

use crate::libpq::{Way, number, text};
use crate::{Adapter, Answer, Error, Seen};

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

    async fn rows(&self, command: &str) -> Result<Vec<SimpleQueryRow>, Error> {
        self.way.with(Some(ADMIN), |client| async move { self.way.rows(&client, command).await }).await
    }

    async fn asked(&self) -> Result<Abilities, Error> {
        let rows = self.rows("SHOW VERSION").await?;
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
            let rows = self.rows("SHOW CLIENTS").await?;
            let more = rows.len().saturating_sub(most) as u64;
            let uses: Vec<Use> = rows.iter().take(most).filter_map(told).collect();
            if uses.len() != rows.len().min(most) {
                let what = "a client without a name".to_owned();
                return Err(Error::NotUnderstood { daemon: PGBOUNCER, what });
            }
            Ok(Uses { uses, more, transport: false })
        })
    }
}

fn told(row: &SimpleQueryRow) -> Option<Use> {
    let ip: Option<IpAddr> = number(row, "addr");
    let (database, state) = (text(row, "database")?, text(row, "state")?);
    // The console is ours; who else is there is an operator.
    let role = match (database.as_str(), ip) {
        ("pgbouncer", _) => Role::Own,
        (_, None) => Role::Local,
        _ => Role::User,
    };
    // In transaction mode an idle client is `active` too: only a linked server says that something is under way.
    let linked = text(row, "link").is_some();
    let busy = match state.as_str() {
        "waiting" => Busy::Active,
        _ if linked => Busy::Inside,
        _ => Busy::Idle,
    };
    let application = text(row, "application_name").map_or_else(String::new, |name| format!(" ({name})"));
    let doing = match busy {
        Busy::Active => "waits for a server",
        Busy::Inside => "has a server",
        _ => "idle",
    };
    Some(Use {
        user: text(row, "user"),
        what: Some(format!("{database}{application}: {doing}")),
        peer: ip.zip(number::<u16>(row, "port")).map(|(ip, port)| SocketAddr::new(ip, port)),
        busy,
        role,
        by_connection: ip.is_some(),
        ..Use::new(text(row, "ptr")?, UseKind::Database)
    })
}
