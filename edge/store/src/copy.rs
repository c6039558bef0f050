//! A copy of holds and records as plain JSON beside the store: for the boot at which the store itself cannot be read.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use ebb_model::{Hold, Record};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::{Result, StoreError, failed, format, server};

const NAME: &str = "held.json";

#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Copy {
    /// Service, requester and record of each hold, as in the store.
    pub(crate) holds: Vec<(String, String, String)>,
    /// Service and record of each that is held, as in the store.
    pub(crate) records: Vec<(String, String)>,
    /// Requester and record of each hold on the server, as in the store.
    #[serde(default)]
    pub(crate) server_holds: server::Rows,
    /// Requester and service of each that these hold.
    #[serde(default)]
    pub(crate) covered: server::Rows,
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Whether there is one.
pub(crate) fn exists(dir: &Path) -> bool {
    path(dir).exists()
}

impl Copy {
    /// Written aside and moved, so that one is whole at any time.
    pub(crate) fn write(&self, dir: &Path) -> std::io::Result<()> {
        let aside = dir.join("held.json.new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&aside, path(dir))?;
        File::open(dir)?.sync_all()
    }
}

/// Fills a store that was made just now: if there is a copy beside it, the one before was lost, and what was held is
/// held.
///
/// # Errors
/// There is a copy, and it makes no sense: what was held is not known, and that is not nothing.
pub(crate) fn restore(db: &Connection, dir: &Path) -> Result<()> {
    let path = path(dir);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::Lost { path, cause: error.to_string() }),
        Ok(text) => text,
    };
    let copy: Copy =
        serde_json::from_slice(&text).map_err(|error| StoreError::Lost { path, cause: error.to_string() })?;
    let failed = || failed("fill a new store");
    for (service, requester, record) in &copy.holds {
        db.execute(
            "INSERT OR IGNORE INTO holds (service, requester, record) VALUES (?1, ?2, ?3)",
            params![service, requester, record],
        )
        .map_err(failed())?;
    }
    for (service, record) in &copy.records {
        db.execute("INSERT OR IGNORE INTO records (service, record) VALUES (?1, ?2)", params![service, record])
            .map_err(failed())?;
    }
    for (requester, record) in &copy.server_holds {
        db.execute(
            "INSERT OR IGNORE INTO server_holds (requester, record) VALUES (?1, ?2)",
            params![requester, record],
        )
        .map_err(failed())?;
    }
    for (requester, service) in &copy.covered {
        db.execute("INSERT OR IGNORE INTO covered (requester, service) VALUES (?1, ?2)", params![requester, service])
            .map_err(failed())?;
    }
    Ok(())
}

/// The holds and records of the copy.
///
/// # Errors
/// It is not there, or makes no sense.
pub fn copy(dir: &Path) -> Result<(Vec<Hold>, Vec<Record>)> {
    let path = path(dir);
    let text =
        std::fs::read(&path).map_err(|source| StoreError::Copy { path: path.clone(), cause: source.to_string() })?;
    let copy: Copy = serde_json::from_slice(&text)
        .map_err(|error| StoreError::Copy { path: path.clone(), cause: error.to_string() })?;
    let corrupt = |what: &'static str, of: &str| {
        let of = of.to_owned();
        move |cause| StoreError::Corrupt { what, of, cause }
    };
    let holds = copy.holds.iter().map(|(service, requester, record)| {
        format::hold_from(service, requester, record).map_err(corrupt("copied hold", service))
    });
    let records = copy
        .records
        .iter()
        .map(|(service, record)| format::record_from(service, record).map_err(corrupt("copied record", service)));
    let mut holds: Vec<Hold> = holds.collect::<Result<_>>()?;
    holds.extend(server::spread(&server::from_rows(&copy.server_holds, &copy.covered)?));
    Ok((holds, records.collect::<Result<_>>()?))
}
