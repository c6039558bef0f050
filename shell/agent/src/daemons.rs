//! The daemons of this server's services, each asked within its time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ebb_daemons::{Adapter, Refusal, Seen};
use ebb_decide::uses;
use ebb_kernel::process;
use ebb_link::Reply;
use ebb_model::{
    Abilities, DaemonKind, DaemonSettings, Ended, Origin, Proto, Queue, Service, ServiceName, Session, Up, Uses, Why,
};

use crate::verbs::sessions::pids;
use crate::world::{World, chain};
use crate::{look, observe, say};

/// Processes of a service that are asked for their executable.
const ELDEST: usize = 8;
/// What clients are told when they are sent away, where the protocol can say something.
pub(crate) const GOODBYE: &str = "maintenance";

/// The daemon of one service.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    adapter: Arc<dyn Adapter>,
    settings: DaemonSettings,
}

/// The daemon of a service, if it is one that can be spoken to.
pub(crate) fn of(world: &World, service: &Service) -> Option<Daemon> {
    let config = world.config();
    let names = std::iter::once(service.name.as_str()).chain(service.aliases.iter().map(String::as_str));
    let settings = names.into_iter().find_map(|name| config.settings.daemons.get(name)).cloned().unwrap_or_default();
    let pids = pids(service);
    let seen = Seen {
        service: service.name.to_string(),
        executables: executables(service, &pids),
        units: look::units_of(service),
        unix: service.unix_doors.iter().map(|door| door.path.clone()).collect(),
        doors: service.doors.clone(),
        pids: pids.iter().map(|pid| pid.get()).collect(),
    };
    let adapter = ebb_daemons::recognise(&seen, &settings)?;
    Some(Daemon { adapter: adapter.into(), settings })
}

fn executables(service: &Service, pids: &[process::Pid]) -> BTreeSet<String> {
    match &service.origin {
        Origin::Trees(trees) => trees.iter().map(|tree| tree.executable.clone()).collect(),
        Origin::Units { .. } => {
            let eldest = pids.iter().take(ELDEST);
            let read = |pid: &process::Pid| process::read(*pid).ok().flatten();
            eldest.filter_map(read).map(|process| look::executable(&process)).collect()
        }
    }
}

impl Daemon {
    pub(crate) fn kind(&self) -> DaemonKind {
        self.adapter.kind()
    }

    async fn asked<T>(&self, answer: ebb_daemons::Answer<'_, T>) -> Result<T, Why> {
        let answer = ebb_daemons::within(self.settings.timeout.into(), self.kind(), answer).await;
        answer.map_err(|error| Why::Unread { what: format!("what {} says", self.kind()), cause: chain(&error) })
    }

    /// What it can do now.
    pub(crate) async fn abilities(&self) -> Abilities {
        let asked = self.asked(self.adapter.abilities()).await;
        asked.unwrap_or_else(|why| Abilities::missing(&why.to_string(), "`ebb status` shows whether it runs"))
    }

    /// All that it tells, with those marked whom the operator calls no users.
    pub(crate) async fn uses(&self) -> Result<Uses, Why> {
        let mut uses = self.asked(self.adapter.uses(ebb_daemons::MOST_USES)).await?;
        ebb_daemons::recognise::mark(&mut uses.uses, &self.settings);
        Ok(uses)
    }

    /// Has it say goodbye to these uses. One answer for each, in their order.
    pub(crate) async fn end(&self, keys: &[String], inside: bool) -> Result<Vec<Ended>, Why> {
        self.asked(self.adapter.end(keys, GOODBYE, inside)).await
    }

    /// What becomes of the messages in its queue; true if anything was changed by that.
    pub(crate) async fn queue(&self, queue: &Queue) -> Result<bool, Why> {
        self.asked(self.adapter.queue(queue)).await
    }

    /// Has it refuse new work itself, or not any more; nothing to do if it is so already.
    pub(crate) async fn refuse(&self, refuses: bool) -> Result<(), Why> {
        if self.asked(self.adapter.refuses()).await? == refuses {
            return Ok(());
        }
        let refusal = Refusal { text: GOODBYE.to_owned(), redirect: self.settings.redirect.clone() };
        self.asked(if refuses { self.adapter.refuse(&refusal) } else { self.adapter.admit() }).await
    }
}

/// Daemons that refuse new work themselves, because we asked them to.
pub(crate) type Refusing = Mutex<BTreeMap<ServiceName, Daemon>>;

fn refusing(world: &World) -> MutexGuard<'_, BTreeMap<ServiceName, Daemon>> {
    // A panic in a holder leaves a map that is whole.
    world.refusing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it refuses new work because we asked it to.
pub(crate) fn refuses(world: &World, service: &ServiceName) -> bool {
    refusing(world).contains_key(service)
}

