//! Tokens of Rust, roughly.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A name, a keyword or the name of a lifetime.
    Ident,
    /// The content of a string or of a doc comment: what people read.
    Text,
    /// A line comment that is not documentation.
    Comment,
    /// One sign, or `::`.
    Sign,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its text; of strings and comments without their marks.
    pub text: String,
    /// Line, from 1, where it starts.
    pub line: usize,
}

impl Token {
    /// Whether it is this name.
    pub fn is_ident(&self, name: &str) -> bool {
        self.kind == TokenKind::Ident && self.text == name
    }

    /// Whether it is this sign.
    pub fn is_sign(&self, sign: &str) -> bool {
        self.kind == TokenKind::Sign && self.text == sign
    }

    fn bracket(&self) -> i32 {
        match (self.kind, self.text.as_str()) {
            (TokenKind::Sign, "(" | "[" | "{") => 1,
            (TokenKind::Sign, ")" | "]" | "}") => -1,
            _ => 0,
        }
    }
}

/// The token that closes the bracket at `open`.
pub fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        depth += token.bracket();
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

/// The first token at or after `from`, outside any bracket opened since, for which `wanted` holds.
pub fn at_depth_zero(tokens: &[Token], from: usize, wanted: impl Fn(&Token) -> bool) -> Option<usize> {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        if depth == 0 && wanted(token) {
            return Some(index);
        }
        depth += token.bracket();
        if depth < 0 {
            return None;
        }
    }
    None
}

/// Cuts a text.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { rest: text, line: 1, tokens: Vec::new() };
    while reader.step() {}
    reader.tokens
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if self.rest.starts_with("//") {
            self.line_comment();
        } else if self.rest.starts_with("/*") {
            self.take(block_comment(self.rest));
        } else if let Some((start, hashes)) = raw_string(self.rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = self.rest[start..].find(&end).unwrap_or(self.rest.len() - start);
            self.push(TokenKind::Text, start, length, end.len());
        } else if let Some(start) = quoted(self.rest, '"') {
            let length = unescaped(&self.rest[start..], '"');
            self.push(TokenKind::Text, start, length, 1);
        } else if let Some(length) = char_literal(self.rest) {
            self.take(length);
        } else if first.is_alphabetic() || first == '_' {
            let raw = if self.rest.starts_with("r#") { 2 } else { 0 };
            let word = &self.rest[raw..];
            let length = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
            self.push(TokenKind::Ident, raw, length, 0);
        } else if first.is_numeric() {
            let length = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            self.take(length);
        } else if self.rest.starts_with("::") {
            self.push(TokenKind::Sign, 0, 2, 0);
        } else if first.is_whitespace() {
            self.take(first.len_utf8());
        } else {
            self.push(TokenKind::Sign, 0, first.len_utf8(), 0);
        }
        true
    }

    fn line_comment(&mut self) {
        let length = self.rest.find('\n').unwrap_or(self.rest.len());
        let comment = &self.rest[..length];
        let doc = (comment.starts_with("///") && !comment.starts_with("////")) || comment.starts_with("//!");
        let (kind, mark) = if doc { (TokenKind::Text, 3) } else { (TokenKind::Comment, 2) };
        self.push(kind, mark, length - mark, 0);
    }

    /// A token of `length` bytes after `before` bytes of marks, with `after` bytes of marks behind.
    fn push(&mut self, kind: TokenKind, before: usize, length: usize, after: usize) {
        let text = self.rest[before..before + length].to_owned();
        self.tokens.push(Token { kind, text, line: self.line });
        self.take(before + length + after);
    }

    fn take(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }
}

/// Length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Where the content of a raw string begins, and how many `#` it has.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?.len();
    let hashes = text[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    text[prefix + hashes..].starts_with('"').then_some((prefix + hashes + 1, hashes))
}

/// Where the content of a quoted literal begins.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let prefix = usize::from(text.starts_with(['b', 'c']));
    text[prefix..].starts_with(quote).then_some(prefix + 1)
}

/// Bytes up to the next quote that no backslash takes away.
fn unescaped(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at,
            _ => {}
        }
    }
    text.len()
}

/// Length of a character literal; `None` for a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let start = quoted(text, '\'')?;
    let mut rest = text[start..].chars();
    let first = rest.next()?;
    if first == '\\' || rest.next() == Some('\'') {
        return Some(start + unescaped(&text[start..], '\'') + 1);
    }
    None
}
