//! Another way for the queue: a block at the end of `main.cf`, which overrides what is above it, and is cut out again. So what
//! was there before is never lost, whoever is killed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;

use ebb_model::NextHop;

const BEGIN: &str = "# ebb: all mail leaves by this server until the drain is over, and `ebb resume` takes this away\n";
/// The same after a last line that has no end, which we give it.
const JOINED: &str =
    "\n# ebb: the line above had no end, and all mail leaves by this server until `ebb resume` takes this away\n";
const END: &str = "# ebb: end\n";
/// `main.cf` is read whole; nobody writes more.
const MOST: u64 = 4 << 20;

/// Without our block; none if it has none.
fn without(text: &[u8]) -> Option<Vec<u8>> {
    let at = |needle: &str, from: usize| {
        let found = text.get(from..)?.windows(needle.len()).position(|window| window == needle.as_bytes())?;
        Some(from + found)
    };
    let begin = at(BEGIN, 0).or_else(|| at(JOINED, 0))?;
    let end = at(END, begin)? + END.len();
    Some([&text[..begin], &text[end..]].concat())
}

fn with(text: &[u8], hop: &NextHop) -> Vec<u8> {
    let mut all = without(text).unwrap_or_else(|| text.to_vec());
    let begin = if all.is_empty() || all.ends_with(b"\n") { BEGIN } else { JOINED };
    all.extend(format!("{begin}relayhost = {hop}\n{END}").bytes());
    all
}

/// Sends all that leaves by SMTP by this server, or with none as before. True if that changed anything.
///
/// # Errors
/// The file cannot be read or written; it is as it was.
pub(super) fn set(config: &Path, hop: Option<&NextHop>) -> io::Result<bool> {
    // It may be a link to where the files are kept.
    let path = fs::canonicalize(config.join("main.cf"))?;
    let meta = fs::metadata(&path)?;
    if meta.len() > MOST {
        return Err(io::Error::other("it is larger than any main.cf"));
    }
    let old = fs::read(&path)?;
    let new = match hop {
        Some(hop) => with(&old, hop),
        None => without(&old).unwrap_or_else(|| old.clone()),
    };
    if new == old {
        return Ok(false);
    }
    let beside = path.with_extension("cf.ebb");
    let _ = fs::remove_file(&beside);
    let mut file = File::options().write(true).create_new(true).mode(meta.mode() & 0o7777).open(&beside)?;
    let written = file.write_all(&new).and_then(|()| file.sync_all());
    let written = written.and_then(|()| chown(&beside, Some(meta.uid()), Some(meta.gid())));
    written.and_then(|()| fs::rename(&beside, &path)).inspect_err(|_| drop(fs::remove_file(&beside)))?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(true)
}

/// Whether our block is there.
pub(super) fn is_set(config: &Path) -> bool {
    fs::read(config.join("main.cf")).is_ok_and(|text| without(&text).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_comes_back_byte_for_byte() {
        let hop: NextHop = "mx2:2525".parse().unwrap();
        let other: NextHop = "10.0.0.9".parse().unwrap();
        for text in ["", "relayhost =\n", "a = b\n", "a = b", "a = b\n\n", "a =\n  b\n# c", "a = b\n#"] {
            let changed = with(text.as_bytes(), &hop);
            assert!(String::from_utf8_lossy(&changed).contains("\nrelayhost = [mx2]:2525\n"), "{text:?}");
            assert_eq!(with(&changed, &hop), changed, "twice is once: {text:?}");
            let again = with(&changed, &other);
            assert_eq!(String::from_utf8_lossy(&again).matches("\nrelayhost = [").count(), 1, "{text:?}");
            assert_eq!(without(&again).unwrap(), text.as_bytes(), "{text:?}");
            assert_eq!(without(text.as_bytes()), None);
        }
        // Somebody has added something after it.
        let added = [with(b"a = b\n", &hop), b"c = d\n".to_vec()].concat();
        assert_eq!(without(&added).unwrap(), b"a = b\nc = d\n");
        assert_eq!(without(BEGIN.as_bytes()), None, "half of it is not ours to cut");
    }
}
