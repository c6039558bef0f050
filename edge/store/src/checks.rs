//! Lists of guards, kept to compare later ones with them.

use std::collections::BTreeSet;

use ebb_model::{Checks, Guard, Measured, Unit, Verdict, Wall};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::{Result, Store, StoreError, failed};

#[derive(Serialize, Deserialize)]
struct ChecksV1 {
    at_ms: i64,
    guards: Vec<GuardV1>,
}

#[derive(Serialize, Deserialize)]
struct GuardV1 {
    name: String,
    verdict: String,
    why: String,
    /// Number and unit.
    measured: Option<(f64, String)>,
    amiss: BTreeSet<String>,
    of_beginning: bool,
}

impl Store {
    /// Keeps a list under a label, in the place of what was there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_checks(&mut self, label: &str, checks: &Checks) -> Result<()> {
        let what = "write the checks";
        self.make()?;
        self.db
            .execute("INSERT OR REPLACE INTO checks (label, record) VALUES (?1, ?2)", params![label, to(checks)])
            .map(drop)
            .map_err(failed(what))
    }

    /// The list under a label, if one is kept.
    ///
    /// # Errors
    /// The file cannot be read, or the record makes no sense.
    pub fn checks(&self, label: &str) -> Result<Option<Checks>> {
        let what = "read the checks";
        self.check_whole()?;
        // A store that we may only read may be of an older ebb, which kept none.
        let there: bool = self
            .db
            .query_row("SELECT count(*) > 0 FROM sqlite_master WHERE name = 'checks'", [], |row| row.get(0))
            .map_err(failed(what))?;
        if !there {
            return Ok(None);
        }
        let record: Option<String> = self
            .db
            .query_row("SELECT record FROM checks WHERE label = ?1", params![label], |row| row.get(0))
            .optional()
            .map_err(failed(what))?;
        record.map(|record| from(&record)).transpose().map_err(|cause| StoreError::Corrupt {
            what: "list of checks",
            of: label.to_owned(),
            cause,
        })
    }

    /// Forgets the list under a label.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget_checks(&mut self, label: &str) -> Result<()> {
        if self.absent {
            return Ok(());
        }
        self.db
            .execute("DELETE FROM checks WHERE label = ?1", params![label])
            .map(drop)
            .map_err(failed("forget the checks"))
    }
}

fn to(checks: &Checks) -> String {
    let guards = checks.guards.iter().map(|guard| GuardV1 {
        name: guard.name.clone(),
        verdict: guard.verdict.as_str().to_owned(),
        why: guard.why.clone(),
        // JSON has no number that is none.
        measured: guard
            .measured
            .filter(|one| one.value.is_finite())
            .map(|one| (one.value, one.unit.as_str().to_owned())),
        amiss: guard.amiss.clone(),
        of_beginning: guard.of_beginning,
    });
    serde_json::to_string(&ChecksV1 { at_ms: checks.at.0, guards: guards.collect() }).unwrap_or_default()
}

fn from(record: &str) -> std::result::Result<Checks, String> {
    let kept: ChecksV1 = serde_json::from_str(record).map_err(|error| error.to_string())?;
    let guard = |one: GuardV1| {
        let unit = |name: &str| Unit::from_name(name).ok_or_else(|| format!("there is no unit `{name}`"));
        let measured = match one.measured {
            Some((value, name)) => Some(Measured { value, unit: unit(&name)? }),
            None => None,
        };
        let verdict =
            Verdict::from_name(&one.verdict).ok_or_else(|| format!("there is no verdict `{}`", one.verdict))?;
        let GuardV1 { name, why, amiss, of_beginning, .. } = one;
        Ok(Guard { name, verdict, why, measured, amiss, of_beginning })
    };
    let guards = kept.guards.into_iter().map(guard).collect::<std::result::Result<_, String>>()?;
    Ok(Checks { at: Wall(kept.at_ms), guards })
}
