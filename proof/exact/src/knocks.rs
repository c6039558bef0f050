//! A load of new connections: one attempt after the other, as fast as it goes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::child::{Part, parts};
use crate::net::Net;

/// Orders of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnockSpec {
    /// Where to, in turn.
    pub to: Vec<SocketAddr>,
    /// Attempts side by side.
    pub threads: u32,
    /// Those that connect say nothing and stay.
    pub stay: bool,
}

/// What came of it so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knocked {
    /// Connected, and each got its answer, or stays.
    pub served: u64,
    /// Refused with a reset.
    pub refused: u64,
    /// Connected and not served.
    pub broken: u64,
    /// Anything else.
    pub other: u64,
    /// When the last that connected had sent its SYN at the earliest, as [`crate::now_us`].
    pub last_in_us: u64,
    /// When the first that was refused had sent it.
    pub first_refused_us: u64,
    /// When those that connected had begun, the last 1000 of each thread.
    pub lately_in_us: Vec<u64>,
    /// How the broken and others ended.
    pub why: BTreeMap<String, u64>,
}

/// Processes that knock.
#[derive(Debug)]
pub struct Knocks(Vec<Part>);

impl Knocks {
    /// Begins to knock.
    #[must_use]
    pub fn start(net: &Net, processes: u32, spec: &KnockSpec) -> Self {
        Self((0..processes).map(|_| Part::start(&parts(), &net.client, "knock", spec)).collect())
    }

    /// What came of it so far.
    pub fn count(&mut self) -> Knocked {
        self.each("count")
    }

    /// Ends it: no attempt is under way when this returns.
    #[must_use]
    pub fn stop(mut self) -> Knocked {
        self.each("stop")
    }

    fn each(&mut self, line: &str) -> Knocked {
        let mut sum = Knocked::default();
        for part in &mut self.0 {
            part.tell(line);
        }
        for part in &mut self.0 {
            let one: Knocked = part.hear();
            sum.served += one.served;
            sum.refused += one.refused;
            sum.broken += one.broken;
            sum.other += one.other;
            sum.last_in_us = sum.last_in_us.max(one.last_in_us);
            let firsts = [sum.first_refused_us, one.first_refused_us].into_iter().filter(|first| *first > 0);
            sum.first_refused_us = firsts.min().unwrap_or(0);
            sum.lately_in_us.extend(one.lately_in_us);
            for (why, count) in one.why {
                *sum.why.entry(why).or_default() += count;
            }
        }
        sum
    }
}
