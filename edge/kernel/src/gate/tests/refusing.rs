//! TCP: what is refused and what lives on.

use std::net::TcpListener;

use super::*;
use crate::gate::{Applied, Except, Seen};
use crate::testnet::in_new_netns;

#[test]
fn shut_door_refuses_newcomers_and_leaves_the_rest_alone() {
    in_new_netns(|| {
        let v4 = TcpListener::bind("127.0.0.1:7001").unwrap();
        let dual = TcpListener::bind("[::]:7002").unwrap();
        let other = TcpListener::bind("[::]:7003").unwrap();
        let mut pairs = [pair(&v4, "127.0.0.1:7001"), pair(&dual, "[::1]:7002"), pair(&dual, "127.0.0.1:7002")];
        let mut gate = gate();
        let rules = shut([tcp(Reach::Any4, 7001), tcp(Reach::Any, 7002)]);
        assert_eq!(gate.apply(&rules).unwrap(), Applied::Built { altered: None });
        assert_eq!(gate.apply(&rules).unwrap(), Applied::Nothing);
        for door in ["127.0.0.1:7001", "[::1]:7002", "127.0.0.1:7002", "[::ffff:127.0.0.1]:7002"] {
            assert_refused(door);
        }
        assert_open("127.0.0.1:7003");
        pairs.iter_mut().for_each(assert_alive);
        let seen = gate.seen().unwrap().unwrap();
        assert_eq!(seen.altered, None);
        assert_eq!(seen.rules, rules);
        assert_eq!(seen.refused[&tcp(Reach::Any4, 7001)], 1);
        assert_eq!(seen.refused[&tcp(Reach::Any, 7002)], 3);
        assert_eq!(gate.apply(&Rules::default()).unwrap(), Applied::Removed);
        assert_eq!(gate.seen().unwrap(), None);
        assert_eq!(gate.apply(&Rules::default()).unwrap(), Applied::Nothing);
        assert_open("127.0.0.1:7001");
        assert_open("[::1]:7002");
        pairs.iter_mut().for_each(assert_alive);
        drop(other);
    });
}

#[test]
fn one_address_is_not_another() {
    in_new_netns(|| {
        run("ip addr add 10.9.0.1/32 dev lo; ip -6 addr add fd00::1/128 dev lo nodad");
        let _all = TcpListener::bind("[::]:7000").unwrap();
        let mut gate = gate();
        gate.apply(&shut([tcp(addr("127.0.0.1"), 7000), tcp(addr("::1"), 7000)])).unwrap();
        assert_refused("127.0.0.1:7000");
        assert_refused("[::1]:7000");
        assert_open("10.9.0.1:7000");
        assert_open("[fd00::1]:7000");
        let mapped = tcp(addr("::ffff:10.9.0.1"), 7000);
        gate.apply(&shut([mapped])).unwrap();
        assert_refused("10.9.0.1:7000");
        assert_open("127.0.0.1:7000");
        assert_eq!(gate.seen().unwrap().unwrap().rules, shut([tcp(addr("10.9.0.1"), 7000)]));
        gate.apply(&shut([tcp(Reach::Any6, 7000)])).unwrap();
        assert_refused("[::1]:7000");
        assert_open("127.0.0.1:7000");
    });
}

#[test]
fn what_stays_open() {
    in_new_netns(|| {
        run("ip addr add 10.9.0.1/32 dev lo; ip addr add 10.9.0.2/32 dev lo");
        let _all = TcpListener::bind("[::]:7000").unwrap();
        let any = tcp(Reach::Any, 7000);
        let mut rules = shut([any, tcp(addr("10.9.0.2"), 7000)]);
        rules.open.insert(("10.9.0.1".parse().unwrap(), 7000));
        // A listener of others does not open an address that is shut itself.
        rules.open.insert(("10.9.0.2".parse().unwrap(), 7000));
        let mut gate = gate();
        gate.apply(&rules).unwrap();
        assert_open("10.9.0.1:7000");
        assert_refused("10.9.0.2:7000");
        assert_refused("127.0.0.1:7000");
        for (from, door) in [("127.0.0.0", any), ("::1", any), ("10.0.0.0", tcp(addr("10.9.0.2"), 7000))] {
            let from: std::net::IpAddr = from.parse().unwrap();
            rules.except.insert(Except { from: (from, if from.is_ipv4() { 8 } else { 128 }), door });
        }
        assert_eq!(gate.apply(&rules).unwrap(), Applied::Changed { added: 3, removed: 0 });
        for to in ["127.0.0.1:7000", "[::1]:7000", "10.9.0.2:7000"] {
            assert_open(to);
        }
        rules.except.clear();
        gate.apply(&rules).unwrap();
        assert_refused("127.0.0.1:7000");
        assert_eq!(gate.seen().unwrap().unwrap().rules, rules);
    });
}

