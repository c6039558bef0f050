//! Performs what a drain asks for: each action is idempotent, and its end is the drain's next input.

use ebb_decide::drain::{Action, Input};
use ebb_kernel::probe::Answer;
use ebb_kernel::process;
use ebb_model::{
    DoorProof, Event, EventKind, How, Origin, Outcome, Proof, Proto, Session, SessionId, SessionState, Stopped, Tree,
    Up, Why, duration,
};
use ebb_systemd::{Systemd, UnitName};
use ebb_wire::v1::{Frame, Sort};

use super::watch::{Outside, Watch, cookies};
use crate::observe;
use crate::verbs::end;
use crate::verbs::hold::{gate_shut, placed, release_one, tell};
use crate::verbs::resume::{knock, met};
use crate::verbs::sessions::sort;
use crate::world::{chain, unread};
use crate::{converge, say};

/// A stop is given this long: systemd's own limits (`TimeoutStopSec`, 90 s by default) end it before.
const STOP: std::time::Duration = std::time::Duration::from_secs(900);
/// After its stop, a unit must still be down after this time.
const STAYS_DOWN: std::time::Duration = std::time::Duration::from_millis(300);
/// A process started by hand is given this long after SIGTERM.
const TERM: std::time::Duration = std::time::Duration::from_secs(90);
/// Leaks that get an event of their own.
const NAMED_LEAKS: usize = 20;
/// Stragglers that a report names.
const STRAGGLERS: usize = 10;

