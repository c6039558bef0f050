//! The server made for the purpose. SIGTERM ends it at once: who is not served by then is lost, visibly.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::child::{Part, parts};
use crate::net::Net;

/// One socket to listen at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listen {
    /// Where.
    pub at: SocketAddr,
    /// UDP, answering each datagram with itself.
    pub udp: bool,
    /// `IPV6_V6ONLY`.
    pub v6only: bool,
    /// Connections that may wait to be accepted.
    pub backlog: i32,
    /// `TCP_DEFER_ACCEPT`, in seconds.
    pub defer: Option<i32>,
    /// `TCP_FASTOPEN`, its queue.
    pub fastopen: Option<i32>,
}

impl Listen {
    /// TCP with a long queue.
    #[must_use]
    pub const fn tcp(at: SocketAddr) -> Self {
        Self { at, udp: false, v6only: false, backlog: 60_000, defer: None, fastopen: None }
    }

    /// UDP.
    #[must_use]
    pub const fn udp(at: SocketAddr) -> Self {
        Self { udp: true, ..Self::tcp(at) }
    }
}

/// A server's orders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServeSpec {
    /// TCP and UDP sockets, with `SO_REUSEPORT`, so that several may have one address.
    pub listen: Vec<Listen>,
    /// Unix sockets.
    pub unix: Vec<PathBuf>,
    /// Accepts from the start, or when told.
    pub accepts: bool,
    /// Waits so long after each accepted connection, in microseconds.
    pub pause_us: u64,
    /// Processes that serve; the first only starts the others if there are several.
    pub workers: u32,
}

impl ServeSpec {
    /// A quick server.
    #[must_use]
    pub fn at(listen: impl IntoIterator<Item = Listen>) -> Self {
        Self { listen: listen.into_iter().collect(), unix: Vec::new(), accepts: true, pause_us: 0, workers: 1 }
    }
}

/// What a server has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Connections accepted.
    pub accepted: u64,
    /// Requests answered in full.
    pub answered: u64,
    /// Connections that broke before their request was answered, other than those of which nothing was heard.
    pub broken: u64,
    /// Datagrams heard.
    pub heard: u64,
}

/// A running server.
#[derive(Debug)]
pub struct Daemon {
    part: Part,
    program: PathBuf,
    linked: bool,
}

impl Daemon {
    /// Starts one; it listens when this returns. ebb knows it as `exact-part`.
    #[must_use]
    pub fn start(net: &Net, spec: &ServeSpec) -> Self {
        Self::run(net, spec, parts(), false)
    }

    /// Starts one with an executable of its own name.
    #[must_use]
    pub fn named(net: &Net, name: &str, spec: &ServeSpec) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let parts = parts();
        let dir = parts.with_file_name(format!("exact-{}-{number}", std::process::id()));
        let program = dir.join(name);
        crate::must("make a directory", std::fs::create_dir_all(&dir));
        // A copy could be busy: another thread may fork while it is written.
        crate::must("link the program", std::fs::hard_link(&parts, &program));
        Self::run(net, spec, program, true)
    }

    fn run(net: &Net, spec: &ServeSpec, program: PathBuf, linked: bool) -> Self {
        let mut part = Part::start(&program, &net.server, "serve", spec);
        let _: Served = part.hear();
        Self { part, program, linked }
    }

    /// Accepts from now on.
    pub fn accept(&mut self) {
        let _: Served = self.part.ask("accept");
    }

    /// What it has done so far; only of a server that is one process.
    pub fn served(&mut self) -> Served {
        self.part.ask("count")
    }

    /// Opens another door.
    pub fn open(&mut self, listen: &Listen) {
        let orders = crate::must("write orders", serde_json::to_string(listen));
        let _: Served = self.part.ask(&format!("open {orders}"));
    }

    /// Closes the listening sockets at this address; its clients stay.
    pub fn close(&mut self, at: SocketAddr) {
        let _: Served = self.part.ask(&format!("close {at}"));
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.part.pid()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.part.is_running()
    }

    /// Ends it by SIGTERM.
    pub fn terminate(&mut self) {
        self.part.terminate();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.linked
            && let Some(dir) = self.program.parent()
        {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}
