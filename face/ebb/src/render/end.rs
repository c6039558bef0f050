//! `ebb end`

use ebb_model::printable;
use ebb_wire::v1::{EndReport, Frame};

use super::words::{BAD, STRONG, duration, many, paint};
use super::{Said, Text, View, common};

/// Reports, as they come; keeps how many were chosen, for the question before.
#[derive(Debug, Default)]
pub struct End {
    /// How many sessions the choice fitted.
    pub chosen: Option<u64>,
    /// Only count: say nothing but refusals and warnings.
    pub only_count: bool,
}

impl Text for End {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Ended(ended) => {
                self.chosen = Some(ended.chosen);
                if !self.only_count {
                    said.result(&report(ended));
                }
            }
            _ => common::frame(frame, view, said),
        }
    }
}

/// What it came to.
#[must_use]
pub fn report(report: &EndReport) -> String {
    let name = paint(STRONG, &printable(&report.service));
    let chosen = many(report.chosen, "session");
    if report.chosen == 0 {
        return format!("{name}: no session fits: nothing to do\n");
    }
    if report.dry_run {
        return format!("{name}: {chosen} would be ended. Nothing was changed.\n");
    }
    let mut out = format!(
        "{name}: {chosen} chosen: {} ended after a goodbye, {} cut, {} had gone by themselves, {} failed; it took {}\n",
        report.by_us,
        report.cut,
        report.by_themselves,
        report.failed,
        duration(report.took_seconds)
    );
    if let Some(why) = &report.why {
        out.push_str(&format!("  {} {}\n", paint(BAD, "why:"), printable(why)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn text(one: &EndReport) -> String {
        fixture::plain(&report(one))
    }

    #[test]
    fn what_was_done_is_counted() {
        let done = fixture::ended();
        assert_eq!(
            text(&done),
            "nginx: 37 sessions chosen: 30 ended after a goodbye, 3 cut, 4 had gone by themselves, 0 failed; it took \
             5.2 s\n"
        );
        let failed = EndReport { failed: 2, why: Some("not permitted".to_owned()), ..done.clone() };
        assert!(text(&failed).ends_with("2 failed; it took 5.2 s\n  why: not permitted\n"));
        assert_eq!(text(&EndReport { chosen: 0, ..done.clone() }), "nginx: no session fits: nothing to do\n");
        let asked = EndReport { dry_run: true, ..done };
        assert_eq!(text(&asked), "nginx: 37 sessions would be ended. Nothing was changed.\n");
    }
}
