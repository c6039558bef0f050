//! People's words as systemd's: one line, and the name of a unit.

/// Room for a message; a description is shown on one line.
const LONGEST_LINE: usize = 300;
/// A unit's name has 255 bytes at most; `systemctl` puts its own words around it.
const LONGEST_NAME: usize = 180;

/// The text as one line which ends in no backslash (that would join it to the next).
pub(crate) fn line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_LINE).collect();
    plain.trim().trim_end_matches(['\\', ' ']).to_owned()
}

/// The line where systemd would resolve `%` specifiers.
pub(crate) fn literal(line: &str) -> String {
    line.replace('%', "%%")
}

/// The name of a unit that does not exist and says the text: `ebb:held-by-ada:TLS.Undo:ebb-resume-nginx.service`.
pub(crate) fn missing_unit(owner: &str, text: &str) -> String {
    let mut name = String::new();
    for word in text.split_whitespace() {
        if name.len() + word.len() >= LONGEST_NAME {
            break;
        }
        // "held: by" reads as "held:by", not "held:-by".
        if !name.is_empty() && !name.ends_with([':', '.']) {
            name.push('-');
        }
        name.extend(word.chars().map(|c| if may_be_in_name(c) { c } else { '_' }));
    }
    // An "@" at the end would make it a template, which nothing can require.
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let name = if name.is_empty() { "held" } else { name };
    let prefix = format!("{owner}:");
    let name = name.strip_prefix(&prefix).unwrap_or(name);
    format!("{prefix}{name}.service")
}

/// What a unit's name may have, but for the backslash, which begins an escape.
fn may_be_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || ":-_.@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnitName;

    #[test]
    fn lines_are_single_and_end_well() {
        assert_eq!(line(" a\nb\t\u{1b}[1m c \\ \\"), "a b  [1m c");
        assert_eq!(line(&"é".repeat(400)).chars().count(), LONGEST_LINE);
        assert_eq!(line("\\"), "");
    }

    #[test]
    fn any_text_becomes_a_name_systemd_takes() {
        for (text, name) in [
            ("held by ada: TLS work. Undo: ebb resume nginx", "ebb:held-by-ada:TLS-work.Undo:ebb-resume-nginx.service"),
            ("ebb: held (it's late)", "ebb:held-_it_s-late.service"),
            ("by ada@host for a@", "ebb:by-ada@host-for-a.service"),
            ("", "ebb:held.service"),
            ("… / \\", "ebb:held.service"),
            ("Müller", "ebb:M_ller.service"),
        ] {
            assert_eq!(missing_unit("ebb", text), name);
            assert!(UnitName::new(name).is_ok(), "{name}");
        }
        let long = missing_unit("ebb", &"word ".repeat(100));
        assert!(long.len() < 200 && long.ends_with("-word.service"), "{long}");
        let one = missing_unit("ebb", &"x".repeat(400));
        assert_eq!(one, "ebb:held.service");
    }
}
