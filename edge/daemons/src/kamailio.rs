//! Kamailio: calls and registrations by its RPC, new ones refused by a flag that its own script looks at (the snippet in
//! `packaging/kamailio`), calls ended by BYE in both directions. SIP over UDP has no SYN and one TCP connection carries
//! many calls: the kernel could not tell new work from old.
//!
//! The RPC goes over the FIFO of `jsonrpcs`: its datagram socket drops answers over 128 KiB without a word, and `ctl` refuses
//! them.

mod fifo;

use ebb_model::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Ended, Role, Span, Use, UseKind, Uses};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Adapter, Answer, Error, Refusal, Seen, call};

const KAMAILIO: DaemonKind = DaemonKind::Kamailio;
/// Where `jsonrpcs` makes its FIFO if nobody says otherwise.
const FIFO: &str = "/run/kamailio/kamailio_rpc.fifo";
const SNIPPET: &str = "include /usr/share/ebb/kamailio.cfg, as docs/daemons/kamailio.md says";
/// Dialogs in this state have ended already (dialog module, `DLG_STATE_DELETED`), and wait to be forgotten.
const DELETED: u64 = 5;
/// Both sides have answered (`DLG_STATE_CONFIRMED_NA`).
const ANSWERED: u64 = 3;

/// One Kamailio.
#[derive(Clone, Debug)]
pub(crate) struct Kamailio {
    fifo: String,
}

#[derive(Deserialize)]
struct Dialog {
    h_entry: u64,
    h_id: u64,
    from_uri: String,
    to_uri: String,
    state: u64,
    #[serde(default)]
    duration: u64,
}

#[derive(Deserialize)]
struct Registrations {
    #[serde(rename = "Domains", default)]
    domains: Vec<Domain>,
}

#[derive(Deserialize)]
struct Domain {
    #[serde(rename = "Domain")]
    domain: Records,
}

#[derive(Deserialize)]
struct Records {
    #[serde(rename = "AoRs", default)]
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "Info")]
    record: Named,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "AoR")]
    name: String,
    #[serde(rename = "Contacts", default)]
    contacts: Vec<Contact>,
}

#[derive(Deserialize)]
struct Contact {
    #[serde(rename = "Contact")]
    contact: Place,
}

#[derive(Deserialize)]
struct Place {
    #[serde(rename = "Address")]
    address: String,
    #[serde(rename = "Ruid", default)]
    id: String,
    #[serde(rename = "Last-Modified", default)]
    modified: u64,
}

impl Kamailio {
    pub(crate) fn new(_seen: &Seen, settings: &DaemonSettings) -> Self {
        Self { fifo: settings.socket.clone().unwrap_or_else(|| FIFO.to_owned()) }
    }

    async fn rpc(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        let answer = fifo::ask(&self.fifo, method, params).await?;
        result(&answer)
    }

    /// The flag; none if it is not set. An error is a Kamailio without the snippet.
    async fn flag(&self) -> Result<Option<String>, Error> {
        let table = self.rpc("htable.dump", json!(["ebb"])).await?;
        Ok(state_in(&table))
    }

    async fn set(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        let done = match value {
            Some(value) => self.rpc("htable.sets", json!(["ebb", key, value])).await,
            None => self.rpc("htable.delete", json!(["ebb", key])).await,
        };
        done.map(drop)
    }

    async fn asked(&self) -> Result<Abilities, Error> {
        let version = self.rpc("core.version", json!([])).await?;
        let without =
            |error: Error, what: &str| Ability::Missing { what: format!("{what}: {error}"), help: SNIPPET.to_owned() };
        let dialogs = self.rpc("dlg.stats_active", json!([])).await;
        let flag = self.flag().await;
        let calls = || match &dialogs {
            Ok(_) => Ability::Ready,
            Err(error) => {
                Ability::Missing { what: format!("its calls are not told: {error}"), help: SNIPPET.to_owned() }
            }
        };
        Ok(Abilities {
            version: version.as_str().map(|text| call::short(text.trim_start_matches("kamailio "))),
            list: calls(),
            end: calls(),
            refuse: flag.map_or_else(|error| without(error, "it has no flag"), |_| Ability::Ready),
            redirect: Ability::Never("a call that exists cannot be moved; new ones are, with `redirect`"),
        })
    }

    async fn calls(&self) -> Result<Vec<Use>, Error> {
        calls(self.rpc("dlg.list", json!([])).await?)
    }

    /// Nobody may be registered here at all: then there is no such method.
    async fn registrations(&self) -> Result<Vec<Use>, Error> {
        match self.rpc("ul.dump", json!([])).await {
            Err(Error::Refused { .. }) => Ok(Vec::new()),
            told => registrations(told?),
        }
    }
}

