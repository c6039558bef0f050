//! Tells people: by mail, by an HTTP POST, by `wall`. One try, within the notifier's timeout; who tries again, and when,
//! is not decided here.
//!
//! A notice that is sent twice, because somebody was killed before it could be written down that it was sent, is
//! recognised at the other end: its `Message-ID`, its `Idempotency-Key` and its Matrix transaction come from its key.

mod error;
mod http;
mod mail;
mod secret;
mod text;
mod wall;
mod webhook;

pub use error::NotifyError;

use std::time::Duration;

use ebb_model::{Notice, NotifySettings, NotifyWay};

/// What the other end has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// What went otherwise than the settings wish: a template that makes no sense, for example.
    pub remarks: Vec<String>,
}

/// To whom a notifier sends a notice: each gets it once, whatever becomes of the others'. An empty one is everybody
/// whom the notifier itself reaches.
#[must_use]
pub fn recipients(notice: &Notice, settings: &NotifySettings) -> Vec<String> {
    match &settings.way {
        NotifyWay::Mail { to, users, .. } => mail::recipients(to, if *users { &notice.users } else { &[] }),
        NotifyWay::Webhook { .. } | NotifyWay::Wall => vec![String::new()],
    }
}

/// Sends a notice once to one of its [`recipients`]. `name` is the notifier's.
///
/// # Errors
/// Why the other end has not taken it, or not within the notifier's timeout.
pub async fn send(
    notice: &Notice,
    name: &str,
    recipient: &str,
    settings: &NotifySettings,
) -> Result<Sent, NotifyError> {
    let words = text::words(notice, name, settings);
    let sending = async {
        match &settings.way {
            NotifyWay::Mail { server, tls, login, from, .. } => {
                let at = mail::Relay { server, tls: *tls, login: login.as_ref() };
                mail::send(&at, from, recipient, notice, name, &words).await
            }
            NotifyWay::Webhook { url, format, headers } => {
                webhook::send(url, *format, headers, notice, name, &words).await
            }
            NotifyWay::Wall => wall::send(&words).await,
        }
    };
    match tokio::time::timeout(Duration::from_millis(settings.timeout.0), sending).await {
        Ok(done) => done.map(|()| Sent { remarks: words.remarks }),
        Err(_) => Err(NotifyError::Timeout { after: settings.timeout }),
    }
}
