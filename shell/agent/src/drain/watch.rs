//! The one loop: look, step, perform, publish, until every drain is over or the viewer has left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ebb_decide::drain::Input;
use ebb_kernel::closings::{Closings, Drained};
use ebb_kernel::{gate, netstat};
use ebb_link::Reply;
use ebb_model::{
    DrainSpec, Event, EventKind, Hold, Mono, Origin, Queue, Service, ServiceName, SessionId, Span, Up, Why,
};
use ebb_systemd::{Change, Changes, UnitName};
use ebb_wire::v1::Frame;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::admit::Along;
use super::ending::Turn;
use super::tracked::Tracked;
use super::views::View;
use crate::observe::{self, Book};
use crate::sources::{Readable, gate_altered, listening, readable};
use crate::verbs::hold::{placed as placed_frame, tell};
use crate::world::{TABLE, World, unread};
use crate::{behind, converge, daemons, look};

/// How often listeners, gate and processes are looked at, and progress is said at least.
const BEAT: Span = Span::seconds(1);
/// Progress is said at most this often: closings may come by the thousand.
const SAY: Span = Span(200);
/// Batches of closings that may wait: a dump of a large table takes a second, closings come at 50,000/s.
pub(crate) const AHEAD: usize = 4096;

/// What comes in from outside the loop.
pub(crate) enum Outside {
    /// The kernel told that these are gone.
    Closed(Vec<SessionId>),
    /// Closings were lost: only a whole census can tell.
    ClosingsLost,
    /// Something that was started for a service has ended.
    Done(usize, Input),
    /// It was asked for again, with this hold and in this way.
    Again(Box<(Hold, DrainSpec, Along)>),
    /// The gate was taken away by somebody, and put back by the keeper.
    GateLost,
    /// The turn of some sessions has come, in an ending that is spread out.
    Turn(Turn),
}

pub(crate) struct Watch<'a> {
    pub(crate) world: &'a Arc<World>,
    pub(crate) reply: &'a Reply,
    pub(crate) tracked: Vec<Tracked>,
    pub(crate) services: Vec<Service>,
    pub(crate) book: Book,
    pub(crate) outside: mpsc::Sender<Outside>,
    inbox: mpsc::Receiver<Outside>,
    /// Drained, and to be stopped.
    pub(crate) stops_waiting: BTreeSet<usize>,
    census_wanted: bool,
    listeners: BTreeSet<u32>,
    /// Answers to SYN cookies, as read at the last two censuses.
    cookies: [u64; 2],
    /// Connections that full queues turned away, as read at the last census.
    turned_away: u64,
    /// When progress was said last.
    said: Mono,
    beat: Mono,
}

impl<'a> Watch<'a> {
    /// `ways`: to its inbox, and that.
    pub(crate) fn new(
        world: &'a Arc<World>,
        services: Vec<Service>,
        tracked: Vec<Tracked>,
        reply: &'a Reply,
        ways: (mpsc::Sender<Outside>, mpsc::Receiver<Outside>),
    ) -> Self {
        let (outside, inbox) = ways;
        let mut watch = Self {
            world,
            reply,
            tracked,
            book: Book::default(),
            services,
            outside,
            inbox,
            stops_waiting: BTreeSet::new(),
            census_wanted: false,
            // Looked at anew at the first beat: a door may have opened since the services were looked at.
            listeners: BTreeSet::new(),
            cookies: [cookies().1; 2],
            turned_away: turned_away(),
            said: Mono(0),
            beat: world.now().mono,
        };
        watch.rebook();
        watch
    }

    /// Rewrites the book of doors from the services and what is remembered of the held ones.
    pub(crate) fn rebook(&mut self) {
        self.book = Book::of(&self.services);
        for one in &self.tracked {
            self.book.except(&one.service.name, one.hold.except.iter().copied());
        }
    }

