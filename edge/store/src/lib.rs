//! Holds, records and history on disk: one SQLite file.
//!
//! Written with `journal_mode=DELETE` and `synchronous=FULL`: what was acknowledged survives a power
//! loss, and a reader needs no right to write (a WAL's readers do). Several `ebb` processes share the file.

mod checks;
mod copy;
mod format;
mod lifetimes;
mod notices;
mod runs;
mod server;

pub use copy::copy;
pub use lifetimes::KeptLifetimes;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebb_model::{Event, Hold, Record, Requester, ServiceName, SessionId, Wall};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use rustix::fs::Access;

use server::{HELD, forget_unheld};

/// Version of the tables; a file of a newer one is refused.
///
/// 1: holds, records, baselines, events. 2: checks. 3: lifetimes.
const SCHEMA: i64 = 3;
/// Another process holds the write lock for milliseconds; this long means that something is wrong.
const BUSY: Duration = Duration::from_secs(10);
/// What helps where the store is damaged.
const MEND: &str = "Move ebb.db away, with what else begins so: the next ebb makes it anew, with what was held from held.json beside it";
const DAMAGE: &str = ", ebb.db in the state directory; what is shut stays shut. Move that file away: the next ebb makes it \
                      anew, with what was held from held.json beside it";
const MOVED: &str = ": ebb.db was moved or removed while this ebb had it open; what is shut stays shut. Put it back, or have \
                     `systemctl restart ebb-agent` begin with what is there now";
