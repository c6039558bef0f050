//! When sessions will have gone.

use ebb_model::printable;
use ebb_wire::v1::{Eta, Forecast, Frame};
use jiff::Timestamp;

use super::words::{STRONG, WARN, duration, many, paint, roughly};
use super::{Said, Text, View, common};

/// Of fewer sessions no share of nine in ten is told.
const MANY: u64 = 10;

/// Forecasts, as they come.
#[derive(Debug, Default)]
pub struct Etas;

impl Text for Etas {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Eta(eta) => said.result(&report(eta, view)),
            _ => common::frame(frame, view, said),
        }
    }
}

/// What is to be expected, and the best hour.
#[must_use]
pub fn report(eta: &Eta, view: &View) -> String {
    let mut out = format!("{}\n", line(eta, view));
    if eta.recorded == 0 {
        out.push_str("  a resident agent learns it from sessions that come and go: `ebb help agent`\n");
    }
    if let Some(forecast) = eta.forecast.filter(|forecast| forecast.beyond > 0) {
        let older = "older than nearly all that were ever seen: of their like little is known";
        let count = many(forecast.beyond, "session");
        out.push_str(&format!("  {} {count} {}\n", paint(WARN, "but:"), are(forecast.beyond, older)));
    }
    if let Some(best) = &eta.best {
        let over = match best.sessions {
            0 => "usually nobody is there".to_owned(),
            count => format!(
                "usually {}, 90 % gone after {}, the last one within {} (9 of 10)",
                many(count, "session"),
                about(best.most_seconds),
                about(best.last_to_seconds)
            ),
        };
        out.push_str(&format!("  best hour of the next day: {}, {over}\n", clock(best.at, view, false)));
    }
    out
}

fn are(count: u64, what: &str) -> String {
    format!("{} {what}", if count == 1 { "is" } else { "are" })
}

/// All in one line.
#[must_use]
pub fn line(eta: &Eta, view: &View) -> String {
    let name = paint(STRONG, &printable(&eta.service));
    let fine = eta.forecast.is_some_and(|forecast| forecast.last_to_seconds < 600.0);
    let when = if eta.usual { format!("at {} usually ", clock(eta.from, view, false)) } else { String::new() };
    let there = match eta.sessions {
        Some(0) => format!("{when}no session"),
        Some(count) => format!("{when}{}", many(count, "session")),
        None => return format!("{name}: unknown: the hour of {} was not looked at", clock(eta.from, view, false)),
    };
    let Some(forecast) = eta.forecast else {
        let why = match eta.recorded < eta.needed {
            true => format!("{} sessions recorded, {} needed", eta.recorded, eta.needed),
            false => "that hour of the week was not looked at".to_owned(),
        };
        return format!("{name}: {there}; when they will have gone is unknown: {why}");
    };
    if eta.sessions == Some(0) {
        return format!("{name}: {there}: nothing to wait for");
    }
    let at = |seconds: f64| clock(after(eta.from, seconds), view, fine);
    let mut line = format!(
        "{name}: {there}; half gone by {}, 90 % by {}, 99 % by {}; the last one between {} and {} (8 of 10)",
        at(forecast.half_seconds),
        at(forecast.most_seconds),
        at(forecast.nearly_all_seconds),
        at(forecast.last_from_seconds),
        at(forecast.last_to_seconds)
    );
    if let (Some(deadline), Some(left)) = (eta.deadline_seconds, forecast.left_at_deadline) {
        let deadline = duration(deadline as f64);
        line.push_str(&format!("; at a deadline of {deadline} {} would be left", few(left)));
    }
    line
}

/// While a drain is watched: `90 % gone in 12 min, the last in 20 min to 1 h 5 min`. Of the last few no shares are told.
#[must_use]
pub fn live(forecast: &Forecast, left: Option<u64>, passed: f64) -> String {
    let later = |seconds: f64| about((seconds - passed).max(0.0));
    let (most, from, to) = (forecast.most_seconds, forecast.last_from_seconds, forecast.last_to_seconds);
    let last = format!("the last in {} to {}", later(from), later(to));
    let many = left.is_some_and(|left| left >= MANY);
    if many && most > passed { format!("90 % gone in {}, {last}", later(most)) } else { last }
}

