use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::closings::{Closed, Closings, Drained};
use crate::testnet::{heavy, in_new_netns, mptcp_connect, mptcp_listener, run, skipped};

fn rows(query: &Query) -> Vec<Row> {
    let mut rows = Vec::new();
    let count = dump(query, &mut |row| rows.push(*row)).unwrap();
    assert_eq!(count, rows.len() as u64);
    rows
}

fn at(ports: &[u16]) -> Query {
    Query { ports: ports.to_vec(), ..Query::default() }
}

/// As many descriptors as we may have. False: not the thousands that are needed.
#[expect(unsafe_code, reason = "setrlimit has no safe form in std")]
fn many_files() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a live value.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    if limit.rlim_cur < 10_000 {
        skipped("fewer than 10,000 descriptors");
    }
    limit.rlim_cur >= 10_000
}

fn pairs(listener: &TcpListener, to: &str, count: usize) -> Vec<(TcpStream, TcpStream)> {
    (0..count).map(|_| (TcpStream::connect(to).unwrap(), listener.accept().unwrap().0)).collect()
}

#[test]
fn sessions_are_found_by_local_port() {
    in_new_netns(|| {
        let dual = TcpListener::bind("[::]:7000").unwrap();
        let v4 = TcpListener::bind("127.0.0.1:7001").unwrap();
        let third = TcpListener::bind("127.0.0.1:7002").unwrap();
        let _a = pairs(&dual, "127.0.0.1:7000", 3);
        let _b = pairs(&dual, "[::1]:7000", 2);
        let _c = pairs(&v4, "127.0.0.1:7001", 4);
        let _d = pairs(&third, "127.0.0.1:7002", 5);
        assert_eq!(rows(&at(&[7000])).len(), 5);
        assert_eq!(rows(&at(&[7000, 7001])).len(), 9);
        assert_eq!(rows(&at(&[7002, 7000, 7001, 7000])).len(), 14);
        assert_eq!(rows(&at(&[1, 7002])).len(), 5);
        assert_eq!(rows(&at(&(6000..7002).collect::<Vec<_>>())).len(), 9);
        assert_eq!(rows(&at(&(6940..7002).collect::<Vec<_>>())).len(), 9);
        assert_eq!(rows(&at(&[])).len(), 28);
        assert_eq!(rows(&Query { family: Family::V4, ..at(&[7000, 7001]) }).len(), 4);
        assert_eq!(rows(&Query { family: Family::V6, ..at(&[7000, 7001]) }).len(), 5);
        assert_eq!(rows(&at(&[9])).len(), 0);
        // IPv4 clients of a dual-stack listener are IPv4, with the peer's real address.
        let mapped = rows(&at(&[7000]));
        assert_eq!(mapped.iter().filter(|row| row.local.is_ipv4() && row.peer.is_ipv4()).count(), 3);
        assert!(mapped.iter().all(|row| row.inode != 0 && row.state == State::Established && row.info.is_none()));
        assert!(mapped.iter().all(|row| row.cgroup.is_some()));
    });
}

#[test]
fn details_of_tcp() {
    in_new_netns(|| {
        let listener = TcpListener::bind("127.0.0.1:7000").unwrap();
        let (mut client, _server) = pairs(&listener, "127.0.0.1:7000", 1).remove(0);
        client.write_all(&[7; 1000]).unwrap();
        let row = rows(&Query { info: true, ..at(&[7000]) })[0];
        assert_eq!(row.receive_queue, 1000);
        let info = row.info.unwrap();
        assert_eq!(info.bytes_received, 1000);
        assert!(info.rtt_us > 0 && info.rto_us > 0);
        assert_eq!(row.peer, client.local_addr().unwrap());
        assert_eq!(TcpInfo::parse(&[]), TcpInfo::default());
        assert_eq!(TcpInfo::parse(&[1; 50]).bytes_received, 0);
    });
}

