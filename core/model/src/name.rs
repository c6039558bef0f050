//! Names that are checked once, where they enter.

use std::fmt;

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    /// The name as it was given.
    pub given: String,
    /// What a name of this kind may be.
    pub rule: &'static str,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a name: {}", crate::printable(&self.given), self.rule)
    }
}

impl std::error::Error for NameError {}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $rule:literal, $max:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// [`NameError`] with the rule it breaks.
            pub fn new(given: impl Into<String>) -> Result<Self, NameError> {
                let given = given.into();
                let ok: fn(char) -> bool = $ok;
                if given.is_empty() || given.len() > $max || !given.chars().all(ok) || given.starts_with('-') {
                    return Err(NameError { given, rule: $rule });
                }
                Ok(Self(given))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A service of one server: `nginx`, `postgresql@15-main`, `python3:7000`.
    ServiceName,
    "up to 255 printable characters without space or slash, not starting with a dash",
    255,
    |c| !c.is_control() && !c.is_whitespace() && c != '/'
);

name!(
    /// Who wishes a hold: `operator`, `maintenance`, `deploy`, ...
    Requester,
    "up to 64 of a-z A-Z 0-9 . _ : @ and -, not starting with a dash",
    64,
    |c| c.is_ascii_alphanumeric() || "._:@-".contains(c)
);

name!(
    /// A server, pool or site of a fleet: `web1`, `db.berlin`.
    Label,
    "up to 63 of a-z A-Z 0-9 . _ and -, not starting with a dash",
    63,
    |c| c.is_ascii_alphanumeric() || "._-".contains(c)
);

impl Requester {
    /// The requester of a person at a terminal who names no other.
    #[must_use]
    pub fn operator() -> Self {
        Self("operator".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_could_hurt_a_path_or_a_terminal() {
        for bad in ["", "a b", "a/b", "-x", "a\nb", "\u{1b}[2J"] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?}");
            assert!(Requester::new(bad).is_err(), "{bad:?}");
        }
        assert!(ServiceName::new("systemd\\x2dfoo@15-main").is_ok());
        assert!(Requester::new("deploy:ci_7").is_ok());
    }
}
