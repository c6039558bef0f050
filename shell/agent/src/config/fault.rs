//! What is wrong, and where.

use std::fmt;
use std::path::PathBuf;

use ebb_model::printable;

/// Something wrong in the configuration, or worth a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which file.
    pub file: PathBuf,
    /// Line and column, each from 1, columns in characters; none if it is about the file as a whole.
    pub at: Option<(usize, usize)>,
    /// What, in a sentence, printable.
    pub what: String,
    /// What helps.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = printable(&self.file.display().to_string());
        match self.at {
            Some((line, column)) => write!(f, "{file}:{line}:{column}: {}", self.what),
            None => write!(f, "{file}: {}", self.what),
        }
    }
}

/// Where something is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// Number of the file; 0 is what is built in.
    pub(crate) file: usize,
    /// Byte in it.
    pub(crate) offset: usize,
}

impl At {
    /// Nobody wrote it.
    pub(crate) const fn is_default(self) -> bool {
        self.file == 0
    }
}

/// One file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    /// Line and column of a byte.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// All that is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(At, String, Option<String>)>);

impl Faults {
    /// One more.
    pub(crate) fn say(&mut self, at: At, what: impl Into<String>) {
        self.perhaps(at, what, None);
    }

    /// One more, with what helps.
    pub(crate) fn with(&mut self, at: At, what: impl Into<String>, hint: impl Into<String>) {
        self.perhaps(at, what, Some(hint.into()));
    }

    /// One more, with what helps, if anything does.
    pub(crate) fn perhaps(&mut self, at: At, what: impl Into<String>, hint: Option<String>) {
        self.0.push((at, what.into(), hint));
    }

    /// In the order of the files, each once.
    pub(crate) fn told(mut self, sources: &[Source]) -> Vec<Fault> {
        self.0.sort();
        self.0.dedup();
        let told = self.0.into_iter().filter_map(|(at, what, hint)| {
            let source = sources.get(at.file)?;
            let position = Some(source.position(at.offset));
            Some(Fault {
                file: source.path.clone(),
                at: position,
                what: printable(&what),
                hint: hint.as_deref().map(printable),
            })
        });
        told.collect()
    }
}

/// A piece of a file as it is quoted: short.
pub(crate) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { format!("`{short}...`") } else { format!("`{short}`") }
}

/// Several words for a hint: `a`, `b` or `c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [all @ .., last] => {
            let all: Vec<String> = all.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", all.join(", "))
        }
    }
}
