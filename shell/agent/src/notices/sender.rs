//! Sends what is queued: one notice at a time by each notifier, so that one that hangs delays nobody else's.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ebb_link::Reply;
use ebb_model::{Event, EventKind, NotifySettings, NotifyWay, Queued, Sending, Span, Wall, duration};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::say;
use crate::world::{World, chain};

/// Between two tries: the first, and the longest.
const FIRST: Span = Span::seconds(5);
const LONGEST: Span = Span::seconds(600);
/// Then it is given up; but not before so many tries, for a server may have been down for as long.
const GIVE_UP: Span = Span::seconds(86_400);
const TRIES: u32 = 10;
/// What is needed beside the notifier's timeout, to write down what came of it.
const BESIDE: Span = Span::seconds(5);
/// Without a reason to, the store is looked at no more often.
const LOOK: Duration = Duration::from_secs(60);
/// Of a notifier that is not configured any more.
const NO_TIMEOUT: Span = Span::seconds(1);

/// Sends what is queued, for as long as it is polled.
pub(crate) async fn send(world: &World) {
    Sender::new(world).run().await;
}

/// Does `work`, sends beside it, and waits at its end for what is under way or due: for no longer than the longest
/// timeout of a notifier. What is left then is said.
pub(crate) async fn beside<T>(world: &World, reply: &Reply, work: impl Future<Output = T>) -> T {
    let mut sender = Sender::new(world);
    let done = tokio::select! {
        done = work => done,
        () = sender.run() => unreachable_end().await,
    };
    let longest = world.config().settings.notify.values().map(|notifier| notifier.timeout).max().unwrap_or(NO_TIMEOUT);
    let _ = tokio::time::timeout(Duration::from_millis(longest.0), sender.finish()).await;
    if let Some(text) = left(world) {
        reply.send(say::note(None, true, text)).await;
    }
    done
}

/// [`Sender::run`] does not end.
async fn unreachable_end<T>() -> T {
    std::future::pending().await
}

/// What could not be sent yet, in a sentence.
fn left(world: &World) -> Option<String> {
    let notices = world.store().notices().ok()?;
    let queued: Vec<&Queued> = notices.iter().filter(|one| one.state == Sending::Queued).collect();
    let last = queued.iter().rev().find_map(|one| Some((&one.notifier, one.last_error.as_ref()?)));
    let because = last.map_or_else(String::new, |(name, error)| format!(" ({name}: {error})"));
    match queued.len() {
        0 => None,
        1 => Some(format!("1 notice is yet to be sent{because}: {LATER}")),
        count => Some(format!("{count} notices are yet to be sent{because}: {LATER}")),
    }
}

/// Who sends what is left.
const LATER: &str = "by the resident agent, or beside the next command that acts";

type Flight<'a> = Pin<Box<dyn Future<Output = String> + Send + 'a>>;

struct Sender<'a> {
    world: &'a World,
    flights: FuturesUnordered<Flight<'a>>,
    /// Notifiers that send just now.
    busy: BTreeSet<String>,
    /// Said already: it is not repeated each minute.
    trouble: Option<String>,
}

