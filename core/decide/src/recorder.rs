//! How lifetimes are learnt: from censuses now and then, and from the kernel's closings in between.
//!
//! Only some sessions are followed where there are many. What ends because we end it, or with its service, has not ended by
//! itself, and is lost sight of.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ebb_model::{Age, Ages, Followed, Following, Lifetimes, Mono, Now, ServiceName, SessionId, Span, Wall};

/// Sessions that are followed at most, of all services together.
pub const FOLLOWED: usize = 10_000;
/// So many that end within a second, and more than half of all, have been ended by something else than themselves.
const AT_ONCE: usize = 20;
/// Numbers by the hour are taken this often.
const HOURLY: Span = Span::seconds(30);
/// One of a million, at least, is followed.
const THINNEST: u32 = 20;
/// We end at most so many at a time whose end is not heard of at once.
const OURS: usize = 100_000;

/// A census for the recorder.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// When it was taken.
    pub now: Now,
    /// Hour of the week, local time, from Monday 00:00.
    pub hour_of_week: usize,
    /// Every closing since the census before was heard of.
    pub whole: bool,
    /// The services that were looked at.
    pub services: Vec<Looked>,
    /// The sessions that are to be followed: place of the service, name, age as far as the kernel tells it.
    pub sessions: Vec<(usize, SessionId, Age)>,
    /// Services that have been stopped or started since the census before.
    pub restarted: BTreeSet<ServiceName>,
    /// Services that are held: who does not come now would have.
    pub held: BTreeSet<ServiceName>,
}

/// A service in a census.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Which.
    pub name: ServiceName,
    /// How many sessions it has.
    pub total: u64,
    /// Which of them are in the census: those for which [`is_followed`] is true.
    pub thin: u32,
}

impl Look {
    /// One more session of the service at `place`. Where they become too many, fewer of the service that has most are kept.
    pub fn add(&mut self, place: usize, id: SessionId, age: Age) {
        let one = &mut self.services[place];
        one.total += 1;
        if !is_followed(id, one.thin) {
            return;
        }
        self.sessions.push((place, id, age));
        if self.sessions.len() <= 2 * FOLLOWED {
            return;
        }
        let mut counts = vec![0u64; self.services.len()];
        self.sessions.iter().for_each(|(place, ..)| counts[*place] += 1);
        let Some(most) = (0..counts.len()).max_by_key(|place| counts[*place]) else { return };
        let one = &mut self.services[most];
        one.thin = (one.thin + 1).min(THINNEST);
        let thin = one.thin;
        self.sessions.retain(|(place, id, _)| *place != most || is_followed(*id, thin));
    }
}

/// A session that is no more, as the kernel tells.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Its name.
    pub id: SessionId,
    /// Whose it was.
    pub service: ServiceName,
    /// It was not younger than this.
    pub least: Span,
}

/// A session that is followed.
#[derive(Clone, Copy, Debug)]
struct Life {
    service: usize,
    began: Mono,
    /// It was there before us: it may have begun earlier.
    unsure: bool,
    /// Until when its life is in the sums.
    booked: Mono,
    /// Seen in this census.
    seen: bool,
}

/// An end that is not in the sums yet: it may turn out to have been the service's.
#[derive(Clone, Copy, Debug)]
struct End {
    life: Life,
    at: Mono,
}

#[derive(Clone, Debug)]
struct One {
    name: ServiceName,
    lifetimes: Lifetimes,
    /// Followed are those of whose hash so many bits are zero.
    thin: u32,
    /// When it was looked at last; none: never, or another choice of sessions was followed then.
    looked: Option<Mono>,
    /// In the last census.
    there: bool,
    total: u64,
    followed: usize,
    ends: Vec<End>,
    /// When the numbers by the hour were taken last, and who has come since.
    hourly: Option<Mono>,
    arrived: f64,
}

/// Learns lifetimes.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    all: Vec<One>,
    followed: BTreeMap<SessionId, Life>,
    /// Followed by the one before us, in this boot.
    before: BTreeMap<SessionId, Mono>,
    /// We end these.
    ours: BTreeSet<SessionId>,
    /// Missed in the last census: their closings come late.
    missed: BTreeSet<SessionId>,
}

