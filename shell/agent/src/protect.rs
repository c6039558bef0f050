//! Protects the sessions of chosen services from reboots and from stops by somebody else, for as long as an agent is
//! resident and such sessions live. What is refused stands in files below `/run`; what is only asked for, at logind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebb_decide::protect::{self, Memories, Memory, Seen};
use ebb_model::{
    AtShutdown, Event, EventKind, Mono, Origin, ProtectSettings, Service, ServiceName, Span, Stopped, Up, Why,
    duration, printable,
};
use ebb_systemd::{InhibitMode, Inhibitor, Protection, Refused, UnitKind, UnitName};
use tokio::sync::Mutex;

use crate::look;
use crate::observe::{self, Book};
use crate::sources::listening;
use crate::uninstall::{RUNTIME, USUAL_STATE};
use crate::verbs::services::Known;
use crate::world::{World, chain};

/// Between two censuses.
const BEAT: Duration = Duration::from_secs(2);
/// Beats between two looks at which services there are, where nobody began to listen.
const SLOW: u64 = 15;
/// Figures in logind's words are at most this old.
const WORDS: Duration = Duration::from_secs(30);

/// What stands, for whoever changes it; one at a time.
#[derive(Default)]
pub(crate) struct Standing(Mutex<Held>);

#[derive(Default)]
struct Held {
    inhibitor: Option<Words>,
    /// Units that ebb itself is stopping.
    aside: BTreeSet<UnitName>,
}

struct Words {
    _inhibitor: Inhibitor,
    text: String,
    names: Vec<ServiceName>,
    at: Instant,
}

/// What is settled.
pub(crate) fn settings(world: &World) -> ProtectSettings {
    world.config().settings.protect.clone()
}

/// Somebody has lifted the protection, for a while or until the next boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    boot_id: String,
    until: Option<Mono>,
    by: String,
    reason: String,
}

impl Override {
    fn path(world: &World) -> PathBuf {
        // A reboot empties it; with a state directory of one's own the boot's id has to do.
        let usual = world.place.state_dir.as_os_str() == USUAL_STATE;
        if usual { Path::new(RUNTIME).join("protect-off") } else { world.place.state_dir.join("protect-off") }
    }

    /// None if there is none, or it is over.
    fn read(world: &World) -> Option<Self> {
        let text = std::fs::read_to_string(Self::path(world)).ok()?;
        let lifted = Self::parse(&text)?;
        let over = lifted.until.is_some_and(|until| world.now().mono >= until);
        (lifted.boot_id == world.boot_id && !over).then_some(lifted)
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let until = match value("until")? {
            "boot" => None,
            until => Some(Mono(until.parse().ok()?)),
        };
        let own = |key| value(key).map(str::to_owned);
        Some(Self { boot_id: own("boot")?, until, by: own("by")?, reason: own("reason")? })
    }

    fn text(&self) -> String {
        let until = self.until.map_or_else(|| "boot".to_owned(), |until| until.0.to_string());
        let [by, reason] = [&self.by, &self.reason].map(|text| printable(text).replace('\n', " "));
        format!("boot={}\nuntil={until}\nby={by}\nreason={reason}\n", self.boot_id)
    }

    fn told(&self, now: Mono) -> String {
        let until = self.until.map_or_else(
            || "until the next boot".to_owned(),
            |until| format!("for {} more", duration(until.since(now))),
        );
        format!("protection is lifted by {} {until}: {}", printable(&self.by), printable(&self.reason))
    }
}

/// Looks after it.
pub(crate) struct Protector {
    world: Arc<World>,
    memories: Memories,
    services: Vec<Service>,
    listeners: BTreeSet<u32>,
    /// By unit, others whose stop would stop it.
    above: BTreeMap<UnitName, Vec<UnitName>>,
    beats: u64,
    said: BTreeSet<String>,
    was_lifted: bool,
}

