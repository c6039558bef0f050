//! Stopping and starting: ask, wait for the job to end, read back what became of the unit.

use std::{future::poll_fn, pin::Pin, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, export::futures_core::Stream};

use crate::{
    ActiveState, Error, Result, Systemd, UnitName,
    bus::{self, Fault, MANAGER, NAME, ROOT},
    object_path,
    properties::Properties,
    systemctl,
    systemd::error_of,
    unit::condition_met,
    words::words,
};

/// How often the state is read while the end of a job can no longer be heard.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is read although the bus seems to be fine.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

words! {
    /// How a job ended: systemd's word for it, or why there is none.
    JobEnd {
        /// As asked. After a stop the unit may still be `failed`: see [`JobReport::left_failed`].
        Done = "done",
        /// Not as asked: a start failed, for instance.
        Failed = "failed",
        /// Another job took its place, or somebody cancelled it.
        Canceled = "canceled",
        /// The job's own time limit (`JobTimeoutSec=`).
        JobTimeout = "timeout",
        /// A unit it needs failed.
        Dependency = "dependency",
        /// There was nothing to do for it.
        Skipped = "skipped",
        /// It cannot be done to this unit.
        Invalid = "invalid",
        /// An `Assert...=` did not hold.
        Assert = "assert",
        /// This machine cannot do it.
        Unsupported = "unsupported",
        /// The unit was unloaded.
        Collected = "collected",
        /// The unit may be started only once.
        Once = "once",
        /// The unit or its slice is frozen.
        Frozen = "frozen",
        /// Too many units of its slice run already.
        Concurrency = "concurrency",
        /// Our deadline passed; the job goes on.
        DeadlinePassed = "deadline passed",
        /// The job is over, but the bus was away (or mute) when it ended: only the state tells.
        Unseen = "unseen",
    }
}

/// What a unit was like right after a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitState {
    /// The state in general.
    pub active: ActiveState,
    /// The state in the words of its kind.
    pub sub: String,
    /// How its last run ended: `success`, `exit-code`, `timeout`, `signal`, ...
    pub result: String,
    /// `false`: the last start was skipped because a condition did not hold.
    pub condition_met: Option<bool>,
    /// A job that is queued or running for it even now.
    pub job: Option<u32>,
}

/// How a stop or start went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReport {
    /// How the job ended.
    pub end: JobEnd,
    /// What the unit was like then, read back.
    pub after: UnitState,
}

impl JobReport {
    /// The unit is `failed`. A stop can be `done` and leave that (Debian's nginx with a WebSocket
    /// open, `pg_ctlcluster -m smart`): it is down, and [`Systemd::reset_failed`] clears it.
    pub fn left_failed(&self) -> bool {
        self.after.active == ActiveState::Failed
    }

    /// The unit is down, whether it ended well or not.
    pub fn is_down(&self) -> bool {
        matches!(self.after.active, ActiveState::Inactive | ActiveState::Failed)
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Start,
    Stop,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }

    fn member(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
        }
    }
}

/// How far the bus brought us.
enum Heard {
    End(JobEnd),
    /// The job was queued, then the bus went away.
    LostSight(Option<u32>),
    /// The deadline passed before systemd said that there is a job.
    NoAnswer,
}

