//! `ebb events`.

use ebb_model::printable;
use ebb_wire::v1::Frame;

use super::words::moment;
use super::{Said, Text, View, common};

/// The list of events.
#[derive(Default)]
pub struct Events {
    any: bool,
}

impl Text for Events {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        let Frame::Event(event) = frame else {
            self.any |= matches!(frame, Frame::Refused(_));
            return common::frame(frame, view, said);
        };
        self.any = true;
        said.result(&format!(
            "{}  {} {:<25}  {}\n",
            moment(event.at, view),
            event.number,
            printable(&event.name),
            printable(&event.text)
        ));
    }

    fn end(&mut self, _view: &View, said: &mut Said) {
        if !self.any {
            said.talk("nothing has happened yet");
        }
    }
}
