//! `/etc/ebb/ebb.toml`.
//!
//! ```toml
//! systemd = true            # false: every service is a tree of processes, whatever started it
//!
//! [access]
//! operators = ["ana", "@sre"]   # may act through a resident agent, beside root; others of group `ebb` may look
//!
//! [protect]
//! services = ["nginx", "kamailio*"]   # while sessions live there:
//! shutdown = "refuse"                 # allow, delay or refuse a reboot by somebody else
//! units = true                        # refuse `systemctl stop` and `restart`
//!
//! [service.mail]
//! units = ["postfix@-", "dovecot"]
//!
//! [service.chat]
//! executables = ["chatd"]
//! quic = [4433]
//! udp = [50500]             # a door, although the kernel hands out such ports to clients
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ebb_decide::services::Group;
use ebb_model::{AtShutdown, ProtectSettings};
use serde::Deserialize;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is there and cannot be read.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It makes no sense; every fault found, each with file and line.
    #[error("{}", faults.join("\n"))]
    Faults {
        /// Each with `file:line: what`.
        faults: Vec<String>,
    },
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Written {
    systemd: Option<bool>,
    #[serde(default)]
    access: AccessTable,
    #[serde(default)]
    protect: ProtectTable,
    #[serde(default)]
    service: BTreeMap<String, toml::Spanned<ServiceTable>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct AccessTable {
    #[serde(default)]
    operators: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ProtectTable {
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    shutdown: ShutdownWord,
    #[serde(default)]
    units: bool,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum ShutdownWord {
    #[default]
    Allow,
    Delay,
    Refuse,
}

impl From<ProtectTable> for ProtectSettings {
    fn from(table: ProtectTable) -> Self {
        let shutdown = match table.shutdown {
            ShutdownWord::Allow => AtShutdown::Allow,
            ShutdownWord::Delay => AtShutdown::Delay,
            ShutdownWord::Refuse => AtShutdown::Refuse,
        };
        Self { services: table.services, shutdown, units: table.units }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    #[serde(default)]
    units: Vec<String>,
    #[serde(default)]
    executables: Vec<String>,
    #[serde(default)]
    quic: Vec<u16>,
    #[serde(default)]
    udp: Vec<u16>,
}

/// What the file says.
#[derive(Debug)]
pub(crate) struct Config {
    /// Several units or executables as one service.
    pub(crate) groups: Vec<Group>,
    /// Ask systemd for units, where it runs.
    pub(crate) systemd: bool,
    /// Who may act beside root: login names, and `@GROUP`.
    pub(crate) operators: Vec<String>,
    /// Whose sessions are protected, and from what.
    pub(crate) protect: ProtectSettings,
}

/// Reads the file; one that is not there says nothing.
pub(crate) fn read(path: &Path) -> Result<Config, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => parse("", path),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let at = |offset: usize, what: &str| format!("{}:{}: {what}", path.display(), line_of(text, offset));
    let written: Written = toml::from_str(text).map_err(|error| ConfigError::Faults {
        faults: vec![at(error.span().map_or(0, |span| span.start), error.message())],
    })?;
    let mut faults = Vec::new();
    let mut unit_of: BTreeMap<String, String> = BTreeMap::new();
    let mut groups = Vec::new();
    for (name, table) in written.service {
        let offset = table.span().start;
        let table = table.into_inner();
        if let Err(error) = ebb_model::ServiceName::new(name.clone()) {
            faults.push(at(offset, &error.to_string()));
        }
        if [table.units.is_empty(), table.executables.is_empty(), table.quic.is_empty(), table.udp.is_empty()]
            == [true; 4]
        {
            faults.push(at(offset, &format!("service `{name}` names neither units nor executables nor ports")));
        }
        for unit in table.units.iter().chain(&table.executables) {
            let plain = unit.strip_suffix(".service").unwrap_or(unit).to_owned();
            if let Some(other) = unit_of.insert(plain, name.clone()) {
                faults.push(at(offset, &format!("`{unit}` is in service `{other}` already")));
            }
        }
        let ServiceTable { units, executables, quic, udp } = table;
        groups.push(Group { name, units, executables, quic, udp });
    }
    let systemd = written.systemd.unwrap_or(true);
    if faults.is_empty() {
        Ok(Config { groups, systemd, operators: written.access.operators, protect: written.protect.into() })
    } else {
        Err(ConfigError::Faults { faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match parse(text, Path::new("ebb.toml")) {
            Err(ConfigError::Faults { faults }) => faults,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn groups_are_read() {
        let config =
            parse("systemd = false\n[service.mail]\nunits = [\"postfix@-\", \"dovecot\"]\n", Path::new("x")).unwrap();
        let groups = config.groups;
        assert!(!config.systemd);
        assert_eq!((groups.len(), groups[0].units.len()), (1, 2));
    }

    #[test]
    fn protection_is_read() {
        let text = "[protect]\nservices = [\"nginx\"]\nshutdown = \"refuse\"\nunits = true\n";
        let protect = parse(text, Path::new("x")).unwrap().protect;
        assert_eq!((protect.services.len(), protect.shutdown, protect.units), (1, AtShutdown::Refuse, true));
        assert!(faults("[protect]\nshutdown = \"never\"\n")[0].starts_with("ebb.toml:2: unknown variant `never`"));
        assert_eq!(parse("", Path::new("x")).unwrap().protect, ProtectSettings::default());
    }

    #[test]
    fn faults_name_file_and_line_and_come_together() {
        assert!(faults("\n[service.mail]\nunit = []\n")[0].starts_with("ebb.toml:3: unknown field `unit`"));
        let two = faults("[service.a]\nunits = [\"x\"]\n[service.b]\nunits = [\"x.service\"]\n[service.c]\n");
        assert_eq!(two.len(), 2, "{two:?}");
        assert!(two[0].contains("in service `a` already") && two[1].contains("names neither"));
    }
}
