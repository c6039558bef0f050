//! Prosody: its streams by a few lines of Lua (`prosody/ask.lua`) that are handed to its own admin console, as anybody may
//! type them into `prosodyctl shell`. Nothing is installed in Prosody and nothing of it stays there. Goodbyes are stream
//! errors: `system-shutdown`, or `see-other-host` to the `redirect` of `[daemon.NAME]`.

mod console;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ebb_model::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Ended, Role, Span, Use, UseKind, Uses};
use serde::Deserialize;

use crate::{Adapter, Answer, Error, Seen, call};
use console::{Console, not_understood};

const PROSODY: DaemonKind = DaemonKind::Prosody;
/// In the `data_path` of Debian's package, if nobody says otherwise (`admin_socket`).
const SOCKET: &str = "/var/lib/prosody/prosody.sock";
const HELP: &str = "\"admin_shell\" in modules_enabled of prosody.cfg.lua; [daemon.NAME] socket where admin_socket is";
const LUA: &str = include_str!("prosody/ask.lua");
/// Characters of a name or of what it does.
const MOST_TEXT: usize = 1000;
/// So many are ended with one question: Prosody serves nobody else meanwhile, for 10 ms or so.
const AT_ONCE: usize = 100;

/// Whether a socket of this path is Prosody's admin socket, by its name.
pub(crate) fn is_socket(path: &str) -> bool {
    path.rsplit('/').next() == Some("prosody.sock")
}

/// One Prosody.
#[derive(Clone, Debug)]
pub(crate) struct Prosody {
    socket: String,
    redirect: Option<String>,
    /// An answer within it is an answer.
    limit: Span,
}

#[derive(Deserialize)]
struct Page {
    left: u64,
    rows: Vec<Row>,
}

/// A session of Prosody's, in the order in which `ask.lua` tells it.
#[derive(Deserialize)]
struct Row {
    key: String,
    kind: String,
    user: Option<String>,
    resource: Option<String>,
    from: Option<String>,
    to: Option<String>,
    ip: Option<String>,
    port: Option<f64>,
    age: Option<f64>,
    asleep: Option<f64>,
    over: Option<String>,
    there: bool,
    rooms: Vec<String>,
    more_rooms: u64,
}

impl Prosody {
    pub(crate) fn new(seen: &Seen, settings: &DaemonSettings) -> Self {
        let of_service = || seen.unix.iter().find(|path| is_socket(path)).cloned();
        Self {
            socket: settings.socket.clone().or_else(of_service).unwrap_or_else(|| SOCKET.to_owned()),
            redirect: settings.redirect.clone(),
            limit: settings.timeout,
        }
    }

    /// A console that knows our words, and Prosody's version.
    async fn open(&self) -> Result<(Console, String), Error> {
        let mut console = Console::open(&self.socket).await?;
        let version = console.ask(LUA).await?;
        Ok((console, version))
    }

    async fn listed(&self, most: usize) -> Result<Uses, Error> {
        let (mut console, _) = self.open().await?;
        let mut told = Uses::default();
        loop {
            // Its quotation marks are told as DEL.
            let page = console.ask("true, ebb_next()").await?.replace('\u{7f}', "\"");
            let Page { left, rows } =
                serde_json::from_str(&page).map_err(|error| not_understood(&error.to_string()))?;
            let room = most.saturating_sub(told.uses.len());
            told.more = left + rows.len().saturating_sub(room) as u64;
            told.uses.extend(rows.into_iter().take(room).map(Use::from));
            if left == 0 || told.uses.len() == most {
                return Ok(told);
            }
        }
    }

    /// Says goodbye. Who could not be asked in time may be asked again.
    async fn goodbye(&self, keys: &[String], text: &str, target: Option<&str>) -> Result<Vec<Ended>, Error> {
        let began = Instant::now();
        let (mut console, _) = self.open().await?;
        let mut ended = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            if began.elapsed() * 4 > Duration::from(self.limit) * 3 {
                ended.extend(some.iter().map(|_| Ended::Failed("there was no time left to ask".to_owned())));
                continue;
            }
            let names: Vec<String> = some.iter().map(|key| lua(key)).collect();
            let question = format!(
                "true, ebb_close({{{}}}, {}, {})",
                names.join(","),
                lua(text),
                target.map_or("nil".into(), lua)
            );
            let said = console.ask(&question).await?;
            let said: Vec<String> = serde_json::from_str(&said).map_err(|error| not_understood(&error.to_string()))?;
            if said.len() != some.len() {
                return Err(not_understood(&format!("{} outcomes for {} sessions", said.len(), some.len())));
            }
            ended.extend(said.iter().map(|word| outcome(word)));
        }
        Ok(ended)
    }
}

