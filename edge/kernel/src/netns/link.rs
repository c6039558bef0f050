//! Links, addresses and routes of one namespace, by rtnetlink.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::str::FromStr;

use super::{Error, Ns, in_ns};
use crate::netlink::{self, Request, Socket};

/// Make it; fail if it exists.
const CREATE: u16 = netlink::CREATE | netlink::EXCL;
/// linux/veth.h
const VETH_INFO_PEER: u16 = 1;
/// linux/if_link.h
const IFLA_INFO_KIND: u16 = 1;
/// linux/if_link.h
const IFLA_INFO_DATA: u16 = 2;
/// linux/if_addr.h: use it at once, without asking the link whether somebody else has it.
const IFA_F_NODAD: u8 = 2;

/// An address with the length of its network: `192.0.2.5/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// `None` for a length that the family does not have.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (length <= longest).then_some(Self { address, length })
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Bits of the network.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let (address, length) = text.split_once('/')?;
            Self::new(address.parse().ok()?, length.parse().ok()?)
        };
        read().ok_or_else(|| Error::Prefix { text: text.to_owned() })
    }
}

/// A hand on the links of one namespace: of the one where it was opened, from whichever thread it is used. Needs
/// `CAP_NET_ADMIN` there.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

impl Links {
    /// For the namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Netlink`] when no netlink socket can be had.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(libc::NETLINK_ROUTE).map_err(Error::Netlink)?;
        Ok(Self { socket })
    }

    /// For another namespace.
    ///
    /// # Errors
    /// As [`Links::open`] and [`in_ns`].
    pub fn inside(ns: &Ns) -> Result<Self, Error> {
        in_ns(ns, Self::open)?
    }

    /// The number of an interface.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Name`], else [`Error::Netlink`].
    pub fn index_of(&mut self, name: &str) -> Result<u32, Error> {
        let mut request = Request::new(libc::RTM_GETLINK, 0);
        put_link(&mut request, 0);
        put_name(&mut request, name)?;
        let mut index = None;
        // In `struct ifinfomsg` of the answer the index follows family and type.
        let read = |message: &netlink::Message<'_>| {
            index = message.body.get(4..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes));
        };
        match self.socket.request("find an interface", request, read) {
            Err(source) if source.errno() != Some(libc::ENODEV) => Err(refused("find an interface", source)),
            _ => index.ok_or_else(|| Error::NoLink { name: name.to_owned() }),
        }
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// [`Error::NoPermission`], [`Error::Netlink`]; so have all of the following.
    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        self.switch(index, libc::IFF_UP.cast_unsigned(), "bring an interface up")
    }

    /// Takes an interface down: for the other end, as if the cable had been pulled out.
    ///
    /// # Errors
    /// See [`Links::set_up`].
    pub fn set_down(&mut self, index: u32) -> Result<(), Error> {
        self.switch(index, 0, "take an interface down")
    }

    fn switch(&mut self, index: u32, up: u32, action: &'static str) -> Result<(), Error> {
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        put_link_flags(&mut request, index, up, libc::IFF_UP.cast_unsigned());
        self.order(action, request)
    }

    /// Makes a bridge (a switch in the kernel); it still has to be brought up. Gives its number.
    ///
    /// # Errors
    /// Also [`Error::Name`].
    pub fn add_bridge(&mut self, name: &str) -> Result<u32, Error> {
        let mut request = Request::new(libc::RTM_NEWLINK, CREATE);
        put_link(&mut request, 0);
        put_name(&mut request, name)?;
        request.nest(libc::IFLA_LINKINFO, |info| {
            info.attr(IFLA_INFO_KIND, b"bridge");
        });
        self.order("make a bridge", request)?;
        self.index_of(name)
    }

    /// Makes a cable: one end here, the other in another namespace. Both still have to be brought up. Gives the number of ours.
    ///
    /// # Errors
    /// Also [`Error::Name`].
    pub fn add_cable(&mut self, name: &str, there: &Ns, name_there: &str) -> Result<u32, Error> {
        let mut request = Request::new(libc::RTM_NEWLINK, CREATE);
        put_link(&mut request, 0);
        put_name(&mut request, name)?;
        let mut named = Ok(());
        let peer = |peer: &mut Request| {
            put_link(peer, 0);
            named = put_name(peer, name_there);
            peer.attr(libc::IFLA_NET_NS_FD, &there.fd.as_raw_fd().to_ne_bytes());
        };
        request.nest(libc::IFLA_LINKINFO, |info| {
            info.attr(IFLA_INFO_KIND, b"veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, peer);
            });
        });
        named?;
        self.order("make a pair of interfaces", request)?;
        self.index_of(name)
    }

    /// Plugs an interface into a bridge.
    ///
    /// # Errors
    /// See [`Links::set_up`].
    pub fn plug(&mut self, index: u32, bridge: u32) -> Result<(), Error> {
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        put_link(&mut request, index);
        request.attr_u32(libc::IFLA_MASTER, bridge);
        self.order("plug an interface into a bridge", request)
    }

    /// Gives an address to an interface; usable at once, also IPv6.
    ///
    /// # Errors
    /// See [`Links::set_up`].
    pub fn add_address(&mut self, index: u32, prefix: Prefix) -> Result<(), Error> {
        let mut request = Request::new(libc::RTM_NEWADDR, CREATE);
        let (family, bytes) = family_and_bytes(prefix.address);
        let flags = if prefix.address.is_ipv6() { IFA_F_NODAD } else { 0 };
        request.raw(&[family, prefix.length, flags, libc::RT_SCOPE_UNIVERSE]).raw(&index.to_ne_bytes());
        request.attr(libc::IFA_LOCAL, &bytes).attr(libc::IFA_ADDRESS, &bytes);
        self.order("add an address", request)
    }

    /// Adds a route to a network by way of a neighbour; length 0 makes it the default route. For IPv4 the kernel insists on
    /// the network's own address (`192.0.2.0/24`, not `.5/24`).
    ///
    /// # Errors
    /// See [`Links::set_up`].
    pub fn add_route(&mut self, to: Prefix, via: IpAddr) -> Result<(), Error> {
        let mut request = Request::new(libc::RTM_NEWROUTE, CREATE);
        let (family, bytes) = family_and_bytes(to.address);
        request.raw(&[family, to.length, 0, 0]);
        request.raw(&[libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST]);
        request.raw(&0_u32.to_ne_bytes());
        if to.length > 0 {
            request.attr(libc::RTA_DST, &bytes);
        }
        request.attr(libc::RTA_GATEWAY, &family_and_bytes(via).1);
        self.order("add a route", request)
    }

    fn order(&mut self, action: &'static str, request: Request) -> Result<(), Error> {
        self.socket.request(action, request, |_| {}).map_err(|source| refused(action, source))
    }
}

fn refused(action: &'static str, source: netlink::Error) -> Error {
    if source.is_permission() { Error::NoPermission { action } } else { Error::Netlink(source) }
}

/// `struct ifinfomsg` that changes no flags.
pub(super) fn put_link(request: &mut Request, index: u32) {
    put_link_flags(request, index, 0, 0);
}

/// `struct ifinfomsg`: of the flags in `mask`, those in `flags` are set and the others cleared.
fn put_link_flags(request: &mut Request, index: u32, flags: u32, mask: u32) {
    request.raw(&[0; 4]).raw(&index.to_ne_bytes()).raw(&flags.to_ne_bytes()).raw(&mask.to_ne_bytes());
}

fn put_name(request: &mut Request, name: &str) -> Result<(), Error> {
    let odd = |byte: u8| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || matches!(name, "." | "..") || name.bytes().any(odd) {
        return Err(Error::Name { name: name.to_owned() });
    }
    request.attr_str(libc::IFLA_IFNAME, name);
    Ok(())
}

pub(super) fn family_and_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}
