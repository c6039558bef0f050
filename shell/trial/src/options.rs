//! What can be chosen, and how it is passed from one process of the trial to the next.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// What can be chosen about a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Sessions that are live when the drain begins.
    pub sessions: u32,
    /// Length of the longest session, in seconds; the drain cannot take much longer.
    pub seconds: u32,
    /// The story and what the commands say goes to standard error; only the figures go to standard output.
    pub json: bool,
    /// Whether everything that is said is coloured; by default that depends on where it goes.
    pub colour: Option<bool>,
    /// Something to go wrong on purpose, so that the figures can be seen to fail.
    pub sabotage: Option<Sabotage>,
}

impl Options {
    /// Sessions unless said otherwise.
    pub const SESSIONS: u32 = 300;
    /// The most: more would need more memory and ports than a first look is worth.
    pub const MOST_SESSIONS: u32 = 5000;
    /// Seconds of the longest session unless said otherwise; it is also the most, for all to be over in 60 s.
    pub const SECONDS: u32 = 40;
    /// Shortest session of the first wave, in seconds; hence the least for the longest.
    pub const LEAST_SECONDS: u32 = 5;

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_secs(self.seconds.clamp(Self::LEAST_SECONDS, Self::SECONDS).into())
    }

    /// The arguments of `ebb` for a process of this trial that plays `role`.
    pub(crate) fn arguments(&self, role: Role, dir: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = role.arguments().map(OsString::from).into();
        arguments.extend(["--dir".into(), dir.into()]);
        arguments.extend(["--sessions".into(), self.sessions.to_string().into()]);
        arguments.extend(["--seconds".into(), self.seconds.to_string().into()]);
        if self.json {
            arguments.push("--json".into());
        }
        if let Some(sabotage) = self.sabotage {
            arguments.extend(["--sabotage".into(), sabotage.as_str().into()]);
        }
        arguments
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { sessions: Self::SESSIONS, seconds: Self::SECONDS, json: false, colour: None, sabotage: None }
    }
}

/// What one process of a trial does; each is `ebb try --role ROLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// [`crate::stage`]
    Stage,
    /// [`crate::serve`]
    Chat,
    /// [`crate::clients`]
    Clients,
    /// Nothing: ends well at once, which proves that programs can be run from where this one lies.
    Nothing,
}

impl Role {
    const ALL: [Self; 4] = [Self::Stage, Self::Chat, Self::Clients, Self::Nothing];

    /// The arguments of `ebb` that are enough for a role which needs no more.
    pub(crate) const fn arguments(self) -> [&'static str; 3] {
        ["try", "--role", self.as_str()]
    }

    /// As it is written after `--role`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Chat => "chat",
            Self::Clients => "clients",
            Self::Nothing => "nothing",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| "no such role".to_owned())
    }
}

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The service on server-a is killed in the middle of the drain: its sessions are harmed.
    KillServer,
    /// The service on server-b is killed in the middle of the drain: newcomers find no server at all.
    KillOther,
    /// `ebb services` is run in place of `ebb drain`: nobody is ever moved.
    SkipDrain,
}

impl Sabotage {
    const ALL: [Self; 3] = [Self::KillServer, Self::KillOther, Self::SkipDrain];

    /// As it is written after `--sabotage`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KillServer => "kill-server",
            Self::KillOther => "kill-other",
            Self::SkipDrain => "skip-drain",
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| "no such sabotage".to_owned())
    }
}
