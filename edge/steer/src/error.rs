//! What can go wrong between us and a name server or a balancer: where, what, and what to do.

use std::time::Duration;

/// Why something was not done, or is not known. Texts of others in it are printable and short; no secret is ever in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot be meant.
    #[error("{what}: {help}")]
    Settings {
        /// What is wrong.
        what: String,
        /// What to write instead.
        help: String,
    },
    /// There is no way to it.
    #[error("{at} is not reached: {cause}")]
    NotReached {
        /// Where.
        at: String,
        /// Why.
        cause: String,
    },
    /// It did not answer in time. What was asked for may have been done: `drift` says.
    #[error("{at} did not answer in time ({:.1} s)", .within.as_secs_f64())]
    Late {
        /// Where.
        at: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// We may not.
    #[error("{at} does not let us: {what}; {help}")]
    NotPermitted {
        /// Where.
        at: String,
        /// What it said.
        what: String,
        /// What gives the right.
        help: String,
    },
    /// It answered something else than it should.
    #[error("{at} gave an answer that is not understood: {what}")]
    NotUnderstood {
        /// Where.
        at: String,
        /// What, short.
        what: String,
    },
    /// It said no.
    #[error("{at} did not do it: {what}; {help}")]
    Refused {
        /// Where.
        at: String,
        /// What it said.
        what: String,
        /// What helps.
        help: String,
    },
    /// There is no such backend, server, set, destination or zone.
    #[error("{at} has no {what}: {help}")]
    Missing {
        /// Where.
        at: String,
        /// What was looked for.
        what: String,
        /// What is there, or how to find it.
        help: String,
    },
    /// Somebody else has changed it since. Nothing was changed by us.
    #[error("{what} at {at} was changed by somebody else: {found}. Nothing was changed: look again")]
    Changed {
        /// Where.
        at: String,
        /// What.
        what: String,
        /// What it is now.
        found: String,
    },
    /// Nobody would be left. Nothing was changed.
    #[error("{what} at {at} would have nobody left: give it another member first, or something instead")]
    Last {
        /// Where.
        at: String,
        /// Which name.
        what: String,
    },
    /// It has no such thing.
    #[error("{at} cannot do that: {why}")]
    Cannot {
        /// Where.
        at: String,
        /// Why.
        why: String,
    },
    /// It took the order, and is not as it was told.
    #[error("{at} was told, and is still not as told: {found}")]
    NotTaken {
        /// Where.
        at: String,
        /// What it is.
        found: String,
    },
}

/// The beginning of what somebody said, fit for a message: printable, one line, 200 characters at most.
pub(crate) fn short(text: &str) -> String {
    ebb_model::printable(text.trim()).chars().take(200).collect()
}