impl Adapter for Prosody {
    fn kind(&self) -> DaemonKind {
        PROSODY
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            Ok(match self.open().await {
                Err(error) => Abilities::missing(&error.to_string(), HELP),
                Ok((_, version)) => Abilities {
                    version: Some(call::short(&version)),
                    list: Ability::Ready,
                    refuse: Ability::Never("the gate does it, at its ports for BOSH and WebSocket too"),
                    end: Ability::Ready,
                    redirect: Ability::Ready,
                },
            })
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(self.listed(most))
    }

    fn end<'a>(&'a self, keys: &'a [String], text: &'a str, _inside: bool) -> Answer<'a, Vec<Ended>> {
        Box::pin(self.goodbye(keys, text, self.redirect.as_deref()))
    }

    fn redirect<'a>(&'a self, keys: &'a [String], target: &'a str) -> Answer<'a, Vec<Ended>> {
        Box::pin(self.goodbye(keys, "", Some(target)))
    }
}

fn outcome(word: &str) -> Ended {
    match word {
        "asked" => Ended::Asked,
        "gone" => Ended::Gone,
        "stays" => Ended::Failed("it was told goodbye, and is still there".to_owned()),
        fault => Ended::Failed(call::short(fault)),
    }
}

/// A text as Lua reads it: whatever it holds, it is nothing but a text.
fn lua(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'.' | b'-' | b':' | b'@' => char::from(byte).to_string(),
        _ => format!("\\{byte:03}"),
    };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}

fn span(seconds: Option<f64>) -> Option<Span> {
    seconds.filter(|seconds| (0.0..1e12).contains(seconds)).map(|seconds| Span((seconds * 1000.0) as u64))
}

impl From<Row> for Use {
    fn from(row: Row) -> Self {
        let what = what(&row);
        let ip: Option<IpAddr> = row.ip.as_deref().and_then(|ip| ip.split('%').next()?.parse().ok());
        let port = row.port.filter(|port| (1.0..65_536.0).contains(port)).map(|port| port as u16);
        let peer = ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port));
        let of_user = row.kind.starts_with("c2s");
        let busy = match row.kind.as_str() {
            _ if row.asleep.is_some() => Busy::Resumable,
            kind if kind.ends_with("_unauthed") => Busy::NotLoggedIn,
            _ => Busy::Idle,
        };
        // Who has not said who he is may be anybody: at a door of ours he counts. Another server comes again by itself.
        let user = if of_user { row.user } else { row.from.filter(|_| row.kind.starts_with("s2sin")).or(row.to) };
        let others = matches!(row.kind.as_str(), "s2sin" | "s2sout" | "s2sout_unauthed" | "component");
        Self {
            user: user.as_deref().map(bounded),
            what: Some(bounded(&what)),
            peer,
            age: span(row.age),
            idle: span(row.asleep),
            busy,
            role: if others { Role::Presence } else { Role::User },
            // One that was opened from here is at no door; over BOSH there is one only while something is asked.
            by_connection: peer.is_some() && !row.kind.starts_with("s2sout"),
            ..Self::new(row.key, UseKind::Stream)
        }
    }
}

