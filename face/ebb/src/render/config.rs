//! `ebb config`

use ebb_model::printable;
use ebb_wire::v1::{Fault, Frame, Setting};

use super::words::{BAD, STRONG, WARN, paint};
use super::{Said, Text, View, common};

/// Faults with their places, or keys with their values.
#[derive(Debug, Default)]
pub struct Config {
    settings: Vec<Setting>,
}

impl Text for Config {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Fault(fault) => said.result(&lines(fault)),
            Frame::Setting(setting) => self.settings.push(setting.clone()),
            Frame::Checked(checked) => {
                let files = match checked.files.len() {
                    0 => "no file: all is as built in".to_owned(),
                    1 => printable(&checked.files[0]),
                    count => format!("{count} files"),
                };
                let warnings = match checked.warnings {
                    0 => String::new(),
                    1 => ", 1 warning".to_owned(),
                    count => format!(", {count} warnings"),
                };
                let faults = match checked.faults {
                    0 => "no fault".to_owned(),
                    1 => paint(BAD, "1 fault"),
                    count => paint(BAD, &format!("{count} faults")),
                };
                said.result(&format!("{faults} in {files}{warnings}\n"));
                if let Some(why) = &checked.unseen {
                    said.below(&format!("note: names were not compared with the services here: {}", printable(why)));
                }
            }
            _ => common::frame(frame, view, said),
        }
    }

    fn end(&mut self, _: &View, said: &mut Said) {
        let width = self.settings.iter().map(|one| one.key.chars().count()).max().unwrap_or_default();
        for one in &self.settings {
            let value = one.value.as_deref().map_or_else(|| "not set".to_owned(), printable);
            let origin = match (&one.file, one.line) {
                (Some(file), Some(line)) => format!("{}:{line}", printable(file)),
                _ => "default".to_owned(),
            };
            let space = " ".repeat(width.saturating_sub(one.key.chars().count()));
            said.result(&format!("{}{space}  {value}  # {origin}\n", paint(STRONG, &printable(&one.key))));
        }
    }
}

/// `FILE:LINE:COLUMN: what`, as editors and compilers have it.
fn lines(fault: &Fault) -> String {
    let place = match (fault.line, fault.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", printable(&fault.file)),
        _ => printable(&fault.file),
    };
    let word = if fault.warning { format!("{} ", paint(WARN, "warning:")) } else { String::new() };
    let hint = fault.hint.as_deref().map_or_else(String::new, |hint| format!("  hint  {}\n", printable(hint)));
    format!("{}: {word}{}\n{hint}", paint(STRONG, &place), printable(&fault.what))
}

#[cfg(test)]
mod tests {
    use ebb_wire::v1::Checked;

    use super::*;
    use crate::fixture;

    fn text(frames: &[Frame]) -> String {
        let (mut said, mut config) = (Said::default(), Config::default());
        for frame in frames {
            config.frame(frame, &fixture::view(), &mut said);
        }
        config.end(&fixture::view(), &mut said);
        fixture::plain(&String::from_utf8_lossy(&said.out))
    }

    #[test]
    fn faults_have_a_place_that_editors_understand() {
        let warning = Fault { line: None, column: None, hint: None, warning: true, ..fixture::fault() };
        assert_eq!(
            text(&[Frame::Fault(fixture::fault()), Frame::Fault(warning), Frame::Checked(fixture::checked())]),
            "/etc/ebb/ebb.toml:3:1: there is no key `unit` in [service.mail]\n  hint  did you mean `units`?\n\
             /etc/ebb/ebb.toml: warning: there is no key `unit` in [service.mail]\n\
             1 fault in /etc/ebb/ebb.toml\n"
        );
        let none = Checked { files: Vec::new(), faults: 0, warnings: 2, unseen: None };
        assert_eq!(text(&[Frame::Checked(none)]), "no fault in no file: all is as built in, 2 warnings\n");
    }

    #[test]
    fn settings_have_a_value_and_an_origin() {
        let bare = Setting { key: "holds.default_reason".into(), value: None, file: None, line: None };
        assert_eq!(
            text(&[Frame::Setting(fixture::setting()), Frame::Setting(bare)]),
            "guard.disk-root.warn_percent  15  # /etc/ebb/ebb.toml.d/10-disk.toml:2\n\
             holds.default_reason          not set  # default\n"
        );
    }
}
