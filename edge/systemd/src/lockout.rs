//! Keeps units from starting, by files that systemd reads: no process of ours is needed.
//!
//! What a file can do was measured on systemd 252; the figures are in `docs/decisions/2026-11-25-held-units.md`.
//!
//! | piece | where | what it does |
//! |---|---|---|
//! | [`Piece::Mark`] | `MARKS/UNIT` | while it is there the unit does not start |
//! | [`Piece::Barrier`] | `/etc/systemd/system/UNIT.d` | asserts that the mark is absent, at boot too; shows the words as the unit's description |
//! | [`Piece::Words`] | `/run/systemd/system/UNIT.d` | requires a unit that does not exist, whose *name* says who holds this one |
//!
//! Without the words `systemctl start` says only "Assertion failed on job for nginx.service"; with them
//! "Failed to start nginx.service: Unit ebb:held-by-ada.Undo:ebb-resume-nginx.service not found.", and a
//! restart is refused *before* the stop. They are no barrier: a start that others pull in by `Wants=` passes
//! them. They live in `/run` because a missing unit that the default target requires, however indirectly,
//! keeps a machine from booting; a failed assertion does not.
//!
//! The same works for `reboot.target` and its like, with all three directories below `/run`: then
//! `systemctl reboot` says why not.
//!
//! What cannot be kept: a stop (and so a fresh process that the service itself makes), and a start of the
//! same program that goes round systemd.

pub(crate) mod pieces;
pub(crate) mod words;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::{LoadState, Result, Unit, UnitKind, UnitName, durable};
use pieces::Record;

/// Where the pieces are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockoutDirs {
    /// Of the barriers: a directory systemd reads, and which outlives a reboot.
    pub units: PathBuf,
    /// Of the words: a directory systemd reads, and which a reboot empties.
    pub runtime: PathBuf,
    /// Of the marks. Without it (a state directory lost) the next boot starts the units again.
    pub marks: PathBuf,
}

impl LockoutDirs {
    /// systemd's own directories for what the administrator and what a program at run time adds.
    pub fn system(marks: PathBuf) -> Self {
        Self { units: "/etc/systemd/system".into(), runtime: "/run/systemd/system".into(), marks }
    }
}

/// How a start is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By an assertion, when systemd comes to the start: rc 1, words in the journal and in `systemctl status`.
    /// A restart stops the unit first.
    AtStart,
    /// Besides, before anything is done: rc 5 with the words on the terminal, and a restart leaves a running
    /// unit alone. A timer or path unit that triggers the unit fails for good at its next turn.
    ByName,
}

impl Refusal {
    /// [`Self::ByName`], unless a timer or path unit would be broken by it.
    pub fn fitting(unit: &Unit) -> Self {
        let breaks = |name: &UnitName| matches!(name.kind(), UnitKind::Timer | UnitKind::Path);
        if unit.triggered_by.iter().any(breaks) { Self::AtStart } else { Self::ByName }
    }
}

/// One of the files that keep a unit from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Piece {
    /// The file whose absence is asserted.
    Mark,
    /// The drop-in with the assertion.
    Barrier,
    /// The drop-in with the requirement, until the next reboot.
    Words,
}

/// What is wrong with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceFault {
    /// It is not there.
    Missing,
    /// It is there, and is not what was put.
    Altered,
}

/// What is there of a unit's pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockoutState {
    /// Nothing.
    Absent,
    /// All, as it was put.
    Whole,
    /// Some of it, or with changes. [`Lockout::put`] mends, [`Lockout::take`] removes.
    Partial(Vec<(Piece, PieceFault)>),
}

impl LockoutState {
    /// Whether the files refuse a start (if systemd has read them: see [`Lockout::needs_reload`]).
    pub fn refuses(&self) -> bool {
        match self {
            Self::Absent => false,
            Self::Whole => true,
            Self::Partial(faults) => faults.iter().all(|(piece, _)| *piece == Piece::Words),
        }
    }
}

