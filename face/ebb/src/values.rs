//! How durations and rates are typed.

use ebb_model::Span;

/// A length of time as typed: `500ms`, `90s`, `30m`, `1h30m`, `2h`, `7d`.
///
/// # Errors
/// What is wrong, in words.
pub fn duration(text: &str) -> Result<Span, String> {
    text.parse().map_err(|error: ebb_model::SpanError| error.to_string())
}

/// A rate as typed, `100/s`, `30/m` or `5/h`, per second.
///
/// # Errors
/// What is wrong, in words.
pub fn rate(text: &str) -> Result<f64, String> {
    let wrong = || "write a number per unit of time, as in 100/s, 30/m or 5/h".to_owned();
    let (number, unit) = text.trim().split_once('/').ok_or_else(wrong)?;
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let seconds = match unit.trim() {
        "s" | "sec" | "second" => 1.0,
        "m" | "min" | "minute" => 60.0,
        "h" | "hour" => 3600.0,
        _ => return Err(wrong()),
    };
    if !number.is_finite() || number <= 0.0 {
        return Err("it must be more than 0".to_owned());
    }
    Ok(number / seconds)
}

/// Whole seconds, rounded up: a wait is never shorter than asked.
#[must_use]
pub const fn whole_seconds(span: Span) -> u64 {
    span.0.div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_operators_type_them() {
        for (typed, ms) in [
            ("30m", 1_800_000),
            ("2h", 7_200_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("500ms", 500),
            ("0s", 0),
            ("7d", 604_800_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(duration(typed), Ok(Span(ms)), "{typed}");
        }
    }

    #[test]
    fn a_wrong_duration_says_how_to_write_one() {
        for typed in ["", "30", "m", "30x", "-5m", "5m ago", "1mo", "abc", "30 m m", "99999999999999999999s"] {
            let error = duration(typed).expect_err(typed);
            assert!(error.contains("30m") || error.contains("negative"), "{typed}: {error}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("100/s"), Ok(100.0));
        assert_eq!(rate("30/m"), Ok(0.5));
        assert_eq!(rate("1800/h"), Ok(0.5));
        for typed in ["", "100", "/s", "100/", "100/y", "-1/s", "0/s", "inf/s", "NaN/s"] {
            assert!(rate(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(whole_seconds(Span(500)), 1);
        assert_eq!(whole_seconds(Span(2000)), 2);
        assert_eq!(whole_seconds(Span(0)), 0);
    }
}
