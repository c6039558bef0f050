//! Lengths of time as people type them: one place, so that flags and configuration agree.

use std::fmt;
use std::str::FromStr;

use crate::Span;

/// Why a text is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanError {
    /// It is not written like one.
    Unreadable,
    /// It is less than nothing.
    Negative,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "write a number with its unit, as in 500ms, 90s, 30m, 1h30m, 2h or 7d",
            Self::Negative => "it must not be negative",
        })
    }
}

impl std::error::Error for SpanError {}

/// Units from the longest to the shortest, in milliseconds. A day is 24 hours: `7d` counts time, it names no date.
const UNITS: [(u64, &[&str]); 6] = [
    (7 * 86_400_000, &["w", "wk", "wks", "week", "weeks"]),
    (86_400_000, &["d", "day", "days"]),
    (3_600_000, &["h", "hr", "hrs", "hour", "hours"]),
    (60_000, &["m", "min", "mins", "minute", "minutes"]),
    (1000, &["s", "sec", "secs", "second", "seconds"]),
    (1, &["ms", "msec", "msecs", "millisecond", "milliseconds"]),
];

impl FromStr for Span {
    type Err = SpanError;

    /// `500ms`, `90s`, `30m`, `1h30m`, `1h 30m`, `1.5h`, `2h`, `7d`: each unit once, the longest first.
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let mut rest = text.trim();
        if let Some(positive) = rest.strip_prefix('-') {
            return Err(if positive.parse::<Self>().is_ok() { SpanError::Negative } else { SpanError::Unreadable });
        }
        let mut units = UNITS.iter();
        let mut total = 0_u64;
        while !rest.is_empty() {
            let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
            let (unit, after) = split(after.trim_start(), |c| c.is_ascii_alphabetic());
            let (length, _) = units.find(|(_, names)| names.contains(&unit)).ok_or(SpanError::Unreadable)?;
            let part = times(number, *length).ok_or(SpanError::Unreadable)?;
            total = total.checked_add(part).ok_or(SpanError::Unreadable)?;
            rest = after.trim_start();
        }
        // An empty text has no unit.
        if units.len() == UNITS.len() { Err(SpanError::Unreadable) } else { Ok(Self(total)) }
    }
}

fn split(text: &str, fits: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !fits(c)).unwrap_or(text.len()))
}

/// A decimal number of units in milliseconds; none if it is no number, or too large.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    // More digits than these say nothing in milliseconds.
    let digits = fraction.get(..9).unwrap_or(fraction);
    let scale = 10_u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let part = digits.parse::<u64>().ok()?.checked_mul(unit)? / scale;
    let all_digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits { whole.checked_add(part) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_as_operators_type_them() {
        for (typed, ms) in [
            ("30m", 1_800_000),
            ("2h", 7_200_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            (" 1h 30m ", 5_400_000),
            ("30 minutes", 1_800_000),
            ("500ms", 500),
            ("0s", 0),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            ("1.5h", 5_400_000),
            ("0.0005s", 0),
        ] {
            assert_eq!(typed.parse(), Ok(Span(ms)), "{typed}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for typed in
            ["", " ", "30", "m", "30x", "5m ago", "1mo", "abc", "30 m m", "30m1h", "1h1h", "1..5h", ".h", "1.h", "--5m"]
        {
            assert_eq!(typed.parse::<Span>(), Err(SpanError::Unreadable), "{typed}");
        }
        for typed in ["99999999999999999999s", "18446744073709551615h", "1.5.5h", "1.9999999999x9s", "٣s"] {
            assert_eq!(typed.parse::<Span>(), Err(SpanError::Unreadable), "{typed}");
        }
        assert_eq!("-5m".parse::<Span>(), Err(SpanError::Negative));
    }
}
