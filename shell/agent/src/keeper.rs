//! Looks after all that is held, for as long as an agent is resident: the gate stays what the holds ask for, whatever
//! others do to it, and doors that a held service opens later are shut too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ebb_kernel::gate;
use ebb_model::{Event, EventKind, Record, Service, ServiceName};
use ebb_systemd::Notify;

use crate::config::Config;
use crate::drain::watch::Outside;
use crate::expiry::Told;
use crate::sources::{gate_altered, listening, readable};
use crate::verbs::services::Known;
use crate::world::{TABLE, World};
use crate::{converge, daemons, drain, lockout, look, maintenance, verbs};

/// Between two looks at gate and listeners; a change of the gate by others is heard of at once.
const BEAT: Duration = Duration::from_secs(1);
/// Beats between two looks at what changes rarely.
const SLOW: u64 = 5;

pub(crate) struct Keeper {
    world: Arc<World>,
    services: Vec<Service>,
    listeners: BTreeSet<u32>,
    /// With which the services were read.
    config: Arc<Config>,
    /// Said already: it is not repeated each second.
    trouble: Option<String>,
    notify: Notify,
    beats: u64,
    told: Told,
    /// Services that were being drained: their doors have not been looked at.
    passed_over: BTreeSet<ServiceName>,
}

