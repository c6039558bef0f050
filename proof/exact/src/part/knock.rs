//! The load.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{ONCE, Orders, REQUEST, say};
use crate::child::now_us;
use crate::knocks::{KnockSpec, Knocked};

/// One that connected waits so long for its answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Beginnings that are remembered, of those that connected.
const LATELY: usize = 1000;

#[derive(Default)]
struct Counts {
    over: AtomicBool,
    served: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    other: AtomicU64,
    last_in_us: AtomicU64,
    first_refused_us: AtomicU64,
    staying: Mutex<Vec<TcpStream>>,
    lately: Mutex<VecDeque<u64>>,
    why: Mutex<BTreeMap<String, u64>>,
}

pub(super) fn run(spec: &KnockSpec) {
    let counts = Arc::new(Counts { first_refused_us: AtomicU64::new(u64::MAX), ..Counts::default() });
    let threads: Vec<_> = (0..spec.threads)
        .map(|_| {
            let (counts, to, stay) = (counts.clone(), spec.to.clone(), spec.stay);
            std::thread::spawn(move || {
                for to in to.iter().cycle() {
                    if counts.over.load(Relaxed) {
                        return;
                    }
                    knock(&counts, *to, stay);
                }
            })
        })
        .collect();
    let mut threads = Some(threads);
    let mut orders = Orders::default();
    while let Some(lines) = orders.read() {
        for line in lines {
            if line == "stop" {
                counts.over.store(true, Relaxed);
                for thread in threads.take().into_iter().flatten() {
                    let _ = thread.join();
                }
            }
            say(&counts.told());
        }
    }
}

fn knock(counts: &Counts, to: SocketAddr, stay: bool) {
    let began = now_us();
    let mut stream = match TcpStream::connect(to) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            counts.refused.fetch_add(1, Relaxed);
            counts.first_refused_us.fetch_min(began, Relaxed);
            return;
        }
        Err(error) => {
            counts.other.fetch_add(1, Relaxed);
            return counts.because(&error.to_string());
        }
    };
    counts.last_in_us.fetch_max(began, Relaxed);
    {
        let mut lately = counts.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.push_back(began);
        if lately.len() > LATELY {
            lately.pop_front();
        }
    }
    if stay {
        counts.staying.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        counts.served.fetch_add(1, Relaxed);
        return;
    }
    let mut line = [ONCE; REQUEST];
    line[1..9].copy_from_slice(&began.to_le_bytes());
    let mut back = Vec::with_capacity(REQUEST + 1);
    let told = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(&line))
        .and_then(|()| stream.read_to_end(&mut back));
    match told {
        Ok(_) if back == line => drop(counts.served.fetch_add(1, Relaxed)),
        other => {
            counts.broken.fetch_add(1, Relaxed);
            counts.because(&other.map_or_else(|error| error.to_string(), |count| format!("{count} bytes came back")));
        }
    }
}

impl Counts {
    fn because(&self, why: &str) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner).entry(why.to_owned()).or_default() += 1;
    }

    fn told(&self) -> Knocked {
        let first = self.first_refused_us.load(Relaxed);
        Knocked {
            served: self.served.load(Relaxed),
            refused: self.refused.load(Relaxed),
            broken: self.broken.load(Relaxed),
            other: self.other.load(Relaxed),
            last_in_us: self.last_in_us.load(Relaxed),
            first_refused_us: if first == u64::MAX { 0 } else { first },
            lately_in_us: self.lately.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect(),
            why: self.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
