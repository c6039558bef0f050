//! The processes on the stage.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use ebb_kernel::netns::{Ns, die_with_parent};

use crate::clients::{HARM, TALLY};
use crate::error::started;
use crate::place::SERVICE;
use crate::process::OURSELVES;
use crate::server::READY;
use crate::waiting::Patience;
use crate::{Error, Options, Role, Tally};

/// So long a server may need to listen.
const LISTENING: Duration = Duration::from_secs(10);

/// One process on the stage; ends with this value.
#[derive(Debug)]
pub(crate) struct Member(Child);

impl Member {
    fn start(what: &'static str, host: &Ns, command: &mut Command) -> Result<Self, Error> {
        let command = die_with_parent(host.command(command));
        command.spawn().map(Self).map_err(started(what))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.0.try_wait().map_err(started("wait for a process"))
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command of ebb, exactly as a person on that server would type it. Its state is that of the trial, not of this machine.
pub(crate) fn command(host: &Ns, dir: &Path, arguments: &[&str], to_stderr: bool) -> Result<Member, Error> {
    let mut command = ourselves();
    command.args(arguments).stdin(Stdio::null());
    if to_stderr {
        command.stdout(std::io::stderr());
    }
    // What is set for the real ebb of this machine is not meant for the trial's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EBB_")) {
        command.env_remove(name);
    }
    command.env("EBB_STATE_DIR", dir.join("state")).env("EBB_CONFIG", dir.join(crate::place::CONFIG));
    Member::start("start a command", host, &mut command)
}

/// Starts the service on a server, and waits until it listens.
pub(crate) fn chat(patience: &Patience, host: &Ns, dir: &Path) -> Result<Member, Error> {
    const DOING: &str = "start the chat servers";
    let mut command = Command::new(dir.join(SERVICE));
    command.args(Role::Chat.arguments()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut chat = Member::start(DOING, host, &mut command)?;
    let (sender, ready) = mpsc::channel();
    let out = chat.0.stdout.take();
    thread(move || {
        let mut line = String::new();
        let read = out.map(|out| BufReader::new(out).take(100).read_line(&mut line));
        // Nobody hears it if the stage has lost patience.
        let _ = sender.send(read.is_some_and(|read| read.is_ok()) && line.trim() == READY);
    })?;
    let listens = patience.wait(DOING, LISTENING, || Ok(ready.try_recv().ok()))?;
    match listens {
        Some(true) => Ok(chat),
        _ => {
            chat.kill();
            let status = chat.ended()?.unwrap_or_default();
            Err(Error::Lost { doing: DOING, who: "a chat server", status })
        }
    }
}

/// The clients, and what they tell.
#[derive(Debug)]
pub(crate) struct Clients {
    member: Member,
    leash: Option<ChildStdin>,
    news: Arc<Mutex<News>>,
}

/// The latest of the clients.
#[derive(Debug, Default, Clone)]
pub(crate) struct News {
    pub(crate) tally: Tally,
    pub(crate) harms: Vec<String>,
    /// Nothing more will come.
    over: bool,
}

impl Clients {
    pub(crate) fn start(host: &Ns, options: &Options, dir: &Path) -> Result<Self, Error> {
        let mut command = ourselves();
        command.args(options.arguments(Role::Clients, dir)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut member = Member::start("start the clients", host, &mut command)?;
        let leash = member.0.stdin.take();
        let out = member.0.stdout.take();
        let news = Arc::new(Mutex::new(News::default()));
        let told = Arc::clone(&news);
        thread(move || {
            for line in out.into_iter().flat_map(|out| BufReader::new(out).lines().map_while(Result::ok)) {
                let mut news = lock(&told);
                match (line.strip_prefix(TALLY).map(str::parse), line.strip_prefix(HARM)) {
                    (Some(Ok(tally)), _) => news.tally = tally,
                    (_, Some(harm)) => news.harms.push(harm.to_owned()),
                    _ => {}
                }
            }
            lock(&told).over = true;
        })?;
        Ok(Self { member, leash, news })
    }

    /// The latest.
    pub(crate) fn tally(&self) -> Tally {
        lock(&self.news).tally
    }

    /// An error if they are not there any more.
    pub(crate) fn check(&mut self, doing: &'static str) -> Result<(), Error> {
        match self.member.ended()? {
            Some(status) => Err(Error::Lost { doing, who: "the clients' process", status }),
            None if lock(&self.news).over => Err(Error::Mute { doing }),
            None => Ok(()),
        }
    }

    /// Lets all say goodbye, and gives their last word.
    pub(crate) fn finish(&mut self, patience: &Patience) -> Result<News, Error> {
        const DOING: &str = "wait for the clients' goodbye";
        drop(self.leash.take());
        // They have their own deadline; the trial's is enough here.
        let status = patience.wait(DOING, Duration::MAX, || self.member.ended())?;
        let told = patience.wait(DOING, Duration::MAX, || {
            let news = lock(&self.news);
            Ok(news.over.then(|| news.clone()))
        })?;
        match (status, told) {
            (Some(status), Some(news)) if status.success() => Ok(news),
            (Some(status), _) => Err(Error::Lost { doing: DOING, who: "the clients' process", status }),
            (None, _) => Err(Error::Mute { doing: DOING }),
        }
    }
}

fn lock(news: &Mutex<News>) -> MutexGuard<'_, News> {
    // Each line is taken in whole.
    news.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ourselves() -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(OURSELVES);
    command.arg0("ebb");
    command
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new().spawn(work).map(drop).map_err(started("start a thread"))
}
