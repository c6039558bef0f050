//! The machine's own addresses, in the calling thread's network namespace.
#![expect(unsafe_code, reason = "getifaddrs has no safe form in std")]

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub address: IpAddr,
    /// Name of the interface, or its alias label.
    pub interface: String,
    /// Index of the interface for an IPv6 link-local address, else 0: what a socket address needs as its scope id.
    pub scope_id: u32,
    /// Whether the interface is up.
    pub up: bool,
    /// Whether the interface is a loopback one.
    pub loopback: bool,
}

/// Lists the addresses, in the kernel's order.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn own_addresses() -> io::Result<Vec<OwnAddress>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: writes one pointer.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: a list made by getifaddrs, ended by null, unchanged until freed below.
    while let Some(entry) = unsafe { next.as_ref() } {
        found.extend(own_address(entry));
        next = entry.ifa_next;
    }
    // SAFETY: made by getifaddrs, freed once; nothing found refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

fn own_address(entry: &libc::ifaddrs) -> Option<OwnAddress> {
    // SAFETY: null or a socket address, as getifaddrs(3) says.
    let family = i32::from(unsafe { entry.ifa_addr.as_ref() }?.sa_family);
    let (address, scope_id) = match family {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in.
            let raw = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            (IpAddr::V4(Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes())), 0)
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a sockaddr_in6.
            let raw = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            (IpAddr::V6(Ipv6Addr::from(raw.sin6_addr.s6_addr)), raw.sin6_scope_id)
        }
        _ => return None,
    };
    // SAFETY: a NUL-terminated name.
    let interface = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
    let has = |flag: libc::c_int| entry.ifa_flags & flag.cast_unsigned() != 0;
    Some(OwnAddress { address, interface, scope_id, up: has(libc::IFF_UP), loopback: has(libc::IFF_LOOPBACK) })
}

/// Where a door can be knocked at: itself, or for a wildcard door loopback first, then every own address of its family on an
/// interface that is up. A `[::]` door that takes IPv4 too is for the caller to ask about as `0.0.0.0`.
#[must_use]
pub fn targets(door: SocketAddr, own: &[OwnAddress]) -> Vec<SocketAddr> {
    let wildcard = door.ip().to_canonical();
    if !wildcard.is_unspecified() {
        return vec![door];
    }
    let fits = |own: &&OwnAddress| own.up && own.address.is_ipv4() == wildcard.is_ipv4();
    let mut chosen: Vec<&OwnAddress> = own.iter().filter(fits).collect();
    chosen.sort_by_key(|own| !own.loopback);
    let with_port = |own: &OwnAddress| match own.address {
        IpAddr::V6(ip) => SocketAddrV6::new(ip, door.port(), 0, own.scope_id).into(),
        IpAddr::V4(_) => SocketAddr::new(own.address, door.port()),
    };
    chosen.into_iter().map(with_port).collect()
}
