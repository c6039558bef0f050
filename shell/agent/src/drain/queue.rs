//! The queue of a mail server that is drained: what was asked for it is done once nobody hands in anything new, and what stays
//! in it is named.

use std::time::Duration;

use ebb_model::{NextHop, Queue, Role, Service, Use, Why, printable};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::watch::Watch;
use crate::world::World;
use crate::{daemons, say};

/// A server that is to take mail greets within this time.
const GREETS_WITHIN: Duration = Duration::from_secs(10);
/// Messages that are named.
const NAMED: usize = 5;

/// Whether that can be done for these services; looked at before anything is touched.
pub(super) async fn possible(world: &World, services: &[&Service], queue: &Queue) -> Result<(), Why> {
    if *queue == Queue::Leave {
        return Ok(());
    }
    let queued = |service: &Service| daemons::of(world, service).is_some_and(|one| daemons::has_queue(one.kind()));
    if let Some(service) = services.iter().find(|service| !queued(service)) {
        return Err(Why::Unsupported {
            what: format!("{} has no queue of messages that ebb could work on", service.name),
            help: "--queue is for Postfix; drain others without it".to_owned(),
        });
    }
    match queue {
        Queue::Move(hop) => match tokio::time::timeout(GREETS_WITHIN, greeting(hop)).await {
            Ok(Ok(text)) if text.starts_with("220") => Ok(()),
            Ok(Ok(text)) => Err(not_taken(hop, &format!("it says `{}`", printable(text.trim())))),
            Ok(Err(error)) => Err(not_taken(hop, &error.to_string())),
            Err(_) => Err(not_taken(hop, &format!("it has not greeted for {} s", GREETS_WITHIN.as_secs()))),
        },
        Queue::Leave | Queue::Flush => Ok(()),
    }
}

fn not_taken(hop: &NextHop, cause: &str) -> Why {
    Why::Unsupported {
        what: format!("{hop} takes no mail now: {cause}"),
        help: "nothing was touched; see whether that server runs, and lets this one in".to_owned(),
    }
}

async fn greeting(hop: &NextHop) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((hop.host.as_str(), hop.port)).await?;
    let mut text = [0; 128];
    let length = stream.read(&mut text).await?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// What will be done, in words.
pub(super) fn words(queue: &Queue) -> Option<String> {
    match queue {
        Queue::Leave => None,
        Queue::Flush => Some("try at once what is deferred in its queue".to_owned()),
        Queue::Move(hop) => Some(format!(
            "send by {hop} what is in its queue (`relayhost` in its main.cf, until `ebb resume`), and try at once what is \
             deferred"
        )),
    }
}

impl Watch<'_> {
    /// What was asked for the queue of this service.
    pub(super) async fn queue(&self, index: usize) {
        let one = &self.tracked[index];
        let (name, queue) = (one.service.name.as_str(), &one.drain.spec().queue);
        if *queue == Queue::Leave {
            return;
        }
        let Some(daemon) = daemons::of(self.world, &one.service) else { return };
        let (warns, text) = match (daemon.queue(queue).await, queue) {
            (Err(why), _) => (true, format!("the queue of {name} stays as it is: {why}")),
            (Ok(_), Queue::Move(hop)) => (false, format!("what is in the queue of {name} leaves by {hop} from now on")),
            (Ok(_), _) => (false, format!("what is deferred in the queue of {name} is tried now")),
        };
        self.say(say::note(Some(name), warns, text)).await;
    }

    /// What is left in the queue now, with why.
    pub(super) async fn left_in_queue(&self, index: usize) {
        let one = &self.tracked[index];
        let name = one.service.name.as_str();
        if one.drain.spec().queue == Queue::Leave {
            return;
        }
        let Some(daemon) = daemons::of(self.world, &one.service) else { return };
        let uses = match daemon.uses().await {
            Ok(uses) => uses,
            Err(why) => {
                let text = format!("what is left in the queue of {name} could not be read: {why}");
                return self.say(say::note(Some(name), true, text)).await;
            }
        };
        let left: Vec<&Use> = uses.uses.iter().filter(|one| one.role == Role::Parked).collect();
        if left.is_empty() {
            return self.say(say::note(Some(name), false, format!("the queue of {name} is empty"))).await;
        }
        let plural = if left.len() == 1 { " stays" } else { "s stay" };
        self.say(say::note(Some(name), true, format!("{} message{plural} in the queue of {name}:", left.len()))).await;
        for one in left.iter().take(NAMED) {
            let [user, what] = [&one.user, &one.what].map(|text| printable(text.as_deref().unwrap_or("-")));
            self.say(say::note(Some(name), true, format!("  from {user}: {what}"))).await;
        }
        if left.len() > NAMED {
            let text = format!("  and {} more: `ebb sessions {name}`", left.len() - NAMED);
            self.say(say::note(Some(name), true, text)).await;
        }
    }
}
