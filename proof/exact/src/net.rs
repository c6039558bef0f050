//! Two namespaces and a cable.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ebb_kernel::netns::{Links, Ns, Prefix, in_ns};

use crate::must;

/// Server addresses of each family. Clients have 64,000 ports towards each.
const ADDRESSES: u16 = 8;
/// A cable is up in less than a second.
const CABLE: Duration = Duration::from_secs(20);
/// The client's.
pub const CLIENT4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));
/// The client's.
pub const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, 1));

/// One of the server's 8 IPv4 addresses, from 1.
#[must_use]
pub const fn server4(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, number))
}

/// One of the server's 8 IPv6 addresses, from 1.
#[must_use]
pub const fn server6(number: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number as u16))
}

/// A server and a client, each a network namespace.
#[derive(Debug)]
pub struct Net {
    /// Where the service and ebb run.
    pub server: Ns,
    /// Where clients run.
    pub client: Ns,
}

/// Says loudly that a test did not run; fails where it must.
#[expect(clippy::print_stdout, reason = "a test that did not run must be seen")]
pub fn skipped(why: &str) {
    println!("SKIPPED: {why}");
    assert!(std::env::var("EBB_TEST_MUST_RUN").as_deref() != Ok("1"), "must run, but: {why}");
}

/// Says what a test counted, with its name.
#[expect(clippy::print_stdout, reason = "the numbers are what these tests are for")]
pub fn told(text: &str) {
    println!("{}: {text}", std::thread::current().name().unwrap_or_default());
}

impl Net {
    /// Makes both; none, said loudly, where that is not allowed.
    #[must_use]
    pub fn new() -> Option<Self> {
        let (server, client) = match (Ns::fresh(), Ns::fresh()) {
            (Ok(server), Ok(client)) => (server, client),
            (Err(error), _) | (_, Err(error)) => {
                skipped(&format!("no network namespaces of our own: failed to {error}"));
                return None;
            }
        };
        must("lay a cable", Links::inside(&server).and_then(|mut links| links.add_cable("eth0", &client, "eth0")));
        let servers4 = (1..=ADDRESSES as u8).map(|number| (server4(number), 16));
        let servers6 = (1..=ADDRESSES as u8).map(|number| (server6(number), 64));
        raise(&server, servers4.chain(servers6));
        raise(&client, [(CLIENT4, 16), (CLIENT6, 64)]);
        let net = Self { server, client };
        net.sysctl(&net.client, "net/ipv4/ip_local_port_range", "1024 65535");
        net.sysctl(&net.server, "net/core/somaxconn", "65535");
        net.sysctl(&net.server, "net/ipv4/tcp_max_syn_backlog", "65535");
        net.wait_for_the_cable();
        Some(net)
    }

    /// IPv6 goes by a cable only when the kernel has noticed, in its own time, that both ends are up.
    fn wait_for_the_cable(&self) {
        let began = Instant::now();
        let ends = [(&self.client, server6(8)), (&self.server, CLIENT6), (&self.client, server4(8))];
        for (from, to) in ends {
            let nobody = || TcpStream::connect_timeout(&(to, 9).into(), Duration::from_secs(1)).err();
            while must("enter a namespace", in_ns(from, nobody))
                .is_none_or(|e| e.kind() != ErrorKind::ConnectionRefused)
            {
                assert!(began.elapsed() < CABLE, "no way to {to} within {CABLE:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Sets a kernel setting in one namespace.
    pub fn sysctl(&self, ns: &Ns, name: &str, value: &str) {
        let write = || std::fs::write(format!("/proc/sys/{name}"), value);
        must(&format!("set {name}"), must("enter a namespace", in_ns(ns, write)));
    }

    /// Runs a command in a namespace to its end; its output. The test ends if it fails.
    #[must_use]
    pub fn run(&self, ns: &Ns, words: &[&str]) -> String {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        let output = must(words[0], ns.command(&mut command).output());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs nft in a namespace with this script.
    pub fn nft(&self, ns: &Ns, script: &str) {
        let _ = self.run(ns, &["nft", script]);
    }

    /// The client's acknowledgements and data to this IPv4 address and port are dropped from now on: its handshakes do not end, and
    /// it does not know.
    pub fn drop_acks(&self, to: SocketAddr) {
        let (ip, port) = (to.ip(), to.port());
        self.nft(
            &self.client,
            &format!(
                "add table inet hurdle; add chain inet hurdle out {{ type filter hook output priority 0; }}; \
                 add rule inet hurdle out ip daddr {ip} tcp dport {port} tcp flags & (fin|syn|rst|ack) == ack drop"
            ),
        );
    }

    /// They pass again.
    pub fn pass_acks(&self) {
        self.nft(&self.client, "delete table inet hurdle");
    }
}

fn raise(ns: &Ns, addresses: impl IntoIterator<Item = (IpAddr, u8)>) {
    let raised = Links::inside(ns).and_then(|mut links| {
        let (loopback, eth0) = (links.index_of("lo")?, links.index_of("eth0")?);
        links.set_up(loopback)?;
        for (address, length) in addresses {
            // A length that the family has not would be a fault of ours.
            let Some(prefix) = Prefix::new(address, length) else { continue };
            links.add_address(eth0, prefix)?;
        }
        links.set_up(eth0)
    });
    must("raise the cable", raised);
}
