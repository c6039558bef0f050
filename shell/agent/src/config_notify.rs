//! `[notify.NAME]` of `ebb.toml`.

use std::collections::{BTreeMap, BTreeSet};

use ebb_model::{MailTls, NotifySettings, NotifyWay, Occasion, Span, WebhookFormat};
use serde::Deserialize;

/// As written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    kind: Kind,
    on: Option<Vec<On>>,
    subject: Option<String>,
    text: Option<String>,
    /// As in `10s`.
    timeout: Option<String>,
    server: Option<String>,
    tls: Option<Tls>,
    login: Option<String>,
    password_file: Option<String>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    users: bool,
    url: Option<String>,
    format: Option<Format>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Mail,
    Webhook,
    Wall,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum On {
    Before,
    Start,
    End,
    Trouble,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tls {
    None,
    Starttls,
    Always,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Slack,
    Teams,
    Matrix,
}

impl Table {
    /// As a setting, or what is wrong with it.
    pub(crate) fn settle(self) -> Result<NotifySettings, String> {
        let needed = |key: &str, value: Option<String>| value.ok_or_else(|| format!("`{key}` is missing"));
        let timeout = self.timeout.as_deref().unwrap_or("10s");
        let seconds = timeout.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
        let seconds = seconds.ok_or_else(|| format!("`{timeout}` is no timeout: write `10s`"))?;
        let way = match self.kind {
            Kind::Wall => NotifyWay::Wall,
            Kind::Webhook => NotifyWay::Webhook {
                url: needed("url", self.url)?,
                format: match self.format.unwrap_or(Format::Json) {
                    Format::Json => WebhookFormat::Json,
                    Format::Slack => WebhookFormat::Slack,
                    Format::Teams => WebhookFormat::Teams,
                    Format::Matrix => WebhookFormat::Matrix,
                },
                headers: self.headers,
            },
            Kind::Mail => NotifyWay::Mail {
                server: self.server.unwrap_or_else(|| "localhost:25".to_owned()),
                tls: match self.tls.unwrap_or(Tls::None) {
                    Tls::None => MailTls::None,
                    Tls::Starttls => MailTls::StartTls,
                    Tls::Always => MailTls::Always,
                },
                login: self.login.zip(self.password_file),
                from: needed("from", self.from)?,
                to: self.to,
                users: self.users,
            },
        };
        let on = self.on.map_or_else(
            || BTreeSet::from(Occasion::ALL),
            |on| {
                let occasion = |on| match on {
                    On::Before => Occasion::Before,
                    On::Start => Occasion::Start,
                    On::End => Occasion::End,
                    On::Trouble => Occasion::Trouble,
                };
                on.into_iter().map(occasion).collect()
            },
        );
        Ok(NotifySettings { way, on, subject: self.subject, text: self.text, timeout: Span::seconds(seconds) })
    }
}
