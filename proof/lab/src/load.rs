//! Clients under way while a server is drained: they tell what they lived through.

use std::time::Duration;

use crate::{Client, Host, LabError, Result, Running};

const ECHOES: &str = include_str!("../load/echoes.py");
const KNOCKS: &str = include_str!("../load/knocks.py");
/// How long a load has to begin, or to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What became of echo sessions so far.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Sessions {
    /// Answer to which command.
    said: String,
    /// Sessions that began.
    pub opened: u64,
    /// Sessions that could not begin.
    pub failed: u64,
    /// Ended by us, the client, and whole until then.
    pub ended: u64,
    /// Broken: an end, a reset, silence or wrong bytes before we wanted the end.
    pub harmed: u64,
    /// Still there.
    pub living: u64,
    /// Lines that came back as they were sent.
    pub echoes: u64,
    /// Of the first few that were harmed or failed, why.
    pub harms: Vec<String>,
}

/// Long-lived echo sessions, each checking every byte.
#[derive(Debug)]
pub struct Echoes {
    running: Running,
    heard: usize,
}

impl Echoes {
    /// Opens `count` sessions to a host's echo service and returns when all are open.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(from: &Client, to: &impl Host, port: u16, count: u32) -> Result<Self> {
        Self::start(from, to, port, count, None)
    }

    /// The same through a WebSocket upgrade at `path`.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open_websockets(from: &Client, to: &impl Host, path: &str, count: u32) -> Result<Self> {
        Self::start(from, to, 80, count, Some(path))
    }

    fn start(from: &Client, to: &impl Host, port: u16, count: u32, path: Option<&str>) -> Result<Self> {
        let (host, port, count) = (to.v4().to_string(), port.to_string(), count.to_string());
        let mut words = vec!["python3", "-c", ECHOES, &host, &port, &count];
        words.extend(path);
        let mut echoes = Self { running: from.spawn(&words)?, heard: 0 };
        let open = echoes.next("open")?;
        if open.failed == 0 { Ok(echoes) } else { Err(odd("echo sessions", &format!("{open:?}"))) }
    }

    /// Ends so many sessions, politely.
    ///
    /// # Errors
    /// When the load does not answer.
    pub fn end(&mut self, count: u32) -> Result<()> {
        self.running.write(format!("end {count}\n").as_bytes());
        self.next("end").map(drop)
    }

    /// How it stands.
    ///
    /// # Errors
    /// When the load does not answer.
    pub fn count(&mut self) -> Result<Sessions> {
        self.running.write(b"count\n");
        self.next("count")
    }

    /// Ends all that are left; what became of all.
    ///
    /// # Errors
    /// When they do not end.
    pub fn finish(mut self) -> Result<Sessions> {
        self.running.close_stdin();
        self.next("over")
    }

    /// The next answer.
    fn next(&mut self, said: &str) -> Result<Sessions> {
        let mark = format!("\"said\": \"{said}\"");
        let start = std::time::Instant::now();
        loop {
            let text = self.running.stdout();
            let fresh = text.get(self.heard..).unwrap_or_default();
            if let Some(line) = fresh.split_inclusive('\n').find(|line| line.ends_with('\n') && line.contains(&mark)) {
                self.heard = text.len();
                let sessions: Sessions = serde_json::from_str(line).map_err(|error| odd(line, &error.to_string()))?;
                debug_assert_eq!(sessions.said, said);
                return Ok(sessions);
            }
            if start.elapsed() > ANSWER || !self.running.is_running() {
                let text = text + &self.running.stderr();
                return Err(LabError::NotSeen { what: format!("{said} of the echo sessions"), limit: ANSWER, text });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What came of knocking.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Knocked {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Refused with a reset.
    pub refused: u64,
    /// Anything else: not answered, unreachable.
    pub other: u64,
    /// The first few of those.
    pub what: Vec<String>,
    /// What came of them in order, and how often in a row.
    pub runs: Vec<(String, u64)>,
}

impl Knocked {
    /// All attempts.
    #[must_use]
    pub const fn attempts(&self) -> u64 {
        self.accepted + self.refused + self.other
    }

    /// How often it was not answered, or the host could not be reached, for a while after it had been refused and before
    /// it was again: a boot in the middle.
    #[must_use]
    pub fn silences(&self) -> usize {
        self.runs
            .windows(3)
            .filter(|runs| [0, 1, 2].map(|at| runs[at].0.as_str()) == ["refused", "other", "refused"])
            .count()
    }
}

/// A newcomer who tries some 200 times a second.
#[derive(Debug)]
pub struct Knocks(Running);

impl Knocks {
    /// Begins to knock.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(from: &Client, to: &impl Host, port: u16) -> Result<Self> {
        Self::start(from, &[&to.v4().to_string(), &port.to_string(), "0.005"])
    }

    /// Begins to knock at an address of a host that may be off meanwhile: an attempt is given half a second.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin_through_boots(from: &Client, to: std::net::IpAddr, port: u16) -> Result<Self> {
        Self::start(from, &[&to.to_string(), &port.to_string(), "0.005", "0.5"])
    }

    fn start(from: &Client, words: &[&str]) -> Result<Self> {
        let mut running = from.spawn(&[&["python3", "-c", KNOCKS], words].concat())?;
        running.wait_for("knocking", ANSWER)?;
        Ok(Self(running))
    }

    /// Waits until it has knocked 1,000 times.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub fn wait_for_1000(&mut self) -> Result<()> {
        self.0.wait_for("1000 knocks", 2 * ANSWER)
    }

    /// Ends it; what came of all knocks.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self) -> Result<Knocked> {
        self.0.close_stdin();
        let out = self.0.wait(ANSWER)?;
        let last = out.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|error| odd(&(out.stdout.clone() + &out.stderr), &error.to_string()))
    }
}

fn odd(what: &str, text: &str) -> LabError {
    LabError::NotSeen { what: format!("an answer in {what:?}"), limit: ANSWER, text: text.to_owned() }
}
