//! Clients that each live through something and tell.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ebb_kernel::netns::Ns;
use serde::{Deserialize, Serialize};

use crate::child::{Part, parts};
use crate::net::Net;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// To stay, and have lines echoed when told.
    Echo,
    /// One answer of 16 KiB, then the server closes.
    Answer,
}

/// Orders of one process of clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CrowdSpec {
    /// Where to, in turn.
    pub to: Vec<SocketAddr>,
    /// How many.
    pub count: u32,
    /// What they want.
    pub kind: Kind,
    /// They speak as soon as they are connected; else when told.
    pub speak: bool,
    /// The request goes with the SYN, as TCP Fast Open allows.
    pub fastopen: bool,
    /// They close their side right after the request.
    pub half_close: bool,
    /// Handshakes under way at one time.
    pub at_once: u32,
}

impl CrowdSpec {
    /// Clients that want one answer each, at once.
    #[must_use]
    pub fn answers(to: SocketAddr, count: u32) -> Self {
        Self {
            to: vec![to],
            count,
            kind: Kind::Answer,
            speak: true,
            fastopen: false,
            half_close: false,
            at_once: count,
        }
    }

    /// Clients that stay.
    #[must_use]
    pub fn echoes(to: impl IntoIterator<Item = SocketAddr>, count: u32) -> Self {
        Self {
            to: to.into_iter().collect(),
            kind: Kind::Echo,
            speak: false,
            ..Self::answers(([0, 0, 0, 0], 0).into(), count)
        }
    }
}

/// What became of clients so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Their handshake is not over.
    pub connecting: u64,
    /// Connected, ever.
    pub connected: u64,
    /// Refused, and told so.
    pub refused: u64,
    /// Could not connect for another reason.
    pub failed: u64,
    /// Got all they asked for.
    pub served: u64,
    /// Connected and not served.
    pub lost: u64,
    /// Still connected.
    pub living: u64,
    /// Lines that came back.
    pub echoes: u64,
    /// Waiting for an answer.
    pub waiting: u64,
    /// How the lost and failed ended.
    pub why: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.connecting += other.connecting;
        self.connected += other.connected;
        self.refused += other.refused;
        self.failed += other.failed;
        self.served += other.served;
        self.lost += other.lost;
        self.living += other.living;
        self.echoes += other.echoes;
        self.waiting += other.waiting;
        for (why, count) in &other.why {
            *self.why.entry(why.clone()).or_default() += count;
        }
    }
}

/// Several processes of clients.
#[derive(Debug)]
pub struct Crowd(Vec<Part>);

impl Crowd {
    /// Starts processes of clients in the client's namespace; they begin to connect at once.
    #[must_use]
    pub fn start(net: &Net, specs: &[CrowdSpec]) -> Self {
        Self::start_in(&net.client, specs)
    }

    /// Starts them in this namespace: the server's own, for loopback clients.
    #[must_use]
    pub fn start_in(ns: &Ns, specs: &[CrowdSpec]) -> Self {
        Self(specs.iter().map(|spec| Part::start(&parts(), ns, "crowd", spec)).collect())
    }

    /// One more process.
    pub fn add(&mut self, net: &Net, spec: &CrowdSpec) {
        self.0.push(Part::start(&parts(), &net.client, "crowd", spec));
    }

    /// How it stands.
    pub fn tally(&mut self) -> Tally {
        self.each("count")
    }

    /// All that wait for it ask now.
    pub fn speak(&mut self) {
        let _ = self.each("speak");
    }

    /// Each living client has one line echoed; how it stands when none waits any more.
    pub fn echo(&mut self, limit: Duration) -> Tally {
        let _ = self.each("echo");
        self.until("every line to come back", limit, |tally| tally.waiting == 0)
    }

    /// Ends so many of each process.
    pub fn end(&mut self, count: u32) {
        let _ = self.each(&format!("end {count}"));
    }

    /// Waits until it stands as wished.
    pub fn until(&mut self, what: &str, limit: Duration, wished: impl Fn(&Tally) -> bool) -> Tally {
        let began = Instant::now();
        loop {
            let tally = self.tally();
            if wished(&tally) {
                return tally;
            }
            assert!(began.elapsed() < limit, "no {what} within {limit:?}: {tally:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until no handshake is under way.
    pub fn all_connected(&mut self, limit: Duration) -> Tally {
        self.until("end of the handshakes", limit, |tally| tally.connecting == 0)
    }

    fn each(&mut self, line: &str) -> Tally {
        let mut sum = Tally::default();
        for part in &mut self.0 {
            part.tell(line);
        }
        for part in &mut self.0 {
            sum.add(&part.hear());
        }
        sum
    }
}
