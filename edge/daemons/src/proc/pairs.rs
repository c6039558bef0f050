//! Which unix sockets are each other's ends, as the kernel's sock_diag tells: a process that passes a connection on to
//! another is known by it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// The kernel answers at once; this ends a look that has lost an answer.
const LONGEST: Duration = Duration::from_secs(2);
/// So many pairs are kept.
const MOST: usize = 1 << 20;

// linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h
const HEADER: usize = 16;
const DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const ESTABLISHED: u32 = 1 << 1;
const SHOW_PEER: u32 = 4;
const PEER: u16 = 2;
/// Bytes of a `unix_diag_msg`, before its attributes.
const MESSAGE: usize = 16;

/// The other end of each connected unix socket, by their inodes.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn all() -> io::Result<BTreeMap<u64, u64>> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(LONGEST))?;
    sendto(&socket, &question(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let (mut pairs, mut some) = (BTreeMap::new(), vec![0; 1 << 16]);
    loop {
        let (count, _) = recv(&socket, some.as_mut_slice(), RecvFlags::empty())?;
        let part = some.get(..count).unwrap_or_default();
        if part.is_empty() || pairs.len() > MOST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no end of unix sockets"));
        }
        if read(part, &mut pairs)? {
            return Ok(pairs);
        }
    }
}

fn question() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(40_u32.to_ne_bytes());
    bytes.extend([DIAG_BY_FAMILY, REQUEST_DUMP].map(u16::to_ne_bytes).concat());
    // Sequence and port; then family and protocol; then states, inode (all), what to show, and no cookie.
    bytes.extend([0; 8]);
    bytes.extend([1, 0, 0, 0]);
    bytes.extend([ESTABLISHED, 0, SHOW_PEER, 0, 0].map(u32::to_ne_bytes).concat());
    bytes
}

/// Adds what is in one answer; whether it was the last.
fn read(mut part: &[u8], pairs: &mut BTreeMap<u64, u64>) -> io::Result<bool> {
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "half an answer of the kernel's");
    while !part.is_empty() {
        let length = usize::try_from(word(part, 0).ok_or_else(cut)?).map_err(|_| cut())?;
        let message = part.get(..length).filter(|message| message.len() >= HEADER).ok_or_else(cut)?;
        match half(message, 4) {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let code = word(message, HEADER).map_or(0, |code| code.cast_signed().wrapping_neg());
                return Err(io::Error::from_raw_os_error(code));
            }
            Some(DIAG_BY_FAMILY) => pairs.extend(pair(message)),
            _ => {}
        }
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn pair(message: &[u8]) -> Option<(u64, u64)> {
    let own = word(message, HEADER + 4)?;
    let mut rest = message.get(HEADER + MESSAGE..)?;
    loop {
        let length = usize::from(half(rest, 0)?);
        if half(rest, 2)? == PEER {
            return Some((own.into(), word(rest, 4)?.into()));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ends_are_found() {
        let (one, two) = UnixStream::pair().unwrap();
        let inode = |socket: &UnixStream| {
            let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
            let text = link.to_str().unwrap().to_owned();
            text.trim_start_matches("socket:[").trim_end_matches(']').parse::<u64>().unwrap()
        };
        let pairs = all().unwrap();
        assert_eq!(pairs.get(&inode(&one)), Some(&inode(&two)));
        assert_eq!(pairs.get(&inode(&two)), Some(&inode(&one)));
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let mut pairs = BTreeMap::new();
        let question = question();
        for cut in 1..question.len() {
            assert!(read(&question[..cut], &mut pairs).is_err(), "{cut}");
        }
        assert!(!read(&question, &mut pairs).unwrap());
    }

    proptest! {
        #[test]
        fn anything_is_survived(mut part in proptest::collection::vec(any::<u8>(), 0..200), length in 0..200_u32) {
            let mut pairs = BTreeMap::new();
            let _ = read(&part, &mut pairs);
            if let Some(head) = part.get_mut(..6) {
                head[..4].copy_from_slice(&length.to_ne_bytes());
                head[4..].copy_from_slice(&DIAG_BY_FAMILY.to_ne_bytes());
            }
            let _ = read(&part, &mut pairs);
        }
    }
}
