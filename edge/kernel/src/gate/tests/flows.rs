//! UDP: flows that are known pass, and QUIC.

use std::net::UdpSocket;

use super::*;
use crate::gate::{Applied, Except};
use crate::testnet::in_new_netns;

/// A client and whether the server hears it. On loopback a packet is there, or refused, when `send` returns.
pub(super) struct Server(UdpSocket);

impl Server {
    pub(super) fn new(to: &str) -> Self {
        let socket = UdpSocket::bind(to).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    pub(super) fn hears(&self, client: &UdpSocket, packet: &[u8]) -> bool {
        // An earlier refusal is told with the next call; it is not of interest here.
        let _ = client.take_error();
        client.send(packet).unwrap();
        let mut buffer = [0; 2000];
        self.0.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *packet)
    }
}

pub(super) fn client(to: &str) -> UdpSocket {
    let any = if to.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket
}

#[test]
fn learnt_flows_pass_and_others_do_not() {
    in_new_netns(|| {
        let (v4, v6) = (Server::new("127.0.0.1:7600"), Server::new("[::1]:7600"));
        let (old4, old6) = (client("127.0.0.1:7600"), client("[::1]:7600"));
        let door = udp(Reach::Any, 7600);
        let mut gate = gate();
        gate.apply(&learning([door], HOUR)).unwrap();
        assert!(v4.hears(&old4, b"a") && v6.hears(&old6, b"b"));
        let flows = gate.seen().unwrap().unwrap().flows;
        let peers: Vec<_> = flows.iter().map(|flow| flow.peer).collect();
        assert_eq!(peers, [old4.local_addr().unwrap(), old6.local_addr().unwrap()]);
        assert!(flows.iter().all(|f| f.door == door && f.local.port() == 7600 && !f.expires.is_zero()));
        assert!(matches!(gate.apply(&shut([door])).unwrap(), Applied::Changed { .. }));
        let (new4, new6) = (client("127.0.0.1:7600"), client("[::1]:7600"));
        for _ in 0..3 {
            assert!(v4.hears(&old4, b"a") && v6.hears(&old6, b"b"));
            assert!(!v4.hears(&new4, b"c") && !v6.hears(&new6, b"d"));
        }
        let seen = gate.seen().unwrap().unwrap();
        assert_eq!((seen.flows.len(), seen.refused[&door], seen.altered), (2, 6, None));
        // Other UDP is not looked at.
        let other = Server::new("127.0.0.1:7601");
        assert!(other.hears(&client("127.0.0.1:7601"), b"x"));
        assert!(gate.apply(&learning([tcp(Reach::Any, 1)], HOUR)).is_err());
    });
}

#[test]
fn flows_outlive_a_rebuild_and_a_flush() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        let server = Server::new("127.0.0.1:7600");
        let old = client("127.0.0.1:7600");
        let door = udp(addr("127.0.0.1"), 7600);
        let mut ours = gate();
        ours.apply(&learning([door], HOUR)).unwrap();
        assert!(server.hears(&old, b"a"));
        ours.apply(&shut([door])).unwrap();
        // Altered: another gate finds them in the table itself.
        run("nft flush chain inet gatetest input");
        assert!(matches!(gate().apply(&shut([door])).unwrap(), Applied::Built { altered: Some(_) }));
        assert!(server.hears(&old, b"b") && !server.hears(&client("127.0.0.1:7600"), b"c"));
        // Gone: this gate remembers what it has seen.
        assert_eq!(ours.seen().unwrap().unwrap().flows.len(), 1);
        run("nft flush ruleset");
        assert_eq!(ours.apply(&shut([door])).unwrap(), Applied::Built { altered: None });
        assert!(server.hears(&old, b"d") && !server.hears(&client("127.0.0.1:7600"), b"e"));
    });
}

/// The service speaks first to a partner of whom nothing is known (any more): the answer is no newcomer's.
#[test]
fn whom_the_service_speaks_to_is_a_partner() {
    in_new_netns(|| {
        let (v4, v6) = (Server::new("127.0.0.1:7600"), Server::new("[::1]:7600"));
        let spoken_to = |server: &Server, client: &UdpSocket| {
            server.0.send_to(b"hello", client.local_addr().unwrap()).unwrap();
        };
        for doors in [vec![udp(Reach::Any, 7600)], vec![udp(addr("127.0.0.1"), 7600), udp(addr("::1"), 7600)]] {
            let (old4, old6) = (client("127.0.0.1:7600"), client("[::1]:7600"));
            let mut gate = gate();
            gate.apply(&learning(doors.clone(), HOUR)).unwrap();
            spoken_to(&v4, &old4);
            spoken_to(&v6, &old6);
            gate.apply(&shut(doors.clone())).unwrap();
            let (late4, late6) = (client("127.0.0.1:7600"), client("[::1]:7600"));
            for _ in 0..2 {
                assert!(v4.hears(&old4, b"a") && v6.hears(&old6, b"b"));
                assert!(!v4.hears(&late4, b"c") && !v6.hears(&late6, b"d"));
            }
            spoken_to(&v4, &late4);
            spoken_to(&v6, &late6);
            assert!(v4.hears(&late4, b"e") && v6.hears(&late6, b"f"));
            let seen = gate.seen().unwrap().unwrap();
            assert_eq!((seen.flows.len(), seen.altered, &seen.rules), (4, None, &shut(doors.clone())));
            // What goes out is no refusal.
            assert_eq!(seen.refused.values().sum::<u64>(), 4);
            gate.apply(&Rules::default()).unwrap();
        }
    });
}

