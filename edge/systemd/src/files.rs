use crate::{UnitName, words::words};

words! {
    /// Start type of a unit file (`systemctl is-enabled`).
    UnitFileState {
        /// Starts at boot, or with what it is installed into.
        Enabled = "enabled",
        /// Enabled until the next boot.
        EnabledRuntime = "enabled-runtime",
        /// Made known by a link, from outside the usual folders.
        Linked = "linked",
        /// Linked until the next boot.
        LinkedRuntime = "linked-runtime",
        /// Another name of a unit.
        Alias = "alias",
        /// Cannot be started at all.
        Masked = "masked",
        /// Masked until the next boot.
        MaskedRuntime = "masked-runtime",
        /// Cannot be enabled: started by others only.
        Static = "static",
        /// Not enabled itself, but it installs others.
        Indirect = "indirect",
        /// Not enabled.
        Disabled = "disabled",
        /// Written by a generator.
        Generated = "generated",
        /// Made at run time through the API (`systemd-run`).
        Transient = "transient",
        /// The file has an error.
        Bad = "bad",
    }
}

/// One unit file on disk; the unit need not be loaded, and may be a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFile {
    /// The file's name.
    pub name: UnitName,
    /// Start type.
    pub state: UnitFileState,
}

impl UnitFile {
    /// From the path and state systemd gives; `None` for a name this crate does not accept.
    pub(crate) fn from_words(path: &str, state: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        Some(Self { name: UnitName::new(name).ok()?, state: UnitFileState::from_word(state) })
    }

    /// One line of `systemctl list-unit-files`.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        Self::from_words(words.next()?, words.next()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_both_sources() {
        let ssh = UnitFile::from_words("/lib/systemd/system/ssh.service", "enabled").unwrap();
        assert_eq!(UnitFile::from_line("ssh.service   enabled  enabled").as_ref(), Some(&ssh));
        assert_eq!(ssh.state, UnitFileState::Enabled);
        assert_eq!(UnitFile::from_words("/x/ssh.conf", "enabled"), None);
        let new = UnitFile::from_line("a@.socket marvellous -").unwrap();
        assert_eq!(new.state, UnitFileState::Other("marvellous".to_owned()));
        assert_eq!(UnitFile::from_line(""), None);
    }
}
