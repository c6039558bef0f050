//! For the tests: a network namespace of one's own on a thread of its own.
#![expect(unsafe_code, reason = "unshare has no safe form in std")]

use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs `body` on a new thread in a new network namespace with loopback up; skips loudly where that is not allowed.
/// The namespace goes with the thread and its sockets.
pub(crate) fn in_new_netns(body: impl FnOnce() + Send + 'static) {
    let done = std::thread::spawn(move || {
        // SAFETY: plain system call; it moves only this thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        run("ip link set lo up");
        Ok(catch_unwind(AssertUnwindSafe(body)))
    })
    .join()
    .unwrap();
    match done {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => resume_unwind(panic),
        Err(error) => skipped(&format!("no network namespace of our own: {error}")),
    }
}

/// Says loudly that a test did not run; fails where it must.
pub(crate) fn skipped(why: &str) {
    println!("SKIPPED: {why}");
    assert!(std::env::var("EBB_TEST_MUST_RUN").as_deref() != Ok("1"), "must run, but: {why}");
}

/// Runs a shell command in this thread's namespace; gives its output, panics when it fails.
pub(crate) fn run(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Heavy tests take turns: many sockets at once make the others slow, and limits of the machine are shared.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An MPTCP socket; `None`, said loudly, where the kernel has none.
fn mptcp_socket() -> Option<OwnedFd> {
    // SAFETY: plain system call; a descriptor that it gives is nobody else's.
    let made = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP);
        if fd < 0 { Err(std::io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    };
    made.map_err(|error| skipped(&format!("no MPTCP in this kernel: {error}"))).ok()
}

pub(crate) fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// A listener for MPTCP as well as TCP.
pub(crate) fn mptcp_listener(at: &str) -> Option<TcpListener> {
    let fd = mptcp_socket()?;
    let address = sockaddr(at.parse().unwrap());
    // SAFETY: the pointer is to a live value of the length given.
    unsafe {
        assert_eq!(libc::bind(fd.as_raw_fd(), (&raw const address).cast(), 16), 0);
        assert_eq!(libc::listen(fd.as_raw_fd(), 16), 0);
    }
    Some(TcpListener::from(fd))
}

/// A client that speaks MPTCP.
pub(crate) fn mptcp_connect(to: &str) -> TcpStream {
    let fd = mptcp_socket().unwrap();
    let address = sockaddr(to.parse().unwrap());
    // SAFETY: the pointer is to a live value of the length given.
    assert_eq!(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), 16) }, 0);
    TcpStream::from(fd)
}
