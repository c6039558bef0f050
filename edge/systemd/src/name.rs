use std::{fmt, str::FromStr};

use crate::Error;

/// The longest name systemd accepts (`UNIT_NAME_MAX`), in bytes.
const LONGEST: usize = 255;

/// What kind of unit a name says it is (its suffix).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "systemd's own words")]
pub enum UnitKind {
    Service,
    Socket,
    Scope,
    Slice,
    Target,
    Timer,
    Path,
    Mount,
    Automount,
    Swap,
    Device,
}

impl UnitKind {
    fn from_suffix(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "service" => Self::Service,
            "socket" => Self::Socket,
            "scope" => Self::Scope,
            "slice" => Self::Slice,
            "target" => Self::Target,
            "timer" => Self::Timer,
            "path" => Self::Path,
            "mount" => Self::Mount,
            "automount" => Self::Automount,
            "swap" => Self::Swap,
            "device" => Self::Device,
            _ => return None,
        })
    }
}

/// The name of a unit exactly as `systemctl` takes it, suffix included: `postgresql@15-main.service`.
///
/// Only names that systemd itself would accept exist, so they hold nothing that upsets a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitName(String);

impl UnitName {
    /// Accepts what systemd accepts (`unit_name_is_valid`), templates (`x@.service`) included.
    ///
    /// # Errors
    /// [`Error::InvalidName`].
    pub fn new(name: &str) -> Result<Self, Error> {
        if kind_of(name).is_some() {
            Ok(Self(name.to_owned()))
        } else {
            Err(Error::InvalidName { name: name.to_owned() })
        }
    }

    /// The name as `systemctl` takes it. The same as `Display`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name for people: systemd's `\x2d` escapes are resolved where they stand for a printable character.
    pub fn unescaped(&self) -> String {
        let mut out = String::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find("\\x") {
            out.push_str(&rest[..at]);
            let tail = &rest[at..];
            let code = tail.get(2..4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            if let Some(byte) = code.filter(|byte| (b' '..=b'~').contains(byte)) {
                out.push(char::from(byte));
                rest = &tail[4..];
            } else {
                out.push_str("\\x");
                rest = &tail[2..];
            }
        }
        out.push_str(rest);
        out
    }

    /// The kind the name says it is.
    pub fn kind(&self) -> UnitKind {
        kind_of(&self.0).expect("a UnitName is made only from a name that has a kind")
    }

    /// The name without its suffix: `nginx`.
    pub fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(self.0.as_str(), |(stem, _)| stem)
    }

    /// What comes before `@`, for instances and templates.
    pub fn template_prefix(&self) -> Option<&str> {
        self.stem().split_once('@').map(|(prefix, _)| prefix)
    }

    /// Which unit a cgroup belongs to, from its path as in `/proc/PID/cgroup` after `0::`.
    ///
    /// The unit is the first component which is not a slice; what lies below it was made by the
    /// unit itself (delegation, containers). Below `user@UID.service` there is the manager of a
    /// user, with units of its own. `None`: the path is in no unit (only slices, or outside of
    /// this cgroup namespace).
    pub fn from_cgroup_path(path: &str) -> Option<UnitOwner> {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let unit = first_unit(&mut parts)?;
        let owner = UnitOwner { unit: unit.clone(), uid: None, user_unit: None };
        let Some(uid) = user_manager(&unit) else {
            return Some(owner);
        };
        Some(UnitOwner { uid: Some(uid), user_unit: first_unit(&mut parts), ..owner })
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for UnitName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

/// Whose a cgroup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitOwner {
    /// The unit of the system's systemd; for processes of a user's manager that is `user@UID.service`.
    pub unit: UnitName,
    /// The user whose manager `unit` is.
    pub uid: Option<u32>,
    /// The unit inside the user's manager. [`crate::Systemd`] cannot act on it: it is not the system's.
    pub user_unit: Option<UnitName>,
}

fn kind_of(name: &str) -> Option<UnitKind> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let well_formed = !stem.is_empty() && !stem.starts_with('@') && name.len() <= LONGEST && name.bytes().all(valid);
    well_formed.then(|| UnitKind::from_suffix(suffix)).flatten()
}

