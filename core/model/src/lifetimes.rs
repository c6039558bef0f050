//! How long the sessions of a service live, as far as it was seen: sums by age and by hour of the week, and nothing of
//! any one session.

use crate::{Age, Mono, SessionId, Span, Wall};

/// Bins of age: `[0, 1 s)`, then three for each doubling, and one for everything from 30 days on.
pub const AGE_BINS: usize = 66;
/// Hours of a week.
pub const WEEK_HOURS: usize = 168;
const PER_DOUBLING: f64 = 3.0;
/// Old habits count half after this long.
const HALF_LIFE: Span = Span::seconds(28 * 86_400);

/// What was seen of sessions at one age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AgeBin {
    /// Sessions that ended by themselves at this age.
    pub ended: f64,
    /// Sessions that were lost sight of at this age, or ended by us.
    pub censored: f64,
    /// Time that sessions of this age were watched for, in seconds: what they were exposed to ending.
    pub watched: f64,
}

/// What was seen in one hour of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hour {
    /// For how long it was looked at, in seconds.
    pub watched: f64,
    /// Sessions that were there, each with its time, in seconds.
    pub present: f64,
    /// Sessions that began.
    pub arrived: f64,
}

impl Hour {
    /// How many sessions are there on average; none if it was looked at for less than five minutes.
    #[must_use]
    pub fn usual(&self) -> Option<f64> {
        (self.watched >= 300.0).then(|| self.present / self.watched)
    }
}

/// How long the sessions of one service live.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifetimes {
    /// By age; [`AGE_BINS`] of them.
    pub ages: Vec<AgeBin>,
    /// By hour of the week, from Monday 00:00 local time; [`WEEK_HOURS`] of them.
    pub hours: Vec<Hour>,
    /// Until when it has faded.
    pub faded: Wall,
}

impl Lifetimes {
    /// Nothing was seen so far.
    #[must_use]
    pub fn new(now: Wall) -> Self {
        Self { ages: vec![AgeBin::default(); AGE_BINS], hours: vec![Hour::default(); WEEK_HOURS], faded: now }
    }

    /// The bin of an age.
    #[must_use]
    pub fn bin(age: Span) -> usize {
        let seconds = age.as_seconds();
        if seconds < 1.0 {
            return 0;
        }
        // Not negative, and small.
        let bin = (seconds.log2() * PER_DOUBLING) as usize + 1;
        bin.min(AGE_BINS - 1)
    }

    /// Where a bin begins, in seconds. It goes on beyond the last bin.
    #[must_use]
    pub fn edge(bin: usize) -> f64 {
        if bin == 0 { 0.0 } else { ((bin - 1) as f64 / PER_DOUBLING).exp2() }
    }

    /// A session was seen alive from one age to another.
    pub fn lived(&mut self, from: Span, to: Span) {
        let (from, to) = (from.as_seconds(), to.as_seconds());
        if to <= from {
            return;
        }
        let first = Self::bin(Span((from * 1000.0) as u64)).saturating_sub(1);
        for (bin, sums) in self.ages.iter_mut().enumerate().skip(first) {
            let begins = Self::edge(bin);
            if begins >= to {
                break;
            }
            let ends = if bin + 1 == AGE_BINS { f64::INFINITY } else { Self::edge(bin + 1) };
            sums.watched += (to.min(ends) - from.max(begins)).max(0.0);
        }
    }

    /// A session ended by itself at this age.
    pub fn ended(&mut self, age: Span) {
        self.ages[Self::bin(age)].ended += 1.0;
    }

    /// A session was lost sight of at this age, or ended by us: how long it would have lived is not known.
    pub fn censored(&mut self, age: Span) {
        self.ages[Self::bin(age)].censored += 1.0;
    }

    /// So many sessions were there for a while in this hour of the week, and so many began.
    pub fn looked(&mut self, hour_of_week: usize, span: Span, present: f64, arrived: f64) {
        let hour = &mut self.hours[hour_of_week % WEEK_HOURS];
        hour.watched += span.as_seconds();
        hour.present += present * span.as_seconds();
        hour.arrived += arrived;
    }

