//! Running other programs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// The cargo that runs us.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// What a program says; its complaint when it fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("start {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The root of the workspace we are in.
pub fn root() -> Result<PathBuf, String> {
    let mut cargo = Command::new(cargo());
    let manifest = output(cargo.args(["locate-project", "--workspace", "--message-format", "plain"]))?;
    let manifest = PathBuf::from(manifest.trim());
    manifest.parent().map(PathBuf::from).ok_or_else(|| String::from("cargo knows no workspace here"))
}