fn first_unit<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<UnitName> {
    // systemd puts "_" before a name that cgroupfs would misunderstand (cg_escape).
    let name =
        parts.map(|part| part.strip_prefix('_').unwrap_or(part)).find(|part| kind_of(part) != Some(UnitKind::Slice))?;
    UnitName::new(name).ok()
}

fn user_manager(unit: &UnitName) -> Option<u32> {
    unit.stem().strip_prefix("user@")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(path: &str) -> Option<(String, Option<u32>, Option<String>)> {
        UnitName::from_cgroup_path(path).map(|o| (o.unit.to_string(), o.uid, o.user_unit.map(|u| u.to_string())))
    }

    fn system(unit: &str) -> Option<(String, Option<u32>, Option<String>)> {
        Some((unit.to_owned(), None, None))
    }

    #[test]
    fn cgroups_of_the_system() {
        let same = [
            ("/system.slice/nginx.service", "nginx.service"),
            ("/system.slice/system-postfix.slice/postfix@-.service", "postfix@-.service"),
            ("/system.slice/ssh.socket", "ssh.socket"),
            ("/system.slice/foo.service/x", "foo.service"),
            ("/system.slice/foo.service/payload/system.slice/nginx.service", "foo.service"),
            ("/machine.slice/systemd-nspawn@a.service/payload", "systemd-nspawn@a.service"),
            ("/system.slice/docker-0123abcd.scope", "docker-0123abcd.scope"),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
            ("/init.scope", "init.scope"),
            ("system.slice/nginx.service", "nginx.service"),
            ("/system.slice/nginx.service (deleted)", "nginx.service"),
            ("/system.slice/_cgroup.service", "cgroup.service"),
            ("/user.slice/user@x.service/a.service", "user@x.service"),
        ];
        for (path, unit) in same {
            assert_eq!(owner(path), system(unit), "{path}");
        }
    }

    #[test]
    fn cgroups_of_a_user() {
        let base = "/user.slice/user-1000.slice/user@1000.service";
        let manager = "user@1000.service".to_owned();
        for (below, unit) in [
            ("/app.slice/bar.service", Some("bar.service")),
            ("/app.slice/app-x.slice/bar.service/sub", Some("bar.service")),
            ("/init.scope", Some("init.scope")),
            ("", None),
        ] {
            let wanted = Some((manager.clone(), Some(1000), unit.map(str::to_owned)));
            assert_eq!(owner(&format!("{base}{below}")), wanted, "{below}");
        }
    }

    #[test]
    fn cgroups_of_nobody() {
        for path in ["", "/", "/system.slice", "/../../x.service", "/docker/0123", "/a.slice/b.slice"] {
            assert_eq!(owner(path), None, "{path}");
        }
    }

    #[test]
    fn names() {
        for name in ["", "nginx", ".service", "@.service", "a b.service", "a/b.service", "a.bogus"] {
            assert!(UnitName::new(name).is_err(), "{name}");
        }
        assert!(UnitName::new(&format!("{}.service", "a".repeat(250))).is_err());
        let unit = UnitName::new("postgresql@15-main.service").unwrap();
        assert_eq!(unit.kind(), UnitKind::Service);
        assert_eq!(unit.template_prefix(), Some("postgresql"));
        assert_eq!(unit.stem(), "postgresql@15-main");
        assert_eq!(UnitName::new("x@.socket").unwrap().kind(), UnitKind::Socket);
    }

    #[test]
    fn unescaping_never_makes_control_characters() {
        for (name, readable) in [
            ("a\\x2db.service", "a-b.service"),
            ("a\\x1b.service", "a\\x1b.service"),
            ("a\\x2.service", "a\\x2.service"),
            ("a\\x5cx41.service", "a\\x41.service"),
            ("a\\x.service", "a\\x.service"),
        ] {
            assert_eq!(UnitName::new(name).unwrap().unescaped(), readable);
        }
    }
}