/// Puts and takes the files. It keeps nothing in memory: what is there is on the disk, and each call waits
/// for the disk. One writer at a time.
///
/// Names must be a unit's own ([`Unit::id`]), not an alias. A socket, timer or path unit that triggers a
/// locked out service is to be stopped and locked out too: systemd fails a socket for good whose service does not
/// start, and a path unit whose condition lasts. A timer goes on ([`Refusal::AtStart`]). Masked units stay as they are: they start as little as before, and are masked afterwards.
#[derive(Clone, Debug)]
pub struct Lockout {
    dirs: LockoutDirs,
    owner: String,
}

impl Lockout {
    /// `owner` is the program's name; it is a part of file names and messages. Nothing is touched yet.
    pub fn new(dirs: LockoutDirs, owner: &str) -> Self {
        Self { dirs, owner: owner.to_owned() }
    }

    /// Keeps the unit from starting. `text` says for whom and how to undo it, in one line: it becomes the
    /// unit's description, and shortened to the letters that a unit's name may have, a part of the message.
    /// Doing it again changes nothing; with another text or after a reboot it completes what is there.
    ///
    /// Returns whether systemd must be made to read its files again ([`crate::Systemd::reload_daemon`]):
    /// until then nothing is refused.
    ///
    /// # Errors
    /// [`crate::Error::File`]; [`crate::Error::NotOurs`] if another's file has the name of one of ours.
    pub fn put(&self, unit: &UnitName, text: &str, refusal: Refusal) -> Result<bool> {
        self.refuse_foreign(unit)?;
        let dir = self.barrier(unit).parent().is_some_and(Path::exists);
        let record = Record { text: words::line(text), refusal, made_dir: self.made_dir(unit)? || !dir };
        // The mark first: a barrier without it refuses nothing.
        let marks = &self.dirs.marks;
        durable::make_dir(marks)?;
        durable::write(&self.mark(unit), &record.mark(unit, &self.owner))?;
        let mut reload = durable::write(&self.barrier(unit), &record.barrier(unit, &self.owner, &self.dirs))?;
        reload |= match refusal {
            Refusal::ByName => durable::write(&self.words(unit), &record.words(unit, &self.owner))?,
            Refusal::AtStart => self.take_words(unit)?,
        };
        Ok(reload)
    }

