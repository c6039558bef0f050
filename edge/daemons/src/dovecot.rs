//! Dovecot: who is logged in over IMAP, POP3 or ManageSieve, joined to the client's connection also where a login process
//! holds it (TLS), and whether anything is under way. A session ends when its process is told to; the client reads
//! `* BYE Server shutting down.`

mod anvil;
mod places;

use std::collections::{BTreeMap, BTreeSet};

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
}

impl Dovecot {
    pub(crate) fn new(seen: &Seen, settings: &DaemonSettings) -> Self {
        let own = seen.unix.iter().find(|path| path.ends_with("/anvil"));
        let ports = seen.doors.iter().filter(|door| door.proto == Proto::Tcp).map(|door| door.port).collect();
        let anvil = settings.socket.as_ref().or(own).map_or_else(|| ANVIL.to_owned(), Clone::clone);
        Self { anvil, ports }
    }

    /// All sessions now, and those who have not logged in.
    async fn look(&self) -> Result<Vec<Placed>, Error> {
        let Told { rows, listens } = anvil::ask(&self.anvil).await?;
        let own = self.clone();
        call::aside(DOVECOT, move || places::look(rows, listens, &own.anvil, &own.ports)).await?
    }

    async fn ended(&self, keys: &[String], inside: bool) -> Result<Vec<Ended>, Error> {
        let now = self.look().await?;
        let keys = keys.to_vec();
        call::aside(DOVECOT, move || ended(&now, &keys, inside)).await
    }
}

/// What becomes of each. A process that serves several is told to end only if all of them shall: it has no other way.
fn ended(now: &[Placed], keys: &[String], inside: bool) -> Vec<Ended> {
    let now_by_key: BTreeMap<&str, &Placed> = now.iter().map(|one| (one.told.key.as_str(), one)).collect();
    let wished: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let shared = |one: &Placed| {
        let all: Vec<&Placed> = now.iter().filter(|other| other.group == one.group).collect();
        let all_wished = all.iter().all(|other| wished.contains(other.told.key.as_str()));
        (!all_wished).then_some(all.len())
    };
    let mut told: BTreeMap<String, Ended> = BTreeMap::new();
    let mut end = |key: &String| {
        let Some(one) = now_by_key.get(key.as_str()) else { return Ended::Gone };
        if let Some(why) = one.spared.as_ref().filter(|_| !inside) {
            return Ended::Spared(why.clone());
        }
        let Some(process) = &one.process else {
            return Ended::Spared(one.spared.clone().unwrap_or_else(|| "its process is not seen".to_owned()));
        };
        match one.group.and_then(|_| shared(one)) {
            Some(all) => Ended::Spared(format!("it is one of {all} that are not told apart, or end together")),
            None => told.entry(process.clone()).or_insert_with(|| proc::end(DOVECOT, process)).clone(),
        }
    };
    keys.iter().map(&mut end).collect()
}

impl Adapter for Dovecot {
    fn kind(&self) -> DaemonKind {
        DOVECOT
    }

    fn abilities(&self) -> Answer<'_, Abilities> {
        Box::pin(async {
            let list = match self.look().await {
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
