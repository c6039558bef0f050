//! Words of others for what has a word here, and words that say nothing.

use crate::report::Violation;
use crate::source::{Source, Token, TokenKind};

/// Where a word must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// As a part of what we name: a type, a module, a function, a constant.
    Named,
    /// As the first part of a type's name.
    BeginsType,
    /// As the last part of a type's name.
    EndsType,
    /// As the whole name of a function that is shipped; in tests it may give a process.
    IsFunction,
    /// In any name, and in what the face says.
    Anywhere,
}

/// Word in lower case, where it must not be, and what to say instead.
const BANNED: [(&str, Where, &str); 20] = [
    ("manager", Where::Named, "say what it does"),
    ("helper", Where::Named, "say what it does"),
    ("helpers", Where::Named, "say what it does"),
    ("util", Where::Named, "say what it does"),
    ("utils", Where::Named, "say what it does"),
    ("info", Where::EndsType, "say what it holds"),
    ("process", Where::IsFunction, "say what it does"),
    ("node", Where::BeginsType, "a machine with an agent is a `server`"),
    ("hostname", Where::BeginsType, "a machine with an agent is a `server`"),
    ("quiesce", Where::Anywhere, "`drain`"),
    ("quiesced", Where::Anywhere, "`drained`"),
    ("cordon", Where::Anywhere, "`hold`"),
    ("cordoned", Where::Anywhere, "held"),
    ("uncordon", Where::Anywhere, "`resume`"),
    ("undrain", Where::Anywhere, "`resume`"),
    ("unhold", Where::Anywhere, "`release`"),
    ("evict", Where::Anywhere, "`end`"),
    ("evicted", Where::Anywhere, "ended"),
    ("eviction", Where::Anywhere, "`end`"),
    ("lameduck", Where::Anywhere, "`draining`"),
];

/// Names that stay, with the reason.
const ALLOWED: [(&str, &str, &str); 3] = [
    ("edge/kernel", "TcpInfo", "the kernel's own word: struct tcp_info"),
    ("edge/systemd", "MANAGER", "systemd's own word: org.freedesktop.systemd1.Manager"),
    ("edge/systemd", "user_manager", "systemd's own word for user@UID.service"),
];

/// Keywords that are followed by a name of ours.
const NAMING: [&str; 9] = ["struct", "enum", "union", "trait", "type", "mod", "fn", "const", "static"];

/// Finds banned words. In tests too: they speak the same language.
pub fn check(source: &Source, violations: &mut Vec<Violation>) {
    let room = source.room();
    if room == "tools/xtask" {
        return; // the table itself
    }
    let says = room.starts_with("face/") && !source.test;
    for (at, token) in source.tokens.iter().enumerate() {
        let keyword = at.checked_sub(1).map(|before| &source.tokens[before]);
        let keyword = keyword.filter(|keyword| NAMING.iter().any(|name| keyword.is_ident(name)));
        let parts = if token.kind == TokenKind::Ident { parts(&token.text) } else { Vec::new() };
        let name = Name { token, keyword, parts, shipped: source.is_shipped(at) };
        for (word, place, instead) in BANNED {
            let found = match token.kind {
                TokenKind::Ident => name.is_banned(word, place) && !allowed(&room, &token.text),
                TokenKind::Text => says && place == Where::Anywhere && spoken(&token.text).any(|part| part == word),
                _ => false,
            };
            if found {
                let shown = if token.kind == TokenKind::Ident { &token.text } else { word };
                let what = format!("`{shown}`: `{word}` is not a word of this house: {instead}");
                violations.push(Violation { file: source.path.clone(), line: token.line, what });
            }
        }
    }
}

/// A name, and what stands before it.
struct Name<'s> {
    token: &'s Token,
    keyword: Option<&'s Token>,
    parts: Vec<String>,
    shipped: bool,
}

impl Name<'_> {
    fn is_banned(&self, word: &str, place: Where) -> bool {
        let (text, parts) = (&self.token.text, &self.parts);
        let named = self.keyword.is_some();
        let a_type = named && text.starts_with(char::is_uppercase) && text.contains(char::is_lowercase);
        let is_word = |some: &[String]| some.iter().flat_map(|part| part.bytes()).eq(word.bytes());
        match place {
            Where::Named => named && parts.iter().any(|part| part == word),
            Where::BeginsType => a_type && (1..=2).any(|count| parts.get(..count).is_some_and(is_word)),
            Where::EndsType => a_type && parts.last().is_some_and(|part| part == word),
            Where::IsFunction => {
                self.shipped && self.keyword.is_some_and(|keyword| keyword.is_ident("fn")) && text == word
            }
            // `lame_duck` too.
            Where::Anywhere => (1..=2).any(|count| parts.windows(count).any(is_word)),
        }
    }
}

fn allowed(room: &str, name: &str) -> bool {
    ALLOWED.iter().any(|(where_, what, _)| *where_ == room && *what == name)
}

/// `SomeName`, `some_name` and `SOME_NAME` in parts, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut lower_before = false;
    for c in name.chars() {
        let begins = c == '_' || (c.is_uppercase() && lower_before);
        if begins || parts.is_empty() {
            parts.push(String::new());
        }
        if let Some(last) = parts.last_mut()
            && c != '_'
        {
            last.extend(c.to_lowercase());
        }
        lower_before = c.is_lowercase() || c.is_numeric();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn spoken(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase)
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
    fn each_banned_word_is_found_in_a_name() {
        for text in [
            "struct HoldManager;",
            "mod helpers;",
            "mod utils;",
            "fn a_helper() {}",
            "struct DoorInfo {}",
            "fn process() {}",
            "enum Node {}",
            "struct NodeName;",
            "struct HostName;",
            "struct Hostname;",
            "fn f() { quiesce(); }",
            "fn f(x: X) { x.cordon_all(); }",
            "fn uncordon() {}",
            "fn undrain() {}",
            "fn evict() {}",
            "enum A { Evicted }",
            "fn f() { lame_duck(); }",
            "struct LameDuck;",
        ] {
            assert_eq!(found("shell/agent/src/x.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_of_ours_or_another_word_is_left_alone() {
        for text in [
            "use std::process; fn f() { process::exit(1); }",
            "fn process_group() {}",
            "#[cfg(test)]\nmod tests { fn process() -> Process {} }",
            "fn f(manager: X) { zbus::Manager::new(); }",
            "struct Information;",
            "struct Nodes;",
            "fn inode() {}",
            "const IFLA_INFO: u8 = 1;",
            "fn f() { println!(\"evict\"); }",
        ] {
            assert_eq!(found("shell/agent/src/x.rs", text), Vec::<String>::new(), "{text}");
        }
        assert!(found("edge/kernel/src/x.rs", "pub struct TcpInfo;").is_empty());
        assert_eq!(found("shell/agent/src/x.rs", "pub struct TcpInfo;").len(), 1);
    }

    #[test]
    fn what_the_face_says_is_looked_at() {
        assert_eq!(found("face/ebb/src/x.rs", "/// Evict a session\nfn f() {}").len(), 1);
        assert_eq!(found("face/ebb/src/x.rs", "const HELP: &str = \"cordon the server\";").len(), 1);
        assert!(found("face/ebb/src/x.rs", "// unlike cordon\nfn f() {}").is_empty());
    }
}
