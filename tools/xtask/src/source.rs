//! The house's own Rust sources, cut into tokens: enough to tell code from comments, strings and tests.
//!
//! Not a parser. What the checks need is a word with its line, brackets that pair, and what belongs to tests.

mod lexer;
mod paths;
mod tests_in;
mod tree;

pub use lexer::{Token, TokenKind, at_depth_zero};
pub use paths::UsedPath;
pub use tree::sources;

use std::path::PathBuf;

/// One source file.
#[derive(Debug)]
pub struct Source {
    /// From the root of the workspace.
    pub path: PathBuf,
    /// Number of lines.
    pub lines: usize,
    /// Whether all of it is test code: a test target, an example, or a module that is declared for tests alone.
    pub test: bool,
    /// Its tokens; comments that start a line of their own are among them.
    pub tokens: Vec<Token>,
    /// Parallel to `tokens`: whether it is inside test code.
    in_test: Vec<bool>,
}

impl Source {
    /// Cuts a text.
    pub fn new(path: impl Into<PathBuf>, text: &str, test: bool) -> Self {
        let tokens = lexer::tokens(text);
        let in_test = tests_in::mark(&tokens);
        Self { path: path.into(), lines: text.lines().count(), test, tokens, in_test }
    }

    /// Whether this token is outside tests.
    pub fn is_shipped(&self, token: usize) -> bool {
        !self.test && !self.in_test.get(token).copied().unwrap_or_default()
    }

    /// The tokens outside tests.
    pub fn shipped(&self) -> impl Iterator<Item = (usize, &Token)> {
        self.tokens.iter().enumerate().filter(|(index, _)| self.is_shipped(*index))
    }

    /// The paths (`a::b::c`, trees of `use` spread out) outside tests.
    pub fn shipped_paths(&self) -> Vec<UsedPath> {
        paths::paths(&self.tokens).into_iter().filter(|path| self.is_shipped(path.at)).collect()
    }

    /// The folder of the crate within the workspace, as in `edge/kernel`.
    pub fn room(&self) -> String {
        let parts: Vec<_> = self.path.iter().take(2).map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    /// Lines that are not in tests.
    pub fn lines_without_tests(&self) -> usize {
        if self.test {
            return 0;
        }
        let mut tests = 0;
        let mut from = None;
        for (token, test) in self.tokens.iter().zip(&self.in_test) {
            match (from, test) {
                (None, true) => from = Some(token.line),
                (Some(first), false) => {
                    tests += token.line.saturating_sub(first);
                    from = None;
                }
                _ => {}
            }
        }
        if let Some(first) = from {
            tests += (self.lines + 1).saturating_sub(first);
        }
        self.lines.saturating_sub(tests)
    }

    /// The token that closes the bracket at `open`.
    pub fn closing(&self, open: usize) -> Option<usize> {
        lexer::closing(&self.tokens, open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idents(source: &Source) -> Vec<&str> {
        source.shipped().filter(|(_, t)| t.kind == TokenKind::Ident).map(|(_, t)| t.text.as_str()).collect()
    }

    #[test]
    fn comments_strings_and_tests_are_no_shipped_code() {
        let text = "fn a() { // unsafe\n /* unsafe /* b */ */ let s = \"unsafe\"; r#\"unsafe \"# ; 'x'; b'\\''; }\n\
                    #[cfg(test)]\nmod tests { fn unsafe_one() {} }\nfn c<'d>() {}\n#[test]\nfn e() {}\n";
        assert_eq!(idents(&Source::new("core/x/src/lib.rs", text, false)), ["fn", "a", "let", "s", "fn", "c", "d"]);
        assert!(idents(&Source::new("core/x/tests/y.rs", text, true)).is_empty());
    }

    #[test]
    fn an_attribute_that_is_not_for_tests_hides_nothing() {
        let text = "#[cfg(not(test))]\nfn a() {}\n#[cfg(all(test, unix))]\nuse b::{c};\n#[cfg(unix)]\nfn d() {}\n";
        let source = Source::new("core/x/src/lib.rs", text, false);
        assert!(idents(&source).ends_with(&["fn", "d"]) && !idents(&source).contains(&"b"));
        assert!(idents(&source).contains(&"a"));
    }

    #[test]
    fn lines_of_tests_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        assert_eq!(Source::new("core/x/src/lib.rs", text, false).lines_without_tests(), 3);
        let at_the_end = "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(Source::new("core/x/src/lib.rs", at_the_end, false).lines_without_tests(), 1);
    }

    #[test]
    fn trees_of_use_are_spread_out() {
        let text = "use std::{fs, net::{TcpStream, IpAddr as Ip}};\nfn f() { tokio::task::spawn(x); a.b(); }\n";
        let paths: Vec<_> = Source::new("x", text, false).shipped_paths().into_iter().map(|path| path.text()).collect();
        for wanted in ["std::fs", "std::net::TcpStream", "std::net::IpAddr", "tokio::task::spawn"] {
            assert!(paths.iter().any(|path| path == wanted), "{wanted} in {paths:?}");
        }
    }
}
