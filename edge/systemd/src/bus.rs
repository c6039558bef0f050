//! The connection to the system bus: made when needed, made anew when it broke, given up for a
//! while when it is stuck.

use std::time::Duration;

use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};
use zbus::{Connection, DBusError as _, DynamicType, Message, conn, fdo};

use crate::{UnitName, object_path};

pub(crate) const NAME: &str = "org.freedesktop.systemd1";
pub(crate) const ROOT: &str = "/org/freedesktop/systemd1";
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(crate) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(crate) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A local daemon answers in milliseconds; where `dbus.socket` still listens for a daemon that cannot start, connecting hangs.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// One call. systemd itself is busy for seconds only while it reloads its units.
pub(crate) const CALL_WITHIN: Duration = Duration::from_secs(5);
/// After a bus did not answer at all, every call would wait that long again: leave it alone for a while.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(5);

/// dbus-daemon refuses the 129th unanswered call of a connection and the 257th connection of a
/// user (its defaults). Half of the one, a quarter of the other.
const AT_ONCE: usize = 64;

/// Why a call on the bus brought no reply.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is no bus, or no systemd on it, or it is stuck. `systemctl` may still work.
    Gone(String),
    /// systemd answered with an error.
    Answer(zbus::Error),
}

impl From<zbus::Error> for Fault {
    fn from(error: zbus::Error) -> Self {
        if is_gone(&error) { Self::Gone(error.to_string()) } else { Self::Answer(error) }
    }
}

/// A reply that was not of the expected shape is an answer, not a dead bus.
fn is_gone(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::InputOutput(_)
        | zbus::Error::Connection(..)
        | zbus::Error::Handshake(_)
        | zbus::Error::Address(_) => true,
        zbus::Error::FDO(error) => match &**error {
            fdo::Error::ZBus(error) => is_gone(error),
            // While systemd comes back to a restarted bus, the bus tries to "activate" it, which fails in several ways.
            fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::NoReply(_)
            | fdo::Error::NoServer(_)
            | fdo::Error::LimitsExceeded(_)
            | fdo::Error::Disconnected(_)
            | fdo::Error::Timeout(_)
            | fdo::Error::TimedOut(_) => true,
            other => other.name().starts_with("org.freedesktop.DBus.Error.Spawn."),
        },
        _ => false,
    }
}

/// The D-Bus name of the error systemd answered with, and its text.
pub(crate) fn error_words(error: &zbus::Error) -> Option<(String, String)> {
    match error {
        zbus::Error::MethodError(name, text, _) => Some((name.to_string(), text.clone().unwrap_or_default())),
        zbus::Error::FDO(error) => Some((error.name().to_string(), error.description().unwrap_or_default().to_owned())),
        _ => None,
    }
}

#[derive(Debug, Default)]
struct Line {
    open: Option<Connection>,
    left_alone_until: Option<Instant>,
}

/// The shared connection for calls. It never carries a signal stream.
#[derive(Debug)]
pub(crate) struct Bus {
    line: Mutex<Line>,
    calls: Semaphore,
    waits: Semaphore,
}

impl Default for Bus {
    fn default() -> Self {
        Self { line: Mutex::default(), calls: Semaphore::new(AT_ONCE), waits: Semaphore::new(AT_ONCE) }
    }
}

impl Bus {
    /// Calls systemd. On a broken connection it is tried once more on a new one, so `member` must
    /// be something that may be said twice.
    pub(crate) async fn call<B>(&self, path: &str, interface: &str, member: &str, body: &B) -> Result<Message, Fault>
    where
        B: serde_body::Serialize + DynamicType + Sync,
    {
        let _turn = turn(&self.calls).await;
        let (open, fresh) = self.line().await?;
        match self.call_on(&open, path, interface, member, body).await {
            Err(Fault::Gone(_)) if !fresh && !self.is_left_alone().await => {
                let (open, _) = self.line().await?;
                self.call_on(&open, path, interface, member, body).await
            }
            outcome => outcome,
        }
    }

    async fn call_on<B>(
        &self,
        open: &Connection,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<Message, Fault>
    where
        B: serde_body::Serialize + DynamicType + Sync,
    {
        let call = open.call_method(Some(NAME), path, Some(interface), member, body);
        let fault = match timeout(CALL_WITHIN, call).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => Fault::from(error),
            Err(_) => {
                self.leave_alone().await;
                Fault::Gone(format!("no answer within {CALL_WITHIN:?}"))
            }
        };
        if matches!(fault, Fault::Gone(_)) {
            self.line.lock().await.open = None;
        }
        Err(fault)
    }

