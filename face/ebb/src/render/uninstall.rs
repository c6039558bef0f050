//! `ebb uninstall`

use ebb_wire::v1::Frame;

use super::{Said, Text, View, common};

/// Each step is a line of the answer; what is left to others is talk.
#[derive(Debug)]
pub struct Steps {
    /// Nothing is done.
    pub dry_run: bool,
    /// Something was or would be done.
    pub any: bool,
}

impl Text for Steps {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Note(note) if !note.warning => {
                self.any = true;
                said.result(&format!("{}\n", ebb_model::printable(&note.text)));
            }
            _ => common::frame(frame, view, said),
        }
    }

    fn end(&mut self, _: &View, said: &mut Said) {
        match (self.any, self.dry_run) {
            (false, _) => said.result("Nothing of ebb is here to be removed.\n"),
            (true, true) => said.below("nothing was changed: this is what `ebb uninstall` would do"),
            (true, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use ebb_wire::v1::Note;

    use super::*;
    use crate::fixture;

    #[test]
    fn steps_and_none() {
        let mut said = Said::default();
        let mut steps = Steps { dry_run: true, any: false };
        let note = |warning, text: &str| Frame::Note(Note { service: None, warning, text: text.to_owned() });
        steps.frame(&note(false, "remove /run/ebb"), &fixture::view(), &mut said);
        steps.frame(&note(true, "2 files belong to a package"), &fixture::view(), &mut said);
        steps.end(&fixture::view(), &mut said);
        assert_eq!(String::from_utf8_lossy(&said.out), "remove /run/ebb\n");
        assert_eq!(fixture::plain(&said.talk), "warning: 2 files belong to a package\n");
        assert!(said.after.starts_with("nothing was changed"));
        let mut said = Said::default();
        Steps { dry_run: false, any: false }.end(&fixture::view(), &mut said);
        assert_eq!(String::from_utf8_lossy(&said.out), "Nothing of ebb is here to be removed.\n");
    }
}
