//! `ebb protect`

use ebb_wire::v1::Frame;

use super::{Said, Text, View, common};

/// What was done is the result.
#[derive(Debug)]
pub struct Protect;

impl Text for Protect {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Event(event) => said.result(&format!("{}\n", ebb_model::printable(&event.text))),
            _ => common::frame(frame, view, said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_was_done_is_the_result() {
        let mut said = Said::default();
        Protect.frame(&Frame::Event(fixture::event()), &fixture::view(), &mut said);
        assert_eq!(String::from_utf8_lossy(&said.out), "the gate is shut at 2 doors\n");
    }
}
