//! Where a trial keeps its few files, and that none stay.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ebb_kernel::boot;

use crate::process::OURSELVES;
use crate::{Error, Role};

/// Of the name of a place.
const PREFIX: &str = "ebb-try-";
/// Name of the service, hence of the program.
pub(crate) const SERVICE: &str = "chat";
/// The trial's own configuration.
pub(crate) const CONFIG: &str = "ebb.toml";
/// Files may appear while we remove them, from a process that is just being killed.
const ATTEMPTS: u32 = 20;

/// A directory for one trial; gone when this is.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    /// The directory itself, locked: whoever can lock it knows that its trial is no more. A process number would not do, for
    /// a container may share our `/tmp` and not our numbers.
    _lock: File,
}

impl Place {
    /// Makes one where programs can be run, with the service's program in it. Removes what trials left that were killed
    /// together with everybody who could have tidied up.
    pub(crate) fn make() -> Result<Self, Error> {
        let mut tried = Vec::new();
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for base in bases() {
            remove_stale(&base);
            match Self::make_in(&base) {
                Ok(place) => return Ok(place),
                Err(error) => last = error,
            }
            tried.push(base.display().to_string());
        }
        Err(Error::NoPlace { tried: tried.join(", "), source: last })
    }

    fn make_in(base: &Path) -> io::Result<Self> {
        let dir = base.join(format!("{PREFIX}{}-{}", std::process::id(), boot::boottime_ms()));
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let lock = File::open(&dir)?;
        lock.try_lock()?;
        let place = Self { dir, _lock: lock };
        // Inside a system service (a CI runner's) the trial's server would be shown under that unit.
        fs::write(place.dir.join(CONFIG), "systemd = false\n")?;
        let program = place.dir.join(SERVICE);
        fs::copy(OURSELVES, &program)?;
        // A file system may be mounted noexec; only trying tells.
        let mut trial = Command::new(&program);
        trial.args(Role::Nothing.arguments()).stdin(Stdio::null()).stdout(Stdio::null());
        if trial.status()?.success() { Ok(place) } else { Err(io::Error::other("the program does not run there")) }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// Removes a place, with patience.
pub(crate) fn remove(dir: &Path) {
    for _ in 0..ATTEMPTS {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(50)),
            _ => return,
        }
    }
}

fn bases() -> Vec<PathBuf> {
    let mut bases = vec![std::env::temp_dir()];
    bases.extend(std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from));
    bases.extend(["/var/tmp", "/dev/shm"].map(PathBuf::from));
    bases.extend(std::env::current_dir().ok());
    bases.dedup();
    bases
}

/// Removes our own places whose trials are no more.
fn remove_stale(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let is_place = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Everybody may write to /tmp: only what is a directory of ours.
        let ours = || entry.metadata().is_ok_and(|seen| seen.is_dir() && seen.uid() == boot::effective_uid());
        if is_place && ours() && File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_ok()) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_places_go_and_living_ones_stay() {
        let base = std::env::temp_dir().join(format!("ebb-trial-test-{}", std::process::id()));
        let [living, stale, other] = ["ebb-try-1-1", "ebb-try-1-2", "something"].map(|name| base.join(name));
        for dir in [&living, &stale, &other] {
            fs::create_dir_all(dir.join("a/b")).unwrap();
        }
        fs::write(base.join("ebb-try-file"), "").unwrap();
        let lock = File::open(&living).unwrap();
        lock.try_lock().unwrap();
        remove_stale(&base);
        assert!(living.exists() && !stale.exists() && other.exists() && base.join("ebb-try-file").exists());
        drop(lock);
        remove_stale(&base);
        assert!(!living.exists());
        remove(&base);
        assert!(!base.exists());
    }
}
