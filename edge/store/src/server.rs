//! Holds on the whole server: one of each requester, with the services that it holds.

use std::collections::BTreeSet;

use ebb_model::{Hold, Record, Requester, ServerHold, ServiceName};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::{Result, Store, StoreError, failed, format, put_record};

/// Names of services that anybody holds, by a hold of their own or with the server.
pub(crate) const HELD: &str = "(SELECT service FROM holds UNION SELECT service FROM covered)";

impl Store {
    /// All holds on the server, by requester.
    ///
    /// # Errors
    /// The file cannot be read, or a row makes no sense.
    pub fn server_holds(&self) -> Result<Vec<ServerHold>> {
        self.check_whole()?;
        let (rows, covered) = rows(&self.db).map_err(failed("read the holds on the server"))?;
        from_rows(&rows, &covered)
    }

    /// Writes a hold on the server with what must be remembered of the services that it holds, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn place_server(&mut self, server: &ServerHold, records: &[Record]) -> Result<()> {
        let what = "write a hold";
        self.make()?;
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        txn.execute(
            "INSERT OR REPLACE INTO server_holds (requester, record) VALUES (?1, ?2)",
            params![server.requester.as_str(), format::server_hold_to(server)],
        )
        .map_err(failed(what))?;
        txn.execute("DELETE FROM covered WHERE requester = ?1", params![server.requester.as_str()])
            .map_err(failed(what))?;
        for service in &server.covers {
            txn.execute(
                "INSERT INTO covered (requester, service) VALUES (?1, ?2)",
                params![server.requester.as_str(), service.as_str()],
            )
            .map_err(failed(what))?;
        }
        for record in records {
            put_record(&txn, record).map_err(failed(what))?;
        }
        forget_unheld(&txn).map_err(failed(what))?;
        txn.commit().map_err(failed(what))?;
        self.write_copy();
        Ok(())
    }

    /// Removes a hold on the server, and all that was remembered of services that nobody else holds. False if there was
    /// none.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn release_server(&mut self, requester: &Requester) -> Result<bool> {
        let what = "remove a hold";
        if self.absent {
            return Ok(false);
        }
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        let removed = txn
            .execute("DELETE FROM server_holds WHERE requester = ?1", params![requester.as_str()])
            .map_err(failed(what))?;
        txn.execute("DELETE FROM covered WHERE requester = ?1", params![requester.as_str()]).map_err(failed(what))?;
        forget_unheld(&txn).map_err(failed(what))?;
        txn.commit().map_err(failed(what))?;
        self.write_copy();
        Ok(removed > 0)
    }

    /// What the holds on the server mean for their services.
    pub(crate) fn holds_with_server(&self) -> Result<Vec<Hold>> {
        Ok(spread(&self.server_holds()?))
    }
}

/// One hold for each service of each.
pub(crate) fn spread(servers: &[ServerHold]) -> Vec<Hold> {
    servers.iter().flat_map(|server| server.covers.iter().map(|service| server.on(service))).collect()
}

/// Forgets what is remembered of services that nobody holds any more.
pub(crate) fn forget_unheld(db: &Connection) -> rusqlite::Result<()> {
    for table in ["records", "baselines"] {
        db.execute(&format!("DELETE FROM {table} WHERE service NOT IN {HELD}"), [])?;
    }
    Ok(())
}

/// Requester and record of each, as in the store.
pub(crate) type Rows = Vec<(String, String)>;

/// The rows of both tables: holds, and which services they hold. A file that an older ebb wrote has none.
pub(crate) fn rows(db: &Connection) -> rusqlite::Result<(Rows, Rows)> {
    let there: i64 =
        db.query_row("SELECT count(*) FROM sqlite_master WHERE name IN ('server_holds', 'covered')", [], |row| {
            row.get(0)
        })?;
    if there < 2 {
        return Ok((Vec::new(), Vec::new()));
    }
    let pairs = |sql: &str| -> rusqlite::Result<Rows> {
        let mut statement = db.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    Ok((
        pairs("SELECT requester, record FROM server_holds ORDER BY requester")?,
        pairs("SELECT requester, service FROM covered ORDER BY requester, service")?,
    ))
}

pub(crate) fn from_rows(rows: &Rows, covered: &Rows) -> Result<Vec<ServerHold>> {
    let corrupt =
        |of: &str, cause: String| StoreError::Corrupt { what: "hold on the server", of: of.to_owned(), cause };
    let mut servers = Vec::new();
    for (requester, record) in rows {
        let server = format::server_hold_from(requester, record).map_err(|cause| corrupt(requester, cause))?;
        let covers = covered.iter().filter(|(of, _)| of == requester).map(|(_, service)| {
            ServiceName::new(service.clone()).map_err(|error| corrupt(requester, error.to_string()))
        });
        servers.push(ServerHold { covers: covers.collect::<Result<BTreeSet<_>>>()?, ..server });
    }
    Ok(servers)
}
