//! Who may use whom, and what may happen in which room. The rules are in `ARCHITECTURE.md`.

mod crates;
mod tokens;

use std::path::Path;
use std::process::Command;

use crate::report::Violation;
use crate::source::Source;

/// Checks the whole workspace.
pub fn check(root: &Path, sources: &[Source]) -> Result<Vec<Violation>, String> {
    let mut violations = crates::check(&crates::read(&metadata(root)?, root)?);
    for source in sources {
        tokens::check(source, &mut violations);
    }
    violations.sort();
    violations.dedup();
    Ok(violations)
}

fn metadata(root: &Path) -> Result<serde_json::Value, String> {
    let mut cargo = Command::new(crate::tool::cargo());
    cargo.args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root);
    let text = crate::tool::output(&mut cargo)?;
    serde_json::from_str(&text).map_err(|error| format!("read cargo's metadata: {error}"))
}
