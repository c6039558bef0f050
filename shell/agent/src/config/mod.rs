//! `/etc/ebb/ebb.toml` and its drop-ins, `/etc/ebb/ebb.toml.d/*.toml`: read as a whole, or refused as a whole.
//!
//! Each file becomes a [`tree`], is checked against the [`schema`] by itself, and is laid over those before it; what
//! nobody says is added, what depends on several values is checked, and the whole is made into settings. Every fault of
//! every file is found before anything is said.

mod build;
mod explain;
mod fault;
mod files;
mod look;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod together;
mod tree;
mod values;

use std::path::Path;

use ebb_decide::services::Group;
use ebb_model::Settings;

pub use explain::{Explained, Origin, Setting, explain};
pub use fault::Fault;
pub use look::{Checked, check};

use fault::{At, Faults, Source};
pub(crate) use files::{Stamp, stamp};
use tree::Fields;

/// Read before every other file.
const DEFAULTS: &str = include_str!("defaults.toml");

/// The configuration makes no sense, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}", said(faults))]
pub struct ConfigError {
    /// Every fault found, in the order of the files.
    pub faults: Vec<Fault>,
}

fn said(faults: &[Fault]) -> String {
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    match faults.len() {
        0 | 1 => first,
        count => format!("{first} (and {} more)", count - 1),
    }
}

/// What the files say.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Several units or executables as one service.
    pub(crate) groups: Vec<Group>,
    /// Ask systemd for units, where it runs.
    pub(crate) systemd: bool,
    /// Who may act beside root: login names, and `@GROUP`.
    pub(crate) operators: Vec<String>,
    /// All else.
    pub(crate) settings: Settings,
}

/// The files, and what came of them.
#[derive(Debug)]
pub(crate) struct Found {
    /// The first is what is built in.
    pub(crate) sources: Vec<Source>,
    /// Complete where there are no faults.
    pub(crate) tree: Fields,
    pub(crate) faults: Vec<Fault>,
    /// What is probably not meant.
    pub(crate) warnings: Vec<Fault>,
}

/// Reads all files; those that are not there say nothing.
///
/// # Errors
/// [`ConfigError`] with every fault.
pub(crate) fn read(path: &Path) -> Result<Config, ConfigError> {
    let found = find(path);
    if found.faults.is_empty() { Ok(build::config(&found.tree)) } else { Err(ConfigError { faults: found.faults }) }
}

/// Reads all files, whatever is in them.
pub(crate) fn find(path: &Path) -> Found {
    let (files, unread) = files::read(path);
    let mut found = understand(files);
    let broken = !unread.is_empty();
    found.faults.splice(0..0, unread);
    // What could not be read might have said it.
    if broken {
        found.warnings.clear();
    }
    found
}

/// Understands files that have been read, the later over the earlier.
pub(crate) fn understand(files: Vec<Source>) -> Found {
    let mut sources = vec![Source { path: "built in".into(), text: DEFAULTS.to_owned() }];
    sources.extend(files);
    let (mut faults, mut warnings) = (Faults::default(), Faults::default());
    let (mut tree, mut broken) = (Fields::new(), false);
    for (number, source) in sources.iter().enumerate() {
        let (mut fields, whole) = tree::read(number, &source.text, &mut faults);
        broken |= !whole;
        shape::check(&mut fields, &mut faults);
        tree::lay_over(&mut tree, fields);
    }
    shape::complete(&mut tree, broken, &mut faults);
    together::check(&tree, &mut faults, &mut warnings);
    let (faults, warnings) = (faults.told(&sources), warnings.told(&sources));
    Found { sources, tree, faults, warnings }
}

impl Found {
    /// The file and the line in which something is written; none if nobody wrote it.
    pub(crate) fn origin(&self, at: At) -> Option<(&Path, usize)> {
        let source = self.sources.get(at.file).filter(|_| !at.is_default())?;
        Some((&source.path, source.position(at.offset).0))
    }
}
