//! The agent against the kernel, in network namespaces of its own: containers behind the server, and MPTCP.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ebb_agent::Place;
use ebb_kernel::diag::{self, Query};
use ebb_kernel::netns::{Links, Ns, Prefix, die_with_parent, in_ns};
use ebb_wire::v1::{
    Choose, DrainRequest, EndRequest, Frame, HoldRequest, Outcome, Request, ResumeRequest, Service, Then, When, Which,
    Wish,
};

/// Bounds every wait; nothing takes that long.
const LONG: Duration = Duration::from_secs(20);

/// Gives back what it is sent. First word: the protocol's number, 0 or 262 (MPTCP).
const ECHO: &str = "
import socket, sys, threading
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[1]))
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[2], int(sys.argv[3]))); server.listen()
print('ready', flush=True)
def echo(client):
    try:
        while data := client.recv(100): client.sendall(data)
    except OSError: pass
    client.close()
while True: threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
";

/// Publishes port 80 of the container as 10.77.0.1:8080.
const PUBLISH: &str = "
echo 1 > /proc/sys/net/ipv4/ip_forward
ip addr add 10.77.0.1/32 dev lo
nft -f - <<'EOF'
table ip nat {
    chain pre { type nat hook prerouting priority -100; ip daddr 10.77.0.1 tcp dport 8080 dnat to 10.99.0.2:80; }
    chain out { type nat hook output priority -100; ip daddr 10.77.0.1 tcp dport 8080 dnat to 10.99.0.2:80; }
}
EOF";

fn skipped(why: &str) {
    println!("SKIPPED: {why}");
    assert!(std::env::var("EBB_TEST_MUST_RUN").as_deref() != Ok("1"), "must run, but: {why}");
}

/// Runs a shell command in the namespace of this thread.
fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A process that is killed with its owner.
struct Server(Child);