impl Systemd {
    /// Stops a unit and waits until it is down, at most until the deadline.
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`] also for a unit that is not loaded (and so cannot run);
    /// [`Error::Refused`], [`Error::AccessDenied`] and others if there was no job at all;
    /// [`Error::Timeout`] if the deadline passed before it was known whether there is one.
    pub async fn stop(&self, name: &UnitName, deadline: Duration) -> Result<JobReport> {
        self.act(Verb::Stop, name, deadline).await
    }

    /// Starts a unit and waits until it is up, at most until the deadline. A job that is `done`
    /// does not mean it runs: look at `after` (conditions, services that end at once).
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`], [`Error::Masked`] and others if there was no job at all.
    pub async fn start(&self, name: &UnitName, deadline: Duration) -> Result<JobReport> {
        self.act(Verb::Start, name, deadline).await
    }

    async fn act(&self, verb: Verb, name: &UnitName, deadline: Duration) -> Result<JobReport> {
        let what = format!("{} {name}", verb.word());
        let until = Instant::now() + deadline;
        let mut kept = None;
        let end = match self.by_bus(verb, name, until, &mut kept).await {
            Ok(Heard::End(end)) => end,
            Ok(Heard::NoAnswer) => return Err(Error::Timeout { what, after: deadline }),
            Ok(Heard::LostSight(job)) => self.by_looking(&what, name, job, until).await?,
            Err(Fault::Gone(bus)) => by_systemctl(verb, &what, name, &bus, until).await?,
            Err(fault) => return Err(error_of(&what, Some(name), fault)),
        };
        let after = self.state_after(&what, name).await?;
        Ok(JobReport { end, after })
    }

    /// The order matters: listen first, then ask, or a quick job ends unheard. `kept` keeps systemd
    /// from forgetting the unit (and with it how it ended) before it is read back.
    async fn by_bus(
        &self,
        verb: Verb,
        name: &UnitName,
        until: Instant,
        kept: &mut Option<Connection>,
    ) -> std::result::Result<Heard, Fault> {
        let Ok(_turn) = timeout_at(until, self.bus.wait_turn()).await else {
            return Ok(Heard::NoAnswer);
        };
        let asking = async {
            let ears = self.bus.own_line().await?;
            bus::pin(&ears, name).await;
            *kept = Some(ears.clone());
            let rule = format!("type='signal',sender='{NAME}',interface='{MANAGER}',member='JobRemoved'");
            bus::subscribe(&ears, &[rule]).await?;
            let stream = MessageStream::from(&ears);
            // Asked on the other connection: until the answer is here nobody polls the stream, and
            // what it receives meanwhile must not be able to hold up the answer.
            let body = (name.as_str(), "replace");
            let asked = self.bus.call(ROOT, MANAGER, verb.member(), &body).await?;
            let job = asked.body().deserialize::<OwnedObjectPath>()?;
            Ok::<_, Fault>((stream, job))
        };
        let Ok(asked) = timeout_at(until, asking).await else {
            return Ok(Heard::NoAnswer);
        };
        let (stream, job) = asked?;
        Ok(self.listen(stream, name, job.as_str(), until).await)
    }

    /// Waits for the job's end. A frozen bus is silent without ending the stream, so the unit is
    /// looked at now and then all the same.
    async fn listen(&self, stream: MessageStream, name: &UnitName, job: &str, until: Instant) -> Heard {
        let mut stream = stream;
        let number = object_path::to_job(job);
        loop {
            let pause = until.min(Instant::now() + LOOK_ANYWAY);
            match timeout_at(pause, end_of(&mut stream, job)).await {
                Ok(Some(end)) => return Heard::End(end),
                Ok(None) => return Heard::LostSight(number),
                Err(_) if Instant::now() >= until => return Heard::End(JobEnd::DeadlinePassed),
                Err(_) => {}
            }
            let looked = self.properties("see whether a job goes on", name).await;
            if looked.is_ok_and(|all| all.job() != number) {
                let last = Instant::now() + LOOK_EVERY;
                let end = timeout_at(last, end_of(&mut stream, job)).await.ok().flatten();
                return Heard::End(end.unwrap_or(JobEnd::Unseen));
            }
        }
    }

    /// The end of the job cannot be heard any more: wait until the unit has no such job.
    async fn by_looking(&self, what: &str, name: &UnitName, job: Option<u32>, until: Instant) -> Result<JobEnd> {
        loop {
            if self.properties(what, name).await?.job() != job {
                return Ok(JobEnd::Unseen);
            }
            if Instant::now() >= until {
                return Ok(JobEnd::DeadlinePassed);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn state_after(&self, what: &str, name: &UnitName) -> Result<UnitState> {
        let all: Properties = self.properties(&format!("{what} (reading it back)"), name).await?;
        Ok(UnitState {
            active: ActiveState::from_word(&all.text("ActiveState")),
            sub: all.text("SubState"),
            result: all.text("Result"),
            condition_met: condition_met(&all),
            job: all.job(),
        })
    }
}

/// The result of this job; `None` when the connection ended before.
async fn end_of(stream: &mut MessageStream, job: &str) -> Option<JobEnd> {
    loop {
        // An error in the stream is a broken connection: the next item is its end.
        let Ok(message) = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await? else {
            continue;
        };
        if let Some((_, path, _, result)) = job_removed(&message)
            && path.as_str() == job
        {
            return Some(JobEnd::from_word(&result));
        }
    }
}

/// The body of a `JobRemoved`: number, object, unit, result.
pub(crate) fn job_removed(message: &Message) -> Option<(u32, OwnedObjectPath, String, String)> {
    let header = message.header();
    if header.member().map(zbus::names::MemberName::as_str) != Some("JobRemoved") {
        return None;
    }
    message.body().deserialize().ok()
}

async fn by_systemctl(verb: Verb, what: &str, name: &UnitName, bus: &str, until: Instant) -> Result<JobEnd> {
    if !crate::is_running() {
        return Err(Error::NotSystemd { what: what.to_owned() });
    }
    let left = until.saturating_duration_since(Instant::now());
    let said = match systemctl::run(what, &[verb.word(), "--", name.as_str()], left).await {
        Err(Error::Timeout { .. }) => return Ok(JobEnd::DeadlinePassed),
        said => said?,
    };
    if said.ok {
        return Ok(JobEnd::Done);
    }
    job_end_in(&said.err).ok_or_else(|| systemctl::error_of(what, Some(name), bus, &said))
}

/// How a job ended, from what `systemctl` says about it (`bus-wait-for-jobs.c`). `None`: there was no job.
fn job_end_in(err: &str) -> Option<JobEnd> {
    let about_job = err.lines().find(|line| {
        line.starts_with("Job for ")
            || line.starts_with("Job on ")
            || line.starts_with("A dependency job for ")
            || line.starts_with("Assertion failed on job for ")
            || line.starts_with("Operation on or unit type of ")
    })?;
    Some(match about_job {
        line if line.starts_with("A dependency job") => JobEnd::Dependency,
        line if line.starts_with("Assertion failed") => JobEnd::Assert,
        line if line.contains("not supported") => JobEnd::Unsupported,
        line if line.contains("canceled") => JobEnd::Canceled,
        line if line.contains("timed out") => JobEnd::JobTimeout,
        line if line.contains("invalid") => JobEnd::Invalid,
        _ => JobEnd::Failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_says_about_jobs() {
        for (said, end) in [
            ("Job for x.service failed because the control process exited with error code.\nSee ...", JobEnd::Failed),
            ("Job for x.service canceled.", JobEnd::Canceled),
            ("Job for x.service timed out.", JobEnd::JobTimeout),
            ("A dependency job for x.service failed. See 'journalctl -xe' for details.", JobEnd::Dependency),
            ("Warning: ...\nAssertion failed on job for x.service.", JobEnd::Assert),
            ("Operation on or unit type of x.scope not supported on this system.", JobEnd::Unsupported),
        ] {
            assert_eq!(job_end_in(said), Some(end), "{said}");
        }
        assert_eq!(job_end_in("Failed to stop x.service: Unit x.service not loaded."), None);
        assert_eq!(job_end_in(""), None);
    }

    #[test]
    fn a_new_word_is_kept() {
        assert_eq!(JobEnd::from_word("done"), JobEnd::Done);
        assert_eq!(JobEnd::from_word("evaporated").as_str(), "evaporated");
    }
}
