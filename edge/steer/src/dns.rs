//! DNS by RFC 2136, signed by TSIG: the member's records in names of one zone are taken away, or put behind the others, in
//! one message that is refused as a whole when anything is not exactly what was read before. Then every authoritative
//! server is asked until it has it. What others have in these names is left as it is, also on the way back.

mod aim;
mod key;
mod servers;
mod value;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use domain::base::name::ToName;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::error::short;
use crate::{Applied, Drift, Error, Look, Place, Previous, Standing, Until, Wish, stream};
use aim::Aim;
use value::DnsName;
pub use value::Kind;
use wire::{Change, Peer, Set};

const PORT: u16 = 53;

/// A member's records in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The zone: `example.org`.
    pub zone: String,
    /// Its primary, to which updates go: `HOST` or `HOST:PORT`.
    pub primary: String,
    /// A file with a key of TSIG, as BIND has it; none where the primary takes updates by address.
    pub key: Option<PathBuf>,
    /// Servers that must have it before it counts, `HOST` or `HOST:PORT`; with none those that the zone names (NS).
    pub servers: Vec<String>,
    /// The names by which clients find the member: the pool's, and its own.
    pub names: Vec<Named>,
}

/// One name and kind, and which of its records are the member's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name: `chat.example.org`, `_xmpp-client._tcp.example.org`.
    pub name: String,
    /// Of which kind.
    pub kind: Kind,
    /// The member there: its address, or with SRV its name.
    pub member: String,
    /// Records to be there while the member is away, as `192.0.2.8` or `10 20 5222 m2.example.org`: for a name that the
    /// member has alone.
    pub instead: Vec<String>,
    /// With SRV: the member is kept, with this priority, which should be behind all others'.
    pub behind: Option<u16>,
}

/// What was there: the records that are the member's. Others' are not written down, since they are never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Was {
    /// The zone.
    pub zone: String,
    /// Names in which the member had records.
    pub names: Vec<NameWas>,
}

/// What was there of one name and kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameWas {
    /// The name.
    pub name: String,
    /// Of which kind.
    pub kind: Kind,
    /// The member there.
    pub member: String,
    /// Its priority while it is away, if it is kept.
    pub behind: Option<u16>,
    /// Seconds for which others may keep the records.
    pub ttl: u32,
    /// The member's records.
    pub had: Vec<String>,
    /// Records that will be there only while the member is away.
    pub instead: Vec<String>,
}

