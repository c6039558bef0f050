//! `ebb status`.

use ebb_model::printable;
use ebb_wire::v1::{Frame, Gate, Status};

use super::words::{BAD, STRONG, WARN, doors, hold, many, moment, paint, state_style};
use super::{Said, Text, View, common};

/// The text of a status.
#[derive(Default)]
pub struct StatusText {
    any: bool,
}

impl Text for StatusText {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Status(status) => {
                if self.any {
                    said.result("\n");
                }
                self.any = true;
                said.result(&text(status, view));
            }
            other => {
                self.any |= matches!(other, Frame::Refused(_));
                common::frame(other, view, said);
            }
        }
    }

    fn end(&mut self, _view: &View, said: &mut Said) {
        if !self.any {
            said.result("nothing is held on this server\n");
        }
    }
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<11}{value}\n")
}

fn text(status: &Status, view: &View) -> String {
    let service = &status.service;
    let state = paint(state_style(&service.state), &service.state);
    let left = service.sessions.map_or_else(|| "sessions not counted".to_owned(), |left| many(left, "session"));
    let of = status.at_start.map_or_else(String::new, |at_start| format!(" of {at_start} at the start"));
    let mut text = format!("{}  {state}, {left}{of}\n", paint(STRONG, &printable(&service.name)));
    let gate = match status.gate {
        Gate::Shut => format!("shut, {} refused", many(status.refused, "connection")),
        Gate::Open => "open".to_owned(),
        Gate::Missing => paint(BAD, "missing: it is held, but newcomers get in"),
        Gate::Unknown => paint(WARN, "not read (it takes root)"),
    };
    text.push_str(&row("gate", &gate));
    text.push_str(&row("doors", &doors(&service.doors)));
    for holder in &service.holders {
        text.push_str(&row("held by", &hold(holder, view)));
    }
    if let Some(began) = status.began {
        let watched = status
            .watched_by_pid
            .map_or_else(|| "watched by nobody now".to_owned(), |pid| format!("watched by pid {pid}"));
        text.push_str(&row("drain", &format!("began {}, {watched}", moment(began, view))));
    }
    if let Some(drained) = status.drained_at {
        text.push_str(&row("drained", &format!("proven {}", moment(drained, view))));
    }
    if status.stopped_by_us {
        text.push_str(&row("stopped", "by us; `ebb resume` starts it again"));
    }
    if status.leaks > 0 {
        text.push_str(&row("leaks", &paint(BAD, &many(status.leaks, "connection"))));
    }
    for remark in &service.remarks {
        text.push_str(&row("warning", &paint(WARN, &printable(remark))));
    }
    for (index, next) in status.next.iter().enumerate() {
        text.push_str(&row(if index == 0 { "next" } else { "" }, &printable(next)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_missing_gate_cannot_be_overlooked() {
        let status = Status { gate: Gate::Missing, ..fixture::status() };
        assert!(fixture::plain(&text(&status, &fixture::view())).contains("missing: it is held, but newcomers get in"));
    }
}
