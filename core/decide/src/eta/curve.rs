//! How likely sessions end at each age: from what was seen, and beyond that from the law that explains it best.

use std::collections::BTreeSet;

use ebb_model::{AGE_BINS, Lifetimes};

use super::fit::{Fit, Law, Seen, ln_likelihood, middle};

/// Bins of a curve: those of the record, and twelve more, up to sixteen times as old.
pub(super) const BINS: usize = AGE_BINS + 12;
/// Ends at a bin that weigh as much there as the law does.
const PULL: f64 = 20.0;
/// Where no law tells of all, the ends of the oldest tell of the tail: one of these shares of them, whichever explains
/// most.
const TAIL_SHARES: [f64; 6] = [0.5, 0.25, 0.12, 0.06, 0.03, 0.015];
/// And so many, at least.
const TAIL_ENDS: f64 = 15.0;
/// Of what is less likely than this only the best is looked at.
const ALONE: f64 = 0.3;
/// Below the tail the hazard goes in steps, each of so many bins.
const STEPS: [usize; 2] = [1, 3];

/// One way in which sessions may end.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// How likely it is, of one.
    pub(super) weight: f64,
    hazard: [f64; BINS],
    /// Sum of the hazard up to where each bin begins.
    sums: [f64; BINS],
}

impl Curve {
    fn new(weight: f64, hazard: [f64; BINS]) -> Self {
        let mut sums = [0.0; BINS];
        for bin in 1..BINS {
            let width = Lifetimes::edge(bin) - Lifetimes::edge(bin - 1);
            sums[bin] = sums[bin - 1] + hazard[bin - 1] * width;
        }
        Self { weight, hazard, sums }
    }

    /// The hazard summed up to an age in seconds. What lives on beyond has the negative exponential of it.
    pub(super) fn sum(&self, age: f64) -> f64 {
        let bin = if age < 1.0 { 0 } else { ((age.log2() * 3.0) as usize + 1).min(BINS - 1) };
        self.sums[bin] + self.hazard[bin] * (age - Lifetimes::edge(bin)).max(0.0)
    }
}

/// One way to explain what was seen: a law, from an age on, and steps below it.
struct Way {
    /// Logarithm of how likely it makes what was seen; each parameter has its price.
    score: f64,
    law: Fit,
    /// The hazard of each bin below.
    below: Vec<f64>,
}

/// The ways in which sessions may end, after what was seen of them.
pub(super) fn curves(lifetimes: &Lifetimes) -> Vec<Curve> {
    let seen: Vec<Seen> = lifetimes
        .ages
        .iter()
        .enumerate()
        .filter(|(_, sums)| sums.watched > 0.0)
        .map(|(bin, sums)| Seen { bin, at: middle(bin), ended: sums.ended, watched: sums.watched })
        .collect();
    let ends: f64 = seen.iter().map(|one| one.ended).sum();
    if ends <= 0.0 {
        return Vec::new();
    }
    let ways = ways(&seen, ends);
    let best = ways.iter().map(|way| way.score).fold(f64::MIN, f64::max);
    let weighted = ways.iter().map(|way| ((way.score - best).exp(), way));
    let kept: Vec<_> = weighted.filter(|(weight, _)| *weight > 0.05).collect();
    let all: f64 = kept.iter().map(|(weight, _)| weight).sum();
    let curves = kept.into_iter().flat_map(|(weight, way)| {
        let weight = weight / all;
        let nodes: Vec<_> = if weight < ALONE { vec![(1.0, way.law.best)] } else { way.law.nodes().collect() };
        nodes.into_iter().map(move |(share, node)| (share * weight, way, node))
    });
    curves.map(|(weight, way, node)| Curve::new(weight, hazards(lifetimes, way, node))).collect()
}

fn ways(seen: &[Seen], ends: f64) -> Vec<Way> {
    let price = ends.ln() / 2.0;
    let power = Fit::new(Law::Power, seen);
    let whole = |law: Fit| Way { score: law.ln_likelihood - 2.0 * price, law, below: Vec::new() };
    let mut ways = vec![whole(power), whole(Fit::new(Law::LogNormal, seen))];
    let tails: BTreeSet<usize> =
        TAIL_SHARES.iter().filter_map(|share| tail(seen, (ends * share).max(TAIL_ENDS))).collect();
    for from in tails {
        let law = Fit::new(Law::Power, &seen[from..]);
        for width in STEPS {
            let steps = Steps::new(&seen[..from], seen[from].bin, &power, width);
            let score = steps.ln_likelihood + law.ln_likelihood - (steps.count + 2.0) * price;
            ways.push(Way { score, law, below: steps.hazards });
        }
    }
    ways
}

/// Where the tail begins that has so many of the ends; none if it is all there is.
fn tail(seen: &[Seen], wanted: f64) -> Option<usize> {
    let mut sum = 0.0;
    let from = seen.iter().rposition(|one| {
        sum += one.ended;
        sum >= wanted
    });
    from.filter(|from| *from > 0)
}

/// A hazard that goes in steps.
struct Steps {
    /// Of each bin.
    hazards: Vec<f64>,
    /// How many steps something was seen of.
    count: f64,
    ln_likelihood: f64,
}

impl Steps {
    fn new(seen: &[Seen], bins: usize, power: &Fit, width: usize) -> Self {
        let mut steps = Self { hazards: Vec::with_capacity(bins), count: 0.0, ln_likelihood: 0.0 };
        for bin in 0..bins {
            // From the tail down, so that the step beside it is whole.
            let step = (bins - 1 - bin) / width;
            let within = || seen.iter().filter(move |one| (bins - 1 - one.bin) / width == step);
            let (ended, watched) =
                within().fold((0.0, 0.0), |(ended, watched), one| (ended + one.ended, watched + one.watched));
            let expected: f64 = within().map(|one| one.watched * power.hazard(one)).sum();
            let by_law = power.law.ln_hazard(power.best, middle(bin)).exp();
            steps.hazards.push((ended + 0.5) / (watched + 0.5 / by_law));
            if ended.max(expected) > 0.5 && (bin == 0 || (bins - bin) / width != step) {
                steps.count += 1.0;
            }
        }
        steps.ln_likelihood = ln_likelihood(seen, |one| steps.hazards[one.bin].ln());
        steps
    }
}

/// What was seen at each age, pulled to what explains it, the more the less it is. Beyond all that was seen it does not rise:
/// who has outlived all others is not about to go for that.
fn hazards(lifetimes: &Lifetimes, way: &Way, node: [f64; 2]) -> [f64; BINS] {
    let last = lifetimes.ages.iter().rposition(|sums| sums.ended > 0.0).unwrap_or(0);
    let mut most = f64::INFINITY;
    std::array::from_fn(|bin| {
        let by_law = match way.below.get(bin) {
            Some(hazard) => *hazard,
            None => way.law.law.ln_hazard(node, middle(bin)).exp(),
        };
        let sums = lifetimes.ages.get(bin).copied().unwrap_or_default();
        let hazard = (sums.ended + PULL) / (sums.watched + PULL / by_law.max(1e-12));
        most = if bin > last { hazard.min(most) } else { hazard };
        most
    })
}