    pub(crate) async fn run(mut self) {
        let closings = self.follow_closings();
        // Of a resident agent the keeper watches the gate, for all that is held.
        let mut gate_watch = if self.world.resident { None } else { gate::Watch::open(TABLE).ok().and_then(readable) };
        let mut changes = self.world.systemd.as_ref().map(ebb_systemd::Systemd::changes);
        for one in &mut self.tracked {
            one.view = daemons::of(self.world, &one.service).map(View::of);
        }
        for index in 0..self.tracked.len() {
            let first = self.tracked[index].drain.begin();
            self.perform_all(index, first).await;
        }
        self.take_census().await;
        while self.tracked.iter().any(|one| !one.drain.is_over()) {
            let pause = self.until_next();
            tokio::select! {
                outside = self.inbox.recv() => self.take_outside(outside).await,
                altered = gate_altered(gate_watch.as_mut()) => self.gate_altered(altered).await,
                change = next_change(changes.as_mut()) => self.unit_changed(change).await,
                () = tokio::time::sleep(pause) => {}
                () = self.reply.gone() => break,
            }
            self.tick().await;
            self.take_census().await;
            self.stop_those_ready().await;
        }
        for task in closings {
            task.abort();
        }
        self.leave();
    }

    fn until_next(&self) -> Duration {
        let now = self.world.now().mono;
        let wakeups = self.tracked.iter().filter_map(|one| one.drain.wakeup()).map(|wakeup| wakeup.at);
        let at = wakeups.chain([self.beat + BEAT]).min().unwrap_or(now);
        // Not in a tight loop, even if a wake-up lies in the past for a moment.
        Duration::from(at.since(now)).max(Duration::from_millis(5))
    }

    /// Reads the kernel's closing events in tasks of their own, so that a long dump loses none.
    fn follow_closings(&self) -> Vec<tokio::task::JoinHandle<()>> {
        let names: BTreeSet<ServiceName> = self.tracked.iter().map(|one| one.service.name.clone()).collect();
        let ports: BTreeSet<u16> = self.book.ports(&names).into_iter().collect();
        let there = behind::closings(self.book.doors(&names));
        let all = Closings::open().into_iter().chain(there).filter_map(readable);
        all.map(|closings| tokio::spawn(read_closings(closings, ports.clone(), self.outside.clone()))).collect()
    }

    async fn take_outside(&mut self, outside: Option<Outside>) {
        let mut next = outside;
        let mut closed = Vec::new();
        while let Some(outside) = next {
            match outside {
                Outside::Closed(ids) => closed.extend(ids),
                Outside::ClosingsLost => self.census_wanted = true,
                Outside::Done(index, input) => self.step(index, input).await,
                Outside::Again(again) => self.again(*again).await,
                Outside::GateLost => {
                    self.tracked.iter_mut().for_each(|one| one.gates_lost += 1);
                    self.census_wanted = true;
                }
                Outside::Turn(turn) => {
                    let may = self.turn(&turn);
                    let _ = turn.answer.send(may);
                    self.census_wanted |= may;
                }
            }
            next = self.inbox.try_recv().ok();
        }
        if !closed.is_empty() {
            for index in 0..self.tracked.len() {
                self.step(index, Input::Closed(closed.clone())).await;
            }
        }
    }

