//! PgBouncer: its clients by `SHOW CLIENTS` on its console. It cannot say goodbye to one client (1.18), and a pause is no
//! drain: newcomers would wait.

use std::net::{IpAddr, SocketAddr};

use ebb_model::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Role, Use, UseKind, Uses};
use tokio_postgres::SimpleQueryRow;

use crate::libpq::{Rows, Way, number, text};
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

    async fn rows(&self, command: &str, most: usize) -> Result<Rows, Error> {
        self.way.with(Some(ADMIN), |client| async move { self.way.rows(&client, command, most).await }).await
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
            let Rows { rows, more } = self.rows("SHOW CLIENTS", most).await?;
            let uses: Vec<Use> = rows.iter().filter_map(told).collect();
            // We are connected: there is one at least.
            if uses.is_empty() || uses.len() != rows.len() {
                return Err(self.way.not_understood("a list of clients without us, or with one that has no name"));
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