#[test]
fn not_accepted_yet_counts_and_has_no_inode() {
    in_new_netns(|| {
        let _listener = TcpListener::bind("[::]:7000").unwrap();
        let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect("127.0.0.1:7000").unwrap()).collect();
        let rows = rows(&at(&[7000]));
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.inode == 0 && row.state == State::Established));
        let listener = listeners().unwrap()[0];
        assert_eq!((listener.receive_queue, listener.send_queue, listener.v6only), (3, 128, Some(false)));
    });
}

#[test]
fn half_open_ones_count() {
    in_new_netns(|| {
        if std::process::Command::new("nft").arg("--version").output().is_err() {
            return skipped("no nft program");
        }
        let _listener = TcpListener::bind("[::]:7000").unwrap();
        run("nft add table inet x; nft 'add chain inet x i { type filter hook input priority 0; }'
            nft add rule inet x i tcp dport 7000 tcp flags '&' '(syn|ack)' == ack drop");
        let _clients: Vec<_> = (0..4).map(|_| TcpStream::connect("127.0.0.1:7000").unwrap()).collect();
        let _v6 = TcpStream::connect("[::1]:7000").unwrap();
        for query in [at(&[7000]), at(&[7000, 7001]), Query { states: StateSet::HALF_OPEN, ..at(&[7000]) }] {
            let rows = rows(&query);
            assert_eq!(rows.len(), 5);
            assert!(rows.iter().all(|row| row.state == State::SynReceived && row.inode == 0 && row.cgroup.is_none()));
            assert_eq!(rows.iter().filter(|row| row.local.is_ipv4()).count(), 4);
        }
    });
}

#[test]
fn listeners_of_both_protocols() {
    in_new_netns(|| {
        let _tcp = [TcpListener::bind("[::]:7000").unwrap(), TcpListener::bind("127.0.0.1:7001").unwrap()];
        let _udp = [UdpSocket::bind("[::1]:7002").unwrap(), UdpSocket::bind("0.0.0.0:7003").unwrap()];
        let client = UdpSocket::bind("127.0.0.1:7004").unwrap();
        client.connect("127.0.0.1:7003").unwrap();
        let found: BTreeMap<u16, (u8, String)> =
            listeners().unwrap().iter().map(|r| (r.local.port(), (r.protocol(), r.local.ip().to_string()))).collect();
        let expected = [(7000, (6, "::")), (7001, (6, "127.0.0.1")), (7002, (17, "::1")), (7003, (17, "0.0.0.0"))];
        assert_eq!(found, expected.map(|(port, (protocol, ip))| (port, (protocol, ip.to_owned()))).into());
    });
}

#[test]
fn only_the_very_connection_is_ended() {
    in_new_netns(|| {
        let listener = TcpListener::bind("[::]:7000").unwrap();
        let mut open = pairs(&listener, "127.0.0.1:7000", 2);
        open.extend(pairs(&listener, "[::1]:7000", 1));
        assert!(destroy_support().unwrap());
        let all = rows(&at(&[7000]));
        let mut wrong = all[0].id;
        wrong.raw[40] ^= 1;
        assert_eq!(destroy(&wrong).unwrap(), Ended::Gone);
        assert_eq!(rows(&at(&[7000])).len(), 3);
        for row in &all {
            assert_eq!(destroy(&row.id).unwrap(), Ended::Destroyed);
            assert_eq!(destroy(&row.id).unwrap(), Ended::Gone);
        }
        for (client, server) in &mut open {
            assert_eq!(client.take_error().unwrap().unwrap().kind(), std::io::ErrorKind::ConnectionReset);
            assert_eq!(server.take_error().unwrap().unwrap().kind(), std::io::ErrorKind::ConnectionAborted);
        }
        let listening = listeners().unwrap()[0];
        assert!(matches!(destroy(&listening.id), Err(Error::NotASession { state: State::Listen, .. })));
        let ends = destroy_many([all[0].id, listening.id]).unwrap();
        assert_eq!(ends, Ends { destroyed: 0, gone: 1, refused: 1 });
        assert_eq!(listeners().unwrap().len(), 1);
    });
}

#[test]
fn closings_are_exact_for_thousands() {
    in_new_netns(|| {
        const EACH: usize = 1500;
        let _turn = heavy();
        if !many_files() {
            return;
        }
        let listener = TcpListener::bind("[::]:7000").unwrap();
        let mut closings = Closings::open().unwrap();
        let mut killed = pairs(&listener, "127.0.0.1:7000", EACH);
        killed.extend(pairs(&listener, "[::1]:7000", EACH));
        let mut known: BTreeMap<u64, Row> = rows(&at(&[7000])).into_iter().map(|row| (row.cookie, row)).collect();
        assert_eq!(known.len(), 2 * EACH);
        let ids: Vec<RowId> = known.values().step_by(2).map(|row| row.id).collect();
        let ends = destroy_many(ids.iter().copied()).unwrap();
        assert_eq!(ends, Ends { destroyed: ids.len() as u64, gone: 0, refused: 0 });
        assert_eq!(destroy_many(ids.iter().copied()).unwrap().gone, ids.len() as u64);
        drop(killed);
        // The kernel tells from a work queue: wait until it has told all, or give up.
        let mut closed = |closed: &Closed| {
            if let Some(row) = known.remove(&closed.cookie) {
                assert_eq!((row.local, row.peer), (closed.local, closed.peer));
            }
            known.len()
        };
        let mut left = usize::MAX;
        for _ in 0..500 {
            assert_eq!(closings.try_drain(&mut |event| left = closed(event)).unwrap(), Drained::Whole);
            if left == 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(left, 0);
    });
}

#[test]
fn lost_closings_are_told() {
    in_new_netns(|| {
        let _turn = heavy();
        if !many_files() {
            return;
        }
        let listener = TcpListener::bind("[::]:7000").unwrap();
        let mut closings = Closings::open().unwrap();
        closings.shrink();
        drop(pairs(&listener, "127.0.0.1:7000", 2000));
        let mut told = Drained::Whole;
        for _ in 0..500 {
            told = closings.try_drain(&mut |_| {}).unwrap();
            if told == Drained::Overflow {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(told, Drained::Overflow);
    });
}

#[test]
fn mptcp_connections_are_listed_once_and_their_listeners_are_told_apart() {
    in_new_netns(|| {
        let Some(both) = mptcp_listener("127.0.0.1:7000") else { return };
        let plain = TcpListener::bind("127.0.0.1:7001").unwrap();
        let mut client = mptcp_connect("127.0.0.1:7000");
        let server = both.accept().unwrap().0;
        let _plain = [pairs(&both, "127.0.0.1:7000", 1), pairs(&plain, "127.0.0.1:7001", 1)];
        client.write_all(b"x").unwrap();
        let tells = |rows: Vec<Row>| rows.iter().map(|row| (row.local.port(), row.mptcp)).collect::<BTreeMap<_, _>>();
        assert_eq!(tells(listeners().unwrap()), [(7000, true), (7001, false)].into());
        assert_eq!(rows(&Query { info: true, ..at(&[7000]) }).iter().filter(|row| row.mptcp).count(), 1);
        assert_eq!(tells(rows(&Query { info: true, ..at(&[7001]) })), [(7001, false)].into());
        let mptcp = Query { proto: SockProto::Mptcp, info: true, ..at(&[7000]) };
        let connections = match dump(&mptcp, &mut |_| {}) {
            Err(error) => return skipped(&format!("no MPTCP listing: {error}")),
            Ok(_) => rows(&mptcp),
        };
        assert_eq!(connections.len(), 1);
        assert!(connections[0].token.is_some() && connections[0].info.is_none());
        assert_eq!(connections[0].peer, client.local_addr().unwrap());
        drop(server);
    });
}

#[test]
fn filter_program_has_the_kernel_s_form() {
    let code = bytecode_of(&[80, 443]);
    assert_eq!(code, [(11, 8, 12), (0, 0, 80), (1, 4, 12), (11, 8, 12), (0, 0, 443)]);
}

fn bytecode_of(ports: &[u16]) -> Vec<(u8, u8, u16)> {
    let code = query::bytecode(ports);
    code.chunks(4).map(|op| (op[0], op[1], u16::from_ne_bytes([op[2], op[3]]))).collect()
}
