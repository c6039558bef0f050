//! Sends newcomers elsewhere, and back: DNS by RFC 2136, HAProxy's runtime API, Kamailio's dispatcher.
//!
//! A [`Steer`] is one member at one place. [`Steer::look`] says what was there before, as a [`Previous`] that the caller
//! writes down *before* [`Steer::apply`] changes anything; [`Steer::undo`] restores that and nothing else, and
//! [`Steer::drift`] says whether it still stands, for a balancer that was restarted knows nothing of it. Each write is read
//! back. Applied twice is applied once. What somebody else has changed is never overwritten ([`Error::Changed`]).
//!
//! Nothing is decided here and nothing runs beside: each call ends at its limit, and existing connections and calls are
//! never touched.

pub mod dns;
mod error;
pub mod haproxy;
pub mod kamailio;
mod stream;

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use error::Error;

/// One member at one place: a zone, a server of a balancer's backend, a destination in a dispatcher's set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Records in a zone.
    Dns(dns::Dns),
    /// A server behind a HAProxy.
    Haproxy(haproxy::Haproxy),
    /// A destination of a Kamailio's dispatcher.
    Kamailio(kamailio::Kamailio),
}

/// Where newcomers are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// To the others.
    Away,
    /// Here too, with so many per cent (1-100) of the weight that it had: a step of a slow start.
    Share(u8),
    /// As it was.
    Back,
}

/// What was there before anything was changed: enough to restore it, by whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Previous {
    /// Records.
    Dns(dns::Was),
    /// State and weight.
    Haproxy(haproxy::Was),
    /// Flags.
    Kamailio(kamailio::Was),
}

/// What would be changed, and what is there now. Nothing was changed by looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// To be written down before the change.
    pub previous: Previous,
    /// What [`Wish::Away`] would change, a line each; none if it is so already.
    pub changes: Vec<String>,
    /// Why nobody would be left. A balancer would do it all the same; a name's last record is never taken.
    pub last: Option<String>,
    /// What will not follow, and what else is to be known, a line each.
    pub notes: Vec<String>,
    /// Sessions that the balancer has with the member now, where it counts them.
    pub sessions: Option<u64>,
    /// After the change newcomers may come for so long: the largest TTL of what would be taken.
    pub settles: Duration,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whether anything had to be changed.
    pub changed: bool,
    /// Whoever asked before may come for so long: the largest TTL of what was taken, or was changed back.
    pub settles: Duration,
    /// Where it was looked for: the balancer, or each authoritative server of the zone.
    pub places: Vec<Place>,
}

impl Applied {
    /// Whether it is seen at each place.
    #[must_use]
    pub fn everywhere(&self) -> bool {
        self.places.iter().all(|place| place.standing == Standing::Current)
    }

    fn at(place: &str, changed: bool) -> Self {
        let place = Place { at: place.to_owned(), standing: Standing::Current };
        Self { changed, settles: Duration::ZERO, places: vec![place] }
    }
}

/// One place that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its address, or name and address.
    pub at: String,
    /// How it stands there.
    pub standing: Standing,
}

/// How a change stands at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is seen.
    Current,
    /// It is not seen: what is instead.
    Behind(String),
    /// It is not known: why.
    Unknown(String),
}

/// Whether a change still stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// What is not as it was left, a line each: to be applied again.
    pub lost: Vec<String>,
    /// What could not be asked, and why.
    pub unknown: Vec<String>,
}

impl Drift {
    /// Nothing that was asked has lost it.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost.is_empty()
    }
}

