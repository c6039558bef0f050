//! HAProxy as the service itself: its sessions by `show sess` on its stats socket. A connection that is kept open between two
//! requests is none to HAProxy, and is not listed. It has no goodbye: `shutdown session` is a cut, which is gentle only
//! where no request is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ebb_model::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Ended, Role, Span, Use, UseKind, Uses};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Adapter, Answer, Error, MOST_BYTES, Seen, call, unix};

const HAPROXY: DaemonKind = DaemonKind::Haproxy;
/// As Debian's own configuration has it.
const SOCKET: &str = "/run/haproxy/admin.sock";
const HELP: &str =
    "`stats socket /run/haproxy/admin.sock level admin` in haproxy.cfg; [daemon.NAME] socket where it is";
/// Bytes of a name that are told.
const MOST_NAME: usize = 100;
/// A line of commands must fit into one buffer of HAProxy's (16 KiB).
const AT_ONCE: usize = 200;
/// A session that was told to end is gone when its task has run.
const PAUSE: Duration = Duration::from_millis(50);
const LOOKS: usize = 5;

/// One HAProxy.
#[derive(Clone, Debug)]
pub(crate) struct Haproxy {
    socket: String,
}

impl Haproxy {
    /// By its settings, else by a socket of the service with the name that Debian's configuration gives it.
    pub(crate) fn new(seen: &Seen, settings: &DaemonSettings) -> Self {
        let of_service = || seen.unix.iter().map(|path| renamed(path)).find(|path| path.ends_with("/admin.sock"));
        Self {
            socket: settings
                .socket
                .clone()
                .or_else(|| of_service().map(str::to_owned))
                .unwrap_or_else(|| SOCKET.to_owned()),
        }
    }

