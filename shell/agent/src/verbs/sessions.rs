//! `ebb sessions`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ebb_kernel::{cgroup, names, process};
use ebb_link::Reply;
use ebb_model::{Origin, Service, Session, SessionState, Why};
use ebb_wire::v1::{Frame, Listed, SessionsRequest, Sort};

use super::outlook::{self, Outlook};
use super::services::Known;
use crate::daemons;
use crate::look;
use crate::observe::{self, Book};
use crate::say;
use crate::world::{World, unread};

pub(crate) async fn answer(world: &Arc<World>, request: SessionsRequest, reply: &Reply) -> Result<(), Why> {
    let around = look::around(world).await?;
    let service = around.one(&request.service)?.clone();
    let known = Known::read(world)?;
    let baseline = world.store().baseline(&service.name).map_err(|error| unread(&error))?;
    let mut book = Book::of(&around.services);
    book.except(&service.name, known.holds_of(&service.name).flat_map(|hold| hold.except.clone()));
    // Who was there when the gate was shut is at least as old as that.
    let drain = known.record_of(&service.name).and_then(|record| record.drain.as_ref());
    let began =
        drain.filter(|drain| drain.boot_id == world.boot_id).map(|drain| world.now().mono.since(drain.began_mono));
    let of = service.clone();
    // A hundred thousand rows are read, sorted and told on a thread that may block.
    let read = tokio::task::spawn_blocking(move || {
        observe::sessions(&book, &of.name, baseline.as_ref()).map(|sessions| (sessions, baseline))
    });
    let (mut sessions, baseline) = read.await.map_err(|error| broken(&error))??;
    if let Some(Err(why)) = daemons::join(world, &service, &mut sessions).await {
        let help = why.help().map_or_else(String::new, |help| format!("; {help}"));
        let text = format!("the kernel's view alone: {why}{help}");
        reply.send(say::note(Some(service.name.as_str()), true, text)).await;
    }
    let outlook = Outlook::of_record(world, &service.name, known.record_of(&service.name));
    let reply = reply.clone();
    let told = tokio::task::spawn_blocking(move || -> Result<(), Why> {
        if let (Some(baseline), Some(since)) = (&baseline, began) {
            for session in sessions.iter_mut().filter(|session| baseline.contains(&session.id)) {
                session.age = session.age.not_younger_than(since);
            }
        }
        let orphans = sessions.iter().filter(|session| session.state == SessionState::Orphan).count() as u64;
        sessions.retain(|session| session.state != SessionState::Orphan);
        let total = sessions.len() as u64;
        let advice = outlook::advice(&service.name, &sessions);
        let mut outlook = outlook.as_ref().map(Outlook::ready);
        sort(&mut sessions, request.sort);
        sessions.truncate(request.limit.unwrap_or(usize::MAX));
        if request.processes {
            observe::add_processes(&mut sessions, &pids(&service));
        }
        let shown = sessions.len() as u64;
        let mut names = Names::default();
        for session in &sessions {
            let mut told = say::session(session);
            told.at_deadline = outlook.as_mut().map(|outlook| outlook.of(session));
            told.peer_name = request.names.then(|| names.of(session.peer.ip())).flatten();
            if !reply.send_blocking(Frame::Session(told)) {
                return Ok(());
            }
        }
        let listed = Listed { service: service.name.to_string(), total, shown, orphans, advice };
        let _ = reply.send_blocking(Frame::Listed(listed));
        Ok(())
    });
    told.await.map_err(|error| broken(&error))?
}

fn broken(error: &tokio::task::JoinError) -> Why {
    Why::Unread { what: "the sessions".into(), cause: error.to_string() }
}

/// The resolver is asked for so many names at most: an answer may take seconds, and a list of a hundred thousand
/// clients is not read by name.
const NAMES: usize = 256;

/// Names of clients, each asked for once.
#[derive(Default)]
struct Names {
    known: BTreeMap<IpAddr, Option<String>>,
}

impl Names {
    fn of(&mut self, ip: IpAddr) -> Option<String> {
        if self.known.len() >= NAMES && !self.known.contains_key(&ip) {
            return None;
        }
        self.known.entry(ip).or_insert_with(|| names::name_of(ip)).clone()
    }
}

pub(crate) fn sort(sessions: &mut [Session], by: Sort) {
    // Those that are equal stay in one order from one look to the next.
    sessions.sort_by_key(|session| session.id);
    match by {
        Sort::Age => sessions.sort_by_key(|session| std::cmp::Reverse(session.age.at_least())),
        Sort::Idle => sessions.sort_by_key(|session| std::cmp::Reverse(session.idle)),
        Sort::Bytes => sessions.sort_by_key(|session| std::cmp::Reverse(session.bytes_in + session.bytes_out)),
        Sort::Peer => sessions.sort_by_key(|session| session.peer),
    }
}

/// The processes of a service, as far as they can be told: those that may hold its sockets.
pub(crate) fn pids(service: &Service) -> Vec<process::Pid> {
    match &service.origin {
        Origin::Units { .. } => {
            let (Ok(tree), Ok(map)) = (cgroup::Tree::find(), cgroup::Map::read()) else { return Vec::new() };
            let paths = service.cgroups.iter().filter_map(|id| map.path_of(*id));
            paths.flat_map(|path| tree.pids_of(path, cgroup::Depth::All).unwrap_or_default()).collect()
        }
        Origin::Trees(trees) => {
            let roots = trees.iter().map(|tree| (tree.root, tree.started_ticks));
            look::family(roots).into_keys().filter_map(process::Pid::new).collect()
        }
    }
}