impl Adapter for Kamailio {
    fn kind(&self) -> DaemonKind {
        KAMAILIO
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            Ok(self.asked().await.unwrap_or_else(|error| Abilities::missing(&error.to_string(), SNIPPET)))
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let mut uses = self.calls().await?;
            uses.extend(self.registrations().await?);
            let more = uses.len().saturating_sub(most) as u64;
            uses.truncate(most);
            Ok(Uses { uses, more, transport: true })
        })
    }

    fn refuse<'a>(&'a self, refusal: &'a Refusal) -> Answer<'a, ()> {
        Box::pin(async move {
            // Where to go first: whoever is refused in between is told all.
            match &refusal.redirect {
                Some(target) => self.set("redirect", Some(target)).await?,
                None => drop(self.set("redirect", None).await),
            }
            self.set("state", Some("drain")).await?;
            self.is(true).await
        })
    }

    fn admit(&self) -> Answer<'_, ()> {
        Box::pin(async {
            if self.flag().await?.is_some() {
                self.set("state", None).await?;
            }
            let _ = self.set("redirect", None).await;
            self.is(false).await
        })
    }

    fn refuses(&self) -> Answer<'_, bool> {
        Box::pin(async { Ok(self.flag().await?.as_deref() == Some("drain")) })
    }

    fn end<'a>(&'a self, keys: &'a [String], text: &'a str, _inside: bool) -> Answer<'a, Vec<Ended>> {
        Box::pin(async move {
            let header = format!("Reason: SIP;cause=503;text=\"{}\"\r\n", plain(text));
            let mut ended = Vec::with_capacity(keys.len());
            for key in keys {
                ended.push(match pair(key) {
                    None => Ended::Spared("a registration is no call".to_owned()),
                    Some((entry, id)) => match self.rpc("dlg.end_dlg", json!([entry, id, header])).await {
                        Ok(_) => Ended::Asked,
                        Err(Error::Refused { what, .. }) if what.contains("not found") => Ended::Gone,
                        Err(error @ (Error::NotReached { .. } | Error::Late { .. })) => return Err(error),
                        Err(error) => Ended::Failed(error.to_string()),
                    },
                });
            }
            Ok(ended)
        })
    }
}

impl Kamailio {
    async fn is(&self, wished: bool) -> Result<(), Error> {
        if (self.flag().await?.as_deref() == Some("drain")) == wished {
            return Ok(());
        }
        let what = if wished { "it still takes new calls" } else { "it still refuses new calls" };
        Err(Error::Refused { daemon: KAMAILIO, what: what.to_owned() })
    }
}

/// A text in a header: no quotes, no line ends.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(100).collect()
}

fn pair(key: &str) -> Option<(u64, u64)> {
    let (entry, id) = key.strip_prefix("dlg:")?.split_once(':')?;
    Some((entry.parse().ok()?, id.parse().ok()?))
}

fn not_understood(error: &dyn std::fmt::Display) -> Error {
    Error::NotUnderstood { daemon: KAMAILIO, what: call::short(&error.to_string()) }
}

/// What an answer of JSON-RPC holds. A SIP name may hold any byte: what is no UTF-8 is replaced.
fn result(answer: &[u8]) -> Result<Value, Error> {
    let text = String::from_utf8_lossy(answer);
    let mut answer: Value = serde_json::from_str(&text).map_err(|error| not_understood(&error))?;
    if let Some(error) = answer.get("error") {
        let message = error.get("message").and_then(Value::as_str).unwrap_or("an error without a message");
        return Err(Error::Refused { daemon: KAMAILIO, what: call::short(message) });
    }
    match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(not_understood(&"no result")),
    }
}

/// `state` in a dump of the table: a list of slots, each a list of items.
fn state_in(table: &Value) -> Option<String> {
    let items = table.as_array()?.iter().filter_map(|slot| slot.get("slot")?.as_array()).flatten();
    let mut found = items.filter(|item| item.get("name").and_then(Value::as_str) == Some("state"));
    found.next()?.get("value")?.as_str().map(str::to_owned)
}

fn calls(told: Value) -> Result<Vec<Use>, Error> {
    let dialogs: Vec<Dialog> = serde_json::from_value(told).map_err(|error| not_understood(&error))?;
    let call = |dialog: Dialog| {
        let how = if dialog.state < ANSWERED { "rings at" } else { "call to" };
        Use {
            user: Some(dialog.from_uri),
            what: Some(format!("{how} {}", dialog.to_uri)),
            age: Some(Span::seconds(dialog.duration)),
            busy: Busy::Active,
            by_connection: false,
            ..Use::new(format!("dlg:{}:{}", dialog.h_entry, dialog.h_id), UseKind::Call)
        }
    };
    Ok(dialogs.into_iter().filter(|dialog| dialog.state != DELETED).map(call).collect())
}

fn registrations(told: Value) -> Result<Vec<Use>, Error> {
    let told: Registrations = serde_json::from_value(told).map_err(|error| not_understood(&error))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let records = told.domains.into_iter().flat_map(|domain| domain.domain.records);
    let uses = records.flat_map(|record| {
        let Named { name, contacts } = record.record;
        contacts.into_iter().map(move |contact| {
            let place = contact.contact;
            Use {
                user: Some(format!("sip:{name}")),
                idle: (place.modified > 0).then(|| Span::seconds(now.saturating_sub(place.modified))),
                what: Some(format!("registered at {}", place.address)),
                busy: Busy::Idle,
                role: Role::Presence,
                by_connection: false,
                ..Use::new(format!("ul:{}", place.id), UseKind::Registration)
            }
        })
    });
    Ok(uses.collect())
}

#[cfg(test)]
mod tests;
