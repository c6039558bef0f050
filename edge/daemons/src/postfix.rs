//! Postfix: SMTP sessions by the processes that serve them, and the queue by `postqueue -j`. *Drained* needs both: nobody
//! hands a mail in, and none is on its way. What waits for a time or a person (deferred, on hold) is listed, and not waited
//! for.
//!
//! The queue is asked of Postfix's own program: what its `showq` says over the socket is no protocol for others.

mod queue;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ebb_model::{
    Abilities, Ability, Busy, DaemonKind, DaemonSettings, Ended, NextHop, Proto, Queue, Use, UseKind, Uses,
};

use crate::proc::{self, Process, pairs};
use crate::{Adapter, Answer, Error, Seen, call};

const POSTFIX: DaemonKind = DaemonKind::Postfix;
/// Where Debian's first instance has its configuration.
const CONFIG: &str = "/etc/postfix";

/// One instance of Postfix.
#[derive(Clone, Debug)]
pub(crate) struct Postfix {
    /// Its configuration: `main.cf` is in there.
    config: String,
    /// Its queue, in which its master lives; by that it is known after a restart.
    queue: Option<PathBuf>,
    /// Ports of its doors.
    ports: BTreeSet<u16>,
}

/// Whether these are the processes of a Postfix: its `master` has a name that others have too.
pub(crate) fn is_postfix(seen: &Seen) -> bool {
    seen.executables.contains("master") && masters(seen).next().is_some()
}

fn masters(seen: &Seen) -> impl Iterator<Item = u32> {
    let own = seen.pids.iter().copied();
    own.filter(|pid| proc::read(*pid).is_some_and(|process| process.name == "master") && is_master(*pid))
}

/// By its file: `/usr/lib/postfix/sbin/master`, or `/usr/libexec/postfix/master`. One in a container is none: its folders are
/// not ours.
fn is_master(pid: u32) -> bool {
    if !proc::is_here(pid) {
        return false;
    }
    let file = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    file.components().any(|part| part.as_os_str() == "postfix")
}

impl Postfix {
    pub(crate) fn new(seen: &Seen, settings: &DaemonSettings) -> Self {
        let master = masters(seen).next();
        let told = master.filter(|pid| proc::is_roots(*pid)).and_then(|pid| proc::variable(pid, "MAIL_CONFIG"));
        let ports = seen.doors.iter().filter(|door| door.proto == Proto::Tcp).map(|door| door.port).collect();
        let config = settings.database.clone().or(told).unwrap_or_else(|| CONFIG.to_owned());
        Self { config, queue: master.and_then(home), ports }
    }

    async fn sessions(&self) -> Result<Vec<Use>, Error> {
        let own = self.clone();
        call::aside(POSTFIX, move || own.look()).await?
    }

    /// Connections to its doors, each with its process. Blocks.
    fn look(&self) -> Result<Vec<Use>, Error> {
        let not_read = |cause: String| Error::NotReached { daemon: POSTFIX, at: "/proc".to_owned(), cause };
        let all = proc::all(|_, _| false).map_err(|error| not_read(error.to_string()))?;
        if !all.contains_key(&1) {
            return Err(not_read("processes of others are not shown".to_owned()));
        }
        let own = |one: &&Process| one.name == "master" && is_master(one.pid) && home(one.pid) == self.queue;
        let masters: BTreeSet<u32> = all.values().filter(own).map(|one| one.pid).collect();
        let children: Vec<&Process> = all.values().filter(|one| masters.contains(&one.parent)).collect();
        let connections = proc::connections(children.iter().map(|one| one.pid), &self.ports);
        let writes = writing(&children).map_err(|error| not_read(format!("unix sockets: {error}")))?;
        let process =
            |one: &&Process| Some((*one, connections.get(&one.pid)?)).map(|(one, peers)| (one.clone(), peers));
        let each = children.iter().filter_map(process).flat_map(|(one, peers)| {
            let writes = writes.contains(&one.pid);
            peers.iter().map(move |peer| session(&one, *peer, writes)).collect::<Vec<Use>>()
        });
        Ok(each.collect())
    }

    /// Messages of the queue. An empty answer is an empty queue; half of one is an error.
    async fn messages(&self) -> Result<Vec<Use>, Error> {
        let program = "/usr/sbin/postqueue";
        let ran = call::run(POSTFIX, program, &["-c", &self.config, "-j"], None).await?;
        if ran.code != Some(0) {
            let code = ran.code.map_or_else(|| "by a signal".to_owned(), |code| format!("with {code}"));
            return Err(Error::Refused { daemon: POSTFIX, what: format!("{program} ended {code}: {}", ran.err) });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        queue::messages(&ran.out, now)
    }
}

impl Postfix {
    async fn flush(&self) -> Result<(), Error> {
        let program = "/usr/sbin/postqueue";
        let ran = call::run(POSTFIX, program, &["-c", &self.config, "-f"], None).await?;
        match ran.code {
            Some(0) => Ok(()),
            _ => Err(Error::Refused { daemon: POSTFIX, what: format!("{program} -f: {}", ran.err) }),
        }
    }

