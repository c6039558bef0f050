//! Progress while it happens: a line per service, redrawn on a terminal, said now and then elsewhere.
//!
//! The clock is an argument, so that nothing here needs one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ebb_model::printable;
use ebb_wire::v1::{Frame, Progress};

use super::words::{age, fit, roughly};

/// Where nothing is redrawn, a service is spoken of at most and at least this often.
pub const SAY_EVERY: Duration = Duration::from_secs(10);

/// The progress of one verb.
#[derive(Debug)]
pub struct Live {
    services: BTreeMap<String, Seen>,
    /// When something was said, of any service.
    said: Instant,
}

#[derive(Debug)]
struct Seen {
    progress: Progress,
    at: Instant,
    said: Instant,
    /// Came after the last time that something was said.
    fresh: bool,
    /// Another phase than the last time.
    turned: bool,
}

impl Live {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { services: BTreeMap::new(), said: now }
    }

    /// Takes what a frame tells of progress.
    pub fn frame(&mut self, frame: &Frame, now: Instant) {
        match frame {
            Frame::Progress(progress) => self.progress(progress, now),
            Frame::Drained(report) => drop(self.services.remove(&report.service)),
            Frame::Resumed(report) => drop(self.services.remove(&report.service)),
            Frame::Refused(refusal) => {
                if let Some(service) = &refusal.service {
                    self.services.remove(service);
                }
            }
            _ => {}
        }
    }

    fn progress(&mut self, progress: &Progress, now: Instant) {
        let turned = self
            .services
            .get(&progress.service)
            .is_none_or(|seen| seen.turned || seen.progress.doing != progress.doing);
        let said = self.services.get(&progress.service).map_or(now, |seen| seen.said);
        let seen = Seen { progress: progress.clone(), at: now, said, fresh: true, turned };
        self.services.insert(progress.service.clone(), seen);
    }

    /// Something else has been said: silence is counted from here.
    pub const fn spoke(&mut self, now: Instant) {
        self.said = now;
    }

    /// The lines to draw, none wider than `columns`, not more than `rows`.
    #[must_use]
    pub fn lines(&self, now: Instant, columns: usize, rows: usize) -> Vec<String> {
        let pad = self.services.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        let most = if self.services.len() > rows { rows.saturating_sub(1) } else { rows };
        let mut lines: Vec<String> = self
            .services
            .values()
            .take(most)
            .map(|seen| line(&seen.progress, now.saturating_duration_since(seen.at), pad, columns))
            .collect();
        if self.services.len() > most {
            lines.push(fit(&format!("and {} more", self.services.len() - most), columns));
        }
        lines
    }

    /// The lines that are due where nothing is redrawn: at a change of phase, else now and then.
    pub fn due(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for seen in self.services.values_mut() {
            let silent = now.saturating_duration_since(seen.said) >= SAY_EVERY;
            if !seen.turned && !silent {
                continue;
            }
            lines.push(if seen.fresh {
                line(&seen.progress, now.saturating_duration_since(seen.at), 0, usize::MAX)
            } else {
                let (name, why) = (printable(&seen.progress.service), printable(&seen.progress.why));
                format!("{name}  still waiting: {why}")
            });
            seen.said = now;
            seen.fresh = false;
            seen.turned = false;
        }
        if lines.is_empty() {
            lines.extend(self.silence(now));
        } else {
            self.said = now;
        }
        lines
    }

    /// What to say where no service has told of progress for long.
    pub fn silence(&mut self, now: Instant) -> Option<String> {
        let long = self.services.is_empty() && now.saturating_duration_since(self.said) >= SAY_EVERY;
        long.then(|| {
            self.said = now;
            "still waiting for an answer".to_owned()
        })
    }
}

/// One service in one line. Where it does not fit, the parts that matter least are left out.
fn line(progress: &Progress, since: Duration, pad: usize, columns: usize) -> String {
    let since = since.as_secs_f64();
    let elapsed = progress.elapsed_seconds + since;
    let name = printable(&progress.service);
    let mut parts = vec![(0, format!("{name:<pad$}  {}", printable(&progress.doing))), (0, left(progress))];
    if let (Some(peer), Some(oldest)) = (&progress.oldest_peer, progress.oldest_age) {
        parts.push((2, format!("oldest {} {}", printable(peer), age(oldest))));
    }
    if let Some(forecast) = &progress.eta {
        parts.push((2, super::eta::live(forecast, progress.left, since)));
    }
    if progress.ending_per_minute > 0.0 {
        parts.push((3, format!("{:.0}/min ending", progress.ending_per_minute)));
    }
    parts.push((4, format!("elapsed {}", ebb_model::duration(super::words::span(elapsed)))));
    if let Some(deadline) = progress.deadline_in_seconds {
        let left = deadline - since;
        parts.push((
            1,
            if left > 0.0 { format!("deadline in {}", roughly(left.ceil())) } else { "deadline reached".to_owned() },
        ));
    }
    shorten(parts, columns)
}

