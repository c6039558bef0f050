//! Names of files with `*` in the last part.

use std::path::{Path, PathBuf};

/// The files that a name means, in order; `*` in the last part stands for anything but a leading dot. A name without
/// one means itself, whether it is there or not.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn fitting(name: &str) -> Result<Vec<PathBuf>, String> {
    let path = Path::new(name);
    let Some(last) = path.file_name().and_then(|last| last.to_str()).filter(|last| last.contains('*')) else {
        return Ok(vec![path.to_owned()]);
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    let unread = |error: std::io::Error| format!("{} cannot be read: {error}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.') && !last.starts_with('.');
        if !hidden && fits(last, &name.to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, does) in [
            ("*", "x", true),
            ("*.pem", "a.pem", true),
            ("*.pem", "a.pem.old", false),
            ("dump-*.gz", "dump-.gz", true),
            ("dump-*.gz", "dump.gz", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("x", "x", true),
            ("x", "xy", false),
        ] {
            assert_eq!(fits(pattern, name), does, "{pattern} {name}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_no_empty_one() {
        assert!(fitting("/no/such/*.pem").unwrap_err().starts_with("/no/such cannot be read"));
        assert_eq!(fitting("/no/such/one").unwrap(), [PathBuf::from("/no/such/one")]);
        assert!(fitting("/etc/pass*").unwrap().contains(&PathBuf::from("/etc/passwd")));
    }
}
