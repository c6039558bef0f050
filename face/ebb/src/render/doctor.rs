//! `ebb doctor`

use ebb_model::printable;
use ebb_wire::v1::Frame;

use super::words::{WARN, paint};
use super::{Said, Text, View, common};

/// Findings, each with what mends it.
#[derive(Debug, Default)]
pub struct Findings {
    any: bool,
}

impl Text for Findings {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        let Frame::Finding(finding) = frame else { return common::frame(frame, view, said) };
        self.any = true;
        let of = finding.service.as_deref().map_or_else(String::new, |name| format!("{}: ", printable(name)));
        said.result(&format!(
            "{}{of}{}\n  mend  {}\n",
            paint(WARN, "! "),
            printable(&finding.what),
            printable(&finding.mend)
        ));
    }

    fn end(&mut self, _: &View, said: &mut Said) {
        if !self.any {
            said.result("Nothing is amiss: gates, holds, drains and units are as they should be.\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn findings_and_none() {
        let mut said = Said::default();
        let mut findings = Findings::default();
        findings.frame(&Frame::Finding(fixture::finding()), &fixture::view(), &mut said);
        findings.end(&fixture::view(), &mut said);
        let text = fixture::plain(&String::from_utf8_lossy(&said.out));
        assert_eq!(text, "! nginx: it is held, but open at tcp *:80\n  mend  ebb drain nginx\n");
        let mut said = Said::default();
        Findings::default().end(&fixture::view(), &mut said);
        assert!(String::from_utf8_lossy(&said.out).starts_with("Nothing is amiss"));
    }
}
