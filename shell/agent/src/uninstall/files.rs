//! Which files of ebb are on this server, and which of them a package looks after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::UNITS;

/// What the installation by hand puts where, but for pages and the program.
const CATALOG: &str = "/usr/lib/systemd/catalog/ebb.catalog";
const SYSUSERS: &str = "/usr/lib/sysusers.d/ebb.conf";
const POLICY: &str = "/usr/lib/ebb/policy-rc.d";
const COMPLETIONS: [&str; 5] = [
    "/etc/bash_completion.d/ebb",
    "/usr/share/bash-completion/completions/ebb",
    "/usr/share/zsh/vendor-completions/_ebb",
    "/usr/share/zsh/site-functions/_ebb",
    "/usr/share/fish/vendor_completions.d/ebb.fish",
];
const PAGES: [&str; 2] = ["/usr/share/man/man1", "/usr/local/share/man/man1"];
const UNIT_DIRS: [&str; 3] = ["/usr/lib/systemd/system", "/etc/systemd/system", "/run/systemd/system"];
const PROGRAMS: [&str; 2] = ["/usr/bin/ebb", "/usr/local/bin/ebb"];

/// What is there and belongs to no package.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<PathBuf>,
    pub(super) dirs: Vec<PathBuf>,
    /// The journal's catalog is among them.
    pub(super) catalog: bool,
    /// Something that systemd reads is among them.
    pub(super) units: bool,
    /// The group is not a package's.
    pub(super) sysusers: bool,
    /// Our own program: the last to go.
    pub(super) program: Option<PathBuf>,
}

/// Files that dpkg has installed for ebb.
pub(super) async fn packaged() -> BTreeSet<PathBuf> {
    let mut ask = tokio::process::Command::new("dpkg-query");
    // Without dpkg, or without such a package, there are none.
    let Ok(said) = ask.args(["--listfiles", "ebb"]).env("LC_ALL", "C").output().await else { return BTreeSet::new() };
    let list = String::from_utf8_lossy(&said.stdout);
    list.lines().map(PathBuf::from).filter(|path| path.symlink_metadata().is_ok_and(|found| !found.is_dir())).collect()
}

pub(super) fn found(packaged: &BTreeSet<PathBuf>, keep_config: bool) -> Found {
    let mut found = Found { sysusers: packaged.is_empty(), ..Found::default() };
    let free = |path: &Path| path.symlink_metadata().is_ok() && !packaged.contains(path);
    for dir in UNIT_DIRS {
        for unit in UNITS {
            let file = Path::new(dir).join(unit);
            let drop_ins = Path::new(dir).join(format!("{unit}.d"));
            found.units |= free(&file) || free(&drop_ins);
            found.files.extend(Some(file).filter(|path| free(path)));
            // What an administrator has changed of our units is configuration.
            found.dirs.extend(Some(drop_ins).filter(|path| free(path) && !keep_config));
        }
    }
    found.catalog = free(Path::new(CATALOG));
    let others = [CATALOG, SYSUSERS].into_iter().chain(COMPLETIONS).map(PathBuf::from);
    found.files.extend(others.filter(|path| free(path)));
    found.files.extend(PAGES.into_iter().flat_map(|dir| pages(Path::new(dir))).filter(|path| free(path)));
    if free(Path::new(POLICY)) {
        found.dirs.extend(Path::new(POLICY).parent().map(Path::to_owned));
    }
    let own = std::env::current_exe().ok();
    found.program = PROGRAMS
        .into_iter()
        .map(PathBuf::from)
        .find(|path| free(path) && own.as_deref() == path.canonicalize().ok().as_deref());
    found
}

/// Pages that `ebb man` has written there: one for ebb, one for each command.
fn pages(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_page(path)).collect();
    pages.sort();
    pages
}

fn is_page(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(page) = name.strip_suffix(".1").filter(|page| *page == "ebb" || page.starts_with("ebb-")) else {
        return false;
    };
    // Its title says whose it is: another's page may begin with the same letters.
    let title = format!(".TH {page} 1");
    fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.starts_with(&title)))
}

/// Whether one of our units is started at boot.
pub(super) fn is_enabled(unit: &str) -> bool {
    let wants = fs::read_dir("/etc/systemd/system").into_iter().flatten().flatten();
    wants
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "wants" || kind == "requires"))
        .any(|path| path.join(unit).symlink_metadata().is_ok())
}

/// Whether our policy was given to Debian's `policy-rc.d`.
pub(super) async fn policy_is_ours() -> bool {
    let mut ask = tokio::process::Command::new("update-alternatives");
    // Without that program, or without any choice of that name, it is not.
    let Ok(said) = ask.args(["--query", "policy-rc.d"]).env("LC_ALL", "C").output().await else { return false };
    String::from_utf8_lossy(&said.stdout).lines().any(|line| line.strip_prefix("Alternative: ") == Some(POLICY))
}

/// Arguments of `update-alternatives` that take it back.
pub(super) const POLICY_BACK: [&str; 3] = ["--remove", "policy-rc.d", POLICY];
