//! Which files there are, in which order, and whether they have changed.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Source};

/// Files as they were at one time: path, inode, length, and when it was changed last.
pub(crate) type Stamp = Vec<(PathBuf, u64, u64, i64, i64)>;

/// Where the drop-ins of a file are: `ebb.toml.d` beside `ebb.toml`.
fn drop_ins(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".d");
    name.into()
}

/// The file, and its drop-ins in the order of their names.
fn list(path: &Path) -> Result<Vec<PathBuf>, (PathBuf, std::io::Error)> {
    let folder = drop_ins(path);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![path.to_owned()]),
        Err(error) => return Err((folder, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| (folder.clone(), error))?.file_name();
        // Editors leave hidden files and others' endings behind.
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if Path::new(&name).extension() == Some(OsStr::new("toml")) && !hidden {
            files.push(folder.join(name));
        }
    }
    files.sort();
    files.insert(0, path.to_owned());
    Ok(files)
}

/// All that can be read, and a fault for what is there and cannot.
pub(crate) fn read(path: &Path) -> (Vec<Source>, Vec<Fault>) {
    let mut unread = Vec::new();
    let mut fault = |file: PathBuf, at, what: String, hint: Option<&str>| {
        unread.push(Fault { file, at, what, hint: hint.map(str::to_owned) });
    };
    let paths = list(path).unwrap_or_else(|(folder, error)| {
        fault(folder, None, format!("it cannot be read: {error}"), None);
        vec![path.to_owned()]
    });
    let mut sources = Vec::new();
    for file in paths {
        match std::fs::read(&file) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => sources.push(Source { path: file, text }),
                Err(error) => {
                    let whole = error.utf8_error().valid_up_to();
                    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                    let position = Source { path: file.clone(), text }.position(whole);
                    fault(file, Some(position), "this is no UTF-8".to_owned(), Some("save it as UTF-8"));
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound && file == path => {}
            Err(error) => fault(file, None, format!("it cannot be read: {error}"), None),
        }
    }
    (sources, unread)
}

/// What tells whether any file has been changed, added or removed since.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let paths = list(path).unwrap_or_else(|_| vec![path.to_owned()]);
    let seen = paths.into_iter().filter_map(|file| {
        let seen = std::fs::metadata(&file).ok()?;
        // The change of the inode counts changes of its rights too.
        Some((file, seen.ino(), seen.len(), seen.ctime(), seen.ctime_nsec()))
    });
    seen.collect()
}
