//! The trial itself, step by step.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ebb_kernel::boot;

use crate::place::{self, SERVICE};
use crate::pool::Pool;
use crate::troupe::{self, Clients, Member};
use crate::waiting::Patience;
use crate::{Back, Error, Options, Ran, Report, Sabotage, Tally};

/// So long the first wave may need to be in; it comes within 1.5 s.
const FIRST_WAVE: Duration = Duration::from_secs(10);
/// So long newcomers may need to come back; five of them ask server-a first each second.
const BACK: Duration = Duration::from_secs(8);
/// So many newcomers on each server show that both are in use again.
const ENOUGH: u64 = 5;
/// Newcomers on each server before anything is done.
const SOME: u64 = 3;
/// A short command may take so long.
const SHORT: Duration = Duration::from_secs(15);
/// After the drain began. By then the gate is shut and no session has come to its end yet.
const SABOTAGE: Duration = Duration::from_secs(2);

/// A command that is run on server-a.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `ebb services`, before.
    Services,
    /// `ebb drain`.
    Drain,
    /// `ebb status`, of the drained service.
    Status,
    /// `ebb resume`.
    Resume,
}

impl Step {
    const fn doing(self) -> &'static str {
        match self {
            Self::Services => "list the services",
            Self::Drain => "drain the service",
            Self::Status => "show its status",
            Self::Resume => "resume the service",
        }
    }

    fn arguments(self) -> Vec<&'static str> {
        match self {
            Self::Services => vec!["services"],
            // The service was started by hand: nothing on that server could start it again.
            Self::Drain => vec!["drain", SERVICE, "--no-stop", "--reason", "a first look"],
            Self::Status => vec!["status", SERVICE],
            Self::Resume => vec!["resume", SERVICE],
        }
    }

    fn most(self) -> Duration {
        if self == Self::Drain { Duration::MAX } else { SHORT }
    }
}

/// What happens, in the order of the story.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The network and the servers are being made.
    Building {
        /// Sessions of the first wave.
        sessions: u32,
    },
    /// The first wave is in, and newcomers come.
    Live(Tally),
    /// A command is about to be run on server-a.
    Running {
        /// Which step.
        step: Step,
        /// As it would be typed.
        command: String,
    },
    /// The command has ended.
    Ran {
        /// The command.
        ran: Ran,
        /// What the clients have counted by now.
        tally: Tally,
    },
    /// Newcomers are on both servers again, or did not come in time.
    Back(Back),
    /// All clients are asked to say goodbye.
    Closing,
}

/// Plays a trial in the directory that [`crate::run`] has made for it, and tells it to `tell`.
///
/// Call it on the main thread of a process that has no other, with standard input as the leash: its end is our end.
///
/// # Errors
/// [`Error`]: there was no trial, or no end of it. Nothing runs any more then.
pub fn stage(options: &Options, dir: &Path, tell: &mut dyn FnMut(Event)) -> Result<Report, Error> {
    if !dir.join(SERVICE).exists() {
        return Err(Error::NoDir { dir: dir.to_owned() });
    }
    let uid = boot::effective_uid();
    let told = Stage::build(options, dir, tell).and_then(|mut stage| stage.play(uid));
    if matches!(told, Err(Error::Left { .. })) {
        // Nobody else will.
        place::remove(dir);
    }
    told
}

struct Stage<'s> {
    options: Options,
    dir: PathBuf,
    tell: &'s mut dyn FnMut(Event),
    patience: Patience,
    unprivileged: bool,
    ran: Vec<Ran>,
    // In this order they end: who speaks before who is spoken to, and the network last.
    clients: Clients,
    a: Member,
    b: Member,
    pool: Pool,
}

impl<'s> Stage<'s> {
    fn build(options: &Options, dir: &Path, tell: &'s mut dyn FnMut(Event)) -> Result<Self, Error> {
        tell(Event::Building { sessions: options.sessions });
        // Before anything that starts a thread.
        let (pool, unprivileged) = Pool::make()?;
        let patience = Patience::begin(dir.to_owned())?;
        let a = troupe::chat(&patience, &pool.a, dir)?;
        let b = troupe::chat(&patience, &pool.b, dir)?;
        let clients = Clients::start(&pool.clients, options, dir)?;
        let dir = dir.to_owned();
        Ok(Self { options: *options, dir, tell, patience, unprivileged, ran: Vec::new(), clients, a, b, pool })
    }