    /// Lets the unit start again: removes what [`Self::put`] made and nothing else. It does not start it.
    ///
    /// Returns whether systemd must be made to read its files again: until then a start by hand may still be
    /// refused.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn take(&self, unit: &UnitName) -> Result<bool> {
        self.refuse_foreign(unit)?;
        let made_dir = self.made_dir(unit)?;
        durable::remove(&self.mark(unit))?;
        let words = self.take_words(unit)?;
        let barrier = self.barrier(unit);
        let removed = durable::remove(&barrier)?;
        if made_dir {
            durable::remove_empty_dir(&barrier)?;
        }
        Ok(words | removed)
    }

    /// What is there for the unit.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn state(&self, unit: &UnitName) -> Result<LockoutState> {
        self.refuse_foreign(unit)?;
        let mark = durable::read(&self.mark(unit))?;
        let found = [mark.clone(), durable::read(&self.barrier(unit))?, durable::read(&self.words(unit))?];
        if found.iter().all(Option::is_none) {
            return Ok(LockoutState::Absent);
        }
        let record = mark.as_deref().and_then(Record::read);
        let wanted = record.as_ref().map(|record| {
            let by_name = record.refusal == Refusal::ByName;
            [
                Some(record.mark(unit, &self.owner)),
                Some(record.barrier(unit, &self.owner, &self.dirs)),
                by_name.then(|| record.words(unit, &self.owner)),
            ]
        });
        let mut faults = Vec::new();
        for (at, piece) in [Piece::Mark, Piece::Barrier, Piece::Words].into_iter().enumerate() {
            let wanted = wanted.as_ref().map(|wanted| wanted[at].as_ref());
            faults.extend(fault(wanted, found[at].as_ref(), piece).map(|fault| (piece, fault)));
        }
        Ok(if faults.is_empty() { LockoutState::Whole } else { LockoutState::Partial(faults) })
    }

    /// Whether systemd has read other files of ours than there are: whoever died between [`Self::put`] or
    /// [`Self::take`] and the reload finds out here. (systemd's own `NeedDaemonReload` does not see a
    /// directory that is new.) `unit` must be fresh; one that is not loaded has read nothing and needs nothing.
    pub fn needs_reload(&self, unit: &Unit) -> bool {
        let differs = |path: PathBuf| unit.drop_ins.iter().any(|read| *read == path.to_string_lossy()) != path.exists();
        unit.load_state == LoadState::Loaded && [self.barrier(&unit.id), self.words(&unit.id)].into_iter().any(differs)
    }

    /// All units of which there is anything, in order: also what is left of a lockout.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn all(&self) -> Result<Vec<UnitName>> {
        let mut units = BTreeSet::new();
        units.extend(durable::names(&self.dirs.marks)?.iter().filter_map(|name| UnitName::new(name).ok()));
        for (dir, file) in [(&self.dirs.units, self.barrier_name()), (&self.dirs.runtime, self.words_name())] {
            let with_ours = durable::names(dir)?.into_iter().filter(|name| dir.join(name).join(&file).exists());
            units.extend(with_ours.filter_map(|name| UnitName::new(name.strip_suffix(".d")?).ok()));
        }
        Ok(units.into_iter().collect())
    }

    fn mark(&self, unit: &UnitName) -> PathBuf {
        pieces::mark_path(&self.dirs, unit)
    }

    fn barrier(&self, unit: &UnitName) -> PathBuf {
        self.dirs.units.join(format!("{unit}.d")).join(self.barrier_name())
    }

    fn words(&self, unit: &UnitName) -> PathBuf {
        self.dirs.runtime.join(format!("{unit}.d")).join(self.words_name())
    }

    /// Late in the alphabet: a drop-in which systemd reads after it could empty the list of assertions.
    fn barrier_name(&self) -> String {
        format!("zz-{}-held.conf", self.owner)
    }

    /// Another name than the barrier's, which would else hide it.
    fn words_name(&self) -> String {
        format!("zz-{}-words.conf", self.owner)
    }

    fn take_words(&self, unit: &UnitName) -> Result<bool> {
        let words = self.words(unit);
        let removed = durable::remove(&words)?;
        if removed {
            durable::remove_empty_dir(&words)?;
        }
        Ok(removed)
    }

    /// Whether the barrier's directory is there because of us. Both files know: one may be lost.
    fn made_dir(&self, unit: &UnitName) -> Result<bool> {
        for path in [self.mark(unit), self.barrier(unit)] {
            if durable::read(&path)?.is_some_and(|text| Record::made_dir_in(&text)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn refuse_foreign(&self, unit: &UnitName) -> Result<()> {
        // The marks' directory is ours alone: whatever a mark says, it is one.
        for path in [self.barrier(unit), self.words(unit)] {
            let foreign = durable::read(&path)?.is_some_and(|text| !pieces::is_ours(&text, &self.owner));
            if foreign {
                return Err(crate::Error::NotOurs { path });
            }
        }
        Ok(())
    }
}

/// `wanted` is `None` where no record says what should be there.
fn fault(wanted: Option<Option<&String>>, found: Option<&String>, piece: Piece) -> Option<PieceFault> {
    match (wanted, found) {
        // Without a mark nobody knows whether there were words.
        (None, None) => (piece != Piece::Words).then_some(PieceFault::Missing),
        (None, Some(_)) => (piece == Piece::Mark).then_some(PieceFault::Altered),
        (Some(Some(_)), None) => Some(PieceFault::Missing),
        (Some(wanted), found) => (wanted != found).then_some(PieceFault::Altered),
    }
}

#[cfg(test)]
mod tests;
