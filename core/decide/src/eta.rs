//! When the sessions that are there will have gone: from how long others lived, given how old these are.
//!
//! `docs/eta.md` says how it is computed and how far it can be trusted.

mod curve;
mod fit;

#[cfg(test)]
mod tests;

use ebb_model::{Age, Ages, Eta, Forecast, Hour, Lifetimes, Span, WEEK_HOURS};

use curve::{BINS, Curve, curves};
use fit::ln_normal_beyond;

/// Ends that must have been recorded before anything is said.
pub const NEEDED: u64 = 200;
/// Where fewer ends were seen than this, little is known.
const FEW: f64 = 5.0;
/// Shares of which it is said when they have gone.
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];
/// Times that are looked at: four for each doubling, from a quarter of a second to two years.
const TIMES: usize = 4 * 28;

fn time(step: usize) -> f64 {
    (step as f64 / 4.0 - 2.0).exp2()
}

/// When sessions of these ages will have gone, and how many of them will be left at the deadline.
#[must_use]
pub fn eta(lifetimes: &Lifetimes, present: &Ages, deadline: Option<Span>) -> Forecast {
    match Estimator::new(lifetimes) {
        Ok(estimator) => Forecast::Known(estimator.eta(present, deadline)),
        Err(unknown) => unknown,
    }
}

/// What a record of lifetimes says, ready to be asked.
#[derive(Clone, Debug)]
pub struct Estimator<'a> {
    lifetimes: &'a Lifetimes,
    curves: Vec<Curve>,
    /// From this age on little is known.
    beyond: f64,
}

/// Sessions of one age.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    age: f64,
    count: f64,
}

impl<'a> Estimator<'a> {
    /// Reads the record.
    ///
    /// # Errors
    /// [`Forecast::Unknown`]: it has too few ends.
    pub fn new(lifetimes: &'a Lifetimes) -> Result<Self, Forecast> {
        let recorded = lifetimes.recorded();
        if recorded < NEEDED as f64 {
            return Err(Forecast::Unknown { recorded: recorded as u64, needed: NEEDED });
        }
        let mut ends = 0.0;
        let last = lifetimes.ages.iter().rposition(|bin| {
            ends += bin.ended;
            ends >= FEW
        });
        let beyond = last.map_or(0.0, |bin| Lifetimes::edge(bin + 1));
        Ok(Self { lifetimes, curves: curves(lifetimes), beyond })
    }

    /// When sessions of these ages will have gone.
    #[must_use]
    pub fn eta(&self, present: &Ages, deadline: Option<Span>) -> Eta {
        let count = present.count();
        let points = self.points(present);
        let course = self.course(&points, SHARES.map(|share| (count * (1.0 - share) + 1e-9).floor()));
        let [half, most, nearly_all] = std::array::from_fn(|share| course.gone(share));
        let beyond = points.iter().filter(|point| point.age > self.beyond).map(|point| point.count);
        Eta {
            present: count,
            half,
            most,
            nearly_all,
            last: course.last(),
            band: (course.all_gone(0.1), course.all_gone(0.9)),
            left_at_deadline: deadline.map(|deadline| self.expected(&points, deadline)),
            beyond: beyond.sum(),
            recorded: self.lifetimes.recorded(),
        }
    }