#[test]
fn not_everybody_spoken_to_is_learnt() {
    in_new_netns(|| {
        let others = Server::new("127.0.0.2:7600");
        let mine = Server::new("127.0.0.1:7600");
        let quic = Server::new("127.0.0.1:4433");
        let door = udp(Reach::Any4, 7600);
        let quic_door = Door { proto: Proto::Quic, reach: Reach::Any4, port: 4433 };
        let mut rules = shut([door, quic_door]);
        rules.open.insert(("127.0.0.2".parse().unwrap(), 7600));
        rules.except.insert(Except { from: ("127.0.0.9".parse().unwrap(), 32), door });
        let mut gate = gate();
        gate.apply(&rules).unwrap();
        let tester = UdpSocket::bind("127.0.0.9:0").unwrap();
        tester.connect("127.0.0.1:7600").unwrap();
        mine.0.send_to(b"a", tester.local_addr().unwrap()).unwrap();
        others.0.send_to(b"b", client("127.0.0.2:7600").local_addr().unwrap()).unwrap();
        let quic_client = client("127.0.0.1:4433");
        quic.0.send_to(b"c", quic_client.local_addr().unwrap()).unwrap();
        gate.seen().unwrap();
        assert_eq!(gate.flows.0, Vec::<Vec<u8>>::new());
        assert!(mine.hears(&tester, b"d"));
        assert!(!quic.hears(&quic_client, &[&[0xc3, 0, 0, 0, 1][..], &[7; 1195]].concat()));
    });
}

#[test]
fn exceptions_and_listeners_of_others() {
    in_new_netns(|| {
        let _all = Server::new("127.0.0.2:7600");
        let mine = Server::new("127.0.0.1:7600");
        let mut rules = shut([udp(Reach::Any4, 7600)]);
        rules.open.insert(("127.0.0.2".parse().unwrap(), 7600));
        let mut gate = gate();
        gate.apply(&rules).unwrap();
        assert!(_all.hears(&client("127.0.0.2:7600"), b"a"));
        assert!(!mine.hears(&client("127.0.0.1:7600"), b"b"));
        let from = ("127.0.0.0".parse().unwrap(), 8);
        // Of the same port, but TCP: not this one.
        rules.except.insert(Except { from, door: tcp(Reach::Any4, 7600) });
        gate.apply(&rules).unwrap();
        assert!(!mine.hears(&client("127.0.0.1:7600"), b"c"));
        rules.except.insert(Except { from, door: udp(Reach::Any4, 7600) });
        gate.apply(&rules).unwrap();
        assert!(mine.hears(&client("127.0.0.1:7600"), b"d"));
        assert_eq!(gate.seen().unwrap().unwrap().rules, rules);
    });
}

#[test]
fn of_quic_only_initial_packets_are_refused() {
    in_new_netns(|| {
        let server = Server::new("[::]:4433");
        let packet = |first: u8, version: u32| [&[first], &version.to_be_bytes()[..], &[7; 1195]].concat();
        let mut gate = gate();
        for reach in [Reach::Any, addr("127.0.0.1")] {
            let door = Door { proto: Proto::Quic, reach, port: 4433 };
            gate.apply(&shut([door])).unwrap();
            let client = client("127.0.0.1:4433");
            let refused = [packet(0xc3, 1), packet(0x80, 1), packet(0xd1, 0x6b33_43cf), packet(0x93, 0x6b33_43cf)];
            for packet in &refused {
                assert!(!server.hears(&client, packet), "{:x?}", &packet[..5]);
            }
            let passing = [
                packet(0x40, 1),           // short header
                packet(0x43, 0),           // of any content
                packet(0xe1, 1),           // Handshake, version 1
                packet(0xd1, 1),           // 0-RTT, version 1
                packet(0xc1, 0x6b33_43cf), // Retry, version 2
                packet(0xc3, 0x0a0a_0a0a), // version that is negotiated first
                b"x".to_vec(),
                Vec::new(),
            ];
            for packet in &passing {
                assert!(server.hears(&client, packet), "{:x?}", packet.get(..5));
            }
            assert_eq!(gate.seen().unwrap().unwrap().refused[&door], 4);
        }
    });
}
