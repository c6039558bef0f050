//! Holds, records and history on disk: one SQLite file.
//!
//! Written with `journal_mode=DELETE` and `synchronous=FULL`: what was acknowledged survives a power
//! loss, and a reader needs no right to write (a WAL's readers do). Several `ebb` processes share the file.

mod format;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebb_model::{Event, Hold, Record, Requester, ServiceName, SessionId, Wall};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

/// Version of the tables; a file of a newer one is refused.
const SCHEMA: i64 = 1;
/// Another process holds the write lock for milliseconds; this long means that something is wrong.
const BUSY: Duration = Duration::from_secs(10);
/// How many events are kept.
const EVENTS_KEPT: i64 = 100_000;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory could not be made.
    #[error("failed to make the directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file could not be opened.
    #[error("failed to open {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer ebb has written it.
    #[error("{} was written by a newer ebb (schema {found}, this one knows {SCHEMA})", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// A statement failed.
    #[error("failed to {what} in the store")]
    Statement {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// A row makes no sense.
    #[error("the store's {what} of `{of}` cannot be read: {cause}")]
    Corrupt {
        /// Which part.
        what: &'static str,
        /// Of which service.
        of: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl StoreError {
    /// Whether the cause is a missing permission or a read-only file system.
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        match self {
            Self::Directory { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
            Self::Open { source, .. } | Self::Statement { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied)
            ),
            Self::Newer { .. } | Self::Corrupt { .. } => false,
        }
    }
}

impl StoreError {
    /// Whether something could not be written: a full disk, for example.
    #[must_use]
    pub fn is_of_writing(&self) -> bool {
        match self {
            Self::Statement { what, source } => {
                !what.starts_with("read") || source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::Directory { .. } => true,
            Self::Open { .. } | Self::Newer { .. } | Self::Corrupt { .. } => false,
        }
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// The open store.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    writable: bool,
}

/// An event as kept: its place in the history, and itself.
pub type Kept = (u64, Event);

fn failed(what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Statement { what, source }
}

impl Store {
    /// Opens `dir/ebb.db`, making both if they are missing and we may; else for reading only.
    /// A store that does not exist and that the caller may not make is an empty one for reading.
    ///
    /// # Errors
    /// The file is there and cannot be opened, or is of a newer version.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("ebb.db");
        match Self::open_for_writing(dir, &path) {
            Err(error) if error.is_not_permitted() || matches!(error, StoreError::Open { .. }) => {
                if path.exists() {
                    Self::open_for_reading(&path)
                } else {
                    Self::empty(error)
                }
            }
            other => other,
        }
    }

    fn open_for_writing(dir: &Path, path: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let db = Connection::open(path).map_err(open)?;
        db.busy_timeout(BUSY).map_err(open)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(open)?;
        let mut store = Self { db, writable: true };
        store.prepare(path)?;
        // Everybody may read who holds what; only the owner may change it.
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644));
        Ok(store)
    }

    fn open_for_reading(path: &Path) -> Result<Self> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(open)?;
        db.busy_timeout(BUSY).map_err(open)?;
        check_version(version(&db)?, path)?;
        Ok(Self { db, writable: false })
    }

    fn empty(why: StoreError) -> Result<Self> {
        let db = Connection::open_in_memory().map_err(|_| why)?;
        db.execute_batch(TABLES).map_err(failed("make an empty store"))?;
        Ok(Self { db, writable: false })
    }

    fn prepare(&mut self, path: &Path) -> Result<()> {
        let found = version(&self.db)?;
        check_version(found, path)?;
        if found == SCHEMA {
            return Ok(());
        }
        let what = "make the tables";
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        txn.execute_batch(TABLES).map_err(failed(what))?;
        txn.pragma_update(None, "user_version", SCHEMA).map_err(failed(what))?;
        txn.commit().map_err(failed(what))
    }

    /// Whether holds can be changed; if not, the store is only read.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.writable
    }

    /// All holds, ordered by service and requester.
    ///
    /// # Errors
    /// The file cannot be read, or a row makes no sense.
    pub fn holds(&self) -> Result<Vec<Hold>> {
        let what = "read the holds";
        let mut statement = self
            .db
            .prepare("SELECT service, requester, record FROM holds ORDER BY service, requester")
            .map_err(failed(what))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))
            .map_err(failed(what))?;
        rows.map(|row| {
            let (service, requester, record) = row.map_err(failed(what))?;
            format::hold_from(&service, &requester, &record).map_err(|cause| StoreError::Corrupt {
                what: "hold",
                of: service,
                cause,
            })
        })
        .collect()
    }

    /// All records of held services.
    ///
    /// # Errors
    /// The file cannot be read, or a row makes no sense.
    pub fn records(&self) -> Result<Vec<Record>> {
        let what = "read the records";
        let mut statement =
            self.db.prepare("SELECT service, record FROM records ORDER BY service").map_err(failed(what))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(failed(what))?;
        rows.map(|row| {
            let (service, record) = row.map_err(failed(what))?;
            format::record_from(&service, &record).map_err(|cause| StoreError::Corrupt {
                what: "record",
                of: service,
                cause,
            })
        })
        .collect()
    }

    /// Writes a hold together with what must be remembered for it, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn place(&mut self, hold: &Hold, record: &Record) -> Result<()> {
        let what = "write a hold";
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        txn.execute(
            "INSERT OR REPLACE INTO holds (service, requester, record) VALUES (?1, ?2, ?3)",
            params![hold.service.as_str(), hold.requester.as_str(), format::hold_to(hold)],
        )
        .map_err(failed(what))?;
        put_record(&txn, record).map_err(failed(what))?;
        txn.commit().map_err(failed(what))
    }

    /// Rewrites what is remembered of a held service. Of one that nobody holds any more nothing is: somebody may
    /// have released it while we worked.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(&mut self, record: &Record) -> Result<()> {
        self.db
            .execute(
                "INSERT OR REPLACE INTO records (service, record) SELECT ?1, ?2 \
                 WHERE EXISTS (SELECT 1 FROM holds WHERE service = ?1)",
                params![record.service.as_str(), format::record_to(record)],
            )
            .map(drop)
            .map_err(failed("write a record"))
    }

    /// Removes one hold, and with a service's last hold all that was remembered of it.
    /// False if there was no such hold.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn release(&mut self, service: &ServiceName, requester: &Requester) -> Result<bool> {
        let what = "remove a hold";
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        let removed = txn
            .execute(
                "DELETE FROM holds WHERE service = ?1 AND requester = ?2",
                params![service.as_str(), requester.as_str()],
            )
            .map_err(failed(what))?;
        for table in ["records", "baselines"] {
            txn.execute(
                &format!("DELETE FROM {table} WHERE service = ?1 AND service NOT IN (SELECT service FROM holds)"),
                params![service.as_str()],
            )
            .map_err(failed(what))?;
        }
        txn.commit().map_err(failed(what))?;
        Ok(removed > 0)
    }

    /// Keeps which sessions were there when the gate was shut: any other is a leak, also after a crash.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_baseline(&mut self, service: &ServiceName, sessions: &BTreeSet<SessionId>) -> Result<()> {
        let blob: Vec<u8> = sessions.iter().flat_map(|id| id.0.to_le_bytes()).collect();
        self.db
            .execute(
                "INSERT OR REPLACE INTO baselines (service, ids) SELECT ?1, ?2 \
                 WHERE EXISTS (SELECT 1 FROM holds WHERE service = ?1)",
                params![service.as_str(), blob],
            )
            .map_err(failed("write the sessions at the start"))?;
        Ok(())
    }

    /// Which sessions were there when the gate was shut, if that was kept.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn baseline(&self, service: &ServiceName) -> Result<Option<BTreeSet<SessionId>>> {
        let blob: Option<Vec<u8>> = self
            .db
            .query_row("SELECT ids FROM baselines WHERE service = ?1", params![service.as_str()], |row| row.get(0))
            .optional()
            .map_err(failed("read the sessions at the start"))?;
        Ok(blob.map(|blob| {
            let (ids, _) = blob.as_chunks::<8>();
            ids.iter().map(|id| SessionId(u64::from_le_bytes(*id))).collect()
        }))
    }

    /// Appends to the history; the answer is the event's place in it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, event: &Event) -> Result<u64> {
        let what = "write an event";
        self.db
            .execute(
                "INSERT INTO events (at_ms, number, service, text, fields) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    event.at.0,
                    event.kind.number(),
                    event.service.as_ref().map(ServiceName::as_str),
                    event.text,
                    format::fields_to(event)
                ],
            )
            .map_err(failed(what))?;
        let sequence = self.db.last_insert_rowid();
        if sequence % 1000 == 0 {
            self.db
                .execute("DELETE FROM events WHERE sequence <= ?1", params![sequence - EVENTS_KEPT])
                .map_err(failed("forget old events"))?;
        }
        Ok(u64::try_from(sequence).unwrap_or(0))
    }

    /// Events after `after`, the newest `last` of them, oldest first; of one service or of all.
    ///
    /// # Errors
    /// The file cannot be read, or a row makes no sense.
    pub fn events(&self, after: u64, last: usize, service: Option<&ServiceName>) -> Result<Vec<Kept>> {
        let what = "read the events";
        let mut statement = self
            .db
            .prepare(
                "SELECT sequence, at_ms, number, service, text, fields FROM events \
                 WHERE sequence > ?1 AND (?2 IS NULL OR service = ?2) ORDER BY sequence DESC LIMIT ?3",
            )
            .map_err(failed(what))?;
        let rows = statement
            .query_map(
                params![
                    i64::try_from(after).unwrap_or(i64::MAX),
                    service.map(ServiceName::as_str),
                    i64::try_from(last).unwrap_or(i64::MAX)
                ],
                format::EventRow::read,
            )
            .map_err(failed(what))?;
        let mut kept = Vec::new();
        for row in rows {
            // A kind that a newer ebb wrote is passed over, not an error.
            if let Some(event) = row.map_err(failed(what))?.into_event() {
                kept.push(event);
            }
        }
        kept.reverse();
        Ok(kept)
    }

    /// Place of the newest event, 0 if there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn newest_event(&self) -> Result<u64> {
        self.db
            .query_row("SELECT coalesce(max(sequence), 0) FROM events", [], |row| row.get::<_, i64>(0))
            .map(|newest| u64::try_from(newest).unwrap_or(0))
            .map_err(failed("read the newest event"))
    }

    /// When the last event of a kind happened to a service.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_event_at(&self, service: &ServiceName, number: u16) -> Result<Option<Wall>> {
        self.db
            .query_row(
                "SELECT max(at_ms) FROM events WHERE service = ?1 AND number = ?2",
                params![service.as_str(), number],
                |row| row.get::<_, Option<i64>>(0),
            )
            .map(|at| at.map(Wall))
            .map_err(failed("read an event"))
    }
}

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS holds (
  service TEXT NOT NULL, requester TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (service, requester)
) STRICT;
CREATE TABLE IF NOT EXISTS records (service TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS baselines (service TEXT PRIMARY KEY, ids BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, number INTEGER NOT NULL,
  service TEXT, text TEXT NOT NULL, fields TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_service ON events (service, sequence);
";

fn version(db: &Connection) -> Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed("read the version"))
}

fn check_version(found: i64, path: &Path) -> Result<()> {
    if found > SCHEMA { Err(StoreError::Newer { path: path.to_owned(), found }) } else { Ok(()) }
}

fn put_record(db: &Connection, record: &Record) -> rusqlite::Result<usize> {
    db.execute(
        "INSERT OR REPLACE INTO records (service, record) VALUES (?1, ?2)",
        params![record.service.as_str(), format::record_to(record)],
    )
}

#[cfg(test)]
mod tests;