impl Dns {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let zone = value::name(&self.zone, "zone")?;
        stream::check(&with_port(&self.primary), "the primary")?;
        for server in &self.servers {
            stream::check(&with_port(server), "a name server")?;
        }
        let mut seen = Vec::new();
        for named in &self.names {
            let aim = Aim::of(named)?;
            if !aim.name.ends_with(&zone) {
                let help = format!("it must end with {zone}");
                return Err(Error::Settings { what: format!("{} is not in the zone", aim.name), help });
            }
            if seen.contains(&(aim.name.clone(), aim.kind)) {
                let help = "once is enough".to_owned();
                return Err(Error::Settings { what: format!("{} {} is named twice", aim.name, aim.kind), help });
            }
            seen.push((aim.name, aim.kind));
        }
        if seen.is_empty() {
            let help = "give the names by which clients find the member".to_owned();
            return Err(Error::Settings { what: format!("no name in {zone}"), help });
        }
        Ok(())
    }

    /// The zone, and its primary with our key.
    async fn begin(&self, until: Until) -> Result<(DnsName, Peer), Error> {
        let at = with_port(&self.primary);
        let key = match self.key.clone() {
            None => None,
            Some(path) => {
                let read = async {
                    let read = tokio::task::spawn_blocking(move || key::read(&path)).await;
                    read.map_err(|error| Error::NotReached { at: "the key file".to_owned(), cause: error.to_string() })?
                };
                Some(until.wait("the key file", read).await?)
            }
        };
        Ok((value::name(&self.zone, "zone")?, Peer { at, key }))
    }

    pub(crate) async fn look(&self, until: Until) -> Result<Look, Error> {
        let (zone, primary) = self.begin(until).await?;
        primary.serial(&zone, until).await?;
        let aims = self.names.iter().map(Aim::of).collect::<Result<Vec<_>, _>>()?;
        let sets = sets(&primary, &aims, until).await?;
        let mut look = Look {
            previous: Previous::Dns(Was { zone: self.zone.clone(), names: Vec::new() }),
            changes: Vec::new(),
            last: None,
            notes: Vec::new(),
            sessions: None,
            settles: Duration::ZERO,
        };
        let mut names = Vec::new();
        for (mut aim, (named, set)) in aims.into_iter().zip(self.names.iter().zip(sets)) {
            aim.learn(&set);
            if aim.had.is_empty() {
                look.notes.push(format!("{} {} has no record of {}", aim.name, aim.kind, short(&named.member)));
                continue;
            }
            look.settles = look.settles.max(Duration::from_secs(u64::from(set.ttl)));
            if aim.others(&set.values).is_empty() && aim.instead.is_empty() {
                look.last = Some(format!("{} {} has nobody else", aim.name, aim.kind));
            }
            look.changes.extend(aim.change(&set, Wish::Away).map(|change| change_line(&change)));
            names.push(aim.was(named));
        }
        look.previous = Previous::Dns(Was { zone: self.zone.clone(), names });
        Ok(look)
    }

    pub(crate) async fn apply(&self, was: &Was, wish: Wish, until: Until) -> Result<Applied, Error> {
        let aims = self.aims(was)?;
        let (zone, primary) = self.begin(until).await?;
        let before = sets(&primary, &aims, until).await?;
        let mut settles = Duration::ZERO;
        let mut changes = Vec::new();
        for (aim, set) in aims.iter().zip(&before) {
            aim.can(wish, &primary.at)?;
            settles = settles.max(Duration::from_secs(u64::from(aim.ttl.max(set.ttl))));
            changes.extend(aim.change(set, wish));
        }
        if let Some(last) = changes.iter().find(|change| change.take.len() == change.was.len() && change.add.is_empty())
        {
            return Err(Error::Last { at: primary.at, what: format!("{} {}", last.name, last.kind) });
        }
        if !changes.is_empty() {
            primary.update(&zone, &changes, until).await?;
            for (aim, set) in aims.iter().zip(sets(&primary, &aims, until).await?) {
                if let Some(change) = aim.change(&set, wish) {
                    let found = format!("{} {}: {}", change.name, change.kind, listed(&change.was));
                    return Err(Error::NotTaken { at: primary.at, found });
                }
            }
        }
        let serial = primary.serial(&zone, until).await?;
        let servers = servers::of(&self.servers, &primary, &zone, until).await?;
        let wanted = servers::Wanted { zone: &zone, serial: Some(serial), aims: &aims, wish };
        let places = join_all(servers.into_iter().map(|server| servers::wait(server, &wanted, until))).await;
        Ok(Applied { changed: !changes.is_empty(), settles, places })
    }

    pub(crate) async fn drift(&self, was: &Was, wish: Wish, until: Until) -> Result<Drift, Error> {
        let aims = self.aims(was)?;
        let (zone, primary) = self.begin(until).await?;
        let mut drift = Drift::default();
        for (aim, set) in aims.iter().zip(sets(&primary, &aims, until).await?) {
            let lost = aim.change(&set, wish).map(|change| format!("{}: {}", primary.at, now_line(&change)));
            drift.lost.extend(lost);
        }
        let servers = servers::of(&self.servers, &primary, &zone, until).await?;
        let wanted = servers::Wanted { zone: &zone, serial: None, aims: &aims, wish };
        let asked = servers.into_iter().filter(|server| server.at.as_ref() != Ok(&primary.at));
        for Place { at, standing } in join_all(asked.map(|server| servers::once(server, &wanted, until))).await {
            match standing {
                Standing::Current => {}
                Standing::Behind(what) => drift.lost.push(format!("{at}: {what}")),
                Standing::Unknown(why) => drift.unknown.push(format!("{at}: {why}")),
            }
        }
        Ok(drift)
    }

    fn aims(&self, was: &Was) -> Result<Vec<Aim>, Error> {
        let (ours, theirs) = (value::name(&self.zone, "zone")?, value::name(&was.zone, "zone")?);
        if !ours.name_eq(&theirs) {
            return Err(crate::of_another());
        }
        was.names.iter().map(Aim::from_was).collect()
    }
}

async fn sets(peer: &Peer, aims: &[Aim], until: Until) -> Result<Vec<Set>, Error> {
    let sets = aims.iter().map(|aim| peer.set(&aim.name, aim.kind, until));
    join_all(sets).await.into_iter().collect()
}

fn listed(values: &[value::Value]) -> String {
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    if values.is_empty() { "nothing".to_owned() } else { values.join(", ") }
}

/// What a change does.
fn change_line(change: &Change) -> String {
    let (name, kind) = (&change.name, change.kind);
    match (change.take.as_slice(), change.add.as_slice()) {
        (take, []) => format!("{name} {kind}: {} is taken away", listed(take)),
        ([], add) => format!("{name} {kind}: {} is added", listed(add)),
        (take, add) => format!("{name} {kind}: {} is replaced by {}", listed(take), listed(add)),
    }
}

/// What is there instead of what should be.
fn now_line(change: &Change) -> String {
    format!("{} {} has {}", change.name, change.kind, listed(&change.was))
}

/// A server with its port.
fn with_port(text: &str) -> String {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return SocketAddr::new(ip, PORT).to_string();
    }
    if text.contains(':') || text.is_empty() { text.to_owned() } else { format!("{text}:{PORT}") }
}
