use std::fs;

use super::*;
use crate::Error;

/// A directory of its own, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("ebb-guard-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::create_dir_all(dir.join("run")).unwrap();
        Self(dir)
    }

    fn guard(&self) -> Guard {
        let at = |name| self.0.join(name);
        Guard::new(GuardDirs { units: at("etc"), runtime: at("run"), marks: at("state/held") }, "ebb")
    }

    /// Every path below the directories that systemd reads, with what is in it.
    fn files(&self) -> Vec<(PathBuf, Option<String>)> {
        let mut found = Vec::new();
        let mut dirs = vec![self.0.join("etc"), self.0.join("run")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path.clone());
                }
                found.push((path.clone(), fs::read_to_string(path).ok()));
            }
        }
        found.sort();
        found
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn unit(name: &str) -> UnitName {
    UnitName::new(name).unwrap()
}

const TEXT: &str = "held by ada. Undo: ebb resume nginx";

#[test]
fn put_and_take_leave_no_trace() {
    let scratch = Scratch::new("trace");
    let guard = scratch.guard();
    for (name, file) in [("b.service.d", Some("override.conf")), ("c.service.d", None)] {
        fs::create_dir(scratch.0.join("etc").join(name)).unwrap();
        if let Some(file) = file {
            fs::write(scratch.0.join("etc").join(name).join(file), "[Unit]\n").unwrap();
        }
    }
    let before = scratch.files();
    let units = ["a.service", "b.service", "c.service", "postgresql@15-main.service", "foo\\x2dbar.socket"].map(unit);
    for refusal in [Refusal::ByName, Refusal::AtStart] {
        for unit in &units {
            assert!(guard.put(unit, TEXT, refusal).unwrap());
            assert!(!guard.put(unit, TEXT, refusal).unwrap(), "again is nothing new");
            assert_eq!(guard.state(unit).unwrap(), GuardState::Whole);
        }
        let mut all = units.to_vec();
        all.sort();
        assert_eq!(guard.all().unwrap(), all);
        for unit in &units {
            assert!(guard.take(unit).unwrap());
            assert!(!guard.take(unit).unwrap());
            assert_eq!(guard.state(unit).unwrap(), GuardState::Absent);
        }
        assert_eq!(scratch.files(), before);
        assert_eq!(guard.all().unwrap(), []);
    }
}

/// As for `reboot.target`, which is to be free again after a loss of power.
#[test]
fn one_directory_will_do_for_both() {
    let scratch = Scratch::new("one");
    let at = |name| scratch.0.join(name);
    let guard = Guard::new(GuardDirs { units: at("run"), runtime: at("run"), marks: at("held") }, "ebb");
    let unit = unit("reboot.target");
    assert!(guard.put(&unit, TEXT, Refusal::ByName).unwrap());
    assert_eq!(guard.state(&unit).unwrap(), GuardState::Whole);
    assert_eq!(guard.all().unwrap(), std::slice::from_ref(&unit));
    assert!(guard.take(&unit).unwrap());
    assert_eq!(scratch.files(), []);
}

#[test]
fn another_text_or_refusal_is_a_change() {
    let scratch = Scratch::new("change");
    let (guard, unit) = (scratch.guard(), unit("x.service"));
    for (text, refusal) in [("one", Refusal::AtStart), ("two", Refusal::AtStart), ("two", Refusal::ByName)] {
        assert!(guard.put(&unit, text, refusal).unwrap());
    }
    assert!(guard.put(&unit, "two", Refusal::AtStart).unwrap());
    assert_eq!(guard.state(&unit).unwrap(), GuardState::Whole);
    assert!(guard.take(&unit).unwrap());
    assert_eq!(scratch.files(), [], "the directory is still known as ours");
}

