//! What a service tells systemd about itself: `sd_notify(3)` and `sd_watchdog_enabled(3)`.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, ErrorKind},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use crate::{Error, Result};

/// systemd reads its queue in milliseconds; one that does not must not stop the service.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// The way to systemd, from the environment a `Type=notify` service gets. Where there is none, every call
/// does nothing.
///
/// The environment itself is left as it is, for changing it is unsafe in a program with threads. Give children
/// none of [`Self::VARIABLES`] (`Command::env_remove`), or one may speak in this service's name.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// The variables that are meant for this process alone.
    pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

    /// As the environment says.
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // A watchdog for another process is one we were started by.
        let ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        Self { socket: variable("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()), watchdog }
    }

    /// After this time without [`Self::watchdog`] systemd kills the service (`WatchdogSec=`). Call it twice as
    /// often. `None`: nobody waits for it.
    pub fn watchdog_limit(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service is up.
    ///
    /// # Errors
    /// [`Error::Notify`], as of each call here.
    pub fn ready(&self, status: &str) -> Result<()> {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)))
    }

    /// A line for `systemctl status`.
    ///
    /// # Errors
    /// [`Error::Notify`].
    pub fn status(&self, status: &str) -> Result<()> {
        self.send(&format!("STATUS={}", one_line(status)))
    }

    /// It reads its configuration again since `at` of `CLOCK_MONOTONIC`; [`Self::ready`] is to follow. The time is what
    /// `Type=notify-reload` (systemd 253) asks for.
    ///
    /// # Errors
    /// [`Error::Notify`].
    pub fn reloading(&self, at: Duration) -> Result<()> {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", at.as_micros()))
    }

    /// It begins to stop.
    ///
    /// # Errors
    /// [`Error::Notify`].
    pub fn stopping(&self) -> Result<()> {
        self.send("STOPPING=1")
    }

    /// It lives.
    ///
    /// # Errors
    /// [`Error::Notify`].
    pub fn watchdog(&self) -> Result<()> {
        self.send("WATCHDOG=1")
    }

    fn send(&self, state: &str) -> Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        send_to(socket, state).map_err(|source| Error::Notify { source })
    }
}

fn send_to(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        // vsock, for virtual machines' init only.
        _ => return Err(ErrorKind::Unsupported.into()),
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(SEND_WITHIN))?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// A line break would begin the next assignment.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Notify {
        Notify::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_sockets_are_written_to() {
        let path = env::temp_dir().join(format!("ebb-notify-{}", std::process::id()));
        let name = format!("ebb-notify-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (address, socket) in [(path.to_str().unwrap(), &by_path), (&format!("@{name}"), &by_name)] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let notify = with(&[("NOTIFY_SOCKET", address)]);
            notify.ready("up\nMAINPID=1").unwrap();
            notify.status("2 holds").unwrap();
            notify.watchdog().unwrap();
            notify.reloading(Duration::from_micros(17)).unwrap();
            notify.stopping().unwrap();
            let said: Vec<String> = (0..5).map(|_| received(socket)).collect();
            let wanted = [
                "READY=1\nSTATUS=up MAINPID=1",
                "STATUS=2 holds",
                "WATCHDOG=1",
                "RELOADING=1\nMONOTONIC_USEC=17",
                "STOPPING=1",
            ];
            assert_eq!(said, wanted);
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nobody_there_is_fine_and_a_dead_socket_is_not() {
        assert!(with(&[]).ready("up").is_ok());
        assert!(with(&[("NOTIFY_SOCKET", "")]).ready("up").is_ok());
        for dead in ["/nonexistent/notify", "vsock:2:1", "@ebb-nobody"] {
            let error = with(&[("NOTIFY_SOCKET", dead)]).watchdog();
            assert!(matches!(error, Err(Error::Notify { .. })), "{dead}");
        }
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let us = std::process::id().to_string();
        let limit = |variables: &[(&str, &str)]| with(variables).watchdog_limit();
        let half_a_minute = Some(Duration::from_secs(30));
        assert_eq!(limit(&[("WATCHDOG_USEC", "30000000")]), half_a_minute);
        assert_eq!(limit(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", &us)]), half_a_minute);
        assert_eq!(limit(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(limit(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "x")]), None);
        assert_eq!(limit(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(limit(&[]), None);
    }
}
