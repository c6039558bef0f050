//! What every drain test needs.

use std::time::Duration;

use ebb_lab::LabError;

/// For what comes at once, on a machine that may be busy.
pub const SOON: Duration = Duration::from_secs(20);
/// For what takes its time: a settle, a stop, a download.
pub const LATE: Duration = Duration::from_secs(60);

/// A failure shows the lab's own message, not its Debug form.
pub type Outcome = Result<(), Failure>;

pub struct Failure(String);

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Self(format!("failed to {error} {why}"))
    }
}
