use super::*;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::{Command, Output};

const LONG: Duration = Duration::from_secs(20);

/// A server thread that serves `count` connections: says `banner`, then reads to the end. Tells how each ended.
fn serve(
    bind: &str,
    count: usize,
    banner: &'static [u8],
) -> (SocketAddr, std::thread::JoinHandle<Vec<io::Result<usize>>>) {
    let listener = TcpListener::bind(bind).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let end_of = |_| {
            let (mut peer, _) = listener.accept()?;
            peer.set_read_timeout(Some(LONG))?;
            peer.write_all(banner)?;
            io::Read::read_to_end(&mut peer, &mut Vec::new())
        };
        (0..count).map(end_of).collect()
    });
    (address, thread)
}

/// A door that stays shut: its port is kept busy on another loopback address, so that no other test can get it meanwhile.
fn shut_door() -> (TcpListener, SocketAddr) {
    let keeper = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = SocketAddr::from(([127, 0, 0, 9], keeper.local_addr().unwrap().port()));
    (keeper, door)
}

#[test]
fn accepted_and_the_server_sees_a_plain_end() {
    for banner in [&b""[..], b"220 hello\r\n"] {
        let (door, server) = serve("127.0.0.1:0", 1, banner);
        assert_eq!(knock(door, LONG, None, None), Answer::Accepted);
        let ends = server.join().unwrap();
        assert_eq!(*ends[0].as_ref().expect("no reset for the log"), 0);
    }
}

#[test]
fn a_server_that_neither_accepts_nor_closes_does_not_hold_us() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(knock(listener.local_addr().unwrap(), LONG, None, None), Answer::Accepted);
}

#[test]
fn refused_where_nobody_listens() {
    let (_keeper, door) = shut_door();
    assert_eq!(knock(door, LONG, None, None), Answer::Refused);
}

#[test]
fn wildcards_mapped_and_v6() {
    let (door, server) = serve("0.0.0.0:0", 2, b"");
    assert_eq!(knock(door, LONG, None, None), Answer::Accepted);
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), door.port());
    assert_eq!(knock(mapped, LONG, None, None), Answer::Accepted);
    server.join().unwrap();
    if !own_addresses().unwrap().iter().any(|own| own.address == Ipv6Addr::LOCALHOST) {
        println!("SKIPPED: no IPv6 here");
        return;
    }
    let (door, server) = serve("[::]:0", 2, b"");
    assert_eq!(knock(door, LONG, None, None), Answer::Accepted);
    assert_eq!(knock(door, LONG, None, Some(Ipv6Addr::LOCALHOST.into())), Answer::Accepted);
    server.join().unwrap();
}

#[test]
fn from_an_own_address_or_not_at_all() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = listener.local_addr().unwrap();
    assert_eq!(knock(door, LONG, None, Some("127.0.0.7".parse().unwrap())), Answer::Accepted);
    assert_eq!(listener.accept().unwrap().1.ip(), IpAddr::from([127, 0, 0, 7]));
    let foreign = knock(door, LONG, None, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(foreign, Answer::Failed(Errno(libc::EADDRNOTAVAIL)));
    assert!(!Errno(libc::EADDRNOTAVAIL).to_string().is_empty());
}

#[test]
fn a_full_queue_times_out() {
    // The queue of a listener nobody accepts from: filled until a knock gets no answer. net.core.somaxconn bounds std's 128
    // or 4096, so a socket of our own with the least backlog.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    shrink_backlog(&listener);
    let door = listener.local_addr().unwrap();
    let held: Vec<_> =
        (0..4).map(|_| std::net::TcpStream::connect_timeout(&door, Duration::from_millis(200))).collect();
    assert_eq!(knock(door, Duration::from_millis(300), None, None), Answer::TimedOut);
    drop(held);
}

#[expect(unsafe_code, reason = "listen() again with another backlog")]
fn shrink_backlog(listener: &TcpListener) {
    // SAFETY: plain numbers.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(listener), 0) }, 0);
}

#[test]
fn many_at_once_in_order() {
    let (open, server) = serve("127.0.0.1:0", 100, b"hi");
    let (_keeper, shut) = shut_door();
    let knocks: Vec<Knock> = (0..200).map(|index| Knock::at(if index % 2 == 0 { open } else { shut })).collect();
    let answers = knock_many(&knocks, LONG);
    assert_eq!(answers.len(), 200);
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, if index % 2 == 0 { Answer::Accepted } else { Answer::Refused }, "{index}");
    }
    assert!(server.join().unwrap().iter().all(Result::is_ok));
    assert_eq!(knock_many(&[], LONG), []);
}

#[test]
fn targets_of_doors() {
    let own = |address: &str, scope_id, up, loopback| OwnAddress {
        address: address.parse().unwrap(),
        interface: String::from("x"),
        scope_id,
        up,
        loopback,
    };
    let all = [
        own("192.0.2.5", 0, true, false),
        own("192.0.2.6", 0, false, false),
        own("127.0.0.1", 0, true, true),
        own("fe80::1", 3, true, false),
        own("::1", 0, true, true),
    ];
    let of = |door: &str| targets(door.parse().unwrap(), &all).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of("0.0.0.0:25"), ["127.0.0.1:25", "192.0.2.5:25"]);
    assert_eq!(of("[::]:25"), ["[::1]:25", "[fe80::1%3]:25"]);
    assert_eq!(of("192.0.2.9:25"), ["192.0.2.9:25"]);
    assert!(own_addresses().unwrap().iter().all(|own| !own.interface.is_empty()));
}

/// Runs one test of this binary again, changed by `how`; its output when it passed.
fn again(test: &str, how: impl FnOnce(&mut Command) -> &mut Command) -> Output {
    let mut command = Command::new("/proc/self/exe");
    let output = how(command.args(["--exact", test, "--nocapture", "--include-ignored"])).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{complaint}");
    output
}

#[test]
fn a_mark_needs_the_right() {
    let (_keeper, door) = shut_door();
    if crate::boot::has_capability(crate::boot::Capability::NetAdmin).unwrap() {
        assert_eq!(knock(door, LONG, Some(0xebb), None), Answer::Refused);
        again("probe::tests::a_mark_needs_the_right", |command| {
            std::os::unix::process::CommandExt::gid(command, 65534);
            std::os::unix::process::CommandExt::uid(command, 65534)
        });
    } else {
        assert_eq!(knock(door, LONG, Some(0xebb), None), Answer::MarkDenied);
    }
}