fn left(progress: &Progress) -> String {
    let Some(left) = progress.left else { return "sessions not counted".to_owned() };
    let mut text = format!("{left} of {} left", progress.at_start);
    if progress.not_accepted > 0 {
        text.push_str(&format!(" ({} not accepted)", progress.not_accepted));
    }
    text
}

/// Joins parts, leaving out those with the highest number until the line fits; those with 0 stay.
fn shorten(mut parts: Vec<(u8, String)>, columns: usize) -> String {
    loop {
        let line = parts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("  ");
        if line.chars().count() <= columns {
            return line;
        }
        match parts.iter().enumerate().max_by_key(|(_, (order, _))| *order) {
            Some((number, (order, _))) if *order > 0 => drop(parts.remove(number)),
            _ => return fit(&line, columns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use ebb_wire::v1::DrainReport;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn named(name: &str, doing: &str) -> Frame {
        Frame::Progress(Progress { service: name.to_owned(), doing: doing.to_owned(), ..fixture::progress() })
    }

    #[test]
    fn a_line_fits_its_terminal() {
        let mut progress = fixture::progress();
        progress.oldest_peer = Some("10.0.0.7".to_owned());
        for (columns, expected) in [
            (
                200,
                "nginx  draining  37 of 212 left  oldest 10.0.0.7 ≥ 41 min  12/min ending  elapsed 3 min 10 s  deadline \
                 in 26 min",
            ),
            (80, "nginx  draining  37 of 212 left  oldest 10.0.0.7 ≥ 41 min  deadline in 26 min"),
            (40, "nginx  draining  37 of 212 left"),
            (20, "nginx  draining  37…"),
        ] {
            assert_eq!(line(&progress, Duration::ZERO, 0, columns), expected);
        }
    }

    #[test]
    fn where_lifetimes_are_known_it_says_when_it_will_be_over() {
        let progress = Progress { eta: fixture::eta().forecast, ..fixture::progress() };
        let line = line(&progress, seconds(60), 0, usize::MAX);
        assert!(line.contains("  90 % gone in 24 min, the last in 35 min to 2 h 43 min  "), "{line}");
    }

    #[test]
    fn the_clock_runs_between_frames() {
        let line = line(&fixture::progress(), seconds(60), 0, usize::MAX);
        assert!(line.contains("elapsed 4 min 10 s  deadline in 25 min"), "{line}");
        assert!(super::line(&fixture::progress(), seconds(3600), 0, usize::MAX).ends_with("deadline reached"));
    }

    #[test]
    fn services_are_drawn_side_by_side_until_they_end() {
        let now = Instant::now();
        let mut live = Live::new(now);
        live.frame(&named("a", "draining"), now);
        live.frame(&named("longer", "settling"), now);
        let lines = live.lines(now, 31, 10);
        assert_eq!(
            lines,
            ["a       draining  37 of 212 left", "longer  settling  37 of 212 left"].map(|line| fit(line, 31))
        );
        assert_eq!(live.lines(now, 80, 1), ["and 2 more"]);
        live.frame(&Frame::Drained(DrainReport { service: "a".to_owned(), ..fixture::report() }), now);
        assert_eq!(live.lines(now, 80, 10).len(), 1);
    }

    #[test]
    fn plain_lines_come_at_a_change_of_phase_and_every_ten_seconds() {
        let start = Instant::now();
        let mut live = Live::new(start);
        live.frame(&named("nginx", "draining"), start);
        assert_eq!(live.due(start).len(), 1, "the first phase");
        live.frame(&named("nginx", "draining"), start + seconds(1));
        assert_eq!(live.due(start + seconds(1)), [""; 0], "nothing has changed");
        live.frame(&named("nginx", "settling"), start + seconds(2));
        live.frame(&named("nginx", "settling"), start + seconds(2));
        assert!(live.due(start + seconds(2))[0].contains("settling"));
        live.frame(&named("nginx", "settling"), start + seconds(11));
        assert_eq!(live.due(start + seconds(11)), [""; 0]);
        assert!(live.due(start + seconds(12))[0].starts_with("nginx  settling"));
        assert_eq!(live.due(start + seconds(22)), ["nginx  still waiting: 37 sessions are left"]);
    }

    #[test]
    fn it_is_never_silent_for_long_even_without_any_frame() {
        let start = Instant::now();
        let mut live = Live::new(start);
        assert_eq!(live.due(start + seconds(9)), [""; 0]);
        assert_eq!(live.due(start + seconds(10)), ["still waiting for an answer"]);
        assert_eq!(live.due(start + seconds(19)), [""; 0]);
        live.spoke(start + seconds(19));
        assert_eq!(live.due(start + seconds(28)), [""; 0]);
        assert_eq!(live.due(start + seconds(29)).len(), 1);
    }

    #[test]
    fn a_count_that_could_not_be_read_is_not_zero() {
        let mut progress = fixture::progress();
        progress.left = None;
        assert!(line(&progress, Duration::ZERO, 0, 80).contains("sessions not counted"));
        progress.left = Some(2);
        progress.not_accepted = 1;
        assert!(line(&progress, Duration::ZERO, 0, 80).contains("2 of 212 left (1 not accepted)"));
    }
}
