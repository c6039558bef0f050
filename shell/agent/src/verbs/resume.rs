//! `ebb resume`: start, verify, and only then open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebb_decide::gate;
use ebb_kernel::probe::Answer;
use ebb_link::Reply;
use ebb_model::{Door, Event, EventKind, Hold, Origin, Requester, Service, Stopped, Up, Why, duration};
use ebb_systemd::UnitName;
use ebb_wire::v1::{Frame, ResumeReport, ResumeRequest};

use super::hold::{not_being_stopped, release_one, tell, usage};
use super::services::Known;
use crate::handle::refuse_all;
use crate::knock::{knock, met, targets};
use crate::sources::listening_at;
use crate::world::{PROBE_MARK, World, chain, unread};
use crate::{converge, lockout, look, say};

/// A running service that answers at all its other doors has moved when one has been missing for so long.
const MOVED: Duration = Duration::from_secs(10);
/// Between two looks whether a service is up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) async fn answer(world: &Arc<World>, request: ResumeRequest, reply: &Reply) -> Result<(), Why> {
    let requester = match Requester::new(request.requester.clone()) {
        Ok(requester) => requester,
        Err(error) => return usage(reply, &[error.to_string()]).await,
    };
    if !request.dry_run && !world.store().is_writable() {
        return Err(world.unwritable("resume services"));
    }
    let around = look::around(world).await?;
    let known = Known::read(world)?;
    if request.all_holders.as_deref().is_some_and(|reason| reason.trim().is_empty()) {
        return usage(reply, &["to release the holds of others needs a reason: --reason TEXT".to_owned()]).await;
    }
    let all = request.all_holders.is_some();
    let mine = |service: &Service| known.holds_of(&service.name).any(|hold| all || hold.requester == requester);
    let (chosen, refused) = around.which(&request.which, mine);
    if refuse_all(reply, &refused).await {
        return Ok(());
    }
    if chosen.is_empty() {
        reply.send(say::note(None, false, format!("`{requester}` holds nothing: nothing to do"))).await;
    }
    let mut left: Vec<&Service> = chosen;
    loop {
        let mut failed = Vec::new();
        let before = left.len();
        for service in left {
            let resume = Resume {
                world,
                service,
                services: &around.services,
                requester: &requester,
                as_is: request.as_is,
                all_holders: request.all_holders.as_deref(),
                reply,
            };
            let name = service.name.as_str();
            if request.dry_run {
                reply.send(say::note(Some(name), false, resume.plan(&known))).await;
            } else if let Err(why) = resume.run(&known, Duration::from_secs(request.up_within_seconds)).await {
                failed.push((service, why));
            }
        }
        // One may need another that was started after it: again, for as long as that gets on.
        if failed.is_empty() || failed.len() == before {
            for (service, why) in failed {
                reply.send(say::refusal(Some(service.name.as_str()), &why)).await;
            }
            break;
        }
        left = failed.into_iter().map(|(service, _)| service).collect();
    }
    Ok(())
}

/// See [`Resume::doors_now`].
struct DoorsNow {
    wanted: BTreeSet<Door>,
    listened: BTreeSet<Door>,
}

/// The doors at which one can knock from here.
fn knockable(doors: &BTreeSet<Door>) -> BTreeSet<Door> {
    doors.iter().filter(|door| targets(door).is_ok()).copied().collect()
}

pub(crate) struct Resume<'a> {
    pub(crate) world: &'a Arc<World>,
    pub(crate) service: &'a Service,
    pub(crate) services: &'a [Service],
    pub(crate) requester: &'a Requester,
    pub(crate) as_is: bool,
    /// Release the holds of all requesters, and why.
    pub(crate) all_holders: Option<&'a str>,
    pub(crate) reply: &'a Reply,
}

