//! Which crate may depend on which.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::report::Violation;

/// What core may take from others, and which crate of it. Nothing here may do I/O, spawn or read a clock unasked.
const CORE_MAY_USE: [(&str, &[&str]); 3] =
    [("core/model", &[]), ("core/decide", &[]), ("core/wire", &["serde", "serde_json", "jiff", "utoipa"])];

/// Rooms of the edge that know nothing of ebb, so that strangers may use them.
const KNOW_NOTHING: [&str; 2] = ["edge/kernel", "edge/systemd"];

/// A member of the workspace.
#[derive(Debug, Clone, Default)]
pub struct Crate {
    /// Its name for Cargo.
    pub name: String,
    /// Its folder, as in `edge/kernel`.
    pub room: String,
    /// Text of its manifest.
    pub manifest: String,
    /// What it needs when it is shipped.
    pub needs: Vec<Need>,
}

/// A dependency that is not for tests alone.
#[derive(Debug, Clone)]
pub struct Need {
    /// Its name for Cargo.
    pub name: String,
    /// Its room, when it is one of ours.
    pub room: Option<String>,
}

/// Reads `cargo metadata`.
pub fn read(metadata: &Value, root: &Path) -> Result<Vec<Crate>, String> {
    let packages = metadata["packages"].as_array().ok_or("cargo's metadata has no packages")?;
    let room_of = |folder: &Path| {
        let inside = folder.strip_prefix(root).ok()?;
        Some(inside.to_string_lossy().into_owned())
    };
    let mut crates = Vec::new();
    for package in packages {
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
        let room = manifest.parent().and_then(room_of).unwrap_or_default();
        let needs = package["dependencies"].as_array().into_iter().flatten();
        let needs = needs.filter(|need| need["kind"] != "dev").map(|need| Need {
            name: need["name"].as_str().unwrap_or_default().to_owned(),
            room: need["path"].as_str().and_then(|path| room_of(Path::new(path))),
        });
        crates.push(Crate {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            room,
            needs: needs.collect(),
            manifest: fs::read_to_string(&manifest).map_err(|error| format!("read {}: {error}", manifest.display()))?,
        });
    }
    Ok(crates)
}

/// Whatever a crate must not depend on.
pub fn check(crates: &[Crate]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for one in crates {
        if !has_our_lints(&one.manifest) {
            violations.push(Violation {
                file: Path::new(&one.room).join("Cargo.toml"),
                line: 1,
                what: format!("{} lacks `[lints] workspace = true`: the house's lints are for every room", one.name),
            });
        }
        for need in &one.needs {
            let why = match &need.room {
                Some(room) => forbidden(&one.room, room),
                None => forbidden_foreign(&one.room, &need.name),
            };
            if let Some(why) = why {
                violations.push(Violation {
                    file: Path::new(&one.room).join("Cargo.toml"),
                    line: line_of(&one.manifest, &need.name),
                    what: format!("{} depends on {}: {why}", one.name, need.name),
                });
            }
        }
    }
    violations
}

fn has_our_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true")
}

/// Why the crate in `from` must not depend on the one in `to`.
fn forbidden(from: &str, to: &str) -> Option<&'static str> {
    if KNOW_NOTHING.contains(&from) {
        return Some("kernel and systemd know nothing of ebb");
    }
    if from == "shell/controller" && KNOW_NOTHING.contains(&to) {
        return Some("the controller speaks to agents only");
    }
    if from.starts_with("edge/") && to == "core/decide" {
        return Some("hands and eyes do not think");
    }
    let allowed: &[&str] = match ring(from) {
        "core" => &["core"],
        "edge" => &["core"],
        "shell" => &["edge", "core"],
        "face" => &["shell", "core"],
        "proof" | "tools" => return None,
        _ => return Some("it is in no ring"),
    };
    let link = ring(from) == "face" && to == "edge/link";
    if allowed.contains(&ring(to)) || link {
        return None;
    }
    Some(match (ring(from), ring(to)) {
        ("edge", "edge") => "the rooms of the edge do not know each other",
        ("shell", "shell") => "the shells do not know each other",
        ("face", "edge") => "of the edge the face sees link alone; all else goes through the agent's door",
        ("face", "face") => "the faces do not know each other",
        _ => "the direction is face -> shell -> edge -> core, never upwards",
    })
}

fn forbidden_foreign(from: &str, name: &str) -> Option<&'static str> {
    if ring(from) != "core" {
        return None;
    }
    let allowed = CORE_MAY_USE.iter().find(|(room, _)| *room == from).map_or(&[][..], |(_, names)| *names);
    if allowed.contains(&name) { None } else { Some("not in the list of what core may use (tools/xtask)") }
}