impl<'a> Sender<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, flights: FuturesUnordered::new(), busy: BTreeSet::new(), trouble: None }
    }

    /// Does not end.
    async fn run(&mut self) {
        loop {
            self.begin_all();
            let pause = self.pause();
            tokio::select! {
                Some(name) = self.flights.next(), if !self.flights.is_empty() => drop(self.busy.remove(&name)),
                () = self.world.queued.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Until nothing is under way, and nothing is due.
    async fn finish(&mut self) {
        self.begin_all();
        while let Some(name) = self.flights.next().await {
            self.busy.remove(&name);
            self.begin_all();
        }
    }

    /// Begins to send what is due, by each notifier that is free.
    fn begin_all(&mut self) {
        loop {
            match take(self.world, &self.busy) {
                Ok(Some(queued)) => {
                    self.busy.insert(queued.notifier.clone());
                    self.flights.push(Box::pin(deliver(self.world, queued)));
                }
                Ok(None) => return,
                Err(text) => {
                    if self.trouble.as_ref() != Some(&text) {
                        self.world.complain(&text);
                        self.trouble = Some(text);
                    }
                    return;
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        let next = self.world.store().next_notice().ok().flatten();
        let now = self.world.now().wall;
        // What is due now waits for its notifier, which wakes us.
        next.filter(|next| *next > now).map_or(LOOK, |next| Duration::from_millis(next.since(now).0 + 1).min(LOOK))
    }
}

/// Takes one that is due. Who cannot write the store sends nothing: it would be sent again and again.
fn take(world: &World, busy: &BTreeSet<String>) -> Result<Option<Queued>, String> {
    let now = world.now().wall;
    let lease = |queued: &Queued| {
        let timeout =
            world.config().settings.notify.get(&queued.notifier).map_or(NO_TIMEOUT, |notifier| notifier.timeout);
        later(now, Span(timeout.0.saturating_add(BESIDE.0)))
    };
    let mut store = world.store();
    if !store.is_writable() {
        return Ok(None);
    }
    let taken = store.take_notice(now, busy, lease, LONGEST);
    taken.map_err(|error| format!("queued notices cannot be sent: {}", chain(&error)))
}

fn later(at: Wall, span: Span) -> Wall {
    Wall(at.0.saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)))
}

/// How long to wait after so many tries.
fn backoff(attempts: u32) -> Span {
    Span(FIRST.0.saturating_mul(1 << attempts.saturating_sub(1).min(20))).min(LONGEST)
}

/// Tries once, and writes down what came of it. The answer is the notifier's name.
async fn deliver(world: &World, queued: Queued) -> String {
    let name = queued.notifier.clone();
    let config = world.config();
    let notifier: Option<&NotifySettings> = config.settings.notify.get(&name);
    let done = match notifier {
        None => Err(("it is not configured any more".to_owned(), true)),
        Some(notifier) => {
            let sent = ebb_notify::send(&queued.notice, &name, &queued.recipient, notifier).await;
            sent.map_err(|error| (error.to_string(), error.is_final()))
        }
    };
    let now = world.now().wall;
    let what = told(&queued, notifier);
    let settled = match done {
        Ok(sent) => {
            for remark in sent.remarks {
                world.complain(&format!("notifier {name}: {remark}"));
            }
            Queued { state: Sending::Sent, last_error: None, ..queued }
        }
        Err((why, is_final)) => {
            // Some servers say back to whom it was.
            let why = match public(&queued, notifier) {
                Some(to) => why.replace(&queued.recipient, &to),
                None => why,
            };
            let old = now.since(queued.since) > GIVE_UP && queued.attempts >= TRIES;
            let state = if is_final || old { Sending::Failed } else { Sending::Queued };
            let pause = backoff(queued.attempts);
            if state == Sending::Queued && queued.attempts == 1 {
                let again = duration(pause);
                world.complain(&format!("{what} could not be sent: {why}; it is tried again in {again}"));
            }
            Queued { state, last_error: Some(why), next: later(now, pause), ..queued }
        }
    };
    if let Err(error) = world.store().settle_notice(&settled) {
        world.complain(&format!("what became of {what} cannot be written down: {}", chain(&error)));
    }
    let kind = match settled.state {
        Sending::Queued => return name,
        Sending::Sent => EventKind::NoticeSent,
        Sending::Failed => EventKind::NoticeFailed,
    };
    let to = public(&settled, notifier);
    world.record(&event(now, kind, &settled, &what, to), None);
    name
}

/// Everybody may read the history: it names the recipients that the configuration has, and no user's address.
fn public(queued: &Queued, notifier: Option<&NotifySettings>) -> Option<String> {
    let listed = match notifier.map(|notifier| &notifier.way) {
        Some(NotifyWay::Mail { to, .. }) => to.contains(&queued.recipient),
        _ => false,
    };
    let name = if listed { queued.recipient.as_str() } else { A_USER };
    (!queued.recipient.is_empty()).then(|| name.to_owned())
}

/// In the place of an address.
const A_USER: &str = "a user";

fn told(queued: &Queued, notifier: Option<&NotifySettings>) -> String {
    let to = public(queued, notifier).map_or_else(String::new, |to| format!(" to {to}"));
    format!("the notice {} by {}{to}", queued.notice.key, queued.notifier)
}

fn event(at: Wall, kind: EventKind, queued: &Queued, what: &str, to: Option<String>) -> Event {
    let text = match &queued.last_error {
        None => format!("{what} was sent"),
        Some(why) => format!("{what} was given up after {} tries: {why}", queued.attempts),
    };
    let mut event = Event { at, kind, service: None, text, fields: Vec::new() }
        .with("notifier", &queued.notifier)
        .with("key", &queued.notice.key)
        .with("attempts", queued.attempts);
    if let Some(to) = to {
        event = event.with("recipient", to);
    }
    // A notice about one service belongs to its history.
    if let [one] = queued.notice.about.services.as_slice() {
        event.service = Some(one.name.clone());
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let pauses: Vec<u64> = [1, 2, 3, 7, 8, 9, 60, u32::MAX].map(|attempts| backoff(attempts).0 / 1000).to_vec();
        assert_eq!(pauses, [5, 10, 20, 320, 600, 600, 600, 600]);
    }
}