#[test]
fn what_is_lost_or_changed_is_said_and_mended() {
    let scratch = Scratch::new("lost");
    let (guard, unit) = (scratch.guard(), unit("x.service"));
    let cases = [
        (Piece::Mark, guard.mark(&unit), false),
        (Piece::Barrier, guard.barrier(&unit), false),
        (Piece::Words, guard.words(&unit), true),
    ];
    for (piece, path, refuses) in cases {
        guard.put(&unit, TEXT, Refusal::ByName).unwrap();
        fs::remove_file(&path).unwrap();
        let state = guard.state(&unit).unwrap();
        assert_eq!(state, GuardState::Partial(vec![(piece, PieceFault::Missing)]));
        assert_eq!(state.refuses(), refuses, "{piece:?}");
        assert_eq!(guard.all().unwrap(), std::slice::from_ref(&unit));
        // A lost mark is no file that systemd has read.
        assert_eq!(guard.put(&unit, TEXT, Refusal::ByName).unwrap(), piece != Piece::Mark);

        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "# hello\n").unwrap();
        assert_eq!(guard.state(&unit).unwrap(), GuardState::Partial(vec![(piece, PieceFault::Altered)]));
        guard.put(&unit, TEXT, Refusal::ByName).unwrap();
        assert_eq!(guard.state(&unit).unwrap(), GuardState::Whole);
    }
    fs::remove_file(guard.mark(&unit)).unwrap();
    assert!(guard.take(&unit).unwrap());
    assert_eq!(scratch.files(), [], "the barrier too knows whose the directory is");
}

#[test]
fn what_a_crash_leaves_is_removed() {
    let scratch = Scratch::new("crash");
    let (guard, unit) = (scratch.guard(), unit("x.service"));
    guard.put(&unit, TEXT, Refusal::ByName).unwrap();
    fs::remove_file(guard.barrier(&unit)).unwrap();
    fs::write(guard.barrier(&unit).with_file_name(".new"), "half").unwrap();
    assert!(!guard.state(&unit).unwrap().refuses());
    assert!(guard.take(&unit).unwrap());
    assert_eq!(scratch.files(), []);
    // Only the mark was written.
    fs::write(guard.mark(&unit), "").unwrap();
    let state = guard.state(&unit).unwrap();
    let wanted = vec![(Piece::Mark, PieceFault::Altered), (Piece::Barrier, PieceFault::Missing)];
    assert_eq!(state, GuardState::Partial(wanted));
    assert!(!guard.take(&unit).unwrap(), "systemd never read it");
    assert_eq!(guard.all().unwrap(), []);
}

#[test]
fn anothers_file_is_left_alone() {
    let scratch = Scratch::new("foreign");
    let (guard, unit) = (scratch.guard(), unit("x.service"));
    for path in [guard.barrier(&unit), guard.words(&unit)] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "[Unit]\n").unwrap();
        let foreign = |outcome: Result<()>| matches!(outcome, Err(Error::NotOurs { path: found }) if found == path);
        assert!(foreign(guard.put(&unit, TEXT, Refusal::ByName).map(drop)));
        assert!(foreign(guard.take(&unit).map(drop)));
        assert!(foreign(guard.state(&unit).map(drop)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "[Unit]\n");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let scratch = Scratch::new("denied");
    let at = scratch.0.join("file");
    fs::write(&at, "").unwrap();
    let dirs = GuardDirs { units: scratch.0.join("etc"), runtime: scratch.0.join("run"), marks: at.join("held") };
    let error = Guard::new(dirs, "ebb").put(&unit("x.service"), TEXT, Refusal::AtStart).unwrap_err();
    assert!(matches!(&error, Error::File { path, .. } if *path == at.join("held")), "{error}");
    assert_eq!(scratch.files(), []);
}

#[test]
fn a_timer_is_not_broken_by_words() {
    let refusal = |show: &str| Refusal::fitting(&crate::unit::tests::unit(show));
    assert_eq!(refusal("TriggeredBy=x.timer"), Refusal::AtStart);
    assert_eq!(refusal("TriggeredBy=x.socket x.path"), Refusal::AtStart);
    assert_eq!(refusal("TriggeredBy=x.socket"), Refusal::ByName);
    assert_eq!(refusal(""), Refusal::ByName);
}
