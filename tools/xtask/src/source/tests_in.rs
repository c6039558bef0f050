//! Which tokens of a file are test code.

use super::lexer::{Token, TokenKind, at_depth_zero, closing};

/// For each token, whether it belongs to an item that exists in tests alone.
pub fn mark(tokens: &[Token]) -> Vec<bool> {
    let mut marks = vec![false; tokens.len()];
    let mut at = 0;
    while at < tokens.len() {
        let Some(end) = attribute_end(tokens, at) else {
            at += 1;
            continue;
        };
        if for_tests(&tokens[at..=end]) {
            let last = item_end(tokens, end + 1);
            marks[at..=last].fill(true);
            at = last + 1;
        } else {
            at = end + 1;
        }
    }
    marks
}

/// A module declared for tests alone, without a body here.
#[derive(Debug, PartialEq, Eq)]
pub enum TestModule {
    /// `#[cfg(test)] mod name;`
    Named(String),
    /// With `#[path = "file.rs"]`.
    At(String),
}

/// All such of a file.
pub fn test_modules(tokens: &[Token]) -> Vec<TestModule> {
    let marks = mark(tokens);
    let declared = tokens.windows(3).enumerate().filter(|(at, window)| {
        marks[*at] && window[0].is_ident("mod") && window[1].kind == TokenKind::Ident && window[2].is_sign(";")
    });
    let module = |(at, window): (usize, &[Token])| {
        let path = tokens[..at].windows(4).last().filter(|before| before[0].is_ident("path") && before[3].is_sign("]"));
        path.map_or_else(|| TestModule::Named(window[1].text.clone()), |path| TestModule::At(path[2].text.clone()))
    };
    declared.map(module).collect()
}

/// The `]` of the outer attribute that begins at `at`.
fn attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    let opens = tokens.get(at)?.is_sign("#") && tokens.get(at + 1)?.is_sign("[");
    if opens { closing(tokens, at + 1) } else { None }
}

fn for_tests(attribute: &[Token]) -> bool {
    let names: Vec<&str> =
        attribute.iter().filter(|token| token.kind == TokenKind::Ident).map(|token| token.text.as_str()).collect();
    match names.as_slice() {
        ["test"] | ["tokio", "test", ..] => true,
        ["cfg", rest @ ..] => rest.contains(&"test") && !rest.contains(&"not"),
        _ => false,
    }
}

/// The last token of the item that follows an attribute: its closing bracket or its semicolon.
fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut start = from;
    while let Some(end) = attribute_end(tokens, start) {
        start = end + 1;
    }
    let last = tokens.len().saturating_sub(1);
    match at_depth_zero(tokens, start, |token| token.is_sign(";") || token.is_sign("{")) {
        Some(at) if tokens[at].is_sign("{") => closing(tokens, at).unwrap_or(last),
        Some(at) => at,
        None => last,
    }
}
