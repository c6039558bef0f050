//! Takes calls from the link and gives each to its verb.

use std::sync::Arc;

use ebb_link::{Call, Peer, Reply, Server};
use ebb_model::{Who, Why};
use ebb_wire::v1::{Frame, MaintenanceRequest, Request};
use tokio::task::JoinSet;

use crate::{access, daemons, drain, maintenance, notices, say, verbs, world::World};

/// Answers calls until every client is gone and every answer is given.
pub(crate) async fn serve(world: Arc<World>, mut server: Server) {
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            call = server.next() => match call {
                Some(call) => drop(answers.spawn(answer(Arc::clone(&world), call))),
                None => break,
            },
            // What has ended is forgotten at once: an agent may stay for years.
            Some(_) = answers.join_next(), if !answers.is_empty() => {}
        }
    }
    while answers.join_next().await.is_some() {}
}

async fn answer(world: Arc<World>, call: Call) {
    let Call { request, peer, reply } = call;
    let by = who(&peer);
    // Without a resident agent, who acts also sends what is queued.
    let sends = !world.resident && access::acts(&request);
    let holds = matches!(
        &request,
        Request::Hold(_)
            | Request::Release(_)
            | Request::Resume(_)
            | Request::Maintenance(MaintenanceRequest::Finish(_))
    );
    let work = async {
        access::check(&world, &peer, &request).await?;
        let done = perform(&world, request, &by, &reply).await;
        if holds {
            daemons::converge_all(&world, &reply).await;
        }
        done
    };
    let done = if sends { notices::beside(&world, &reply, work).await } else { work.await };
    if let Err(why) = done {
        reply.send(say::refusal(None, &why)).await;
    }
    reply.send(Frame::Done).await;
}

async fn perform(world: &Arc<World>, request: Request, by: &Who, reply: &Reply) -> Result<(), Why> {
    match request {
        Request::Services { count, daemons } => verbs::services::answer(world, count, daemons, reply).await,
        Request::Drain(request) => drain::answer(world, request, by, reply).await,
        Request::Watch(request) => drain::watch(world, &request, reply).await,
        Request::Sessions(request) => verbs::sessions::answer(world, request, reply).await,
        Request::Eta(request) => verbs::eta::answer(world, request, reply).await,
        Request::End(request) => verbs::end::answer(world, request, by, reply).await,
        Request::Resume(request) => verbs::resume::answer(world, request, reply).await,
        Request::Hold(request) => verbs::hold::place(world, request, by, reply).await,
        Request::Release(request) => verbs::hold::release(world, request, reply).await,
        Request::Holds => verbs::hold::list(world, reply).await,
        Request::Status { services } => verbs::status::answer(world, services, reply).await,
        Request::Maintenance(request) => maintenance::answer(world, request, by, reply).await,
        Request::Protect(request) => verbs::protect::answer(world, request, by, reply).await,
        Request::Doctor => verbs::doctor::answer(world, reply).await,
        Request::Check(request) => verbs::check::answer(world, &request, reply).await,
        Request::Events(request) => verbs::events::answer(world, request, reply).await,
        Request::Notifiers => verbs::notify::list(world, reply).await,
        Request::NotifyTest { name } => verbs::notify::test(world, name, by, reply).await,
    }
}

/// Whom a hold is by: behind sudo, the person who called it.
fn who(peer: &Peer) -> Who {
    match &peer.behalf {
        Some((uid, name)) => Who { uid: *uid, name: name.clone() },
        None => Who { uid: peer.uid, name: peer.name.clone() },
    }
}

/// Sends a refusal for each; true if there was any.
pub(crate) async fn refuse_all(reply: &Reply, refused: &[(String, Why)]) -> bool {
    for (service, why) in refused {
        reply.send(say::refusal(Some(service), why)).await;
    }
    !refused.is_empty()
}