/// A forecast has no seconds beyond ten minutes, and no minutes beyond a day.
fn about(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{seconds:.0} s"),
        ..600.0 => duration(seconds.round()),
        ..86_400.0 => roughly((seconds / 60.0).round() * 60.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

fn few(left: f64) -> String {
    match left {
        ..0.05 => "nobody".to_owned(),
        ..0.95 => "less than 1".to_owned(),
        _ => format!("{left:.0}"),
    }
}

fn after(from: Timestamp, seconds: f64) -> Timestamp {
    // Years away is as good as the end of time.
    let later = from.as_second().saturating_add(seconds.min(1e10) as i64);
    Timestamp::from_second(later).unwrap_or(Timestamp::MAX)
}

/// A local clock, with its date if that is not today's.
fn clock(at: Timestamp, view: &View, fine: bool) -> String {
    let at = at.to_zoned(view.zone.clone());
    let today = view.now.to_zoned(view.zone.clone()).date();
    let date = if at.date() == today { "" } else { "%Y-%m-%d " };
    at.strftime(&format!("{date}{}", if fine { "%H:%M:%S" } else { "%H:%M" })).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn text(eta: &Eta) -> String {
        fixture::plain(&report(eta, &fixture::view()))
    }

    #[test]
    fn it_is_one_line_with_clocks_and_the_best_hour() {
        assert_eq!(
            text(&fixture::eta()),
            "nginx: 212 sessions; half gone by 07:36, 90 % by 07:55, 99 % by 08:44; the last one between 08:06 and 10:14 \
             (8 of 10); at a deadline of 30 min 00 s 17 would be left\n\
             \x20 best hour of the next day: 2026-11-22 04:00, usually 12 sessions, 90 % gone after 25 min, the last one \
             within 1 h 20 min (9 of 10)\n"
        );
    }

    #[test]
    fn what_is_not_known_is_said_to_be() {
        let unknown = Eta { recorded: 40, forecast: None, best: None, ..fixture::eta() };
        assert_eq!(
            text(&unknown),
            "nginx: 212 sessions; when they will have gone is unknown: 40 sessions recorded, 200 needed\n"
        );
        let none = Eta { recorded: 0, ..unknown };
        assert!(
            text(&none)
                .ends_with("needed\n  a resident agent learns it from sessions that come and go: `ebb help agent`\n")
        );
        let never = Eta { sessions: None, usual: true, forecast: None, best: None, ..fixture::eta() };
        assert_eq!(text(&never), "nginx: unknown: the hour of 07:30 was not looked at\n");
        let nobody = Eta { sessions: Some(0), best: None, ..fixture::eta() };
        assert_eq!(text(&nobody), "nginx: no session: nothing to wait for\n");
        let mut old = fixture::eta();
        old.forecast.as_mut().unwrap().beyond = 1;
        assert!(text(&old).contains("  but: 1 session is older than nearly all"));
    }

    #[test]
    fn hostile_names_and_times_do_no_harm() {
        let mut evil = fixture::eta();
        evil.service = "\x1b[2J\n".to_owned();
        let forecast = evil.forecast.as_mut().unwrap();
        (forecast.last_to_seconds, forecast.left_at_deadline) = (f64::INFINITY, Some(f64::NAN));
        let text = text(&evil);
        assert!(!text.contains('\x1b') && text.lines().count() == 2, "{text:?}");
        let short = Eta {
            forecast: fixture::eta().forecast.map(|one| Forecast { last_to_seconds: 90.0, ..one }),
            ..fixture::eta()
        };
        assert!(
            fixture::plain(&line(&short, &fixture::view())).contains("half gone by 07:36:00"),
            "seconds, where they matter"
        );
    }

    #[test]
    fn in_a_drain_it_runs_with_the_clock() {
        let forecast = fixture::eta().forecast.unwrap();
        assert_eq!(live(&forecast, Some(10), 0.0), "90 % gone in 25 min, the last in 36 min to 2 h 44 min");
        assert_eq!(live(&forecast, Some(10), 1800.0), "the last in 6 min 00 s to 2 h 14 min");
        assert_eq!(live(&forecast, Some(10), 1e9), "the last in 0 s to 0 s");
        assert_eq!(live(&forecast, Some(3), 0.0), "the last in 36 min to 2 h 44 min");
    }
}
