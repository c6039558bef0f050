//! What people are told: an event of a drain becomes a notice, is written down for each who wants it, and is sent beside
//! whatever goes on. Nothing here fails who calls it, and nobody waits for it.

mod sender;
pub(crate) mod users;

pub(crate) use sender::{beside, send};

use ebb_decide::maintenance::called_off;
use ebb_model::{
    About, Event, EventKind, Hold, Matter, Notice, NoticeService, Occasion, Record, Requester, Run, ServerHold,
    ServiceName, Span, Wall,
};

use crate::world::{World, chain};

/// Whose drains are parts of something that tells of itself.
const TELLS_ITSELF: &str = "maintenance";
/// The same trouble of the same service is told once in this time.
const TROUBLE_EVERY_MS: i64 = 3_600_000;

/// Writes a notice down for each notifier that wants it, to be sent soon. The second of the same key changes nothing.
pub(crate) fn queue(world: &World, notice: &Notice) {
    let config = world.config();
    let wanted = config.settings.notify.iter().filter(|(_, notifier)| notifier.on.contains(&notice.occasion));
    let to: Vec<(String, String)> = wanted
        .flat_map(|(name, notifier)| {
            let recipients = ebb_notify::recipients(notice, notifier);
            recipients.into_iter().map(|recipient| (name.clone(), recipient))
        })
        .collect();
    if to.is_empty() {
        return;
    }
    let queued = world.store().queue_notice(notice, &to, world.now().wall);
    match queued {
        Ok(0) => {}
        Ok(_) => world.queued.notify_one(),
        Err(error) => world.complain(&format!("the notice {} could not be queued: {}", notice.key, chain(&error))),
    }
}

/// Queues the notice that an event asks for, if it asks for one.
pub(crate) fn hear(world: &World, event: &Event) {
    if let (Some(occasion), Some(service)) = (occasion(event.kind), &event.service)
        && world.config().settings.notify.values().any(|notifier| notifier.on.contains(&occasion))
        && let Some(notice) = of(world, occasion, event, service)
    {
        queue(world, &notice);
    }
}

const fn occasion(kind: EventKind) -> Option<Occasion> {
    match kind {
        EventKind::DrainBegan => Some(Occasion::Start),
        EventKind::GateOpened => Some(Occasion::End),
        EventKind::LeakSeen
        | EventKind::DeadlineReached
        | EventKind::ServiceStopFailed
        | EventKind::HoldOverdue
        | EventKind::GateLost => Some(Occasion::Trouble),
        _ => None,
    }
}

/// Tells of a maintenance: each occasion once.
pub(crate) fn of_run(world: &World, run: &Run, occasion: Occasion) {
    queue(world, &of_run_notice(world, run, occasion, occasion.as_str(), None));
}

/// Tells of trouble with a maintenance, once for each `what`.
pub(crate) fn trouble_of_run(world: &World, run: &Run, what: &str, trouble: &str) {
    let occasion = Occasion::Trouble;
    queue(world, &of_run_notice(world, run, occasion, &format!("{}/{what}", occasion.as_str()), Some(trouble)));
}

fn of_run_notice(world: &World, run: &Run, occasion: Occasion, what: &str, trouble: Option<&str>) -> Notice {
    let plan = &run.plan;
    let first = run.journal.first().map_or(world.now().wall, |line| line.at);
    let begins = first + plan.delay;
    let services = plan.layers.iter().flatten().map(|name| NoticeService { name: name.clone(), sessions: None });
    Notice {
        occasion,
        key: format!("maintenance/{}/{what}", run.number),
        about: About {
            matter: Matter::Maintenance,
            server: server(),
            services: services.collect(),
            reason: told_reason(run),
            requester: plan.requester.to_string(),
            by: plan.by.name.clone(),
            at: if occasion == Occasion::Before { begins } else { world.now().wall },
            until: plan.meant_for.filter(|span| *span > Span::ZERO).map(|span| begins + span),
            trouble: trouble.map(str::to_owned),
        },
        users: Vec::new(),
    }
}

