//! How single values are said.

use anstyle::{AnsiColor, Style};
use ebb_model::{Span, printable};
use ebb_wire::v1::{Age, Door, Hold};
use jiff::Timestamp;

use super::View;

/// Names and headings.
pub const STRONG: Style = Style::new().bold();
/// All is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Look here.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();

/// `text` in a style; the stream it goes to leaves the style out where it is no terminal.
#[must_use]
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The style of an effective state.
#[must_use]
pub fn state_style(state: &str) -> Style {
    match state {
        "open" => GOOD,
        "draining" => WARN,
        "drained" => STRONG,
        _ => Style::new(),
    }
}

/// Seconds as a span.
#[must_use]
pub fn span(seconds: f64) -> Span {
    // Saturates, and takes what is no number as nothing.
    std::time::Duration::try_from_secs_f64(seconds).map_or(Span::ZERO, Span::from)
}

/// `3 min 10 s`
#[must_use]
pub fn duration(seconds: f64) -> String {
    ebb_model::duration(span(seconds))
}

/// The same with one unit fewer, where the end does not matter: `41 min`, `2 h 10 min`.
#[must_use]
pub fn roughly(seconds: f64) -> String {
    let exact = span(seconds).0 / 1000;
    match exact {
        0..60 => format!("{exact} s"),
        60..3600 => format!("{} min", exact / 60),
        _ => ebb_model::duration(Span::seconds(exact)),
    }
}

/// How old: `41 min` if that is known, `≥ 41 min` if only that it is not younger.
#[must_use]
pub fn age(age: Age) -> String {
    let Age { at_least_seconds: least, at_most_seconds: most } = age;
    match most {
        // The text has no finer unit than a second.
        Some(most) if most - least < 1.0 => roughly(least),
        Some(most) if least < 1.0 => format!("< {}", roughly(most)),
        None if least <= 0.0 => "unknown".to_owned(),
        _ => format!("≥ {}", roughly(least)),
    }
}

/// `1 session`, `2 sessions`
#[must_use]
pub fn many(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// `tcp 0.0.0.0:80`, `udp [::1]:53`, `unix /run/x.sock`
#[must_use]
pub fn door(door: &Door) -> String {
    let proto = printable(&door.proto);
    if door.proto == "unix" {
        format!("{proto} {}", printable(&door.address))
    } else {
        format!("{proto} {}:{}", host(&door.address), door.port)
    }
}

fn host(address: &str) -> String {
    let address = printable(address);
    if address.contains(':') { format!("[{address}]") } else { address }
}

/// Doors in few words, ports of one address together: `tcp *:80,443  udp *:443`.
#[must_use]
pub fn doors(doors: &[Door]) -> String {
    let mut groups: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for door in doors.iter().filter(|door| door.proto != "unix") {
        match groups.iter_mut().find(|(proto, address, _)| *proto == door.proto && *address == door.address) {
            Some((_, _, ports)) => ports.push(door.port.to_string()),
            None => groups.push((&door.proto, &door.address, vec![door.port.to_string()])),
        }
    }
    let mut said: Vec<String> = groups
        .into_iter()
        .map(|(proto, address, ports)| format!("{} {}:{}", printable(proto), host(address), ports.join(",")))
        .collect();
    said.extend(doors.iter().filter(|door| door.proto == "unix").map(door));
    if said.is_empty() { "none".to_owned() } else { said.join("  ") }
}

/// A local clock: `07:01:28`.
#[must_use]
pub fn clock(at: Timestamp, view: &View) -> String {
    at.to_zoned(view.zone.clone()).strftime("%H:%M:%S").to_string()
}

/// A local time, with its date if that is not today's.
#[must_use]
pub fn moment(at: Timestamp, view: &View) -> String {
    let at = at.to_zoned(view.zone.clone());
    let today = view.now.to_zoned(view.zone.clone()).date();
    let format = if at.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

/// A hold in a line: `operator (by root) since 07:01:28 until 09:01:28: kernel upgrade`.
#[must_use]
pub fn hold(hold: &Hold, view: &View) -> String {
    let with = if hold.whole_server { " with the whole server" } else { "" };
    let (requester, by) = (printable(&hold.requester), printable(&hold.by));
    let mut text = format!("{requester}{with} (by {by}) since {}", moment(hold.since, view));
    if let Some(until) = hold.until {
        let then = if hold.reopens { ", then reopened" } else { "" };
        text.push_str(&format!(" until {}{then}", moment(until, view)));
    }
    if !hold.except.is_empty() {
        text.push_str(&format!(", except {}", printable(&hold.except.join(", "))));
    }
    if !hold.reason.is_empty() {
        text.push_str(&format!(": {}", printable(&hold.reason)));
    }
    text
}

/// A name as it must be typed in a shell.
#[must_use]
pub fn shell_word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._:+-".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", printable(name).replace('\'', r"'\''"))
}

/// `text` in at most `width` columns, the cut made visible.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn ages_say_what_is_known() {
        for (least, most, said) in [
            (2460.0, Some(2460.0), "41 min"),
            (2460.0, None, "≥ 41 min"),
            (2460.0, Some(3000.0), "≥ 41 min"),
            (0.0, Some(7.0), "< 7 s"),
            (0.0, None, "unknown"),
            (7800.0, None, "≥ 2 h 10 min"),
            (0.4, Some(0.4), "0 s"),
        ] {
            assert_eq!(age(Age { at_least_seconds: least, at_most_seconds: most }), said);
        }
    }

    #[test]
    fn durations_survive_what_is_no_duration() {
        assert_eq!(duration(190.0), "3 min 10 s");
        assert_eq!(duration(-1.0), "0.0 s");
        assert_eq!(duration(f64::NAN), "0.0 s");
        assert_eq!(duration(f64::INFINITY), "0.0 s");
    }

    #[test]
    fn doors_of_one_address_share_it() {
        let tcp = |address: &str, port| Door { address: address.to_owned(), port, ..fixture::door() };
        let unix = Door { proto: "unix".to_owned(), address: "/run/x.sock".to_owned(), ..fixture::door() };
        assert_eq!(
            doors(&[tcp("*", 80), tcp("*", 443), tcp("::1", 53), unix]),
            "tcp *:80,443  tcp [::1]:53  unix /run/x.sock"
        );
        assert_eq!(doors(&[]), "none");
    }

    #[test]
    fn a_date_is_said_only_if_it_is_not_today() {
        let view = fixture::view();
        assert_eq!(moment("2026-11-21T07:01:28Z".parse().unwrap(), &view), "07:01:28");
        assert_eq!(moment("2026-11-20T07:01:28Z".parse().unwrap(), &view), "2026-11-20 07:01:28");
    }

    #[test]
    fn names_can_be_pasted_into_a_shell() {
        assert_eq!(shell_word("postgresql@15-main"), "postgresql@15-main");
        assert_eq!(shell_word(r"systemd\x2dfoo"), r"'systemd\x2dfoo'");
        assert_eq!(shell_word("a'b;c"), r"'a'\''b;c'");
    }

    #[test]
    fn a_cut_is_visible() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("abcdef", 0), "");
    }
}
