//! All sources of the workspace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::tests_in::{self, TestModule};
use super::{Source, lexer};

/// The folders of the rings and of what stands beside them.
pub const RINGS: [&str; 6] = ["core", "edge", "shell", "face", "proof", "tools"];

/// Reads every source of the workspace at `root`.
pub fn sources(root: &Path) -> Result<Vec<Source>, String> {
    let mut paths = Vec::new();
    for ring in RINGS {
        collect(&root.join(ring), &mut paths)?;
    }
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
        texts.push((path.strip_prefix(root).unwrap_or(&path).to_owned(), text));
    }
    let tests = test_files(&texts);
    let is_test = |path: &Path| path.ancestors().any(|part| tests.contains(part)) || in_test_folder(path);
    Ok(texts.iter().map(|(path, text)| Source::new(path, text, is_test(path))).collect())
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|error| format!("list {}: {error}", folder.display()))?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Beside `src`: tests, examples, benches.
fn in_test_folder(path: &Path) -> bool {
    let mut parts = path.iter().skip(2);
    parts.next().is_some_and(|part| part == "tests" || part == "examples" || part == "benches")
}

/// Files, and folders of their children, of modules that are declared for tests alone.
fn test_files(texts: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (path, text) in texts {
        for module in tests_in::test_modules(&lexer::tokens(text)) {
            match module {
                TestModule::Named(name) => {
                    let beside = folder_of_children(path).join(name);
                    found.insert(beside.with_extension("rs"));
                    found.insert(beside);
                }
                TestModule::At(file) => drop(found.insert(path.with_file_name(file))),
            }
        }
    }
    found
}

/// `src/lib.rs` and `src/x/mod.rs` have their children beside them, `src/x.rs` in `src/x`.
fn folder_of_children(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(path);
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => folder.to_owned(),
        Some(stem) => folder.join(stem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_for_tests_alone_are_found_wherever_they_lie() {
        let text = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let found = test_files(&[
            text("edge/a/src/lib.rs", "#[cfg(test)]\nmod testnet;\nmod real;"),
            text("edge/a/src/gate.rs", "#[cfg(test)] mod tests;"),
            text("edge/a/src/verbs/mod.rs", "#[cfg(test)] mod probes;"),
            text("core/b/src/c.rs", "#[cfg(test)]\n#[path = \"c_tests.rs\"]\nmod tests;"),
        ]);
        for path in
            ["edge/a/src/testnet.rs", "edge/a/src/gate/tests", "edge/a/src/verbs/probes.rs", "core/b/src/c_tests.rs"]
        {
            assert!(found.contains(Path::new(path)), "{path}");
        }
        assert!(!found.contains(Path::new("edge/a/src/real.rs")));
        assert!(in_test_folder(Path::new("proof/lab/tests/x.rs")));
        assert!(!in_test_folder(Path::new("edge/a/src/tests.rs")));
    }
}
