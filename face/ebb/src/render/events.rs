//! `ebb events`

use ebb_model::printable;
use ebb_wire::v1::{Event, Frame};

use super::words::{WARN, paint};
use super::{Said, Text, View, common};

/// One line per event, as they come.
#[derive(Debug, Default)]
pub struct Events {
    seen: bool,
}

impl Text for Events {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Event(event) => {
                self.seen = true;
                said.result(&line(event, view));
            }
            _ => common::frame(frame, view, said),
        }
    }

    fn end(&mut self, _view: &View, said: &mut Said) {
        if !self.seen {
            said.talk("No event is recorded.");
        }
    }
}

/// Columns of fixed width: events are followed, and the widest is not known before it comes.
fn line(event: &Event, view: &View) -> String {
    let at = event.at.to_zoned(view.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let text = common::about(event.service.as_deref(), &event.text);
    let text = if common::is_alarm(event) { paint(WARN, &text) } else { text };
    format!("{at}  {:>3}  {:<16}  {text}\n", event.number, printable(&event.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn an_event_is_a_line_with_its_number() {
        assert_eq!(
            line(&fixture::event(), &fixture::view()),
            "2026-11-21 07:01:28  201  GateShut          nginx: the gate is shut at 2 doors\n"
        );
    }

    #[test]
    fn an_empty_history_is_said() {
        let mut said = Said::default();
        Events::default().end(&fixture::view(), &mut said);
        assert_eq!(said.talk, "No event is recorded.\n");
    }
}
