//! Which daemon a service is, and how it is spoken to: by its executables and sockets, or by `[daemon.NAME]`.

use std::collections::BTreeSet;

use ebb_model::{DaemonKind, DaemonSettings, Door, Use};

use crate::{Adapter, dovecot, exec, haproxy, kamailio, nginx, openssh, pgbouncer, postfix, postgresql, prosody};

/// What is known of a service.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The service's name.
    pub service: String,
    /// Names of its processes' executables, as the files are called.
    pub executables: BTreeSet<String>,
    /// Its units, `postgresql@15-main.service`; empty where it has none.
    pub units: Vec<String>,
    /// Paths of the unix sockets on which it listens.
    pub unix: Vec<String>,
    /// Its doors.
    pub doors: BTreeSet<Door>,
    /// Its processes, or the topmost of them.
    pub pids: BTreeSet<u32>,
}

/// Its adapter; none if it is no daemon that we know, or is not to be spoken to.
#[must_use]
pub fn recognise(seen: &Seen, settings: &DaemonSettings) -> Option<Box<dyn Adapter>> {
    if settings.off {
        return None;
    }
    match settings.kind.or_else(|| kind_of(seen)).or_else(|| kind_by_unit(seen))? {
        DaemonKind::Postgresql => Some(Box::new(postgresql::Postgresql::new(seen, settings)?)),
        DaemonKind::Pgbouncer => Some(Box::new(pgbouncer::Pgbouncer::new(seen, settings)?)),
        DaemonKind::Openssh => Some(Box::new(openssh::Openssh::new(seen))),
        DaemonKind::Exec => Some(Box::new(exec::Exec::new(settings))),
        DaemonKind::Haproxy => Some(Box::new(haproxy::Haproxy::new(seen, settings))),
        DaemonKind::Kamailio => Some(Box::new(kamailio::Kamailio::new(seen, settings))),
        DaemonKind::Dovecot => Some(Box::new(dovecot::Dovecot::new(seen, settings)?)),
        DaemonKind::Postfix => Some(Box::new(postfix::Postfix::new(seen, settings))),
        DaemonKind::Prosody => Some(Box::new(prosody::Prosody::new(seen, settings))),
        DaemonKind::Nginx => Some(Box::new(nginx::Nginx::new(seen))),
        DaemonKind::Ejabberd => None,
    }
}

/// Executables that say enough. Prosody is a Lua script, and ejabberd runs in Erlang's `beam.smp`: their units tell.
const EXECUTABLES: [(&str, DaemonKind); 8] = [
    ("kamailio", DaemonKind::Kamailio),
    ("dovecot", DaemonKind::Dovecot),
    ("imap-login", DaemonKind::Dovecot),
    ("postgres", DaemonKind::Postgresql),
    ("pgbouncer", DaemonKind::Pgbouncer),
    ("haproxy", DaemonKind::Haproxy),
    ("nginx", DaemonKind::Nginx),
    ("sshd", DaemonKind::Openssh),
];

fn kind_of(seen: &Seen) -> Option<DaemonKind> {
    let known = EXECUTABLES.iter().find(|(name, _)| seen.executables.contains(*name)).map(|(_, kind)| *kind);
    known.or_else(|| postfix::is_postfix(seen).then_some(DaemonKind::Postfix))
}

/// Prosody by its unit, or by the name of its socket.
fn kind_by_unit(seen: &Seen) -> Option<DaemonKind> {
    let unit = seen.units.iter().any(|unit| unit == "prosody.service");
    let socket = seen.unix.iter().any(|path| prosody::is_socket(path));
    (unit || socket).then_some(DaemonKind::Prosody)
}

/// Marks the uses of those whom the operator calls no users.
pub fn mark(uses: &mut [Use], settings: &DaemonSettings) {
    for one in uses.iter_mut().filter(|one| one.role == ebb_model::Role::User) {
        if one.user.as_ref().is_some_and(|user| settings.not_users.contains(user)) {
            one.role = ebb_model::Role::Monitoring;
        }
    }
}