    /// Gives one input to one drain, and does what it asks for, and what that leads to.
    pub(crate) async fn step(&mut self, index: usize, input: Input) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            let now = self.world.now().mono;
            for action in self.tracked[index].drain.step(input, now) {
                queue.extend(self.perform(index, action).await);
            }
            now_or_later(&mut queue, self.tracked[index].drain.is_over());
        }
    }

    async fn perform_all(&mut self, index: usize, actions: Vec<ebb_decide::drain::Action>) {
        for action in actions {
            for input in self.perform(index, action).await {
                self.step(index, input).await;
            }
        }
    }

    pub(crate) const fn want_census(&mut self) {
        self.census_wanted = true;
    }

    /// One walk over the kernel's sockets for all services that wait for it.
    async fn take_census(&mut self) {
        // Bounded: a census leads to another only when sessions were ended in between.
        for _ in 0..3 {
            if !std::mem::take(&mut self.census_wanted) {
                return;
            }
            self.look_for_releases().await;
            self.look_at_views().await;
            let active: BTreeMap<ServiceName, usize> = self
                .tracked
                .iter()
                .enumerate()
                .filter(|(_, one)| !one.drain.is_over())
                .map(|(index, one)| (one.service.name.clone(), index))
                .collect();
            for (name, input) in self.count(active.keys().cloned().collect()).await {
                if let Some(index) = active.get(&name) {
                    self.step(*index, input).await;
                }
            }
        }
    }

    /// Says which daemons are not read any more, or are again. The first census waits for their first answers.
    async fn look_at_views(&mut self) {
        for index in 0..self.tracked.len() {
            let one = &mut self.tracked[index];
            let Some(view) = one.view.as_mut().filter(|_| !one.drain.is_over()) else { continue };
            if one.drain.ledger().baseline().is_none() {
                view.ready().await;
            }
            if let Some(text) = view.news(one.service.name.as_str()) {
                let note = crate::say::note(Some(one.service.name.as_str()), true, text);
                self.say(note).await;
            }
        }
    }

    /// Counts the sessions of these services; each gets its input.
    pub(crate) async fn count(&mut self, names: BTreeSet<ServiceName>) -> Vec<(ServiceName, Input)> {
        let (book, of) = (self.book.clone(), names.clone());
        let counted = tokio::task::spawn_blocking(move || observe::count(&book, &of))
            .await
            .unwrap_or_else(|error| Err(Why::Unread { what: "the sessions".into(), cause: error.to_string() }));
        // Read after the dump, and compared with the last but one: a connection and its count are never seen
        // further apart than that.
        let answered = cookies().1;
        let fresh = answered > self.cookies[0];
        self.cookies = [self.cookies[1], answered];
        let turned_away = turned_away();
        let mut inputs: Vec<(ServiceName, Input)> = Vec::new();
        if std::mem::replace(&mut self.turned_away, turned_away) < turned_away {
            inputs.extend(names.iter().map(|name| (name.clone(), Input::TurnedAway)));
        }
        match counted {
            Ok(count) => inputs.extend(count.seen.into_iter().map(|(name, mut seen)| {
                let one = self.tracked.iter_mut().find(|one| one.service.name == name);
                if let Some(view) = one.and_then(|one| one.view.as_mut()) {
                    view.complete(&mut seen);
                }
                (name, Input::Census { seen, cost: count.cost, cookies: fresh })
            })),
            Err(why) => inputs.extend(names.into_iter().map(|name| (name, Input::CensusFailed(why.clone())))),
        }
        inputs
    }

    /// Another requester wishes the same: its hold stands beside the drain's own, and outlives that.
    async fn hold_too(&mut self, index: usize, hold: &Hold) {
        let (service, own) = (self.tracked[index].service.clone(), self.tracked[index].hold.requester.clone());
        let placed = self.world.lock().and_then(|_lock| {
            self.world.store().place(hold, &self.tracked[index].record).map_err(|error| unread(&error))?;
            converge::converge(self.world, &self.services)
        });
        if let Err(why) = placed {
            let frame = crate::say::refusal(Some(service.name.as_str()), &why);
            return self.say(frame).await;
        }
        self.say(placed_frame(self.world, hold, &service)).await;
        let text = format!(
            "`{own}` drains {} already: its deadline and stop are theirs, your hold stands beside",
            service.name
        );
        self.say(crate::say::note(Some(service.name.as_str()), true, text)).await;
    }

    /// The same drain in another way: another deadline, stop or exceptions.
    async fn again(&mut self, (hold, mut spec, along): (Hold, DrainSpec, Along)) {
        let service = hold.service.clone();
        let Some(index) = self.tracked.iter().position(|one| one.service.name == service && !one.drain.is_over())
        else {
            return;
        };
        if hold.requester != self.tracked[index].hold.requester {
            return self.hold_too(index, &hold).await;
        }
        let one = &mut self.tracked[index];
        let queue = one.drain.spec().queue.clone();
        // Who does not speak of the queue leaves it as it was asked.
        if spec.queue == Queue::Leave {
            spec.queue = queue.clone();
        }
        if one.hold == hold && *one.drain.spec() == spec {
            return;
        }
        let other_queue = spec.queue != queue;
        (one.along, one.after) = (along.units, along.services);
        one.drain.respec(spec.clone(), self.world.now().mono);
        one.wish += 1;
        one.hold = hold;
        if let Some(drain) = &mut one.record.drain {
            (drain.deadline, drain.spec) = (one.drain.deadline_at(), Some(spec));
        }
        let placed = self.world.lock().and_then(|_lock| {
            // What was released meanwhile is not held again.
            if let Some(why) = self.released(index) {
                return Err(why);
            }
            let one = &self.tracked[index];
            self.world.store().place(&one.hold, &one.record).map_err(|error| unread(&error))?;
            converge::converge(self.world, &self.services)
        });
        if let Err(why @ Why::Released { .. }) = placed {
            return self.step(index, Input::Released(why)).await;
        }
        if let Err(why) = placed {
            let text = format!("asked for anew, but that could not be written: {why}");
            self.say(crate::say::note(Some(service.as_str()), true, text)).await;
        }
        if other_queue {
            self.queue(index).await;
        }
        self.rebook();
    }

    async fn tick(&mut self) {
        let now = self.world.now().mono;
        for index in 0..self.tracked.len() {
            if self.tracked[index].drain.wakeup().is_some_and(|wakeup| wakeup.at <= now) {
                self.step(index, Input::Tick).await;
            }
        }
        if now >= self.beat + BEAT {
            self.beat = now;
            self.look_around().await;
        }
        let now = self.world.now();
        if now.mono.since(self.said) < SAY {
            return;
        }
        self.said = now.mono;
        for one in self.tracked.iter_mut().filter(|one| !one.drain.is_over()) {
            let left = one.drain.tally().left;
            one.foreseen.look(self.world, &one.service.name, left, one.drain.deadline_at(), now);
            self.reply.offer(Frame::Progress(one.progress(now)));
        }
    }

    /// Somebody may release a hold while its drain is under way; then there is nothing to wait for, and whoever comes
    /// in is no leak.
    async fn look_for_releases(&mut self) {
        for index in 0..self.tracked.len() {
            if !self.tracked[index].drain.is_over()
                && let Some(why) = self.released(index)
            {
                self.step(index, Input::Released(why)).await;
            }
        }
    }

    /// Why a drain has no hold any more; none if it has, or if that could not be read.
    pub(crate) fn released(&self, index: usize) -> Option<Why> {
        let hold = &self.tracked[index].hold;
        let holds = self.world.store().holds().ok()?;
        // That very one: another may have been placed since.
        let stands = holds.iter().any(|one| one.is(hold) && one.since == hold.since);
        (!stands).then(|| Why::Released { service: hold.service.clone(), requester: hold.requester.clone() })
    }

    /// Once a second: new doors, a gate that is not whole, processes that ended.
    async fn look_around(&mut self) {
        self.look_for_releases().await;
        if let Ok(listeners) = listening()
            && listeners != self.listeners
        {
            // If they could not be looked at, they are looked at again.
            if self.look_for_doors().await {
                self.listeners = listeners;
            }
        }
        if let Ok(seen) = converge::seen(self.world) {
            let whole = self.tracked.iter().filter(|one| !one.drain.is_over()).all(|one| seen.holds(&one.record.doors));
            for one in &mut self.tracked {
                one.refused.counted(seen.refused(&one.record.doors));
            }
            if !whole && !self.world.resident {
                self.restore_gate("it was not whole").await;
            }
        }
        for index in 0..self.tracked.len() {
            if let Origin::Trees(trees) = &self.tracked[index].service.origin
                && !trees.iter().any(|tree| look::is_alive(tree.root, tree.started_ticks))
            {
                self.look_for_successor(index).await;
            }
        }
    }

    /// The processes of a service without a unit have all ended: others may have taken over (a restart, an upgrade of
    /// the program, workers that outlive their parent).
    async fn look_for_successor(&mut self, index: usize) {
        let Ok(services) = look::services(self.world).await else { return };
        let one = &mut self.tracked[index];
        let found = services.iter().find(|service| service.name == one.service.name);
        let living = found.and_then(|service| match &service.origin {
            Origin::Trees(trees) if trees.iter().any(|tree| look::is_alive(tree.root, tree.started_ticks)) => {
                Some(trees)
            }
            _ => None,
        });
        let Some(trees) = living else {
            let seen = "its process has ended".to_owned();
            return self.step(index, Input::Up(Up::Stopped, seen)).await;
        };
        one.record.trees.clone_from(trees);
        one.service.origin = Origin::Trees(trees.clone());
        let _ = self.world.store().remember(&one.record);
        let service = one.service.clone();
        let text = format!("{} runs on as process {}; it is still held", service.name, trees[0].root);
        let event = Event::new(self.world.now().wall, EventKind::ServiceRestartedElsewhere, &service.name, text);
        self.say(tell(self.world, &service, &event)).await;
        self.census_wanted = true;
    }

    /// A service opened another door, or was restarted: every door that is there now is held too.
    async fn look_for_doors(&mut self) -> bool {
        let Ok(services) = look::services(self.world).await else { return false };
        self.services = services;
        for index in 0..self.tracked.len() {
            let one = &mut self.tracked[index];
            if one.drain.is_over() {
                continue;
            }
            let Some(found) = self.services.iter().find(|service| service.name == one.service.name) else { continue };
            let new: Vec<_> = found.doors.difference(&one.record.doors).copied().collect();
            one.service.cgroups.extend(&found.cgroups);
            if new.is_empty() {
                continue;
            }
            one.service.doors.extend(&new);
            one.record.doors.extend(&new);
            one.record.added.extend(&new);
            let (record, service) = (one.record.clone(), one.service.clone());
            let kept = self.world.store().remember(&record);
            if kept.is_err() || converge::converge(self.world, &self.services).is_err() {
                continue;
            }
            let doors: Vec<_> = new.iter().map(ToString::to_string).collect();
            let text = format!("{} opened {}, which is shut now too", service.name, doors.join(", "));
            let event = Event::new(self.world.now().wall, EventKind::DoorAdded, &service.name, text);
            self.say(tell(self.world, &service, &event)).await;
            let proofs = self.prove_doors(index, &new.into_iter().collect()).await;
            self.step(index, Input::ProvedAlso(proofs)).await;
            self.census_wanted = true;
        }
        self.rebook();
        true
    }

    async fn gate_altered(&mut self, by: Option<String>) {
        self.look_for_releases().await;
        // Another ebb's change leaves our doors shut: two that each undid what the other sees differently
        // would never end.
        let whole = converge::seen(self.world).is_ok_and(|seen| {
            self.tracked.iter().filter(|one| !one.drain.is_over()).all(|one| seen.holds(&one.record.doors))
        });
        if let Some(by) = by.filter(|_| !whole) {
            self.restore_gate(&by).await;
        }
    }

    /// Puts the gate back, if it is not what the holds ask for.
    async fn restore_gate(&mut self, by: &str) {
        match converge::converge(self.world, &self.services) {
            Ok(converged) if converged.changed => {
                for index in 0..self.tracked.len() {
                    self.tracked[index].gates_lost += 1;
                    let service = self.tracked[index].service.clone();
                    let lost = format!("the gate of {} was removed or changed: {by}", service.name);
                    let now = self.world.now().wall;
                    self.say(tell(
                        self.world,
                        &service,
                        &Event::new(now, EventKind::GateLost, &service.name, lost).with("by", by),
                    ))
                    .await;
                    let back = format!("the gate of {} was put back", service.name);
                    self.say(tell(
                        self.world,
                        &service,
                        &Event::new(now, EventKind::GateRestored, &service.name, back),
                    ))
                    .await;
                }
                self.census_wanted = true;
            }
            Ok(_) => {}
            Err(why) => {
                self.say(crate::say::note(None, true, format!("the gate could not be put back: {why}"))).await;
            }
        }
    }

    /// A unit changed. Every edge of a job still shows that job, even the last one of a plain stop: what a unit
    /// has become is known when its job has ended, and is read then.
    async fn unit_changed(&mut self, change: Change) {
        let unit = match change {
            Change::State(edge) if edge.job.is_none() => edge.unit,
            Change::State(edge) if !edge.to.is_up() => return self.goes_down(edge.unit.as_str()),
            Change::JobEnded { unit, .. } => unit,
            Change::Back => return self.reread_units().await,
            Change::State(_) | Change::JobQueued { .. } | Change::Lost | Change::Reloaded => return,
        };
        self.reread(vec![unit]).await;
    }

    /// On its way down, perhaps to come up again: remembered, so that a restart is told from a reload.
    fn goes_down(&mut self, unit: &str) {
        for one in &mut self.tracked {
            if let Some(up) = one.units_up.get_mut(unit) {
                *up = Up::Changing;
            }
        }
    }

    /// The bus was away: what our units have become meanwhile is read anew.
    async fn reread_units(&mut self) {
        let names = self.tracked.iter().flat_map(|one| one.units_up.keys());
        let units = names.filter_map(|name| UnitName::new(name).ok()).collect();
        self.reread(units).await;
    }

    async fn reread(&mut self, units: Vec<UnitName>) {
        let ours: Vec<UnitName> = units
            .into_iter()
            .filter(|unit| self.tracked.iter().any(|one| one.units_up.contains_key(unit.as_str())))
            .collect();
        let Some(systemd) = self.world.systemd.as_ref().filter(|_| !ours.is_empty()) else { return };
        for line in systemd.states(&ours).await.unwrap_or_default() {
            // A job that is queued already will end, and be told.
            if line.job.is_none() {
                self.unit_is(line.name.as_str(), look::up(&line.active), &format!("{} ({})", line.active, line.sub))
                    .await;
            }
        }
    }

    async fn unit_is(&mut self, unit: &str, up: Up, state: &str) {
        for index in 0..self.tracked.len() {
            let one = &mut self.tracked[index];
            let Some(known) = one.units_up.get_mut(unit) else { continue };
            let was = std::mem::replace(known, up);
            let (now, over) = (one.up(), one.drain.is_over());
            one.service.up = now;
            if was != Up::Running && up == Up::Running && !over {
                let service = one.service.clone();
                let text = format!("somebody else started {} again; it is still held", service.name);
                let event =
                    Event::new(self.world.now().wall, EventKind::ServiceRestartedElsewhere, &service.name, text);
                self.say(tell(self.world, &service, &event)).await;
            }
            self.step(index, Input::Up(now, format!("{unit} became {state}"))).await;
        }
    }

    pub(crate) async fn say(&self, frame: Frame) {
        self.reply.send(frame).await;
    }

    /// The viewer has left, or all is over: what goes on without us is said in the history.
    fn leave(&mut self) {
        for one in &mut self.tracked {
            if one.drain.is_over() {
                continue;
            }
            let _ = one.drain.detach();
            if let Some(drain) = &mut one.record.drain {
                drain.watcher = None;
                drain.spec = None;
            }
            let text = format!("nobody watches the drain of {} any more; hold and gate stay", one.service.name);
            let event = Event::new(self.world.now().wall, EventKind::Detached, &one.service.name, text)
                .with("left", one.drain.tally().left);
            let _ = tell(self.world, &one.service, &event);
            let _ = self.world.store().remember(&one.record);
        }
    }
}

