//! More paths of an MPTCP connection that exists are no newcomers; what only looks like one is.
#![expect(unsafe_code, reason = "raw sockets have no safe form in std")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::*;
use crate::diag::{self, Query, SockProto};
use crate::testnet::{in_new_netns, mptcp_connect, mptcp_listener, sockaddr};

/// From where crafted packets come; the kernel here answers nothing in its name but resets.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What came back for a SYN.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// SYN and ACK: a connection.
    Taken,
    Reset,
}

/// Sends SYNs that no decent kernel would send.
struct Crafter {
    socket: OwnedFd,
    port: u16,
}

impl Crafter {
    fn new() -> Self {
        let patience = libc::timeval { tv_sec: 5, tv_usec: 0 };
        let address = sockaddr(SocketAddrV4::new(STRANGER, 0));
        // SAFETY: the pointers are to live values of the lengths given.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_TCP);
            let socket = OwnedFd::from_raw_fd(fd);
            let length = size_of::<libc::timeval>() as libc::socklen_t;
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const patience).cast(), length);
            assert_eq!(libc::bind(fd, (&raw const address).cast(), 16), 0);
            socket
        };
        Self { socket, port: 40_000 }
    }

    /// Sends a SYN with these TCP options to a port of `HOST` and waits for the answer.
    fn syn(&mut self, to: u16, options: &[u8]) -> Answer {
        self.port += 1;
        let packet = segment(self.port, to, options);
        let address = sockaddr(SocketAddrV4::new(HOST, 0));
        // SAFETY: the pointers are to live values of the lengths given.
        let sent = unsafe {
            let (data, length) = (packet.as_ptr().cast(), packet.len());
            libc::sendto(self.socket.as_raw_fd(), data, length, 0, (&raw const address).cast(), 16)
        };
        assert_eq!(sent, packet.len() as isize);
        loop {
            let mut buffer = [0u8; 2000];
            // SAFETY: the pointer is to a live buffer of the length given.
            let got = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let got = usize::try_from(got).expect("an answer within five seconds");
            let tcp = &buffer[usize::from(buffer[0] & 15) * 4..got];
            if tcp[..4] == [to.to_be_bytes(), self.port.to_be_bytes()].concat() {
                let (syn, reset) = (tcp[13] & 2 != 0, tcp[13] & 4 != 0);
                assert!(syn != reset, "{tcp:?}");
                return if reset { Answer::Reset } else { Answer::Taken };
            }
        }
    }
}

