//! Why a notice was not taken.

use std::path::PathBuf;

use ebb_model::{Span, duration, printable};

/// Why a notice was not taken. Nothing secret is in it: of a URL only the host, of a file only its path.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The settings make no sense.
    #[error("{what}")]
    Settings {
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// A file with a secret cannot be used.
    #[error("the file {} cannot be used: {cause}", path.display())]
    Secret {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// No answer in time.
    #[error("no answer within {}", duration(*after))]
    Timeout {
        /// How long was waited.
        after: Span,
    },
    /// It cannot be reached, or the connection broke.
    #[error("{to} cannot be reached: {cause}")]
    Unreachable {
        /// `HOST:PORT`.
        to: String,
        /// Why.
        cause: String,
    },
    /// It answered no.
    #[error("{by} answered {code}{}{}", if text.is_empty() { "" } else { ": " }, printable(text))]
    Refused {
        /// `HOST:PORT`.
        by: String,
        /// Its code.
        code: u16,
        /// Its words, shortened.
        text: String,
        /// Asking again is in vain.
        is_final: bool,
    },
    /// A program is missing or failed.
    #[error("{program}: {cause}")]
    Program {
        /// Which.
        program: &'static str,
        /// What happened.
        cause: String,
    },
}

impl NotifyError {
    /// Whether another try is in vain: the other end has understood, and does not want this one.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Refused { is_final, .. } => *is_final,
            Self::Settings { .. }
            | Self::Secret { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::Program { .. } => false,
        }
    }
}

/// An error with its causes in one line, fit to be shown.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors print their cause themselves.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    printable(&text)
}