/// Those that may be able to; their abilities say whether they can.
const fn may_refuse(kind: DaemonKind) -> bool {
    matches!(kind, DaemonKind::Kamailio | DaemonKind::Exec)
}

/// Those that have a queue of messages.
pub(crate) const fn has_queue(kind: DaemonKind) -> bool {
    matches!(kind, DaemonKind::Postfix)
}

/// Leaves the UDP doors of services whose daemon refuses new work itself to that daemon: the kernel cannot tell a new call
/// from one that exists. Where that is so, it stays so while the service is held.
pub(crate) async fn leave_doors(world: &World, services: &mut [Service]) {
    for service in services.iter_mut().filter(|service| service.doors.iter().any(|door| door.proto == Proto::Udp)) {
        let known = refusing(world).contains_key(&service.name);
        let own = known
            || match of(world, service).filter(|daemon| may_refuse(daemon.kind())) {
                Some(daemon) => daemon.abilities().await.refuse.is_ready(),
                None => false,
            };
        if own {
            let doors = std::mem::take(&mut service.doors);
            (service.own_doors, service.doors) = doors.into_iter().partition(|door| door.proto == Proto::Udp);
        }
    }
}

/// Has the daemons of held services refuse new work, and those that we asked to do so take it again; with `all` every
/// other one too, whoever asked it. What could not be done is told.
pub(crate) async fn converge(world: &World, services: &[Service], all: bool) -> Vec<(ServiceName, Why)> {
    let Ok(holds) = world.store().holds() else { return Vec::new() };
    let mut failed = Vec::new();
    for service in services {
        let held = holds.iter().any(|hold| hold.service == service.name);
        let known = refusing(world).get(&service.name).cloned();
        if !all && !held && known.is_none() {
            continue;
        }
        let Some(daemon) = known.or_else(|| of(world, service)) else { continue };
        if has_queue(daemon.kind())
            && !held
            && service.up != Up::Stopped
            && let Err(why) = daemon.queue(&Queue::Leave).await
        {
            failed.push((service.name.clone(), why));
        }
        if !may_refuse(daemon.kind()) {
            continue;
        }
        if service.up == Up::Stopped || !daemon.abilities().await.refuse.is_ready() {
            continue;
        }
        match daemon.refuse(held).await {
            Ok(()) if held => drop(refusing(world).insert(service.name.clone(), daemon)),
            Ok(()) => drop(refusing(world).remove(&service.name)),
            Err(why) => failed.push((service.name.clone(), why)),
        }
    }
    failed
}

/// The same for all services of this server, after a request that may have placed or released a hold.
pub(crate) async fn converge_all(world: &World, reply: &Reply) {
    let Ok(services) = look::services(world).await else { return };
    for (service, why) in converge(world, &services, true).await {
        let text = format!("{service} itself could not be told whether to take new work: {why}");
        reply.send(say::note(Some(service.as_str()), true, text)).await;
    }
}

/// Processes are looked up where the daemon names its sessions by them.
fn by_process(uses: &Uses) -> bool {
    uses.uses.iter().any(|one| one.peer.is_none() && one.pid.is_some())
}

/// Adds what a daemon tells to what the kernel does.
///
/// # Errors
/// [`Why`]: the daemon's view could not be read; the kernel's is as it was.
pub(crate) async fn add(daemon: &Daemon, service: &Service, sessions: &mut Vec<Session>) -> Result<(), Why> {
    let uses = daemon.uses().await?;
    if by_process(&uses) {
        // Whose client's end it names needs no process to be known by.
        let named: BTreeSet<_> = uses.uses.iter().filter_map(|one| Some(uses::plain(one.peer?))).collect();
        let clear = |session: &Session| session.process.is_some() || named.contains(&uses::plain(session.peer));
        let (clear, mut rest): (Vec<_>, Vec<_>) = std::mem::take(sessions).into_iter().partition(clear);
        if !rest.is_empty() {
            let service = service.clone();
            let looked = tokio::task::spawn_blocking(move || {
                observe::add_processes(&mut rest, &pids(&service));
                rest
            });
            let unread =
                |error: tokio::task::JoinError| Why::Unread { what: "the processes".into(), cause: error.to_string() };
            rest = looked.await.map_err(unread)?;
        }
        sessions.extend(clear.into_iter().chain(rest));
    }
    uses::join(sessions, uses);
    Ok(())
}

/// Both views of a service's sessions in one list; with a word where the daemon's own could not be read.
pub(crate) async fn join(world: &World, service: &Service, sessions: &mut Vec<Session>) -> Option<Result<(), Why>> {
    let daemon = of(world, service)?;
    let abilities = daemon.abilities().await;
    match abilities.list {
        ebb_model::Ability::Ready => {}
        ebb_model::Ability::Never(_) => return None,
        ebb_model::Ability::Missing { what, help } => return Some(Err(Why::Unsupported { what, help })),
    }
    Some(add(&daemon, service, sessions).await)
}
