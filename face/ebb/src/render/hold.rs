//! `ebb hold` and `ebb release`.

use ebb_model::printable;
use ebb_wire::v1::{Frame, HoldReport};

use super::common::{self, command, remaining};
use super::words::{STRONG, paint};
use super::{Said, Text, View};

/// The text of holds placed and released.
pub struct HoldText;

impl Text for HoldText {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Held(report) => said.result(&held(report, view)),
            Frame::Released(report) => said.result(&released(report, view)),
            other => common::frame(other, view, said),
        }
    }
}

fn held(report: &HoldReport, view: &View) -> String {
    let hold = &report.hold;
    let name = paint(STRONG, &printable(&hold.service));
    let already = if report.changed { "is held" } else { "is held already: nothing to do" };
    let gate = if report.shut { "newcomers are refused" } else { "its gate is not whole" };
    let mut text = format!("{name} {already} by `{}`; {gate}\n", printable(&hold.requester));
    remaining(&report.remaining, view, &mut text);
    text.push_str(&format!("  undo       {}\n", command("release", &hold.service, &hold.requester)));
    text
}

fn released(report: &HoldReport, view: &View) -> String {
    let name = paint(STRONG, &printable(&report.hold.service));
    let gate = if report.shut { "it stays held by others" } else { "the gate is open" };
    let mut text = format!("{name} is released by `{}`; {gate}\n", printable(&report.hold.requester));
    remaining(&report.remaining, view, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_hold_that_was_there_is_a_no_op_and_says_so() {
        let report = HoldReport { changed: false, ..fixture::held() };
        let text = fixture::plain(&held(&report, &fixture::view()));
        assert!(text.contains("held already: nothing to do") && text.contains("ebb release nginx"), "{text}");
    }
}
