//! Two views of one service: the kernel's sockets, and what its daemon tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ebb_model::{Age, Busy, Role, SeenBy, Session, SessionId, SessionState, Span, Stay, Use, Uses};

/// A name for a use without a connection: its key hashed (FNV-1a), with the second highest bit set, which neither the
/// kernel's cookies nor the names of flows have.
#[must_use]
pub fn use_id(key: &str) -> SessionId {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    SessionId((hash | 1 << 62) & !(1 << 63))
}

/// Whether *drained* waits for this use although the kernel shows no connection of its own. One that can be resumed is
/// not waited for: its client comes back to another server, or never.
#[must_use]
pub fn waits(one: &Use) -> bool {
    one.role == Role::User && !one.by_connection && one.busy != Busy::Resumable
}

/// Clients' ends of the connections that are no users': *drained* does not wait for them.
#[must_use]
pub fn no_users(uses: &[Use]) -> BTreeSet<SocketAddr> {
    let users: BTreeSet<SocketAddr> = of(uses, |role| role == Role::User).collect();
    of(uses, |role| role != Role::User).filter(|peer| !users.contains(peer)).collect()
}

fn of(uses: &[Use], whose: impl Fn(Role) -> bool) -> impl Iterator<Item = SocketAddr> {
    uses.iter().filter(move |one| whose(one.role)).filter_map(|one| one.peer.map(plain))
}

