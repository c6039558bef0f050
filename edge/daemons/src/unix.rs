//! A connection to a daemon's unix socket, made as the socket's owner: a daemon may let in nobody else, and the agent has
//! no right to pass over file modes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ebb_model::DaemonKind;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Uid;

use crate::{Error, call};

/// So long a server may be too busy to take a connection before it counts as not reached.
const ACCEPTS_WITHIN: Duration = Duration::from_secs(3);

/// Connects as the owner of the socket, and tells his name: the kernel tells the server who connects, by the user of the
/// thread that does.
///
/// # Errors
/// [`Error::NotPermitted`], [`Error::NotReached`].
pub(crate) async fn connect(daemon: DaemonKind, path: &str) -> Result<(tokio::net::UnixStream, String), Error> {
    let not_reached = |error: &dyn std::fmt::Display| Error::NotReached {
        daemon,
        at: path.to_owned(),
        cause: call::short(&error.to_string()),
    };
    let (tell, told) = tokio::sync::oneshot::channel();
    let at = path.to_owned();
    // A thread of its own, which ends with that user.
    let thread = std::thread::Builder::new().name("peer".to_owned()).spawn(move || {
        let _ = tell.send(connect_as_owner(&at));
    });
    thread.map_err(|error| not_reached(&error))?;
    let connected = told.await.map_err(|error| not_reached(&error))?;
    let (stream, owner) = connected.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::NotPermitted { daemon, at: path.to_owned(), cause: call::short(&error.to_string()) }
        }
        _ => not_reached(&error),
    })?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(|error| not_reached(&error))?;
    Ok((stream, owner))
}

/// On a thread that does nothing else: its effective user becomes that of the socket's owner, and stays so.
fn connect_as_owner(path: &str) -> io::Result<(UnixStream, String)> {
    let owner = std::fs::metadata(path)?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        let keep = None::<Uid>;
        rustix::thread::set_thread_res_uid(keep, Some(Uid::from_raw(owner)), keep)?;
    }
    Ok((connect_within(path, ACCEPTS_WITHIN)?, name_of(owner)))
}

/// Connects without waiting in the kernel: a server that is stopped has a full queue, and would keep this thread for ever.
fn connect_within(path: &str, within: Duration) -> io::Result<UnixStream> {
    const PAUSE: Duration = Duration::from_millis(50);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let at = SocketAddrUnix::new(path)?;
    for _ in 0..within.as_millis() / PAUSE.as_millis() {
        match rustix::net::connect(&socket, &at) {
            Err(Errno::AGAIN) => std::thread::sleep(PAUSE),
            done => return Ok(done.map(|()| UnixStream::from(socket))?),
        }
    }
    let text = format!("it took no connection within {} s", within.as_secs_f64());
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// The login name of a user id, from `/etc/passwd`; its number where there is none.
fn name_of(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |line: &str| {
        let mut words = line.split(':');
        let name = words.next()?;
        (words.nth(1)? == uid.to_string()).then(|| name.to_owned())
    };
    text.lines().find_map(name).unwrap_or_else(|| uid.to_string())
}