    /// One line of commands, and all that it answers.
    async fn ask(&self, line: &str) -> Result<String, Error> {
        let lost = |error: std::io::Error| Error::NotReached {
            daemon: HAPROXY,
            at: self.socket.clone(),
            cause: call::short(&error.to_string()),
        };
        let (mut stream, _) = unix::connect(HAPROXY, &self.socket).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await.map_err(lost)?;
        let mut answer = Vec::new();
        (&mut stream).take(MOST_BYTES as u64 + 1).read_to_end(&mut answer).await.map_err(lost)?;
        if answer.len() > MOST_BYTES {
            return Err(not_understood(&format!("more than {MOST_BYTES} bytes")));
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.trim_start().starts_with("Permission denied") {
            let cause = call::short(&answer);
            return Err(Error::NotPermitted { daemon: HAPROXY, at: self.socket.clone(), cause });
        }
        Ok(answer)
    }

    /// Its sessions, our own among them, and the connections of clients that it has.
    async fn sessions(&self) -> Result<(Vec<Use>, u64), Error> {
        let answer = self.ask("show info;show sess").await?;
        let (facts, list) = answer.split_once("\n\n").ok_or_else(|| not_understood("half an answer"))?;
        let connections = fact(facts, "CurrConns").and_then(|count| count.parse().ok());
        let connections = connections.ok_or_else(|| not_understood("no number of connections"))?;
        let lines = list.lines().filter(|line| !line.trim().is_empty());
        let uses: Option<Vec<Use>> = lines.map(session).collect();
        let uses = uses.ok_or_else(|| not_understood("a session that is none"))?;
        // We are connected: there is one at least. The list ends with an empty line.
        if !answer.ends_with("\n\n") || uses.iter().all(|one| one.role != Role::Own) {
            return Err(not_understood("a list of sessions without us, or half of one"));
        }
        Ok((uses, connections))
    }

    async fn asked(&self) -> Result<Abilities, Error> {
        let facts = self.ask("show info").await?;
        let version = fact(&facts, "Version").map(call::short);
        let level = self.ask("show cli level").await?;
        Ok(Abilities {
            version,
            list: Ability::Ready,
            refuse: Ability::Never("the gate does it; `disable frontend` would be forgotten by a reload"),
            end: match level.trim() {
                "admin" => Ability::Ready,
                other => Ability::Missing {
                    what: format!("its socket is of level {}", call::short(other)),
                    help: HELP.to_owned(),
                },
            },
            redirect: Ability::Never("a connection that exists cannot be moved"),
        })
    }

    /// Cuts sessions in which no request is under way, or with `inside` all; and looks whether they are gone.
    async fn cut(&self, keys: &[String], inside: bool) -> Result<Vec<Ended>, Error> {
        let (now, _) = self.sessions().await?;
        let now: BTreeMap<&str, &Use> = now.iter().map(|one| (one.key.as_str(), one)).collect();
        let plan: Vec<Ended> = keys.iter().map(|key| planned(now.get(key.as_str()).copied(), inside)).collect();
        let to_end = keys.iter().zip(&plan).filter(|(_, plan)| **plan == Ended::Asked).map(|(key, _)| key.as_str());
        let to_end: Vec<&str> = to_end.collect();
        for some in to_end.chunks(AT_ONCE) {
            let id = |key: &&str| key.split_once('@').map(|(id, _)| format!("shutdown session {id}"));
            self.ask(&some.iter().filter_map(id).collect::<Vec<_>>().join(";")).await?;
        }
        let left = if to_end.is_empty() { BTreeSet::new() } else { self.left(&to_end).await? };
        let outcome = |(key, plan): (&String, Ended)| match plan {
            Ended::Asked if left.contains(key) => Ended::Failed("it was told to end, and is still there".to_owned()),
            plan => plan,
        };
        Ok(keys.iter().zip(plan).map(outcome).collect())
    }

    /// Those of these that do not go.
    async fn left(&self, keys: &[&str]) -> Result<BTreeSet<String>, Error> {
        let mut left = BTreeSet::new();
        for _ in 0..LOOKS {
            tokio::time::sleep(PAUSE).await;
            let now: BTreeSet<String> = self.sessions().await?.0.into_iter().map(|one| one.key).collect();
            left = keys.iter().filter(|key| now.contains(**key)).map(|key| (*key).to_owned()).collect();
            if left.is_empty() {
                break;
            }
        }
        Ok(left)
    }
}

/// The name of a socket after its start: HAProxy makes `NAME.PID.tmp` first, which the kernel shows for ever.
fn renamed(path: &str) -> &str {
    let stem = path.strip_suffix(".tmp").and_then(|path| path.rsplit_once('.'));
    stem.filter(|(_, pid)| pid.bytes().all(|byte| byte.is_ascii_digit())).map_or(path, |(name, _)| name)
}

fn planned(one: Option<&Use>, inside: bool) -> Ended {
    match one {
        None => Ended::Gone,
        Some(one) if one.role == Role::Own => Ended::Spared("it is of the stats socket".to_owned()),
        Some(one) if one.busy == Busy::Active && !inside => {
            Ended::Spared("a request is under way, and an end would fail it".to_owned())
        }
        Some(_) => Ended::Asked,
    }
}

impl Adapter for Haproxy {
    fn kind(&self) -> DaemonKind {
        HAPROXY
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async { Ok(self.asked().await.unwrap_or_else(|error| Abilities::missing(&error.to_string(), HELP))) })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let (mut uses, connections) = self.sessions().await?;
            // Connections between two requests are not listed; several streams of HTTP/2 are on one. Those of the stats
            // socket are not counted.
            let told: BTreeSet<SocketAddr> =
                uses.iter().filter(|one| one.role != Role::Own).filter_map(|one| one.peer).collect();
            let beyond = uses.len().saturating_sub(most) as u64;
            let more = connections.saturating_sub(told.len() as u64) + beyond;
            uses.truncate(most);
            Ok(Uses { uses, more, transport: false })
        })
    }

    fn end<'a>(&'a self, keys: &'a [String], _text: &'a str, inside: bool) -> Answer<'a, Vec<Ended>> {
        Box::pin(self.cut(keys, inside))
    }
}

fn not_understood(what: &str) -> Error {
    Error::NotUnderstood { daemon: HAPROXY, what: call::short(what) }
}

/// `Name: value` of `show info`.
fn fact<'a>(facts: &'a str, name: &str) -> Option<&'a str> {
    facts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}

/// A line of `show sess`: an address in its memory, and words `name=value` of which some hold others in brackets.
fn session(line: &str) -> Option<Use> {
    let (id, words) = line.split_once(": ")?;
    id.strip_prefix("0x")
        .filter(|id| (1..=16).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let word = |name: &str| {
        let found = words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        Some(call::short(found.get(..MOST_NAME).unwrap_or(found)))
    };
    let (frontend, source) = (word("fe")?, word("src")?);
    let peer: Option<SocketAddr> = source.parse().ok().or_else(|| six(&source));
    let server = word("srv").filter(|server| server != "<none>");
    let backend = word("be").filter(|backend| backend != "<NONE>");
    let to = backend.map_or_else(
        || "nowhere yet".to_owned(),
        |name| server.map_or_else(|| name.clone(), |server| format!("{name}/{server}")),
    );
    // What looks at the bytes that pass: while a request or its answer is under way something does.
    let looks = words.split(' ').filter(|word| word.starts_with("rq[") || word.starts_with("rp["));
    let quiet = looks.filter(|word| word.contains(",an=00h,")).count() == 2;
    let stats = frontend == "GLOBAL";
    Some(Use {
        what: Some(format!("{frontend} -> {to}{}", if quiet { "" } else { ": a request" })),
        peer,
        age: word("age").as_deref().and_then(span),
        busy: if quiet { Busy::Unknown } else { Busy::Active },
        role: if stats { Role::Own } else { Role::User },
        by_connection: peer.is_some(),
        ..Use::new(format!("{id}@{source}"), UseKind::Proxied)
    })
}

/// An address of IPv6 as HAProxy writes it, without brackets: `2001:db8::1:4711`.
fn six(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip: std::net::Ipv6Addr = ip.parse().ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port.parse().ok()?))
}