impl Protector {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            memories: Memories::new(),
            services: Vec::new(),
            listeners: BTreeSet::new(),
            above: BTreeMap::new(),
            beats: 0,
            said: BTreeSet::new(),
            was_lifted: false,
        }
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        if self.world.systemd.is_none() {
            return std::future::pending().await;
        }
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let settings = settings(&self.world);
            if let Err(why) = self.look(&settings).await {
                self.complain(&format!("sessions are not protected as they should be: {why}"));
            }
            self.beats += 1;
        }
    }

    async fn look(&mut self, settings: &ProtectSettings) -> Result<(), Why> {
        let lifted = Override::read(&self.world).is_some();
        if self.was_lifted && !lifted {
            restored(&self.world, "its time is over");
        }
        self.was_lifted = lifted;
        if settings.services.is_empty() || lifted {
            self.memories.clear();
            return self.stand(settings).await;
        }
        let seen = self.seen(settings).await?;
        let now = self.world.now().mono;
        if self.beats == 0 {
            self.adopt(&seen, now);
        }
        self.memories = protect::step(&self.memories, &seen, now);
        self.stand(settings).await
    }

    /// What an agent before has protected stays so for the first look.
    fn adopt(&mut self, seen: &BTreeMap<ServiceName, Seen>, now: Mono) {
        let there = Protection::system("ebb").all().unwrap_or_default();
        let protected = |name: &&ServiceName| {
            let service = self.services.iter().find(|service| service.name == **name);
            service.is_some_and(|service| units(service).any(|unit| there.contains(&unit)))
                || there.iter().any(Protection::is_end)
        };
        let memory = Memory { since: now, last: now, sessions: 0, protected: true };
        self.memories = seen.keys().filter(protected).map(|name| (name.clone(), memory)).collect();
    }

    /// One census of all protected services.
    async fn seen(&mut self, settings: &ProtectSettings) -> Result<BTreeMap<ServiceName, Seen>, Why> {
        let listeners = listening().unwrap_or_default();
        if listeners != self.listeners || self.beats.is_multiple_of(SLOW) {
            self.services = look::services(&self.world).await?;
            self.listeners = listeners;
        }
        let chosen = self.services.iter().filter(|service| is_chosen(service, settings));
        let names: BTreeSet<ServiceName> = chosen.map(|service| service.name.clone()).collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let known = Known::read(&self.world)?;
        let (book, of) = (Book::of(&self.services), names.clone());
        let count = tokio::task::spawn_blocking(move || observe::count(&book, &of)).await;
        let count = count.map_err(|error| error.to_string()).and_then(|count| count.map_err(|why| why.to_string()));
        if let Err(cause) = &count {
            self.complain(&format!("protected sessions cannot be counted: {cause}"));
        }
        let of = |name: ServiceName| {
            let list = count.as_ref().ok().and_then(|count| count.seen.get(&name));
            let oldest = list.into_iter().flatten().map(|one| one.age.at_least()).max().unwrap_or(Span::ZERO);
            let held = known.holds_of(&name).next().is_some();
            let sessions = list.map(|list| list.len() as u64);
            (name, Seen { sessions, oldest, held })
        };
        Ok(names.into_iter().map(of).collect())
    }

    /// Makes files and inhibitor what is remembered.
    async fn stand(&mut self, settings: &ProtectSettings) -> Result<(), Why> {
        let names: Vec<ServiceName> = protect::protected(&self.memories).map(|(name, _)| name.clone()).collect();
        let mut wanted = Refused::default();
        if !names.is_empty() && settings.shutdown == AtShutdown::Refuse {
            wanted.end = Some(protect::lasting_text(&names));
        }
        if settings.units {
            for name in &names {
                let text = protect::lasting_text(std::slice::from_ref(name));
                for unit in self.stops_of(name).await {
                    wanted.stops.insert(unit, text.clone());
                }
            }
        }
        let world = Arc::clone(&self.world);
        let mut standing = world.standing.0.lock().await;
        // Looked at once more: whoever has just lifted it means now.
        if Override::read(&self.world).is_some() {
            wanted = Refused::default();
        }
        wanted.stops.retain(|unit, _| !standing.aside.contains(unit));
        // Whoever works on the server may reboot it: sessions are left only where it was said that they may be.
        let at_work = !names.is_empty() && crate::maintenance::is_at_work(&self.world);
        let at = if at_work { AtShutdown::Allow } else { settings.shutdown };
        wanted.end = wanted.end.filter(|_| !at_work);
        let done = put(&self.world, &wanted).await;
        self.inhibit(&mut standing, at, &names).await;
        done
    }

    /// The units of a service, and those whose stop would stop them.
    async fn stops_of(&mut self, name: &ServiceName) -> Vec<UnitName> {
        let service = self.services.iter().find(|service| service.name == *name);
        let own: Vec<UnitName> = service.into_iter().flat_map(units).collect();
        let mut all = own.clone();
        for unit in own {
            if !self.above.contains_key(&unit)
                && let Some(systemd) = &self.world.systemd
                && let Ok(seen) = systemd.unit(&unit).await
            {
                let above = seen.part_of.into_iter().chain(seen.requires);
                self.above.insert(unit.clone(), above.filter(|unit| unit.kind() == UnitKind::Service).collect());
            }
            all.extend(self.above.get(&unit).into_iter().flatten().cloned());
        }
        all
    }

    async fn inhibit(&mut self, held: &mut Held, at: AtShutdown, names: &[ServiceName]) {
        let mode = match at {
            AtShutdown::Allow => None,
            AtShutdown::Delay => Some(InhibitMode::Delay),
            AtShutdown::Refuse => Some(InhibitMode::Block),
        };
        let lifted = Override::read(&self.world).is_some();
        let Some(mode) = mode.filter(|_| !names.is_empty() && !lifted) else {
            held.inhibitor = None;
            return;
        };
        let text = protect::now_text(&self.memories, self.world.now().mono);
        let fresh = held
            .inhibitor
            .as_ref()
            .is_some_and(|words| words.names == names && (words.text == text || words.at.elapsed() < WORDS));
        let Some(systemd) = self.world.systemd.as_ref().filter(|_| !fresh) else { return };
        match systemd.inhibit_shutdown("ebb", &text, mode).await {
            // The old one goes when the new one is there.
            Ok(inhibitor) => {
                held.inhibitor = Some(Words { _inhibitor: inhibitor, text, names: names.to_vec(), at: Instant::now() });
            }
            Err(error) => {
                let cause = chain(&error);
                self.complain(&format!("logind is not asked to hold back a shutdown: {cause}"));
            }
        }
    }

    /// Each trouble once.
    fn complain(&mut self, text: &str) {
        if self.said.insert(text.to_owned()) {
            self.world.complain(text);
        }
    }
}