/// A number that looks as if by chance, of a name.
const fn hash(id: SessionId) -> u64 {
    let mixed = (id.0 ^ (id.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Whether a session is one of those that are followed.
#[must_use]
pub const fn is_followed(id: SessionId, thin: u32) -> bool {
    hash(id) >> 32 & ((1 << thin) - 1) == 0
}

/// Some time within a span; each session has its own.
fn within(id: SessionId, span: Span) -> Span {
    let share = (hash(id) & 0xffff) as f64 / 65_536.0;
    Span((span.0 as f64 * share) as u64)
}

impl Recorder {
    /// Goes on with what was learnt before.
    pub fn load(&mut self, name: &ServiceName, lifetimes: Lifetimes, following: &Following, boot_id: &str) {
        let index = self.index(name, lifetimes.faded);
        self.all[index].lifetimes = lifetimes;
        if following.boot_id == boot_id {
            self.before.extend(following.sessions.iter().map(|one| (one.id, one.began)));
        }
    }

    /// Whether something is known of a service already.
    #[must_use]
    pub fn knows(&self, name: &ServiceName) -> bool {
        self.all.iter().any(|one| one.name == *name)
    }

    /// Which sessions of a service are to be followed: those for which [`is_followed`] is true.
    #[must_use]
    pub fn thin(&self, name: &ServiceName) -> u32 {
        self.all.iter().find(|one| one.name == *name).map_or(0, |one| one.thin)
    }

    fn index(&mut self, name: &ServiceName, now: Wall) -> usize {
        self.all.iter().position(|one| one.name == *name).unwrap_or_else(|| {
            self.all.push(One {
                name: name.clone(),
                lifetimes: Lifetimes::new(now),
                thin: 0,
                looked: None,
                there: false,
                total: 0,
                followed: 0,
                ends: Vec::new(),
                hourly: None,
                arrived: 0.0,
            });
            self.all.len() - 1
        })
    }

    /// We are about to end these: that is not their own end.
    pub fn ours(&mut self, ids: &[SessionId]) {
        if self.ours.len() + ids.len() > OURS {
            self.ours.clear();
        }
        self.ours.extend(ids);
    }

    /// The kernel tells that these are gone.
    pub fn closed(&mut self, gone: &[Gone], now: Mono) {
        for one in gone {
            let ours = self.ours.remove(&one.id);
            if let Some(life) = self.followed.remove(&one.id) {
                self.all[life.service].followed -= 1;
                self.end(life, now, ours);
            } else if !self.missed.remove(&one.id) && !ours {
                self.came_and_went(one, now);
            }
        }
    }

    /// One that was never seen in a census began after the last one.
    fn came_and_went(&mut self, gone: &Gone, now: Mono) {
        let Some(index) = self.all.iter().position(|one| one.name == gone.service) else { return };
        let one = &mut self.all[index];
        let Some(looked) = one.looked.filter(|_| is_followed(gone.id, one.thin)) else { return };
        one.arrived += f64::from(1u32 << one.thin);
        let span = now.since(looked);
        let least = gone.least.min(span);
        let age = Span(least.0 + within(gone.id, Span(span.0 - least.0)).0);
        let began = Mono(now.0 - age.0);
        one.ends.push(End { life: Life { service: index, began, unsure: false, booked: began, seen: false }, at: now });
    }

    fn end(&mut self, life: Life, at: Mono, ours: bool) {
        if life.unsure {
            return;
        }
        let one = &mut self.all[life.service];
        if ours {
            one.lifetimes.lived(life.booked.since(life.began), at.since(life.began));
            one.lifetimes.censored(at.since(life.began));
        } else {
            one.ends.push(End { life, at });
        }
    }

    /// Takes a census.
    pub fn look(&mut self, look: &Look) {
        let places: Vec<usize> = look.services.iter().map(|looked| self.index(&looked.name, look.now.wall)).collect();
        self.all.iter_mut().for_each(|one| one.there = false);
        for (place, looked) in places.iter().zip(&look.services) {
            (self.all[*place].there, self.all[*place].total) = (true, looked.total);
            if looked.thin > self.all[*place].thin {
                self.follow_fewer(*place, looked.thin, look.now.mono);
            }
        }
        self.followed.values_mut().for_each(|life| life.seen = false);
        for (place, id, age) in &look.sessions {
            match self.followed.get_mut(id) {
                Some(life) => life.seen = true,
                None => self.begin(places[*place], *id, *age, look),
            }
        }
        self.miss(look.now.mono);
        self.before.retain(|id, _| !self.followed.contains_key(id));
        for place in places {
            let one = &mut self.all[place];
            let restarted = look.restarted.contains(&one.name);
            one.book_ends(restarted);
            one.looked = Some(look.now.mono);
            one.hourly(look);
        }
        self.thin_out(look.now.mono);
    }

    fn begin(&mut self, place: usize, id: SessionId, age: Age, look: &Look) {
        let now = look.now.mono;
        let one = &mut self.all[place];
        let least = age.at_least();
        let (began, unsure, booked) = match (self.before.get(&id), one.looked) {
            // Who ended while nobody looked is not known: it comes into sight now.
            (Some(began), _) => (*began, false, now),
            (None, None) => (Mono(now.0.saturating_sub(least.0)), true, now),
            (None, Some(looked)) => {
                one.arrived += f64::from(1u32 << one.thin);
                let span = now.since(looked);
                let least = least.min(span);
                let began = Mono(now.0 - least.0 - within(id, Span(span.0 - least.0)).0);
                // Others that began with it and have gone were heard of, or were not.
                (began, false, if look.whole { began } else { now })
            }
        };
        one.followed += 1;
        self.followed.insert(id, Life { service: place, began, unsure, booked, seen: true });
    }

    /// Those that are not there any more, although no closing told of it.
    fn miss(&mut self, now: Mono) {
        let gone: Vec<(SessionId, Life)> =
            self.followed.iter().filter(|(_, life)| !life.seen).map(|(id, life)| (*id, *life)).collect();
        self.missed.clear();
        for (id, life) in gone {
            self.followed.remove(&id);
            self.missed.insert(id);
            let ours = self.ours.remove(&id);
            let one = &mut self.all[life.service];
            one.followed -= 1;
            // Some time since it was seen last; if its service was not looked at, nothing is known of it.
            let looked = one.looked.filter(|_| one.there).unwrap_or(life.booked).max(life.began);
            let at = Mono(u64::midpoint(looked.0, now.0));
            let ours = ours || !one.there;
            self.end(life, at, ours);
        }
    }

    /// Follows fewer, where they are too many; and all again, where they are few.
    fn thin_out(&mut self, now: Mono) {
        while self.followed.len() > FOLLOWED {
            let Some(most) = (0..self.all.len()).max_by_key(|index| self.all[*index].followed) else { return };
            let thin = self.all[most].thin + 1;
            if thin > THINNEST {
                return;
            }
            self.follow_fewer(most, thin, now);
        }
        for one in self.all.iter_mut().filter(|one| one.thin > 0 && one.total < FOLLOWED as u64 / 10) {
            // Others than before are followed then, and how old these are is not known.
            (one.thin, one.looked) = (0, None);
        }
    }

    fn follow_fewer(&mut self, place: usize, thin: u32, now: Mono) {
        let one = &mut self.all[place];
        one.thin = thin;
        self.followed.retain(|id, life| {
            let keep = life.service != place || is_followed(*id, thin);
            if !keep && !life.unsure {
                one.lifetimes.lived(life.booked.since(life.began), now.since(life.began));
            }
            one.followed -= usize::from(!keep);
            keep
        });
    }

    /// Brings the sums up to now.
    fn book(&mut self, now: Now) {
        for life in self.followed.values_mut().filter(|life| !life.unsure && life.booked < now.mono) {
            let lifetimes = &mut self.all[life.service].lifetimes;
            lifetimes.lived(life.booked.since(life.began), now.mono.since(life.began));
            life.booked = now.mono;
        }
        self.all.iter_mut().for_each(|one| one.lifetimes.fade(now.wall));
    }

    /// What is to be kept: of each service that was in the last census.
    pub fn keep(&mut self, now: Now, boot_id: &str) -> Vec<(ServiceName, Lifetimes, Following)> {
        self.book(now);
        let mut sessions: Vec<Vec<Followed>> = vec![Vec::new(); self.all.len()];
        for (id, life) in self.followed.iter().filter(|(_, life)| !life.unsure) {
            sessions[life.service].push(Followed { id: *id, began: life.began });
        }
        let all = self.all.iter().zip(sessions).filter(|(one, _)| one.there);
        all.map(|(one, sessions)| {
            let following = Following { boot_id: boot_id.to_owned(), sessions };
            (one.name.clone(), one.lifetimes.clone(), following)
        })
        .collect()
    }

    /// What is known of a service's lifetimes, and how old those are that are there now; none if it was never looked at.
    pub fn known(&mut self, name: &ServiceName, now: Now) -> Option<(Lifetimes, Ages)> {
        let index = self.all.iter().position(|one| one.name == *name && one.looked.is_some())?;
        self.book(now);
        let ages = self.followed.values().filter(|life| life.service == index).map(|life| {
            let age = now.mono.since(life.began);
            if life.unsure { Age::AtLeast(age) } else { Age::Exactly(age) }
        });
        let ages: Ages = ages.collect();
        Some((self.all[index].lifetimes.clone(), ages))
    }
}

impl One {
    /// Puts the ends into the sums, now that it is known whether the service had to do with them.
    fn book_ends(&mut self, restarted: bool) {
        let mut by_second: BTreeMap<u64, usize> = BTreeMap::new();
        for end in &self.ends {
            *by_second.entry(end.at.0 / 1000).or_default() += 1;
        }
        let half = (self.followed + self.ends.len()) / 2;
        for End { life, at } in std::mem::take(&mut self.ends) {
            let age = at.since(life.began);
            self.lifetimes.lived(life.booked.since(life.began), age);
            let at_once = by_second.get(&(at.0 / 1000)).copied().unwrap_or(0);
            if restarted || at_once > half.max(AT_ONCE) {
                self.lifetimes.censored(age);
            } else {
                self.lifetimes.ended(age);
            }
        }
    }

    fn hourly(&mut self, look: &Look) {
        let now = look.now.mono;
        let Some(since) = self.hourly else {
            (self.hourly, self.arrived) = (Some(now), 0.0);
            return;
        };
        let span = now.since(since);
        if span < HOURLY {
            return;
        }
        if !look.held.contains(&self.name) {
            self.lifetimes.looked(look.hour_of_week, span, self.total as f64, self.arrived);
        }
        (self.hourly, self.arrived) = (Some(now), 0.0);
    }
}
