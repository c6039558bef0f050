//! `ebb resume`: start, verify, and only then open.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebb_kernel::probe::{self, Answer};
use ebb_link::Reply;
use ebb_model::{Door, Event, EventKind, Origin, Proto, Reach, Requester, Service, Stopped, Up, Why, duration};
use ebb_systemd::UnitName;
use ebb_wire::v1::{Frame, ResumeReport, ResumeRequest};

use super::hold::{not_being_stopped, release_one, tell, usage};
use super::services::Known;
use crate::handle::refuse_all;
use crate::world::{PROBE_MARK, World, chain};
use crate::{converge, look, say};

/// One local connection takes microseconds; this long means that nobody answers.
pub(crate) const KNOCK: Duration = Duration::from_secs(2);
/// Between two looks whether a service is up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) async fn answer(world: &Arc<World>, request: ResumeRequest, reply: &Reply) -> Result<(), Why> {
    let requester = match Requester::new(request.requester.clone()) {
        Ok(requester) => requester,
        Err(error) => return usage(reply, &[error.to_string()]).await,
    };
    let services = look::services(world).await?;
    let known = Known::read(world)?;
    let mine = |service: &Service| known.holds_of(&service.name).any(|hold| hold.requester == requester);
    let (chosen, refused) = look::which(&request.which, &services, mine);
    if refuse_all(reply, &refused).await {
        return Ok(());
    }
    if chosen.is_empty() {
        reply.send(say::note(None, false, format!("`{requester}` holds nothing: nothing to do"))).await;
    }
    for service in chosen {
        let resume = Resume { world, service, services: &services, requester: &requester, reply };
        let name = service.name.as_str();
        if request.dry_run {
            reply.send(say::note(Some(name), false, resume.plan(&known))).await;
        } else if let Err(why) = resume.run(&known, Duration::from_secs(request.up_within_seconds)).await {
            reply.send(say::refusal(Some(name), &why)).await;
        }
    }
    Ok(())
}

struct Resume<'a> {
    world: &'a Arc<World>,
    service: &'a Service,
    services: &'a [Service],
    requester: &'a Requester,
    reply: &'a Reply,
}

