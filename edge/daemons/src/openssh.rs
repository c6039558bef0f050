//! OpenSSH's server: it tells nothing, but its processes have titles: who is logged in, at which terminal, and what runs
//! there. A session ends when its process is told to; the client reads that the other side has closed the connection.

use std::collections::{BTreeMap, BTreeSet};

use ebb_model::{Abilities, Ability, Busy, DaemonKind, Ended, Use, UseKind, Uses};

use crate::proc::{self, Process};
use crate::{Adapter, Answer, Seen};

const OPENSSH: DaemonKind = DaemonKind::Openssh;

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Openssh {
    /// Its own processes; sessions are their children.
    pids: BTreeSet<u32>,
}

impl Openssh {
    pub(crate) fn new(seen: &Seen) -> Self {
        Self { pids: seen.pids.clone() }
    }
}

impl Adapter for Openssh {
    fn kind(&self) -> DaemonKind {
        OPENSSH
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            Ok(Abilities {
                version: None,
                list: Ability::Ready,
                refuse: Ability::Never("the gate does it, and lets in whom --except names"),
                end: Ability::Ready,
                redirect: Ability::Never("its protocol has no such word"),
            })
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let mut uses = sessions(&self.pids, &proc::all());
            let more = uses.len().saturating_sub(most) as u64;
            uses.truncate(most);
            Ok(Uses { uses, more, transport: false })
        })
    }

    fn end<'a>(&'a self, keys: &'a [String], _text: &'a str, inside: bool) -> Answer<'a, Vec<Ended>> {
        Box::pin(async move {
            let now = sessions(&self.pids, &proc::all());
            let end = |key: &String| match now.iter().find(|one| one.key == *key) {
                None => Ended::Gone,
                Some(one) if one.busy == Busy::Inside && !inside => {
                    Ended::Spared(one.what.clone().unwrap_or_else(|| "something runs there".to_owned()))
                }
                Some(_) => proc::end(OPENSSH, key),
            };
            Ok(keys.iter().map(end).collect())
        })
    }
}

/// What a title says: `sshd: ana@pts/0`, `sshd: ana [priv]`, `sshd: unknown [net]`, `sshd: [accepted]`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Title<'a> {
    Session { user: &'a str, terminal: Option<&'a str> },
    NotLoggedIn { user: Option<&'a str> },
    Monitor { user: &'a str },
    Other,
}

fn title(text: &str) -> Title<'_> {
    let Some(rest) = text.strip_prefix("sshd: ").or_else(|| text.strip_prefix("sshd-session: ")) else {
        return Title::Other;
    };
    if rest.contains("[listener]") {
        return Title::Other;
    }
    let known = |user: &'static str, name: &str| name != user;
    match rest.rsplit_once(" [") {
        Some((user, "priv]")) => Title::Monitor { user },
        Some((user, "net]" | "preauth]" | "accepted]")) => {
            Title::NotLoggedIn { user: Some(user).filter(|name| known("unknown", name)) }
        }
        Some(_) => Title::Other,
        None if rest.starts_with('[') => Title::NotLoggedIn { user: None },
        // A login name has no @; a terminal may be `pts/0`, `pts/0,pts/1` or `notty`.
        None => rest.rsplit_once('@').map_or(Title::Other, |(user, terminal)| Title::Session {
            user,
            terminal: Some(terminal).filter(|name| known("notty", name)),
        }),
    }
}

/// Sessions of the listeners `own`: a process of each that holds the client's socket.
fn sessions(own: &BTreeSet<u32>, all: &BTreeMap<u32, Process>) -> Vec<Use> {
    let mut children: BTreeMap<u32, Vec<&Process>> = BTreeMap::new();
    for process in all.values() {
        children.entry(process.parent).or_default().push(process);
    }
    let of = |pid: u32| children.get(&pid).map_or(&[][..], Vec::as_slice);
    let is_listener = |pid: &u32| all.get(pid).is_some_and(|process| process.title.contains("[listener]"));
    let listeners = own.iter().filter(|pid| is_listener(pid));
    let heads = listeners.flat_map(|pid| of(*pid)).filter(|process| title(&process.title) != Title::Other);
    heads
        .map(|head| {
            // The monitor's child speaks with the client, as its user; root's own session is the monitor itself.
            let monitors = matches!(title(&head.title), Title::Monitor { .. });
            let inner = of(head.pid).iter().find(|child| monitors && title(&child.title) != Title::Other);
            told(inner.unwrap_or(head), head, &children)
        })
        .collect()
}

