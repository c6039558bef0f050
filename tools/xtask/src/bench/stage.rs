//! Where it is played: two network namespaces joined by a cable, and the processes in them.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ebb_kernel::netns::{Links, Ns, Prefix, die_with_parent, in_ns};

/// Addresses of the server, one for each process of clients: beyond half of the ports to one address the kernel searches
/// long for a free one.
const ADDRESSES: u8 = 32;
/// Connections that may wait for `accept()`.
const QUEUE: i32 = 4096;

/// A server's namespace and one for its clients.
#[derive(Debug)]
pub struct Stage {
    /// Where services, gate and census are.
    pub server: Ns,
    /// Where the clients are.
    pub clients: Ns,
}

impl Stage {
    /// Builds both.
    pub fn build() -> Result<Self, String> {
        let made = || {
            let (server, clients) = (Ns::fresh()?, Ns::fresh()?);
            let mut here = Links::inside(&server)?;
            let mut there = Links::inside(&clients)?;
            here.add_cable("eth0", &clients, "eth0")?;
            for number in 1..=ADDRESSES {
                plug(&mut here, Self::address(number))?;
            }
            plug(&mut there, IpAddr::from([10, 77, 1, 1]))?;
            for links in [&mut here, &mut there] {
                for name in ["lo", "eth0"] {
                    let index = links.index_of(name)?;
                    links.set_up(index)?;
                }
            }
            Ok(Self { server, clients })
        };
        let stage = made().map_err(|error: ebb_kernel::netns::Error| format!("build the namespaces: {error}"))?;
        for ns in [&stage.server, &stage.clients] {
            within(ns, settings)??;
        }
        Ok(stage)
    }

    /// An address of the server, from 1.
    pub fn address(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1 + (number - 1) % ADDRESSES))
    }

    /// A listener at every address of the server.
    pub fn listen(&self, port: u16) -> Result<TcpListener, String> {
        let bind = || {
            let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))?;
            // Again, with a longer queue: at std's 128 a client that finds it full waits a second.
            rustix::net::listen(&listener, QUEUE)?;
            Ok(listener)
        };
        within(&self.server, bind)?.map_err(|error: std::io::Error| format!("listen on port {port}: {error}"))
    }
}

fn plug(links: &mut Links, address: IpAddr) -> Result<(), ebb_kernel::netns::Error> {
    let index = links.index_of("eth0")?;
    if let Some(prefix) = Prefix::new(address, 16) {
        links.add_address(index, prefix)?;
    }
    Ok(())
}

/// Room for many connections: nearly all ports for clients, and none lost to a minute of `TIME_WAIT`.
fn settings() -> Result<(), String> {
    for (name, value) in [
        ("ipv4/ip_local_port_range", "10000 65001"),
        ("ipv4/tcp_max_tw_buckets", "0"),
        ("ipv4/tcp_max_syn_backlog", "65536"),
        ("core/somaxconn", &QUEUE.to_string()),
    ] {
        let path = format!("/proc/sys/net/{name}");
        std::fs::write(&path, value).map_err(|error| format!("write {path}: {error}"))?;
    }
    Ok(())
}

/// Does something inside a namespace.
pub fn within<T: Send>(ns: &Ns, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    in_ns(ns, work).map_err(|error| error.to_string())
}

/// A process of ours that plays a part (see [`super::crew`]); ended when it is dropped.
#[derive(Debug)]
pub struct Player {
    child: Child,
    tell: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
}

impl Player {
    /// A server: its listener is its standard input.
    pub fn server(ns: &Ns, arguments: &[&str], listener: &TcpListener) -> Result<Self, String> {
        Self::server_by(own_program()?, ns, arguments, listener)
    }

    /// As [`server`](Self::server), by another command that ends in us.
    pub fn server_by(program: Command, ns: &Ns, arguments: &[&str], listener: &TcpListener) -> Result<Self, String> {
        let listener = listener.try_clone().map_err(|error| format!("share a listener: {error}"))?;
        Self::start(ns, program, arguments, Stdio::from(OwnedFd::from(listener)))
    }

    /// A client: it is told what to do.
    pub fn client(ns: &Ns, arguments: &[&str]) -> Result<Self, String> {
        Self::client_by(own_program()?, ns, arguments)
    }

    /// As [`client`](Self::client), by another command that ends in us.
    pub fn client_by(program: Command, ns: &Ns, arguments: &[&str]) -> Result<Self, String> {
        Self::start(ns, program, arguments, Stdio::piped())
    }

    fn start(ns: &Ns, mut program: Command, arguments: &[&str], input: Stdio) -> Result<Self, String> {
        program.arg("bench-part").args(arguments).stdin(input).stdout(Stdio::piped());
        let child = ns.command(die_with_parent(&mut program)).spawn();
        let mut child = child.map_err(|error| format!("start a {arguments:?}: {error}"))?;
        let hear = child.stdout.take().map(BufReader::new).ok_or("hear a process of ours")?;
        Ok(Self { tell: child.stdin.take(), hear, child })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it a line.
    pub fn tell(&mut self, line: &str) -> Result<(), String> {
        let tell = self.tell.as_mut().ok_or("speak to a server")?;
        writeln!(tell, "{line}").map_err(|error| format!("speak to a process of ours: {error}"))
    }

    /// The next line it says.
    pub fn hear(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.hear.read_line(&mut line) {
            Ok(0) => Err(String::from("hear a process of ours: it has ended")),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(format!("hear a process of ours: {error}")),
        }
    }

    /// The numbers of the next line it says.
    pub fn numbers<const N: usize>(&mut self) -> Result<[f64; N], String> {
        let line = self.hear()?;
        let numbers: Vec<f64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
        numbers.try_into().map_err(|_| format!("understand a process of ours: {line}"))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn own_program() -> Result<Command, String> {
    std::env::current_exe().map(Command::new).map_err(|error| format!("find ourselves: {error}"))
}

/// Us, on one CPU alone.
pub fn pinned(cpu: u32) -> Result<Command, String> {
    let mut taskset = Command::new("taskset");
    taskset.arg("-c").arg(cpu.to_string()).arg(own_program()?.get_program());
    Ok(taskset)
}
