//! `ebb end`.

use ebb_model::printable;
use ebb_wire::v1::Frame;

use super::words::{duration, many};
use super::{Said, Text, View, common};

/// The text of endings.
pub struct End;

impl Text for End {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        let Frame::Ended(report) = frame else { return common::frame(frame, view, said) };
        let name = printable(&report.service);
        if report.chosen == 0 {
            said.talk(&format!("no session of {name} fits: nothing to do"));
            return;
        }
        if report.dry_run {
            said.result(&format!("would end {} of {name}; nothing has been changed\n", many(report.chosen, "session")));
            return;
        }
        let mut text = format!(
            "{name}: of {}, {} ended after our goodbye, {} cut, {} had gone by themselves, in {}\n",
            many(report.chosen, "chosen session"),
            report.by_us,
            report.cut,
            report.by_themselves,
            duration(report.took_seconds)
        );
        if report.failed > 0 {
            let why = report.why.as_deref().map_or_else(String::new, |why| format!(": {}", printable(why)));
            text.push_str(&format!("  {} could not be ended{why}\n", many(report.failed, "session")));
        }
        said.result(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn counts_are_said_apart() {
        let mut said = Said::default();
        End.frame(&Frame::Ended(fixture::ended()), &fixture::view(), &mut said);
        let out = String::from_utf8(said.out).unwrap();
        assert!(out.contains("after our goodbye") && out.contains("cut"), "{out}");
    }
}
