//! The sockets of a knock: nonblocking connect, one poll for all, a polite end.
#![expect(unsafe_code, reason = "nonblocking connect with options before it, and poll, have no safe form in std")]

use std::io::{self, Read};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{Answer, Errno, Knock};
use crate::process::sockopt;

/// Where one knock stands.
pub(super) enum Step {
    /// SYN sent, no answer yet.
    Connecting(Attempt),
    /// Accepted at this moment, our side is shut; waiting for the server to close.
    Leaving(Attempt, Instant),
    /// Over.
    Done(Answer),
}

impl Step {
    /// What is known already.
    pub(super) fn answer(&self) -> Option<Answer> {
        match self {
            Self::Connecting(_) => None,
            Self::Leaving(..) => Some(Answer::Accepted),
            Self::Done(answer) => Some(*answer),
        }
    }

    fn polled(&self) -> Option<libc::pollfd> {
        let (attempt, events) = match self {
            Self::Connecting(attempt) => (attempt, libc::POLLOUT),
            Self::Leaving(attempt, _) => (attempt, libc::POLLIN),
            Self::Done(_) => return None,
        };
        Some(libc::pollfd { fd: attempt.socket.as_raw_fd(), events, revents: 0 })
    }

    fn advance(self) -> Self {
        match self {
            Self::Connecting(attempt) => attempt.outcome(),
            Self::Leaving(mut attempt, since) => {
                if attempt.is_over() {
                    Self::Done(Answer::Accepted)
                } else {
                    Self::Leaving(attempt, since)
                }
            }
            done @ Self::Done(_) => done,
        }
    }
}

/// Waits until something happens at any of the steps, or the time is over; moves those on where it did.
pub(super) fn wait(steps: &mut [Step], time: Duration) -> io::Result<()> {
    let mut polled = Vec::with_capacity(steps.len());
    let mut owners = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        if let Some(entry) = step.polled() {
            polled.push(entry);
            owners.push(index);
        }
    }
    // Rounded up: less than a millisecond must not become a busy loop of zero waits.
    let time = i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let count = libc::nfds_t::try_from(polled.len()).map_err(io::Error::other)?;
    // SAFETY: `polled` holds exactly `count` valid entries.
    if unsafe { libc::poll(polled.as_mut_ptr(), count, time) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
    }
    for (entry, index) in polled.iter().zip(owners) {
        if entry.revents != 0 {
            let step = mem::replace(&mut steps[index], Step::Done(Answer::TimedOut));
            steps[index] = step.advance();
        }
    }
    Ok(())
}

/// One connection being made.
pub(super) struct Attempt {
    socket: TcpStream,
}

impl Attempt {
    /// Sends the SYN, or says at once why not.
    pub(super) fn begin(knock: &Knock) -> Result<Self, Answer> {
        let to = loopback_for_wildcard(knock.to);
        let failed = |error: io::Error| Answer::from_error(&error);
        let socket = new_socket(&to).map_err(failed)?;
        if let Some(mark) = knock.mark {
            sockopt::set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
                .map_err(|error| mark_refused(&error))?;
        }
        if let Some(from) = knock.from {
            bind(&socket, from, &to).map_err(failed)?;
        }
        match with_address(&to, |address, length| {
            // SAFETY: `address` points to a socket address of `length` bytes.
            unsafe { libc::connect(socket.as_raw_fd(), address, length) }
        }) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(failed(error)),
            _ => Ok(Self { socket: TcpStream::from(socket) }),
        }
    }

    /// After poll said that the connect is over.
    fn outcome(self) -> Step {
        match self.socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Step::Done(Answer::from_error(&error)),
        }
        // A knock at a free port of the ephemeral range can meet itself (simultaneous open): nobody is there.
        if let (Ok(here), Ok(there)) = (self.socket.local_addr(), self.socket.peer_addr())
            && here == there
        {
            // And no TIME-WAIT, which could keep the service from binding its port.
            let _ = sockopt::close_by_reset(self.socket.as_fd());
            return Step::Done(Answer::Refused);
        }
        match self.socket.shutdown(Shutdown::Write) {
            Ok(()) => Step::Leaving(self, Instant::now()),
            // Accepted, and gone again before we could leave.
            Err(_) => Step::Done(Answer::Accepted),
        }
    }

    /// Throws away what the server says, bounded per call; `true` once it has closed (or reset) the connection.
    fn is_over(&mut self) -> bool {
        let mut waste = [0_u8; 4096];
        match self.socket.read(&mut waste) {
            Ok(length) => length == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }
}

fn new_socket(to: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(family, kind, libc::IPPROTO_TCP) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(socket: &OwnedFd, from: IpAddr, to: &SocketAddr) -> io::Result<()> {
    let from = match (from.to_canonical(), to) {
        // A link-local address is only an address together with the link, which is the one we go out by.
        (IpAddr::V6(from), SocketAddr::V6(to)) => SocketAddrV6::new(from, 0, 0, to.scope_id()).into(),
        (from, _) => SocketAddr::new(from, 0),
    };
    // The kernel then chooses the port at connect, by the whole 4-tuple: never "address in use" while one is free.
    sockopt::set(socket.as_fd(), libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    with_address(&from, |address, length| {
        // SAFETY: `address` points to a socket address of `length` bytes.
        unsafe { libc::bind(socket.as_raw_fd(), address, length) }
    })
}

fn mark_refused(error: &io::Error) -> Answer {
    if error.raw_os_error() == Some(libc::EPERM) { Answer::MarkDenied } else { Answer::Failed(Errno::of(error)) }
}

/// Connecting to a wildcard address means loopback on Linux; said here, not left to the kernel. A mapped IPv4 address is
/// knocked at as IPv4, for so the packets will be.
fn loopback_for_wildcard(to: SocketAddr) -> SocketAddr {
    match (to, to.ip().to_canonical()) {
        (_, IpAddr::V4(ip)) => {
            SocketAddrV4::new(if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip }, to.port()).into()
        }
        (_, IpAddr::V6(ip)) if ip.is_unspecified() => SocketAddrV6::new(Ipv6Addr::LOCALHOST, to.port(), 0, 0).into(),
        (same, _) => same,
    }
}

/// Hands an address in the kernel's form to a system call.
fn with_address(
    address: &SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> libc::c_int,
) -> io::Result<()> {
    let answer = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            call((&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            call((&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
        }
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