/// Once a drain is over, what was still queued for it is of no use.
fn now_or_later(queue: &mut VecDeque<Input>, over: bool) {
    if over {
        queue.clear();
    }
}

async fn read_closings(
    mut closings: AsyncFd<Readable<Closings>>,
    ports: BTreeSet<u16>,
    outside: mpsc::Sender<Outside>,
) {
    loop {
        let Ok(mut ready) = closings.readable_mut().await else { return };
        let mut ids = Vec::new();
        let read = ready.get_inner_mut().0.try_drain(&mut |closed| {
            if ports.contains(&closed.local.port()) {
                ids.push(SessionId(closed.cookie));
            }
        });
        ready.clear_ready();
        if !ids.is_empty() && outside.send(Outside::Closed(ids)).await.is_err() {
            return;
        }
        let lost = !matches!(read, Ok(Drained::Whole));
        if lost && outside.send(Outside::ClosingsLost).await.is_err() {
            return;
        }
    }
}

async fn next_change(changes: Option<&mut Changes>) -> Change {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// Connections that were dropped because a listener's queue was full, so far in this network namespace.
fn turned_away() -> u64 {
    netstat::Netstat::read().map_or(0, |counters| counters.listen_overflows)
}

/// SYN cookies sent, and answered, so far in this network namespace.
pub(crate) fn cookies() -> (u64, u64) {
    netstat::Netstat::read().map_or((0, 0), |counters| (counters.syncookies_sent, counters.syncookies_received))
}
