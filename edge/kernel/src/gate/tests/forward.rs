//! Doors behind this host: a container-like namespace with a published port.

use std::net::{TcpListener, UdpSocket};

use super::*;
use crate::gate::Except;
use crate::testnet::in_new_netns;

/// Shell, run on the host: a container at 10.99.0.2 whose port 80 is published as 10.77.0.1:8080, a client at 10.88.0.2.
const WORLD: &str = "
join() { # name, thread, our address, its address
    ip link add $1 type veth peer name inner netns /proc/$2/ns/net
    ip addr add $3/24 dev $1
    ip link set $1 up
    nsenter --net=/proc/$2/ns/net sh -ec \"ip addr add $4/24 dev inner; ip link set inner up; ip link set lo up
        ip route add default via $3\"
}
join container0 $CONTAINER 10.99.0.1 10.99.0.2
join lan0 $CLIENT 10.88.0.1 10.88.0.2
ip addr add 10.77.0.1/32 dev lo
echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f - <<'NFT'
table ip nat {
    chain pre { type nat hook prerouting priority -100; ip daddr 10.77.0.1 tcp dport 8080 dnat to 10.99.0.2:80; }
    chain out { type nat hook output priority -100; ip daddr 10.77.0.1 tcp dport 8080 dnat to 10.99.0.2:80; }
}
NFT
";

type Task = Box<dyn FnOnce() + Send>;

/// A thread that lives in a namespace of its own and does there what it is told.
struct Host {
    tasks: std::sync::mpsc::Sender<Task>,
    thread: u32,
}

impl Host {
    #[expect(unsafe_code, reason = "unshare has no safe form in std")]
    fn new() -> Self {
        let (tasks, todo) = std::sync::mpsc::channel::<Task>();
        let (ready, thread) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: plain system calls; they concern only this thread.
            let id = unsafe {
                assert_eq!(libc::unshare(libc::CLONE_NEWNET), 0);
                libc::gettid()
            };
            ready.send(u32::try_from(id).unwrap()).unwrap();
            todo.iter().for_each(|task| task());
        });
        Self { tasks, thread: thread.recv().unwrap() }
    }

    fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = std::sync::mpsc::channel();
        self.tasks.send(Box::new(move || _ = done.send(task()))).unwrap();
        result.recv().unwrap()
    }
}

#[test]
fn published_port_of_a_container_is_shut_and_its_connections_live() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        let (container, lan) = (Host::new(), Host::new());
        run(&format!("CONTAINER={} CLIENT={}\n{WORLD}", container.thread, lan.thread));
        let listener = container.run(|| TcpListener::bind("10.99.0.2:80").unwrap());
        let mut local = pair(&listener, "10.77.0.1:8080");
        let client = lan.run(|| connect("10.77.0.1:8080").unwrap());
        let mut routed = (client, listener.accept().unwrap().0);
        let from_lan = |to: &'static str| lan.run(move || connect(to).map(drop).map_err(|error| error.kind()));
        let mut gate = gate();

        // The host's own port 80 is another door.
        gate.apply(&shut([tcp(Reach::Any, 80), tcp(addr("10.99.0.2"), 80)])).unwrap();
        assert_eq!(from_lan("10.77.0.1:8080"), Ok(()));

        let door = tcp(Reach::Forward("10.99.0.2".parse().unwrap()), 80);
        let rules = Rules { probe_mark: 0xebb, ..shut([door]) };
        gate.apply(&rules).unwrap();
        assert_eq!(from_lan("10.77.0.1:8080"), Err(ErrorKind::ConnectionRefused));
        assert_eq!(from_lan("10.99.0.2:80"), Err(ErrorKind::ConnectionRefused));
        assert_refused("10.77.0.1:8080");
        assert_refused("10.99.0.2:80");
        assert_alive(&mut local);
        assert_alive(&mut routed);
        let seen = gate.seen().unwrap().unwrap();
        assert_eq!((seen.refused[&door], &seen.rules, seen.altered), (4, &rules, None));

        let from = ("10.88.0.0".parse().unwrap(), 24);
        gate.apply(&Rules { except: [Except { from, door }].into(), ..rules }).unwrap();
        assert_eq!(from_lan("10.77.0.1:8080"), Ok(()));
        assert_refused("10.77.0.1:8080");
        gate.apply(&Rules::default()).unwrap();
        assert_open("10.77.0.1:8080");
    });
}

#[test]
fn whom_a_container_speaks_to_is_a_partner() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        let (container, lan) = (Host::new(), Host::new());
        run(&format!("CONTAINER={} CLIENT={}\n{WORLD}", container.thread, lan.thread));
        let bind = |to: &'static str| {
            let socket = UdpSocket::bind(to).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        };
        let server = container.run(move || bind("10.99.0.2:80"));
        let clients = [bind("10.99.0.1:0"), lan.run(move || bind("10.88.0.2:0"))];
        let door = udp(Reach::Forward("10.99.0.2".parse().unwrap()), 80);
        let mut gate = gate();
        gate.apply(&shut([door])).unwrap();
        let mut buffer = [0; 9];
        for client in &clients {
            // From here an error at once; from elsewhere an ICMP message, of which a socket without peer does not hear.
            let _ = client.send_to(b"refused", "10.99.0.2:80");
            server.send_to(b"hello", client.local_addr().unwrap()).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 5);
            client.send_to(b"passes", "10.99.0.2:80").unwrap();
            assert_eq!(server.recv(&mut buffer).unwrap(), 6);
        }
        let seen = gate.seen().unwrap().unwrap();
        assert_eq!((seen.flows.len(), seen.refused[&door], seen.altered), (2, 2, None));
        assert!(seen.flows.iter().all(|flow| flow.door == door && flow.local == "10.99.0.2:80".parse().unwrap()));
    });
}
