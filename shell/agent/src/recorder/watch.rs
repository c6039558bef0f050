//! Hears of closings and takes a census now and then, at a bounded cost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebb_decide::recorder::{Gone, Look, Looked};
use ebb_kernel::closings::{Closings, Drained};
use ebb_kernel::diag;
use ebb_model::{Mono, Now, Service, ServiceName, SessionId, Span, Why};
use jiff::tz::TimeZone;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::observe::{self, Book};
use crate::sources::{Readable, readable};
use crate::world::World;
use crate::{behind, look};

/// A census comes so many times its own cost after the one before: a fifth of a hundredth of a core at most.
const PATIENCE: u32 = 500;
/// But not sooner than this,
const SOON: Duration = Duration::from_secs(2);
/// nor later.
const LATE: Duration = Duration::from_secs(600);
/// What was learnt is written this often.
const SAVE: Span = Span::seconds(300);
/// Looking at all services is dear, where there are many processes: not sooner again than this.
const SERVICES: Span = Span::seconds(10);
/// Closings a second that are more than we want to hear of: censuses tell of the ends then, less exactly.
const LOUD: f64 = 3000.0;
/// For so long.
const DEAF: Span = Span::seconds(600);
/// Batches of closings that may wait.
const AHEAD: usize = 1024;

/// A connection that has ended: its name, where it was, how old it was at least.
type Ended = (SessionId, SocketAddr, Span);

/// What is heard of closings.
enum Heard {
    Ended(Vec<Ended>),
    /// Some were lost.
    Lost,
}

