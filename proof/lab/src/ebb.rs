//! The ebb under test, asked on a server as an operator would.

use std::time::{Duration, Instant};

use ebb_wire::v1::{DrainReport, Event, Frame, Guard, Progress, Refusal, ResumeReport, Service, Status};

use crate::{Host, LabError, Output, Result, Running, Server};

/// A command that does not wait for sessions takes no longer.
const SHORT: Duration = Duration::from_secs(60);

/// What `ebb --json` said, and how it ended.
#[derive(Clone)]
pub struct Answer {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Each line of its standard output.
    pub frames: Vec<Frame>,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `ebb WORDS --json` on a server, to its end.
///
/// # Errors
/// When it does not end within 60 s, or a line is no frame; an exit code other than 0 is an answer.
pub fn ebb(server: &Server, words: &[&str]) -> Result<Answer> {
    watch(server, words)?.wait(SHORT)
}

/// Starts `ebb WORDS --json` on a server.
///
/// # Errors
/// When the server is off.
pub fn watch(server: &Server, words: &[&str]) -> Result<Watched> {
    let mut words = [&["ebb"], words].concat();
    words.push("--json");
    Ok(Watched { command: words.join(" "), running: server.spawn(&words)? })
}

/// An ebb under way; killed when dropped.
#[derive(Debug)]
pub struct Watched {
    command: String,
    running: Running,
}

impl Watched {
    /// What it said so far.
    ///
    /// # Errors
    /// When a whole line is no frame.
    pub fn frames(&self) -> Result<Vec<Frame>> {
        let text = self.running.stdout();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        parse(&self.command, whole)
    }

    /// Waits until it has said something that `seen` finds.
    ///
    /// # Errors
    /// When it has not within the limit, or ended without; with all it said.
    pub fn wait_until<T>(&mut self, what: &str, limit: Duration, seen: impl Fn(&[Frame]) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            let over = !self.running.is_running() || start.elapsed() > limit;
            let frames = self.frames()?;
            if let Some(found) = seen(&frames) {
                return Ok(found);
            }
            if over {
                let what = format!("{what} from `{}`", self.command);
                return Err(LabError::NotSeen { what, limit, text: self.all_said() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for an event of that name.
    ///
    /// # Errors
    /// As [`Watched::wait_until`].
    pub fn wait_event(&mut self, name: &str, limit: Duration) -> Result<Event> {
        self.wait_until(name, limit, |frames| events(frames).find(|event| event.name == name).cloned())
    }

    /// Waits for progress that says so many sessions are left.
    ///
    /// # Errors
    /// As [`Watched::wait_until`].
    pub fn wait_left(&mut self, left: u64, limit: Duration) -> Result<Progress> {
        self.wait_until(&format!("{left} left"), limit, |frames| {
            let last = frames.iter().rev().find_map(|frame| match frame {
                Frame::Progress(progress) => Some(progress),
                _ => None,
            });
            last.filter(|progress| progress.left == Some(left)).cloned()
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// As [`Running::signal`].
    pub fn signal(&self, signal: &str) -> Result<()> {
        self.running.signal(signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within the limit, or a line is no frame.
    pub fn wait(mut self, limit: Duration) -> Result<Answer> {
        let start = Instant::now();
        while self.running.is_running() {
            if start.elapsed() > limit {
                return Err(LabError::TooSlow { command: self.command.clone(), limit, text: self.all_said() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let Output { code, stdout, stderr } = self.running.wait(limit)?;
        Ok(Answer { code, frames: parse(&self.command, &stdout)?, stderr })
    }

    /// Without the progress, but for the last.
    fn all_said(&self) -> String {
        let text = self.running.stdout();
        let is_progress = |line: &&str| line.contains("\"type\":\"progress\"");
        let said: Vec<&str> = text.lines().filter(|line| !is_progress(line)).collect();
        let progress = text.lines().rfind(is_progress).unwrap_or("no progress");
        format!("{}\n{progress}\n{}", said.join("\n"), self.running.stderr())
    }
}

impl std::fmt::Debug for Answer {
    /// Progress, twice a second, would hide the rest.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let frames: Vec<_> = self.frames.iter().filter(|frame| !matches!(frame, Frame::Progress(_))).collect();
        f.debug_struct("Answer")
            .field("code", &self.code)
            .field("frames", &frames)
            .field("stderr", &self.stderr)
            .finish()
    }
}

impl Answer {
    /// The report of each drain.
    pub fn drains(&self) -> Vec<&DrainReport> {
        self.all(|frame| if let Frame::Drained(report) = frame { Some(report) } else { None })
    }

    /// The report of each resume.
    pub fn resumes(&self) -> Vec<&ResumeReport> {
        self.all(|frame| if let Frame::Resumed(report) = frame { Some(report) } else { None })
    }

    /// Each refusal.
    pub fn refusals(&self) -> Vec<&Refusal> {
        self.all(|frame| if let Frame::Refused(refusal) = frame { Some(refusal) } else { None })
    }

    /// Each guard.
    pub fn guards(&self) -> Vec<&Guard> {
        self.all(|frame| if let Frame::Guard(guard) = frame { Some(guard) } else { None })
    }

    /// Each service's status.
    pub fn statuses(&self) -> Vec<&Status> {
        self.all(|frame| if let Frame::Status(status) = frame { Some(status) } else { None })
    }

    /// Each service.
    pub fn services(&self) -> Vec<&Service> {
        self.all(|frame| if let Frame::Service(service) = frame { Some(service) } else { None })
    }

    /// Names of the events, in order.
    pub fn event_names(&self) -> Vec<&str> {
        events(&self.frames).map(|event| event.name.as_str()).collect()
    }

    /// The event of that name.
    pub fn event(&self, name: &str) -> Option<&Event> {
        events(&self.frames).find(|event| event.name == name)
    }

    /// The text of each note.
    pub fn notes(&self) -> Vec<&str> {
        self.all(|frame| if let Frame::Note(note) = frame { Some(note.text.as_str()) } else { None })
    }

    fn all<'a, T>(&'a self, pick: impl Fn(&'a Frame) -> Option<T>) -> Vec<T> {
        self.frames.iter().filter_map(pick).collect()
    }
}

/// The events among frames.
pub fn events(frames: &[Frame]) -> impl Iterator<Item = &Event> {
    frames.iter().filter_map(|frame| if let Frame::Event(event) = frame { Some(event) } else { None })
}

fn parse(command: &str, text: &str) -> Result<Vec<Frame>> {
    let frame = |line: &str| {
        serde_json::from_str(line).map_err(|error| LabError::Command {
            command: command.to_owned(),
            code: None,
            text: format!("a line of it is no frame ({error}): {line}"),
        })
    };
    text.lines().map(frame).collect()
}