/// What is longer than anything that `ask.lua` tells is not its own.
fn bounded(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

fn what(row: &Row) -> String {
    let (from, to) = (row.from.as_deref().unwrap_or("?"), row.to.as_deref().unwrap_or("?"));
    match row.kind.as_str() {
        "s2sin" => return format!("another server: to {to}"),
        "s2sin_unauthed" => return "another server: has not proven who it is".to_owned(),
        "s2sout" => return format!("to another server: from {from}"),
        "s2sout_unauthed" => return format!("to another server: from {from}, connecting"),
        "component" => return "component".to_owned(),
        _ => {}
    }
    let over = row.over.as_deref().map_or_else(String::new, |over| format!(" over {over}"));
    let state = match row.asleep {
        Some(seconds) => format!("connection lost {seconds:.0} s ago, may be resumed"),
        None if row.kind == "c2s_unauthed" => "logging in".to_owned(),
        None if row.there => "online".to_owned(),
        None => "connected".to_owned(),
    };
    let more = if row.more_rooms == 0 { String::new() } else { format!(" and {} more", row.more_rooms) };
    let rooms = if row.rooms.is_empty() { String::new() } else { format!(", in {}{more}", row.rooms.join(", ")) };
    let resource = row.resource.as_deref().map_or_else(String::new, |resource| format!("/{resource}{over}: "));
    format!("{resource}{state}{rooms}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Use {
        let all = r#"{"key":"k","kind":"c2s","user":"ana@x","resource":"phone","from":null,"to":null,"ip":"10.0.0.1",
            "port":5000.0,"age":1.5,"asleep":null,"over":null,"there":true,"rooms":[],"more_rooms":0}"#;
        let mut all: serde_json::Value = serde_json::from_str(all).unwrap();
        let other: serde_json::Value = serde_json::from_str(text).unwrap();
        all.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        serde_json::from_value::<Row>(all).unwrap().into()
    }

    #[test]
    fn streams_of_each_kind() {
        let one = row("{}");
        assert_eq!((one.user.as_deref(), one.what.as_deref()), (Some("ana@x"), Some("/phone: online")));
        assert_eq!((one.peer, one.age), ("10.0.0.1:5000".parse().ok(), Some(Span(1500))));
        assert_eq!((one.busy, one.role, one.by_connection), (Busy::Idle, Role::User, true));
        let one = row(r#"{"asleep":7.2,"ip":null,"port":null,"rooms":["a@m","b@m"],"more_rooms":4}"#);
        let what = "/phone: connection lost 7 s ago, may be resumed, in a@m, b@m and 4 more";
        assert_eq!((one.busy, one.what.as_deref(), one.by_connection), (Busy::Resumable, Some(what), false));
        let one = row(r#"{"kind":"c2s_unauthed","user":null,"resource":null}"#);
        assert_eq!((one.busy, one.what.as_deref()), (Busy::NotLoggedIn, Some("logging in")));
        let one = row(r#"{"over":"BOSH","ip":null,"port":null}"#);
        assert_eq!((one.what.as_deref(), one.by_connection), (Some("/phone over BOSH: online"), false));
        let one = row(r#"{"kind":"s2sin","from":"b.test","to":"x.test"}"#);
        assert_eq!((one.user.as_deref(), one.role), (Some("b.test"), Role::Presence));
        let one = row(r#"{"kind":"s2sout","from":"x.test","to":"b.test"}"#);
        assert_eq!((one.user.as_deref(), one.role, one.by_connection), (Some("b.test"), Role::Presence, false));
        assert_eq!(row(r#"{"kind":"s2sin_unauthed"}"#).role, Role::User);
        for nowhere in [r#"{"port":0.0}"#, r#"{"port":70000.0}"#, r#"{"ip":"nowhere"}"#, r#"{"port":-1.0}"#] {
            assert_eq!(row(nowhere).peer, None, "{nowhere}");
        }
        assert_eq!(row(r#"{"ip":"fe80::1%eth0"}"#).peer, "[fe80::1]:5000".parse().ok());
    }

    #[test]
    fn a_text_is_nothing_but_a_text() {
        assert_eq!(lua("c2s-55d1@1.5"), "\"c2s-55d1@1.5\"");
        assert_eq!(lua("a\"..os.exit()--\n\\"), "\"a\\034..os\\046exit\\040\\041--\\010\\092\"".replace("\\046", "."));
        assert_eq!(lua("é"), "\"\\195\\169\"");
        assert_eq!(outcome("gone"), Ended::Gone);
        assert!(matches!(outcome("failed: \x1b"), Ended::Failed(why) if !why.contains('\x1b')));
    }
}
