//! What the operator sees: results on standard output, talk on standard error, live lines where they can be redrawn.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use ebb_wire::v1::Frame;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::problem::Problem;
use crate::render::live::Live;
use crate::render::words::clock;
use crate::render::{Said, Text, View, common};

/// What is said is written once it is this long, if nothing else asks for it before.
const CHUNK: usize = 64 * 1024;

/// Where everything is written to.
pub struct Screen {
    out: Box<dyn Write>,
    talk: Box<dyn Write>,
    /// Standard error as it is: the other leaves out every escape sequence where no colour is wanted.
    bare: Box<dyn Write>,
    /// Size of the terminal that live lines are drawn on, if they are.
    draws_on: Option<fn() -> (usize, usize)>,
    /// As asked for by the operator.
    wants_json: bool,
    /// As it is for the answer under way.
    json: bool,
    said: Said,
    view: View,
    live: Live,
    drawn: Vec<String>,
    /// Each answer is one page, which replaces the one before.
    paged: bool,
    /// Silence needs no word.
    patient: bool,
}

impl Screen {
    /// The process's own streams.
    #[must_use]
    pub fn new(json: bool, quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let draws = !json && !quiet && !dumb && io::stderr().is_terminal();
        let draws_on: fn() -> (usize, usize) = || size(terminal_size::terminal_size_of(io::stderr()));
        let width = io::stdout().is_terminal().then(|| size(terminal_size::terminal_size_of(io::stdout())).0);
        Self {
            // JSON has no escape sequences that would have to be left out.
            out: if json { Box::new(io::stdout()) } else { Box::new(anstream::stdout()) },
            talk: Box::new(anstream::stderr()),
            bare: Box::new(io::stderr()),
            draws_on: draws.then_some(draws_on),
            wants_json: json,
            json,
            said: Said { quiet: quiet || json, ..Said::default() },
            view: View { zone: TimeZone::system(), now: Timestamp::now(), width },
            live: Live::new(Instant::now()),
            drawn: Vec::new(),
            paged: false,
            patient: false,
        }
    }

    /// Whether silence needs no word, however long.
    pub const fn patient(&mut self, patient: bool) {
        self.patient = patient;
    }

    /// The same without JSON: for an answer that is only a part of the command's.
    pub const fn aside(&mut self, aside: bool) {
        self.json = self.wants_json && !aside;
    }

    /// A question, to be answered on the same line.
    pub fn ask(&mut self, question: &str) {
        let _ = self.talk.write_all(question.as_bytes()).and_then(|()| self.talk.flush());
    }

    /// Each answer from here on replaces the one before, if results go to a terminal: then the rows it has.
    pub fn page(&mut self) -> Option<usize> {
        self.paged = !self.json && self.view.width.is_some();
        self.paged.then(|| size(terminal_size::terminal_size_of(io::stdout())).1)
    }