/// Its reason, with what people must know besides: that it is but a drill, or did not come to be.
fn told_reason(run: &Run) -> String {
    let called_off = called_off(run).map(|line| format!("called off by {}", line.text));
    let drill = run.plan.drill.then(|| "a drill, nothing is stopped".to_owned());
    let reason = Some(run.plan.reason.clone()).filter(|reason| !reason.is_empty());
    [called_off, drill, reason].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// Tells that a hold on the whole server is past its end, once.
pub(crate) fn server_overdue(world: &World, server: &ServerHold, text: &str) {
    let services = server.covers.iter().map(|name| NoticeService { name: name.clone(), sessions: None });
    let matter = if server.requester.as_str() == TELLS_ITSELF { Matter::Maintenance } else { Matter::Drain };
    let notice = Notice {
        occasion: Occasion::Trouble,
        key: format!("hold/server/{}/{}/trouble/HoldOverdue", server.requester, server.since.0),
        about: About {
            matter,
            server: self::server(),
            services: services.collect(),
            reason: server.reason.clone(),
            requester: server.requester.to_string(),
            by: server.by.name.clone(),
            at: world.now().wall,
            until: server.until.as_ref().map(|end| end.wall),
            trouble: Some(text.to_owned()),
        },
        users: Vec::new(),
    };
    queue(world, &notice);
}

/// Which drain begins and ends by its own notices; none if it is a part of something that tells of itself.
pub(crate) fn drain_told(record: &Record) -> Option<i64> {
    let drain = record.drain.as_ref().filter(|drain| drain.requester.as_str() != TELLS_ITSELF);
    drain.map(|drain| drain.began.0)
}

/// The notice of an event. What it tells of a hold is read while it stands; an event that opens has it in its fields.
fn of(world: &World, occasion: Occasion, event: &Event, service: &ServiceName) -> Option<Notice> {
    let (holds, records) = {
        let store = world.store();
        (store.holds().unwrap_or_default(), store.records().unwrap_or_default())
    };
    let record = records.iter().find(|record| record.service == *service);
    let field = |name: &str| event.fields.iter().find(|field| field.name == name).map(|field| field.value.as_str());
    let requester = field("requester").and_then(|name| Requester::new(name).ok());
    let requester = requester.or_else(|| record?.drain.as_ref().map(|drain| drain.requester.clone()));
    let mut of_service = holds.iter().filter(|hold| hold.service == *service);
    let first = of_service.clone().next();
    let hold = of_service.find(|hold| Some(&hold.requester) == requester.as_ref()).or(first);
    // A part of a hold on the whole server: that tells of itself, and of a deadline by coming to a halt.
    let tells = occasion == Occasion::Trouble && event.kind != EventKind::DeadlineReached;
    if !tells && hold.is_some_and(|hold| hold.whole_server) {
        return None;
    }
    let key = match occasion {
        Occasion::End => format!("drain/{service}/{}/end", field("drain")?),
        Occasion::Before | Occasion::Start => format!("drain/{service}/{}/start", drain_told(record?)?),
        Occasion::Trouble => trouble_key(event, service, record, hold),
    };
    let told = |name: &str, of: fn(&Hold) -> &str| field(name).or_else(|| hold.map(of)).unwrap_or_default().to_owned();
    Some(Notice {
        occasion,
        key,
        about: About {
            matter: Matter::Drain,
            server: server(),
            services: vec![NoticeService {
                name: service.clone(),
                sessions: field("left").and_then(|left| left.parse().ok()),
            }],
            reason: told("reason", |hold| &hold.reason),
            requester: told("requester", |hold| hold.requester.as_str()),
            by: if event.kind == EventKind::GateLost {
                hold.map(|hold| hold.by.name.clone()).unwrap_or_default()
            } else {
                told("by", |hold| &hold.by.name)
            },
            at: event.at,
            until: hold.and_then(|hold| hold.until.as_ref()).map(|end| end.wall),
            trouble: (occasion == Occasion::Trouble).then(|| event.text.clone()),
        },
        // Sessions of the kernel have no user; `users` asks those who know names.
        users: Vec::new(),
    })
}

fn trouble_key(event: &Event, service: &ServiceName, record: Option<&Record>, hold: Option<&Hold>) -> String {
    let drain = record.and_then(|record| record.drain.as_ref()).map(|drain| ("drain", drain.began));
    let (matter, since) = drain.or_else(|| hold.map(|hold| ("hold", hold.since))).unwrap_or(("hold", Wall(0)));
    let hour = event.at.0.div_euclid(TROUBLE_EVERY_MS);
    format!("{matter}/{service}/{}/trouble/{}/{hour}", since.0, event.kind.as_str())
}

/// What this server is called.
pub(crate) fn server() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