    /// Lets what was seen before count less, so that habits may change.
    pub fn fade(&mut self, now: Wall) {
        let passed = now.since(self.faded);
        if passed == Span::ZERO {
            // Also where the clock was set back: nothing is unlearnt for that.
            self.faded = self.faded.min(now);
            return;
        }
        let keep = (-passed.as_seconds() / HALF_LIFE.as_seconds()).exp2();
        for bin in &mut self.ages {
            bin.ended *= keep;
            bin.censored *= keep;
            bin.watched *= keep;
        }
        for hour in &mut self.hours {
            hour.watched *= keep;
            hour.present *= keep;
            hour.arrived *= keep;
        }
        self.faded = now;
    }

    /// How many ends it stands on, old ones counted less.
    #[must_use]
    pub fn recorded(&self) -> f64 {
        self.ages.iter().map(|bin| bin.ended).sum()
    }
}

/// A session that is followed until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its name for this boot.
    pub id: SessionId,
    /// When it began.
    pub began: Mono,
}

/// Sessions that are followed until they end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Following {
    /// In which boot: in another, their names mean nothing.
    pub boot_id: String,
    /// Which.
    pub sessions: Vec<Followed>,
}

/// How old the sessions are that are there, grouped: what an estimate takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ages {
    exact: Vec<Group>,
    at_least: Vec<Group>,
    between: std::collections::BTreeMap<(usize, usize), Group>,
}

/// Sessions of about one age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Group {
    /// How many.
    pub count: f64,
    /// Sum of their ages, or of their lower bounds, in seconds.
    pub sum: f64,
    /// Sum of their upper bounds, in seconds; for those with two.
    pub most: f64,
}

impl Group {
    /// Their mean age, or the mean of their lower bounds, in seconds.
    #[must_use]
    pub fn age(&self) -> f64 {
        self.sum / self.count
    }
}

impl Ages {
    /// One more session.
    pub fn add(&mut self, age: Age) {
        match age {
            Age::Exactly(age) => add_to(&mut self.exact, age),
            Age::AtLeast(age) => add_to(&mut self.at_least, age),
            Age::Unknown => add_to(&mut self.at_least, Span::ZERO),
            Age::Between(least, most) => {
                let (low, high) = (Lifetimes::bin(least), Lifetimes::bin(most));
                if high <= low + 1 {
                    return add_to(&mut self.exact, Span(least.0.midpoint(most.0.max(least.0))));
                }
                let group = self.between.entry((low, high)).or_default();
                group.count += 1.0;
                group.sum += least.as_seconds();
                group.most += most.as_seconds();
            }
        }
    }

    /// So many sessions of one age.
    pub fn add_many(&mut self, age: Span, count: f64) {
        if count > 0.0 {
            let group = group(&mut self.exact, age);
            group.count += count;
            group.sum += count * age.as_seconds();
        }
    }

    /// The same ages for another number of sessions: those seen stand for all.
    #[must_use]
    pub fn standing_for(mut self, count: f64) -> Self {
        let seen = self.count();
        if seen > 0.0 {
            let all = self.exact.iter_mut().chain(&mut self.at_least).chain(self.between.values_mut());
            for group in all {
                group.count *= count / seen;
                group.sum *= count / seen;
                group.most *= count / seen;
            }
        }
        self
    }

    /// How many sessions.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.exact().chain(self.at_least()).chain(self.between()).map(|group| group.count).sum()
    }

    /// Those whose age is known.
    pub fn exact(&self) -> impl Iterator<Item = &Group> {
        self.exact.iter().filter(|group| group.count > 0.0)
    }

    /// Those that are not younger than something.
    pub fn at_least(&self) -> impl Iterator<Item = &Group> {
        self.at_least.iter().filter(|group| group.count > 0.0)
    }

    /// Those between two ages.
    pub fn between(&self) -> impl Iterator<Item = &Group> {
        self.between.values().filter(|group| group.count > 0.0)
    }
}

impl FromIterator<Age> for Ages {
    fn from_iter<T: IntoIterator<Item = Age>>(ages: T) -> Self {
        let mut all = Self::default();
        ages.into_iter().for_each(|age| all.add(age));
        all
    }
}

fn group(groups: &mut Vec<Group>, age: Span) -> &mut Group {
    groups.resize(AGE_BINS, Group::default());
    &mut groups[Lifetimes::bin(age)]
}

fn add_to(groups: &mut Vec<Group>, age: Span) {
    let group = group(groups, age);
    group.count += 1.0;
    group.sum += age.as_seconds();
}

