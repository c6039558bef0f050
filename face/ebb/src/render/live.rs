//! Progress: lines redrawn in place on a terminal, plain lines with a clock elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ebb_model::printable;
use ebb_wire::v1::{Frame, Progress};

use super::words::{STRONG, WARN, age, clock, duration, fit, paint, roughly};
use super::{Said, View};

/// On a terminal, at most this often.
const REDRAW: Duration = Duration::from_millis(200);
/// Elsewhere, at least this often.
const SILENCE: Duration = Duration::from_secs(10);

/// The lines of all services that are being drained.
#[derive(Debug)]
pub struct Live {
    terminal: bool,
    off: bool,
    services: BTreeMap<String, Progress>,
    drawn: usize,
    drawn_at: Option<Instant>,
    said: BTreeMap<String, (String, Instant)>,
}

impl Live {
    /// Lines for a terminal, or for a log; none at all if `off`.
    #[must_use]
    pub fn new(terminal: bool, off: bool) -> Self {
        Self { terminal, off, services: BTreeMap::new(), drawn: 0, drawn_at: None, said: BTreeMap::new() }
    }

    /// Takes progress and draws it, if it is time to.
    pub fn progress(&mut self, progress: &Progress, view: &View, said: &mut Said) {
        self.services.insert(progress.service.clone(), progress.clone());
        if self.off {
            return;
        }
        if self.terminal {
            if self.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW) {
                self.clear(said);
                self.redraw(view, said);
            }
            return;
        }
        let last = self.said.get(&progress.service);
        let due = last.is_none_or(|(doing, at)| *doing != progress.doing || at.elapsed() >= SILENCE);
        if due {
            said.talk(&format!("{}  {}", clock(view.now, view), plain_line(progress)));
            self.said.insert(progress.service.clone(), (progress.doing.clone(), Instant::now()));
        }
    }

    /// A service that is over has no line any more.
    pub fn over(&mut self, frame: &Frame) {
        if let Frame::Drained(report) = frame {
            self.services.remove(&report.service);
        }
    }

    /// Takes the drawn lines away.
    pub fn clear(&mut self, said: &mut Said) {
        if self.drawn > 0 {
            said.talk.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    /// Draws the lines.
    pub fn redraw(&mut self, view: &View, said: &mut Said) {
        if !self.terminal || self.off {
            return;
        }
        let width = terminal_size::terminal_size_of(std::io::stderr())
            .map_or(view.width.unwrap_or(80), |(terminal_size::Width(columns), _)| usize::from(columns));
        for progress in self.services.values() {
            said.talk(&line(progress, width));
        }
        self.drawn = self.services.len();
        self.drawn_at = Some(Instant::now());
    }

    /// How long nothing may be said before [`Live::silence`] is wanted.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        SILENCE
    }

    /// Nothing has come for long: says so.
    pub fn silence(&mut self, view: &View, said: &mut Said) {
        if self.off || self.terminal {
            return;
        }
        for progress in self.services.values() {
            said.talk(&format!("{}  {}", clock(view.now, view), plain_line(progress)));
        }
    }
}

/// One line in at most `width` columns: what matters most first.
fn line(progress: &Progress, width: usize) -> String {
    let mut text = format!("{}  {}", printable(&progress.service), parts(progress).join("  "));
    text = fit(&text, width.saturating_sub(1));
    // The name stands out, where it was not cut.
    let name = printable(&progress.service);
    match text.strip_prefix(&name) {
        Some(rest) => {
            format!("{}{}", paint(STRONG, &name), rest.replacen(&progress.doing, &paint(WARN, &progress.doing), 1))
        }
        None => text,
    }
}

fn plain_line(progress: &Progress) -> String {
    format!("{}  {}", printable(&progress.service), parts(progress).join("  "))
}

fn parts(progress: &Progress) -> Vec<String> {
    let mut parts = vec![progress.doing.clone()];
    match progress.left {
        Some(left) => parts.push(format!("{left} of {} left", progress.at_start.max(left))),
        None => parts.push(format!("not counted: {}", printable(&progress.why))),
    }
    if progress.not_accepted > 0 {
        parts.push(format!("{} not accepted yet", progress.not_accepted));
    }
    if let (Some(peer), Some(old)) = (&progress.oldest_peer, progress.oldest_age) {
        parts.push(format!("oldest {} {}", printable(peer), age(old)));
    }
    if progress.left.is_some_and(|left| left > 0) {
        parts.push(format!("{:.0}/min ending", progress.ending_per_minute));
    }
    if progress.left == Some(0) {
        parts.push(printable(&progress.why));
    }
    if progress.refused > 0 {
        parts.push(format!("{} refused", progress.refused));
    }
    parts.push(format!("elapsed {}", duration(progress.elapsed_seconds)));
    if let Some(left) = progress.deadline_in_seconds {
        parts.push(format!("deadline in {}", roughly(left)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_line_never_wraps() {
        for width in [1, 20, 40, 80, 200] {
            let drawn = fixture::plain(&line(&fixture::progress(), width));
            assert!(drawn.chars().count() < width.max(2), "{width}: {drawn}");
        }
    }

    #[test]
    fn a_log_gets_a_line_for_each_phase_and_not_for_each_frame() {
        let mut live = Live::new(false, false);
        let mut said = Said::default();
        for _ in 0..5 {
            live.progress(&fixture::progress(), &fixture::view(), &mut said);
        }
        assert_eq!(said.talk.lines().count(), 1, "{}", said.talk);
        live.progress(&Progress { doing: "stopping".into(), ..fixture::progress() }, &fixture::view(), &mut said);
        assert_eq!(said.talk.lines().count(), 2);
        live.silence(&fixture::view(), &mut said);
        assert_eq!(said.talk.lines().count(), 3);
    }

    #[test]
    fn quiet_draws_nothing() {
        let mut live = Live::new(true, true);
        let mut said = Said::default();
        live.progress(&fixture::progress(), &fixture::view(), &mut said);
        live.redraw(&fixture::view(), &mut said);
        assert!(said.is_empty());
    }
}