fn ring(room: &str) -> &str {
    room.split('/').next().unwrap_or_default()
}

fn line_of(manifest: &str, name: &str) -> usize {
    let begins = |line: &str| {
        let rest = line.trim_start().trim_start_matches('"').strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '.', '=', '"']))
    };
    let mut wanted = false;
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            wanted = line.contains("dependencies") && !line.contains("dev-");
        } else if wanted && begins(line) {
            return index + 1;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(from: &str, to: &str) -> Vec<String> {
        let need = Need { name: String::from("other"), room: Some(to.to_owned()) };
        found(from, need)
    }

    fn foreign(from: &str, name: &str) -> Vec<String> {
        found(from, Need { name: name.to_owned(), room: None })
    }

    fn found(from: &str, need: Need) -> Vec<String> {
        let manifest = format!("[lints]\nworkspace = true\n\n[dependencies]\n{}.workspace = true\n", need.name);
        let one = Crate { name: String::from("one"), room: from.to_owned(), needs: vec![need], manifest };
        check(&[one]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn downwards_is_allowed() {
        for (from, to) in [
            ("face/ebb", "shell/agent"),
            ("face/ebb", "edge/link"),
            ("face/ebb", "core/model"),
            ("shell/agent", "edge/kernel"),
            ("shell/agent", "core/decide"),
            ("shell/controller", "edge/store"),
            ("edge/store", "core/model"),
            ("core/decide", "core/model"),
            ("proof/lab", "edge/systemd"),
            ("tools/xtask", "edge/kernel"),
        ] {
            assert_eq!(ours(from, to), Vec::<String>::new(), "{from} -> {to}");
        }
    }

    #[test]
    fn upwards_and_sideways_are_not() {
        for (from, to) in [
            ("core/model", "edge/store"),
            ("core/model", "tools/xtask"),
            ("edge/store", "shell/agent"),
            ("edge/store", "edge/kernel"),
            ("edge/link", "core/decide"),
            ("edge/kernel", "core/model"),
            ("edge/systemd", "core/model"),
            ("shell/agent", "face/ebb"),
            ("shell/agent", "shell/controller"),
            ("shell/agent", "proof/lab"),
            ("shell/controller", "edge/kernel"),
            ("shell/controller", "edge/systemd"),
            ("face/ebb", "edge/kernel"),
            ("face/ebb", "edge/store"),
            ("face/ebb", "face/web"),
            ("face/ebb", "tools/xtask"),
            ("attic/old", "core/model"),
        ] {
            assert_eq!(ours(from, to).len(), 1, "{from} -> {to}");
        }
    }

    #[test]
    fn a_violation_names_file_and_line_and_why() {
        let what = "one depends on other: the rooms of the edge do not know each other";
        assert_eq!(ours("edge/store", "edge/kernel"), [format!("edge/store/Cargo.toml:5: {what}")]);
    }

    #[test]
    fn core_takes_little_from_others() {
        assert!(foreign("core/wire", "serde").is_empty() && foreign("shell/agent", "tokio").is_empty());
        assert_eq!(foreign("core/model", "serde").len(), 1);
        assert_eq!(foreign("core/decide", "rand").len(), 1);
        assert_eq!(foreign("core/wire", "tokio").len(), 1);
        assert_eq!(foreign("core/new", "serde").len(), 1);
    }

    #[test]
    fn a_room_without_the_lints_is_seen() {
        let one =
            Crate { manifest: String::from("[package]\n[lints.rust]\nunsafe_code = \"allow\"\n"), ..Crate::default() };
        assert_eq!(check(&[one]).len(), 1);
    }

    #[test]
    fn what_is_for_tests_alone_is_free() {
        let json = r#"{"packages": [{"name": "m", "manifest_path": "Cargo.toml", "dependencies": [
            {"name": "proptest", "kind": "dev"}, {"name": "cc", "kind": "build"}]}]}"#;
        let crates = read(&serde_json::from_str(json).unwrap(), Path::new("")).unwrap();
        let names: Vec<_> = crates[0].needs.iter().map(|need| need.name.as_str()).collect();
        assert_eq!(names, ["cc"]);
    }

    #[test]
    fn the_line_is_that_of_the_dependency() {
        let manifest = "[dev-dependencies]\nserde = \"1\"\n[dependencies]\nserde_json = \"1\"\nserde = \"1\"\n";
        assert_eq!(line_of(manifest, "serde"), 5);
    }
}
