//! `ebb resume`.

use ebb_model::printable;
use ebb_wire::v1::{Frame, ResumeReport};

use super::common::{self, remaining};
use super::words::{GOOD, STRONG, WARN, duration, paint};
use super::{Said, Text, View};

/// The text of a resume.
pub struct Resume;

impl Text for Resume {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Resumed(report) => said.result(&text(report, view)),
            other => common::frame(other, view, said),
        }
    }
}

fn text(report: &ResumeReport, view: &View) -> String {
    let name = paint(STRONG, &printable(&report.service));
    let mut text = if report.open {
        format!("{name} is {} again after {}\n", paint(GOOD, "open"), duration(report.took_seconds))
    } else {
        format!("{name} is released by you, but {}\n", paint(WARN, "stays shut"))
    };
    if report.started {
        text.push_str("  started    by us\n");
    }
    if !report.verified.is_empty() {
        text.push_str(&format!("  verified   {}\n", printable(&report.verified.join(", "))));
    }
    remaining(&report.remaining, view, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_stays_shut_names_its_holders() {
        let report = ResumeReport { open: false, remaining: vec![fixture::hold()], ..fixture::resumed() };
        let text = fixture::plain(&text(&report, &fixture::view()));
        assert!(text.contains("stays shut") && text.contains("deploy"), "{text}");
    }
}
