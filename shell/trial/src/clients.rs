//! The clients of the trial: a first wave that is there when the drain begins, and newcomers all the time.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::dice::Dice;
use crate::error::started;
use crate::pool::{Server, has_ipv6};
use crate::server::PORT;
use crate::session::Session;
use crate::{Error, Options, Tally, process};

/// The first wave comes within this, so that no server has to refuse a flood.
const FIRST_WAVE: Duration = Duration::from_millis(1500);
/// Between two newcomers.
const NEWCOMERS: Duration = Duration::from_millis(100);
/// Sessions of newcomers are short: those that come just before the drain must not prolong it.
const NEWCOMER: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(12));
const CONNECT: Duration = Duration::from_secs(3);
/// Between two lines to the stage.
const TELL: Duration = Duration::from_millis(100);
/// Harms told in full; the rest only counts.
const HARMS: usize = 10;
/// First word of a line with a tally.
pub(crate) const TALLY: &str = "tally ";
/// First word of a line about a harm.
pub(crate) const HARM: &str = "harm ";

/// Plays the clients until standard input ends; then all say goodbye. Tells on standard output, line by line, what happened.
///
/// # Errors
/// [`Error::Start`] when there is no event loop or nobody to tell.
pub fn clients(options: &Options) -> Result<(), Error> {
    process::raise_descriptor_limit();
    process::runtime()?.block_on(async {
        let (closer, closing) = watch::channel(false);
        std::thread::Builder::new()
            .name("leash".to_owned())
            .spawn(move || {
                // Whatever comes, also an error: nobody directs us any more.
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                closer.send_replace(true);
            })
            .map_err(started("start a thread"))?;
        let shared = Shared::default();
        let crowd = crowd(options, &shared, &closing);
        tokio::pin!(crowd);
        let mut tick = interval(TELL);
        loop {
            tokio::select! {
                () = &mut crowd => return shared.tell(),
                _ = tick.tick() => shared.tell()?,
            }
        }
    })
}

/// What all sessions write to.
#[derive(Debug, Default, Clone)]
struct Shared(Arc<Mutex<(Tally, VecDeque<String>, usize)>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Tally, VecDeque<String>, usize)> {
        // Numbers are whole after every single step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.lock().0);
    }

    fn harm(&self, text: String) {
        let mut all = self.lock();
        all.0.harmed += 1;
        if all.2 < HARMS {
            all.2 += 1;
            all.1.push_back(text);
        }
    }

    fn tell(&self) -> Result<(), Error> {
        let mut lines = String::new();
        let mut all = self.lock();
        for harm in all.1.drain(..) {
            lines.push_str(HARM);
            lines.push_str(&harm);
            lines.push('\n');
        }
        lines.push_str(&format!("{TALLY}{}\n", all.0));
        drop(all);
        let mut out = std::io::stdout().lock();
        out.write_all(lines.as_bytes()).and_then(|()| out.flush()).map_err(started("tell the stage"))
    }
}

/// Everybody, until all have gone.
async fn crowd(options: &Options, shared: &Shared, closing: &watch::Receiver<bool>) {
    let mut all = JoinSet::new();
    let mut dice = Dice::new(1);
    let ipv6 = has_ipv6();
    let wave = FIRST_WAVE / options.sessions.max(1);
    for number in 0..options.sessions {
        let server = if number % 2 == 0 { Server::A } else { Server::B };
        let client = Client {
            number: number.into(),
            length: dice.session(Duration::from_secs(Options::LEAST_SECONDS.into()), options.longest()),
            addresses: vec![server.address(ipv6 && number % 8 < 2)],
            newcomer: false,
            dice: Dice::new(u64::from(number) + 1000),
        };
        all.spawn(client.come(wave * number, shared.clone(), closing.clone()));
    }
    sleep(FIRST_WAVE).await;
    let mut door = interval(NEWCOMERS);
    // After a hiccup of the machine no flood.
    door.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closed = closing.clone();
    for number in u64::from(options.sessions).. {
        tokio::select! {
            _ = door.tick() => {}
            _ = closed.wait_for(|closing| *closing) => break,
        }
        let v6 = ipv6 && dice.once_in(4);
        // As a name server does it: both addresses, in changing order.
        let mut addresses = vec![Server::A.address(v6), Server::B.address(v6)];
        if dice.once_in(2) {
            addresses.reverse();
        }
        let length = dice.between(NEWCOMER.0, NEWCOMER.1.min(options.longest()));
        let client = Client { number, length, addresses, newcomer: true, dice: Dice::new(number + 1000) };
        all.spawn(client.come(Duration::ZERO, shared.clone(), closing.clone()));
        while all.try_join_next().is_some() {}
    }
    while all.join_next().await.is_some() {}
}

struct Client {
    number: u64,
    length: Duration,
    addresses: Vec<IpAddr>,
    newcomer: bool,
    dice: Dice,
}

impl Client {
    /// Comes after a while, stays its time, goes; counts what happens to it.
    async fn come(self, after: Duration, shared: Shared, closing: watch::Receiver<bool>) {
        sleep(after).await;
        shared.count(|tally| tally.newcomers += u64::from(self.newcomer));
        let Some((stream, server)) = self.enter(&shared).await else {
            shared.count(|tally| tally.failed += 1);
            return;
        };
        shared.count(|tally| *live(tally, server) += 1);
        let until = Instant::now() + self.length;
        let session = Session { stream, number: self.number, until, dice: self.dice, closing };
        let mut lines = 0_u64;
        let end = session.live(|| {
            lines += 1;
            shared.count(|tally| tally.lines += 1);
        });
        let end = end.await;
        shared.count(|tally| *live(tally, server) -= 1);
        match end {
            Ok(()) => shared.count(|tally| tally.served += 1),
            Err(harm) => {
                shared.harm(format!("session {} on {server}, after {lines} lines: {harm}", self.number));
            }
        }
    }

    /// Tries its addresses in order, as `getaddrinfo` and a loop do.
    async fn enter(&self, shared: &Shared) -> Option<(TcpStream, Server)> {
        let began = Instant::now();
        for (place, address) in self.addresses.iter().enumerate() {
            let stream = match timeout(CONNECT, TcpStream::connect(SocketAddr::new(*address, PORT))).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    shared.count(|tally| tally.refused += 1);
                    continue;
                }
                Ok(Err(_)) | Err(_) => continue,
            };
            // Without it a line may wait 40 ms for company.
            let _ = stream.set_nodelay(true);
            let server = Server::of(*address);
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.count(|tally| {
                if !self.newcomer {
                    tally.first += 1;
                    return;
                }
                tally.moved += u64::from(place > 0);
                tally.slowest_us = tally.slowest_us.max(took);
                match server {
                    Server::A => tally.to_a += 1,
                    Server::B => tally.to_b += 1,
                }
            });
            return Some((stream, server));
        }
        None
    }
}

fn live(tally: &mut Tally, server: Server) -> &mut u64 {
    match server {
        Server::A => &mut tally.live_a,
        Server::B => &mut tally.live_b,
    }
}
