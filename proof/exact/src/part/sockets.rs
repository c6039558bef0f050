//! Sockets as the tests want them.
#![expect(unsafe_code, reason = "TCP_DEFER_ACCEPT and TCP_FASTOPEN are known to libc only")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::daemon::Listen;

fn family(at: SocketAddr) -> AddressFamily {
    if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// A TCP socket that does not block.
pub(crate) fn stream(to: SocketAddr) -> rustix::io::Result<OwnedFd> {
    socket_with(family(to), SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

/// A socket to serve at.
pub(crate) fn serving(order: &Listen) -> io::Result<OwnedFd> {
    let kind = if order.udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = socket_with(family(order.at), kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if order.at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, order.v6only)?;
    }
    bind(&socket, &order.at)?;
    if order.udp {
        return Ok(socket);
    }
    if let Some(seconds) = order.defer {
        set(&socket, libc::TCP_DEFER_ACCEPT, seconds)?;
    }
    if let Some(queue) = order.fastopen {
        set(&socket, libc::TCP_FASTOPEN, queue)?;
    }
    listen(&socket, order.backlog)?;
    Ok(socket)
}

fn set(socket: &OwnedFd, option: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: an open descriptor, and a live i32 with its own size.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, std::ptr::from_ref(&value).cast(), length)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
