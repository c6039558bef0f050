//! `ebb status`

use ebb_model::printable;
use ebb_wire::v1::{Frame, Gate, Status};

use super::words::{BAD, STRONG, WARN, duration, hold, many, moment, paint, state_style};
use super::{Said, Text, View, common};

/// A block per service, as they come.
#[derive(Debug, Default)]
pub struct Held {
    said: bool,
}

impl Text for Held {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        if let Frame::Status(status) = frame {
            if std::mem::replace(&mut self.said, true) {
                said.result("\n");
            }
            return said.result(&block(status, view));
        }
        self.said |= matches!(frame, Frame::Refused(_));
        common::frame(frame, view, said);
    }

    fn end(&mut self, _view: &View, said: &mut Said) {
        if !self.said {
            said.talk("No service is held: nothing to show. `ebb services` lists them all.");
        }
    }
}

fn block(status: &Status, view: &View) -> String {
    let service = &status.service;
    let name = paint(STRONG, &printable(&service.name));
    let state = paint(state_style(&service.state), &printable(&service.state));
    let mut out = format!("{name}: {state}, {}\n", sessions(status));
    let mut line = |name: &str, text: &str| out.push_str(&format!("  {name:<9}  {text}\n"));
    line("gate", &gate(status));
    for one in &service.holders {
        line("held by", &hold(one, view));
    }
    if service.holders.is_empty() {
        line("held by", "nobody");
    }
    if let Some(began) = status.began {
        line("drain", &drain(status, &moment(began, view), view));
        let leaks = match status.leaks {
            0 => "none".to_owned(),
            count => {
                paint(BAD, &format!("{} came in although the gate should have been shut", many(count, "connection")))
            }
        };
        line("leaks", &leaks);
    }
    for remark in &service.remarks {
        line("note", &printable(remark));
    }
    for (number, next) in status.next.iter().enumerate() {
        line(if number == 0 { "next" } else { "" }, &printable(next));
    }
    out
}

fn sessions(status: &Status) -> String {
    match (status.service.sessions, status.at_start) {
        (None, _) => "sessions not counted".to_owned(),
        (Some(left), Some(start)) => format!("{left} of {} left", many(start, "session")),
        (Some(now), None) => many(now, "session"),
    }
}

fn gate(status: &Status) -> String {
    let refused = || format!("{} refused", many(status.refused, "new connection"));
    match status.gate {
        Gate::Shut => format!("shut, {}", refused()),
        Gate::Learning => {
            let left = status.learning_seconds.map_or_else(String::new, |left| format!(" for {} more", duration(left)));
            let by_udp = paint(WARN, &format!("learning UDP flows{left}"));
            format!("{by_udp}: until then newcomers come in there; {}", refused())
        }
        Gate::Open => "open".to_owned(),
        Gate::Missing => format!("{}: it should be shut, and is not, or not at each door", paint(BAD, "MISSING")),
        Gate::Unknown => "unknown: it could not be read".to_owned(),
    }
}

fn drain(status: &Status, began: &str, view: &View) -> String {
    let mut text = format!("began {began}");
    match status.drained_at {
        Some(at) => text.push_str(&format!(", proven empty {}", moment(at, view))),
        None => text.push_str(", not proven empty yet"),
    }
    if status.stopped_by_us {
        text.push_str(", stopped by ebb");
    }
    match (status.watched_by_pid, status.drained_at) {
        (Some(pid), _) => text.push_str(&format!(", watched by process {pid}")),
        (None, None) => text.push_str(", nobody watches it"),
        (None, Some(_)) => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn text(status: &Status) -> String {
        fixture::plain(&block(status, &fixture::view()))
    }

    #[test]
    fn a_drain_under_way() {
        assert_eq!(
            text(&fixture::status()),
            "nginx: draining, 37 of 212 sessions left\n\
             \x20 gate       shut, 31 new connections refused\n\
             \x20 held by    operator (by root) since 06:50:00: kernel upgrade\n\
             \x20 drain      began 07:01:28, not proven empty yet, watched by process 4711\n\
             \x20 leaks      none\n\
             \x20 next       ebb drain nginx\n\
             \x20            ebb resume nginx\n"
        );
    }

    #[test]
    fn a_missing_gate_and_leaks_stand_out() {
        let broken = Status { gate: Gate::Missing, leaks: 2, watched_by_pid: None, ..fixture::status() };
        let text = text(&broken);
        assert!(text.contains("gate       MISSING: it should be shut"), "{text}");
        assert!(text.contains("leaks      2 connections came in"), "{text}");
        assert!(text.contains("nobody watches it"), "{text}");
    }

    #[test]
    fn a_gate_that_learns_is_not_called_shut() {
        let learning = Status { gate: Gate::Learning, learning_seconds: Some(12.0), refused: 0, ..fixture::status() };
        let text = text(&learning);
        let gate = "gate       learning UDP flows for 12 s more: until then newcomers come in there; 0 new connections";
        assert!(text.contains(gate), "{text}");
    }

    #[test]
    fn nothing_held_is_said() {
        let mut said = Said::default();
        Held::default().end(&fixture::view(), &mut said);
        assert!(said.talk.starts_with("No service is held"));
    }
}
