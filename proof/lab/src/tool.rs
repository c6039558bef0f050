//! The machine's own programs, run to their end.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::{LabError, Result};

/// Runs a script of this crate with bash and wants exit code 0.
///
/// For steps of the lab itself, which are short and bounded; for commands in a server see [`crate::Host`].
pub(crate) fn script<S: AsRef<OsStr>>(text: &str, arguments: &[S]) -> Result<()> {
    let mut command = Command::new("bash");
    command.args(["-c", text, "bash"]).args(arguments).stdin(Stdio::null());
    let short = || arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
    let out = command.output().map_err(|source| LabError::Start { program: format!("bash {}", short()), source })?;
    if out.status.success() {
        return Ok(());
    }
    let first = text.lines().find(|l| l.starts_with("# ")).unwrap_or("script");
    Err(LabError::Command {
        command: format!("{first} [{}]", short()),
        code: out.status.code(),
        text: String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr),
    })
}
