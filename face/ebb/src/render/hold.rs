//! `ebb hold` and `ebb release`

use ebb_model::printable;
use ebb_wire::v1::{Frame, HoldReport};

use super::common::{self, command};
use super::words::{BAD, STRONG, duration, hold, paint};
use super::{Said, Text, View};

/// Reports, as they come.
#[derive(Debug, Default)]
pub struct Hold {
    /// Notes are the answer.
    pub dry_run: bool,
}

impl Text for Hold {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Held(report) => said.result(&held(report, view)),
            Frame::Released(report) => said.result(&released(report, view)),
            _ if common::answer(self.dry_run, frame, said) => {}
            _ => common::frame(frame, view, said),
        }
    }
}

fn name(report: &HoldReport) -> String {
    let hold = &report.hold;
    if !hold.whole_server {
        return paint(STRONG, &printable(&hold.service));
    }
    if hold.covers.is_empty() {
        return paint(STRONG, "the server");
    }
    let covers: Vec<String> = hold.covers.iter().map(|service| printable(service)).collect();
    format!("{} ({})", paint(STRONG, "the server"), covers.join(", "))
}

fn held(report: &HoldReport, view: &View) -> String {
    let already = if report.changed { "" } else { " already: nothing to do" };
    let gate = match (report.shut, report.learning_seconds) {
        (false, _) => paint(BAD, "but its gate is not shut"),
        (true, None) => "new connections are refused".to_owned(),
        (true, Some(left)) => {
            let left = duration(left);
            format!(
                "its gate is shut but at UDP doors: flows are learnt there for {left} more, then the kernel shuts those too"
            )
        }
    };
    let mut out = format!("{}: held{already}; {gate}\n", name(report));
    for one in std::iter::once(&report.hold).chain(&report.remaining) {
        out.push_str(&format!("  held by    {}\n", hold(one, view)));
    }
    let what = if report.hold.whole_server { "--server" } else { &report.hold.service };
    let undo = command("release", what, &report.hold.requester);
    out.push_str(&format!("  next       {undo}\n"));
    out
}

fn released(report: &HoldReport, view: &View) -> String {
    let requester = printable(&report.hold.requester);
    let what = match (report.changed, report.shut) {
        (false, _) => format!("{requester} does not hold it: nothing to do"),
        (true, false) => format!("released by {requester}; new connections are let in"),
        (true, true) => format!("released by {requester}; it stays shut"),
    };
    let mut out = format!("{}: {what}\n", name(report));
    common::remaining(&report.remaining, view, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn plain(text: &str) -> String {
        fixture::plain(text)
    }

    #[test]
    fn a_hold_says_whose_it_is_and_how_to_undo_it() {
        let view = fixture::view();
        assert_eq!(
            plain(&held(&fixture::held(), &view)),
            "nginx: held; new connections are refused\n\
             \x20 held by    operator (by root) since 06:50:00: kernel upgrade\n\
             \x20 next       ebb release nginx\n"
        );
        let again = HoldReport { changed: false, ..fixture::held() };
        assert!(plain(&held(&again, &view)).starts_with("nginx: held already: nothing to do; new"));
        let open = HoldReport { shut: false, ..fixture::held() };
        assert!(plain(&held(&open, &view)).starts_with("nginx: held; but its gate is not shut\n"));
        let learning = HoldReport { learning_seconds: Some(29.7), ..fixture::held() };
        assert!(plain(&held(&learning, &view)).contains("shut but at UDP doors: flows are learnt there for 29 s more"));
    }

    #[test]
    fn a_release_names_who_still_holds() {
        let view = fixture::view();
        let free = HoldReport { shut: false, ..fixture::held() };
        assert_eq!(plain(&released(&free, &view)), "nginx: released by operator; new connections are let in\n");
        let shut = HoldReport { remaining: vec![fixture::hold()], ..fixture::held() };
        assert_eq!(
            plain(&released(&shut, &view)),
            "nginx: released by operator; it stays shut\n\
             \x20 held by    deploy (by ci) since 06:50:00: release 41\n\
             \x20 next       ask deploy; or, in their name: ebb resume nginx --as deploy\n"
        );
    }
}
