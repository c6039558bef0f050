//! Dovecot: who is logged in over IMAP, POP3 or ManageSieve, joined to the client's connection also where a login process
//! holds it (TLS), and whether anything is under way. A session ends when its process is told to; the client reads
//! `* BYE Server shutting down.`

mod anvil;
mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use ebb_model::{Abilities, Ability, DaemonKind, DaemonSettings, Ended, Proto, Use, Uses};

use crate::{Adapter, Answer, Error, Seen, call, proc};
use anvil::Told;
use places::Placed;

const DOVECOT: DaemonKind = DaemonKind::Dovecot;
/// Where it is if `base_dir` is Debian's.
const ANVIL: &str = "/run/dovecot/anvil";

/// One Dovecot.
#[derive(Clone, Debug)]
pub(crate) struct Dovecot {
    anvil: String,
    /// Ports of its doors: by them its clients' connections are known.
    ports: BTreeSet<u16>,
    /// Sessions that end together with others, and were to end already: many are asked for in several parts.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Dovecot {
    /// None for one in another network namespace, as in a container: the socket at Debian's path is another's.
    pub(crate) fn new(seen: &Seen, settings: &DaemonSettings) -> Option<Self> {
        let mut alive = seen.pids.iter().copied().filter(|pid| proc::read(*pid).is_some());
        if alive.next().is_some_and(|pid| !proc::is_here(pid)) {
            return None;
        }
        let own = seen.unix.iter().find(|path| path.ends_with("/anvil"));
        let ports = seen.doors.iter().filter(|door| door.proto == Proto::Tcp).map(|door| door.port).collect();
        let anvil = settings.socket.as_ref().or(own).map_or_else(|| ANVIL.to_owned(), Clone::clone);
        Some(Self { anvil, ports, asked: Arc::default() })
    }

    /// All sessions now, and those who have not logged in.
    async fn look(&self) -> Result<Vec<Placed>, Error> {
        let Told { rows, listens } = anvil::ask(&self.anvil).await?;
        let own = self.clone();
        call::aside(DOVECOT, move || places::look(rows, listens, &own.anvil, &own.ports)).await?
    }

    async fn ended(&self, keys: &[String], inside: bool) -> Result<Vec<Ended>, Error> {
        let now = self.look().await?;
        let (keys, asked) = (keys.to_vec(), self.asked.clone());
        call::aside(DOVECOT, move || {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            ended(&now, &keys, inside, &mut asked)
        })
        .await
    }
}

/// What becomes of each. Those who cannot be told apart, or whose process serves others too, end together: when all of
/// them have been asked for.
fn ended(now: &[Placed], keys: &[String], inside: bool, asked: &mut BTreeSet<String>) -> Vec<Ended> {
    let by_key: BTreeMap<&str, &Placed> = now.iter().map(|one| (one.told.key.as_str(), one)).collect();
    asked.retain(|key| by_key.contains_key(key.as_str()));
    let shared = |key: &&String| by_key.get(key.as_str()).is_some_and(|one| one.group.is_some());
    asked.extend(keys.iter().filter(shared).cloned());
    let mut groups: BTreeMap<u32, Vec<&Placed>> = BTreeMap::new();
    for one in now {
        groups.entry(one.group.unwrap_or_default()).or_default().push(one);
    }
    let whole = |group: u32| groups.get(&group).is_some_and(|all| all.iter().all(|one| asked.contains(&one.told.key)));
    let mut told: BTreeMap<String, Ended> = BTreeMap::new();
    let mut end = |one: &Placed| {
        if let Some(why) = one.spared.as_ref().filter(|_| !inside || one.process.is_none()) {
            return Ended::Spared(why.clone());
        }
        let Some(process) = &one.process else { return Ended::Spared("its process is not seen".to_owned()) };
        told.entry(process.clone()).or_insert_with(|| proc::end(DOVECOT, process)).clone()
    };
    let mut ended = Vec::with_capacity(keys.len());
    let mut touched = BTreeSet::new();
    for key in keys {
        ended.push(match by_key.get(key.as_str()) {
            None => Ended::Gone,
            Some(one) => match one.group.filter(|group| !whole(*group)) {
                Some(_) => Ended::Spared("it is not told apart from others, or ends with them: ask for all".to_owned()),
                None => {
                    touched.extend(one.group);
                    end(one)
                }
            },
        });
    }
    // Those who were asked for before the last of their group was.
    for one in touched.iter().filter_map(|group| groups.get(group)).flatten() {
        end(one);
    }
    ended
}

impl Adapter for Dovecot {
    fn kind(&self) -> DaemonKind {
        DOVECOT
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            let list = match anvil::ask(&self.anvil).await {
                Err(error @ (Error::NotReached { .. } | Error::NotPermitted { .. })) => Ability::Missing {
                    what: error.to_string(),
                    help: "`socket` in [daemon.NAME]: the socket `anvil` in Dovecot's base_dir; run the agent as root"
                        .to_owned(),
                },
                Err(error) => Ability::Missing { what: error.to_string(), help: "docs/daemons/dovecot.md".to_owned() },
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
                refuse: Ability::Never("the gate does it; Dovecot forgets its own at a reload"),
                redirect: Ability::Never("who is logged in cannot be sent elsewhere; only a login can"),
            })
        })
    }

    fn uses(&self, most: usize) -> Answer<'_, Uses> {
        Box::pin(async move {
            let mut uses: Vec<Use> = self.look().await?.into_iter().map(|one| one.told).collect();
            let more = uses.len().saturating_sub(most) as u64;
            uses.truncate(most);
            Ok(Uses { uses, more, transport: false })
        })
    }

    fn end<'a>(&'a self, keys: &'a [String], _text: &'a str, inside: bool) -> Answer<'a, Vec<Ended>> {
        Box::pin(self.ended(keys, inside))
    }
}

#[cfg(test)]
mod tests;
