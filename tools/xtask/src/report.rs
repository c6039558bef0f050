//! What a check found.

use std::fmt;
use std::path::PathBuf;

/// Something against the house's rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// File, from the root of the workspace.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// What is there and why it must not be.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}