fn segment(from: u16, to: u16, options: &[u8]) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend([0, 0, 4, 0, 0, 0, 0, 0]);
    segment.extend([u8::try_from((20 + options.len()) / 4).unwrap() << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(options);
    let mut summed = [STRANGER.octets(), HOST.octets()].concat();
    summed.extend([0, 6, 0, u8::try_from(segment.len()).unwrap()]);
    summed.extend(&segment);
    let sum: u32 = summed.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// The option by which one more path of a connection begins (RFC 8684, 3.2).
fn join(token: u32) -> Vec<u8> {
    [&[30, 12, 0x10, 5], &token.to_be_bytes()[..], &[1, 2, 3, 4]].concat()
}

/// Joins that the kernel does not take for such: it then makes a plain TCP connection.
fn disguises(token: u32) -> [(&'static str, Vec<u8>); 3] {
    let mut long = join(token);
    long[1] = 16;
    long.extend([0; 4]);
    [
        ("another length", long),
        ("a second MPTCP option", [&join(token)[..], &[30, 4, 1, 0x81]].concat()),
        ("after the end of the options", [&[0; 4][..], &join(token)].concat()),
    ]
}

/// Tokens of the connections at a port.
fn tokens(port: u16) -> BTreeSet<u32> {
    let query = Query { proto: SockProto::Mptcp, ports: vec![port], info: true, ..Query::default() };
    let mut tokens = BTreeSet::new();
    diag::dump(&query, &mut |row| tokens.extend(row.token)).unwrap();
    tokens
}

/// A connection whose both ends know that the other speaks MPTCP.
fn mptcp_pair(listener: &TcpListener, to: &str) -> (TcpStream, TcpStream) {
    let client = mptcp_connect(to);
    let mut both = (client, listener.accept().unwrap().0);
    assert_alive(&mut both);
    assert_alive(&mut both);
    both
}

#[test]
fn at_a_plain_listener_nothing_passes() {
    in_new_netns(|| {
        let listener = TcpListener::bind("127.0.0.1:7000").unwrap();
        let mut crafter = Crafter::new();
        assert_eq!(crafter.syn(7000, &join(7)), Answer::Taken, "a plain listener ignores the option");
        let door = tcp(Reach::Any4, 7000);
        let mut gate = gate();
        gate.apply(&shut([door])).unwrap();
        assert_eq!(crafter.syn(7000, &join(7)), Answer::Reset);
        for (_, options) in disguises(7) {
            assert_eq!(crafter.syn(7000, &options), Answer::Reset);
        }
        assert_eq!(gate.seen().unwrap().unwrap().refused[&door], 4);
        drop(listener);
    });
}

#[test]
fn of_strangers_none_passes_where_more_paths_do() {
    in_new_netns(|| {
        let Some(listener) = mptcp_listener("127.0.0.1:7000") else { return };
        let mut crafter = Crafter::new();
        assert_eq!(
            crafter.syn(7000, &join(7)),
            Answer::Reset,
            "the kernel itself refuses a token that it does not know"
        );
        for (disguise, options) in disguises(7) {
            println!("a join with {disguise}, no gate: {:?}", crafter.syn(7000, &options));
        }
        let mut pair = mptcp_pair(&listener, "127.0.0.1:7000");
        let known = tokens(7000);
        assert_eq!(known.len(), 1);
        let token = *known.first().unwrap();
        let door = tcp(Reach::Any4, 7000);
        let rules = Rules { mptcp: [door].into(), tokens: known, ..shut([door]) };
        let mut gate = gate();
        gate.apply(&rules).unwrap();
        let seen = gate.seen().unwrap().unwrap();
        assert_eq!((seen.altered, &seen.rules), (None, &rules));
        assert_eq!(crafter.syn(7000, &[]), Answer::Reset);
        assert_eq!(crafter.syn(7000, &join(token ^ 1)), Answer::Reset);
        for (disguise, options) in disguises(token ^ 1) {
            assert_eq!(crafter.syn(7000, &options), Answer::Reset, "{disguise}");
        }
        assert_eq!(gate.seen().unwrap().unwrap().refused[&door], 5, "by the gate, each");
        // With the token the join is the kernel's: it asks for a proof of the key. (Even so with another length.)
        assert_eq!(crafter.syn(7000, &join(token)), Answer::Taken);
        assert_eq!(crafter.syn(7000, &disguises(token)[0].1), Answer::Reset);
        assert_refused("127.0.0.1:7000");
        assert_alive(&mut pair);
        // Doors without tokens, and tokens without doors, are nothing.
        for rules in [Rules { tokens: BTreeSet::new(), ..rules.clone() }, Rules { mptcp: BTreeSet::new(), ..rules }] {
            assert_eq!(rules.normal(), shut([door]));
        }
    });
}

#[test]
fn a_plain_listener_on_one_address_is_not_entered_through_an_mptcp_one_on_all() {
    in_new_netns(|| {
        let Some(listener) = mptcp_listener("127.0.0.2:7000") else { return };
        let _plain = TcpListener::bind("127.0.0.1:7000").unwrap();
        let _pair = mptcp_pair(&listener, "127.0.0.2:7000");
        let (all, one) = (tcp(Reach::Any4, 7000), tcp(addr("127.0.0.1"), 7000));
        let known = tokens(7000);
        let token = *known.first().unwrap();
        gate().apply(&Rules { mptcp: [all].into(), tokens: known, ..shut([all, one]) }).unwrap();
        assert_eq!(Crafter::new().syn(7000, &join(token)), Answer::Reset);
    });
}

#[test]
fn another_path_of_an_mptcp_connection_passes() {
    in_new_netns(|| {
        let Some(listener) = mptcp_listener("127.0.0.1:7000") else { return };
        let mut pair = mptcp_pair(&listener, "127.0.0.1:7000");
        let door = tcp(Reach::Any, 7000);
        let mut gate = gate();
        gate.apply(&Rules { mptcp: [door].into(), tokens: tokens(7000), ..shut([door]) }).unwrap();
        let paths = || diag::dump(&Query { ports: vec![7000], ..Query::default() }, &mut |_| {}).unwrap();
        assert_eq!(paths(), 1);
        run("ip mptcp limits set subflow 2 add_addr_accepted 2; ip mptcp endpoint add 127.0.0.2 dev lo subflow");
        let joined = (0..250).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            paths() == 2
        });
        assert_alive(&mut pair);
        assert!(joined, "no second path");
        assert_eq!(gate.seen().unwrap().unwrap().refused[&door], 0);
        assert_refused("127.0.0.1:7000");
        if nft_is_there() {
            println!("{}", listing());
        }
    });
}
