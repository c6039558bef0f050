//! What may be written in which room.

use crate::report::Violation;
use crate::source::{Source, Token, UsedPath};

/// Names that core must not use: a whole path, a part of one, or the beginning of a part (`*`).
const NOT_IN_CORE: [(&str, &str); 14] = [
    ("std::fs", "core does no I/O"),
    ("std::env", "core has no surroundings"),
    ("std::process", "core does no I/O"),
    ("std::thread", "core runs nothing beside itself"),
    ("net::Tcp*", "core does no I/O"),
    ("net::Udp*", "core does no I/O"),
    ("os::unix::net", "core does no I/O"),
    ("Instant::now", "time is an argument in core"),
    ("SystemTime::now", "time is an argument in core"),
    ("Timestamp::now", "time is an argument in core"),
    ("Zoned::now", "time is an argument in core"),
    ("HashMap", "its order differs from run to run: BTreeMap"),
    ("HashSet", "its order differs from run to run: BTreeSet"),
    ("tokio", "core is not asynchronous"),
];

/// Ways to have something run beside. Work on a thread that is waited for (`scope`, `spawn_blocking`) is none.
const SPAWNS: [&str; 7] = [
    "tokio::spawn",
    "task::spawn",
    "task::spawn_local",
    "runtime::Handle::spawn",
    "JoinSet",
    "LocalSet",
    "thread::spawn",
];

const PRINTS: [&str; 4] = ["println", "eprintln", "print", "eprint"];

/// Finds what the room of this source does not allow.
pub fn check(source: &Source, violations: &mut Vec<Violation>) {
    let room = source.room();
    let mut found = |line: usize, what: String| {
        violations.push(Violation { file: source.path.clone(), line, what });
    };
    // What a proof sets on its own sockets is not shipped; it says why by an `expect`.
    if room != "edge/kernel" && !room.starts_with("proof/") {
        for token in unsafes(source) {
            found(token.line, format!("`{}`: unsafe code is in edge/kernel alone", token.text));
        }
    }
    if !may_print(&room) {
        for token in prints(source) {
            found(token.line, format!("`{}!`: printing is for face/ebb", token.text));
        }
    }
    let paths = source.shipped_paths();
    if !may_spawn(&room) {
        for path in named(&paths, &SPAWNS) {
            found(path.line, format!("`{}`: only shell and edge/link have something run beside", path.text()));
        }
    }
    if room.starts_with("core/") {
        for (name, why) in NOT_IN_CORE {
            for path in named(&paths, &[name]) {
                found(path.line, format!("`{}`: {why}", path.text()));
            }
        }
    }
}

fn may_print(room: &str) -> bool {
    room == "face/ebb" || room.starts_with("tools/") || room.starts_with("proof/")
}

fn may_spawn(room: &str) -> bool {
    room == "edge/link" || ["shell/", "tools/", "proof/"].iter().any(|ring| room.starts_with(ring))
}

/// In tests too: what is unsafe can break a test like anything else.
fn unsafes(source: &Source) -> impl Iterator<Item = &Token> {
    source.tokens.iter().filter(|token| token.is_ident("unsafe") || token.is_ident("unsafe_code"))
}

fn prints(source: &Source) -> impl Iterator<Item = &Token> {
    let called = |index: usize| source.tokens.get(index + 1).is_some_and(|token| token.is_sign("!"));
    let named = |token: &Token| PRINTS.iter().any(|name| token.is_ident(name));
    source.shipped().filter(move |(index, token)| named(token) && called(*index)).map(|(_, token)| token)
}

fn named<'p>(paths: &'p [UsedPath], names: &'p [&str]) -> impl Iterator<Item = &'p UsedPath> {
    paths.iter().filter(|path| names.iter().any(|name| path.has(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let mut violations = Vec::new();
        check(&Source::new(path, text, false), &mut violations);
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unsafe_is_in_the_kernel_room_alone() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        assert!(found("edge/kernel/src/x.rs", text).is_empty());
        let why = "`unsafe`: unsafe code is in edge/kernel alone";
        assert_eq!(found("edge/store/src/x.rs", text), [format!("edge/store/src/x.rs:2: {why}")]);
        assert_eq!(found("shell/agent/src/x.rs", "#![expect(unsafe_code, reason = \"x\")]").len(), 1);
        assert!(found("proof/exact/src/x.rs", text).is_empty());
        assert!(found("edge/store/src/x.rs", "// unsafe\nconst A: &str = \"unsafe\";").is_empty());
        assert_eq!(found("edge/store/src/x.rs", "#[cfg(test)]\nmod tests { unsafe fn f() {} }").len(), 1);
    }

    #[test]
    fn only_the_face_prints() {
        for name in PRINTS {
            let text = format!("fn f() {{ {name}!(\"x\"); }}");
            assert_eq!(found("shell/agent/src/x.rs", &text).len(), 1, "{name}");
            for room in ["face/ebb", "tools/xtask", "proof/lab"] {
                assert!(found(&format!("{room}/src/x.rs"), &text).is_empty(), "{name} in {room}");
            }
        }
        assert!(found("shell/agent/src/x.rs", "#[test]\nfn f() { println!(); }\nfn print() { print(); }").is_empty());
    }

    #[test]
    fn only_the_shell_and_link_spawn() {
        for call in [
            "tokio::spawn(f)",
            "tokio::task::spawn(f)",
            "JoinSet::new()",
            "tokio::task::JoinSet::new()",
            "std::thread::spawn(f)",
            "thread::spawn(f)",
        ] {
            let text = format!("fn f() {{ {call}; }}");
            for room in ["edge/store", "edge/systemd", "face/ebb", "core/model"] {
                assert!(!found(&format!("{room}/src/x.rs"), &text).is_empty(), "{call} in {room}");
            }
            for room in ["shell/agent", "edge/link"] {
                assert!(found(&format!("{room}/src/x.rs"), &text).is_empty(), "{call} in {room}");
            }
        }
        let waited_for = "fn f() { std::thread::scope(|s| { s.spawn(g); }); Command::new(x).spawn(); }";
        assert!(found("edge/kernel/src/x.rs", waited_for).is_empty());
    }

    #[test]
    fn core_has_no_world() {
        for text in [
            "use std::fs;",
            "use std::{collections::BTreeMap, fs::File};",
            "fn f() { std::env::var(\"X\"); }",
            "use std::net::{IpAddr, TcpStream};",
            "fn f() { Instant::now(); }",
            "fn f() { std::time::SystemTime::now(); }",
            "fn f() { jiff::Timestamp::now(); }",
            "use std::collections::HashMap;",
            "fn f(a: &HashSet<u8>) {}",
            "async fn f() { tokio::time::sleep(x).await; }",
            "fn f() { std::process::id(); }",
            "use std::os::unix::net::UnixStream;",
        ] {
            assert!(!found("core/model/src/x.rs", text).is_empty(), "{text}");
            assert!(found("shell/agent/src/x.rs", text).is_empty(), "{text}");
        }
        let fine = "use std::net::{IpAddr, SocketAddr};\nuse std::time::{Duration, Instant};\nfn env() {}\n";
        assert!(found("core/model/src/x.rs", fine).is_empty());
    }
}
