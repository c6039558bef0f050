//! Populations of sessions, and what a recorder would have seen of them. The same seed makes the same ones.

use ebb_model::{Age, Lifetimes, Span, Wall};

/// A day in seconds.
const DAY: f64 = 86_400.0;

/// Numbers by chance (SplitMix64).
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1, and neither.
    pub fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.share().ln()
    }

    fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let (radius, angle) = ((-2.0 * self.share().ln()).sqrt(), std::f64::consts::TAU * self.share());
        median * (sigma * radius * angle.cos()).exp()
    }
}

/// How long sessions live.
#[derive(Debug, Clone, Copy)]
pub enum Law {
    /// Mean.
    Exponential(f64),
    /// Median and sigma.
    LogNormal(f64, f64),
    /// Share and mean of the first, mean of the others.
    Mixture(f64, f64, f64),
}

impl Law {
    pub fn draw(self, chance: &mut Chance) -> f64 {
        match self {
            Self::Exponential(mean) => chance.exponential(mean),
            Self::LogNormal(median, sigma) => chance.log_normal(median, sigma),
            Self::Mixture(share, first, second) => {
                let mean = if chance.share() < share { first } else { second };
                chance.exponential(mean)
            }
        }
    }

    fn mean(self) -> f64 {
        match self {
            Self::Exponential(mean) => mean,
            Self::LogNormal(median, sigma) => median * (sigma * sigma / 2.0).exp(),
            Self::Mixture(share, first, second) => share * first + (1.0 - share) * second,
        }
    }
}

/// Who uses a service.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    pub name: &'static str,
    pub law: Law,
    /// Ten times as many come in the evening as in the morning.
    pub daily: bool,
    /// Sessions there at a time, on average.
    pub present: f64,
}

/// A session at the moment at which the gate is shut.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    /// As the recorder knows it.
    pub age: Age,
    /// How long it stays, in seconds.
    pub stays: f64,
}

/// A service that was watched for a while, and is now drained.
#[derive(Debug)]
pub struct Drain {
    pub lifetimes: Lifetimes,
    pub live: Vec<Live>,
}

fn span(seconds: f64) -> Span {
    Span((seconds * 1000.0) as u64)
}

impl Population {
    /// Watched until about so many have ended, and drained then.
    pub fn drained(&self, recorded: f64, seed: u64) -> Drain {
        let mut chance = Chance(seed);
        let mean = self.law.mean();
        let rate = self.present / mean;
        // Of those that are there at first half tell nothing, and some are lost sight of.
        let watched = (recorded * 1.06 + self.present / 2.0) / rate;
        // Time is 0 when the gate is shut; at this hour of the day.
        let hour = chance.share() * DAY;
        let mut drain = Drain { lifetimes: Lifetimes::new(Wall(0)), live: Vec::new() };
        let mut at = -watched - 25.0 * mean.max(if self.daily { DAY / 12.0 } else { 0.0 });
        loop {
            // The most that may come; some of them do not.
            at += chance.exponential(1.0 / (rate * if self.daily { 1.82 } else { 1.0 }));
            if at >= 0.0 {
                return drain;
            }
            let wave = 1.0 + 0.82 * ((at + hour) / DAY * std::f64::consts::TAU).sin();
            if self.daily && chance.share() * 1.82 > wave {
                continue;
            }
            let life = self.law.draw(&mut chance);
            record(&mut drain, &mut chance, (at, life), watched);
        }
    }

    /// All there is to know: so many whole lives.
    pub fn known(&self, lives: usize) -> Lifetimes {
        let mut chance = Chance(1);
        let mut lifetimes = Lifetimes::new(Wall(0));
        for _ in 0..lives {
            let life = span(self.law.draw(&mut chance));
            lifetimes.lived(Span::ZERO, life);
            lifetimes.ended(life);
        }
        lifetimes
    }
}

/// What a recorder that has come at `-watched` sees of one session until 0.
fn record(drain: &mut Drain, chance: &mut Chance, (began, life): (f64, f64), watched: f64) {
    // Of half of those that were there before it knows how old they are: they come into sight at that age.
    let before = -watched - began;
    let known = before <= 0.0 || chance.share() < 0.5;
    let from = before.max(0.0);
    if life < from {
        return;
    }
    let until = life.min(-began);
    if known {
        // One of twenty is lost sight of.
        let lost = chance.share() < 0.05;
        let to = if lost { from + (until - from) * chance.share() } else { until };
        drain.lifetimes.lived(span(from), span(to));
        if lost {
            drain.lifetimes.censored(span(to));
        } else if life <= -began {
            drain.lifetimes.ended(span(to));
        }
    }
    if life > -began {
        let age = if known { Age::Exactly(span(-began)) } else { Age::AtLeast(span(watched)) };
        drain.live.push(Live { age, stays: life + began });
    }
}