    /// Whether programs read the answer.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// A new answer begins.
    pub fn begin(&mut self) {
        self.live = Live::new(Instant::now());
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// [`Problem::Output`]
    pub fn frame(&mut self, frame: &Frame, text: &mut dyn Text) -> Result<(), Problem> {
        let now = Instant::now();
        self.view.now = Timestamp::now();
        if self.json {
            self.json_line(frame)?;
        } else {
            self.live.frame(frame, now);
            match frame {
                Frame::Progress(_) => self.say_progress(now),
                _ => text.frame(frame, &self.view, &mut self.said),
            }
        }
        if self.said.out.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn json_line(&mut self, frame: &Frame) -> Result<(), Problem> {
        serde_json::to_writer(&mut self.said.out, frame).map_err(|error| Problem::Output(error.into()))?;
        self.said.out.push(b'\n');
        if let Frame::Refused(refusal) = frame {
            common::refused(refusal, &mut self.said);
        }
        Ok(())
    }

    /// Progress as lines of talk, where it is not drawn.
    fn say_progress(&mut self, now: Instant) {
        if self.draws_on.is_some() || self.said.quiet || self.patient {
            return;
        }
        for line in self.live.due(now) {
            self.said.talk(&format!("{}  {line}", clock(self.view.now, &self.view)));
        }
    }

    /// The answer is complete.
    ///
    /// # Errors
    /// [`Problem::Output`]
    pub fn end(&mut self, text: &mut dyn Text) -> Result<(), Problem> {
        if self.json {
            self.json_line(&Frame::Done)?;
        } else {
            text.end(&self.view, &mut self.said);
        }
        self.erase();
        self.write()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`Problem::Output`]
    pub fn tick(&mut self) -> Result<(), Problem> {
        let now = Instant::now();
        self.view.now = Timestamp::now();
        if self.draws_on.is_none() {
            self.say_progress(now);
        } else if let Some(line) = self.live.silence(now).filter(|_| !self.patient) {
            self.said.talk(&format!("{}  {line}", clock(self.view.now, &self.view)));
        }
        self.flush()?;
        self.draw(now);
        Ok(())
    }

    /// Whether something waits to be written.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        !self.paged && !self.said.is_empty()
    }

    /// Writes what has been said, above the live lines.
    ///
    /// # Errors
    /// [`Problem::Output`]
    pub fn flush(&mut self) -> Result<(), Problem> {
        if !self.has_more() {
            return Ok(());
        }
        let now = Instant::now();
        self.live.spoke(now);
        self.erase();
        let written = self.write();
        self.draw(now);
        written
    }

    /// One more line for standard error, whatever is wanted.
    pub fn say(&mut self, line: &str) {
        self.said.even_if_quiet(line);
    }

    /// A whole result, as it is.
    ///
    /// # Errors
    /// [`Problem::Output`]
    pub fn result(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.said.out.extend_from_slice(bytes);
        self.write()
    }

    /// A command failed before or beside its answer.
    pub fn problem(&mut self, problem: &Problem) {
        if problem.is_broken_pipe() {
            return;
        }
        let refusal = problem.refusal();
        let help = refusal.help.clone();
        common::refused(&ebb_wire::v1::Refusal { help: None, ..refusal.clone() }, &mut self.said);
        if let Some(help) = help {
            self.said.even_if_quiet(&common::hint(&help));
        }
        if self.wants_json {
            for frame in [Frame::Refused(refusal), Frame::Done] {
                if serde_json::to_writer(&mut self.said.out, &frame).is_ok() {
                    self.said.out.push(b'\n');
                }
            }
        }
        self.paged = false;
        self.erase();
        // Nothing is left to be done about an output that cannot be written.
        let _ = self.write();
    }

    /// The operator leaves: the live lines stay as they are.
    ///
    /// # Errors
    /// [`Problem::Output`]
    pub fn leave(&mut self) -> Result<(), Problem> {
        if std::mem::take(&mut self.drawn).is_empty() {
            return self.write();
        }
        // The terminal has put its `^C` at the beginning of this line.
        let _ = self.bare.write_all(b"\r\x1b[J");
        self.write()
    }

    fn write(&mut self) -> Result<(), Problem> {
        if self.paged {
            return self.write_page();
        }
        let talk = std::mem::take(&mut self.said.talk);
        // A drain does not end because nobody hears it any more.
        let _ = self.talk.write_all(talk.as_bytes());
        if !self.said.out.is_empty() {
            let written = self.out.write_all(&self.said.out).and_then(|()| self.out.flush());
            self.said.out.clear();
            written.map_err(Problem::Output)?;
        }
        let after = std::mem::take(&mut self.said.after);
        let _ = self.talk.write_all(after.as_bytes());
        Ok(())
    }

    /// Home, each line with what was behind it erased, then what was below.
    fn write_page(&mut self) -> Result<(), Problem> {
        let text = String::from_utf8_lossy(&self.said.out).into_owned() + &self.said.talk + &self.said.after;
        self.said.out.clear();
        self.said.talk.clear();
        self.said.after.clear();
        let page = format!("\x1b[H{}\x1b[J", anstream::adapter::strip_str(&text).to_string().replace('\n', "\x1b[K\n"));
        let mut out = io::stdout().lock();
        out.write_all(page.as_bytes()).and_then(|()| out.flush()).map_err(Problem::Output)
    }

    fn erase(&mut self) {
        if !self.drawn.is_empty() {
            let up = format!("\r\x1b[{}A\x1b[J", self.drawn.len());
            let _ = self.bare.write_all(up.as_bytes());
            self.drawn.clear();
        }
    }

    fn draw(&mut self, now: Instant) {
        let Some(size) = self.draws_on else { return };
        let (columns, rows) = size();
        // The last column and row stay free: a terminal wraps and scrolls when they are written.
        let lines = self.live.lines(now, columns.saturating_sub(1), rows.saturating_sub(1));
        if lines == self.drawn {
            return;
        }
        let mut text = String::new();
        if !self.drawn.is_empty() {
            text.push_str(&format!("\r\x1b[{}A\x1b[J", self.drawn.len()));
        }
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        let _ = self.bare.write_all(text.as_bytes());
        self.drawn = lines;
    }
}

/// Columns and rows; where the terminal does not tell, the environment, else what terminals always had.
fn size(told: Option<(terminal_size::Width, terminal_size::Height)>) -> (usize, usize) {
    if let Some((width, height)) = told
        && width.0 > 0
        && height.0 > 0
    {
        return (width.0.into(), height.0.into());
    }
    let from = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    (from("COLUMNS").unwrap_or(80), from("LINES").unwrap_or(24))
}

#[cfg(test)]
pub mod test {
    //! A screen whose streams are kept.

    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    pub struct Kept(Rc<RefCell<Vec<u8>>>);

    impl Kept {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A stream whose reader has left.
    pub struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A screen, its standard output and its standard error.
    pub fn screen(json: bool, quiet: bool, draws: bool) -> (Screen, Kept, Kept) {
        let (out, err) = (Kept::default(), Kept::default());
        let mut screen = Screen::new(json, quiet);
        screen.out = Box::new(out.clone());
        screen.talk = Box::new(err.clone());
        screen.bare = Box::new(err.clone());
        screen.draws_on = if draws { Some(|| (80, 24)) } else { None };
        screen.view = crate::fixture::view();
        (screen, out, err)
    }

    pub fn broken() -> Screen {
        let (mut screen, _, _) = screen(true, false, false);
        screen.out = Box::new(Broken);
        screen
    }
}
