//! Containers: services in network namespaces behind this host, which has their ports published or routed.
//!
//! Their sockets are listed in their own namespaces; the gate shuts them here, where their packets are forwarded.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ebb_kernel::closings::Closings;
use ebb_kernel::diag::{self, Diag};
use ebb_kernel::netns::{self, Behind};
use ebb_model::{Door, Reach, Why};

use crate::world::chain;

/// Where sockets are: on this host (`None`) or in a container.
pub(crate) struct Space(Option<Behind>);

impl Space {
    /// Whether sessions of this door are here.
    pub(crate) fn has(&self, door: &Door) -> bool {
        match (door.reach, &self.0) {
            (Reach::Forward(ip), Some(behind)) => behind.addresses.contains(&ip),
            (Reach::Forward(_), None) | (_, Some(_)) => false,
            (_, None) => true,
        }
    }
}

/// This host, and the containers that have some of these doors, each with the way to its sockets.
pub(crate) fn spaces<'a>(doors: impl Iterator<Item = &'a Door>) -> Result<Vec<(Diag, Space)>, Why> {
    let unread = |error: diag::Error| Why::Unread { what: "the sessions".into(), cause: chain(&error) };
    let mut spaces = vec![(Diag::open().map_err(unread)?, Space(None))];
    for behind in having(doors)? {
        let diag = netns::in_ns(&behind.ns, Diag::open).map_err(|error| unentered(&error))?.map_err(unread)?;
        spaces.push((diag, Space(Some(behind))));
    }
    Ok(spaces)
}

/// The containers that have some of these doors.
fn having<'a>(doors: impl Iterator<Item = &'a Door>) -> Result<Vec<Behind>, Why> {
    let forward = |door: &Door| if let Reach::Forward(ip) = door.reach { Some(ip) } else { None };
    let wanted: BTreeSet<IpAddr> = doors.filter_map(forward).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let netns::Seen { mut found, hidden } = netns::behind().map_err(|error| unentered(&error))?;
    found.retain(|behind| !behind.addresses.is_disjoint(&wanted));
    // A container that is gone has no sessions; one at which we may not look may have.
    let all_there = wanted.iter().all(|address| found.iter().any(|behind| behind.addresses.contains(address)));
    if hidden && !all_there { Err(not_permitted()) } else { Ok(found) }
}

/// Where the kernel tells of connections that ended in containers with some of these doors. What cannot be had is left
/// out: a census finds them too, later.
pub(crate) fn closings<'a>(doors: impl Iterator<Item = &'a Door>) -> Vec<Closings> {
    let open = |behind: Behind| netns::in_ns(&behind.ns, Closings::open).ok()?.ok();
    having(doors).unwrap_or_default().into_iter().filter_map(open).collect()
}

/// Listening sockets in containers, each at every address at which this host reaches it. None where we may not look.
pub(crate) fn listeners() -> Vec<(SocketAddr, diag::Row)> {
    let mut found = Vec::new();
    for behind in netns::behind().unwrap_or_default().found {
        let Ok(Ok(rows)) = netns::in_ns(&behind.ns, diag::listeners) else { continue };
        for row in rows {
            let reached = behind.addresses.iter().filter(|address| reaches(&row, **address));
            found.extend(reached.map(|address| (SocketAddr::new(*address, row.local.port()), row)));
        }
    }
    found
}

fn reaches(row: &diag::Row, address: IpAddr) -> bool {
    let bound = row.local.ip();
    match bound {
        IpAddr::V4(v4) if v4.is_unspecified() => address.is_ipv4(),
        IpAddr::V6(v6) if v6.is_unspecified() => address.is_ipv6() || row.v6only != Some(true),
        bound => bound == address,
    }
}

fn unentered(error: &netns::Error) -> Why {
    match error {
        netns::Error::NoPermission { .. } => not_permitted(),
        _ => Why::Unread { what: "the containers".to_owned(), cause: chain(error) },
    }
}

fn not_permitted() -> Why {
    Why::NotPermitted { what: "look into containers".to_owned() }
}
