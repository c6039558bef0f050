//! Secrets are in files that are read when they are needed: they can be changed without us, and are in no memory of ours
//! for longer than a sending takes.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::NotifyError;

/// No password and no token is longer; what is, is another file.
const LONGEST: u64 = 16 * 1024;

/// The first line of a file that not everybody may read.
pub(crate) fn read(path: &Path) -> Result<String, NotifyError> {
    let failed = |cause: String| NotifyError::Secret { path: path.to_owned(), cause };
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let known = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !known.is_file() {
        return Err(failed("it is no file".to_owned()));
    }
    if known.permissions().mode() & 0o007 != 0 {
        return Err(failed(format!("everybody may read it: chmod 600 {}", path.display())));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(failed("its first line is empty".to_owned())),
    }
}