    /// Changes `main.cf`, and has it heeded by who routes: `trivial-rewrite`, and `qmgr`, which keeps its last answer for half a
    /// minute. Their master starts new ones when they are needed; a message that is being delivered is locked meanwhile, as in
    /// each reload. A reload itself would end sessions. Blocks.
    fn route(&self, hop: Option<&NextHop>) -> Result<bool, Error> {
        let at = format!("{}/main.cf", self.config);
        let failed =
            |error: std::io::Error| Error::NotReached { daemon: POSTFIX, at: at.clone(), cause: error.to_string() };
        if !route::set(Path::new(&self.config), hop).map_err(failed)? {
            return Ok(false);
        }
        let all = proc::all(|_, _| false).map_err(failed)?;
        let own = |one: &&Process| one.name == "master" && is_master(one.pid) && home(one.pid) == self.queue;
        let masters: BTreeSet<u32> = all.values().filter(own).map(|one| one.pid).collect();
        let routes = |one: &&Process| matches!(one.name.as_str(), "trivial-rewrite" | "qmgr");
        let routers = all.values().filter(|one| masters.contains(&one.parent)).filter(routes);
        for one in routers {
            if let Ended::Failed(what) = proc::end(POSTFIX, &one.key()) {
                return Err(Error::Refused { daemon: POSTFIX, what });
            }
        }
        Ok(true)
    }
}

/// The folder in which a process lives: of a master its queue.
fn home(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Processes that have a mail half written: they are connected to a `cleanup`.
fn writing(children: &[&Process]) -> std::io::Result<BTreeSet<u32>> {
    let of = |name: &'static str| children.iter().filter(move |one| one.name == name).map(|one| one.pid);
    let cleanup: BTreeSet<u64> = of("cleanup").flat_map(proc::sockets).collect();
    if cleanup.is_empty() {
        return Ok(BTreeSet::new());
    }
    let pairs: BTreeMap<u64, u64> = pairs::all()?;
    let writes = |pid: &u32| proc::sockets(*pid).any(|own| pairs.get(&own).is_some_and(|peer| cleanup.contains(peer)));
    Ok(of("smtpd").filter(writes).collect())
}

fn session(process: &Process, peer: SocketAddr, writes: bool) -> Use {
    let (what, busy) = match process.name.as_str() {
        "smtpd" if writes => ("SMTP: a mail is handed over", Busy::Inside),
        "smtpd" => ("SMTP: between mails", Busy::Idle),
        "postscreen" => ("postscreen: before SMTP", Busy::NotLoggedIn),
        other => (other, Busy::Unknown),
    };
    Use {
        what: Some(what.to_owned()),
        peer: Some(peer),
        pid: Some(process.pid),
        busy,
        // A process serves many, one after the other: its age is not theirs.
        age: None,
        ..Use::new(format!("{}#{peer}", process.key()), UseKind::Smtp)
    }
}

impl Adapter for Postfix {
    fn kind(&self) -> DaemonKind {
        POSTFIX
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            let missing =
                |error: &Error, help: &str| Ability::Missing { what: error.to_string(), help: help.to_owned() };
            let list = match (self.sessions().await, self.messages().await) {
                (Err(error), _) => missing(&error, "run the agent as root"),
                (_, Err(error)) => missing(&error, "`database` in [daemon.NAME]: the folder of its main.cf"),
                _ if !proc::may_see_files(1) => Ability::Missing {
                    what: "its processes' sockets are not shown".to_owned(),
                    help: "run the agent as root, with CAP_SYS_PTRACE".to_owned(),
                },
                _ => Ability::Ready,
            };
            Ok(Abilities {
                version: None,
                list,
                refuse: Ability::Never(
                    "the gate does it: a sender tries the next MX at once; its own 421 needs main.cf changed",
                ),
                end: Ability::Never(
                    "it has no goodbye for one session; the kernel ends its connection, the sender tries again",
                ),
                redirect: Ability::Never("SMTP has no such word: senders go by MX"),
            })
        })
    }

    fn queue<'a>(&'a self, queue: &'a Queue) -> Answer<'a, bool> {
        Box::pin(async move {
            let hop = match queue {
                Queue::Leave if !route::is_set(Path::new(&self.config)) => return Ok(false),
                Queue::Leave | Queue::Flush => None,
                Queue::Move(hop) => Some(hop.clone()),
            };
            let own = self.clone();
            let routed = call::aside(POSTFIX, move || own.route(hop.as_ref())).await??;
            if *queue != Queue::Leave {
                self.flush().await?;
            }
            Ok(routed || *queue != Queue::Leave)
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            // A mail that is handed over meanwhile is in one of the two.
            let mut uses = self.sessions().await?;
            uses.extend(self.messages().await?);
            let more = uses.len().saturating_sub(most) as u64;
            uses.truncate(most);
            Ok(Uses { uses, more, transport: false })
        })
    }
}

#[cfg(test)]
mod tests;
