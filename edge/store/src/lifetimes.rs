//! How long sessions live, by service; and which ones a recorder follows, so that the next one goes on with them.

use ebb_model::{
    AGE_BINS, AgeBin, Followed, Following, Hour, Lifetimes, Mono, ServiceName, SessionId, Span, WEEK_HOURS, Wall,
};
use rusqlite::{OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use crate::{Result, Store, StoreError, failed, format};

/// A service that was not seen for so long is forgotten.
const KEPT: Span = Span::seconds(90 * 86_400);
/// So many are kept, those seen last.
const SERVICES_KEPT: i64 = 1000;

#[derive(Serialize, Deserialize)]
struct LifetimesV1 {
    faded_ms: i64,
    /// Ended, censored, seconds watched; the rest is nothing.
    ages: Vec<(f64, f64, f64)>,
    /// Seconds watched, seconds of sessions present, arrived.
    hours: Vec<(f64, f64, f64)>,
}

/// What is known of the lifetimes of one service's sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptLifetimes {
    /// Whose.
    pub service: ServiceName,
    /// The sums.
    pub lifetimes: Lifetimes,
    /// Sessions that were followed when it was written.
    pub following: Following,
}

impl Store {
    /// Keeps these, each in the place of what was kept of the same service, and forgets services that were not seen for
    /// 90 days.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn keep_lifetimes(&mut self, all: &[KeptLifetimes], now: Wall) -> Result<()> {
        let what = "write the lifetimes";
        self.make()?;
        let txn = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        for one in all {
            let following = &one.following;
            txn.execute(
                "INSERT OR REPLACE INTO lifetimes (service, seen_ms, record, boot_id, following) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![one.service.as_str(), now.0, to(&one.lifetimes), following.boot_id, blob(&following.sessions)],
            )
            .map_err(failed(what))?;
        }
        txn.execute(
            "DELETE FROM lifetimes WHERE seen_ms < ?1 OR service NOT IN \
             (SELECT service FROM lifetimes ORDER BY seen_ms DESC, service LIMIT ?2)",
            params![(now - KEPT).0, SERVICES_KEPT],
        )
        .map_err(failed(what))?;
        txn.commit().map_err(failed(what))
    }

    /// What is known of one service; none if nothing is.
    ///
    /// # Errors
    /// The file cannot be read, or what is kept makes no sense.
    pub fn lifetimes(&self, service: &ServiceName) -> Result<Option<KeptLifetimes>> {
        let what = "read the lifetimes";
        self.check_whole()?;
        // A store that we may only read may be of an older ebb, which kept none.
        let there: bool = self
            .db
            .query_row("SELECT count(*) > 0 FROM sqlite_master WHERE name = 'lifetimes'", [], |row| row.get(0))
            .map_err(failed(what))?;
        if !there {
            return Ok(None);
        }
        let row: Option<(String, String, Vec<u8>)> = self
            .db
            .query_row(
                "SELECT record, boot_id, following FROM lifetimes WHERE service = ?1",
                params![service.as_str()],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .map_err(failed(what))?;
        let Some((record, boot_id, following)) = row else { return Ok(None) };
        let corrupt = |cause| StoreError::Corrupt { what: "lifetimes", of: service.to_string(), cause };
        let lifetimes = from(&record).map_err(corrupt)?;
        let following = Following { boot_id, sessions: unblob(&following) };
        Ok(Some(KeptLifetimes { service: service.clone(), lifetimes, following }))
    }
}

fn to(lifetimes: &Lifetimes) -> String {
    // A thousandth of a session is nothing, and takes room.
    let short = |value: f64| (value * 1000.0).round() / 1000.0;
    let mut ages: Vec<_> =
        lifetimes.ages.iter().map(|bin| (short(bin.ended), short(bin.censored), short(bin.watched))).collect();
    while ages.last() == Some(&(0.0, 0.0, 0.0)) {
        ages.pop();
    }
    let hours =
        lifetimes.hours.iter().map(|hour| (short(hour.watched), short(hour.present), short(hour.arrived))).collect();
    format::json(&LifetimesV1 { faded_ms: lifetimes.faded.0, ages, hours })
}

fn from(record: &str) -> std::result::Result<Lifetimes, String> {
    let kept: LifetimesV1 = serde_json::from_str(record).map_err(|error| error.to_string())?;
    if kept.ages.len() > AGE_BINS || kept.hours.len() != WEEK_HOURS {
        return Err(format!("it has {} ages and {} hours", kept.ages.len(), kept.hours.len()));
    }
    let all = kept.ages.iter().chain(&kept.hours);
    if all.into_iter().any(|(one, two, three)| [one, two, three].into_iter().any(|sum| *sum < 0.0)) {
        return Err("a sum is negative".to_owned());
    }
    let mut lifetimes = Lifetimes::new(Wall(kept.faded_ms));
    for (bin, (ended, censored, watched)) in lifetimes.ages.iter_mut().zip(kept.ages) {
        *bin = AgeBin { ended, censored, watched };
    }
    for (hour, (watched, present, arrived)) in lifetimes.hours.iter_mut().zip(kept.hours) {
        *hour = Hour { watched, present, arrived };
    }
    Ok(lifetimes)
}

/// Each session in 16 bytes: its name, and when it began.
fn blob(sessions: &[Followed]) -> Vec<u8> {
    let bytes = |one: &Followed| [one.id.0.to_le_bytes(), one.began.0.to_le_bytes()];
    sessions.iter().flat_map(bytes).flatten().collect()
}

fn unblob(blob: &[u8]) -> Vec<Followed> {
    let (sessions, _) = blob.as_chunks::<16>();
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let session = |bytes: &[u8; 16]| Followed { id: SessionId(number(&bytes[..8])), began: Mono(number(&bytes[8..])) };
    sessions.iter().map(session).collect()
}
