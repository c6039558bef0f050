//! Knocking at a door: does the kernel behind it let a new TCP connection in?
//!
//! *Accepted* means that the handshake succeeded, which is what a gate prevents; the service need not have called `accept()`.

mod own;
mod wire;

pub use own::{OwnAddress, own_addresses, targets};

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use wire::{Attempt, Step};

/// How many doors are knocked at together: bounds the descriptors in use.
const TOGETHER: usize = 128;

/// How long an accepted knock waits for the server to close its side. See [`knock_many`].
const FAREWELL: Duration = Duration::from_millis(300);

/// An error number of the kernel, shown with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

impl Errno {
    /// The number as in errno(3).
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }

    fn of(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// One door to knock at, and as whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knock {
    /// Where; a wildcard address means loopback (see [`targets`] for all of them).
    pub to: SocketAddr,
    /// Firewall mark (`SO_MARK`), for knocking past or into rules; needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// Our own address to come from; same family as `to`.
    pub from: Option<IpAddr>,
}

impl Knock {
    /// A plain knock.
    #[must_use]
    pub fn at(to: SocketAddr) -> Self {
        Self { to, mark: None, from: None }
    }
}

/// What came of a knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The connection was made (and has been closed again).
    Accepted,
    /// A reset came: nobody listens, or a gate is shut.
    Refused,
    /// Nothing came in time: dropped, or the listener's queue is full.
    TimedOut,
    /// No way there (`ENETUNREACH`, `EHOSTUNREACH`, ...), also by an ICMP answer of a firewall.
    Unreachable(Errno),
    /// A mark was asked for and we lack `CAP_NET_ADMIN`; no packet was sent.
    MarkDenied,
    /// Anything else, as `EADDRNOTAVAIL` for a wrong `from`, or `EPERM` from a local firewall's output rule.
    Failed(Errno),
}

impl Answer {
    fn from_error(error: &io::Error) -> Self {
        let errno = Errno::of(error);
        match errno.0 {
            libc::ECONNREFUSED => Self::Refused,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN => Self::Unreachable(errno),
            _ => Self::Failed(errno),
        }
    }
}

/// Knocks at one door; takes at most `timeout` and 0.3 s. See [`knock_many`].
#[must_use]
pub fn knock(to: SocketAddr, timeout: Duration, mark: Option<u32>, from: Option<IpAddr>) -> Answer {
    let answers = knock_many(&[Knock { to, mark, from }], timeout);
    answers.first().copied().unwrap_or(Answer::Failed(Errno(libc::EIO)))
}

/// Knocks at all doors at once; answers in the order asked. At most 128 together, so `timeout` is per 128.
///
/// An accepted connection is ended politely: we shut our side (the server reads a plain end), throw away a banner, and give the
/// server 0.3 s to close its own. Closing at once would answer a banner with a reset, which servers log as an error.
#[must_use]
pub fn knock_many(knocks: &[Knock], timeout: Duration) -> Vec<Answer> {
    knocks.chunks(TOGETHER).flat_map(|some| knock_together(some, timeout)).collect()
}

fn knock_together(knocks: &[Knock], timeout: Duration) -> Vec<Answer> {
    let deadline = Instant::now() + timeout.min(Duration::from_secs(3600));
    let mut steps: Vec<Step> = knocks.iter().map(begin).collect();
    loop {
        let now = Instant::now();
        for step in &mut steps {
            give_up(step, now, deadline);
        }
        let next = steps.iter().filter_map(|step| due(step, deadline)).min();
        let Some(next) = next else { break };
        if let Err(error) = wire::wait(&mut steps, next.saturating_duration_since(now)) {
            let answer = Answer::Failed(Errno::of(&error));
            return steps.iter().map(|step| step.answer().unwrap_or(answer)).collect();
        }
    }
    steps.iter().map(|step| step.answer().unwrap_or(Answer::TimedOut)).collect()
}

fn begin(knock: &Knock) -> Step {
    match Attempt::begin(knock) {
        Ok(attempt) => Step::Connecting(attempt),
        Err(answer) => Step::Done(answer),
    }
}

/// When a step wants to be looked at even if nothing happens; `None` when it is done.
fn due(step: &Step, deadline: Instant) -> Option<Instant> {
    match step {
        Step::Connecting(_) => Some(deadline),
        Step::Leaving(_, since) => Some(*since + FAREWELL),
        Step::Done(_) => None,
    }
}

fn give_up(step: &mut Step, now: Instant, deadline: Instant) {
    if due(step, deadline).is_some_and(|due| due <= now) {
        *step = Step::Done(step.answer().unwrap_or(Answer::TimedOut));
    }
}

#[cfg(test)]
mod tests;
