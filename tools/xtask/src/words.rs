//! One word for each concept: what `docs/words.md` says, and the synonyms that must not creep in.

mod banned;

use std::path::Path;

use crate::report::Violation;
use crate::source::Source;

/// Our words. Each must be explained in `docs/words.md`, in bold.
pub const OURS: [&str; 41] = [
    "service",
    "server",
    "pool",
    "member",
    "site",
    "gate",
    "door",
    "leak",
    "hold",
    "requester",
    "except",
    "drain",
    "resume",
    "release",
    "effective state",
    "settle time",
    "census",
    "inventory",
    "connection",
    "session",
    "straggler",
    "why",
    "deadline",
    "timeout",
    "grace",
    "goodbye",
    "destroy",
    "end",
    "steer",
    "maintenance",
    "roll",
    "guard",
    "copy",
    "home",
    "drill",
    "plan",
    "run",
    "step",
    "journal",
    "agent",
    "controller",
];

/// Checks the sources and the document.
pub fn check(root: &Path, sources: &[Source]) -> Result<Vec<Violation>, String> {
    let mut violations = Vec::new();
    for source in sources {
        banned::check(source, &mut violations);
    }
    let document = root.join("docs/words.md");
    let text = std::fs::read_to_string(&document).map_err(|error| format!("read {}: {error}", document.display()))?;
    violations.extend(unexplained(&text));
    Ok(violations)
}

fn unexplained(text: &str) -> impl Iterator<Item = Violation> {
    let missing = OURS.into_iter().filter(move |word| !text.contains(&format!("**{word}**")));
    missing.map(|word| Violation {
        file: Path::new("docs/words.md").to_owned(),
        line: 1,
        what: format!("our word `{word}` is not explained (looked for **{word}**)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_explains_each_word() {
        let text = include_str!("../../../docs/words.md");
        let missing: Vec<_> = unexplained(text).map(|violation| violation.to_string()).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn a_missing_word_is_seen() {
        assert_eq!(unexplained("**service** and hold").count(), OURS.len() - 1);
    }
}
