//! nginx tells nothing of its connections, and has no goodbye. One thing its processes show: a worker that shuts down, after
//! a reload, has closed all that were idle between two requests. What it still has is a request, a WebSocket or a stream, or
//! a client that has asked nothing so far.

use std::collections::BTreeSet;

use ebb_model::{Abilities, Ability, DaemonKind, Proto, Use, UseKind, Uses};

use crate::proc::{self, Process};
use crate::{Adapter, Answer, Error, Seen, call};

const NGINX: DaemonKind = DaemonKind::Nginx;

/// One nginx.
#[derive(Clone, Debug)]
pub(crate) struct Nginx {
    /// Its own processes: the master, and perhaps its workers.
    pids: BTreeSet<u32>,
    /// Ports of its doors.
    ports: BTreeSet<u16>,
}

impl Nginx {
    pub(crate) fn new(seen: &Seen) -> Self {
        let ports = seen.doors.iter().filter(|door| door.proto == Proto::Tcp).map(|door| door.port).collect();
        Self { pids: seen.pids.clone(), ports }
    }

    async fn connections(&self) -> Result<Uses, Error> {
        let own = self.clone();
        call::aside(NGINX, move || own.look()).await?
    }

    /// Connections of workers that shut down; the number of all others. Blocks.
    fn look(&self) -> Result<Uses, Error> {
        let not_read =
            |cause: &str| Error::NotReached { daemon: NGINX, at: "/proc".to_owned(), cause: cause.to_owned() };
        let all = proc::all(|one, _| one.name == "nginx").map_err(|error| not_read(&error.to_string()))?;
        let workers: Vec<&Process> = all.values().filter(|one| self.is_worker(one)).collect();
        if workers.is_empty() {
            return Err(not_read("no worker is shown"));
        }
        if workers.iter().any(|one| !proc::may_see_files(one.pid)) {
            return Err(not_read("its workers' sockets are not shown"));
        }
        let found = proc::connections(workers.iter().map(|one| one.pid), &self.ports);
        let found: Vec<_> = found.iter().flat_map(|(pid, peers)| peers.iter().map(|peer| (*pid, *peer))).collect();
        let leaves = |pid: u32| all.get(&pid).filter(|one| one.title.ends_with(LEAVES));
        let uses: Vec<Use> = found
            .iter()
            .filter_map(|(pid, peer)| {
                let worker = leaves(*pid)?;
                Some(Use {
                    what: Some("in a worker that shuts down: not kept for another request".to_owned()),
                    peer: Some(*peer),
                    ..Use::new(format!("{}:{peer}", worker.key()), UseKind::Http)
                })
            })
            .collect();
        Ok(Uses { more: (found.len() - uses.len()) as u64, uses, transport: false })
    }

    /// A worker of a master of this service.
    fn is_worker(&self, one: &Process) -> bool {
        let ours = self.pids.contains(&one.parent) || self.pids.contains(&one.pid);
        ours && one.title.starts_with(WORKER)
    }
}

/// The titles that nginx gives its processes (`ngx_setproctitle`).
const WORKER: &str = "nginx: worker process";
const LEAVES: &str = "is shutting down";

impl Adapter for Nginx {
    fn kind(&self) -> DaemonKind {
        NGINX
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            let list = match self.connections().await {
                Ok(_) => Ability::Ready,
                Err(error) => {
                    let help = "run the agent as root, with CAP_SYS_PTRACE".to_owned();
                    Ability::Missing { what: error.to_string(), help }
                }
            };
            Ok(Abilities {
                version: None,
                list,
                refuse: Ability::Never("the gate does it, and opens again; `nginx -s quit` cannot be taken back"),
                end: Ability::Never("it has no goodbye; the kernel ends its connections"),
                redirect: Ability::Never("a connection that exists cannot be moved"),
            })
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let mut told = self.connections().await?;
            told.more += told.uses.len().saturating_sub(most) as u64;
            told.uses.truncate(most);
            Ok(told)
        })
    }
}