async fn put(world: &World, wanted: &Refused) -> Result<(), Why> {
    let failed = |error: ebb_systemd::Error| Why::Unwritten { what: "the protection".into(), cause: chain(&error) };
    let Some(systemd) = &world.systemd else { return Ok(()) };
    if Protection::system("ebb").converge(wanted).map_err(failed)? {
        systemd.reload_daemon().await.map_err(failed)?;
    }
    Ok(())
}

fn is_chosen(service: &Service, settings: &ProtectSettings) -> bool {
    let name = service.name.as_str();
    settings.services.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern || service.aliases.contains(pattern),
    })
}

/// The units of a service that run and hold its sessions.
fn units(service: &Service) -> impl Iterator<Item = UnitName> {
    let units = match &service.origin {
        Origin::Units { units, .. } => units.as_slice(),
        Origin::Trees(_) => &[],
    };
    units.iter().filter(|unit| unit.up == Up::Running).filter_map(|unit| UnitName::new(&unit.name).ok())
}

/// ebb itself is going to stop these: they are not protected until [`stand_back`].
pub(crate) async fn stand_aside(world: &World, stopped: &[Stopped]) -> Result<(), Why> {
    let failed = |error: ebb_systemd::Error| Why::Unwritten { what: "the protection".into(), cause: chain(&error) };
    let Some(systemd) = &world.systemd else { return Ok(()) };
    let mut standing = world.standing.0.lock().await;
    let mut reload = false;
    for unit in of(stopped) {
        reload |= Protection::system("ebb").take(&unit).map_err(failed)?;
        standing.aside.insert(unit);
    }
    if reload {
        systemd.reload_daemon().await.map_err(failed)?;
    }
    Ok(())
}

