//! Kamailio's dispatcher: a destination of a set is disabled, by which new calls and registrations go to the others;
//! requests within a dialog follow its route and are not dispatched. Its state is in Kamailio's memory: a restart or
//! `dispatcher.reload` forgets it.

mod list;
mod rpc;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::short;
use crate::{Applied, Drift, Error, Look, Previous, Until, Wish, stream};
use list::Flags;

/// One destination of one set of one Kamailio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kamailio {
    /// The RPC of its `jsonrpcs`: `/PATH` of its FIFO or of its unix socket; or `http://HOST:PORT/PATH` of `xhttp`.
    pub at: String,
    /// The set's number.
    pub set: u32,
    /// The destination, as the set has it: `sip:192.0.2.7:5060`.
    pub destination: String,
}

/// What a destination was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Was {
    /// Where.
    pub at: String,
    /// The set.
    pub set: u32,
    /// The destination.
    pub destination: String,
    /// Its flags, as Kamailio shows them: `AP`, `IP`, `DX`.
    pub flags: String,
}

impl Kamailio {
    pub(crate) fn check(&self) -> Result<(), Error> {
        rpc::check(&self.at)?;
        let fine = self.destination.starts_with("sip:") || self.destination.starts_with("sips:");
        if fine && !self.destination.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Ok(());
        }
        let what = format!("`{}` as a destination", short(&self.destination));
        Err(Error::Settings {
            what,
            help: "write it as `kamcmd dispatcher.list` shows it: sip:192.0.2.7:5060".to_owned(),
        })
    }

    async fn seen(&self, until: Until) -> Result<list::Seen, Error> {
        list::read(&rpc::ask(&self.at, "dispatcher.list", json!([]), until).await?, self)
    }

    pub(crate) async fn look(&self, until: Until) -> Result<Look, Error> {
        let seen = self.seen(until).await?;
        let alone = seen.flags.is_active() && seen.others_active == 0;
        let change = format!("{} at {}: {} -> D", self.name(), self.at, seen.flags);
        Ok(Look {
            previous: Previous::Kamailio(Was {
                at: self.at.clone(),
                set: self.set,
                destination: self.destination.clone(),
                flags: seen.flags.to_string(),
            }),
            changes: if seen.flags.is_disabled() { Vec::new() } else { vec![change] },
            last: alone.then(|| format!("{} is the last active one of its set at {}", self.name(), self.at)),
            notes: Vec::new(),
            sessions: None,
            settles: Duration::ZERO,
        })
    }

    pub(crate) async fn apply(&self, was: &Was, wish: Wish, until: Until) -> Result<Applied, Error> {
        let flags = self.was(was)?;
        if matches!(wish, Wish::Share(share) if share < 100) {
            let why = "a dispatcher's weights are read from its list alone; bring it back whole".to_owned();
            return Err(Error::Cannot { at: self.at.clone(), why });
        }
        let now = self.seen(until).await?.flags;
        if is_as(wish, flags, now) {
            return Ok(Applied::at(&self.at, false));
        }
        let state = if wish == Wish::Away { "d".to_owned() } else { flags.order() };
        let told = rpc::ask(&self.at, "dispatcher.set_state", json!([state, self.set, self.destination]), until).await;
        told.map_err(|error| match error {
            Error::Refused { at, what, .. } => Error::Refused { at, what, help: "its log says why".to_owned() },
            other => other,
        })?;
        let now = self.seen(until).await?.flags;
        if !is_as(wish, flags, now) {
            return Err(Error::NotTaken { at: self.at.clone(), found: format!("{} is {now}", self.name()) });
        }
        Ok(Applied::at(&self.at, true))
    }

    pub(crate) async fn drift(&self, was: &Was, wish: Wish, until: Until) -> Result<Drift, Error> {
        let flags = self.was(was)?;
        let now = self.seen(until).await?.flags;
        let mut drift = Drift::default();
        if !is_as(wish, flags, now) {
            drift.lost.push(format!("{} at {} is {now}", self.name(), self.at));
        }
        Ok(drift)
    }

    fn name(&self) -> String {
        format!("{} in set {}", short(&self.destination), self.set)
    }

    fn was(&self, was: &Was) -> Result<Flags, Error> {
        let same = (&was.at, was.set, &was.destination) == (&self.at, self.set, &self.destination);
        let flags = Flags::read(&was.flags).filter(|_| same);
        flags.ok_or_else(crate::of_another)
    }
}

/// Only *disabled* is ours. Active, inactive and trying are Kamailio's own findings, which change while it probes: one that
/// was active and has died since is back all the same.
fn is_as(wish: Wish, was: Flags, now: Flags) -> bool {
    match wish {
        Wish::Away => now.is_disabled(),
        Wish::Share(_) | Wish::Back => now.is_disabled() == was.is_disabled(),
    }
}

/// Where a Kamailio is.
fn socket_check(at: &str) -> Result<(), Error> {
    stream::check(at, "Kamailio")
}
