//! Notices: written before they are sent, one row for each recipient, and kept for a while so that none is sent twice.
//!
//! They have people's addresses in them, and everybody may read `ebb.db`: so they are in a file of their own, for its
//! owner only.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ebb_model::{About, Matter, Notice, NoticeService, Occasion, Queued, Sending, ServiceName, Span, Wall};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use crate::{BUSY, Result, Store, StoreError, failed, format::json, unopened};

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS notices (
  key TEXT NOT NULL, name TEXT NOT NULL, recipient TEXT NOT NULL, notice TEXT NOT NULL, state TEXT NOT NULL,
  attempts INTEGER NOT NULL, last_error TEXT, since_ms INTEGER NOT NULL, next_ms INTEGER NOT NULL,
  PRIMARY KEY (key, name, recipient)
) STRICT;
CREATE INDEX IF NOT EXISTS notices_by_state ON notices (state, next_ms);
";

/// Sent and given up ones are forgotten after this long.
const KEPT: Span = Span::seconds(30 * 86_400);

#[derive(Serialize, Deserialize)]
struct NoticeV1 {
    occasion: String,
    matter: String,
    server: String,
    services: Vec<(String, Option<u64>)>,
    reason: String,
    requester: String,
    by: String,
    at_ms: i64,
    until_ms: Option<i64>,
    trouble: Option<String>,
    users: Vec<String>,
}

fn notice_to(notice: &Notice) -> String {
    let about = &notice.about;
    json(&NoticeV1 {
        occasion: notice.occasion.as_str().to_owned(),
        matter: about.matter.as_str().to_owned(),
        server: about.server.clone(),
        services: about.services.iter().map(|one| (one.name.to_string(), one.sessions)).collect(),
        reason: about.reason.clone(),
        requester: about.requester.clone(),
        by: about.by.clone(),
        at_ms: about.at.0,
        until_ms: about.until.map(|until| until.0),
        trouble: about.trouble.clone(),
        users: notice.users.clone(),
    })
}

fn notice_from(key: &str, text: &str) -> std::result::Result<Notice, String> {
    let kept: NoticeV1 = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let occasion = Occasion::ALL.into_iter().find(|one| one.as_str() == kept.occasion);
    let matter = Matter::ALL.into_iter().find(|one| one.as_str() == kept.matter);
    let service = |(name, sessions)| -> std::result::Result<NoticeService, String> {
        Ok(NoticeService { name: ServiceName::new(name).map_err(|error| error.to_string())?, sessions })
    };
    Ok(Notice {
        occasion: occasion.ok_or_else(|| format!("unknown occasion `{}`", kept.occasion))?,
        key: key.to_owned(),
        about: About {
            matter: matter.ok_or_else(|| format!("unknown matter `{}`", kept.matter))?,
            server: kept.server,
            services: kept.services.into_iter().map(service).collect::<std::result::Result<_, _>>()?,
            reason: kept.reason,
            requester: kept.requester,
            by: kept.by,
            at: Wall(kept.at_ms),
            until: kept.until_ms.map(Wall),
            trouble: kept.trouble,
        },
        users: kept.users,
    })
}

struct Row {
    key: String,
    name: String,
    recipient: String,
    notice: String,
    state: String,
    attempts: u32,
    last_error: Option<String>,
    since_ms: i64,
    next_ms: i64,
}

const COLUMNS: &str = "key, name, recipient, notice, state, attempts, last_error, since_ms, next_ms";

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key: row.get(0)?,
            name: row.get(1)?,
            recipient: row.get(2)?,
            notice: row.get(3)?,
            state: row.get(4)?,
            attempts: row.get(5)?,
            last_error: row.get(6)?,
            since_ms: row.get(7)?,
            next_ms: row.get(8)?,
        })
    }

    fn into_queued(self) -> Result<Queued> {
        let corrupt = |cause| StoreError::Corrupt { what: "notice", of: self.key.clone(), cause };
        let state = Sending::ALL.into_iter().find(|one| one.as_str() == self.state);
        Ok(Queued {
            notice: notice_from(&self.key, &self.notice).map_err(corrupt)?,
            state: state.ok_or_else(|| corrupt(format!("unknown state `{}`", self.state)))?,
            notifier: self.name,
            recipient: self.recipient,
            attempts: self.attempts,
            last_error: self.last_error,
            since: Wall(self.since_ms),
            next: Wall(self.next_ms),
        })
    }
}

/// The file's name.
const FILE: &str = "notices.db";

impl Store {
    fn notices_path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The notices for writing; made where there are none.
    fn notices_to_write(&self) -> Result<Connection> {
        let path = self.notices_path();
        let make = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        make.map_err(|source| StoreError::Private { path: path.clone(), source })?;
        let db = Connection::open(&path).map_err(unopened(&path))?;
        db.busy_timeout(BUSY).map_err(unopened(&path))?;
        db.pragma_update(None, "synchronous", "FULL").map_err(unopened(&path))?;
        db.execute_batch(TABLE).map_err(unopened(&path))?;
        Ok(db)
    }

