//! The base image: a Debian 12 with every daemon the roles need, all of them off.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{LabError, Result};

const RECIPE: &str = include_str!("../scripts/base.sh");
const SUITE: &str = "bookworm";
const CACHE: &str = "/var/cache/ebb-lab";

/// The directory of the base image; makes it first where this machine has none (one to two minutes).
///
/// Images are kept by the hash of their recipe. It appears under that name only when complete, and a lock makes
/// a second builder wait for the first. Progress goes to standard error.
///
/// # Errors
/// When debootstrap or the installation fails; the log is part of the message.
pub fn base_image() -> Result<PathBuf> {
    let cache = Path::new(CACHE);
    let image = cache.join(format!("{:016x}", fnv(&[RECIPE.as_bytes(), SUITE.as_bytes()])));
    if image.is_dir() {
        return Ok(image);
    }
    fs::create_dir_all(cache).map_err(LabError::file("create", cache))?;
    let lock_path = cache.join("lock");
    let lock = File::create(&lock_path).map_err(LabError::file("create", &lock_path))?;
    if lock.try_lock().is_err() {
        say("waiting for another builder of the base image");
        lock.lock().map_err(LabError::file("lock", &lock_path))?;
    }
    if !image.is_dir() {
        build(&image)?;
    }
    Ok(image)
}

/// Builds beside the final place. The lock is held, so what lies there is from a builder that died.
fn build(image: &Path) -> Result<()> {
    let building = image.with_extension("building");
    if building.exists() {
        fs::remove_dir_all(&building).map_err(LabError::file("remove", &building))?;
    }
    say("making the base image, once: one to two minutes");
    let status = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "bash", "-c", RECIPE, "base.sh"])
        .arg(&building)
        .arg(SUITE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|source| LabError::Start { program: "unshare ... base.sh".into(), source })?;
    let log = building.with_extension("building.log");
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        return Err(LabError::Command {
            command: format!("base.sh (whole log: {})", log.display()),
            code: status.code(),
            text: lines[lines.len().saturating_sub(30)..].join("\n"),
        });
    }
    fs::rename(&building, image).map_err(LabError::file("rename", &building))?;
    say("base image ready");
    Ok(())
}

/// FNV-1a: a name for the recipe that stays the same from one compiler to the next, which std's hashers do not
/// promise.
fn fnv(parts: &[&[u8]]) -> u64 {
    parts
        .concat()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn say(text: &str) {
    // Progress only: not being able to show it is no reason to fail.
    let _ = writeln!(std::io::stderr(), "ebb-lab: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_the_published_function() {
        assert_eq!(fnv(&[b""]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(&[b"foo", b"bar"]), 0x8594_4171_f739_67e8);
    }
}
