//! Unit names as D-Bus object paths (`sd_bus_path_encode(3)`): letters and digits stand for
//! themselves, except a leading digit; every other byte is `_` and two hex digits.

use std::fmt::Write as _;

use crate::UnitName;

const UNITS: &str = "/org/freedesktop/systemd1/unit/";
const JOBS: &str = "/org/freedesktop/systemd1/job/";

/// The object of a unit. systemd loads the unit when the object is asked for.
pub(crate) fn of_unit(unit: &UnitName) -> String {
    let mut path = UNITS.to_owned();
    for (at, byte) in unit.as_str().bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

/// The unit of an object; `None` for objects which are no units.
pub(crate) fn to_unit(path: &str) -> Option<UnitName> {
    let mut name = Vec::new();
    let mut bytes = path.strip_prefix(UNITS)?.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'_' {
            let digits = [bytes.next()?, bytes.next()?];
            name.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            name.push(byte);
        }
    }
    UnitName::new(&String::from_utf8(name).ok()?).ok()
}

/// The number of a job, from its object.
pub(crate) fn to_job(path: &str) -> Option<u32> {
    path.strip_prefix(JOBS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for name in ["nginx.service", "postgresql@15-main.service", "dev-disk-by\\x2duuid.device", "3proxy.service"] {
            let unit = UnitName::new(name).unwrap();
            assert_eq!(to_unit(&of_unit(&unit)).as_ref(), Some(&unit));
        }
        let unit = UnitName::new("postfix@-.service").unwrap();
        assert_eq!(of_unit(&unit), "/org/freedesktop/systemd1/unit/postfix_40_2d_2eservice");
    }

    #[test]
    fn other_objects_are_no_units() {
        for path in ["/", "/org/freedesktop/systemd1/unit/", "/org/freedesktop/systemd1/unit/a_2"] {
            assert_eq!(to_unit(path), None, "{path}");
        }
        assert_eq!(to_unit("/org/freedesktop/systemd1/unit/a_é.service"), None);
        assert_eq!(to_job("/org/freedesktop/systemd1/job/1234"), Some(1234));
        assert_eq!(to_job("/"), None);
    }
}