impl Keeper {
    pub(crate) fn new(world: &Arc<World>, notify: &Notify) -> Self {
        Self {
            world: Arc::clone(world),
            services: Vec::new(),
            listeners: BTreeSet::new(),
            config: world.config(),
            trouble: None,
            notify: notify.clone(),
            beats: 0,
            told: Told::default(),
            passed_over: BTreeSet::new(),
        }
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        let mut watch = gate::Watch::open(TABLE).ok().and_then(readable);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let by = tokio::select! {
                by = gate_altered(watch.as_mut()) => by,
                _ = beat.tick() => None,
            };
            self.look(by).await;
            self.beats += 1;
            if self.beats.is_multiple_of(SLOW) {
                self.keep_down().await;
                if self.world.config_has_changed() {
                    self.world.read_config_again();
                }
            }
            // Who hangs above is not alive.
            let _ = self.notify.watchdog();
        }
    }

    /// What is held stopped stays down, and drains that were left under way by a process that is gone go on.
    async fn keep_down(&mut self) {
        if let Err(why) = lockout::converge(&self.world, None).await {
            self.complain(&format!("held units cannot be kept from starting: {why}"));
        }
        if let Err(why) = maintenance::adopt(&self.world) {
            self.complain(&format!("a maintenance cannot be gone on with: {why}"));
        }
        if let Err(why) = drain::adopt(&self.world).await {
            self.complain(&format!("drains under way cannot be gone on with: {why}"));
        }
        // A daemon forgets when it is restarted.
        for (service, why) in daemons::converge(&self.world, &self.services, false).await {
            self.complain(&format!("{service} itself could not be told whether to take new work: {why}"));
        }
    }

    async fn look(&mut self, by: Option<String>) {
        let known = match Known::read(&self.world) {
            Ok(known) => known,
            // What was shut stays shut, whatever somebody does to it; the store may come back.
            Err(why) => {
                self.complain(&format!("holds cannot be read: {why}"));
                if let Err(why) = converge::as_before(&self.world) {
                    self.complain(&format!("holds cannot be read, and the gate cannot be kept: {why}"));
                }
                return;
            }
        };
        self.told.look(&self.world, &known);
        self.told.look_at_server(&self.world);
        if known.holds.is_empty() {
            // What another's holds may have shut here is theirs.
            return self.world.forget_gate();
        }
        let config = self.world.config();
        if !Arc::ptr_eq(&config, &self.config) {
            // Other groups make other services.
            self.config = config;
            self.services.clear();
        }
        let listeners = listening().unwrap_or_default();
        let mut added = false;
        if listeners != self.listeners
            || self.services.is_empty()
            || self.beats.is_multiple_of(SLOW) && self.drains_are_over()
        {
            match look::services(&self.world).await {
                Ok(services) => (self.services, self.listeners) = (services, listeners),
                // The gate is kept all the same, from what was known.
                Err(why) => self.complain(&format!("services cannot be read: {why}")),
            }
            added = self.cover_new() | self.add_doors(&known);
        }
        self.keep_gate(&known, by, added).await;
    }

    /// Services that have come since the whole server was held.
    fn cover_new(&mut self) -> bool {
        match verbs::server::cover_new(&self.world, &self.services) {
            Err(why) => {
                self.complain(&format!("services that are new cannot be held with the server: {why}"));
                false
            }
            Ok(added) => {
                for (name, requester) in &added {
                    let text = format!("{name} is new, and is held with the whole server by `{requester}`");
                    self.tell(EventKind::HoldPlaced, name, text, None);
                }
                !added.is_empty()
            }
        }
    }

    /// Whether a drain is over that looked after its doors itself: not before, for a look at all services may be dear.
    fn drains_are_over(&self) -> bool {
        !self.passed_over.is_empty() && {
            let runs = self.world.runs.all();
            self.passed_over.iter().any(|name| !runs.contains_key(name))
        }
    }

    /// The doors that held services have opened since. Those that are being drained look after their own.
    fn add_doors(&mut self, known: &Known) -> bool {
        let runs = self.world.runs.all();
        let mut added = false;
        // Theirs are looked at again once their drains are over.
        let under_way = known.records.iter().filter(|record| runs.contains_key(&record.service));
        self.passed_over = under_way.map(|record| record.service.clone()).collect();
        for record in known.records.iter().filter(|record| !runs.contains_key(&record.service)) {
            let service = self.services.iter().find(|service| service.name == record.service);
            let Some(service) = service.filter(|_| known.holds_of(&record.service).next().is_some()) else { continue };
            let new: Vec<_> = service.doors.difference(&record.doors).copied().collect();
            if new.is_empty() {
                continue;
            }
            let mut record: Record = record.clone();
            record.doors.extend(&new);
            record.added.extend(&new);
            if self.world.store().remember(&record).is_err() {
                continue;
            }
            added = true;
            let doors: Vec<_> = new.iter().map(ToString::to_string).collect();
            let text = format!("{} opened {}, which is shut now too", service.name, doors.join(", "));
            self.tell(EventKind::DoorAdded, &service.name, text, None);
        }
        added
    }

    /// Makes the gate what it must be; says so if it was not and we had not changed what it must be.
    async fn keep_gate(&mut self, known: &Known, by: Option<String>, added: bool) {
        let converged = {
            // With the lock nobody of ours is between the disk and the kernel.
            let lock = self.world.lock();
            lock.and_then(|_lock| converge::converge(&self.world, &self.services))
        };
        match converged {
            Err(why) => self.complain(&format!("the gate cannot be kept: {why}")),
            Ok(converged) if converged.changed && !added => {
                let by = by.unwrap_or_else(|| "it was not whole".to_owned());
                let held: BTreeSet<&ServiceName> = known.holds.iter().map(|hold| &hold.service).collect();
                for name in held {
                    let text = format!("the gate of {name} was removed or changed: {by}");
                    self.tell(EventKind::GateLost, name, text, Some(&by));
                    self.tell(EventKind::GateRestored, name, format!("the gate of {name} was put back"), None);
                }
                for run in self.world.runs.all().into_values() {
                    let _ = run.outside.send(Outside::GateLost).await;
                }
            }
            Ok(_) => self.trouble = None,
        }
    }

    fn tell(&self, kind: EventKind, name: &ServiceName, text: String, by: Option<&str>) {
        let service = self.services.iter().find(|service| service.name == *name);
        let event = Event::new(self.world.now().wall, kind, name, text);
        self.world.record(&by.map_or(event.clone(), |by| event.with("by", by)), service);
    }

    fn complain(&mut self, text: &str) {
        if self.trouble.as_deref() != Some(text) {
            self.world.complain(text);
            self.trouble = Some(text.to_owned());
        }
    }
}
