//! Any other daemon: a command of the operator's speaks for it, with JSON on its standard input and output.
//! `docs/daemons/exec.md` has the whole of it, and an example.

use std::net::{IpAddr, SocketAddr};

use ebb_model::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Ended, Role, Span, Use, UseKind, Uses};
use serde::{Deserialize, Serialize};

use crate::{Adapter, Answer, Error, Refusal, call};

const EXEC: DaemonKind = DaemonKind::Exec;

/// A command that speaks for a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Exec {
    command: Vec<String>,
}

/// What it is asked.
#[derive(Serialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum Ask<'a> {
    Abilities,
    Sessions { most: usize },
    Refuse { text: &'a str, redirect: Option<&'a str> },
    Admit,
    Refuses,
    End { keys: &'a [String], text: &'a str, inside: bool },
    Redirect { keys: &'a [String], target: &'a str },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Can {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    can: Vec<Word>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Word {
    Sessions,
    Refuse,
    End,
    Redirect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    sessions: Vec<One>,
    #[serde(default)]
    more: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    key: String,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    what: Option<String>,
    #[serde(default)]
    peer: Option<SocketAddr>,
    #[serde(default)]
    peer_ip: Option<IpAddr>,
    #[serde(default)]
    pid: Option<u32>,
    #[serde(default)]
    age_seconds: Option<f64>,
    #[serde(default)]
    idle_seconds: Option<f64>,
    #[serde(default)]
    busy: Option<How>,
    #[serde(default)]
    role: Option<Whose>,
    #[serde(default = "yes")]
    by_connection: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Call,
    Registration,
    Stream,
    Mailbox,
    Smtp,
    Message,
    Database,
    Proxied,
    Http,
    Login,
    Other,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Active,
    Inside,
    Idle,
    NotLoggedIn,
    Resumable,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Whose {
    User,
    Replication,
    Monitoring,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusing {
    refuses: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcomes {
    ended: Vec<Outcome>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Asked,
    Gone,
    Spared(String),
    Failed(String),
}

impl Exec {
    pub(crate) fn new(settings: &DaemonSettings) -> Self {
        Self { command: settings.command.clone() }
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, Error> {
        let Some((program, arguments)) = self.command.split_first() else {
            let cause = "[daemon.NAME] has no `command`".to_owned();
            return Err(Error::NotReached { daemon: EXEC, at: "its command".to_owned(), cause });
        };
        let mut question = serde_json::to_vec(ask).map_err(|error| not_understood(&error))?;
        question.push(b'\n');
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = call::run(EXEC, program, &arguments, Some(&question)).await?;
        if ran.code != Some(0) {
            let code = ran.code.map_or_else(|| "by a signal".to_owned(), |code| format!("with {code}"));
            return Err(Error::Refused { daemon: EXEC, what: format!("{program} ended {code}: {}", ran.err) });
        }
        serde_json::from_slice(&ran.out).map_err(|error| not_understood(&error))
    }

    /// One answer for each key, or none of them counts.
    async fn each(&self, keys: &[String], ask: Ask<'_>) -> Result<Vec<Ended>, Error> {
        let outcomes: Outcomes = self.ask(&ask).await?;
        if outcomes.ended.len() != keys.len() {
            let what = format!("{} outcomes for {} sessions", outcomes.ended.len(), keys.len());
            return Err(Error::NotUnderstood { daemon: EXEC, what });
        }
        let ended = outcomes.ended.into_iter().map(|outcome| match outcome {
            Outcome::Asked => Ended::Asked,
            Outcome::Gone => Ended::Gone,
            Outcome::Spared(why) => Ended::Spared(why),
            Outcome::Failed(why) => Ended::Failed(why),
        });
        Ok(ended.collect())
    }
}

fn not_understood(error: &serde_json::Error) -> Error {
    Error::NotUnderstood { daemon: EXEC, what: call::short(&error.to_string()) }
}

impl Adapter for Exec {
    fn kind(&self) -> DaemonKind {
        EXEC
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            let can: Can = match self.ask(&Ask::Abilities).await {
                Ok(can) => can,
                Err(error) => return Ok(Abilities::missing(&error.to_string(), "docs/daemons/exec.md")),
            };
            let able = |word: Word| {
                if can.can.contains(&word) { Ability::Ready } else { Ability::Never("its command does not offer it") }
            };
            Ok(Abilities {
                version: can.version.clone(),
                list: able(Word::Sessions),
                refuse: able(Word::Refuse),
                end: able(Word::End),
                redirect: able(Word::Redirect),
            })
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let listing: Listing = self.ask(&Ask::Sessions { most }).await?;
            let mut uses: Vec<Use> = listing.sessions.into_iter().map(Use::from).collect();
            let beyond = uses.len().saturating_sub(most) as u64;
            uses.truncate(most);
            Ok(Uses { uses, more: listing.more + beyond, transport: false })
        })
    }

    fn refuse<'a>(&'a self, refusal: &'a Refusal) -> Answer<'a, ()> {
        Box::pin(async move {
            let ask = Ask::Refuse { text: &refusal.text, redirect: refusal.redirect.as_deref() };
            self.ask::<Refusing>(&ask).await.and_then(|now| is(now.refuses, true))
        })
    }

    fn admit(&self) -> Answer<'_, ()> {
        Box::pin(async { self.ask::<Refusing>(&Ask::Admit).await.and_then(|now| is(now.refuses, false)) })
    }

    fn refuses(&self) -> Answer<'_, bool> {
        Box::pin(async { self.ask::<Refusing>(&Ask::Refuses).await.map(|now| now.refuses) })
    }

    fn end<'a>(&'a self, keys: &'a [String], text: &'a str, inside: bool) -> Answer<'a, Vec<Ended>> {
        Box::pin(self.each(keys, Ask::End { keys, text, inside }))
    }

    fn redirect<'a>(&'a self, keys: &'a [String], target: &'a str) -> Answer<'a, Vec<Ended>> {
        Box::pin(self.each(keys, Ask::Redirect { keys, target }))
    }
}

