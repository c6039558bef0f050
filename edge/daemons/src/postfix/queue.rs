//! The queue as `postqueue -j` tells it: an object of JSON in each line.

use ebb_model::{Busy, Role, Span, Use, UseKind};
use serde::Deserialize;

use super::POSTFIX;
use crate::{Error, call};

#[derive(Deserialize)]
struct Message {
    queue_name: String,
    queue_id: String,
    #[serde(default)]
    arrival_time: u64,
    #[serde(default)]
    sender: String,
    recipients: Vec<Recipient>,
}

#[derive(Deserialize)]
struct Recipient {
    address: String,
    #[serde(default)]
    delay_reason: Option<String>,
}

/// All messages, those that are on their way first. `now` in seconds since 1970.
pub(super) fn messages(told: &[u8], now: u64) -> Result<Vec<Use>, Error> {
    let not_understood = |what: &str| Error::NotUnderstood { daemon: POSTFIX, what: call::short(what) };
    if !told.is_empty() && !told.ends_with(b"\n") {
        return Err(not_understood("its queue has no end"));
    }
    let text = String::from_utf8_lossy(told);
    let (mut moving, mut parked) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let message: Message = serde_json::from_str(line).map_err(|error| not_understood(&error.to_string()))?;
        let one = told_of(message, now);
        if one.role == Role::Parked { parked.push(one) } else { moving.push(one) }
    }
    moving.extend(parked);
    Ok(moving)
}

fn told_of(message: Message, now: u64) -> Use {
    let Message { queue_name, queue_id, arrival_time, sender, recipients } = message;
    // Deferred: until its next try. On hold: until somebody releases it. All others are on their way.
    let role = if matches!(queue_name.as_str(), "deferred" | "hold") { Role::Parked } else { Role::User };
    let to = recipients.first().map_or("nobody", |first| first.address.as_str());
    let more = match recipients.len() {
        0 | 1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    let why = recipients.iter().find_map(|one| one.delay_reason.as_deref());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    Use {
        user: Some(if sender.is_empty() { "<>".to_owned() } else { sender }),
        what: Some(format!("{queue_name}: to {to}{more}{why}")),
        age: (arrival_time > 0).then(|| Span::seconds(now.saturating_sub(arrival_time))),
        busy: if role == Role::Parked { Busy::Idle } else { Busy::Active },
        role,
        by_connection: false,
        ..Use::new(queue_id, UseKind::Message)
    }
}
