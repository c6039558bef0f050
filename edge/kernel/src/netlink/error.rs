//! What can go wrong between us and the kernel.

use std::borrow::Cow;
use std::io;

/// Short for a result with this module's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong on a netlink socket. Display completes "failed to ...".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel said no.
    #[error("{operation}{}", explained(.message))]
    Refused {
        /// What was asked.
        operation: Cow<'static, str>,
        /// The kernel's words (extended acknowledgement), where it has any.
        message: Option<String>,
        /// The errno.
        source: io::Error,
    },
    /// The socket itself failed.
    #[error("{operation}")]
    Socket {
        /// What was tried.
        operation: Cow<'static, str>,
        /// The errno.
        source: io::Error,
    },
    /// Messages were lost because the receive buffer was full (`ENOBUFS`): what was read is not whole.
    #[error("{operation}: the kernel's messages overflowed the receive buffer")]
    Overflow {
        /// What was being read.
        operation: Cow<'static, str>,
    },
    /// Objects changed while they were listed: what was read is not whole. Try again.
    #[error("{operation}: it changed while it was read")]
    Interrupted {
        /// What was being read.
        operation: Cow<'static, str>,
    },
    /// An answer that we do not understand, or none at all.
    #[error("{operation}: {what}")]
    Answer {
        /// What was asked.
        operation: Cow<'static, str>,
        /// What is wrong with the answer.
        what: &'static str,
    },
}

fn explained(message: &Option<String>) -> String {
    message.as_ref().map_or_else(String::new, |text| format!(" (the kernel says: {text})"))
}

impl Error {
    /// The kernel's errno, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket { source, .. } => source.raw_os_error(),
            Self::Overflow { .. } => Some(libc::ENOBUFS),
            Self::Interrupted { .. } => Some(libc::EINTR),
            Self::Answer { .. } => None,
        }
    }

    /// Whether we lack the right (`CAP_NET_ADMIN` as a rule).
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(libc::EPERM | libc::EACCES))
    }

    /// What was asked of the kernel.
    #[must_use]
    pub fn operation(&self) -> &str {
        match self {
            Self::Refused { operation, .. }
            | Self::Socket { operation, .. }
            | Self::Overflow { operation }
            | Self::Interrupted { operation }
            | Self::Answer { operation, .. } => operation,
        }
    }

    pub(super) fn socket(operation: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        let operation = operation.into();
        if source.raw_os_error() == Some(libc::ENOBUFS) {
            return Self::Overflow { operation };
        }
        Self::Socket { operation, source }
    }

    pub(super) fn answer(operation: &str, what: &'static str) -> Self {
        Self::Answer { operation: operation.to_owned().into(), what }
    }
}
