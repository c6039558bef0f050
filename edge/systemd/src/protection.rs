//! Refuses stops of units, and the end of the system, by files below `/run` that systemd reads.
//!
//! What such files can do was measured on systemd 252; the table is in `docs/decisions/2026-11-26-protection.md`.
//!
//! | file | what it does |
//! |---|---|
//! | `UNIT.d/zz-OWNER-protect.conf` | `RefuseManualStop=yes`: a stop or restart by hand or by a script is refused; the words are the unit's description |
//! | the same of `reboot.target` and its like | requires a unit that does not exist, whose *name* says why not |
//!
//! A unit gets no such requirement: it would keep `Restart=` from starting it again. A reboot removes all of it. What goes
//! past systemd, or ends the system by force, is not stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    Result, UnitName, durable,
    lockout::{pieces, words},
};

/// How a system ends in an orderly way.
const ENDS: [&str; 5] = ["reboot.target", "poweroff.target", "halt.target", "kexec.target", "soft-reboot.target"];

/// What is to be refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Stops of these, each with the line that says why.
    pub stops: BTreeMap<UnitName, String>,
    /// The end of the system, with the line that says why.
    pub end: Option<String>,
}

/// Puts and takes the files. It keeps nothing in memory. One writer at a time.
#[derive(Clone, Debug)]
pub struct Protection {
    dir: PathBuf,
    owner: String,
}

impl Protection {
    /// In systemd's directory for what a program adds at run time. `owner` is the program's name.
    pub fn system(owner: &str) -> Self {
        Self::new("/run/systemd/system".into(), owner)
    }

    fn new(dir: PathBuf, owner: &str) -> Self {
        Self { dir, owner: owner.to_owned() }
    }

    /// Makes the files what is to be refused, and removes what is there besides.
    ///
    /// Returns whether systemd must be made to read its files again ([`crate::Systemd::reload_daemon`]).
    ///
    /// # Errors
    /// [`crate::Error::File`]; [`crate::Error::NotOurs`] if another's file has the name of one of ours.
    pub fn converge(&self, wanted: &Refused) -> Result<bool> {
        let ends = ENDS.into_iter().filter_map(|name| UnitName::new(name).ok());
        let ends = ends.filter_map(|unit| Some((unit, self.end_text(wanted.end.as_deref()?))));
        let stops = wanted.stops.iter().map(|(unit, text)| (unit.clone(), self.stop_text(unit, text)));
        let files: BTreeMap<UnitName, String> = stops.chain(ends).collect();
        let mut reload = false;
        for unit in self.all()?.difference(&files.keys().cloned().collect()) {
            reload |= self.take(unit)?;
        }
        for (unit, text) in &files {
            self.refuse_foreign(unit)?;
            reload |= durable::write(&self.file(unit), text)?;
        }
        Ok(reload)
    }

    /// Allows the stop of one unit again. Returns whether a reload is needed.
    ///
    /// # Errors
    /// As [`Self::converge`].
    pub fn take(&self, unit: &UnitName) -> Result<bool> {
        self.refuse_foreign(unit)?;
        let file = self.file(unit);
        let removed = durable::remove(&file)?;
        if removed {
            durable::remove_empty_dir(&file)?;
        }
        Ok(removed)
    }

    /// Everything of which there is a file of ours: units, and targets.
    ///
    /// # Errors
    /// As [`Self::converge`].
    pub fn all(&self) -> Result<BTreeSet<UnitName>> {
        let dirs = durable::names(&self.dir)?;
        let units = dirs.iter().filter_map(|name| UnitName::new(name.strip_suffix(".d")?).ok());
        Ok(units.filter(|unit| self.file(unit).exists()).collect())
    }

    /// Whether it is one of the targets by which the system ends.
    pub fn is_end(unit: &UnitName) -> bool {
        ENDS.contains(&unit.as_str())
    }

    fn file(&self, unit: &UnitName) -> PathBuf {
        self.dir.join(format!("{unit}.d")).join(format!("zz-{}-protect.conf", self.owner))
    }

    fn stop_text(&self, unit: &UnitName, text: &str) -> String {
        let head = pieces::made_by(&self.owner);
        let text = words::literal(&words::line(text));
        format!(
            "{head} Stops of {unit} by hand are refused meanwhile.\n{}[Unit]\nDescription={text}\nRefuseManualStop=yes\n",
            self.undo()
        )
    }

    fn end_text(&self, text: &str) -> String {
        let head = pieces::made_by(&self.owner);
        let missing = words::missing_unit(&self.owner, text);
        format!(
            "{head} There is no such unit, on purpose: its name says why.\n{}[Unit]\nRequires={missing}\n",
            self.undo()
        )
    }

    fn undo(&self) -> String {
        format!(
            "# If {} itself is gone: remove this file and run `systemctl daemon-reload`. A reboot removes it.\n",
            self.owner
        )
    }

    fn refuse_foreign(&self, unit: &UnitName) -> Result<()> {
        let path: &Path = &self.file(unit);
        match durable::read(path)? {
            Some(text) if !pieces::is_ours(&text, &self.owner) => Err(crate::Error::NotOurs { path: path.to_owned() }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> UnitName {
        UnitName::new(name).unwrap()
    }

    #[test]
    fn files_come_and_go_and_leave_no_directory() {
        let dir = std::env::temp_dir().join(format!("ebb-protection-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a.service.d")).unwrap();
        std::fs::write(dir.join("a.service.d/10-theirs.conf"), "[Unit]\n").unwrap();
        let protection = Protection::new(dir.clone(), "ebb");
        let stops = [(unit("a.service"), "100% busy".to_owned()), (unit("b.service"), "x".to_owned())].into();
        let wanted = Refused { stops, end: Some("sessions on a. Drain first: ebb drain a".to_owned()) };
        assert!(protection.converge(&wanted).unwrap());
        assert!(!protection.converge(&wanted).unwrap(), "once is enough");
        let text = std::fs::read_to_string(dir.join("a.service.d/zz-ebb-protect.conf")).unwrap();
        assert!(text.ends_with("[Unit]\nDescription=100%% busy\nRefuseManualStop=yes\n"), "{text}");
        let text = std::fs::read_to_string(dir.join("reboot.target.d/zz-ebb-protect.conf")).unwrap();
        assert!(text.ends_with("Requires=ebb:sessions-on-a.Drain-first:ebb-drain-a.service\n"), "{text}");
        assert_eq!(protection.all().unwrap().len(), 2 + ENDS.len());
        assert!(protection.converge(&Refused::default()).unwrap());
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["a.service.d"], "theirs stays, and nothing of ours");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn anothers_file_of_the_same_name_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("ebb-protection-foreign-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a.service.d")).unwrap();
        std::fs::write(dir.join("a.service.d/zz-ebb-protect.conf"), "[Unit]\n").unwrap();
        let protection = Protection::new(dir.clone(), "ebb");
        assert!(matches!(protection.converge(&Refused::default()), Err(crate::Error::NotOurs { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
