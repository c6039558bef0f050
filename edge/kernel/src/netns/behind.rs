//! Containers: network namespaces that the world reaches through ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::link::{family_and_bytes, put_link};
use super::{Error, Ns, in_ns};
use crate::netlink::{Attributes, Message, Request, Socket};
use crate::probe::own_addresses;
use crate::process::{self, Pid};

/// linux/if_link.h: number of the namespace in which the other end is.
const IFLA_LINK_NETNSID: u16 = 37;
/// linux/if_link.h
const IFLA_INFO_KIND: u16 = 1;
/// linux/rtnetlink.h
const RTM_GETNSID: u16 = 90;
/// linux/net_namespace.h
const NETNSA_NSID: u16 = 1;
/// linux/net_namespace.h
const NETNSA_FD: u16 = 3;
/// linux/rtnetlink.h: a next hop of another family.
const RTA_VIA: u16 = 18;
/// Interfaces with one end here and the other in a namespace.
const PAIRS: [&str; 2] = ["veth", "netkit"];
/// What a bridge may have plugged in for all its packets to the outside to be routed by us: no card, no tunnel.
const PLUGGED: [&str; 3] = ["veth", "netkit", "tun"];

/// A network namespace whose packets from and to the world pass the forward hook of ours: a container with an address
/// of its own, published or routed.
#[derive(Debug, Clone)]
pub struct Behind {
    /// The namespace.
    pub ns: Ns,
    /// Its addresses that are reached so.
    pub addresses: BTreeSet<IpAddr>,
}

/// All that are behind a namespace, as far as they were seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Those.
    pub found: Vec<Behind>,
    /// There may be more: interfaces lead to namespaces in which we saw no process, and there are processes at which we
    /// may not look.
    pub hidden: bool,
}

/// An interface here.
#[derive(Debug, Default)]
struct Link {
    kind: String,
    master: Option<u32>,
    /// Our number for the namespace of the other end.
    other_end: Option<i32>,
}

/// The namespaces behind that of the calling thread in which processes live.
///
/// Not among them: those reached in other ways (macvlan, ipvlan, a bridge with the network card in it, a user's proxy
/// such as slirp), which our hooks do not see; and those of other hosts' addresses.
///
/// # Errors
/// [`Error::NoPermission`] when we may not enter one (`CAP_SYS_ADMIN`), [`Error::Netlink`], [`Error::Kernel`].
pub fn behind() -> Result<Seen, Error> {
    let mut socket = Socket::open(libc::NETLINK_ROUTE).map_err(Error::Netlink)?;
    let links = links(&mut socket)?;
    let other_ends: BTreeSet<i32> =
        links.values().filter(|link| PAIRS.contains(&link.kind.as_str())).filter_map(|link| link.other_end).collect();
    if other_ends.is_empty() || !(forwards("ipv4/ip_forward") || forwards("ipv6/conf/all/forwarding")) {
        return Ok(Seen::default());
    }
    let (inhabited, hidden) = inhabited(&mut socket, &other_ends)?;
    let mut found = Vec::new();
    for ns in inhabited {
        let unread = |source| Error::Kernel { action: "list the addresses of a container", source };
        let mut addresses = BTreeSet::new();
        for own in in_ns(&ns, own_addresses)?.map_err(unread)? {
            // An address of one link is nobody's beyond it.
            if !own.loopback && own.scope_id == 0 && is_routed(&mut socket, &links, own.address)? {
                addresses.insert(own.address);
            }
        }
        if !addresses.is_empty() {
            found.push(Behind { ns, addresses });
        }
    }
    Ok(Seen { found, hidden })
}

fn forwards(setting: &str) -> bool {
    std::fs::read_to_string(format!("/proc/sys/net/{setting}")).is_ok_and(|value| value.trim() != "0")
}

/// Those of the namespaces with these numbers in which processes live, and whether there may be more.
fn inhabited(socket: &mut Socket, numbers: &BTreeSet<i32>) -> Result<(Vec<Ns>, bool), Error> {
    let mut known = BTreeSet::from([Ns::current()?.inode()]);
    let (mut found, mut unseen) = (Vec::new(), false);
    let unread = |_| Error::NoPermission { action: "list the processes" };
    for pid in process::pids().map_err(unread)? {
        let inode = match std::fs::metadata(format!("/proc/{pid}/ns/net")) {
            Ok(metadata) => metadata.ino(),
            Err(error) => {
                unseen |= error.kind() == std::io::ErrorKind::PermissionDenied;
                continue;
            }
        };
        if known.insert(inode)
            && let Some(ns) = open(pid)?
            && number_of(socket, &ns)?.is_some_and(|number| numbers.contains(&number))
        {
            found.push(ns);
        }
    }
    let hidden = unseen && found.len() < numbers.len();
    Ok((found, hidden))
}