#[test]
#[expect(unsafe_code, reason = "SO_MARK has no safe form in std")]
fn our_own_probe_passes() {
    use std::os::fd::{FromRawFd, OwnedFd};
    in_new_netns(|| {
        let _listener = TcpListener::bind("127.0.0.1:7000").unwrap();
        let mut gate = gate();
        gate.apply(&Rules { probe_mark: 0xebb, ..shut([tcp(Reach::Any4, 7000)]) }).unwrap();
        let probe = |mark: u32| {
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: 7000u16.to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
                sin_zero: [0; 8],
            };
            // SAFETY: the pointers are to live values of the lengths given.
            unsafe {
                let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
                let owned = OwnedFd::from_raw_fd(fd);
                assert_eq!(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_MARK, (&raw const mark).cast(), 4), 0);
                let connected = libc::connect(fd, (&raw const address).cast(), 16) == 0;
                drop(owned);
                connected
            }
        };
        assert!(probe(0xebb));
        assert!(!probe(0xebc));
        assert_refused("127.0.0.1:7000");
        gate.apply(&shut([tcp(Reach::Any4, 7000)])).unwrap();
        assert!(!probe(0xebb));
        assert!(!probe(0));
    });
}

/// Fast Open: a SYN with data and cookie would be served before the handshake ends.
#[test]
fn fast_open_is_refused_too() {
    in_new_netns(|| {
        run("echo 0x603 > /proc/sys/net/ipv4/tcp_fastopen");
        let listener = TcpListener::bind("127.0.0.1:7000").unwrap();
        let script = "import socket\ns = socket.socket()\nprint(s.sendto(b'hi', 0x20000000, ('127.0.0.1', 7000)))";
        let client = || std::process::Command::new("python3").args(["-c", script]).output();
        let Ok(before) = client() else { return skipped("no python3") };
        assert!(before.status.success(), "{before:?}");
        let mut hello = [0; 2];
        listener.accept().unwrap().0.read_exact(&mut hello).unwrap();
        let mut gate = gate();
        gate.apply(&shut([tcp(Reach::Any, 7000)])).unwrap();
        let after = client().unwrap();
        assert!(String::from_utf8_lossy(&after.stderr).contains("ConnectionRefused"), "{after:?}");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let seen: Seen = gate.seen().unwrap().unwrap();
        assert_eq!(seen.refused[&tcp(Reach::Any, 7000)], 1);
    });
}

#[test]
fn every_rule_comes_back_as_it_went() {
    in_new_netns(|| {
        let reaches = [
            Reach::Any4,
            Reach::Any6,
            Reach::Any,
            addr("10.0.0.1"),
            addr("fd00::1"),
            Reach::Forward("10.99.0.2".parse().unwrap()),
            Reach::Forward("fd00:99::2".parse().unwrap()),
        ];
        let mut rules = Rules { probe_mark: 0xebb1, ..Rules::default() };
        for proto in [Proto::Tcp, Proto::Udp, Proto::Quic] {
            for reach in reaches {
                for port in [80, 443, 65535] {
                    let door = Door { proto, reach, port };
                    rules.shut.insert(door);
                    for (from, prefix) in [("192.0.2.0", 24), ("198.51.100.7", 32), ("2001:db8::", 32), ("::2", 128)] {
                        rules.except.insert(Except { from: (from.parse().unwrap(), prefix), door });
                    }
                }
            }
        }
        rules.learn = learning(reaches.iter().map(|reach| udp(*reach, 5060)), HOUR).learn;
        rules.open.insert(("10.0.0.9".parse().unwrap(), 80));
        rules.open.insert(("fd00::9".parse().unwrap(), 80));
        let rules = rules.normal();
        let mut gate = gate();
        gate.apply(&rules).unwrap();
        let seen = super::gate().seen().unwrap().unwrap();
        assert_same(&seen.rules, &rules);
        assert_eq!(seen.altered, None);
        assert_eq!(gate.apply(&rules).unwrap(), Applied::Nothing);
        assert_eq!(super::gate().apply(&rules).unwrap(), Applied::Nothing);
        // One owner of an element that two doors share goes: the element stays, for the other.
        let mut fewer = rules.clone();
        fewer.shut.remove(&tcp(Reach::Any, 80));
        super::gate().apply(&fewer).unwrap();
        assert_same(&gate.seen().unwrap().unwrap().rules, &fewer);
        if nft_is_there() {
            println!("{}", listing());
        }
    });
}

#[test]
fn many_doors_in_one_batch() {
    in_new_netns(|| {
        let mut gate = gate();
        let rules = shut((1..=20_000).map(|port| tcp(Reach::Any, port)));
        gate.apply(&rules).unwrap();
        assert_eq!(gate.seen().unwrap().unwrap().rules, rules);
        let fewer = shut((1..=10_000).map(|port| tcp(Reach::Any, port)));
        assert_eq!(gate.apply(&fewer).unwrap(), Applied::Changed { added: 0, removed: 30_000 });
        assert_eq!(gate.seen().unwrap().unwrap().rules, fewer);
    });
}
