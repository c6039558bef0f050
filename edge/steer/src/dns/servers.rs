//! The zone's servers: who they are, and whether each has a change.

use std::net::IpAddr;
use std::time::Duration;

use domain::base::Serial;
use futures_util::future::join_all;

use super::aim::Aim;
use super::value::{DnsName, Kind, Value};
use super::wire::Peer;
use super::{PORT, now_line, with_port};
use crate::{Error, Place, Standing, Until, Wish};

/// One server is not waited for longer at one time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a server that is behind.
const PAUSE: Duration = Duration::from_millis(200);

/// A server by the name that people know, and its address; or why it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    name: String,
    pub(super) at: Result<String, String>,
}

/// What each of them is to have.
pub(super) struct Wanted<'a> {
    pub(super) zone: &'a DnsName,
    /// At least this one.
    pub(super) serial: Option<Serial>,
    pub(super) aims: &'a [Aim],
    pub(super) wish: Wish,
}

/// The configured ones, or those that the zone names.
pub(super) async fn of(
    configured: &[String],
    primary: &Peer,
    zone: &DnsName,
    until: Until,
) -> Result<Vec<Server>, Error> {
    if !configured.is_empty() {
        let server = |text: &String| Server { name: text.clone(), at: Ok(with_port(text)) };
        return Ok(configured.iter().map(server).collect());
    }
    let names = primary.servers(zone, until).await?;
    if names.is_empty() {
        let help = "list its servers in the settings".to_owned();
        return Err(Error::Missing { at: primary.at.clone(), what: format!("name server of {zone}"), help });
    }
    let found = join_all(names.iter().map(|name| addresses(name, primary, zone, until))).await;
    let mut found: Vec<_> = found.into_iter().flatten().collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// One for each address of a name: by the zone itself where it is in there, else as this machine resolves names.
async fn addresses(name: &DnsName, primary: &Peer, zone: &DnsName, until: Until) -> Vec<Server> {
    let without = |why: String| vec![Server { name: name.to_string(), at: Err(why) }];
    let mut found: Vec<IpAddr> = Vec::new();
    if name.ends_with(zone) {
        for kind in [Kind::A, Kind::Aaaa] {
            match primary.set(name, kind, until.or(PATIENCE)).await {
                Ok(set) => found.extend(set.values.iter().filter_map(|value| match value {
                    Value::A(ip) => Some(IpAddr::from(*ip)),
                    Value::Aaaa(ip) => Some(IpAddr::from(*ip)),
                    Value::Srv { .. } => None,
                })),
                Err(error) => return without(error.to_string()),
            }
        }
    } else {
        let text = name.to_string();
        let asked = until.or(PATIENCE).wait(&text, async {
            let all = tokio::net::lookup_host((text.as_str(), PORT)).await;
            all.map(Vec::from_iter).map_err(|error| Error::NotReached { at: text.clone(), cause: error.to_string() })
        });
        match asked.await {
            Ok(all) => found.extend(all.iter().map(std::net::SocketAddr::ip)),
            Err(error) => return without(error.to_string()),
        }
    }
    if found.is_empty() {
        return without("it has no address".to_owned());
    }
    found.sort_unstable();
    found.dedup();
    let server = |ip: IpAddr| {
        let at = std::net::SocketAddr::new(ip, PORT).to_string();
        Server { name: format!("{name} ({at})"), at: Ok(at) }
    };
    found.into_iter().map(server).collect()
}

/// Asks until it has it, or the time is over: then what it had last.
pub(super) async fn wait(server: Server, wanted: &Wanted<'_>, until: Until) -> Place {
    let mut place = once(server.clone(), wanted, until).await;
    while place.standing != Standing::Current && server.at.is_ok() && !until.is_over() {
        tokio::time::sleep_until((tokio::time::Instant::now() + PAUSE).min(until.at)).await;
        let now = once(server.clone(), wanted, until).await;
        // One that was cut off by the end of our time says less than the one before.
        if !(until.is_over() && matches!(now.standing, Standing::Unknown(_))) {
            place = now;
        }
    }
    place
}

/// Asks once.
pub(super) async fn once(server: Server, wanted: &Wanted<'_>, until: Until) -> Place {
    let standing = match server.at {
        Err(why) => Standing::Unknown(why),
        Ok(at) => {
            let asked = standing(&Peer { at, key: None }, wanted, until.or(PATIENCE)).await;
            asked.unwrap_or_else(|error| Standing::Unknown(error.to_string()))
        }
    };
    Place { at: server.name, standing }
}

async fn standing(peer: &Peer, wanted: &Wanted<'_>, until: Until) -> Result<Standing, Error> {
    if let Some(serial) = wanted.serial {
        let has = peer.serial(wanted.zone, until).await?;
        if has < serial {
            return Ok(Standing::Behind(format!("it has serial {has} of {serial}")));
        }
    }
    for aim in wanted.aims {
        let set = peer.set(&aim.name, aim.kind, until).await?;
        if let Some(change) = aim.change(&set, wanted.wish) {
            return Ok(Standing::Behind(now_line(&change)));
        }
    }
    Ok(Standing::Current)
}
