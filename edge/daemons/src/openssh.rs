//! OpenSSH's server: it tells nothing, but its processes have titles: who is logged in, at which terminal, and what runs
//! there. A session ends when its process is told to; the client reads that the other side has closed the connection.

mod title;

use std::collections::{BTreeMap, BTreeSet};

use ebb_model::{Abilities, Ability, Busy, DaemonKind, Ended, Proto, Span, Use, UseKind, Uses};

use crate::proc::{self, Process};
use crate::{Adapter, Answer, Error, Seen, call};
use title::{Title, title};

const OPENSSH: DaemonKind = DaemonKind::Openssh;
/// So many programs of one session are named.
const MOST_NAMES: usize = 4;

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Openssh {
    /// Its own processes; sessions are children of those that listen.
    pids: BTreeSet<u32>,
    /// Ports of its doors: by them a session is known whose listener was restarted.
    ports: BTreeSet<u16>,
}

impl Openssh {
    pub(crate) fn new(seen: &Seen) -> Self {
        let ports = seen.doors.iter().filter(|door| door.proto == Proto::Tcp).map(|door| door.port).collect();
        Self { pids: seen.pids.clone(), ports }
    }

    async fn sessions(&self) -> Result<Vec<Use>, Error> {
        let own = self.clone();
        call::aside(OPENSSH, move || own.look()).await?
    }

    /// All sessions now. Blocks.
    fn look(&self) -> Result<Vec<Use>, Error> {
        let not_read = |cause: String| Error::NotReached { daemon: OPENSSH, at: "/proc".to_owned(), cause };
        let all = proc::all(|one, parent| is_sshd(one) || parent.is_some_and(is_sshd));
        let all = all.map_err(|error| not_read(error.to_string()))?;
        // It is always there: where it is not shown (hidepid=), others are not.
        if !all.contains_key(&1) {
            return Err(not_read("processes of others are not shown".to_owned()));
        }
        let up = proc::up().ok_or_else(|| not_read("uptime is not shown".to_owned()))?;
        let found = sessions(&self.pids, &all, up);
        let here = found.into_iter().filter(|one| proc::is_here(one.head));
        let found: Vec<Found> = here.filter(|one| !one.orphan || proc::is_roots(one.head)).collect();
        let peers = proc::peers(found.iter().flat_map(|one| [one.head, one.process]), &self.ports);
        let place = |mut one: Found| {
            one.told.peer = [one.process, one.head].iter().find_map(|pid| peers.get(pid)).copied();
            (!one.orphan || one.told.peer.is_some()).then_some(one.told)
        };
        Ok(found.into_iter().filter_map(place).collect())
    }

    fn ended(&self, keys: &[String], inside: bool) -> Result<Vec<Ended>, Error> {
        let now = self.look()?;
        let now: BTreeMap<&str, &Use> = now.iter().map(|one| (one.key.as_str(), one)).collect();
        let end = |key: &String| match now.get(key.as_str()) {
            None => Ended::Gone,
            Some(one) if matches!(one.busy, Busy::Inside | Busy::Unknown) && !inside => {
                Ended::Spared(one.what.clone().unwrap_or_else(|| "something runs there".to_owned()))
            }
            Some(_) => proc::end(OPENSSH, key),
        };
        Ok(keys.iter().map(end).collect())
    }
}

impl Adapter for Openssh {
    fn kind(&self) -> DaemonKind {
        OPENSSH
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            let list = match self.sessions().await {
                Err(error) => Ability::Missing { what: error.to_string(), help: "run the agent as root".to_owned() },
                Ok(_) if !proc::may_see_files(1) => Ability::Missing {
                    what: "its processes' sockets are not shown".to_owned(),
                    help: "run the agent as root, with CAP_SYS_PTRACE".to_owned(),
                },
                Ok(_) => Ability::Ready,
            };
            Ok(Abilities {
                version: None,
                end: list.clone(),
                list,
                refuse: Ability::Never("the gate does it, and lets in whom --except names"),
                redirect: Ability::Never("its protocol has no such word"),
            })
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let mut uses = self.sessions().await?;
            let more = uses.len().saturating_sub(most) as u64;
            uses.truncate(most);
            Ok(Uses { uses, more, transport: false })
        })
    }

    fn end<'a>(&'a self, keys: &'a [String], _text: &'a str, inside: bool) -> Answer<'a, Vec<Ended>> {
        Box::pin(async move {
            let (own, keys) = (self.clone(), keys.to_vec());
            call::aside(OPENSSH, move || own.ended(&keys, inside)).await?
        })
    }
}

/// `sshd`, `sshd-session`, `sshd-auth`: by a name that anybody can take, so that nothing is believed for it alone.
fn is_sshd(process: &Process) -> bool {
    process.name.starts_with("sshd")
}

