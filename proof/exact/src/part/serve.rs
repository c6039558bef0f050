//! The server.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with};

use super::{ANSWER, ECHO, LONG, ONCE, Orders, REQUEST, SILENT, pattern, say, sockets};
use crate::daemon::{Listen, ServeSpec, Served};
use crate::must;

/// Accepted in one go, unless it shall be slow.
const TOGETHER: usize = 64;

pub(super) fn run(spec: &ServeSpec) {
    if spec.workers > 1 {
        lead(spec);
    } else {
        Server::new(spec).run(spec);
    }
}

/// Starts workers, gives them every order, and adds up their answers.
fn lead(spec: &ServeSpec) {
    let one = must("write orders", serde_json::to_string(&ServeSpec { workers: 1, ..spec.clone() }));
    let own = must("find ourselves", std::env::current_exe());
    let mut workers: Vec<(Child, BufReader<std::process::ChildStdout>)> = Vec::new();
    for _ in 0..spec.workers {
        let mut command = Command::new(&own);
        command.args(["serve", &one]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = must("start a worker", ebb_kernel::netns::die_with_parent(&mut command).spawn());
        let stdout = child.stdout.take().expect("its output was piped just before");
        workers.push((child, BufReader::new(stdout)));
    }
    let sum = |workers: &mut Vec<(Child, BufReader<std::process::ChildStdout>)>| {
        let mut sum = Served::default();
        for (_, stdout) in workers {
            let mut line = String::new();
            must("hear a worker", stdout.read_line(&mut line));
            let one: Served = must("understand a worker", serde_json::from_str(&line));
            sum.accepted += one.accepted;
            sum.answered += one.answered;
            sum.broken += one.broken;
            sum.heard += one.heard;
        }
        say(&sum);
    };
    sum(&mut workers);
    let mut orders = Orders::default();
    while let Some(lines) = orders.read() {
        for line in lines {
            for (child, _) in &mut workers {
                if let Some(stdin) = &mut child.stdin {
                    must("tell a worker", writeln!(stdin, "{line}"));
                }
            }
            sum(&mut workers);
        }
    }
}

/// What a server owes to a client.
#[derive(Default)]
enum Owed {
    #[default]
    Nothing,
    Echo([u8; REQUEST], bool),
    Answer,
}

struct Conn {
    socket: OwnedFd,
    asked: [u8; REQUEST],
    got: usize,
    owed: Owed,
    sent: usize,
    writes: bool,
}

enum Source {
    Orders,
    Tcp(OwnedFd),
    Udp(OwnedFd),
    Conn(Conn),
}

/// Whether a connection goes on.
enum Next {
    Stay,
    Gone,
    Broken,
}

struct Server {
    epoll: OwnedFd,
    /// By descriptor.
    sources: Vec<Option<Source>>,
    accepts: bool,
    served: Served,
    answer: Vec<u8>,
}

impl Server {
    fn new(spec: &ServeSpec) -> Self {
        let epoll = must("make an epoll", epoll::create(epoll::CreateFlags::CLOEXEC));
        let mut server = Self {
            epoll,
            sources: Vec::new(),
            accepts: spec.accepts,
            served: Served::default(),
            answer: (0..ANSWER).map(pattern).collect(),
        };
        let stdin = std::io::stdin();
        server.watch(stdin.as_fd(), EventFlags::IN);
        server.put(stdin.as_raw_fd(), Source::Orders);
        for order in &spec.listen {
            server.open(order);
        }
        for path in &spec.unix {
            let listener = must("listen at a unix socket", std::os::unix::net::UnixListener::bind(path));
            must("not block", listener.set_nonblocking(true));
            server.put_listener(Source::Tcp(listener.into()));
        }
        server
    }

    fn open(&mut self, order: &Listen) {
        let socket = must(&format!("serve at {}", order.at), sockets::serving(order));
        self.put_listener(if order.udp { Source::Udp(socket) } else { Source::Tcp(socket) });
    }

    fn put_listener(&mut self, source: Source) {
        let (Source::Tcp(socket) | Source::Udp(socket)) = &source else { return };
        if self.accepts {
            self.watch(socket.as_fd(), EventFlags::IN);
        }
        let at = socket.as_raw_fd();
        self.put(at, source);
    }

    fn watch(&self, fd: impl AsFd, flags: EventFlags) {
        let data = EventData::new_u64(u64::from(fd.as_fd().as_raw_fd().unsigned_abs()));
        must("watch a descriptor", epoll::add(&self.epoll, fd, data, flags));
    }

    fn put(&mut self, fd: i32, source: Source) {
        let at = fd.unsigned_abs() as usize;
        if self.sources.len() <= at {
            self.sources.resize_with(at + 1, || None);
        }
        self.sources[at] = Some(source);
    }

    fn run(mut self, spec: &ServeSpec) {
        say(&self.served);
        let mut orders = Orders::default();
        let mut events = Vec::with_capacity(1024);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Err(Errno::INTR) => continue,
                other => drop(must("wait", other)),
            }
            for event in &events {
                let at = usize::try_from(event.data.u64()).unwrap_or_default();
                match self.sources.get_mut(at).and_then(Option::take) {
                    None => {}
                    Some(Source::Orders) => {
                        let Some(lines) = orders.read() else { return };
                        self.sources[at] = Some(Source::Orders);
                        for line in lines {
                            self.obey(&line);
                        }
                    }
                    Some(Source::Tcp(listener)) => {
                        self.accept(&listener, spec.pause_us);
                        self.sources[at] = Some(Source::Tcp(listener));
                    }
                    Some(Source::Udp(socket)) => {
                        self.datagrams(&socket);
                        self.sources[at] = Some(Source::Udp(socket));
                    }
                    Some(Source::Conn(conn)) => self.serve(at, conn),
                }
            }
        }
    }

    fn obey(&mut self, line: &str) {
        if let Some(order) = line.strip_prefix("open ") {
            self.open(&must("understand an order", serde_json::from_str(order)));
        }
        if let Some(at) = line.strip_prefix("close ").and_then(|at| at.parse::<std::net::SocketAddr>().ok()) {
            let is_there = |socket: &OwnedFd| {
                rustix::net::getsockname(socket).and_then(std::net::SocketAddr::try_from).is_ok_and(|there| there == at)
            };
            for source in &mut self.sources {
                if matches!(source, Some(Source::Tcp(socket) | Source::Udp(socket)) if is_there(socket)) {
                    *source = None;
                }
            }
        }
        if line == "accept" && !self.accepts {
            self.accepts = true;
            for source in self.sources.iter().flatten() {
                if let Source::Tcp(socket) | Source::Udp(socket) = source {
                    self.watch(socket, EventFlags::IN);
                }
            }
        }
        say(&self.served);
    }

    fn accept(&mut self, listener: &OwnedFd, pause_us: u64) {
        let together = if pause_us > 0 { 1 } else { TOGETHER };
        for _ in 0..together {
            let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) else { return };
            self.served.accepted += 1;
            self.watch(&socket, EventFlags::IN);
            let at = socket.as_raw_fd();
            let conn = Conn { socket, asked: [0; REQUEST], got: 0, owed: Owed::Nothing, sent: 0, writes: false };
            self.put(at, Source::Conn(conn));
            if pause_us > 0 {
                std::thread::sleep(Duration::from_micros(pause_us));
            }
        }
    }

    fn datagrams(&mut self, socket: &OwnedFd) {
        let mut datagram = [0; 2048];
        while let Ok((_, length, Some(from))) = rustix::net::recvfrom(socket, &mut datagram, RecvFlags::empty()) {
            self.served.heard += 1;
            if datagram.first() != Some(&SILENT) {
                let _ = rustix::net::sendto(socket, &datagram[..length], SendFlags::empty(), &from);
            }
        }
    }

    fn serve(&mut self, at: usize, mut conn: Conn) {
        let next = match conn.read() {
            Next::Stay => conn.write(&self.answer, &mut self.served),
            other => other,
        };
        match next {
            Next::Gone => {}
            Next::Broken => self.served.broken += 1,
            Next::Stay => {
                let wants = !matches!(conn.owed, Owed::Nothing);
                if wants != conn.writes {
                    conn.writes = wants;
                    let flags = if wants { EventFlags::OUT } else { EventFlags::IN };
                    let data = EventData::new_u64(at as u64);
                    must("watch a connection", epoll::modify(&self.epoll, &conn.socket, data, flags));
                }
                self.sources[at] = Some(Source::Conn(conn));
            }
        }
    }
}

