//! `systemctl`, for when the bus is dead. As root it speaks to systemd's private socket and needs no bus.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::{Error, Result, UnitName};

/// What `systemctl` printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The last line of complaint: the one that names the cause.
    fn last(&self) -> String {
        self.err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }
}

/// Runs it. The process is killed at the deadline; what it asked for is not undone.
pub(crate) async fn run(what: &str, arguments: &[&str], within: Duration) -> Result<Said> {
    let mut command = Command::new("systemctl");
    command
        .args(["--no-pager", "--no-ask-password"])
        .args(arguments)
        .env("LC_ALL", "C")
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_LOG_LEVEL", "info")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for variable in crate::Notify::VARIABLES {
        command.env_remove(variable);
    }
    match timeout(within, command.output()).await {
        Ok(Ok(output)) => Ok(Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }),
        Ok(Err(error)) => Err(Error::Systemctl { what: what.to_owned(), said: error.to_string() }),
        Err(_) => Err(Error::Timeout { what: what.to_owned(), after: within }),
    }
}

/// Why a run failed. `bus` is what the bus had answered before.
pub(crate) fn error_of(what: &str, unit: Option<&UnitName>, bus: &str, said: &Said) -> Error {
    let what = what.to_owned();
    let has = |text: &str| said.err.contains(text);
    if has("Failed to connect to") || has("Failed to get D-Bus connection") {
        return Error::BusGone { what, bus: bus.to_owned(), systemctl: said.last() };
    }
    if has("Access denied") || has("authentication required") || has("Permission denied") {
        return Error::AccessDenied { what };
    }
    if has("may be requested by dependency only") || has("is destructive") {
        return Error::Refused { what, reason: said.last() };
    }
    match unit {
        Some(unit) if has("not loaded") || has("not found") || has("could not be found") => {
            Error::NoSuchUnit { what, unit: unit.clone() }
        }
        Some(unit) if has("is masked") => Error::Masked { what, unit: unit.clone() },
        _ => Error::Systemctl { what, said: said.last() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_systemd_252() {
        let unit = UnitName::new("x.service").unwrap();
        let error = |err: &str| {
            let said = Said { ok: false, out: String::new(), err: err.to_owned() };
            error_of("stop x", Some(&unit), "dead", &said)
        };
        let gone = error("Failed to connect to bus: No such file or directory\n");
        assert_eq!(
            gone.to_string(),
            "stop x: no bus (dead) and no systemctl (Failed to connect to bus: No such file or directory)"
        );
        let none = error("Failed to stop x.service: Unit x.service not loaded.\n");
        assert!(matches!(none, Error::NoSuchUnit { .. }));
        let masked = error("Failed to start x.service: Unit x.service is masked.\n");
        assert!(matches!(masked, Error::Masked { .. }));
        let denied = error("Failed to stop x.service: Access denied\nSee system logs for details.\n");
        assert!(matches!(denied, Error::AccessDenied { .. }));
        let refused = error(
            "Failed to stop x.service: Operation refused, unit x.service may be requested by dependency only (it is configured to refuse manual start/stop).\n",
        );
        assert!(matches!(refused, Error::Refused { .. }));
        assert!(matches!(error("?"), Error::Systemctl { .. }));
    }
}