    /// The connection, and whether it was made just now.
    async fn line(&self) -> Result<(Connection, bool), Fault> {
        let mut line = self.line.lock().await;
        if let Some(open) = line.open.as_ref().filter(|open| !open.is_closed()) {
            return Ok((open.clone(), false));
        }
        if line.left_alone_until.is_some_and(|until| Instant::now() < until) {
            return Err(Fault::Gone("it did not answer a moment ago".to_owned()));
        }
        line.open = None;
        match timeout(CONNECT_WITHIN, conn::Builder::system().build()).await {
            Ok(Ok(open)) => {
                line.open = Some(open.clone());
                Ok((open, true))
            }
            Ok(Err(error)) => Err(Fault::Gone(error.to_string())),
            Err(_) => {
                line.left_alone_until = Some(Instant::now() + LEFT_ALONE_FOR);
                Err(Fault::Gone(format!("no connection within {CONNECT_WITHIN:?}")))
            }
        }
    }

    /// A connection of one's own, for a signal stream.
    pub(crate) async fn own_line(&self) -> Result<Connection, Fault> {
        if self.is_left_alone().await {
            return Err(Fault::Gone("it did not answer a moment ago".to_owned()));
        }
        match timeout(CONNECT_WITHIN, conn::Builder::system().build()).await {
            Ok(Ok(open)) => Ok(open),
            Ok(Err(error)) => Err(Fault::Gone(error.to_string())),
            Err(_) => {
                self.leave_alone().await;
                Err(Fault::Gone(format!("no connection within {CONNECT_WITHIN:?}")))
            }
        }
    }

    /// One of a bounded number of turns to wait for a job on a connection of one's own.
    pub(crate) async fn wait_turn(&self) -> SemaphorePermit<'_> {
        turn(&self.waits).await
    }

    async fn is_left_alone(&self) -> bool {
        let line = self.line.lock().await;
        line.left_alone_until.is_some_and(|until| Instant::now() < until)
    }

    async fn leave_alone(&self) {
        let mut line = self.line.lock().await;
        line.open = None;
        line.left_alone_until = Some(Instant::now() + LEFT_ALONE_FOR);
    }
}

async fn turn(turns: &Semaphore) -> SemaphorePermit<'_> {
    turns.acquire().await.expect("the turns are never closed")
}

/// Asks the bus for signals of systemd, and systemd to send them (it sends none unasked).
pub(crate) async fn subscribe(open: &Connection, rules: &[String]) -> Result<(), Fault> {
    let asking = async {
        for rule in rules {
            open.call_method(
                Some("org.freedesktop.DBus"),
                "/org/freedesktop/DBus",
                Some("org.freedesktop.DBus"),
                "AddMatch",
                rule,
            )
            .await?;
        }
        open.call_method(Some(NAME), ROOT, Some(MANAGER), "Subscribe", &()).await?;
        Ok::<(), zbus::Error>(())
    };
    match timeout(CALL_WITHIN, asking).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Fault::Gone(format!("no answer within {CALL_WITHIN:?}"))),
    }
}

/// Keeps a unit loaded as long as this connection lives. systemd forgets an idle unit at once, and
/// whether its start was skipped or how it ended with it. Without the right to do it: no matter.
pub(crate) async fn pin(open: &Connection, unit: &UnitName) {
    let path = object_path::of_unit(unit);
    let call = open.call_method(Some(NAME), path.as_str(), Some(UNIT), "Ref", &());
    // A unit that cannot be pinned can still be acted on; a dead bus shows at the next call.
    drop(timeout(CALL_WITHIN, call).await);
}

/// zbus wants serde's trait for call bodies; this crate needs nothing else of serde.
mod serde_body {
    pub(super) use zbus::export::serde::Serialize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_bus_is_told_from_an_answer() {
        let fdo = |error: fdo::Error| zbus::Error::FDO(Box::new(error));
        for gone in [
            zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::BrokenPipe.into())),
            zbus::Error::Handshake(String::new()),
            fdo(fdo::Error::NameHasNoOwner(String::new())),
            fdo(fdo::Error::NoReply(String::new())),
            fdo(fdo::Error::SpawnChildExited(String::new())),
            fdo(fdo::Error::SpawnExecFailed(String::new())),
        ] {
            assert!(matches!(Fault::from(gone.clone()), Fault::Gone(_)), "{gone:?}");
        }
        for answer in [
            zbus::Error::InvalidReply,
            fdo(fdo::Error::AccessDenied(String::new())),
            fdo(fdo::Error::UnknownMethod(String::new())),
            fdo(fdo::Error::InvalidArgs(String::new())),
        ] {
            assert!(matches!(Fault::from(answer.clone()), Fault::Answer(_)), "{answer:?}");
        }
        let denied = fdo(fdo::Error::AccessDenied("no".to_owned()));
        let (name, text) = error_words(&denied).unwrap();
        assert_eq!((name.as_str(), text.as_str()), ("org.freedesktop.DBus.Error.AccessDenied", "no"));
    }
}