/// They are stopped, or were not: if sessions live there, the next look protects them again.
pub(crate) async fn stand_back(world: &World, stopped: &[Stopped]) {
    let mut standing = world.standing.0.lock().await;
    for unit in of(stopped) {
        standing.aside.remove(&unit);
    }
}

fn of(stopped: &[Stopped]) -> impl Iterator<Item = UnitName> {
    stopped.iter().filter_map(|one| match one {
        Stopped::Unit(unit) => UnitName::new(unit).ok(),
        Stopped::Tree(_) => None,
    })
}

/// The agent ends in order: nobody looks after it any more, so nothing is refused.
pub(crate) async fn withdraw(world: &World) -> Result<(), Why> {
    let mut standing = world.standing.0.lock().await;
    standing.inhibitor = None;
    put(world, &Refused::default()).await
}

/// Lifts it at once, for a while or until the next boot.
pub(crate) async fn lift(world: &World, by: &str, reason: &str, length: Option<Span>) -> Result<Event, Why> {
    let now = world.now();
    let until = length.map(|length| now.mono + length);
    let lifted = Override { boot_id: world.boot_id.clone(), until, by: by.to_owned(), reason: reason.to_owned() };
    world.store().make().map_err(|error| crate::world::unread(&error))?;
    let path = Override::path(world);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(&path, lifted.text()))
        .map_err(|error| Why::Unwritten { what: "the override".into(), cause: error.to_string() })?;
    withdraw(world).await?;
    let event = about_server(world, EventKind::ProtectionLifted, lifted.told(now.mono));
    Ok(event.with("by", by).with("reason", reason))
}

/// Takes an override back; none if there was none.
pub(crate) fn restore(world: &World, by: &str) -> Result<Option<Event>, Why> {
    let there = Override::read(world).is_some();
    match std::fs::remove_file(Override::path(world)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Why::Unwritten { what: "the override".into(), cause: error.to_string() })
        }
        _ => Ok(there.then(|| {
            let text = format!("sessions are protected again, as {by} wishes");
            about_server(world, EventKind::ProtectionRestored, text).with("by", by)
        })),
    }
}

fn restored(world: &World, why: &str) {
    let text = format!("sessions are protected again: {why}");
    world.record(&about_server(world, EventKind::ProtectionRestored, text), None);
    let _ = std::fs::remove_file(Override::path(world));
}

fn about_server(world: &World, kind: EventKind, text: String) -> Event {
    Event { at: world.now().wall, kind, service: None, text, fields: Vec::new() }
}

/// What stands now, in a sentence; none if nothing does.
pub(crate) fn told(world: &World) -> Option<String> {
    if let Some(lifted) = Override::read(world).filter(|_| !settings(world).services.is_empty()) {
        return Some(lifted.told(world.now().mono));
    }
    let there = world.systemd.as_ref().and_then(|_| Protection::system("ebb").all().ok())?;
    let (ends, units): (Vec<_>, Vec<_>) = there.into_iter().partition(Protection::is_end);
    let units: Vec<String> = units.iter().map(ToString::to_string).collect();
    let mut parts = Vec::new();
    if !units.is_empty() {
        parts.push(format!("stops of {} by others are refused", units.join(", ")));
    }
    if !ends.is_empty() {
        parts.push("reboot, poweroff and halt are refused".to_owned());
    }
    (!parts.is_empty())
        .then(|| format!("while sessions live, {}; override: ebb protect off --reason TEXT", parts.join(", and ")))
}

/// What is left of an agent that was killed and has no successor.
pub(crate) fn orphaned(world: &World) -> Option<String> {
    told(world).filter(|_| !world.resident && Override::read(world).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_read_back() {
        for until in [None, Some(Mono(5))] {
            let lifted = Override { boot_id: "b".into(), until, by: "ana".into(), reason: "a = b, new kernel".into() };
            assert_eq!(Override::parse(&lifted.text()), Some(lifted));
        }
        assert_eq!(Override::parse("boot=b\nuntil=soon\nby=x\nreason=y\n"), None);
        assert_eq!(Override::parse(""), None);
    }
}
