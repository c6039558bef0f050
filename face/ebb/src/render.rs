//! Text as a view of frames: pure functions, one file per command.

pub mod check;
pub mod common;
pub mod config;
pub mod doctor;
pub mod doors;
pub mod drain;
pub mod end;
pub mod eta;
pub mod events;
pub mod hold;
pub mod holds;
pub mod live;
pub mod maintenance;
pub mod notify;
pub mod plan;
pub mod protect;
pub mod resume;
pub mod services;
pub mod sessions;
pub mod status;
pub mod table;
pub mod uninstall;
pub mod words;

use ebb_wire::v1::Frame;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What a renderer must know of the one who reads.
#[derive(Clone, Debug)]
pub struct View {
    /// Time zone for clocks.
    pub zone: TimeZone,
    /// Now, to leave out a date that is today's.
    pub now: Timestamp,
    /// Columns of the terminal that results go to; none if they go elsewhere and may be any width.
    pub width: Option<usize>,
}

/// What is to be said, kept until it is written.
#[derive(Debug, Default)]
pub struct Said {
    /// Results, for standard output.
    pub out: Vec<u8>,
    /// Talk, for standard error.
    pub talk: String,
    /// Talk that comes after the results, as a sum below a table does.
    pub after: String,
    /// Only results and refusals are wanted.
    pub quiet: bool,
}

impl Said {
    /// A part of the result: text with its own line ends.
    pub fn result(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A line of talk.
    pub fn talk(&mut self, line: &str) {
        if !self.quiet {
            self.even_if_quiet(line);
        }
    }

    /// A line of talk below the results.
    pub fn below(&mut self, line: &str) {
        if !self.quiet {
            self.after.push_str(line);
            self.after.push('\n');
        }
    }

    /// A line on standard error that is never left out.
    pub fn even_if_quiet(&mut self, line: &str) {
        self.talk.push_str(line);
        self.talk.push('\n');
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty() && self.talk.is_empty() && self.after.is_empty()
    }
}

/// The text of one verb's answer.
pub trait Text {
    /// Renders one frame. Progress never comes here: it is drawn live, for every verb alike.
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said);

    /// Renders what had to wait for the end of the answer.
    fn end(&mut self, _view: &View, _said: &mut Said) {}
}