/// One session, as its processes tell it.
#[derive(Debug)]
struct Found {
    told: Use,
    /// The process that a listener started for it: root's, and the monitor of the other if there is one.
    head: u32,
    /// The process that speaks with the client.
    process: u32,
    /// Its listener is not known, since it was restarted: only its connection says whether it is this server's.
    orphan: bool,
}

/// The processes that each process has started.
type Children<'a> = BTreeMap<u32, Vec<&'a Process>>;

/// Sessions of the listeners among `own`, and those of listeners that are not known or are gone.
fn sessions(own: &BTreeSet<u32>, all: &BTreeMap<u32, Process>, up: Span) -> Vec<Found> {
    let mut children = Children::new();
    for process in all.values() {
        children.entry(process.parent).or_default().push(process);
    }
    let listens = |process: &Process| is_sshd(process) && title(&process.title) == Title::Listener;
    let head = |one: &&Process| is_sshd(one) && !listens(one);
    let heads = all.values().filter(head).filter_map(|one| match all.get(&one.parent) {
        Some(parent) if listens(parent) => Some((one, !own.contains(&parent.pid))),
        Some(parent) if is_sshd(parent) => None,
        _ => Some((one, true)).filter(|_| title(&one.title) != Title::Other),
    });
    heads.map(|(head, orphan)| found(head, orphan, &children, up)).collect()
}

fn found(head: &Process, orphan: bool, children: &Children<'_>, up: Span) -> Found {
    // The monitor's child speaks with the client, as its user; root's own session is the monitor itself.
    let monitors = !matches!(title(&head.title), Title::Session { .. });
    let speaks = |one: &&&Process| matches!(title(&one.title), Title::Session { .. } | Title::NotLoggedIn { .. });
    let below = children.get(&head.pid).map_or(&[][..], Vec::as_slice);
    let inner = below.iter().filter(|one| monitors && is_sshd(one)).find(speaks).copied();
    let one = inner.unwrap_or(head);
    let mut told = Use { pid: Some(one.pid), age: Some(head.age(up)), ..Use::new(one.key(), UseKind::Login) };
    match title(&one.title) {
        Title::Session { user, terminals } => {
            let (name, busy) = runs(children.get(&one.pid).map_or(&[][..], Vec::as_slice), children);
            told.user = Some(user.to_owned());
            told.what = Some(format!("{}: {name}", terminals.unwrap_or("no terminal")));
            told.busy = busy;
        }
        Title::NotLoggedIn { user } | Title::Monitor { user } => {
            told.user = user.map(str::to_owned);
            told.what = Some("logging in".to_owned());
            told.busy = Busy::NotLoggedIn;
        }
        Title::Listener | Title::Other => {
            told.what = Some("connecting".to_owned());
            told.busy = Busy::NotLoggedIn;
        }
    }
    Found { told, head: head.pid, process: one.pid, orphan }
}

/// What runs in a session, and whether an end would lose something. One connection may carry several shells.
fn runs(shells: &[&Process], children: &Children<'_>) -> (String, Busy) {
    if shells.is_empty() {
        // It may carry forwarded connections; nothing tells.
        return ("no command".to_owned(), Busy::Unknown);
    }
    let all: Vec<(bool, String)> = shells.iter().map(|shell| foreground(shell, children)).collect();
    let busy = if all.iter().all(|(waits, _)| *waits) { Busy::Idle } else { Busy::Inside };
    // Those at work first.
    let (waiting, working): (Vec<_>, Vec<_>) = all.into_iter().partition(|(waits, _)| *waits);
    let mut names: Vec<String> = working.into_iter().chain(waiting).map(|(_, name)| name).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (names.join(", ") + &more, busy)
}

/// Whether a login shell (its title begins with `-`) waits for somebody to type and has nothing behind it, and what is in
/// the foreground.
fn foreground(shell: &Process, children: &Children<'_>) -> (bool, String) {
    let below = children.get(&shell.pid).map_or(&[][..], Vec::as_slice);
    let front = shell.foreground.filter(|group| *group != shell.pid);
    let leader = front.and_then(|group| {
        // Looked at one by one, while pids are given anew: they may seem to be each other's parents.
        let (mut below, mut seen) = (below.to_vec(), BTreeSet::new());
        while let Some(process) = below.pop() {
            if process.pid == group {
                return Some(process);
            }
            if seen.insert(process.pid) {
                below.extend(children.get(&process.pid).into_iter().flatten());
            }
        }
        None
    });
    let waits = shell.title.starts_with('-') && shell.foreground == Some(shell.pid) && below.is_empty();
    let shown = leader.or(below.first().copied().filter(|_| front.is_none() && !waits)).unwrap_or(shell);
    // A transfer by sshd itself is told by its title: `sshd: ana@internal-sftp`.
    let own = Some(shown).filter(|one| is_sshd(one)).and_then(|one| one.title.rsplit_once('@'));
    (waits, own.map_or_else(|| shown.name.clone(), |(_, name)| name.to_owned()))
}

#[cfg(test)]
mod tests;