pub(super) struct Watch {
    world: Arc<World>,
    /// With which the services were read.
    config: Arc<Config>,
    book: Arc<Book>,
    names: BTreeSet<ServiceName>,
    doors: BTreeMap<ServiceName, BTreeSet<u16>>,
    /// The listening sockets of each port.
    listeners: BTreeMap<u16, BTreeSet<u32>>,
    looked: Option<Mono>,
    tasks: Vec<JoinHandle<()>>,
    heard: mpsc::Receiver<Heard>,
    say: mpsc::Sender<Heard>,
    /// All closings since the last census were heard of.
    whole: bool,
    closings: u64,
    census: Mono,
    /// Closings are too many: they are not listened to until then.
    deaf_until: Mono,
    saved: Mono,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Watch {
    pub(super) fn new(world: &Arc<World>) -> Self {
        let (say, heard) = mpsc::channel(AHEAD);
        let now = world.now().mono;
        Self {
            world: Arc::clone(world),
            config: world.config(),
            book: Arc::default(),
            names: BTreeSet::new(),
            doors: BTreeMap::new(),
            listeners: BTreeMap::new(),
            looked: None,
            tasks: Vec::new(),
            heard,
            say,
            whole: false,
            closings: 0,
            census: now,
            deaf_until: Mono(0),
            saved: now,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let cost = self.look().await;
            let now = self.world.now().mono;
            if now.since(self.saved) >= SAVE {
                self.saved = now;
                let world = Arc::clone(&self.world);
                // A slow disk must not hold up the others.
                let _ = tokio::task::spawn_blocking(move || super::save(&world)).await;
            }
            let next = tokio::time::sleep((cost * PATIENCE).clamp(SOON, LATE));
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next => break,
                    Some(heard) = self.heard.recv() => self.hear(heard),
                }
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        let Heard::Ended(ended) = heard else {
            self.whole = false;
            return;
        };
        self.closings += ended.len() as u64;
        let gone = ended.into_iter().filter_map(|(id, local, least)| {
            let service = self.book.owner(local).filter(|name| self.names.contains(*name))?.clone();
            Some(Gone { id, service, least })
        });
        let gone: Vec<Gone> = gone.collect();
        self.world.recorder.get().closed(&gone, self.world.now().mono);
    }

    /// Takes a census; the answer is what it cost.
    async fn look(&mut self) -> Duration {
        let restarted = self.look_at_listeners().await;
        let now = self.world.now();
        let passed = now.mono.since(self.census).as_seconds().max(1.0);
        self.census = now.mono;
        if std::mem::take(&mut self.closings) as f64 / passed > LOUD {
            self.tasks.drain(..).for_each(|task| task.abort());
            self.deaf_until = now.mono + DEAF;
        } else if self.tasks.is_empty() && !self.names.is_empty() && now.mono >= self.deaf_until {
            self.listen();
        }
        // What was begun to be listened to just now was not heard from the start.
        let whole = std::mem::replace(&mut self.whole, !self.tasks.is_empty());
        let look = Look {
            now,
            hour_of_week: hour_of_week(now),
            whole,
            services: self.services(),
            sessions: Vec::new(),
            restarted,
            held: self.world.store().holds().unwrap_or_default().into_iter().map(|hold| hold.service).collect(),
        };
        if look.services.is_empty() {
            return SOON / PATIENCE;
        }
        let (book, names, began) = (Arc::clone(&self.book), self.names.clone(), Instant::now());
        let taken = tokio::task::spawn_blocking(move || census(&book, &names, look)).await;
        let cost = began.elapsed();
        if let Ok(Ok(mut look)) = taken {
            look.now = self.world.now();
            self.world.recorder.get().look(&look);
        } else {
            // Nothing is known of who came and went meanwhile.
            self.whole = false;
        }
        cost
    }

    fn services(&self) -> Vec<Looked> {
        let recorder = self.world.recorder.get();
        self.names.iter().map(|name| Looked { name: name.clone(), total: 0, thin: recorder.thin(name) }).collect()
    }

    /// Services whose listening sockets are others than before have been restarted, or have other doors.
    async fn look_at_listeners(&mut self) -> BTreeSet<ServiceName> {
        let Some(listeners) = tokio::task::spawn_blocking(listeners).await.ok().flatten() else {
            return BTreeSet::new();
        };
        let config = self.world.config();
        let same = listeners == self.listeners && Arc::ptr_eq(&config, &self.config) && self.looked.is_some();
        if same {
            return BTreeSet::new();
        }
        let lost = |port: &u16| {
            let now = listeners.get(port);
            self.listeners
                .get(port)
                .is_some_and(|before| !before.iter().all(|one| now.is_some_and(|now| now.contains(one))))
        };
        let restarted: BTreeSet<ServiceName> =
            self.doors.iter().filter(|(_, ports)| ports.iter().any(lost)).map(|(name, _)| name.clone()).collect();
        let now = self.world.now().mono;
        if self.looked.is_none_or(|looked| now.since(looked) >= SERVICES)
            && let Ok(services) = look::services(&self.world).await
        {
            (self.config, self.listeners, self.looked) = (config, listeners, Some(now));
            self.rebook(&services);
        }
        restarted
    }

    fn rebook(&mut self, services: &[Service]) {
        self.book = Arc::new(Book::of(services));
        let ports = |service: &Service| -> BTreeSet<u16> {
            service.doors.iter().filter(|door| door.is_tcp()).map(|door| door.port).collect()
        };
        let with = services.iter().map(|service| (service.name.clone(), ports(service)));
        let doors: BTreeMap<_, _> = with.filter(|(_, ports)| !ports.is_empty()).collect();
        let changed = doors != self.doors;
        self.doors = doors;
        self.names = self.doors.keys().cloned().collect();
        for name in &self.names {
            if self.world.recorder.get().knows(name) {
                continue;
            }
            // What makes no sense is learnt anew.
            if let Ok(Some(kept)) = self.world.store().lifetimes(name) {
                self.world.recorder.get().load(name, kept.lifetimes, &kept.following, &self.world.boot_id);
            }
        }
        if changed {
            self.tasks.drain(..).for_each(|task| task.abort());
            self.whole = false;
        }
    }

    /// Listens to the kernel's closings, here and in containers.
    fn listen(&mut self) {
        let ports: Arc<BTreeSet<u16>> = Arc::new(self.doors.values().flatten().copied().collect());
        let there = behind::closings(self.book.doors(&self.names));
        let all = Closings::open().into_iter().chain(there).filter_map(readable);
        self.tasks = all.map(|closings| tokio::spawn(listen(closings, Arc::clone(&ports), self.say.clone()))).collect();
    }
}

async fn listen(mut closings: AsyncFd<Readable<Closings>>, ports: Arc<BTreeSet<u16>>, say: mpsc::Sender<Heard>) {
    loop {
        let Ok(mut ready) = closings.readable_mut().await else { return };
        let mut ended: Vec<Ended> = Vec::new();
        let read = ready.get_inner_mut().0.try_drain(&mut |closed| {
            if ports.contains(&closed.local.port()) {
                let info = closed.info;
                let times = [info.last_data_sent_ms, info.last_data_recv_ms, info.last_ack_recv_ms];
                let least = Span(u64::from(times.into_iter().max().unwrap_or(0)));
                ended.push((SessionId(closed.cookie), closed.local, least));
            }
        });
        ready.clear_ready();
        if !ended.is_empty() && say.send(Heard::Ended(ended)).await.is_err() {
            return;
        }
        if !matches!(read, Ok(Drained::Whole)) && say.send(Heard::Lost).await.is_err() {
            return;
        }
    }
}

/// Blocking.
fn census(book: &Book, names: &BTreeSet<ServiceName>, mut look: Look) -> Result<Look, Why> {
    let places: BTreeMap<ServiceName, usize> =
        look.services.iter().enumerate().map(|(place, one)| (one.name.clone(), place)).collect();
    observe::lives(book, names, &mut |name, id, age| {
        if let Some(place) = places.get(name) {
            look.add(*place, id, age);
        }
    })?;
    Ok(look)
}

/// The listening sockets of each port, by inode; none if they cannot be read. Blocking.
fn listeners() -> Option<BTreeMap<u16, BTreeSet<u32>>> {
    let here = diag::listeners().ok()?;
    let there = behind::listeners();
    let mut found: BTreeMap<u16, BTreeSet<u32>> = BTreeMap::new();
    for row in here.iter().chain(there.iter().map(|(_, row)| row)).filter(|row| row.state == diag::State::Listen) {
        found.entry(row.local.port()).or_default().insert(row.inode);
    }
    Some(found)
}

/// From Monday 00:00, in the server's own time zone: people's habits go by it.
pub(crate) fn hour_of_week(now: Now) -> usize {
    let at = jiff::Timestamp::from_millisecond(now.wall.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let at = at.to_zoned(TimeZone::system());
    let day = usize::try_from(at.weekday().to_monday_zero_offset()).unwrap_or(0);
    day * 24 + usize::try_from(at.hour()).unwrap_or(0)
}