/// How many events are kept.
const EVENTS_KEPT: i64 = 100_000;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be seen what is in it.
    #[error("the holds in {} cannot be read", path.display())]
    Hidden {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The notices cannot be opened by who asks: they have people's addresses in them.
    #[error("the notices in {} cannot be opened", path.display())]
    Private {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
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
    /// The file is damaged.
    #[error("{} is damaged ({cause}); what is shut stays shut. {MEND}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
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
    #[error("failed to {what} in the store{}", hint(source))]
    Statement {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// There is no store, and of what was held only a copy that cannot be read.
    #[error("there is no ebb.db, and its copy {} cannot be read ({cause}); what is shut stays shut. `nft list table inet ebb` shows \
             what that is: move the copy away, and hold that again", path.display())]
    Lost {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The copy beside the store cannot be used.
    #[error("failed to read {}: {cause}", path.display())]
    Copy {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A row makes no sense.
    #[error("the store's {what} of `{of}` cannot be read: {cause}; what is shut stays shut. {MEND}")]
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
            Self::Hidden { source, .. } | Self::Private { source, .. } | Self::Directory { source, .. } => {
                matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
            }
            Self::Statement { source, .. } if is_moved(source) => false,
            Self::Open { source, .. } | Self::Statement { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied)
            ),
            Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::Lost { .. }
            | Self::Copy { .. }
            | Self::Corrupt { .. } => false,
        }
    }
}

impl StoreError {
    /// Whether something could not be written: a full disk, for example.
    #[must_use]
    pub fn is_of_writing(&self) -> bool {
        match self {
            Self::Statement { source, .. } if is_moved(source) => false,
            // Somebody else is at it.
            Self::Statement { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                false
            }
            Self::Statement { what, source } => {
                !what.starts_with("read") || source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::Directory { .. } => true,
            Self::Hidden { .. }
            | Self::Private { .. }
            | Self::Open { .. }
            | Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::Lost { .. }
            | Self::Copy { .. }
            | Self::Corrupt { .. } => false,
        }
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// The store. It comes into being with the first thing that is written to it: who only looks changes nothing.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    dir: PathBuf,
    /// There is no file yet: `db` is an empty one in memory.
    absent: bool,
    writable: bool,
    /// Which file it is; none if there is none.
    file: Option<(u64, u64)>,
}

/// An event as kept: its place in the history, and itself.
pub type Kept = (u64, Event);

fn failed(what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Statement { what, source }
}

impl Store {
    /// Opens `dir/ebb.db`, for reading only if we may not write it. A store that does not exist is an empty one.
    ///
    /// # Errors
    /// It cannot be read, it cannot be seen whether there is one, or it is of a newer version.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("ebb.db");
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::empty(dir),
            Err(source) => return Err(StoreError::Hidden { path, source }),
            Ok(_) => {}
        }
        let may = |path: &Path, access| rustix::fs::access(path, access);
        if let Err(error) = may(&path, Access::READ_OK) {
            return Err(StoreError::Hidden { path, source: error.into() });
        }
        // Beside the file a journal is written.
        let writable = may(&path, Access::WRITE_OK).is_ok() && may(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        let opened = if writable { Self::open_for_writing(dir, &path) } else { Self::open_for_reading(dir, &path) };
        match opened {
            Err(error) if writable && error.is_not_permitted() => Self::open_for_reading(dir, &path),
            opened => opened,
        }
    }

    fn open_for_writing(dir: &Path, path: &Path) -> Result<Self> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let db = Connection::open(path).map_err(open)?;
        db.busy_timeout(BUSY).map_err(open)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(unopened(path))?;
        let mut store = Self { db, dir: dir.to_owned(), absent: false, writable: true, file: identity(path) };
        store.prepare(path)?;
        check_undamaged(&store.db, path)?;
        // Everybody may read who holds what; only the owner may change it.
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644));
        Ok(store)
    }

    /// Opens `dir/ebb.db` for reading only; it must be there.
    ///
    /// # Errors
    /// It is not there, cannot be opened, or is of a newer version.
    pub fn open_to_read(dir: &Path) -> Result<Self> {
        Self::open_for_reading(dir, &dir.join("ebb.db"))
    }

    fn open_for_reading(dir: &Path, path: &Path) -> Result<Self> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(open)?;
        db.busy_timeout(BUSY).map_err(open)?;
        let found = version(&db, path)?;
        check_version(found, path)?;
        if found == SCHEMA {
            check_undamaged(&db, path)?;
        }
        Ok(Self { db, dir: dir.to_owned(), absent: false, writable: false, file: identity(path) })
    }

    fn empty(dir: &Path) -> Result<Self> {
        let db = Connection::open_in_memory().map_err(failed("make an empty store"))?;
        make_tables(&db).map_err(failed("make an empty store"))?;
        copy::restore(&db, dir)?;
        Ok(Self { db, dir: dir.to_owned(), absent: true, writable: may_make(dir), file: None })
    }

    /// Makes directory and file, unless they are there.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn make(&mut self) -> Result<()> {
        if !self.absent {
            return Ok(());
        }
        let dir = self.dir.clone();
        std::fs::create_dir_all(&dir).map_err(|source| StoreError::Directory { path: dir.clone(), source })?;
        *self = Self::open_for_writing(&dir, &dir.join("ebb.db"))?;
        Ok(())
    }

    /// Opens what another process has made since, or somebody has put in the place of our file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn catch_up(&mut self) -> Result<()> {
        if self.is_behind() || self.is_replaced() {
            *self = Self::open(&self.dir)?;
        }
        Ok(())
    }

    /// Another file is where ours was; or none, with the copy beside it. With both gone ours is the last word, though
    /// nothing can be written to it any more.
    fn is_replaced(&self) -> bool {
        let now = identity(&self.dir.join("ebb.db"));
        !self.absent && now != self.file && (now.is_some() || copy::exists(&self.dir))
    }

    fn is_behind(&self) -> bool {
        self.absent && self.dir.join("ebb.db").exists()
    }

    /// That there is no file is no answer any more once another process has made one.
    fn check_whole(&self) -> Result<()> {
        if self.is_behind() {
            let source = std::io::Error::other("another process has made them just now");
            return Err(StoreError::Hidden { path: self.dir.clone(), source });
        }
        if self.is_replaced() {
            let source = std::io::Error::other("ebb.db was moved or replaced, and what is there cannot be opened");
            return Err(StoreError::Hidden { path: self.dir.clone(), source });
        }
        Ok(())
    }

    fn prepare(&mut self, path: &Path) -> Result<()> {
        let found = version(&self.db, path)?;
        check_version(found, path)?;
        if found == SCHEMA {
            return Ok(());
        }
        let what = "make the tables";
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        // Another process may have been faster.
        let found = version(&txn, path)?;
        check_version(found, path)?;
        make_tables(&txn).map_err(failed(what))?;
        // Into a file made just now; what an older ebb wrote is whole.
        if found == 0 {
            copy::restore(&txn, &self.dir)?;
        }
        txn.pragma_update(None, "user_version", SCHEMA).map_err(failed(what))?;
        txn.commit().map_err(failed(what))
    }

    /// Whether holds can be changed, also where there is no file yet; if not, the store is only read.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Why nothing can be written where that cannot: a missing right, or a file system that is read-only.
    #[must_use]
    pub fn unwritable(&self) -> std::io::Error {
        let there = self.dir.ancestors().find(|path| path.exists());
        let access = there.map(|path| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK));
        match access {
            Some(Err(error)) => error.into(),
            _ => ErrorKind::PermissionDenied.into(),
        }
    }

    /// All holds, ordered by service and requester; those on the whole server as what they mean for each of its services,
    /// after the others.
    ///
    /// # Errors
    /// The file cannot be read, or a row makes no sense.
    pub fn holds(&self) -> Result<Vec<Hold>> {
        let what = "read the holds";
        self.check_whole()?;
        let mut statement = self
            .db
            .prepare("SELECT service, requester, record FROM holds ORDER BY service, requester")
            .map_err(failed(what))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))
            .map_err(failed(what))?;
        let own = rows.map(|row| {
            let (service, requester, record) = row.map_err(failed(what))?;
            format::hold_from(&service, &requester, &record).map_err(|cause| StoreError::Corrupt {
                what: "hold",
                of: service,
                cause,
            })
        });
        own.chain(self.holds_with_server()?.into_iter().map(Ok)).collect()
    }

    /// All records of held services.
    ///
    /// # Errors
    /// The file cannot be read, or a row makes no sense.
    pub fn records(&self) -> Result<Vec<Record>> {
        let what = "read the records";
        self.check_whole()?;
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

    /// Writes a hold together with what must be remembered for it, whole or not at all. One that is a part of a hold on
    /// the server stands or falls with that: only what is to be remembered is written.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn place(&mut self, hold: &Hold, record: &Record) -> Result<()> {
        if hold.whole_server {
            return self.remember(record);
        }
        let what = "write a hold";
        self.make()?;
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        txn.execute(
            "INSERT OR REPLACE INTO holds (service, requester, record) VALUES (?1, ?2, ?3)",
            params![hold.service.as_str(), hold.requester.as_str(), format::hold_to(hold)],
        )
        .map_err(failed(what))?;
        put_record(&txn, record).map_err(failed(what))?;
        txn.commit().map_err(failed(what))?;
        self.write_copy();
        Ok(())
    }

    /// Rewrites what is remembered of a held service. Of one that nobody holds any more nothing is: somebody may
    /// have released it while we worked.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(&mut self, record: &Record) -> Result<()> {
        if self.absent {
            return Ok(());
        }
        write_record(&self.db, record).map_err(failed("write a record"))?;
        self.write_copy();
        Ok(())
    }

    /// Removes one hold, and with a service's last hold all that was remembered of it.
    /// False if there was no such hold.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn release(&mut self, service: &ServiceName, requester: &Requester) -> Result<bool> {
        let what = "remove a hold";
        if self.absent {
            return Ok(false);
        }
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        let removed = txn
            .execute(
                "DELETE FROM holds WHERE service = ?1 AND requester = ?2",
                params![service.as_str(), requester.as_str()],
            )
            .map_err(failed(what))?;
        forget_unheld(&txn).map_err(failed(what))?;
        txn.commit().map_err(failed(what))?;
        self.write_copy();
        Ok(removed > 0)
    }

    /// Best effort: the store is the truth, the copy is for a boot at which it cannot be read.
    fn write_copy(&self) {
        let dir = &self.dir;
        let rows = || -> rusqlite::Result<copy::Copy> {
            let mut holds =
                self.db.prepare("SELECT service, requester, record FROM holds ORDER BY service, requester")?;
            let holds = holds
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let mut records = self.db.prepare("SELECT service, record FROM records ORDER BY service")?;
            let records =
                records.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
            let (server_holds, covered) = server::rows(&self.db)?;
            Ok(copy::Copy { holds, records, server_holds, covered })
        };
        if let Ok(copy) = rows() {
            let _ = copy.write(dir);
        }
    }

    /// Keeps which sessions were there when the gate was shut, and what is remembered beside, in one: any other is a leak,
    /// also after a crash.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_baseline(&mut self, record: &Record, sessions: &BTreeSet<SessionId>) -> Result<()> {
        if self.absent {
            return Ok(());
        }
        let what = "write the sessions at the start";
        let blob: Vec<u8> = sessions.iter().flat_map(|id| id.0.to_le_bytes()).collect();
        let service = record.service.as_str();
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        txn.execute(
            &format!("INSERT OR REPLACE INTO baselines (service, ids) SELECT ?1, ?2 WHERE ?1 IN {HELD}"),
            params![service, blob],
        )
        .map_err(failed(what))?;
        write_record(&txn, record).map_err(failed(what))?;
        txn.commit().map_err(failed(what))?;
        self.write_copy();
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
        self.make()?;
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

    /// When the last event of a kind happened to a service, or to the whole server if none is named.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_event_at(&self, service: Option<&ServiceName>, number: u16) -> Result<Option<Wall>> {
        self.db
            .query_row(
                "SELECT max(at_ms) FROM events WHERE service IS ?1 AND number = ?2",
                params![service.map(ServiceName::as_str), number],
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
CREATE TABLE IF NOT EXISTS server_holds (requester TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS covered (
  requester TEXT NOT NULL, service TEXT NOT NULL, PRIMARY KEY (requester, service)
) STRICT;
CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY AUTOINCREMENT, plan TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS journal (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, at_ms INTEGER NOT NULL, boot_id TEXT NOT NULL,
  entry TEXT NOT NULL, step TEXT, word TEXT, text TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS checks (label TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS lifetimes (
  service TEXT PRIMARY KEY, seen_ms INTEGER NOT NULL, record TEXT NOT NULL, boot_id TEXT NOT NULL, following BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_service ON events (service, sequence);
";

/// Makes the tables that are not there: all of them, or those that an older ebb did not know.
fn make_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(TABLES)
}

/// Whether a file could be made there: that what is there of the path may be written to.
fn may_make(dir: &Path) -> bool {
    let here = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    let there = dir.ancestors().map(here).find(|path| path.exists());
    there.is_some_and(|there| rustix::fs::access(&there, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

fn version(db: &Connection, path: &Path) -> Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(unopened(path))
}

/// Device and number of the file at a path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Somebody moved or removed the file while it was open.
fn is_moved(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_READONLY_DBMOVED)
}

fn hint(error: &rusqlite::Error) -> &'static str {
    if is_damage(error) {
        DAMAGE
    } else if is_moved(error) {
        MOVED
    } else {
        ""
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn unopened(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| match is_damage(&source) {
        true => StoreError::Damaged { path: path.to_owned(), cause: source.to_string() },
        false => StoreError::Open { path: path.to_owned(), source },
    }
}

/// What is held must not be missing in silence: a damaged page may read as an empty one.
fn check_undamaged(db: &Connection, path: &Path) -> Result<()> {
    for table in ["holds", "records", "server_holds", "covered"] {
        let said: String =
            db.query_row(&format!("PRAGMA quick_check({table})"), [], |row| row.get(0)).map_err(unopened(path))?;
        if said != "ok" {
            let cause = said.lines().last().unwrap_or_default().to_owned();
            return Err(StoreError::Damaged { path: path.to_owned(), cause });
        }
    }
    Ok(())
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

/// Of one that nobody holds any more nothing is written.
fn write_record(db: &Connection, record: &Record) -> rusqlite::Result<usize> {
    db.execute(
        &format!("INSERT OR REPLACE INTO records (service, record) SELECT ?1, ?2 WHERE ?1 IN {HELD}"),
        params![record.service.as_str(), format::record_to(record)],
    )
}

#[cfg(test)]
mod tests;
