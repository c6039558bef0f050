//! Mail by SMTP: one mail for each recipient, so that an address that is refused costs nobody else theirs.

use ebb_model::{MailTls, Notice};
use lettre::message::header::{self, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::error::chain;
use crate::text::Words;
use crate::{NotifyError, secret};

/// A mail server, and how to speak to it.
pub(crate) struct Relay<'a> {
    /// `HOST:PORT`.
    pub(crate) server: &'a str,
    pub(crate) tls: MailTls,
    /// Name, and the file of the password.
    pub(crate) login: Option<&'a (String, String)>,
}

/// Configured people, and users whose names are mail addresses; each once.
pub(crate) fn recipients(to: &[String], users: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let users = users.iter().filter(|user| user.contains('@') && user.parse::<Mailbox>().is_ok());
    for one in to.iter().chain(users) {
        if !all.iter().any(|known| known.eq_ignore_ascii_case(one)) {
            all.push(one.clone());
        }
    }
    all
}

pub(crate) async fn send(
    relay: &Relay<'_>,
    from: &str,
    recipient: &str,
    notice: &Notice,
    name: &str,
    words: &Words,
) -> Result<(), NotifyError> {
    let transport = transport(relay, &notice.about.server)?;
    let message = message(from, recipient, notice, name, words)?;
    match transport.send(message).await {
        Ok(_) => Ok(()),
        Err(error) => Err(failed(relay.server, &error)),
    }
}

fn failed(server: &str, error: &lettre::transport::smtp::Error) -> NotifyError {
    match error.status() {
        Some(code) => {
            let code: u16 = code.to_string().parse().unwrap_or(0);
            let text = chain(error);
            // What the login is worth is the operator's to mend; the rest is said of this very mail.
            let is_final = error.is_permanent() && !matches!(code, 530 | 534 | 535 | 538);
            NotifyError::Refused { by: server.to_owned(), code, text, is_final }
        }
        None => NotifyError::Unreachable { to: server.to_owned(), cause: chain(error) },
    }
}

fn transport(relay: &Relay<'_>, own: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>, NotifyError> {
    let wrong = || NotifyError::Settings { what: format!("`{}` is no mail server: write HOST:PORT", relay.server) };
    let (host, port) = relay.server.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let parameters = || {
        TlsParameters::new(host.to_owned())
            .map_err(|error| NotifyError::Unreachable { to: relay.server.to_owned(), cause: chain(&error) })
    };
    let tls = match relay.tls {
        MailTls::None => Tls::None,
        MailTls::StartTls => Tls::Required(parameters()?),
        MailTls::Always => Tls::Wrapper(parameters()?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port)
        .tls(tls)
        .hello_name(ClientId::Domain(domain(own)))
        // The notifier's timeout ends all of it.
        .timeout(None);
    if let Some((login, file)) = relay.login {
        builder = builder.credentials(Credentials::new(login.clone(), secret::read(file.as_ref())?));
    }
    Ok(builder.build())
}

fn message(from: &str, recipient: &str, notice: &Notice, name: &str, words: &Words) -> Result<Message, NotifyError> {
    let address = |what: &str, text: &str| {
        text.parse::<Mailbox>().map_err(|error| NotifyError::Settings {
            what: format!("{what} `{}` is no mail address: {error}", ebb_model::printable(text)),
        })
    };
    Message::builder()
        .from(address("the sender", from)?)
        .to(address("the recipient", recipient)?)
        .subject(words.subject.as_str())
        .message_id(Some(message_id(notice, name, recipient)))
        .date_now()
        .header(header::ContentType::TEXT_PLAIN)
        // RFC 3834: nobody's absence note answers it.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .body(format!("{}\n", words.text))
        .map_err(|error| NotifyError::Settings { what: chain(&error) })
}

/// The same for the same notice to the same recipient: whoever gets it twice can tell.
fn message_id(notice: &Notice, name: &str, recipient: &str) -> String {
    let part = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_/".contains(&b);
        text.bytes().fold(String::new(), |id, b| {
            if plain(b) { id + &char::from(b).to_string() } else { format!("{id}={b:02x}") }
        })
    };
    format!("<ebb.{}.{}.{}@{}>", part(&notice.key), part(name), part(recipient), domain(&notice.about.server))
}

/// The server's name as a domain.
fn domain(server: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = server.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
