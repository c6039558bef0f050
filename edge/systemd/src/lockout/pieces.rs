//! What stands in the files.

use std::path::PathBuf;

use super::{LockoutDirs, Refusal, words};
use crate::UnitName;

const MADE_DIR: &str = "made-directory=yes";
const BY_NAME: &str = "by-name";
const AT_START: &str = "at-start";

/// What the mark remembers: enough to make the other pieces again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) text: String,
    pub(super) refusal: Refusal,
    /// The barrier's directory is there because of us.
    pub(super) made_dir: bool,
}

impl Record {
    /// Reads a mark; `None` if it is not as we write it.
    pub(super) fn read(mark: &str) -> Option<Self> {
        let value = |key: &str| mark.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let refusal = match value("refusal")? {
            BY_NAME => Refusal::ByName,
            AT_START => Refusal::AtStart,
            _ => return None,
        };
        Some(Self { text: value("text")?.to_owned(), refusal, made_dir: Self::made_dir_in(mark) })
    }

    /// Whether a mark or a barrier says that we made the directory.
    pub(super) fn made_dir_in(text: &str) -> bool {
        text.lines().any(|line| line.trim_start_matches("# ") == MADE_DIR)
    }

    pub(super) fn mark(&self, unit: &UnitName, owner: &str) -> String {
        let refusal = match self.refusal {
            Refusal::ByName => BY_NAME,
            Refusal::AtStart => AT_START,
        };
        let made_dir = if self.made_dir { format!("{MADE_DIR}\n") } else { String::new() };
        let head = made_by(owner);
        format!(
            "{head} While this file is there, {unit} does not start.\ntext={}\nrefusal={refusal}\n{made_dir}",
            self.text
        )
    }

    pub(super) fn barrier(&self, unit: &UnitName, owner: &str, dirs: &LockoutDirs) -> String {
        let mark = mark_path(dirs, unit).display().to_string();
        let made_dir = if self.made_dir { format!("# {MADE_DIR}\n") } else { String::new() };
        let head = made_by(owner);
        let (text, asserted) = (words::literal(&self.text), words::literal(&mark));
        format!(
            "{head} {unit} does not start while this file is there:\n# {mark}\n# If {owner} itself is gone: remove \
             both and run `systemctl daemon-reload`.\n{made_dir}[Unit]\nDescription={text}\nAssertPathExists=!{asserted}\n"
        )
    }

    pub(super) fn words(&self, unit: &UnitName, owner: &str) -> String {
        let head = made_by(owner);
        let missing = words::missing_unit(owner, &self.text);
        format!(
            "{head} {unit} does not start; this file makes the message say why.\n# There is no such unit, on \
             purpose. A reboot removes this file.\n[Unit]\nRequires={missing}\n"
        )
    }
}

/// Whether a drop-in is one of ours, whatever became of it.
pub(crate) fn is_ours(text: &str, owner: &str) -> bool {
    text.starts_with(&made_by(owner))
}

pub(super) fn mark_path(dirs: &LockoutDirs, unit: &UnitName) -> PathBuf {
    dirs.marks.join(unit.as_str())
}

pub(crate) fn made_by(owner: &str) -> String {
    format!("# Made by {owner}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back() {
        let unit = UnitName::new("x.service").unwrap();
        for (refusal, made_dir) in [(Refusal::ByName, true), (Refusal::AtStart, false)] {
            let record = Record { text: "held = by 100%".to_owned(), refusal, made_dir };
            assert_eq!(Record::read(&record.mark(&unit, "ebb")), Some(record));
        }
        for odd in ["", "text=x\n", "text=x\nrefusal=loud\n", "refusal=by-name\n"] {
            assert_eq!(Record::read(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn what_systemd_reads_is_literal() {
        let unit = UnitName::new("foo\\x2dbar@a.service").unwrap();
        let dirs = LockoutDirs::system("/var/lib/50%/held".into());
        let record = Record { text: "100% sure".to_owned(), refusal: Refusal::ByName, made_dir: false };
        let barrier = record.barrier(&unit, "ebb", &dirs);
        assert!(barrier.contains("\nDescription=100%% sure\n"), "{barrier}");
        assert!(barrier.contains("\nAssertPathExists=!/var/lib/50%%/held/foo\\x2dbar@a.service\n"), "{barrier}");
        let words = record.words(&unit, "ebb");
        assert!(words.ends_with("[Unit]\nRequires=ebb:100_-sure.service\n"), "{words}");
        assert!(is_ours(&barrier, "ebb") && is_ours(&words, "ebb") && !is_ours("[Unit]\n", "ebb"));
    }
}
