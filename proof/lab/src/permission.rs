//! May this process make namespaces at all?

use std::io::Write;
use std::process::{Command, Stdio};

/// Why this process cannot run a lab, or `None` when it can.
pub fn forbidden_because() -> Option<String> {
    let probe = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"])
        .stdin(Stdio::null())
        .output();
    match probe {
        Err(source) => Some(format!("cannot start unshare: {source}")),
        Ok(out) if out.status.success() => None,
        Ok(out) => {
            Some(format!("not root, or namespaces are forbidden ({})", String::from_utf8_lossy(&out.stderr).trim()))
        }
    }
}

/// The first line of each test with a lab: `if !ebb_lab::allowed() { return; }`.
///
/// Where namespaces are forbidden it says `SKIPPED: why` past the test runner's capture, so that nobody takes
/// the silence for a success.
///
/// # Panics
/// Instead of skipping, where the environment has `EBB_TEST_MUST_RUN=1`.
pub fn allowed() -> bool {
    let Some(why) = forbidden_because() else {
        return true;
    };
    let must_run = std::env::var_os("EBB_TEST_MUST_RUN").is_some_and(|v| v == "1");
    assert!(!must_run, "EBB_TEST_MUST_RUN=1, but a lab is impossible: {why}");
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not being able to complain is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why} [{name}]");
    false
}