    /// The notices for reading; none where there are none.
    fn notices_to_read(&self) -> Result<Option<Connection>> {
        let path = self.notices_path();
        match std::fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Private { path, source }),
            Ok(_) => {}
        }
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(unopened(&path))?;
        db.busy_timeout(BUSY).map_err(unopened(&path))?;
        let made = "SELECT count(*) FROM sqlite_master WHERE name = 'notices'";
        let made: i64 = db.query_row(made, [], |row| row.get(0)).map_err(unopened(&path))?;
        // Somebody makes them at this moment.
        Ok((made > 0).then_some(db))
    }

    /// Writes a notice down for each notifier and recipient, to be sent from now on. Who has it already, sent or not, does
    /// not get it again. The answer is how many were new.
    ///
    /// # Errors
    /// The file cannot be written; then none is queued.
    pub fn queue_notice(&mut self, notice: &Notice, to: &[(String, String)], now: Wall) -> Result<usize> {
        let what = "write a notice";
        self.make()?;
        let text = notice_to(notice);
        let mut db = self.notices_to_write()?;
        let txn = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        let mut new = 0;
        for (name, recipient) in to {
            new += txn
                .execute(
                    "INSERT OR IGNORE INTO notices (key, name, recipient, notice, state, attempts, since_ms, next_ms) \
                     VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6)",
                    params![notice.key, name, recipient, text, Sending::Queued.as_str(), now.0],
                )
                .map_err(failed(what))?;
        }
        let oldest = now.0.saturating_sub(i64::try_from(KEPT.0).unwrap_or(i64::MAX));
        txn.execute("DELETE FROM notices WHERE state <> 'queued' AND since_ms < ?1", params![oldest])
            .map_err(failed("forget old notices"))?;
        txn.commit().map_err(failed(what))?;
        Ok(new)
    }

    /// All notices that are kept, oldest first.
    ///
    /// # Errors
    /// The file cannot be read, or a row makes no sense.
    pub fn notices(&self) -> Result<Vec<Queued>> {
        let what = "read the notices";
        let Some(db) = self.notices_to_read()? else { return Ok(Vec::new()) };
        let query = format!("SELECT {COLUMNS} FROM notices ORDER BY since_ms, key, name, recipient");
        let mut statement = db.prepare(&query).map_err(failed(what))?;
        let rows = statement.query_map([], Row::read).map_err(failed(what))?;
        rows.map(|row| row.map_err(failed(what))?.into_queued()).collect()
    }

    /// Takes a notice that is due, of a notifier that is not busy: nobody else takes it before `until`, and if we are killed
    /// meanwhile it is due again then. One that is due in more than `latest` is due now. A row that makes no sense is given up.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn take_notice(
        &mut self,
        now: Wall,
        busy: &BTreeSet<String>,
        until: impl Fn(&Queued) -> Wall,
        latest: Span,
    ) -> Result<Option<Queued>> {
        let what = "take a notice";
        // Who asks each minute writes nothing where nothing is due.
        if self.notices_to_read()?.is_none() {
            return Ok(None);
        }
        let mut db = self.notices_to_write()?;
        let txn = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        // A clock that was set back does not make anybody wait for longer than the longest pause.
        let far = now.0.saturating_add(i64::try_from(latest.0).unwrap_or(i64::MAX));
        let query = format!(
            "SELECT {COLUMNS} FROM notices WHERE state = 'queued' AND (next_ms <= ?1 OR next_ms > ?2) \
             AND name NOT IN (SELECT value FROM json_each(?3)) ORDER BY next_ms, since_ms LIMIT 1"
        );
        let row =
            txn.query_row(&query, params![now.0, far, json(&busy)], Row::read).optional().map_err(failed(what))?;
        let Some(row) = row else { return Ok(None) };
        let id = (row.key.clone(), row.name.clone(), row.recipient.clone());
        let taken = match row.into_queued() {
            Ok(queued) => Some(Queued { attempts: queued.attempts + 1, next: until(&queued), ..queued }),
            Err(_) => None,
        };
        let next = taken.as_ref().map_or(now.0, |queued| queued.next.0);
        txn.execute(
            "UPDATE notices SET attempts = attempts + 1, next_ms = ?4, state = ?5 \
             WHERE key = ?1 AND name = ?2 AND recipient = ?3",
            params![id.0, id.1, id.2, next, if taken.is_some() { "queued" } else { "failed" }],
        )
        .map_err(failed(what))?;
        txn.commit().map_err(failed(what))?;
        Ok(taken)
    }

    /// Writes down what has become of a notice that was taken.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn settle_notice(&mut self, queued: &Queued) -> Result<()> {
        self.notices_to_write()?
            .execute(
                "UPDATE notices SET state = ?4, last_error = ?5, next_ms = ?6 \
                 WHERE key = ?1 AND name = ?2 AND recipient = ?3 AND state = 'queued'",
                params![
                    queued.notice.key,
                    queued.notifier,
                    queued.recipient,
                    queued.state.as_str(),
                    queued.last_error,
                    queued.next.0
                ],
            )
            .map_err(failed("write what became of a notice"))?;
        Ok(())
    }

    /// When the next notice is due, if one is queued.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_notice(&self) -> Result<Option<Wall>> {
        let Some(db) = self.notices_to_read()? else { return Ok(None) };
        let query = "SELECT min(next_ms) FROM notices WHERE state = 'queued'";
        let next = db.query_row(query, [], |row| row.get::<_, Option<i64>>(0));
        next.map(|at| at.map(Wall)).map_err(failed("read the notices"))
    }
}
