//! The clients.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, sockopt};

use super::{ANSWER, ECHO, LONG, Orders, REQUEST, pattern, say, sockets};
use crate::crowd::{CrowdSpec, Kind, Tally};
use crate::must;

/// linux/socket.h: connect, and send with the SYN.
const MSG_FASTOPEN: u32 = 0x2000_0000;

enum Stage {
    Connecting,
    Idle,
    /// So many bytes of what it asked for have come.
    Waiting(usize),
}

struct Client {
    socket: OwnedFd,
    stage: Stage,
    /// The request went with the SYN.
    asked: bool,
}

pub(super) struct Crowd {
    spec: CrowdSpec,
    epoll: OwnedFd,
    clients: Vec<Option<Client>>,
    begun: u32,
    tally: Tally,
}

pub(super) fn run(spec: CrowdSpec) {
    let epoll = must("make an epoll", epoll::create(epoll::CreateFlags::CLOEXEC));
    let stdin = std::io::stdin();
    must("watch orders", epoll::add(&epoll, stdin.as_fd(), EventData::new_u64(u64::MAX), EventFlags::IN));
    let tally = Tally { connecting: u64::from(spec.count), ..Tally::default() };
    Crowd { spec, epoll, clients: Vec::new(), begun: 0, tally }.run();
}

/// The request of client `index`.
fn request(kind: Kind, index: usize) -> [u8; REQUEST] {
    let mut line = [if kind == Kind::Echo { ECHO } else { LONG }; REQUEST];
    line[1..9].copy_from_slice(&(index as u64).to_le_bytes());
    line
}

