//! Small files that are whole or absent, and stay so when the power goes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use crate::{Error, Result};

/// Everybody may read what systemd acts on, whatever our umask is.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// The file's text; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_absence(&error) => Ok(None),
        Err(source) => Err(failure("read", path, source)),
    }
}

/// Makes the file have this text, and its directory where there is none. Returns whether it had another.
pub(crate) fn write(path: &Path, text: &str) -> Result<bool> {
    if read(path)?.as_deref() == Some(text) {
        return Ok(false);
    }
    let dir = parent(path);
    make_dir(dir)?;
    // One writer at a time, so one name will do; systemd reads only what ends in ".conf".
    let new = dir.join(".new");
    let written = write_through(&new, text).and_then(|()| fs::rename(&new, path));
    if let Err(source) = written {
        // What is left of it is in nobody's way.
        drop(fs::remove_file(&new));
        return Err(failure("write", path, source));
    }
    sync(dir)?;
    Ok(true)
}

fn write_through(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.sync_all()
}

/// Makes a directory and those above it.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    make_dir(above)?;
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(source) => return Err(failure("make the directory", dir, source)),
    }
    fs::set_permissions(dir, Permissions::from_mode(DIR_MODE)).map_err(|source| failure("open", dir, source))?;
    sync(above)
}

/// Removes a file. Returns whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync(parent(path)).map(|()| true),
        Err(error) if is_absence(&error) => Ok(false),
        Err(source) => Err(failure("remove", path, source)),
    }
}

/// Removes the directory a file was in, if nothing else is in it.
pub(crate) fn remove_empty_dir(of: &Path) -> Result<()> {
    let dir = parent(of);
    // A write that was cut off may have left it.
    remove(&dir.join(".new"))?;
    match fs::remove_dir(dir) {
        Ok(()) => sync(parent(dir)),
        Err(error) if is_absence(&error) || error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        Err(source) => Err(failure("remove", dir, source)),
    }
}

/// The names in a directory, in any order; none if there is no directory.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        Err(source) => return Err(failure("read", dir, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| failure("read", dir, source))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// A rename or a removal is on the disk when its directory is.
fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| failure("write", dir, source))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn failure(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { what, path: path.to_owned(), source }
}
