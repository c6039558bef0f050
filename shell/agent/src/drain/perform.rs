//! Performs what a drain asks for: each action is idempotent, and its end is the drain's next input.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ebb_decide::drain::{Action, Input};
use ebb_kernel::probe::Answer;
use ebb_model::{
    Door, DoorProof, Event, EventKind, How, Origin, Outcome, Proof, ServiceName, Session, SessionId, SessionState,
    Stopped, Up, Wall, Why, duration,
};
use ebb_wire::v1::{Frame, Sort};

use super::stop;
use super::watch::{Outside, Watch, cookies};
use crate::knock::{knock, met, targets};
use crate::observe;
use crate::verbs::hold::{gate_shut, placed, release_one, tell};

use crate::verbs::services::Known;
use crate::verbs::sessions::sort;
use crate::verbs::status::watcher;
use crate::world::{World, unread};
use crate::{converge, daemons, lockout, look, notices, protect, say};

/// Leaks that get an event of their own.
const NAMED_LEAKS: usize = 20;
/// Stragglers that a report names.
const STRAGGLERS: usize = 10;

impl Watch<'_> {
    /// Does one thing for one service; the answer is what the drain must hear of it.
    pub(crate) async fn perform(&mut self, index: usize, action: Action) -> Vec<Input> {
        match action {
            Action::Place => vec![self.place(index).await],
            Action::Shut => {
                let shut = self.shut(index).await;
                let failed =
                    daemons::converge(self.world, std::slice::from_ref(&self.tracked[index].service), false).await;
                for (service, why) in failed {
                    let text = format!("{service} itself takes new work still: {why}");
                    self.say(say::note(Some(service.as_str()), true, text)).await;
                }
                self.queue(index).await;
                if daemons::refuses(self.world, &self.tracked[index].service.name) {
                    let service = &self.tracked[index].service.name;
                    let text = format!("{service} refuses new work itself from now on");
                    self.say(say::note(Some(service.as_str()), false, text)).await;
                }
                vec![shut]
            }
            Action::Prove => vec![Input::Proved(self.prove(index).await)],
            Action::TakeCensus => {
                self.want_census();
                Vec::new()
            }
            Action::KeepBaseline => {
                self.keep_baseline(index);
                Vec::new()
            }
            Action::Leak(ids) => {
                self.leak(index, &ids).await;
                Vec::new()
            }
            Action::Deadline => {
                self.deadline(index).await;
                Vec::new()
            }
            Action::End(how, ids) => {
                self.end(index, how, ids, false).await;
                Vec::new()
            }
            Action::GoodbyeAgain(ids) => {
                if self.tracked[index].view.is_some() {
                    self.end(index, How::Goodbye, ids, true).await;
                }
                Vec::new()
            }
            Action::Confirm => self.confirm(index).await,
            Action::SayDrained(proof) => {
                self.say_drained(index, &proof).await;
                self.left_in_queue(index).await;
                Vec::new()
            }
            Action::Stop => {
                self.stops_waiting.insert(index);
                Vec::new()
            }
            Action::Finish(outcome) => {
                self.finish(index, outcome).await;
                Vec::new()
            }
        }
    }

    async fn place(&mut self, index: usize) -> Input {
        let one = &self.tracked[index];
        let result = self.world.lock().and_then(|_lock| {
            // Somebody may have begun to drain it since we looked.
            let known = Known::read(self.world)?;
            // A hold that was there is not placed again once somebody has released it.
            if !one.placed_now
                && let Some(why) = self.released(index)
            {
                return Err(why);
            }
            match known.record_of(&one.service.name).and_then(watcher).filter(|pid| *pid != self.world.me.pid) {
                Some(pid) => Err(Why::Watched { service: one.service.name.clone(), pid }),
                None => self.world.store().place(&one.hold, &one.record).map_err(|error| unread(&error)),
            }
        });
        if let Err(why) = result {
            // Nothing of ours is there to be undone; what is there is theirs.
            self.tracked[index].placed_now = false;
            return Input::Failed(why);
        }
        self.tracked[index].written = true;
        let one = &self.tracked[index];
        // A hold on the whole server has told of itself.
        let untold = !one.hold.whole_server && self.untold(index, EventKind::HoldPlaced);
        if one.placed_now || untold {
            self.say(placed(self.world, &one.hold, &one.service)).await;
        }
        if self.told_before(index, EventKind::DrainBegan) {
            return Input::Placed;
        }
        let text = format!("drain of {} began", one.service.name);
        let event = Event::new(self.world.now().wall, EventKind::DrainBegan, &one.service.name, text)
            .with("requester", &one.requester);
        self.say(tell(self.world, &one.service, &event)).await;
        notices::users::of_drain(self.world, &self.tracked[index].service, &event);
        Input::Placed
    }

    /// Whether the agent that began this drain has told of it already.
    fn told_before(&self, index: usize, kind: EventKind) -> bool {
        let one = &self.tracked[index];
        one.told_since.is_some_and(|since| told(self.world, &one.service.name, kind, since))
    }

    /// Whether another agent began this drain, and nobody has told of this since the service is held.
    fn untold(&self, index: usize, kind: EventKind) -> bool {
        let one = &self.tracked[index];
        one.told_since.is_some() && !told(self.world, &one.service.name, kind, one.hold.since)
    }

    async fn shut(&self, index: usize) -> Input {
        let cookies = cookies().0 > 0;
        let one = &self.tracked[index];
        let shut = {
            let lock = self.world.lock();
            lock.and_then(|_lock| converge::converge(self.world, &self.services))
        };
        match shut {
            Err(why) => Input::Failed(why),
            Ok(converged) => {
                if converged.changed || self.untold(index, EventKind::GateShut) {
                    self.say(tell(self.world, &one.service, &gate_shut(self.world, &one.service))).await;
                }
                // Cookies may have been sent long ago; that any were since boot says that this server's
                // queues overflow, and costs a grace of seconds.
                Input::Shut { cookies }
            }
        }
    }

    async fn prove(&mut self, index: usize) -> Vec<DoorProof> {
        let proofs = self.prove_doors(index, &self.tracked[index].record.doors.clone()).await;
        let one = &self.tracked[index];
        let refused = proofs.iter().filter(|proof| proof.refused.is_ok()).count();
        if refused == proofs.len() {
            let text = format!("a probe at each door of {} was refused", one.service.name);
            let event = Event::new(self.world.now().wall, EventKind::GateProven, &one.service.name, text)
                .with("doors", refused);
            self.say(tell(self.world, &one.service, &event)).await;
        }
        proofs
    }

    /// Knocks at these doors, which must refuse.
    pub(crate) async fn prove_doors(&mut self, index: usize, doors: &BTreeSet<Door>) -> Vec<DoorProof> {
        let one = &self.tracked[index];
        let excepted = |at: &SocketAddr| one.hold.except.iter().any(|range| range.contains(at.ip()));
        let (mut proofs, mut knocked) = (Vec::new(), BTreeSet::new());
        for door in doors {
            let because = match targets(door) {
                Ok(from_here) if from_here.iter().any(excepted) => "this server's own address is let in by --except",
                Ok(_) => {
                    knocked.insert(*door);
                    continue;
                }
                Err(because) => because,
            };
            proofs
                .push(DoorProof { door: *door, refused: Err(Why::NotProbed { door: *door, because: because.into() }) });
        }
        match knock(&knocked, None).await {
            Err(why) => proofs.extend(knocked.iter().map(|door| DoorProof { door: *door, refused: Err(why.clone()) })),
            Ok(answers) => {
                self.tracked[index].record.own_probes += answers.len() as u64;
                proofs.extend(knocked.iter().map(|door| proof_of(*door, &answers)));
            }
        }
        proofs
    }

    fn keep_baseline(&mut self, index: usize) {
        let one = &mut self.tracked[index];
        if let Some(drain) = &mut one.record.drain {
            drain.at_start = one.drain.tally().at_start;
        }
        let mut store = self.world.store();
        // If the disk is full the drain itself still works; only leaks after a crash cannot be told.
        let _ = store.keep_baseline(&one.record, &one.drain.baseline());
    }

    pub(super) async fn sessions_of(&self, index: usize) -> Vec<Session> {
        let (book, name) = (self.book.clone(), self.tracked[index].service.name.clone());
        let baseline = self.tracked[index].drain.baseline();
        let read = tokio::task::spawn_blocking(move || observe::sessions(&book, &name, Some(&baseline))).await;
        let mut sessions = read.ok().and_then(Result::ok).unwrap_or_default();
        sessions.retain(|session| session.state != SessionState::Orphan);
        // Who was there when the gate was shut is at least as old as that.
        let (baseline, since) = (self.tracked[index].drain.baseline(), self.tracked[index].began.mono);
        for session in sessions.iter_mut().filter(|session| baseline.contains(&session.id)) {
            session.age = session.age.not_younger_than(self.world.now().mono.since(since));
        }
        sessions
    }

    async fn leak(&mut self, index: usize, ids: &[SessionId]) {
        let mut leaked = self.sessions_of(index).await;
        leaked.retain(|session| ids.contains(&session.id));
        let one = &mut self.tracked[index];
        if let Some(drain) = &mut one.record.drain {
            drain.leaks += ids.len() as u64;
        }
        let _ = self.world.store().remember(&one.record);
        let service = one.service.clone();
        one.leaks.extend(leaked.iter().cloned());
        for session in leaked.iter().take(NAMED_LEAKS) {
            let text = format!("{} came in to {} although the gate is shut", session.peer, service.name);
            let event = Event::new(self.world.now().wall, EventKind::LeakSeen, &service.name, text)
                .with("session", session.id)
                .with("peer", session.peer)
                .with("local", session.local);
            self.say(tell(self.world, &service, &event)).await;
        }
    }

    async fn deadline(&self, index: usize) {
        let one = &self.tracked[index];
        let left = one.drain.tally().left;
        let text = format!("the deadline of {} has come, {}", one.service.name, Why::SessionsLeft(left));
        let event =
            Event::new(self.world.now().wall, EventKind::DeadlineReached, &one.service.name, text).with("left", left);
        self.say(tell(self.world, &one.service, &event)).await;
    }

    async fn confirm(&mut self, index: usize) -> Vec<Input> {
        let name = self.tracked[index].service.name.clone();
        let whole = converge::seen(self.world).is_ok_and(|seen| {
            let one = &mut self.tracked[index];
            one.refused.counted(seen.refused(&one.record.doors));
            // While flows are learnt, whoever speaks comes in.
            seen.holds(&one.record.doors) && seen.learning(&one.record.doors).is_none()
        });
        if let Some(view) = &mut self.tracked[index].view {
            view.fresh().await;
        }
        let mut inputs: Vec<Input> = self.count([name].into()).await.into_iter().map(|(_, input)| input).collect();
        inputs.push(Input::Confirmed(whole));
        inputs
    }

    async fn say_drained(&mut self, index: usize, proof: &Proof) {
        let now = self.world.now();
        let one = &mut self.tracked[index];
        if let Some(drain) = &mut one.record.drain {
            drain.drained_at = Some(now.wall);
        }
        one.record.refused_before = one.refused.before;
        let remembered = self.world.store().remember(&one.record);
        if let Err(error) = remembered {
            let text = format!("that it is drained could not be written down: {}", unread(&error));
            self.say(say::note(Some(self.tracked[index].service.name.as_str()), true, text)).await;
        }
        if self.told_before(index, EventKind::Drained) {
            return;
        }
        let one = &self.tracked[index];
        let tally = one.drain.tally();
        let text = format!(
            "{} is drained: no session for {}, {} whole censuses, {} at the start",
            one.service.name,
            duration(proof.empty_for),
            proof.censuses,
            tally.at_start
        );
        let event = Event::new(now.wall, EventKind::Drained, &one.service.name, text)
            .with("at_start", tally.at_start)
            .with("by_themselves", tally.by_themselves)
            .with("by_us", tally.by_us)
            .with("cut", tally.cut)
            .with("refused", one.refused());
        self.say(tell(self.world, &one.service, &event)).await;
    }

    /// Begins the stops that need not wait for another's any more.
    pub(crate) async fn stop_those_ready(&mut self) {
        for index in self.stops_waiting.clone() {
            let after = &self.tracked[index].after;
            let beside = self.tracked.iter().filter(|other| after.contains(&other.service.name));
            if beside.clone().any(|other| !other.drain.is_over()) {
                continue;
            }
            self.stops_waiting.remove(&index);
            match self.may_stop(index).await {
                Ok(()) => self.stop(index),
                Err(why) => self.step(index, Input::Stopped(Err(why))).await,
            }
        }
    }

    /// A stop takes others along, and may have waited for them: whether anybody would be dropped by it is looked at anew.
    async fn may_stop(&mut self, index: usize) -> Result<(), Why> {
        let (service, after) = (self.tracked[index].service.name.clone(), self.tracked[index].after.clone());
        if after.is_empty() {
            return Ok(());
        }
        self.services = look::services(self.world).await?;
        self.rebook();
        let holds = self.world.store().holds().map_err(|error| unread(&error))?;
        let counted = self.count(after.iter().cloned().chain([service.clone()]).collect()).await;
        let empty = |name: &ServiceName| {
            let of = |(counted, input): &(ServiceName, Input)| match input {
                Input::Census { seen, .. } if counted == name => {
                    Some(seen.iter().all(|session| session.state == SessionState::Orphan))
                }
                _ => None,
            };
            counted.iter().find_map(of).unwrap_or(false)
        };
        let runs = |name: &ServiceName| {
            let found = self.services.iter().find(|found| found.name == *name);
            found.is_some_and(|found| matches!(found.up, Up::Running | Up::Changing))
        };
        let held = |name: &ServiceName| holds.iter().any(|hold| hold.service == *name);
        let others: Vec<ServiceName> =
            after.into_iter().filter(|name| runs(name) && !(held(name) && empty(name))).collect();
        match (others.is_empty(), empty(&service)) {
            (true, true) => Ok(()),
            (true, false) => Err(Why::SessionsLeft(self.tracked[index].drain.tally().left.max(1))),
            (false, _) => Err(Why::StopsAlso { service, others }),
        }
    }

    /// Stops the service beside the loop. What is stopped is written down first: a crash in the middle
    /// must not make a resume forget to start it; nor must what was stopped before such a crash be forgotten.
    fn stop(&mut self, index: usize) {
        let one = &mut self.tracked[index];
        let stopped: Vec<Stopped> = match &one.service.origin {
            Origin::Units { units, sockets } => sockets
                .iter()
                .chain(units.iter().map(|unit| &unit.name))
                // What is down is left down, and not started by a resume: an idle service that its socket starts.
                .filter(|unit| !matches!(one.units_up.get(*unit), Some(Up::Stopped | Up::Failed)))
                .map(|unit| Stopped::Unit(unit.clone()))
                .collect(),
            Origin::Trees(trees) => trees.iter().cloned().map(Stopped::Tree).collect(),
        };
        let before = std::mem::take(&mut one.record.stopped);
        let known: BTreeSet<_> = before.iter().cloned().collect();
        let along = one.along.iter().cloned().map(Stopped::Unit);
        let fresh = stopped.iter().cloned().chain(along).filter(|one| !known.contains(one));
        one.record.stopped = before.into_iter().chain(fresh).collect();
        // In the order in which they are started again.
        one.record.stopped.sort_by_key(|stopped| !matches!(stopped, Stopped::Unit(unit) if unit.ends_with(".socket")));
        let remembered = self.world.lock().and_then(|_lock| match self.released(index) {
            Some(why) => Err(why),
            None => self.world.store().remember(&self.tracked[index].record).map_err(|error| unread(&error)),
        });
        let (outside, systemd, reply) = (self.outside.clone(), self.world.systemd.clone(), self.reply.clone());
        let (name, doors) = (self.tracked[index].service.name.clone(), self.tracked[index].record.doors.clone());
        let world = Arc::clone(self.world);
        tokio::spawn(async move {
            let result = match remembered {
                Err(why) => Err(why),
                Ok(()) => {
                    // Before the stop: at no moment can somebody else start it again.
                    if let Err(why) = lockout::converge(&world, None).await {
                        let text = format!("nothing keeps {name} from being started by others: {why}");
                        reply.send(say::note(Some(name.as_str()), true, text)).await;
                    }
                    let aside = protect::stand_aside(&world, &stopped).await;
                    let stop = match aside {
                        Ok(()) => stop::all(systemd.as_ref(), &stopped, &doors).await,
                        Err(why) => Err(why),
                    };
                    protect::stand_back(&world, &stopped).await;
                    stop
                }
            };
            for remark in result.iter().flatten() {
                reply.send(say::note(Some(name.as_str()), true, remark.clone())).await;
            }
            let _ = outside.send(Outside::Done(index, Input::Stopped(result.map(drop)))).await;
        });
    }

    async fn finish(&mut self, index: usize, outcome: Outcome) {
        let now = self.world.now();
        self.undo_if_not_shut(index, &outcome);
        if let Some(event) = self.last_event(index, &outcome) {
            self.say(tell(self.world, &self.tracked[index].service, &event)).await;
        }
        let stragglers = match outcome {
            Outcome::DeadlineReached => {
                let mut sessions = self.sessions_of(index).await;
                sort(&mut sessions, Sort::Age);
                sessions.truncate(STRAGGLERS);
                with_processes(self.tracked[index].service.clone(), sessions).await
            }
            _ => Vec::new(),
        };
        let one = &mut self.tracked[index];
        if let Some(drain) = &mut one.record.drain {
            drain.watcher = None;
            drain.spec = None;
        }
        // What is on disk may be another's.
        if one.written {
            let _ = self.world.store().remember(&one.record);
        }
        let one = &self.tracked[index];
        if one.gates_lost > 0 {
            // Whoever is still there is named as a leak; of those who came and went nobody knows.
            let text = format!(
                "somebody else took the gate away {} times; it was put back at once, but clients may have come and gone meanwhile, and not all refusals are counted",
                one.gates_lost
            );
            self.say(say::note(Some(one.service.name.as_str()), true, text)).await;
        }
        let report = one.report(outcome, now);
        let report = say::report(one.service.name.as_str(), one.requester.as_str(), &report, &stragglers);
        // Before it is said: whoever hears it may ask for the next one.
        self.world.runs.remove(&one.service.name, &self.outside);
        self.say(Frame::Drained(report)).await;
    }

    /// A drain that failed before its gate was shut leaves no hold behind that this command placed.
    fn undo_if_not_shut(&self, index: usize, outcome: &Outcome) {
        let one = &self.tracked[index];
        if matches!(outcome, Outcome::Failed(_)) && one.placed_now && one.drain.ledger().baseline().is_none() {
            // Not there if even that could not be written; nothing to undo then.
            let _ = release_one(self.world, &one.service, &self.services, &one.requester);
        }
    }

    fn last_event(&self, index: usize, outcome: &Outcome) -> Option<Event> {
        let one = &self.tracked[index];
        let name = &one.service.name;
        let now = self.world.now().wall;
        match outcome {
            Outcome::Stopped => {
                Some(Event::new(now, EventKind::ServiceStopped, name, format!("{name} was stopped, drained")))
            }
            Outcome::StopFailed(why) => {
                Some(Event::new(now, EventKind::ServiceStopFailed, name, format!("{name} did not stop: {why}")))
            }
            Outcome::EndedElsewhere(why) => {
                Some(Event::new(now, EventKind::ServiceEndedElsewhere, name, format!("{name}: {why}")))
            }
            Outcome::Drained
            | Outcome::DeadlineReached
            | Outcome::Released(_)
            | Outcome::Failed(_)
            | Outcome::Detached => None,
        }
    }
}

/// Whether the history has such an event of this service since then. What cannot be read is told once more.
pub(super) fn told(world: &World, service: &ServiceName, kind: EventKind, since: Wall) -> bool {
    let last = world.store().last_event_at(Some(service), kind.number());
    last.ok().flatten().is_some_and(|at| at >= since)
}

/// Adds who holds each session. The search through descriptors may block.
async fn with_processes(service: ebb_model::Service, sessions: Vec<Session>) -> Vec<Session> {
    let unnamed = sessions.clone();
    let named = tokio::task::spawn_blocking(move || {
        let mut sessions = sessions;
        observe::add_processes(&mut sessions, &crate::verbs::sessions::pids(&service));
        sessions
    });
    named.await.unwrap_or(unnamed)
}

fn proof_of(door: Door, answers: &[(Door, Answer)]) -> DoorProof {
    let bad = answers.iter().find(|(at, answer)| *at == door && *answer != Answer::Refused);
    let refused = match bad {
        None => Ok(()),
        Some((_, Answer::Accepted)) => Err(Why::ProbeMet { door, met: "accepted".to_owned() }),
        Some((_, answer)) => Err(Why::NotProbed { door, because: met(*answer) }),
    };
    DoorProof { door, refused }
}