impl Server {
    /// `None`, said loudly: not to be had here.
    fn start(ns: &Ns, words: [&str; 3]) -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", ECHO]).args(words).stdout(Stdio::piped());
        let Ok(mut child) = ns.command(die_with_parent(&mut command)).spawn() else {
            skipped("no python3");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let server = Self(child);
        if line.is_empty() {
            skipped("the server did not start: no MPTCP in this kernel?");
            return None;
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent in the namespace of this thread.
struct Agent {
    runtime: tokio::runtime::Runtime,
    client: ebb_link::Client,
    state_dir: std::path::PathBuf,
}

impl Agent {
    fn start(name: &str) -> Self {
        let state_dir = std::env::temp_dir().join(format!("ebb-agent-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&state_dir).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let place = Place { state_dir: state_dir.clone(), config: state_dir.join("ebb.toml") };
        let (client, _running) = runtime.block_on(async { ebb_agent::start(place) }).unwrap();
        Self { runtime, client, state_dir }
    }

    /// All frames of the answer; `each` sees them as they come.
    fn ask(&self, request: Request, mut each: impl FnMut(&Frame)) -> Vec<Frame> {
        self.runtime.block_on(async {
            let mut answer = self.client.ask(request).await.unwrap();
            let mut frames = Vec::new();
            while let Some(frame) = tokio::time::timeout(LONG, answer.next()).await.unwrap() {
                if frame == Frame::Done {
                    break;
                }
                each(&frame);
                frames.push(frame);
            }
            frames
        })
    }

    /// The service with a door at this address.
    fn service(&self, at: &str) -> Service {
        let at: SocketAddr = at.parse().unwrap();
        let frames = self.ask(Request::Services { count: true, daemons: false }, |_| {});
        let is_it = |service: &Service| {
            service.doors.iter().any(|door| door.address == at.ip().to_string() && door.port == at.port())
        };
        let services = || frames.iter().filter_map(|f| if let Frame::Service(one) = f { Some(one) } else { None });
        services().find(|one| is_it(one)).unwrap_or_else(|| panic!("no service at {at}: {frames:#?}")).clone()
    }

    fn hold(&self, service: &Service) {
        let request = HoldRequest { which: which(service), wish: wish(), learn_seconds: 0, dry_run: false };
        let frames = self.ask(Request::Hold(request), |_| {});
        assert!(frames.iter().any(|frame| matches!(frame, Frame::Held(report) if report.shut)), "{frames:#?}");
    }

    fn resume(&self, service: &Service) {
        let (which, requester) = (which(service), wish().requester);
        let request =
            ResumeRequest { which, requester, up_within_seconds: 10, as_is: false, all_holders: None, dry_run: false };
        let frames = self.ask(Request::Resume(request), |_| {});
        assert!(frames.iter().any(|frame| matches!(frame, Frame::Resumed(_))), "{frames:#?}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state_dir);
    }
}

fn which(service: &Service) -> Which {
    Which { services: vec![service.name.clone()], ..Which::default() }
}

fn wish() -> Wish {
    Wish {
        requester: "operator".into(),
        reason: "a test".into(),
        for_seconds: None,
        reopen: false,
        except: Vec::new(),
        unasked: true,
    }
}

fn cut(service: &Service, peer: String) -> EndRequest {
    EndRequest {
        service: service.name.clone(),
        choose: Choose::Peer(peer),
        cut: true,
        rate_per_second: None,
        over_seconds: None,
        grace_ms: 0,
        dry_run: false,
    }
}

fn drain(service: &Service) -> DrainRequest {
    DrainRequest {
        which: which(service),
        wish: wish(),
        deadline_seconds: Some(15),
        then: Then::Ask,
        stop: false,
        settle_ms: 100,
        grace_ms: 0,
        learn_seconds: 0,
        idle: When::Wait,
        active: When::Wait,
        rate_per_second: None,
        over_seconds: None,
        queue: None,
        dry_run: false,
    }
}

fn connect(from: &Ns, to: &str) -> std::io::Result<TcpStream> {
    let to = to.parse().unwrap();
    let stream = in_ns(from, || TcpStream::connect_timeout(&to, LONG)).unwrap()?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}

fn assert_refused(from: &Ns, to: &str) {
    assert_eq!(connect(from, to).map(drop).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
}

fn assert_echo(stream: &mut TcpStream) {
    let mut back = [0; 4];
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"ping");
}

/// A cable from the namespace of this thread to another, whose default route it becomes.
fn lay(name: &str, to: &Ns, here: &str, there: &str) {
    let prefix = |text: &str| text.parse::<Prefix>().unwrap();
    let mut links = Links::open().unwrap();
    let cable = links.add_cable(name, to, "eth0").unwrap();
    links.add_address(cable, prefix(here)).unwrap();
    links.set_up(cable).unwrap();
    let mut inside = Links::inside(to).unwrap();
    for own in ["lo", "eth0"] {
        let index = inside.index_of(own).unwrap();
        if own == "eth0" {
            inside.add_address(index, prefix(there)).unwrap();
        }
        inside.set_up(index).unwrap();
    }
    inside.add_route(prefix("0.0.0.0/0"), prefix(here).address()).unwrap();
}

/// A server namespace, in which `body` runs; `None`, said loudly: none to be had.
fn on_a_server(body: impl FnOnce(&Ns) + Send) {
    if Command::new("nft").arg("--version").output().is_err() {
        return skipped("no nft program");
    }
    match Ns::fresh() {
        Ok(server) => in_ns(&server, || {
            Links::open().unwrap().set_up(1).unwrap();
            body(&server);
        })
        .unwrap(),
        Err(error) => skipped(&format!("no network namespace of our own: failed to {error}")),
    }
}

#[test]
fn a_container_is_found_counted_shut_drained_and_opened() {
    on_a_server(|host| {
        let (container, lan) = (Ns::fresh().unwrap(), Ns::fresh().unwrap());
        lay("container0", &container, "10.99.0.1/24", "10.99.0.2/24");
        lay("lan0", &lan, "10.88.0.1/24", "10.88.0.2/24");
        sh(PUBLISH);
        let Some(_server) = Server::start(&container, ["0", "0.0.0.0", "80"]) else { return };
        // The host's own service at the same port is another.
        let Some(_own) = Server::start(host, ["0", "127.0.0.1", "80"]) else { return };
        let agent = Agent::start("container");
        let (found, own) = (agent.service("10.99.0.2:80"), agent.service("127.0.0.1:80"));
        assert_ne!(found.name, own.name);
        assert_eq!((found.sessions, found.doors.len(), found.doors[0].holdable), (Some(0), 1, true), "{found:#?}");

        let (mut routed, mut local) =
            (connect(&lan, "10.77.0.1:8080").unwrap(), connect(host, "10.77.0.1:8080").unwrap());
        let inside = connect(&container, "127.0.0.1:80").unwrap();
        for client in [&mut routed, &mut local] {
            assert_echo(client);
        }
        assert_eq!(agent.service("10.99.0.2:80").sessions, Some(2), "published ones; not those within the container");
        assert_eq!(agent.service("127.0.0.1:80").sessions, Some(0));

        agent.hold(&found);
        for (from, to) in [(&lan, "10.77.0.1:8080"), (&lan, "10.99.0.2:80"), (host, "10.77.0.1:8080")] {
            assert_refused(from, to);
        }
        connect(host, "127.0.0.1:80").unwrap();
        let held = agent.service("10.99.0.2:80");
        assert_eq!((held.state.as_str(), held.sessions, held.doors[0].refused), ("draining", Some(2), Some(3)));
        for client in [&mut routed, &mut local] {
            assert_echo(client);
        }

        // One ends by `ebb end`, the other by itself while a drain waits for it.
        let peer = local.local_addr().unwrap().ip().to_string();
        let frames = agent.ask(Request::End(cut(&found, peer)), |_| {});
        assert!(frames.iter().any(|frame| matches!(frame, Frame::Ended(report) if report.cut == 1)), "{frames:#?}");
        assert_eq!(local.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let mut routed = Some(routed);
        let frames = agent.ask(Request::Drain(drain(&found)), |frame| {
            if let Frame::Progress(_) = frame {
                routed.take();
            }
        });
        let report = frames.iter().find_map(|frame| if let Frame::Drained(one) = frame { Some(one) } else { None });
        let report = report.unwrap_or_else(|| panic!("{frames:#?}"));
        assert_eq!((report.outcome, report.at_start, report.by_themselves), (Outcome::Drained, 1, 1), "{report:#?}");
        assert!(report.leaks.is_empty(), "{report:#?}");

        agent.resume(&found);
        assert_echo(&mut connect(&lan, "10.77.0.1:8080").unwrap());
        drop(inside);
    });
}

#[test]
fn another_path_of_an_mptcp_connection_passes_a_shut_door() {
    on_a_server(|server| {
        sh("ip mptcp limits set subflow 2 add_addr_accepted 2 || true");
        let Some(_server) = Server::start(server, ["262", "127.0.0.1", "7000"]) else { return };
        let Some(_plain) = Server::start(server, ["0", "127.0.0.1", "7001"]) else { return };
        // A client that speaks MPTCP, and a word when it is told to.
        let client = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); client.connect(('127.0.0.1', 7000))
for _ in range(3):
    client.sendall(b'ping'); assert client.recv(4) == b'ping'
    print('ready', flush=True); sys.stdin.readline()
";
        let mut command = Command::new("python3");
        command.args(["-c", client]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = Server(die_with_parent(&mut command).spawn().unwrap());
        let mut said = BufReader::new(client.0.stdout.take().unwrap()).lines();
        let mut told = client.0.stdin.take().unwrap();
        said.next().unwrap().unwrap();
        // Only now both ends know that the other speaks MPTCP.
        told.write_all(b"\n").unwrap();
        said.next().unwrap().unwrap();
        let agent = Agent::start("mptcp");
        for at in ["127.0.0.1:7000", "127.0.0.1:7001"] {
            agent.hold(&agent.service(at));
            assert_refused(server, at);
        }
        let paths = || diag::dump(&Query { ports: vec![7000], ..Query::default() }, &mut |_| {}).unwrap();
        assert_eq!(paths(), 1);
        sh("ip mptcp endpoint add 127.0.0.2 dev lo subflow");
        let joined = (0..250).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            paths() == 2
        });
        assert!(joined, "no second path");
        told.write_all(b"\n").unwrap();
        said.next().unwrap().unwrap();
        agent.resume(&agent.service("127.0.0.1:7000"));
        connect(server, "127.0.0.1:7000").unwrap();
    });
}
