//! How values are said to people: one place, so that text, page and journal agree.

use crate::Span;

/// A span as an operator would say it: `0.4 s`, `41 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`.
#[must_use]
pub fn duration(span: Span) -> String {
    let seconds = span.0 / 1000;
    match seconds {
        0..10 => format!("{}.{} s", seconds, span.0 % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of bytes in decimal units: `512 B`, `1.5 kB`, `33 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `text` with everything that could move a terminal's cursor, hide or reorder characters made
/// visible. Names from outside (processes, peers, reasons) pass through here before a person sees them.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => '\u{fffd}',
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_an_operator_says_them() {
        for (ms, said) in [
            (0, "0.0 s"),
            (400, "0.4 s"),
            (41_000, "41 s"),
            (185_000, "3 min 05 s"),
            (7_800_000, "2 h 10 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(Span(ms)), said);
        }
    }

    #[test]
    fn byte_counts_switch_units_where_they_round() {
        for (count, said) in [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (33_000_000, "33 MB"), (999_600, "1.0 MB")]
        {
            assert_eq!(bytes(count), said);
        }
    }

    #[test]
    fn a_hostile_name_cannot_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
