//! `ebb config check`: all faults, and what this server says to a configuration that has none.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ebb_decide::resolve::nearest;
use ebb_systemd::UnitName;

use super::fault::{At, Fault, Faults, quoted};
use super::together::{named, plain, texts};
use super::tree::Entry;
use super::{Config, Found, Stamp, build, find};
use crate::Place;
use crate::world::World;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Files that were read.
    pub files: Vec<PathBuf>,
    /// With any of these it is refused.
    pub faults: Vec<Fault>,
    /// Probably not meant.
    pub warnings: Vec<Fault>,
    /// Why services could not be compared with those of this server, if they could not.
    pub unseen: Option<String>,
}

/// Reads the configuration at `place`, and if it has no fault, compares it with this server.
pub async fn check(place: Place) -> Checked {
    let mut found = find(&place.config);
    let mut more = Faults::default();
    let mut unseen = None;
    if found.faults.is_empty() {
        secrets(&found, &mut more);
        // Without the groups: their members are asked for by their own names.
        let config = Config { groups: Vec::new(), ..build::config(&found.tree) };
        unseen = match World::over(place, config, Stamp::new(), false) {
            Ok(world) => names(&found, &world, &mut more).await,
            Err(error) => Some(crate::world::chain(&error)),
        };
    }
    found.warnings.extend(more.told(&found.sources));
    let files = found.sources.into_iter().skip(1).map(|source| source.path).collect();
    Checked { files, faults: found.faults, warnings: found.warnings, unseen }
}

/// Passwords: in files that are there, and that not everybody reads.
fn secrets(found: &Found, warnings: &mut Faults) {
    for (_, _, way) in named(&found.tree, "notify") {
        if let Some(entry) = way.get("password_file") {
            secret_file(entry.value_at, entry.value.text().unwrap_or_default(), warnings);
        }
    }
    for (table, key) in [("notify", "headers"), ("guard", "environment")] {
        for (_, _, fields) in named(&found.tree, table) {
            let map = fields.get(key).and_then(|entry| entry.value.table());
            map.into_iter().flatten().for_each(|(name, entry)| in_map(found, name, entry, warnings));
        }
    }
}

fn in_map(found: &Found, name: &str, entry: &Entry, warnings: &mut Faults) {
    let text = entry.value.text().unwrap_or_default();
    let upper = name.to_uppercase();
    if let Some(path) = text.strip_prefix("file:") {
        return secret_file(entry.value_at, path, warnings);
    }
    if upper.ends_with("_FILE") && ["PASS", "SECRET", "KEY", "TOKEN"].iter().any(|word| upper.contains(word)) {
        return secret_file(entry.value_at, text, warnings);
    }
    let secret = ["PASSWORD", "PASSPHRASE", "SECRET", "TOKEN", "AUTHORIZATION"].iter().any(|word| upper.contains(word));
    let file = found.sources.get(entry.value_at.file).map(|source| source.path.as_path());
    if secret && file.is_some_and(readable_by_all) {
        let hint = "put it in a file of its own, or chmod o-r this one".to_owned();
        warnings.with(entry.value_at, format!("{} has a secret, and everybody may read this file", quoted(name)), hint);
    }
}

fn readable_by_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|seen| seen.permissions().mode() & 0o004 != 0)
}

fn secret_file(at: At, path: &str, warnings: &mut Faults) {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        Err(error) => warnings.say(at, format!("{} cannot be read: {error}", quoted(path))),
        Ok(seen) if seen.permissions().mode() & 0o004 != 0 => {
            let hint = format!("chmod o-r {path}");
            warnings.with(at, format!("{} has a secret, and everybody may read it", quoted(path)), hint);
        }
        Ok(_) => {}
    }
}

/// Names that nothing on this server has; why they could not be compared, if they could not.
async fn names(found: &Found, world: &World, warnings: &mut Faults) -> Option<String> {
    let tables = named(&found.tree, "service");
    let units: Vec<(At, &str)> = tables.iter().flat_map(|(_, _, fields)| texts(fields, "units")).collect();
    let executables: Vec<(At, &str)> = tables.iter().flat_map(|(_, _, fields)| texts(fields, "executables")).collect();
    let uses: Vec<(At, &str)> = tables.iter().flat_map(|(_, _, fields)| texts(fields, "uses")).collect();
    let protect = found.tree.get("protect").and_then(|entry| entry.value.table());
    let protect: Vec<(At, &str)> = protect.map(|fields| texts(fields, "services")).unwrap_or_default();
    if [&units, &executables, &uses, &protect].iter().all(|list| list.is_empty()) {
        return None;
    }
    let services = match crate::look::services(world).await {
        Ok(services) => services,
        Err(why) => return Some(why.to_string()),
    };
    let mut known: Vec<String> = services.iter().map(|service| service.name.to_string()).collect();
    known.extend(services.iter().flat_map(|service| service.aliases.clone()));
    known.extend(services.iter().flat_map(crate::look::units_of));
    known.extend(tables.iter().map(|(name, ..)| (*name).to_owned()));
    let is_known = |name: &str| known.iter().any(|one| plain(one) == plain(name));
    for (at, name) in units.iter().chain(&uses) {
        if !is_known(name) && !is_unit(world, name).await {
            let near = nearest(name, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            warnings.perhaps(*at, format!("nothing on this server is called {} now", quoted(name)), near);
        }
    }
    for (at, pattern) in protect {
        let fits = match pattern.strip_suffix('*') {
            Some(beginning) => known.iter().any(|name| name.starts_with(beginning)),
            None => is_known(pattern),
        };
        if !fits {
            let near = nearest(pattern, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            warnings.perhaps(at, format!("nothing on this server is called {} now", quoted(pattern)), near);
        }
    }
    for (at, name) in executables {
        if !is_known(name) {
            warnings.say(at, format!("no service of this server runs {} now", quoted(name)));
        }
    }
    None
}

/// Whether systemd knows a unit of this name, running or not.
async fn is_unit(world: &World, name: &str) -> bool {
    let Some(systemd) = &world.systemd else { return false };
    let full = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
    let Ok(name) = UnitName::new(&full) else { return false };
    systemd.unit(&name).await.is_ok()
}
