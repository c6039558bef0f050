use super::*;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A child that waits for its stdin to close, so that none outlives the test, whatever happens.
struct Waiter(Child);

impl Waiter {
    fn start() -> Self {
        Self::spawn(&mut Command::new("cat"))
    }

    fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::new(self.0.id()).unwrap()
    }

    fn handle(&self) -> Handle {
        Handle::open(self.pid(), read(self.pid()).unwrap().unwrap().start_ticks).unwrap()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn myself() -> Handle {
    let me = Pid::current();
    Handle::open(me, read(me).unwrap().unwrap().start_ticks).unwrap()
}

fn inode_of(socket: &impl AsFd) -> u32 {
    let copy = socket.as_fd().try_clone_to_owned().unwrap();
    u32::try_from(std::fs::File::from(copy).metadata().unwrap().ino()).unwrap()
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn a_listener_is_found_among_the_first_sockets_or_after_all_others() {
    use std::os::unix::fs::MetadataExt;
    let many: Vec<_> = (0..200).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let inode = |listener: &TcpListener| {
        let fd = listener.as_raw_fd();
        u32::try_from(std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino()).unwrap()
    };
    let me = Pid::current();
    let wanted = BTreeSet::from([inode(many.first().unwrap()), inode(many.last().unwrap())]);
    let found = owners_of_listeners(&wanted, &[me]);
    assert!(wanted.iter().all(|inode| found.holders.get(inode) == Some(&vec![me])), "{found:?}");
    let late = BTreeSet::from([inode(many.last().unwrap())]);
    assert_eq!(first_owners(&late, std::iter::once(me)), Owners::default());
}

#[test]
fn pids_have_bounds() {
    assert_eq!(Pid::new(0), None);
    assert_eq!(Pid::new(u32::MAX), None);
    assert_eq!("12".parse::<Pid>().unwrap().get(), 12);
    assert!(matches!("-1".parse::<Pid>(), Err(Error::NotAPid { .. })));
}

#[test]
fn reads_ourselves() {
    let me = read(Pid::current()).unwrap().unwrap();
    assert_eq!(me.exe, Some(std::env::current_exe().unwrap()));
    assert_eq!(me.cmdline, std::env::args_os().collect::<Vec<_>>());
    assert_eq!(me.uid, crate::boot::effective_uid());
    assert_eq!(me.parent.unwrap().get(), std::os::unix::process::parent_id());
    assert_eq!(me.net_namespace, Some(std::fs::metadata("/proc/self/ns/net").unwrap().ino()));
    let all = all().unwrap();
    assert!(all.iter().any(|process| process.pid == me.pid && process.start_ticks == me.start_ticks));
    assert!(all.is_sorted_by_key(|process| process.pid));
}

#[test]
fn ended_and_vanished_processes_are_not_errors() {
    let mut child = Waiter::start();
    let (pid, handle) = (child.pid(), child.handle());
    let ticks = read(pid).unwrap().unwrap().start_ticks;
    handle.signal(Signal::Kill).unwrap();
    assert!(handle.wait_exit(Duration::from_secs(20)).unwrap());
    let ended = read(pid).unwrap().expect("not yet collected, so still there");
    assert_eq!((ended.state, ended.exe, ended.cmdline.len()), (State::Ended, None, 0));
    let owners = owners_of(&BTreeSet::from([1]), std::iter::once(pid));
    assert_eq!(owners.holders.len(), 0);
    child.0.wait().unwrap();
    assert_eq!(read(pid).unwrap(), None);
    assert!(matches!(handle.signal(Signal::Terminate), Err(Error::Gone { .. })));
    assert!(matches!(Handle::open(pid, ticks), Err(Error::Gone { .. })));
    assert_eq!(find_fd(pid, 1).unwrap(), None);
    assert_eq!(owners_of(&BTreeSet::from([1]), std::iter::once(pid)), Owners::default());
    assert!(matches!(shutdown_read(&handle, 1, None, Duration::ZERO), Err(Error::Gone { .. })));
}

#[test]
fn a_reused_number_is_refused() {
    let child = Waiter::start();
    let ticks = read(child.pid()).unwrap().unwrap().start_ticks;
    assert!(matches!(Handle::open(child.pid(), ticks + 1), Err(Error::Gone { .. })));
    assert!(!child.handle().wait_exit(Duration::from_millis(5)).unwrap(), "and nothing happened to it");
}

#[test]
fn a_replaced_program_keeps_its_path() {
    let copy = std::env::temp_dir().join(format!("ebb-kernel-cat-{}", std::process::id()));
    std::fs::copy("/bin/cat", &copy).unwrap();
    let child = Waiter::spawn(&mut Command::new(&copy));
    std::fs::remove_file(&copy).unwrap();
    assert_eq!(read(child.pid()).unwrap().unwrap().exe, Some(copy));
}

#[test]
fn all_holders_of_a_shared_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = inode_of(&listener);
    // Given as its stdout: the child holds the same listening socket, as a pre-forked worker does.
    let mut command = Command::new("cat");
    let child = Waiter(
        command
            .stdin(Stdio::piped())
            .stdout(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()))
            .spawn()
            .unwrap(),
    );
    let other = Waiter::start();
    let among = [Pid::current(), child.pid(), other.pid(), Pid::new(i32::MAX as u32).unwrap()];
    let owners = owners_of(&BTreeSet::from([inode, u32::MAX]), among.into_iter());
    assert_eq!(owners.holders.get(&inode), Some(&vec![Pid::current(), child.pid()]));
    assert_eq!((owners.holders.len(), owners.hidden.len()), (1, 0));
    assert_eq!(find_fd(child.pid(), inode).unwrap(), Some(1));
}