impl Conn {
    fn read(&mut self) -> Next {
        while matches!(self.owed, Owed::Nothing) {
            match rustix::io::read(&self.socket, &mut self.asked[self.got..]) {
                Ok(0) if self.got == 0 => return Next::Gone,
                Ok(0) => return Next::Broken,
                Ok(count) => self.got += count,
                Err(Errno::AGAIN) => return Next::Stay,
                Err(_) => return Next::Broken,
            }
            if self.got == REQUEST {
                self.got = 0;
                self.owed = match self.asked[0] {
                    ECHO => Owed::Echo(self.asked, false),
                    ONCE => Owed::Echo(self.asked, true),
                    LONG => Owed::Answer,
                    _ => return Next::Broken,
                };
            }
        }
        Next::Stay
    }

    fn write(&mut self, answer: &[u8], served: &mut Served) -> Next {
        let (bytes, last) = match &self.owed {
            Owed::Nothing => return Next::Stay,
            Owed::Echo(bytes, last) => (bytes.as_slice(), *last),
            Owed::Answer => (answer, true),
        };
        while self.sent < bytes.len() {
            match rustix::net::send(&self.socket, &bytes[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Next::Stay,
                Err(_) => return Next::Broken,
            }
        }
        self.sent = 0;
        self.owed = Owed::Nothing;
        served.answered += 1;
        if last { Next::Gone } else { Next::Stay }
    }
}