impl Watch<'_> {
    /// Does one thing for one service; the answer is what the drain must hear of it.
    pub(crate) async fn perform(&mut self, index: usize, action: Action) -> Vec<Input> {
        match action {
            Action::Place => vec![self.place(index).await],
            Action::Shut => vec![self.shut(index).await],
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
                self.end(index, how, ids).await;
                Vec::new()
            }
            Action::Confirm => self.confirm(index).await,
            Action::SayDrained(proof) => {
                self.say_drained(index, &proof).await;
                Vec::new()
            }
            Action::Stop => {
                self.stop(index);
                Vec::new()
            }
            Action::Finish(outcome) => {
                self.finish(index, outcome).await;
                Vec::new()
            }
        }
    }

    async fn place(&self, index: usize) -> Input {
        let one = &self.tracked[index];
        let result = {
            let lock = self.world.lock();
            lock.and_then(|_lock| self.world.store().place(&one.hold, &one.record).map_err(|error| unread(&error)))
        };
        if let Err(why) = result {
            return Input::Failed(why);
        }
        if one.placed_now {
            self.say(placed(self.world, &one.hold, &one.service)).await;
        }
        let text = format!("drain of {} began", one.service.name);
        let event = Event::new(self.world.now().wall, EventKind::DrainBegan, &one.service.name, text)
            .with("requester", &one.requester);
        self.say(tell(self.world, &one.service, &event)).await;
        Input::Placed
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
                if converged.changed {
                    self.say(tell(self.world, &one.service, &gate_shut(self.world, &one.service))).await;
                }
                // Cookies may have been sent long ago; that any were since boot says that this server's
                // queues overflow, and costs a grace of seconds.
                Input::Shut { cookies }
            }
        }
    }

    async fn prove(&mut self, index: usize) -> Vec<DoorProof> {
        let one = &self.tracked[index];
        let excepted = |ip: std::net::IpAddr| one.hold.except.iter().any(|range| range.contains(ip));
        let (mut proofs, mut knocked) = (Vec::new(), std::collections::BTreeSet::new());
        for door in &one.record.doors {
            let not_probed = |because: &str| DoorProof {
                door: *door,
                refused: Err(Why::NotProbed { door: *door, because: because.to_owned() }),
            };
            let from_here = crate::verbs::resume::targets(door);
            if door.proto != Proto::Tcp {
                proofs.push(not_probed("a UDP door gives no answer by itself"));
            } else if from_here.iter().any(|at| excepted(at.ip())) {
                proofs.push(not_probed("this server's own address is let in by --except"));
            } else {
                knocked.insert(*door);
            }
        }
        match knock(&knocked, None).await {
            Err(why) => proofs.extend(knocked.iter().map(|door| DoorProof { door: *door, refused: Err(why.clone()) })),
            Ok(answers) => {
                self.tracked[index].record.own_probes += answers.len() as u64;
                proofs.extend(knocked.iter().map(|door| proof_of(*door, &answers)));
            }
        }
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

    fn keep_baseline(&mut self, index: usize) {
        let one = &mut self.tracked[index];
        if let Some(drain) = &mut one.record.drain {
            drain.at_start = one.drain.tally().at_start;
        }
        let mut store = self.world.store();
        // If the disk is full the drain itself still works; only leaks after a crash cannot be told.
        let _ = store.keep_baseline(&one.service.name, &one.drain.baseline());
        let _ = store.remember(&one.record);
    }

    async fn sessions_of(&self, index: usize) -> Vec<Session> {
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

    /// Ends sessions beside the loop: a hundred thousand take seconds.
    async fn end(&self, index: usize, how: How, ids: Vec<SessionId>) {
        let one = &self.tracked[index];
        let ids: std::collections::BTreeSet<SessionId> = ids.into_iter().collect();
        let mut sessions = self.sessions_of(index).await;
        sessions.retain(|session| ids.contains(&session.id));
        let (service, outside, world) = (one.service.clone(), self.outside.clone(), self.world.clone());
        let reply = self.reply.clone();
        let verb = if how == How::Goodbye { "told goodbye" } else { "destroyed" };
        tokio::spawn(async move {
            let came = end::end(&service, sessions, how)
                .await
                .unwrap_or_else(|why| end::Came { why: Some(why), ..end::Came::default() });
            let count = came.goodbyes + came.cut;
            let mut text = format!("{count} sessions of {} were {verb}", service.name);
            if let Some(why) = &came.why {
                text = format!("{text}; {} were not: {why}", came.failed);
            }
            let event = Event::new(world.now().wall, EventKind::SessionsEnded, &service.name, text)
                .with("how", verb)
                .with("count", count);
            reply.send(tell(&world, &service, &event)).await;
            // The loop may be over by now; then nobody needs to know.
            let _ = outside.send(Outside::Done(index, Input::WereGone(came.gone))).await;
        });
    }

    async fn confirm(&mut self, index: usize) -> Vec<Input> {
        let name = self.tracked[index].service.name.clone();
        let whole = converge::seen(self.world).is_ok_and(|seen| {
            let one = &mut self.tracked[index];
            one.refused.counted(seen.refused(&one.record.doors));
            // While flows are learnt, whoever speaks comes in.
            seen.holds(&one.record.doors) && seen.learning(&one.record.doors).is_none()
        });
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
        let _ = self.world.store().remember(&one.record);
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
        let known: std::collections::BTreeSet<_> = before.iter().cloned().collect();
        one.record.stopped =
            before.into_iter().chain(stopped.iter().filter(|one| !known.contains(one)).cloned()).collect();
        // In the order in which they are started again.
        one.record.stopped.sort_by_key(|stopped| !matches!(stopped, Stopped::Unit(unit) if unit.ends_with(".socket")));
        let remembered = self.world.lock().and_then(|_lock| match self.released(index) {
            Some(why) => Err(why),
            None => self.world.store().remember(&self.tracked[index].record).map_err(|error| unread(&error)),
        });
        let (outside, systemd) = (self.outside.clone(), self.world.systemd.clone());
        tokio::spawn(async move {
            let result = match remembered {
                Err(why) => Err(why),
                Ok(()) => stop_all(systemd.as_ref(), &stopped).await,
            };
            let _ = outside.send(Outside::Done(index, Input::Stopped(result))).await;
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
        if !matches!(outcome, Outcome::Failed(_)) {
            let _ = self.world.store().remember(&one.record);
        }
        let one = &self.tracked[index];
        if one.gates_lost > 0 {
            // Whoever is still there is named as a leak; of those who came and went nobody knows.
            let text = format!(
                "somebody else took the gate away {} times; it was put back at once, but clients may have come and gone meanwhile",
                one.gates_lost
            );
            self.say(say::note(Some(one.service.name.as_str()), true, text)).await;
        }
        let report = one.report(outcome, now);
        let report = say::report(one.service.name.as_str(), one.requester.as_str(), &report, &stragglers);
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

fn proof_of(door: ebb_model::Door, answers: &[(ebb_model::Door, Answer)]) -> DoorProof {
    let bad = answers.iter().find(|(at, answer)| *at == door && *answer != Answer::Refused);
    let refused = match bad {
        None => Ok(()),
        Some((_, Answer::Accepted)) => Err(Why::ProbeMet { door, met: "accepted".to_owned() }),
        Some((_, answer)) => Err(Why::NotProbed { door, because: met(*answer) }),
    };
    DoorProof { door, refused }
}

async fn stop_all(systemd: Option<&Systemd>, stopped: &[Stopped]) -> Result<(), Why> {
    for one in stopped {
        match one {
            Stopped::Unit(unit) => stop_unit(systemd, unit).await?,
            Stopped::Tree(tree) => stop_tree(tree).await?,
        }
    }
    Ok(())
}

async fn stop_unit(systemd: Option<&Systemd>, unit: &str) -> Result<(), Why> {
    let failed = |result: String| Why::UnitFailed { unit: unit.to_owned(), verb: "stop", result };
    let systemd = systemd.ok_or_else(|| failed("systemd does not run here".to_owned()))?;
    let name = UnitName::new(unit).map_err(|error| failed(chain(&error)))?;
    let report = systemd.stop(&name, STOP).await.map_err(|error| failed(chain(&error)))?;
    if !report.is_down() {
        return Err(failed(format!("the job ended `{}`, the unit is {}", report.end, report.after.active)));
    }
    // A hook or a supervisor may bring it back at once: stopped is what stays stopped.
    tokio::time::sleep(STAYS_DOWN).await;
    let now = systemd.states(std::slice::from_ref(&name)).await.map_err(|error| failed(chain(&error)))?;
    if let Some(line) = now.iter().find(|line| line.active.is_up() || line.job.is_some()) {
        return Err(failed(format!("it was stopped, and somebody started it again: it is {}", line.active)));
    }
    if report.left_failed() {
        // It is down, and its sessions had ended before: `failed` (nginx after its 5 s, pg_ctlcluster) would only
        // mislead whoever looks next.
        let _ = systemd.reset_failed(&name).await;
    }
    Ok(())
}

async fn stop_tree(tree: &Tree) -> Result<(), Why> {
    let (pid, ticks) = (tree.root, tree.started_ticks);
    let failed = |result: String| Why::UnitFailed { unit: format!("process {pid}"), verb: "stop", result };
    let ended = tokio::task::spawn_blocking(move || -> Result<bool, process::Error> {
        let Some(pid) = process::Pid::new(pid) else { return Ok(true) };
        let handle = match process::Handle::open(pid, ticks) {
            Err(process::Error::Gone { .. }) => return Ok(true),
            other => other?,
        };
        handle.signal(process::Signal::Terminate)?;
        handle.wait_exit(TERM)
    });
    match ended.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(failed(format!("it still runs {} after SIGTERM", duration(TERM.into())))),
        Ok(Err(error)) => Err(failed(chain(&error))),
        Err(error) => Err(failed(error.to_string())),
    }
}