/// `2d3h`, `1h5m`, `29s`: two units at most.
fn span(text: &str) -> Option<Span> {
    let (mut seconds, mut number) = (0_u64, 0_u64);
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                number = number.checked_mul(10)?.checked_add(u64::from(c.to_digit(10)?))?;
                continue;
            }
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        number = 0;
    }
    Some(Span::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: &str = "0x5594e6215330: proto=tcpv4 src=10.77.0.3:39838 fe=fe be=be srv=s1 ts=00 epoch=0 age=1m29s calls=3 \
        rate=0 cpu=0 lat=0 rq[f=808000h,i=0,an=00h,rx=59m30s,wx=,ax=] rp[f=80048000h,i=0,an=00h,rx=59m30s,wx=,ax=] \
        scf=[8,0h,fd=17] scb=[8,1h,fd=18] exp=59m30s rc=0 c_exp=";

    #[test]
    fn a_session_in_a_line() {
        let one = session(TCP).unwrap();
        assert_eq!(one.peer, "10.77.0.3:39838".parse().ok());
        assert_eq!((one.what.as_deref(), one.age), (Some("fe -> be/s1"), Some(Span::seconds(89))));
        assert_eq!((one.busy, one.role, one.by_connection), (Busy::Unknown, Role::User, true));
        assert_eq!(one.key, "0x5594e6215330@10.77.0.3:39838");
        let request = session(&TCP.replacen("an=00h", "an=8000h", 1)).unwrap();
        assert_eq!((request.busy, request.what.as_deref()), (Busy::Active, Some("fe -> be/s1: a request")));
        assert!(matches!(planned(Some(&request), false), Ended::Spared(_)));
        assert_eq!(planned(Some(&request), true), Ended::Asked);
        let own = TCP.replace("fe=fe", "fe=GLOBAL").replace("src=10.77.0.3:39838", "src=unix:1");
        let own = session(&own.replace("be=be srv=s1", "be=<NONE> srv=<none>")).unwrap();
        assert_eq!((own.role, own.peer, own.by_connection), (Role::Own, None, false));
        let six = session(&TCP.replace("10.77.0.3:", "2001:db8::7:")).unwrap();
        assert_eq!(six.peer, "[2001:db8::7]:39838".parse().ok());
        let mapped = session(&TCP.replace("10.77.0.3:", "::ffff:10.0.0.1:")).unwrap();
        assert_eq!(mapped.peer, "10.0.0.1:39838".parse().ok());
        assert_eq!(
            ["/run/a.sock.71.tmp", "/run/a.tmp", "/run/a"].map(renamed),
            ["/run/a.sock", "/run/a.tmp", "/run/a"]
        );
        for broken in ["", "x", "0x: fe=a src=b", "0x1;quit: fe=a src=b", "0x1: fe=a", "0x1: src=a"] {
            assert!(session(broken).is_none(), "{broken}");
        }
        let long = session(&TCP.replace("fe=fe", &format!("fe=\x1b[2J{}", "é".repeat(9000)))).unwrap();
        assert!(long.what.is_some_and(|what| what.len() < 600 && !what.contains('\x1b')));
    }

    #[test]
    fn times_have_units() {
        assert_eq!(["2d3h", "59m30s", "0s", ""].map(span), [183_600, 3570, 0, 0].map(|s| Some(Span::seconds(s))));
        assert_eq!(["99999999999999999999d", "5x"].map(span), [None, None]);
    }

    proptest! {
        #[test]
        fn anything_is_survived(line in ".{0,300}", source in "\\PC{0,60}") {
            let _ = session(&line);
            let _ = session(&format!("0x1: src={source} fe=a age={source}"));
        }
    }
}
