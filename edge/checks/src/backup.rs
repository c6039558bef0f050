//! When the newest backup was made: asked of the tool that makes it.

mod tools;

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use ebb_model::{Backup, Fact, Span, Wall};

use crate::run::{self, Order, Place};

/// A time, and whose it is.
pub(crate) type Newest = (Wall, String);

/// The newest backup, or why there is none.
pub(crate) async fn newest(kind: &Backup, within: Span, place: Place) -> Result<Fact, String> {
    let asked = async |command: &[&str], environment: &BTreeMap<String, String>| {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        said(&command, environment, within, place).await
    };
    let none = BTreeMap::new();
    let (at, what) = match kind {
        Backup::Restic { environment } => {
            // It may look where it may not write, and keeps nobody waiting who does.
            let command = ["restic", "snapshots", "--json", "--latest", "1", "--no-cache", "--no-lock"];
            tools::restic(&asked(&command, environment).await?)
        }
        Backup::Borg { repository, environment } => {
            // Its times are local and do not say where.
            let mut environment = environment.clone();
            environment.insert("TZ".to_owned(), "UTC0".to_owned());
            let command = ["borg", "--bypass-lock", "list", "--json", "--last", "1", "--", repository];
            tools::borg(&asked(&command, &environment).await?)
        }
        Backup::PgBackRest { stanza } => {
            let stanza_is = format!("--stanza={stanza}");
            let command = ["pgbackrest", &stanza_is, "--output=json", "info"];
            tools::pgbackrest(&asked(&command, &none).await?, stanza)
        }
        Backup::Barman { server } => {
            let command = ["barman", "--format", "json", "list-backup", server];
            tools::barman(&asked(&command, &none).await?, server)
        }
        Backup::File { path } => file(path).await,
        Backup::Command { command } => {
            let text = said(command, &none, within, place).await?;
            tools::time(text.trim()).map(|at| (at, "backup".to_owned()))
        }
    }?;
    Ok(Fact::Backup { at, what })
}

/// What a command prints, if it ends with 0.
async fn said(
    command: &[String],
    environment: &BTreeMap<String, String>,
    within: Span,
    place: Place,
) -> Result<String, String> {
    let mut order = Order::new(command, within, place);
    order.environment.clone_from(environment);
    let ran = run::run(&order).await.map_err(|error| run::chain(&error))?;
    if ran.code == Some(0) {
        return if ran.cut && ran.out.len() >= 64 * 1024 { Err("it said too much".to_owned()) } else { Ok(ran.out) };
    }
    let program = command.first().map_or("", String::as_str);
    let ended = ran.code.map_or_else(|| "was killed".to_owned(), |code| format!("ended with {code}"));
    // A tool that fails says why on standard error, unless it was asked for JSON: then there.
    let why = ran.err.lines().map(str::trim).find(|line| !line.is_empty());
    let why = tools::error(&ran.out).or_else(|| why.map(str::to_owned)).unwrap_or_else(|| ran.first_line());
    Err(format!("{program} {ended}: {why}"))
}

async fn file(path: &str) -> Result<Newest, String> {
    let name = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut newest: Option<Newest> = None;
        for path in super::files::fitting(&name)? {
            let unread = |error: std::io::Error| format!("{}: {error}", path.display());
            let seen = std::fs::metadata(&path).map_err(unread)?;
            let since = seen.modified().map_err(unread)?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let at = Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
            // An empty file is what a backup leaves that failed.
            if seen.is_file() && seen.len() > 0 && newest.as_ref().is_none_or(|(newest, _)| *newest < at) {
                newest = Some((at, path.display().to_string()));
            }
        }
        newest.ok_or_else(|| format!("no file that is not empty fits {name}"))
    });
    read.await.map_err(|error| error.to_string())?
}

#[cfg(test)]
mod tests;
