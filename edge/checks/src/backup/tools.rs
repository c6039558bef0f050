//! What each tool prints.

use std::collections::BTreeMap;

use ebb_model::Wall;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::Newest;

fn understood<'a, T: Deserialize<'a>>(tool: &str, text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("what {tool} says is not understood: {error}"))
}

fn newest(all: impl Iterator<Item = Newest>, none: &str) -> Result<Newest, String> {
    all.max_by_key(|(at, _)| *at).ok_or_else(|| none.to_owned())
}

#[derive(Deserialize)]
struct Snapshot {
    time: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    short_id: String,
}

/// `restic snapshots --json`: the last of each server and path.
pub(super) fn restic(text: &str) -> Result<Newest, String> {
    let all: Option<Vec<Snapshot>> = understood("restic", text)?;
    let all = all.unwrap_or_default();
    let all = all.into_iter().map(|one| {
        let id = if one.short_id.is_empty() { one.id } else { one.short_id };
        Ok((time(&one.time)?, format!("snapshot {id}")))
    });
    newest(all.collect::<Result<Vec<_>, String>>()?.into_iter(), "the repository has no snapshot")
}

/// `borg list --json`, whose times are UTC because we say so.
pub(super) fn borg(text: &str) -> Result<Newest, String> {
    let value: serde_json::Value = understood("borg", text)?;
    let all = value.get("archives").and_then(|all| all.as_array()).ok_or("borg does not say its archives")?;
    let all = all.iter().map(|one| {
        let text = |key: &str| one.get(key).and_then(|value| value.as_str());
        let at = text("time").or_else(|| text("start")).ok_or("borg does not say when an archive was made")?;
        Ok((time(at)?, format!("archive {}", text("name").unwrap_or_default())))
    });
    newest(all.collect::<Result<Vec<_>, String>>()?.into_iter(), "the repository has no archive")
}

#[derive(Deserialize)]
struct Stanza {
    name: String,
    #[serde(default)]
    backup: Vec<PgBackup>,
    status: StanzaStatus,
}

#[derive(Deserialize)]
struct StanzaStatus {
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct PgBackup {
    label: String,
    /// Pages of it are broken.
    #[serde(default)]
    error: Option<bool>,
    timestamp: PgTimes,
}

#[derive(Deserialize)]
struct PgTimes {
    stop: i64,
}

/// `pgbackrest --output=json info`
pub(super) fn pgbackrest(text: &str, stanza: &str) -> Result<Newest, String> {
    let all: Vec<Stanza> = understood("pgbackrest", text)?;
    let found = all.into_iter().find(|one| one.name == stanza).ok_or_else(|| format!("there is no stanza {stanza}"))?;
    if found.status.code != 0 {
        return Err(format!("stanza {stanza}: {}", found.status.message));
    }
    let good = found.backup.into_iter().filter(|one| one.error != Some(true));
    let all = good.map(|one| (Wall(one.timestamp.stop.saturating_mul(1000)), format!("backup {}", one.label)));
    newest(all, "the stanza has no backup without errors")
}

#[derive(Deserialize)]
struct BarmanBackup {
    backup_id: String,
    status: String,
    #[serde(default)]
    end_time_timestamp: Option<String>,
}

/// `barman --format json list-backup`: beside the server there may be `_WARNING` and the like.
pub(super) fn barman(text: &str, server: &str) -> Result<Newest, String> {
    let mut all: BTreeMap<String, serde_json::Value> = understood("barman", text)?;
    let found = all.remove(server).ok_or_else(|| format!("barman does not know the server {server}"))?;
    let found: Vec<BarmanBackup> =
        serde_json::from_value(found).map_err(|error| format!("what barman says is not understood: {error}"))?;
    // Others are under way, have failed, or cannot be restored yet.
    let done = found.into_iter().filter(|one| one.status == "DONE");
    let all = done.map(|one| {
        let seconds = one.end_time_timestamp.as_deref().and_then(|at| at.parse::<f64>().ok());
        let seconds = seconds.ok_or("barman does not say when the backup ended (older than 2.10?)")?;
        Ok((Wall((seconds * 1000.0) as i64), format!("backup {}", one.backup_id)))
    });
    newest(all.collect::<Result<Vec<_>, String>>()?.into_iter(), "the server has no backup that is done")
}

/// What barman says of its failure, if this is that.
pub(super) fn error(text: &str) -> Option<String> {
    let all: serde_json::Value = serde_json::from_str(text).ok()?;
    all.get("_ERROR")?.as_array()?.first()?.as_str().map(str::to_owned)
}

/// RFC 3339, the same without an offset (UTC), or seconds since 1970.
pub(super) fn time(text: &str) -> Result<Wall, String> {
    let text = text.lines().next().unwrap_or_default().trim();
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
        && (0.0..1e12).contains(&seconds)
    {
        return Ok(Wall((seconds * 1000.0) as i64));
    }
    let at = text.parse::<Timestamp>().ok();
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    let at = at.or_else(local).ok_or_else(|| {
        format!("`{}` is no time: RFC 3339 or seconds since 1970", text.chars().take(80).collect::<String>())
    })?;
    Ok(Wall(at.as_millisecond()))
}