impl Crowd {
    fn run(mut self) {
        let mut orders = Orders::default();
        let mut events = Vec::with_capacity(1024);
        loop {
            self.begin();
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Err(Errno::INTR) => continue,
                other => drop(must("wait", other)),
            }
            for event in &events {
                if event.data.u64() == u64::MAX {
                    let Some(lines) = orders.read() else { return };
                    for line in lines {
                        self.obey(&line);
                    }
                } else {
                    self.hear(usize::try_from(event.data.u64()).unwrap_or_default());
                }
            }
        }
    }

    /// Begins as many handshakes as may be under way.
    fn begin(&mut self) {
        while self.begun < self.spec.count {
            let left = u64::from(self.spec.count - self.begun);
            if self.tally.connecting - left >= u64::from(self.spec.at_once) {
                return;
            }
            let index = self.clients.len();
            let to = self.spec.to[index % self.spec.to.len()];
            self.begun += 1;
            match self.connect(index, to) {
                Ok(client) => self.clients.push(Some(client)),
                Err(error) => {
                    self.clients.push(None);
                    self.not_connected(error);
                }
            }
        }
    }

    fn connect(&self, index: usize, to: SocketAddr) -> rustix::io::Result<Client> {
        let socket = sockets::stream(to)?;
        let mut asked = false;
        let begun = if self.spec.fastopen {
            let flags = SendFlags::from_bits_retain(MSG_FASTOPEN) | SendFlags::NOSIGNAL;
            rustix::net::sendto(&socket, &request(self.spec.kind, index), flags, &to)
                .map(|sent| asked = sent == REQUEST)
        } else {
            rustix::net::connect(&socket, &to)
        };
        match begun {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN | EventFlags::OUT)?;
        Ok(Client { socket, stage: Stage::Connecting, asked })
    }

    fn not_connected(&mut self, error: Errno) {
        self.tally.connecting -= 1;
        if error == Errno::CONNREFUSED {
            self.tally.refused += 1;
        } else {
            self.tally.failed += 1;
            *self.tally.why.entry(format!("not connected: {error}")).or_default() += 1;
        }
    }

    fn obey(&mut self, line: &str) {
        match line {
            "speak" => {
                self.spec.speak = true;
                self.ask_idle();
            }
            "echo" => self.ask_idle(),
            _ => {}
        }
        if let Some(count) = line.strip_prefix("end ").and_then(|count| count.parse::<usize>().ok()) {
            let living = self.clients.iter_mut().filter(|client| client.is_some());
            let mut ended = 0;
            for client in living.take(count) {
                *client = None;
                ended += 1;
            }
            self.tally.living -= ended;
        }
        say(&self.tally);
    }

    fn ask_idle(&mut self) {
        for index in 0..self.clients.len() {
            if matches!(&self.clients[index], Some(Client { stage: Stage::Idle, .. })) {
                self.ask(index);
            }
        }
    }

    fn ask(&mut self, index: usize) {
        let line = request(self.spec.kind, index);
        let Some(client) = &mut self.clients[index] else { return };
        let sent =
            if client.asked { Ok(REQUEST) } else { rustix::net::send(&client.socket, &line, SendFlags::NOSIGNAL) };
        client.asked = false;
        client.stage = Stage::Waiting(0);
        self.tally.waiting += 1;
        let closed = match sent {
            Ok(REQUEST) if self.spec.half_close => rustix::net::shutdown(&client.socket, Shutdown::Write),
            Ok(REQUEST) => Ok(()),
            Ok(_) => Err(Errno::AGAIN),
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            self.lost(index, &format!("when asking: {error}"));
        }
    }

    fn lost(&mut self, index: usize, why: &str) {
        if let Some(Client { stage: Stage::Waiting(_), .. }) = self.clients[index].take() {
            self.tally.waiting -= 1;
        }
        self.tally.living -= 1;
        self.tally.lost += 1;
        *self.tally.why.entry(why.to_owned()).or_default() += 1;
    }

    fn hear(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return };
        if matches!(client.stage, Stage::Connecting) {
            let met = sockopt::socket_error(&client.socket).and_then(|met| met);
            if let Err(error) = met {
                self.clients[index] = None;
                return self.not_connected(error);
            }
            client.stage = Stage::Idle;
            let data = EventData::new_u64(index as u64);
            must("watch a client", epoll::modify(&self.epoll, &client.socket, data, EventFlags::IN));
            self.tally.connecting -= 1;
            self.tally.connected += 1;
            self.tally.living += 1;
            if client.asked || self.spec.speak {
                self.ask(index);
            }
            return;
        }
        self.read(index);
    }

    fn read(&mut self, index: usize) {
        let mut piece = [0; ANSWER];
        loop {
            let Some(client) = &mut self.clients[index] else { return };
            match (rustix::io::read(&client.socket, &mut piece), &mut client.stage) {
                (Err(Errno::AGAIN), _) => return,
                (Err(error), _) => return self.lost(index, &error.to_string()),
                (Ok(0), Stage::Waiting(got)) if *got == ANSWER && self.spec.kind == Kind::Answer => {
                    self.clients[index] = None;
                    self.tally.waiting -= 1;
                    self.tally.living -= 1;
                    self.tally.served += 1;
                    return;
                }
                (Ok(0), Stage::Waiting(got)) => {
                    let why = format!("closed after {got} bytes of an answer");
                    return self.lost(index, &why);
                }
                (Ok(0), _) => return self.lost(index, "closed"),
                (Ok(count), Stage::Waiting(got)) => {
                    let right = match self.spec.kind {
                        Kind::Answer => (0..count).all(|at| piece[at] == pattern(*got + at)),
                        Kind::Echo => request(Kind::Echo, index).get(*got..*got + count) == Some(&piece[..count]),
                    };
                    *got += count;
                    if !right {
                        return self.lost(index, "wrong bytes");
                    }
                    if self.spec.kind == Kind::Echo && *got == REQUEST {
                        client.stage = Stage::Idle;
                        self.tally.waiting -= 1;
                        self.tally.echoes += 1;
                    }
                }
                (Ok(_), _) => return self.lost(index, "bytes that nobody asked for"),
            }
        }
    }
}