/// `None`: the process has just ended.
fn open(pid: Pid) -> Result<Option<Ns>, Error> {
    match Ns::of(pid) {
        Ok(ns) => Ok(Some(ns)),
        Err(Error::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Our number for a namespace; `None`: it has none, so no interface here leads there.
fn number_of(socket: &mut Socket, ns: &Ns) -> Result<Option<i32>, Error> {
    let mut request = Request::new(RTM_GETNSID, 0);
    // struct rtgenmsg, padded
    request.raw(&[0; 4]).attr_u32(NETNSA_FD, ns.fd.as_raw_fd().cast_unsigned());
    let mut number = None;
    let read = |message: &Message<'_>| {
        number = message.attributes(4).get(NETNSA_NSID).and_then(|a| a.u32()).map(u32::cast_signed);
    };
    socket.request("find the number of a network namespace", request, read).map_err(Error::Netlink)?;
    Ok(number.filter(|number| *number >= 0))
}

fn links(socket: &mut Socket) -> Result<BTreeMap<u32, Link>, Error> {
    let mut request = Request::new(libc::RTM_GETLINK, 0);
    put_link(&mut request, 0);
    let mut links = BTreeMap::new();
    let read = |message: &Message<'_>| {
        let attributes = message.attributes(16);
        let kind = |info: Attributes<'_>| info.get(IFLA_INFO_KIND)?.str().map(str::to_owned);
        let link = Link {
            kind: attributes.get(libc::IFLA_LINKINFO).and_then(|info| kind(info.nested())).unwrap_or_default(),
            master: attributes.get(libc::IFLA_MASTER).and_then(|a| a.u32()),
            other_end: attributes.get(IFLA_LINK_NETNSID).and_then(|a| a.u32()).map(u32::cast_signed),
        };
        // In `struct ifinfomsg` the index follows family and type.
        if let Some(index) = message.body.get(4..).and_then(|rest| rest.first_chunk()) {
            links.insert(u32::from_ne_bytes(*index), link);
        }
    };
    socket.dump("list the interfaces", request, read).map_err(Error::Netlink)?;
    Ok(links)
}

/// Whether packets of the world to an address leave us by an interface from which nobody but namespaces hears us.
fn is_routed(socket: &mut Socket, links: &BTreeMap<u32, Link>, address: IpAddr) -> Result<bool, Error> {
    let setting = if address.is_ipv4() { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" };
    if !forwards(setting) {
        return Ok(false);
    }
    let (family, bytes) = family_and_bytes(address);
    let mut request = Request::new(libc::RTM_GETROUTE, 0);
    request.raw(&[family, u8::try_from(bytes.len() * 8).unwrap_or(0), 0, 0, 0, 0, 0, 0]).raw(&[0; 4]);
    request.attr(libc::RTA_DST, &bytes);
    let mut out = None;
    let read = |message: &Message<'_>| {
        let attributes = message.attributes(12);
        let neighbour = attributes.get(libc::RTA_GATEWAY).is_none() && attributes.get(RTA_VIA).is_none();
        let unicast = message.body.get(7) == Some(&libc::RTN_UNICAST);
        out = attributes.get(libc::RTA_OIF).and_then(|a| a.u32()).filter(|_| neighbour && unicast);
    };
    match socket.request("find the route to an address", request, read) {
        Err(error) if matches!(error.errno(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => return Ok(false),
        other => other.map_err(Error::Netlink)?,
    }
    let Some((index, link)) = out.and_then(|index| Some((index, links.get(&index)?))) else { return Ok(false) };
    let mut plugged = links.values().filter(|other| other.master == Some(index));
    Ok(match link.kind.as_str() {
        "bridge" => plugged.all(|other| PLUGGED.contains(&other.kind.as_str())),
        kind => PAIRS.contains(&kind),
    })
}