impl Resume<'_> {
    fn plan(&self, known: &Known) -> String {
        let name = &self.service.name;
        let others: Vec<_> = known
            .holds_of(name)
            .filter(|hold| hold.requester != *self.requester)
            .map(|hold| hold.requester.to_string())
            .collect();
        if known.holds_of(name).all(|hold| hold.requester != *self.requester) {
            return format!("`{}` does not hold {name}: nothing to do", self.requester);
        }
        if !others.is_empty() {
            return format!(
                "would release {name} from `{}`; {} still hold it, so it would stay shut",
                self.requester,
                others.join(", ")
            );
        }
        let stopped = known.record_of(name).map_or(0, |record| record.stopped.len());
        let start = if stopped > 0 { "start it, " } else { "" };
        format!(
            "would {start}verify that each door of {name} answers, release the hold of `{}` and open the gate",
            self.requester
        )
    }

    async fn run(&self, known: &Known, up_within: Duration) -> Result<(), Why> {
        let began = Instant::now();
        let name = &self.service.name;
        let mine = known.holds_of(name).any(|hold| hold.requester == *self.requester);
        let others: Vec<_> = known.holds_of(name).filter(|hold| hold.requester != *self.requester).collect();
        if !mine {
            return self.not_mine(known, others.first().copied()).await;
        }
        not_being_stopped(known, self.service)?;
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
            self.must_run(known)?;
            report.started = self.start(known, up_within).await?;
            report.verified = self.verify(known, up_within).await?;
        }
        let (frames, released) = release_one(self.world, self.service, self.services, self.requester)?;
        for frame in frames {
            self.reply.send(frame).await;
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
            };
            self.reply.send(say::refusal(Some(name.as_str()), &why)).await;
        }
        Ok(())
    }

    /// Not held by this requester: a no-op, unless somebody else's hold is what they mean.
    async fn not_mine(&self, known: &Known, other: Option<&ebb_model::Hold>) -> Result<(), Why> {
        let name = &self.service.name;
        if let Some(hold) = other {
            return Err(Why::HeldByOther {
                service: name.clone(),
                requester: hold.requester.clone(),
                reason: hold.reason.clone(),
                since: self.world.now().wall.since(hold.since),
            });
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
            Origin::Trees(trees) => Err(Why::StartByHand {
                service: self.service.name.clone(),
                command: trees.first().map(command).unwrap_or_default(),
            }),
        }
    }

    /// Starts what we stopped; true if anything had to be.
    async fn start(&self, known: &Known, up_within: Duration) -> Result<bool, Why> {
        let Some(record) = known.record_of(&self.service.name) else { return Ok(false) };
        let mut started = false;
        // Sockets first, as they were stopped: systemd refuses a socket whose service already runs.
        for stopped in &record.stopped {
            match stopped {
                Stopped::Unit(unit) => started |= self.start_unit(unit, up_within).await?,
                Stopped::Tree(tree) => {
                    let doors = &self.service.doors;
                    if !listens(doors).await {
                        return Err(Why::StartByHand { service: self.service.name.clone(), command: command(tree) });
                    }
                }
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
        if report.after.active.is_up() {
            return Ok(true);
        }
        Err(failed(format!(
            "the job ended `{}`, the unit is {} ({}); `systemctl status {unit}` tells more",
            report.end, report.after.active, report.after.result
        )))
    }

    /// Waits until each TCP door answers a probe that passes the gate by its mark.
    async fn verify(&self, known: &Known, up_within: Duration) -> Result<Vec<String>, Why> {
        let doors: BTreeSet<Door> = match known.record_of(&self.service.name) {
            Some(record) => record.doors.clone(),
            None => self.service.doors.clone(),
        };
        let until = Instant::now() + up_within;
        loop {
            let answers = knock(&doors, Some(PROBE_MARK)).await?;
            let bad = answers.iter().find(|(_, answer)| *answer != Answer::Accepted);
            match bad {
                None => return Ok(self.verified(&doors).await),
                Some((door, answer)) if Instant::now() >= until => {
                    return Err(Why::NotAnswering {
                        service: self.service.name.clone(),
                        door: *door,
                        met: format!("{} for {}", met(*answer), duration(up_within.into())),
                    });
                }
                Some(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
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

async fn listens(doors: &BTreeSet<Door>) -> bool {
    knock(doors, Some(PROBE_MARK))
        .await
        .is_ok_and(|answers| answers.iter().all(|(_, answer)| *answer == Answer::Accepted))
}

/// What a probe met, in words.
pub(crate) fn met(answer: Answer) -> String {
    match answer {
        Answer::Accepted => "accepted".to_owned(),
        Answer::Refused => "refused".to_owned(),
        Answer::TimedOut => "not answered".to_owned(),
        Answer::Unreachable(errno) => format!("unreachable ({errno})"),
        Answer::MarkDenied => "not permitted to pass the gate".to_owned(),
        Answer::Failed(errno) => format!("not made ({errno})"),
        _ => "not understood".to_owned(),
    }
}

/// Addresses on which a door can be knocked at from here: one for each family that it has.
pub(crate) fn targets(door: &Door) -> Vec<SocketAddr> {
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), door.port);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), door.port);
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    match door.reach {
        _ if door.proto != Proto::Tcp => Vec::new(),
        Reach::Any4 => vec![v4],
        Reach::Any6 => vec![v6],
        Reach::Any if has_v6 => vec![v4, v6],
        Reach::Any => vec![v4],
        Reach::Addr(ip) | Reach::Forward(ip) => vec![SocketAddr::new(ip, door.port)],
    }
}

/// Knocks at every TCP door, each address; passing a shut gate if `mark` is ours.
pub(crate) async fn knock(doors: &BTreeSet<Door>, mark: Option<u32>) -> Result<Vec<(Door, Answer)>, Why> {
    let targets: Vec<(Door, SocketAddr)> =
        doors.iter().flat_map(|door| targets(door).into_iter().map(|at| (*door, at))).collect();
    let knocks: Vec<probe::Knock> = targets.iter().map(|(_, to)| probe::Knock { to: *to, mark, from: None }).collect();
    let answers = tokio::task::spawn_blocking(move || probe::knock_many(&knocks, KNOCK))
        .await
        .map_err(|error| Why::Unread { what: "the probes".into(), cause: error.to_string() })?;
    Ok(targets.into_iter().map(|(door, _)| door).zip(answers).collect())
}
