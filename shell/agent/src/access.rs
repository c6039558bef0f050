//! Who may do what through a resident agent's socket.

use ebb_link::Peer;
use ebb_model::Why;
use ebb_wire::v1::{MaintenanceRequest, Request};

use crate::world::World;

/// Whoever reaches the socket may look; root and the operators may act. In one process with its caller an agent has no
/// more rights than the caller, and nothing is asked.
pub(crate) async fn check(world: &World, peer: &Peer, request: &Request) -> Result<(), Why> {
    if !world.resident || peer.uid == 0 || !acts(request) || is_operator(&world.config().operators, peer).await {
        return Ok(());
    }
    Err(Why::NotPermitted { what: format!("act as {}: neither root nor one of the operators in ebb.toml", peer.name) })
}

/// Whether it changes anything.
pub(crate) const fn acts(request: &Request) -> bool {
    match request {
        Request::Drain(request) => !request.dry_run,
        Request::End(request) => !request.dry_run,
        Request::Resume(request) => !request.dry_run,
        Request::Hold(request) => !request.dry_run,
        Request::Release(request) => !request.dry_run,
        Request::Maintenance(request) => match request {
            MaintenanceRequest::Start(request) => !request.dry_run,
            MaintenanceRequest::Finish(request) => !request.dry_run,
            MaintenanceRequest::Status | MaintenanceRequest::Watch => false,
        },
        Request::Check(request) => request.save,
        Request::NotifyTest { .. } => true,
        Request::Protect(_) => true,
        Request::Services { .. }
        | Request::Sessions(_)
        | Request::Eta(_)
        | Request::Holds
        | Request::Status { .. }
        | Request::Doctor
        | Request::Events(_)
        | Request::Notifiers
        | Request::Watch(_) => false,
    }
}

async fn is_operator(operators: &[String], peer: &Peer) -> bool {
    if operators.contains(&peer.name) {
        return true;
    }
    if operators.iter().all(|name| !name.starts_with('@')) {
        return false;
    }
    // `id` asks whatever knows the users here: files, LDAP, sssd.
    let groups = tokio::process::Command::new("id").args(["-Gn", "--", &peer.uid.to_string()]).output().await;
    let Ok(groups) = groups else { return false };
    let groups = String::from_utf8_lossy(&groups.stdout);
    groups.split_whitespace().any(|group| operators.iter().any(|name| name.strip_prefix('@') == Some(group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, name: &str) -> Peer {
        Peer { uid, name: name.to_owned(), behalf: None }
    }

    #[tokio::test]
    async fn operators_are_names_and_groups() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(is_operator(&list(&["ana"]), &peer(1000, "ana")).await);
        assert!(!is_operator(&list(&["ana"]), &peer(1001, "bo")).await);
        assert!(!is_operator(&[], &peer(1001, "bo")).await);
        // Debian's `daemon` is in a group of its own name.
        assert!(is_operator(&list(&["@daemon"]), &peer(1, "daemon")).await);
        assert!(!is_operator(&list(&["daemons", "@sys"]), &peer(1, "daemon")).await);
    }
}