impl Steer {
    /// Whether the settings can be meant; asks nobody.
    ///
    /// # Errors
    /// [`Error::Settings`]
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Dns(dns) => dns.check(),
            Self::Haproxy(haproxy) => haproxy.check(),
            Self::Kamailio(kamailio) => kamailio.check(),
        }
    }

    /// What is there, and what [`Wish::Away`] would change.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn look(&self, limit: Duration) -> Result<Look, Error> {
        self.check()?;
        let until = Until::after(limit);
        match self {
            Self::Dns(dns) => dns.look(until).await,
            Self::Haproxy(haproxy) => haproxy.look(until).await,
            Self::Kamailio(kamailio) => kamailio.look(until).await,
        }
    }

    /// Has it as wished, starting from what was before; read back. Where it is so already nothing is changed.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::Late`] it may have been done or not: apply it again.
    pub async fn apply(&self, previous: &Previous, wish: Wish, limit: Duration) -> Result<Applied, Error> {
        self.check()?;
        let until = Until::after(limit);
        wish.check()?;
        match (self, previous) {
            (Self::Dns(dns), Previous::Dns(was)) => dns.apply(was, wish, until).await,
            (Self::Haproxy(haproxy), Previous::Haproxy(was)) => haproxy.apply(was, wish, until).await,
            (Self::Kamailio(kamailio), Previous::Kamailio(was)) => kamailio.apply(was, wish, until).await,
            _ => Err(of_another()),
        }
    }

    /// Restores what was: [`Wish::Back`].
    ///
    /// # Errors
    /// As [`Steer::apply`].
    pub async fn undo(&self, previous: &Previous, limit: Duration) -> Result<Applied, Error> {
        self.apply(previous, Wish::Back, limit).await
    }

    /// Whether it is still as wished. Nothing is changed.
    ///
    /// # Errors
    /// [`Error`], if it could not be asked.
    pub async fn drift(&self, previous: &Previous, wish: Wish, limit: Duration) -> Result<Drift, Error> {
        self.check()?;
        let until = Until::after(limit);
        wish.check()?;
        match (self, previous) {
            (Self::Dns(dns), Previous::Dns(was)) => dns.drift(was, wish, until).await,
            (Self::Haproxy(haproxy), Previous::Haproxy(was)) => haproxy.drift(was, wish, until).await,
            (Self::Kamailio(kamailio), Previous::Kamailio(was)) => kamailio.drift(was, wish, until).await,
            _ => Err(of_another()),
        }
    }
}

/// Looks at all of them at once; one answer for each, in their order.
pub async fn look_all(all: &[Steer], limit: Duration) -> Vec<Result<Look, Error>> {
    join_all(all.iter().map(|steer| steer.look(limit))).await
}

/// Tells all of them at once; one answer for each, in their order. One that fails keeps no other from its change.
pub async fn apply_all(all: &[(Steer, Previous)], wish: Wish, limit: Duration) -> Vec<Result<Applied, Error>> {
    join_all(all.iter().map(|(steer, previous)| steer.apply(previous, wish, limit))).await
}

/// Asks all of them at once whether it still stands; one answer for each, in their order.
pub async fn drift_all(all: &[(Steer, Previous)], wish: Wish, limit: Duration) -> Vec<Result<Drift, Error>> {
    join_all(all.iter().map(|(steer, previous)| steer.drift(previous, wish, limit))).await
}

impl Wish {
    fn check(self) -> Result<(), Error> {
        match self {
            Self::Share(share) if !(1..=100).contains(&share) => Err(Error::Settings {
                what: format!("a share of {share} %"),
                help: "a slow start goes from 1 to 100 %; to send newcomers away is another wish".to_owned(),
            }),
            Self::Away | Self::Share(_) | Self::Back => Ok(()),
        }
    }

    /// This share of a weight: never nothing of something.
    fn of(share: u8, weight: u32) -> u32 {
        if weight == 0 { 0 } else { (weight * u32::from(share) / 100).max(1) }
    }
}

fn of_another() -> Error {
    Error::Settings {
        what: "the record of what was before is of another place".to_owned(),
        help: "look at this one first".to_owned(),
    }
}

/// When a call ends.
#[derive(Clone, Copy, Debug)]
struct Until {
    at: Instant,
    within: Duration,
}

impl Until {
    /// More than a day is a day.
    fn after(limit: Duration) -> Self {
        let within = limit.min(Duration::from_secs(86_400));
        Self { at: Instant::now() + within, within }
    }

    /// This long at most, and not longer than the call.
    fn or(self, limit: Duration) -> Self {
        let other = Self::after(limit);
        if other.at < self.at { other } else { self }
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.at
    }

    /// What comes of it, or that it took too long.
    async fn wait<T>(self, at: &str, what: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout_at(self.at, what).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Late { at: at.to_owned(), within: self.within }),
        }
    }
}