    fn play(&mut self, uid: u32) -> Result<Report, Error> {
        self.await_first_wave()?;
        self.run(Step::Services)?;
        let before = self.clients.tally();
        // A server that was not drained is not brought back: it would only hide what went wrong.
        let back = if self.run(Step::Drain)? == Some(0) {
            self.run(Step::Status)?;
            Some(self.come_back()?)
        } else {
            None
        };
        (self.tell)(Event::Closing);
        let last = self.clients.finish(&self.patience)?;
        Ok(Report {
            tally: last.tally,
            at_drain: before.live(),
            at_drain_a: before.live_a,
            ran: std::mem::take(&mut self.ran),
            back,
            harms: last.harms,
            kernel: kernel(),
            user: boot::login_name(uid).unwrap_or_else(|| uid.to_string()),
            uid,
            unprivileged: self.unprivileged,
            seconds: self.patience.elapsed().as_secs_f64(),
        })
    }

    fn await_first_wave(&mut self) -> Result<(), Error> {
        const DOING: &str = "wait for the first sessions";
        let all = u64::from(self.options.sessions);
        let clients = &mut self.clients;
        self.patience.wait(DOING, FIRST_WAVE, || {
            clients.check(DOING)?;
            let tally = clients.tally();
            // With some newcomers among them, who are seen on both servers before.
            let come = tally.to_a >= SOME && tally.to_b >= SOME;
            Ok((tally.first + tally.failed >= all && come).then_some(()))
        })?;
        // Whoever is not in has failed, or will: the figures tell.
        (self.tell)(Event::Live(self.clients.tally()));
        Ok(())
    }

    /// Runs a command on server-a, and waits for its end. Gives its exit code.
    fn run(&mut self, step: Step) -> Result<Option<i32>, Error> {
        let command = shown(&step.arguments());
        (self.tell)(Event::Running { step, command: command.clone() });
        let began = Instant::now();
        let skipped = step == Step::Drain && self.options.sabotage == Some(Sabotage::SkipDrain);
        let really = if skipped { Step::Services } else { step };
        let mut child = troupe::command(&self.pool.a, &self.dir, &really.arguments(), self.options.json)?;
        let Self { patience, clients, options, a, b, .. } = self;
        let status = patience.wait(step.doing(), step.most(), || {
            clients.check(step.doing())?;
            if step == Step::Drain && began.elapsed() > SABOTAGE {
                match options.sabotage {
                    Some(Sabotage::KillServer) => a.kill(),
                    Some(Sabotage::KillOther) => b.kill(),
                    Some(Sabotage::SkipDrain) | None => {}
                }
            }
            child.ended()
        })?;
        let seconds = began.elapsed().as_secs_f64();
        let code = status.and_then(|status| status.code());
        let ran = Ran { step, command, code, seconds };
        self.ran.push(ran.clone());
        (self.tell)(Event::Ran { ran, tally: self.clients.tally() });
        Ok(code)
    }

    /// Resumes, and counts newcomers on both servers from then on.
    fn come_back(&mut self) -> Result<Back, Error> {
        const DOING: &str = "wait for newcomers on both servers";
        // The gate opens before the command has ended; whoever comes then is back as well.
        let before = self.clients.tally();
        self.run(Step::Resume)?;
        let began = Instant::now();
        let since = |now: Tally| (now.to_a - before.to_a, now.to_b - before.to_b);
        let clients = &mut self.clients;
        self.patience.wait(DOING, BACK, || {
            clients.check(DOING)?;
            let (to_a, to_b) = since(clients.tally());
            Ok((to_a >= ENOUGH && to_b >= ENOUGH).then_some(()))
        })?;
        let (to_a, to_b) = since(self.clients.tally());
        let back = Back { to_a, to_b, seconds: began.elapsed().as_secs_f64() };
        (self.tell)(Event::Back(back));
        Ok(back)
    }
}

/// As a person would type it.
fn shown(arguments: &[&str]) -> String {
    let mut text = "ebb".to_owned();
    for argument in arguments {
        let quote = if argument.contains(' ') { "\"" } else { "" };
        text.push_str(&format!(" {quote}{argument}{quote}"));
    }
    text
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_they_would_be_typed() {
        assert_eq!(shown(&Step::Services.arguments()), "ebb services");
        assert_eq!(shown(&Step::Drain.arguments()), "ebb drain chat --no-stop --reason \"a first look\"");
    }
}