impl Resume<'_> {
    fn plan(&self, known: &Known) -> String {
        let name = &self.service.name;
        let others: Vec<_> = known
            .holds_of(name)
            .filter(|hold| hold.requester != *self.requester)
            .map(|hold| hold.requester.to_string())
            .collect();
        if known.of_requester(name, self.requester).is_none() && (self.all_holders.is_none() || others.is_empty()) {
            return format!("`{}` does not hold {name}: nothing to do", self.requester);
        }
        if !others.is_empty() && self.all_holders.is_none() {
            return format!(
                "would release {name} from `{}`; {} still hold it, so it would stay shut",
                self.requester,
                others.join(", ")
            );
        }
        let stopped = known.record_of(name).map_or(0, |record| record.stopped.len());
        let start = if stopped > 0 { "start it, " } else { "" };
        let whose = if others.is_empty() || self.all_holders.is_none() {
            format!("the hold of `{}`", self.requester)
        } else {
            format!(
                "the holds of all: {}",
                known.holds_of(name).map(|hold| hold.requester.to_string()).collect::<Vec<_>>().join(", ")
            )
        };
        format!("would {start}verify that each door of {name} answers, release {whose} and open the gate")
    }

    async fn run(&self, known: &Known, up_within: Duration) -> Result<(), Why> {
        let began = Instant::now();
        let name = &self.service.name;
        let all = self.all_holders.is_some();
        let mine = known.of_requester(name, self.requester).or_else(|| known.holds_of(name).next().filter(|_| all));
        let Some(mine) = mine else { return self.not_mine(known, known.holds_of(name).next()).await };
        let (theirs, others): (Vec<&Hold>, Vec<&Hold>) =
            known.holds_of(name).filter(|hold| !hold.is(mine)).partition(|_| all);
        not_being_stopped(self.world, known, self.service)?;
        let mut report = ResumeReport {
            service: name.to_string(),
            was_held: true,
            started: false,
            open: false,
            verified: Vec::new(),
            took_seconds: 0.0,
            remaining: others.iter().map(|hold| say::hold(hold)).collect(),
        };
        if others.is_empty() {
            (report.started, report.verified) = self.bring_up(known, up_within).await?;
        }
        // Starting and verifying took a while: a hold that was given another end meanwhile is another wish.
        let end = |known: &Known| known.holds_of(name).find(|hold| hold.is(mine)).map(|hold| hold.until.clone());
        if end(&Known::read(self.world)?) != end(known) {
            return Err(Why::HeldAnew { service: name.clone() });
        }
        let mut released = None;
        for hold in theirs.into_iter().chain([mine]) {
            self.override_told(hold).await;
            let (frames, report) = release_one(self.world, self.service, self.services, &hold.requester)?;
            for frame in frames {
                self.reply.send(frame).await;
            }
            released = Some(report);
        }
        let Some(released) = released else { return Ok(()) };
        if let Err(why) = lockout::converge(self.world, None).await {
            let text = format!("what kept it from starting could not be taken away: {why}");
            self.reply.send(say::note(Some(name.as_str()), true, text)).await;
        }
        report.open = !released.shut;
        report.remaining = released.remaining;
        report.took_seconds = began.elapsed().as_secs_f64();
        self.reply.send(Frame::Resumed(report)).await;
        let wall = self.world.now().wall;
        for hold in others {
            let why = Why::HeldByOther {
                service: name.clone(),
                requester: hold.requester.clone(),
                reason: hold.reason.clone(),
                since: wall.since(hold.since),
                whole_server: hold.whole_server,
            };
            self.reply.send(say::refusal(Some(name.as_str()), &why)).await;
        }
        Ok(())
    }

    /// Not held by this requester: a no-op, unless somebody else's hold is what they mean.
    async fn not_mine(&self, known: &Known, other: Option<&Hold>) -> Result<(), Why> {
        let name = &self.service.name;
        if let Some(hold) = other {
            return Err(Why::HeldByOther {
                service: name.clone(),
                requester: hold.requester.clone(),
                reason: hold.reason.clone(),
                since: self.world.now().wall.since(hold.since),
                whole_server: hold.whole_server,
            });
        }
        if let Some((other, door)) = known.held_elsewhere(self.service).pop_first() {
            let text = format!("{name} is not held, but {door} is, as {other}: `ebb status {other}` tells by whom");
            self.reply.send(say::note(Some(name.as_str()), false, text)).await;
            return Ok(());
        }
        // A gate that was left behind by a crash between disk and kernel is opened here.
        let left = known.record_of(name).is_none()
            && converge::seen(self.world)
                .is_ok_and(|seen| !self.service.doors.is_empty() && seen.holds(&self.service.doors));
        if left {
            let _lock = self.world.lock()?;
            converge::converge(self.world, self.services)?;
        }
        let text = if left {
            format!("{name} is not held; its gate had been left shut and is open now")
        } else {
            format!("{name} is not held: nothing to do")
        };
        self.reply.send(say::note(Some(name.as_str()), false, text)).await;
        Ok(())
    }

    /// Starts what we stopped, and verifies it behind the shut gate.
    pub(crate) async fn bring_up(&self, known: &Known, up_within: Duration) -> Result<(bool, Vec<String>), Why> {
        self.must_run(known)?;
        self.world.set_starting(&self.service.name, true);
        let done = self.start_and_verify(known, up_within).await;
        self.world.set_starting(&self.service.name, false);
        if done.is_err() {
            // It is still held: what could not be started, or does not answer, stays down once it is down.
            let _ = lockout::converge(self.world, None).await;
        }
        done
    }

    /// Another's hold is released: that is written down, with whose will it was.
    async fn override_told(&self, hold: &Hold) {
        let Some(reason) = self.all_holders else { return };
        if hold.requester == *self.requester {
            return;
        }
        let name = &self.service.name;
        let text = format!("the hold of `{}` on {name} is released by `{}`: {reason}", hold.requester, self.requester);
        let event = Event::new(self.world.now().wall, EventKind::HoldOverridden, name, text)
            .with("requester", &hold.requester)
            .with("by", self.requester)
            .with("reason", reason);
        self.reply.send(tell(self.world, self.service, &event)).await;
    }

    async fn start_and_verify(&self, known: &Known, up_within: Duration) -> Result<(bool, Vec<String>), Why> {
        lockout::converge(self.world, Some(&self.service.name)).await?;
        let started = self.start(known, up_within).await?;
        Ok((started, self.verify(up_within).await?))
    }

    /// What somebody else stopped is not ours to start, and waiting for it would be in vain.
    fn must_run(&self, known: &Known) -> Result<(), Why> {
        let ours = known.record_of(&self.service.name).is_some_and(|record| !record.stopped.is_empty());
        if ours || !matches!(self.service.up, Up::Stopped | Up::Failed) {
            return Ok(());
        }
        match &self.service.origin {
            Origin::Units { units, .. } => units.first().map_or(Ok(()), |unit| {
                let state = if unit.up == Up::Failed { "failed" } else { "inactive" };
                Err(Why::NotRunning { unit: unit.name.clone(), state: state.to_owned() })
            }),
            Origin::Trees(trees) => Err(self.by_hand(trees.first().map(command).unwrap_or_default())),
        }
    }

    fn by_hand(&self, command: String) -> Why {
        let at = |other: &Service| {
            let shuts = |door: &&Door| other.doors.iter().any(|there| gate::shuts(door, there));
            self.service.doors.iter().find(shuts).map(|door| (other.name.clone(), *door))
        };
        let runs = |other: &&Service| other.name != self.service.name && other.up == Up::Running;
        let instead = self.services.iter().filter(runs).find_map(at);
        Why::StartByHand { service: self.service.name.clone(), command, instead }
    }

    /// Starts what we stopped; true if anything had to be.
    async fn start(&self, known: &Known, up_within: Duration) -> Result<bool, Why> {
        let Some(record) = known.record_of(&self.service.name) else { return Ok(false) };
        let mut started = false;
        // Sockets first, as they were stopped: systemd refuses a socket whose service already runs.
        for stopped in &record.stopped {
            match stopped {
                Stopped::Unit(unit) => started |= self.start_unit(unit, up_within).await?,
                // Whoever else listens at its doors is not it.
                Stopped::Tree(tree) if self.service.up != Up::Running => return Err(self.by_hand(command(tree))),
                Stopped::Tree(_) => {}
            }
        }
        if started {
            let text = format!("{} was started", self.service.name);
            let event = Event::new(self.world.now().wall, EventKind::ServiceStarted, &self.service.name, text);
            self.reply.send(tell(self.world, self.service, &event)).await;
        }
        Ok(started)
    }

    async fn start_unit(&self, unit: &str, up_within: Duration) -> Result<bool, Why> {
        let failed = |result: String| Why::UnitFailed { unit: unit.to_owned(), verb: "start", result };
        let Some(systemd) = &self.world.systemd else {
            return Err(failed("systemd does not run here".to_owned()));
        };
        let name = UnitName::new(unit).map_err(|error| failed(chain(&error)))?;
        let state = systemd.unit(&name).await.map_err(|error| failed(chain(&error)))?;
        if state.active_state == ebb_systemd::ActiveState::Active {
            return Ok(false);
        }
        let report = systemd.start(&name, up_within).await.map_err(|error| failed(chain(&error)))?;
        // `activating` is not up: systemd may end it again, with whom it lets in meanwhile.
        if look::up(&report.after.active) == Up::Running {
            return Ok(true);
        }
        Err(failed(format!(
            "the job ended `{}`, the unit is {} ({}); `systemctl status {unit}` tells more",
            report.end, report.after.active, report.after.result
        )))
    }

    /// Waits until each TCP door answers a probe that passes the gate by its mark. A door that it opens meanwhile is held
    /// too, until all is verified.
    async fn verify(&self, up_within: Duration) -> Result<Vec<String>, Why> {
        let until = Instant::now() + up_within;
        let mut missing_since = Instant::now();
        loop {
            let doors = self.doors_now().await?;
            let listened = knockable(&doors.listened);
            let answers = knock(&listened, Some(PROBE_MARK)).await?;
            let silent = answers.iter().find(|(_, answer)| *answer != Answer::Accepted);
            let missing = doors.wanted.difference(&doors.listened).find(|door| door.is_tcp());
            if missing.is_none() || silent.is_some() || listened.is_empty() {
                missing_since = Instant::now();
            }
            let late = Instant::now() >= until;
            let not_answering =
                |door: Door, met: String| Why::NotAnswering { service: self.service.name.clone(), door, met };
            match (silent, missing) {
                (None, None) if self.as_is && doors.listened.is_empty() && late => {
                    return Err(Why::NoDoor { service: self.service.name.clone(), unix: Vec::new(), udp: Vec::new() });
                }
                (None, None) if self.as_is && doors.listened.is_empty() => tokio::time::sleep(LOOK_AGAIN).await,
                (None, None) => return Ok(self.verified(&listened).await),
                (Some((door, answer)), _) if late => {
                    return Err(not_answering(*door, format!("{} for {}", met(*answer), duration(up_within.into()))));
                }
                (None, Some(door)) if late || missing_since.elapsed() >= MOVED => {
                    let now: Vec<_> = doors.listened.iter().map(ToString::to_string).collect();
                    let now = if now.is_empty() { "nowhere".to_owned() } else { now.join(", ") };
                    return Err(not_answering(*door, format!("not made, for it listens {now} now")));
                }
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The doors that it should have, and those where somebody listens.
    async fn doors_now(&self) -> Result<DoorsNow, Why> {
        let services = look::services(self.world).await?;
        let found = services.iter().find(|service| service.name == self.service.name);
        let record = Known::read(self.world)?.record_of(&self.service.name).cloned();
        let Some(mut record) = record else {
            // Released by somebody meanwhile: what it has is all that it should have.
            let doors = found.map(|service| service.doors.clone()).unwrap_or_default();
            return Ok(DoorsNow { wanted: doors.clone(), listened: doors });
        };
        let known = record.doors.clone();
        record.doors.extend(found.iter().flat_map(|service| &service.doors));
        if record.doors != known {
            record.added.extend(record.doors.difference(&known).copied().collect::<Vec<_>>());
            let _lock = self.world.lock()?;
            self.world.store().remember(&record).map_err(|error| unread(&error))?;
            converge::converge(self.world, &services)?;
        }
        let rows = listening_at()?;
        let is_listened = |door: &&Door| rows.iter().any(|at| door.fit(*at).is_some());
        let listened: BTreeSet<Door> = record.doors.iter().filter(is_listened).copied().collect();
        let wanted = if self.as_is { listened.clone() } else { &record.doors - &record.added };
        Ok(DoorsNow { wanted, listened })
    }

    async fn verified(&self, doors: &BTreeSet<Door>) -> Vec<String> {
        let verified: Vec<String> = doors.iter().filter(|door| door.is_tcp()).map(ToString::to_string).collect();
        let text = format!("{} answers at {}", self.service.name, verified.join(", "));
        let event = Event::new(self.world.now().wall, EventKind::ServiceVerified, &self.service.name, text);
        self.reply.send(tell(self.world, self.service, &event)).await;
        verified
    }
}

/// How a tree was started, as far as its title still tells: nginx puts its command behind a title of its
/// own, others overwrite it whole.
fn command(tree: &ebb_model::Tree) -> String {
    let title = tree.command.join(" ");
    match title.split_once(": master process ") {
        Some((_, command)) => command.to_owned(),
        None if title.split(' ').next().is_some_and(|first| first.ends_with(':')) => String::new(),
        None => title,
    }
}