    /// How likely one session of this age ends by itself within a time.
    #[must_use]
    pub fn ends_within(&self, age: Age, time: Span) -> f64 {
        let mut one = Ages::default();
        one.add(age);
        let count = one.count();
        if count > 0.0 { 1.0 - (self.expected(&self.points(&one), time) / count).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// How old the sessions usually are, and how many there are, at an hour of the week; none if it was never looked at.
    #[must_use]
    pub fn usual(&self, hour_of_week: usize) -> Option<Ages> {
        let hours = &self.lifetimes.hours;
        let count = hours[hour_of_week % WEEK_HOURS].usual()?;
        let known = |hour: &&Hour| hour.watched >= 300.0;
        let all: f64 = hours.iter().filter(known).map(|hour| hour.watched).sum();
        let mean = hours.iter().filter(known).map(|hour| hour.arrived).sum::<f64>() / all;
        // Who began so long ago, and lives still.
        let began = |ago: f64| {
            let back = (ago / 3600.0) as usize % WEEK_HOURS;
            let hour = &hours[(hour_of_week + WEEK_HOURS - back) % WEEK_HOURS];
            if hour.watched >= 300.0 { hour.arrived / hour.watched } else { mean }
        };
        let mut ages = Ages::default();
        for bin in 0..BINS {
            let (from, to) = (Lifetimes::edge(bin), Lifetimes::edge(bin + 1));
            // A bin may be days wide, over which mornings and nights alternate.
            let parts = ((to - from) / 1800.0).clamp(1.0, 48.0) as usize;
            let width = (to - from) / parts as f64;
            for part in 0..parts {
                let age = from + (part as f64 + 0.5) * width;
                let there = began(age) * self.alive(age) * width;
                ages.add_many(Span((age * 1000.0) as u64), there);
            }
        }
        Some(if ages.count() > 0.0 { ages.standing_for(count) } else { Ages::default() })
    }

    /// The share of sessions that reach an age.
    fn alive(&self, age: f64) -> f64 {
        self.curves.iter().map(|curve| curve.weight * (-curve.sum(age)).exp()).sum()
    }

    /// The sessions by age. One of which only bounds are known stands at each age between them, as likely as sessions of
    /// that age are met.
    fn points(&self, present: &Ages) -> Vec<Point> {
        let mut points = vec![Point::default(); BINS];
        let mut add = |age: f64, count: f64| {
            let bin = if age < 1.0 { 0 } else { ((age.log2() * 3.0) as usize + 1).min(BINS - 1) };
            points[bin].age += age * count;
            points[bin].count += count;
        };
        for group in present.exact() {
            add(group.age(), group.count);
        }
        let least = present.at_least().map(|group| (group.age(), f64::INFINITY, group.count));
        let between = present.between().map(|group| (group.age(), group.most / group.count, group.count));
        for (from, to, count) in least.chain(between) {
            let parts: Vec<(f64, f64)> = (0..BINS)
                .filter_map(|bin| {
                    let (low, high) = (Lifetimes::edge(bin).max(from), Lifetimes::edge(bin + 1).min(to));
                    let age = f64::midpoint(low, high);
                    (low < high).then(|| (age, (high - low) * self.alive(age)))
                })
                .collect();
            let all: f64 = parts.iter().map(|(_, share)| share).sum();
            if all > 0.0 {
                parts.iter().for_each(|(age, share)| add(*age, count * share / all));
            } else {
                add(from, count);
            }
        }
        points.retain(|point| point.count > 0.0);
        points.iter_mut().for_each(|point| point.age /= point.count);
        points
    }

    fn expected(&self, points: &[Point], after: Span) -> f64 {
        let behind = self.behind(points);
        self.left(points, &behind, after.as_seconds()).map(|(weight, left, _)| weight * left).sum()
    }

    /// The hazard that the sessions have behind them, by each curve.
    fn behind(&self, points: &[Point]) -> Vec<Vec<f64>> {
        self.curves.iter().map(|curve| points.iter().map(|point| curve.sum(point.age)).collect()).collect()
    }

    /// What is to be expected after a time, by each curve: how many are left, and how likely it is that none is.
    fn left<'b>(
        &'b self,
        points: &'b [Point],
        behind: &'b [Vec<f64>],
        time: f64,
    ) -> impl Iterator<Item = (f64, f64, f64)> + 'b {
        self.curves.iter().zip(behind).map(move |(curve, behind)| {
            let (mut sum, mut ln_none) = (0.0, 0.0);
            for (point, behind) in points.iter().zip(behind) {
                let stays = (behind - curve.sum(point.age + time)).exp();
                sum += point.count * stays;
                ln_none += point.count * (-stays).ln_1p();
            }
            (curve.weight, sum, ln_none.exp())
        })
    }

    /// `targets`: how many may be left.
    fn course(&self, points: &[Point], targets: [f64; 3]) -> Course {
        let behind = self.behind(points);
        let mut course = Course::default();
        for step in 0..TIMES {
            let (mut none, mut few) = (0.0, [0.0; 3]);
            for (weight, left, nobody) in self.left(points, &behind, time(step)) {
                none += weight * nobody;
                for (few, target) in few.iter_mut().zip(targets) {
                    *few += weight * if target < 1.0 { nobody } else { at_most(target, left) };
                }
            }
            course.none.push(none);
            course.few.iter_mut().zip(few).for_each(|(course, few)| course.push(few));
            if none > 0.999 {
                break;
            }
        }
        course
    }
}

/// How likely it is that not more than `count` are left where `expected` are: Poisson's, by Wilson and Hilferty.
fn at_most(count: f64, expected: f64) -> f64 {
    let shape = count + 1.0;
    let far = ((expected / shape).cbrt() - 1.0 + 1.0 / (9.0 * shape)) * 3.0 * shape.sqrt();
    ln_normal_beyond(far).exp()
}

/// How a drain is expected to go, at each of the times.
#[derive(Clone, Debug, Default)]
struct Course {
    /// How likely it is that nobody is left.
    none: Vec<f64>,
    /// How likely it is that these shares have gone.
    few: [Vec<f64>; 3],
}

impl Course {
    /// When this share has gone, as likely as not.
    fn gone(&self, share: usize) -> Span {
        crossing(&self.few[share], 0.5)
    }

    /// The one guess at the end that is least wrong as likely as not, by its share of the truth.
    fn last(&self) -> Span {
        // Half of all ends lie between two times; the guess that is as far from both is their harmonic mean.
        let between = (1..=10).map(|step| {
            let from = 0.05 * f64::from(step);
            [from, (from + 0.5).min(0.99)].map(|likely| self.all_gone(likely).as_seconds())
        });
        let wrong = |[least, most]: &[f64; 2]| (most - least) / (most + least);
        let best = between.min_by(|one, other| wrong(one).total_cmp(&wrong(other)));
        best.filter(|[least, _]| *least > 0.0)
            .map_or(self.all_gone(0.5), |[least, most]| Span((2000.0 * least * most / (least + most)) as u64))
    }

    /// When it is so likely that nobody is left.
    fn all_gone(&self, likely: f64) -> Span {
        crossing(&self.none, likely)
    }
}

/// When a value is reached, between two of the times that were looked at.
fn crossing(values: &[f64], wanted: f64) -> Span {
    let Some(step) = values.iter().position(|value| *value >= wanted) else {
        return Span::seconds(time(values.len().saturating_sub(1)) as u64);
    };
    let Some(before) = step.checked_sub(1) else { return Span::ZERO };
    let share = (wanted - values[before]) / (values[step] - values[before]);
    let seconds = time(before) * (time(step) / time(before)).powf(share);
    Span((seconds * 1000.0) as u64)
}