/// When the sessions that are there will have gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Eta {
    /// How many there are.
    pub present: f64,
    /// Half of them are gone after this long, as likely as not.
    pub half: Span,
    /// Nine of ten.
    pub most: Span,
    /// Ninety-nine of a hundred.
    pub nearly_all: Span,
    /// The last one, by the best guess.
    pub last: Span,
    /// The last one leaves between these, in eight cases of ten.
    pub band: (Span, Span),
    /// How many are expected to be left at the deadline, if there is one.
    pub left_at_deadline: Option<f64>,
    /// How many are older than nearly all that were ever seen: of their like little is known.
    pub beyond: f64,
    /// Ends that it stands on.
    pub recorded: f64,
}

/// What can be said of when sessions will have gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Forecast {
    /// This.
    Known(Eta),
    /// Nothing yet.
    Unknown {
        /// Ends that were recorded.
        recorded: u64,
        /// Ends that are needed.
        needed: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Span {
        Span((seconds * 1000.0) as u64)
    }

    #[test]
    fn bins_and_their_edges_agree() {
        for bin in 1..AGE_BINS - 1 {
            let (edge, next) = (Lifetimes::edge(bin), Lifetimes::edge(bin + 1));
            assert_eq!(Lifetimes::bin(seconds((edge * next).sqrt())), bin, "{edge}");
        }
        assert_eq!((Lifetimes::bin(Span(999)), Lifetimes::bin(Span(1000))), (0, 1));
        assert_eq!(Lifetimes::bin(Span(u64::MAX)), AGE_BINS - 1);
        assert!((Lifetimes::edge(AGE_BINS - 1) / 86_400.0 - 30.6).abs() < 0.1);
    }

    #[test]
    fn time_lived_is_split_over_the_ages_and_none_is_lost() {
        let mut lifetimes = Lifetimes::new(Wall(0));
        lifetimes.lived(seconds(0.5), seconds(10.0));
        lifetimes.lived(seconds(100.0), seconds(4e6));
        lifetimes.lived(seconds(7.0), seconds(7.0));
        let sum: f64 = lifetimes.ages.iter().map(|bin| bin.watched).sum();
        assert!((sum - 9.5 - (4e6 - 100.0)).abs() < 1e-3, "{sum}");
        assert!((lifetimes.ages[0].watched - 0.5).abs() < 1e-9);
        let last = lifetimes.ages[AGE_BINS - 1].watched;
        assert!((last - (4e6 - Lifetimes::edge(AGE_BINS - 1))).abs() < 1e-3, "{last}");
    }

    #[test]
    fn what_was_seen_fades_and_a_clock_that_was_set_back_takes_nothing() {
        let mut lifetimes = Lifetimes::new(Wall(0));
        (0..8).for_each(|_| lifetimes.ended(Span(5000)));
        lifetimes.looked(200, Span(1000), 3.0, 1.0);
        lifetimes.fade(Wall(0) + HALF_LIFE);
        assert!((lifetimes.recorded() - 4.0).abs() < 1e-9);
        assert!((lifetimes.hours[200 - 168].present - 1.5).abs() < 1e-9);
        lifetimes.fade(Wall(0));
        assert!((lifetimes.recorded() - 4.0).abs() < 1e-9);
        lifetimes.fade(Wall(0) + HALF_LIFE);
        assert!((lifetimes.recorded() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn ages_are_grouped_by_what_is_known_of_them() {
        let mut ages: Ages = [
            Age::Exactly(Span(2000)),
            Age::Exactly(Span(2100)),
            Age::AtLeast(Span(5000)),
            Age::Unknown,
            Age::Between(Span(1000), Span(100_000)),
            Age::Between(Span(10_000), Span(11_000)),
        ]
        .into_iter()
        .collect();
        assert_eq!((ages.exact().count(), ages.at_least().count(), ages.between().count()), (2, 2, 1));
        assert!((ages.exact().next().unwrap().age() - 2.05).abs() < 1e-9);
        ages.add_many(Span(60_000), 4.0);
        assert!((ages.count() - 10.0).abs() < 1e-9);
        let ages = ages.standing_for(1000.0);
        assert!((ages.count() - 1000.0).abs() < 1e-9 && (ages.exact().next().unwrap().age() - 2.05).abs() < 1e-9);
    }
}