fn is(now: bool, wished: bool) -> Result<(), Error> {
    if now == wished {
        return Ok(());
    }
    let what = if wished { "it still takes new work" } else { "it still refuses new work" };
    Err(Error::Refused { daemon: EXEC, what: what.to_owned() })
}

fn span(seconds: Option<f64>) -> Option<Span> {
    seconds.filter(|seconds| (0.0..1e12).contains(seconds)).map(|seconds| Span((seconds * 1000.0) as u64))
}

impl From<One> for Use {
    fn from(one: One) -> Self {
        Self {
            key: one.key,
            kind: one.kind.map_or(UseKind::Other, UseKind::from),
            user: one.user,
            what: one.what,
            peer: one.peer,
            peer_ip: one.peer_ip,
            pid: one.pid,
            age: span(one.age_seconds),
            idle: span(one.idle_seconds),
            busy: one.busy.map_or(Busy::Unknown, Busy::from),
            role: one.role.map_or(Role::User, Role::from),
            by_connection: one.by_connection,
        }
    }
}

impl From<Kind> for UseKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Call => Self::Call,
            Kind::Registration => Self::Registration,
            Kind::Stream => Self::Stream,
            Kind::Mailbox => Self::Mailbox,
            Kind::Smtp => Self::Smtp,
            Kind::Message => Self::Message,
            Kind::Database => Self::Database,
            Kind::Proxied => Self::Proxied,
            Kind::Http => Self::Http,
            Kind::Login => Self::Login,
            Kind::Other => Self::Other,
        }
    }
}

impl From<How> for Busy {
    fn from(how: How) -> Self {
        match how {
            How::Active => Self::Active,
            How::Inside => Self::Inside,
            How::Idle => Self::Idle,
            How::NotLoggedIn => Self::NotLoggedIn,
            How::Resumable => Self::Resumable,
        }
    }
}

impl From<Whose> for Role {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::User => Self::User,
            Whose::Replication => Self::Replication,
            Whose::Monitoring => Self::Monitoring,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(script: &str) -> Exec {
        Exec { command: ["sh", "-c", script].map(str::to_owned).to_vec() }
    }

    #[tokio::test]
    async fn sessions_are_as_the_command_tells_them() {
        let exec = says(
            r#"read -r ask; case "$ask" in *'"ask":"sessions","most":9'*) ;; *) exit 7;; esac
            echo '{"sessions":[{"key":"7","kind":"http","user":"ana","peer":"[::1]:4","idle_seconds":1.5,"busy":"idle"},
            {"key":"8","role":"monitoring","by_connection":false,"age_seconds":-1}],"more":2}'"#,
        );
        let uses = exec.uses(9).await.unwrap();
        let (one, two) = (&uses.uses[0], &uses.uses[1]);
        assert_eq!((one.user.as_deref(), one.peer), (Some("ana"), Some("[::1]:4".parse().unwrap())));
        assert_eq!((one.kind, one.busy, one.idle), (UseKind::Http, Busy::Idle, Some(Span(1500))));
        assert_eq!((two.role, two.by_connection, two.age), (Role::Monitoring, false, None));
        assert_eq!(uses.more, 2);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        for (script, wants) in [
            ("echo '{\"sessions\":[{\"user\":\"no key\"}]}'", "not understood"),
            ("echo '{\"sessions\":['", "not understood"),
            ("exit 3", "ended with 3"),
            ("kill -9 $$", "by a signal"),
        ] {
            let error = says(script).uses(1).await.unwrap_err().to_string();
            assert!(error.contains(wants), "{script}: {error}");
        }
        let abilities = Exec { command: vec!["/nonexistent".into()] }.abilities().await.unwrap();
        assert!(matches!(abilities.list, Ability::Missing { .. }), "{abilities:?}");
        let late = crate::within(std::time::Duration::from_millis(50), EXEC, says("sleep 9").uses(1)).await;
        assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    }

    #[tokio::test]
    async fn each_session_has_an_outcome_or_none_counts() {
        let keys = ["a".to_owned(), "b".to_owned()];
        let exec = says(r#"echo '{"ended":["asked",{"spared":"in a transaction"}]}'"#);
        let ended = exec.end(&keys, "bye", false).await.unwrap();
        assert_eq!(ended, [Ended::Asked, Ended::Spared("in a transaction".into())]);
        assert!(says(r#"echo '{"ended":["asked"]}'"#).end(&keys, "bye", false).await.is_err());
        assert!(says(r#"echo '{"refuses":false}'"#).refuse(&Refusal::default()).await.is_err(), "read back");
        assert!(says(r#"echo '{"refuses":false}'"#).admit().await.is_ok());
    }
}