fn told(one: &Process, head: &Process, children: &BTreeMap<u32, Vec<&Process>>) -> Use {
    let runs = children.get(&one.pid).and_then(|children| children.first());
    let mut told = Use { pid: Some(one.pid), age: head.age(), ..Use::new(one.key(), UseKind::Login) };
    match title(&one.title) {
        Title::Session { user, terminal } => {
            let running = runs.map(|shell| foreground(shell, children));
            let idle = terminal.is_some() && running.as_ref().is_none_or(|(shell, _)| *shell);
            let name = running.map_or_else(|| "nothing runs".to_owned(), |(_, name)| name);
            told.user = Some(user.to_owned());
            told.what = Some(format!("{}: {name}", terminal.unwrap_or("no terminal")));
            told.busy = if idle { Busy::Idle } else { Busy::Inside };
        }
        Title::NotLoggedIn { user } => {
            told.user = user.map(str::to_owned);
            told.what = Some("logging in".to_owned());
            told.busy = Busy::NotLoggedIn;
        }
        Title::Monitor { user } => {
            told.user = Some(user.to_owned());
            told.what = Some("logging in".to_owned());
        }
        Title::Other => {}
    }
    told
}

/// Whether a login shell (its title begins with `-`) waits for somebody to type, and what is in the foreground.
fn foreground(shell: &Process, children: &BTreeMap<u32, Vec<&Process>>) -> (bool, String) {
    let front = shell.foreground.filter(|group| *group != shell.pid);
    let leader = front.and_then(|group| {
        let mut below: Vec<&Process> = children.get(&shell.pid).cloned().unwrap_or_default();
        while let Some(process) = below.pop() {
            if process.pid == group {
                return Some(process);
            }
            below.extend(children.get(&process.pid).into_iter().flatten());
        }
        None
    });
    let shown = leader.unwrap_or(shell);
    // A transfer by sshd itself is told by its title: `sshd: ana@internal-sftp`.
    let own = shown.title.strip_prefix("sshd: ").and_then(|title| title.rsplit_once('@'));
    (
        leader.is_none() && shell.title.starts_with('-'),
        own.map_or_else(|| shown.name.clone(), |(_, name)| name.to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        let session = |user, terminal| Title::Session { user, terminal };
        for (text, means) in [
            ("sshd: ana@pts/0", session("ana", Some("pts/0"))),
            ("sshd: ana@notty", session("ana", None)),
            ("sshd-session: ana@pts/3,pts/4", session("ana", Some("pts/3,pts/4"))),
            ("sshd: ana [priv]", Title::Monitor { user: "ana" }),
            ("sshd: unknown [net]", Title::NotLoggedIn { user: None }),
            ("sshd: root [net]", Title::NotLoggedIn { user: Some("root") }),
            ("sshd: [accepted]", Title::NotLoggedIn { user: None }),
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", Title::Other),
            ("sshd: ana", Title::Other),
            ("-bash", Title::Other),
            ("sshd: a\u{1b}[2J@pts/1", session("a\u{1b}[2J", Some("pts/1"))),
        ] {
            assert_eq!(title(text), means, "{text}");
        }
    }

    #[test]
    fn what_runs_in_the_foreground_is_told_and_a_waiting_shell_is_idle() {
        let one = |pid, parent, title: &str, name: &str, foreground| {
            let process = Process { pid, parent, title: title.into(), name: name.into(), started: 1, foreground };
            (pid, process)
        };
        let all: BTreeMap<u32, Process> = [
            one(10, 1, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", "sshd", None),
            one(11, 10, "sshd: ana [priv]", "sshd", None),
            one(12, 11, "sshd: ana@pts/0", "sshd", None),
            one(13, 12, "-bash", "bash", Some(14)),
            one(14, 13, "apt upgrade", "apt", Some(14)),
            one(21, 10, "sshd: bob [priv]", "sshd", None),
            one(22, 21, "sshd: bob@pts/1", "sshd", None),
            one(23, 22, "-bash", "bash", Some(23)),
            one(61, 10, "sshd: root@pts/2", "sshd", None),
            one(62, 61, "sleep 90", "sleep", Some(62)),
            one(31, 10, "sshd: root@notty", "sshd", None),
            one(32, 31, "sshd: root@internal-sftp", "sshd", None),
            one(41, 10, "sshd: unknown [priv]", "sshd", None),
            one(42, 41, "sshd: unknown [net]", "sshd", None),
            one(51, 1, "sshd: other [priv]", "sshd", None),
        ]
        .into();
        let told = sessions(&[10].into(), &all);
        let line = |one: &Use| (one.pid, one.user.clone(), one.what.clone(), one.busy);
        let line_of = |pid, user: Option<&str>, what: &str, busy| {
            (Some(pid), user.map(str::to_owned), Some(what.to_owned()), busy)
        };
        assert_eq!(
            told.iter().map(line).collect::<Vec<_>>(),
            [
                line_of(12, Some("ana"), "pts/0: apt", Busy::Inside),
                line_of(22, Some("bob"), "pts/1: bash", Busy::Idle),
                line_of(31, Some("root"), "no terminal: internal-sftp", Busy::Inside),
                line_of(42, None, "logging in", Busy::NotLoggedIn),
                line_of(61, Some("root"), "pts/2: sleep", Busy::Inside),
            ]
        );
    }
}
