//! `ebb resume`

use ebb_model::printable;
use ebb_wire::v1::{Frame, Refusal, RefusalKind, ResumeReport};

use super::words::{BAD, GOOD, STRONG, WARN, duration, paint};
use super::{Said, Text, View, common};

/// Reports, as they come.
#[derive(Debug)]
pub struct Resume {
    /// Notes are the answer.
    dry_run: bool,
    /// Services whose report has named who still holds them.
    named: Vec<String>,
}

impl Resume {
    /// A renderer for a real resume, or for `--dry-run`.
    #[must_use]
    pub const fn new(dry_run: bool) -> Self {
        Self { dry_run, named: Vec::new() }
    }

    /// The report has told it already, with the same command that helps.
    fn told(&self, refusal: &Refusal) -> bool {
        refusal.kind == RefusalKind::HeldByOther
            && refusal.service.as_ref().is_some_and(|name| self.named.contains(name))
    }
}

impl Text for Resume {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Resumed(resumed) => {
                if !resumed.remaining.is_empty() {
                    self.named.push(resumed.service.clone());
                }
                said.result(&report(resumed, view));
            }
            Frame::Refused(refusal) if self.told(refusal) => {}
            _ if common::answer(self.dry_run, frame, said) => {}
            _ => common::frame(frame, view, said),
        }
    }
}

/// What it came to.
#[must_use]
pub fn report(report: &ResumeReport, view: &View) -> String {
    let took = duration(report.took_seconds);
    let what = match (report.open, report.was_held) {
        (true, false) => "it was not held, and is open: nothing to do".to_owned(),
        (true, true) => format!("{} again after {took}", paint(GOOD, "open")),
        (false, was) if !report.remaining.is_empty() => {
            let mine = if was { "your hold is released, but " } else { "you do not hold it, but " };
            format!("{mine}it is {}", paint(WARN, "still held"))
        }
        (false, _) => paint(BAD, "not open"),
    };
    let mut out = format!("{}: {what}\n", paint(STRONG, &printable(&report.service)));
    if report.started {
        out.push_str("  started    it had been stopped by ebb\n");
    }
    if !report.verified.is_empty() {
        out.push_str(&format!("  verified   {} answered\n", printable(&report.verified.join(", "))));
    }
    common::remaining(&report.remaining, view, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn text(one: &ResumeReport) -> String {
        fixture::plain(&report(one, &fixture::view()))
    }

    #[test]
    fn a_resume_says_what_it_verified() {
        assert_eq!(
            text(&fixture::resumed()),
            "nginx: open again after 1.2 s\n\
             \x20 started    it had been stopped by ebb\n\
             \x20 verified   tcp 0.0.0.0:80, tcp 0.0.0.0:443 answered\n"
        );
    }

    #[test]
    fn others_holds_are_named() {
        let held = ResumeReport {
            open: false,
            started: false,
            verified: Vec::new(),
            remaining: vec![fixture::hold()],
            ..fixture::resumed()
        };
        assert_eq!(
            text(&held),
            "nginx: your hold is released, but it is still held\n\
             \x20 held by    deploy (by ci) since 06:50:00: release 41\n\
             \x20 next       ask deploy; or, in their name: ebb resume nginx --as deploy\n"
        );
    }

    #[test]
    fn who_holds_it_is_said_once() {
        let (mut said, mut text) = (Said::default(), Resume::new(false));
        let held = ResumeReport { open: false, remaining: vec![fixture::hold()], ..fixture::resumed() };
        text.frame(&Frame::Resumed(held), &fixture::view(), &mut said);
        let refusal = fixture::refusal(RefusalKind::HeldByOther);
        text.frame(&Frame::Refused(refusal.clone()), &fixture::view(), &mut said);
        assert_eq!(said.talk, "");
        let other = Refusal { service: Some("other".to_owned()), ..refusal };
        text.frame(&Frame::Refused(other), &fixture::view(), &mut said);
        assert!(said.talk.contains("error:"));
    }

    #[test]
    fn a_no_op_says_so() {
        let open = ResumeReport { was_held: false, started: false, verified: Vec::new(), ..fixture::resumed() };
        assert_eq!(text(&open), "nginx: it was not held, and is open: nothing to do\n");
    }
}