/// An IPv4 address in IPv6's clothes is that IPv4 address.
#[must_use]
pub fn plain(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// Which connection each use is on: by address and port, else by the process that serves it alone, else by the address
/// where only one connection comes from there. None for a use that has none.
#[must_use]
pub fn places(sessions: &[Session], uses: &[Use]) -> Vec<Option<usize>> {
    let all = || sessions.iter().enumerate().filter(|(_, session)| session.state != SessionState::Orphan);
    let by_peer: BTreeMap<SocketAddr, usize> = all().map(|(index, session)| (plain(session.peer), index)).collect();
    let (mut by_pid, mut by_ip): (BTreeMap<u32, Vec<usize>>, BTreeMap<IpAddr, Vec<usize>>) = Default::default();
    for (index, session) in all() {
        by_ip.entry(plain(session.peer).ip()).or_default().push(index);
        if let Some((pid, _)) = &session.process {
            by_pid.entry(*pid).or_default().push(index);
        }
    }
    let only = |found: Option<&Vec<usize>>, ip: Option<IpAddr>| match (found.map(Vec::as_slice), ip) {
        (Some([one]), _) => Some(*one),
        (Some(several), Some(ip)) => {
            let mut from = several.iter().filter(|index| plain(sessions[**index].peer).ip() == ip.to_canonical());
            from.next().copied().filter(|_| from.next().is_none())
        }
        _ => None,
    };
    let place = |one: &Use| match one.peer {
        Some(peer) => by_peer.get(&plain(peer)).copied(),
        None => only(one.pid.and_then(|pid| by_pid.get(&pid)), one.peer_ip)
            .or_else(|| only(one.peer_ip.and_then(|ip| by_ip.get(&ip.to_canonical())), None)),
    };
    uses.iter().map(place).collect()
}

/// Joins both views. Uses that are on no connection become sessions of their own; `all` says that the daemon told of all
/// that it has, so that it does not know what it has not told.
pub fn join(sessions: &mut Vec<Session>, told: Uses) {
    let Uses { uses, more, transport } = told;
    let all = more == 0;
    let places = places(sessions, &uses);
    let mut alone = Vec::new();
    for (one, place) in uses.into_iter().zip(places) {
        match place {
            Some(place) => sessions[place].uses.push(one),
            None if one.role != Role::Own => alone.push(one),
            None => {}
        }
    }
    for session in sessions.iter_mut() {
        match (session.uses.is_empty(), session.state) {
            (true, SessionState::Orphan | SessionState::Opening | SessionState::NotAccepted) => {}
            (true, _) if transport => session.stay = Stay::Carries,
            (true, _) if all => session.seen_by = SeenBy::KernelAlone,
            (true, _) => {}
            (false, _) => refine(session),
        }
    }
    sessions.retain(|session| session.uses.is_empty() || session.uses.iter().any(|one| one.role != Role::Own));
    sessions.extend(alone.into_iter().map(without_connection));
}

/// What its uses add to what the kernel tells of a connection.
fn refine(session: &mut Session) {
    session.seen_by = SeenBy::Both;
    let known = session.uses.iter().filter_map(|one| one.age).max();
    // A login is younger than its connection.
    if let Some(age) = known {
        session.age = session.age.not_younger_than(age);
    }
    if matches!(session.stay, Stay::Active | Stay::Idle | Stay::Unanswered)
        && let [one] = session.uses.as_slice()
        && let Some(stay) = stay(one, session.stay.clone())
    {
        session.stay = stay;
    }
}

/// Why this use is still here; none if the daemon does not know better than the kernel.
fn stay(one: &Use, kernel: Stay) -> Option<Stay> {
    if one.role != Role::User {
        return Some(Stay::NoUser(one.role));
    }
    match one.busy {
        Busy::Active => Some(Stay::Active),
        Busy::Inside => Some(Stay::Inside),
        // What was asked a moment ago is still idle to the daemon; bytes on the way are not.
        Busy::Idle if kernel == Stay::Unanswered => Some(Stay::Idle),
        Busy::Idle => Some(kernel),
        Busy::NotLoggedIn => Some(Stay::NotLoggedIn),
        Busy::Resumable => Some(Stay::Resumable),
        Busy::Unknown => None,
    }
}

fn without_connection(one: Use) -> Session {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let ghost = one.by_connection && one.busy != Busy::Resumable;
    let stay = if ghost { Some(Stay::Ghost) } else { stay(&one, Stay::Idle) };
    Session {
        id: use_id(&one.key),
        peer: one.peer.or_else(|| one.peer_ip.map(|ip| SocketAddr::new(ip, 0))).unwrap_or(nowhere),
        local: nowhere,
        state: SessionState::Use,
        age: one.age.map_or(Age::Unknown, Age::Exactly),
        idle: one.idle.unwrap_or(Span::ZERO),
        bytes_in: 0,
        bytes_out: 0,
        inode: 0,
        process: None,
        excepted: false,
        stay: stay.unwrap_or(Stay::Active),
        seen_by: if ghost { SeenBy::DaemonAlone } else { SeenBy::Daemon },
        uses: vec![one],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebb_model::UseKind;

    fn socket(id: u64, peer: &str, pid: Option<u32>) -> Session {
        let at: SocketAddr = peer.parse().unwrap();
        let one = Use { peer: Some(at), by_connection: false, ..Use::new(String::new(), UseKind::Other) };
        Session {
            id: SessionId(id),
            state: SessionState::Established,
            stay: Stay::Idle,
            process: pid.map(|pid| (pid, "x".to_owned())),
            uses: Vec::new(),
            seen_by: SeenBy::Kernel,
            age: Age::AtLeast(Span::seconds(1)),
            ..without_connection(one)
        }
    }

    fn told(key: &str) -> Use {
        Use::new(key.to_owned(), UseKind::Other)
    }

    fn by_id(sessions: &[Session], id: u64) -> &Session {
        sessions.iter().find(|session| session.id == SessionId(id)).unwrap()
    }

    #[test]
    fn uses_are_found_by_address_then_process_then_the_only_client_there() {
        let mut sessions = vec![
            socket(1, "[::ffff:10.0.0.1]:5", None),
            socket(2, "10.0.0.2:6", Some(70)),
            socket(3, "10.0.0.3:7", Some(80)),
            socket(4, "10.0.0.4:8", Some(80)),
            socket(5, "10.0.0.5:9", None),
        ];
        let uses = vec![
            Use { peer: "10.0.0.1:5".parse().ok(), age: Some(Span::seconds(60)), ..told("a") },
            Use { pid: Some(70), busy: Busy::Inside, ..told("b") },
            Use { pid: Some(80), peer_ip: "10.0.0.4".parse().ok(), ..told("c") },
            Use { peer_ip: "::ffff:10.0.0.5".parse().ok(), ..told("d") },
        ];
        join(&mut sessions, Uses { uses, ..Uses::default() });
        let keys = |id| by_id(&sessions, id).uses.iter().map(|one| one.key.as_str()).collect::<Vec<_>>();
        assert_eq!([keys(1), keys(2), keys(4), keys(5)], [vec!["a"], vec!["b"], vec!["c"], vec!["d"]]);
        assert_eq!(by_id(&sessions, 3).seen_by, SeenBy::KernelAlone);
        assert_eq!(by_id(&sessions, 1).age, Age::AtLeast(Span::seconds(60)));
        assert_eq!((&by_id(&sessions, 2).stay, by_id(&sessions, 2).seen_by), (&Stay::Inside, SeenBy::Both));
        assert_eq!(sessions.len(), 5);
    }

    #[test]
    fn what_has_no_connection_is_a_session_of_its_own_and_a_ghost_if_it_should_have_one() {
        let mut sessions = vec![socket(1, "10.0.0.1:5", None)];
        let call = Use { by_connection: false, busy: Busy::Active, ..told("call") };
        let gone = Use { peer: "10.0.0.9:9".parse().ok(), ..told("gone") };
        let hibernating = Use { by_connection: false, busy: Busy::Resumable, ..told("sleeps") };
        let uses = vec![call.clone(), gone.clone(), hibernating.clone()];
        join(&mut sessions, Uses { uses, more: 1, transport: false });
        let seen = |key: &str| sessions.iter().find(|one| one.id == use_id(key)).map(|one| (one.seen_by, &one.stay));
        assert_eq!(seen("call"), Some((SeenBy::Daemon, &Stay::Active)));
        assert_eq!(seen("gone"), Some((SeenBy::DaemonAlone, &Stay::Ghost)));
        assert_eq!(seen("sleeps"), Some((SeenBy::Daemon, &Stay::Resumable)));
        assert_eq!(by_id(&sessions, 1).seen_by, SeenBy::Kernel, "it did not tell of all");
        assert_eq!([call, gone, hibernating].map(|one| waits(&one)), [true, false, false]);
    }

    #[test]
    fn replication_does_not_count_and_our_own_is_not_shown() {
        let mut sessions = vec![socket(1, "10.0.0.1:5", None), socket(2, "10.0.0.2:6", None)];
        let copy = Use { peer: "10.0.0.1:5".parse().ok(), role: Role::Replication, ..told("walsender") };
        let own = Use { peer: "10.0.0.2:6".parse().ok(), role: Role::Own, ..told("ebb") };
        let uses = vec![copy, own];
        assert_eq!(no_users(&uses), ["10.0.0.1:5".parse().unwrap(), "10.0.0.2:6".parse().unwrap()].into());
        join(&mut sessions, Uses { uses, ..Uses::default() });
        assert_eq!(sessions.len(), 1);
        assert!(!sessions[0].counts());
        assert_eq!(sessions[0].stay, Stay::NoUser(Role::Replication));
    }

    #[test]
    fn a_connection_that_only_carries_calls_does_not_count() {
        let mut sessions = vec![socket(1, "10.0.0.1:5", None)];
        let call = Use { by_connection: false, ..told("call") };
        join(&mut sessions, Uses { uses: vec![call], more: 0, transport: true });
        assert_eq!(sessions.iter().map(Session::counts).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_trunk_with_one_user_on_it_counts() {
        let at = "10.0.0.1:5".parse().ok();
        let copy = Use { peer: at, role: Role::Monitoring, ..told("a") };
        let user = Use { peer: at, ..told("b") };
        assert!(no_users(&[copy, user]).is_empty());
    }

    #[test]
    fn ids_of_uses_are_no_cookies_and_no_flows() {
        for key in ["", "a", "1234:5678"] {
            assert_eq!(use_id(key).0 >> 62, 1);
        }
    }
}