#[test]
fn shutdown_read_gives_a_clean_end() {
    let (mut client, mut server) = connected();
    let inode = inode_of(&server);
    shutdown_read(&myself(), inode, None, Duration::ZERO).unwrap();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "the server reads a clean end");
    server.write_all(b"bye").unwrap();
    drop(server);
    let mut last = Vec::new();
    client.read_to_end(&mut last).expect("an orderly end, no reset: no duplicate is left open");
    assert_eq!(last, b"bye");
    assert!(matches!(shutdown_read(&myself(), inode, None, Duration::ZERO), Err(Error::NotHeld { .. })));
}

#[test]
fn what_moved_data_just_now_is_not_shut_and_several_are_found_in_one_walk() {
    let (mut client, server) = connected();
    let (_other, there) = connected();
    client.write_all(b"x").unwrap();
    (&server).read_exact(&mut [0]).unwrap();
    let wanted = BTreeSet::from([inode_of(&server), inode_of(&there), u32::MAX]);
    let found = find_fds(Pid::current(), &wanted).unwrap();
    assert_eq!(found.get(&inode_of(&there)), Some(&there.as_raw_fd()));
    assert_eq!(found.len(), 2);
    let number = found.get(&inode_of(&server)).copied();
    let refused = shutdown_read(&myself(), inode_of(&server), number, Duration::from_secs(60));
    assert!(matches!(refused, Err(Error::Active { .. })), "{refused:?}");
    // A number that is another's by now is not believed.
    let wrong = found.get(&inode_of(&there)).copied();
    shutdown_read(&myself(), inode_of(&server), wrong, Duration::ZERO).unwrap();
    assert_eq!((&server).read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn shutdown_read_refuses_harm() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(matches!(
        shutdown_read(&myself(), inode_of(&listener), None, Duration::ZERO),
        Err(Error::Listening { .. })
    ));
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().expect("the listener still works");
    client.write_all(b"half a req").unwrap();
    server.peek(&mut [0; 1]).unwrap();
    let refused = shutdown_read(&myself(), inode_of(&server), None, Duration::ZERO).unwrap_err();
    assert!(matches!(refused, Error::Unread { bytes: 10, .. }), "{refused}");
    let mut request = [0; 10];
    server.read_exact(&mut request).unwrap();
}

#[test]
fn a_probe_restores_what_was() {
    let (client, server) = connected();
    let options = |socket: &TcpStream| PROBED.map(|(level, name)| sockopt::get(socket.as_fd(), level, name).unwrap());
    sockopt::set(server.as_fd(), libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 9000).unwrap();
    let before = options(&server);
    let handle = myself();
    let probe = PeerProbe::start(&handle, inode_of(&server)).unwrap();
    assert_ne!(options(&server), before);
    assert_ne!(probe.finish().unwrap(), Liveness::Silent);
    assert_eq!(options(&server), before);
    drop(PeerProbe::start(&handle, inode_of(&server)).unwrap());
    assert_eq!(options(&server), before, "also when dropped");
    let probe = PeerProbe::start(&handle, inode_of(&server)).unwrap();
    drop((client, server));
    assert_eq!(probe.finish().unwrap(), Liveness::Ended);
}

const PROBED: [(i32, i32); 5] = [
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
];

#[test]
fn a_live_peer_answers() {
    let (_client, server) = connected();
    std::thread::sleep(Duration::from_millis(100));
    let handle = myself();
    let probe = PeerProbe::start(&handle, inode_of(&server)).unwrap();
    std::thread::sleep(PeerProbe::NEEDED);
    assert_eq!(probe.finish().unwrap(), Liveness::Alive);
}

/// Runs one test of this binary again as an ordinary user. `true` in that second run, where the test does its work.
#[expect(unsafe_code, reason = "the second run needs a login session of its own, which std cannot give it")]
fn as_ordinary_user(test: &str) -> bool {
    if crate::boot::effective_uid() != 0 {
        return true;
    }
    // By its link, for the path to the binary may be closed to others.
    let mut again = Command::new("/proc/self/exe");
    again.args(["--exact", test, "--nocapture"]).uid(65534).gid(65534);
    // SAFETY: setsid is async-signal-safe, and the closure touches no memory. A session of its own, because within
    // one session the kernel lets everybody send SIGCONT, also to the first process where that shares ours.
    unsafe {
        again.pre_exec(|| match libc::setsid() {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "as an ordinary user:\n{said}\n{complaint}");
    false
}

#[test]
fn an_ordinary_user_is_told_so() {
    if !as_ordinary_user("process::tests::an_ordinary_user_is_told_so") {
        return;
    }
    let first = Pid::new(1).unwrap();
    let process = read(first).unwrap().expect("the first process can be seen by all");
    assert_eq!((process.uid, process.exe, process.net_namespace), (0, None, None));
    assert!(!all().unwrap().is_empty());
    let owners = owners_of(&BTreeSet::from([1]), [Pid::current(), first].into_iter());
    assert_eq!(owners.hidden, [first], "a hidden process is not one without sockets");
    assert!(matches!(find_fd(first, 1), Err(Error::NoPermission { .. })));
    let handle = Handle::open(first, process.start_ticks).unwrap();
    assert!(matches!(handle.signal(Signal::Continue), Err(Error::NoPermission { action: "signal", .. })));
    assert!(matches!(shutdown_read(&handle, 1, None, Duration::ZERO), Err(Error::NoPermission { .. })));
    let duplicate = handle.duplicate(0).unwrap_err();
    assert_eq!(duplicate.raw_os_error(), Some(libc::EPERM));
    let (_client, server) = connected();
    shutdown_read(&myself(), inode_of(&server), None, Duration::ZERO).expect("one's own process needs no rights");
    assert!(server.as_raw_fd() > 2);
}
