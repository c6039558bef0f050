//! Paths as they are written: `std::fs::read`, and each leaf of `use std::{fs, net::TcpStream}`.

use super::lexer::{Token, TokenKind};

/// A path in the code.
#[derive(Debug, Clone)]
pub struct UsedPath {
    /// Its parts.
    pub parts: Vec<String>,
    /// Line of its last part.
    pub line: usize,
    /// Number of its last token.
    pub at: usize,
}

impl UsedPath {
    /// As in the code, with `::`.
    pub fn text(&self) -> String {
        self.parts.join("::")
    }

    /// Whether these parts stand in it, one after the other. A last part that ends in `*` is a beginning.
    pub fn has(&self, wanted: &str) -> bool {
        let wanted: Vec<&str> = wanted.split("::").collect();
        let same = |(part, wanted): (&String, &&str)| match wanted.strip_suffix('*') {
            Some(beginning) => part.starts_with(beginning),
            None => part == wanted,
        };
        self.parts.windows(wanted.len()).any(|window| window.iter().zip(&wanted).all(same))
    }
}

/// All paths; one of a single part is a path too.
pub fn paths(tokens: &[Token]) -> Vec<UsedPath> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = path(tokens, at, &[], &mut found).max(at + 1);
    }
    found
}

/// Reads the path that begins at `at`, below `prefix`; gives the token after it.
fn path(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<UsedPath>) -> usize {
    let mut parts = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        let goes_on = parts.len() > prefix.len();
        if goes_on && token.is_sign("{") {
            return tree(tokens, at + 1, &parts, found);
        }
        if token.kind != TokenKind::Ident {
            break;
        }
        parts.push(token.text.clone());
        at += 1;
        if !tokens.get(at).is_some_and(|token| token.is_sign("::")) {
            break;
        }
        at += 1;
    }
    if parts.len() > prefix.len()
        && let Some(token) = tokens.get(at - 1)
    {
        found.push(UsedPath { parts, line: token.line, at: at - 1 });
    }
    at
}

/// Reads the leaves of `prefix::{...}`; gives the token after the closing bracket.
fn tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<UsedPath>) -> usize {
    while let Some(token) = tokens.get(at) {
        if token.is_sign("}") {
            return at + 1;
        }
        at = path(tokens, at, prefix, found).max(at + 1);
    }
    at
}
