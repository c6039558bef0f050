//! `ebb notify`: who is told, what could not be sent, and a test.

use std::collections::BTreeSet;
use std::time::Instant;

use ebb_link::Reply;
use ebb_model::{About, Matter, Notice, NotifySettings, NotifyWay, Occasion, Queued, Sending, Who, Why};
use ebb_wire::v1::{Frame, Noticed, Notifier};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::notices::server;
use crate::say;
use crate::world::{World, unread};

const NONE: &str = "no notifier is configured: `[notify.NAME]` in ebb.toml makes one";

pub(crate) async fn list(world: &World, reply: &Reply) -> Result<(), Why> {
    let notices = world.store().notices().map_err(|error| match error.is_not_permitted() {
        true => Why::NotPermitted { what: "see who was told: notices have people's addresses in them".to_owned() },
        false => unread(&error),
    })?;
    let config = world.config();
    let configured = &config.settings.notify;
    let names: BTreeSet<&String> = configured.keys().chain(notices.iter().map(|one| &one.notifier)).collect();
    if names.is_empty() {
        reply.send(say::note(None, false, NONE)).await;
    }
    for name in names {
        let own: Vec<&Queued> = notices.iter().filter(|one| one.notifier == *name).collect();
        reply.send(Frame::Notifier(notifier(name, configured.get(name), &own))).await;
    }
    Ok(())
}

fn notifier(name: &str, settings: Option<&NotifySettings>, notices: &[&Queued]) -> Notifier {
    let count = |state: Sending| notices.iter().filter(|one| one.state == state).count() as u64;
    let queued = notices.iter().filter(|one| one.state == Sending::Queued);
    let unsent = notices.iter().filter(|one| one.state != Sending::Sent);
    let (way, via, to) = match settings.map(|settings| &settings.way) {
        None => (None, None, Vec::new()),
        Some(NotifyWay::Mail { server, to, .. }) => (Some("mail"), Some(server.clone()), to.clone()),
        // The rest of a webhook's URL is a secret with many.
        Some(NotifyWay::Webhook { url, .. }) => (Some("webhook"), Some(host(url).to_owned()), Vec::new()),
        Some(NotifyWay::Wall) => (Some("wall"), None, Vec::new()),
    };
    Notifier {
        name: name.to_owned(),
        way: way.map(str::to_owned),
        via,
        to,
        on: settings.map_or_else(Vec::new, |one| one.on.iter().map(|on| on.as_str().to_owned()).collect()),
        queued: count(Sending::Queued),
        failed: count(Sending::Failed),
        sent: count(Sending::Sent),
        next: queued.map(|one| one.next).min().map(say::time),
        last_error: unsent.filter_map(|one| one.last_error.clone()).next_back(),
    }
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

pub(crate) async fn test(world: &World, name: Option<String>, by: &Who, reply: &Reply) -> Result<(), Why> {
    let config = world.config();
    let configured = &config.settings.notify;
    let chosen: Vec<(&String, &NotifySettings)> =
        configured.iter().filter(|(one, _)| name.as_ref().is_none_or(|name| name == *one)).collect();
    if let (true, Some(name)) = (chosen.is_empty(), name) {
        let names: Vec<&str> = configured.keys().map(String::as_str).collect();
        let known = if names.is_empty() { NONE.to_owned() } else { format!("there are: {}", names.join(", ")) };
        reply.send(say::usage(format!("no notifier is called `{name}`; {known}"))).await;
        return Ok(());
    }
    if chosen.is_empty() {
        reply.send(say::note(None, false, NONE)).await;
    }
    let notice = notice(world, by);
    let tries = chosen.into_iter().flat_map(|(name, settings)| {
        let recipients = ebb_notify::recipients(&notice, settings);
        recipients.into_iter().map(move |recipient| (name, settings, recipient))
    });
    let mut tries: FuturesUnordered<_> =
        tries.map(|(name, settings, recipient)| once(&notice, name, settings, recipient)).collect();
    while let Some(noticed) = tries.next().await {
        reply.send(Frame::Noticed(noticed)).await;
    }
    Ok(())
}

fn notice(world: &World, by: &Who) -> Notice {
    let at = world.now().wall;
    Notice {
        occasion: Occasion::Start,
        key: format!("test/{}", at.0),
        about: About {
            matter: Matter::Test,
            server: server(),
            services: Vec::new(),
            reason: String::new(),
            requester: String::new(),
            by: by.name.clone(),
            at,
            until: None,
            trouble: None,
        },
        users: Vec::new(),
    }
}

async fn once(notice: &Notice, name: &str, settings: &NotifySettings, recipient: String) -> Noticed {
    let began = Instant::now();
    let done = ebb_notify::send(notice, name, &recipient, settings).await;
    let why = done.as_ref().err().map(ToString::to_string);
    Noticed {
        notifier: name.to_owned(),
        recipient: (!recipient.is_empty()).then_some(recipient),
        sent: why.is_none(),
        why,
        remarks: done.map(|sent| sent.remarks).unwrap_or_default(),
        took_seconds: began.elapsed().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn of_a_url_only_the_host_is_shown() {
        for url in ["https://u:p@hooks.example.org/T/B/secret", "https://hooks.example.org?token=secret"] {
            assert_eq!(host(url), "hooks.example.org");
        }
    }
}
