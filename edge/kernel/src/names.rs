//! The name of an address, as this host's resolver knows it (hosts file, DNS, whatever `nsswitch.conf` says).
#![expect(unsafe_code, reason = "std has no reverse lookup")]

use std::mem::size_of;
use std::net::IpAddr;

/// Longest answer of the resolver with its NUL (`NI_MAXHOST`).
const LONGEST: usize = 1025;

/// The name of an address; `None` when it has none, or when nobody could be asked. **Blocks** as long as the resolver
/// does: tens of seconds where the name server does not answer. What it says is whatever the owner of the address (or
/// somebody in between) wants: not to be trusted, nor shown to a terminal as it is.
#[must_use]
pub fn name_of(address: IpAddr) -> Option<String> {
    match address.to_canonical() {
        IpAddr::V4(v4) => look_up(&libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.octets()) },
            sin_zero: [0; 8],
        }),
        IpAddr::V6(v6) => look_up(&libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: v6.octets() },
            sin6_scope_id: 0,
        }),
    }
}

/// `T` is one of the socket addresses.
fn look_up<T>(address: &T) -> Option<String> {
    let mut name = [0u8; LONGEST];
    // SAFETY: both pointers are to live values of the lengths given; no service name is asked for.
    let answer = unsafe {
        libc::getnameinfo(
            std::ptr::from_ref(address).cast(),
            size_of::<T>() as libc::socklen_t,
            name.as_mut_ptr().cast(),
            LONGEST as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    let length = name.iter().position(|byte| *byte == 0).filter(|_| answer == 0)?;
    Some(String::from_utf8_lossy(&name[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testnet::{in_new_netns, skipped};

    #[test]
    fn loopback_has_the_name_of_the_hosts_file_and_others_none() {
        // In a namespace of our own: no name server can be asked, and no question leaves the machine.
        in_new_netns(|| {
            let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            let line = hosts.lines().find(|line| line.split_whitespace().next() == Some("127.0.0.1"));
            match line.and_then(|line| line.split_whitespace().nth(1)) {
                Some(first) => assert_eq!(name_of([127, 0, 0, 1].into()).as_deref(), Some(first)),
                None => skipped("the hosts file does not name 127.0.0.1"),
            }
            assert_eq!(name_of("::ffff:127.0.0.1".parse().unwrap()), name_of([127, 0, 0, 1].into()));
            for nameless in ["192.0.2.1", "2001:db8::1"] {
                assert_eq!(name_of(nameless.parse().unwrap()), None);
            }
        });
    }
}
