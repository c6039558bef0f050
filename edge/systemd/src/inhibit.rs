//! Delaying or refusing a shutdown: logind's inhibitors (`org.freedesktop.login1(5)`).

use tokio::time::timeout;
use zbus::{Message, OwnedFd};

use crate::{
    Error, Result, Systemd,
    bus::{self, CALL_WITHIN, Fault},
    systemd::error_of,
};

const LOGIND: &str = "org.freedesktop.login1";
const LOGIND_ROOT: &str = "/org/freedesktop/login1";
const LOGIND_CALLS: &str = "org.freedesktop.login1.Manager";

/// What an inhibitor does to a shutdown or a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InhibitMode {
    /// It begins only when the inhibitor is gone, or after logind's `InhibitDelayMaxSec=` (5 s unless
    /// configured).
    Delay,
    /// It is refused, with who and why.
    Block,
}

impl InhibitMode {
    fn word(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Block => "block",
        }
    }
}

/// A shutdown is inhibited as long as this lives.
#[derive(Debug)]
#[must_use = "dropping it allows the shutdown again"]
pub struct Inhibitor {
    _held: OwnedFd,
}

impl Systemd {
    /// Delays or refuses shutdown, reboot and halt while the result lives. `who` and `why` are shown to
    /// whoever tries, and by `systemd-inhibit --list`.
    ///
    /// # Errors
    /// [`Error::NoLogind`] if nobody answers to that name, [`Error::BusGone`], [`Error::AccessDenied`] and others.
    pub async fn inhibit_shutdown(&self, who: &str, why: &str, mode: InhibitMode) -> Result<Inhibitor> {
        let what = "inhibit the shutdown";
        let reply = match self.ask_logind("Inhibit", &("shutdown", who, why, mode.word())).await {
            Err(Fault::Answer(error)) if is_nobody(&error) => {
                return Err(Error::NoLogind { what: what.to_owned(), said: error.to_string() });
            }
            reply => reply.map_err(|fault| error_of(what, None, fault))?,
        };
        let held = reply.body().deserialize::<OwnedFd>();
        let held = held.map_err(|error| error_of(what, None, Fault::Answer(error)))?;
        Ok(Inhibitor { _held: held })
    }

    /// On a connection of its own: that there is no logind says nothing about the one to systemd.
    async fn ask_logind(&self, member: &str, body: &(&str, &str, &str, &str)) -> std::result::Result<Message, Fault> {
        let open = self.bus.own_line().await?;
        let call = open.call_method(Some(LOGIND), LOGIND_ROOT, Some(LOGIND_CALLS), member, body);
        match timeout(CALL_WITHIN, call).await {
            Ok(Ok(reply)) => Ok(reply),
            // "Gone" is what the answers about a missing name become, and here they are about logind.
            Ok(Err(error)) if is_nobody(&error) => Err(Fault::Answer(error)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Fault::Gone(format!("logind did not answer within {CALL_WITHIN:?}"))),
        }
    }
}

/// What the bus answers when nobody has the name and nobody can be started for it.
fn is_nobody(error: &zbus::Error) -> bool {
    let Some((name, _)) = bus::error_words(error) else { return false };
    let name = name.trim_start_matches("org.freedesktop.");
    matches!(name, "DBus.Error.ServiceUnknown" | "DBus.Error.NameHasNoOwner")
        || name.starts_with("DBus.Error.Spawn.")
        // Where systemd starts what the bus needs, the answer is about logind's unit.
        || name.starts_with("systemd1.")
}

#[cfg(test)]
mod tests {
    use zbus::fdo;

    use super::*;

    #[test]
    fn no_logind_is_told_from_one_that_refuses() {
        let fdo = |error: fdo::Error| zbus::Error::FDO(Box::new(error));
        for nobody in [
            fdo(fdo::Error::ServiceUnknown(String::new())),
            fdo(fdo::Error::NameHasNoOwner(String::new())),
            fdo(fdo::Error::SpawnServiceNotFound(String::new())),
        ] {
            assert!(is_nobody(&nobody), "{nobody:?}");
        }
        for somebody in [fdo(fdo::Error::AccessDenied(String::new())), zbus::Error::InvalidReply] {
            assert!(!is_nobody(&somebody), "{somebody:?}");
        }
    }

    #[tokio::test]
    async fn without_systemd_it_is_an_error_with_a_type() {
        if crate::is_running() {
            println!("SKIPPED: systemd is the init of this machine");
            return;
        }
        let inhibited = Systemd::new().inhibit_shutdown("ebb", "a test", InhibitMode::Delay).await;
        assert!(matches!(inhibited, Err(Error::NotSystemd { .. } | Error::NoLogind { .. })), "{inhibited:?}");
    }
}
