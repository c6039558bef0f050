//! Laws of how likely sessions end at each age, and the parameters that explain best what was seen.

use ebb_model::Lifetimes;

/// What was seen at one age.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) bin: usize,
    /// Logarithm of the age in seconds.
    pub(super) at: f64,
    pub(super) ended: f64,
    pub(super) watched: f64,
}

/// The logarithm of the age in the middle of a bin.
pub(super) fn middle(bin: usize) -> f64 {
    if bin == 0 { 0.5f64.ln() } else { f64::midpoint(Lifetimes::edge(bin).ln(), Lifetimes::edge(bin + 1).ln()) }
}

/// A law of how the hazard goes with age, with two parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Law {
    /// A power of the age: Weibull, the exponential among them, and Pareto at its end.
    Power,
    /// Log-normal lifetimes.
    LogNormal,
}

impl Law {
    /// The logarithm of the hazard per second.
    pub(super) fn ln_hazard(self, [first, second]: [f64; 2], at: f64) -> f64 {
        match self {
            // Around the age of 100 s. Beyond Pareto some would never end.
            Self::Power => first + second.max(-1.0) * (at - 100f64.ln()),
            Self::LogNormal => {
                let sigma = second.exp();
                ln_normal_hazard((at - first) / sigma) - at - second
            }
        }
    }

    /// What is thought likely before anything was seen.
    fn ln_prior(self, [first, second]: [f64; 2]) -> f64 {
        let normal = |x: f64, mean: f64, sd: f64| -((x - mean) / sd).powi(2) / 2.0;
        match self {
            Self::Power => normal(first, -6.0, 6.0) + normal(second, -0.15, 0.3),
            Self::LogNormal => normal(first, 6.0, 6.0) + normal(second, 0.0, 0.7),
        }
    }

    fn start(self, seen: &[Seen]) -> [f64; 2] {
        let ended: f64 = seen.iter().map(|one| one.ended).sum();
        let watched: f64 = seen.iter().map(|one| one.watched).sum();
        let mean = seen.iter().map(|one| one.ended * one.at).sum::<f64>() / ended;
        match self {
            Self::Power => [(ended / watched).ln(), 0.0],
            Self::LogNormal => {
                let square = seen.iter().map(|one| one.ended * (one.at - mean).powi(2)).sum::<f64>() / ended;
                [mean, (square.sqrt()).clamp(0.2, 3.0).ln()]
            }
        }
    }
}

/// The logarithm of the hazard of a standard normal: `phi(x) / (1 - Phi(x))`.
fn ln_normal_hazard(x: f64) -> f64 {
    let ln_density = -x * x / 2.0 - 0.5 * (2.0 * std::f64::consts::PI).ln();
    ln_density - ln_normal_beyond(x)
}

/// The logarithm of `1 - Phi(x)`: Chebyshev's fit to `erfc`, right to seven digits at any `x`.
pub(super) fn ln_normal_beyond(x: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let sum = FIT.iter().rev().fold(0.0, |sum, one| sum * t + one);
    let ln_erfc = t.ln() - z * z + sum;
    if x >= 0.0 { ln_erfc - 2f64.ln() } else { (-0.5 * ln_erfc.exp()).ln_1p() }
}

/// A law with the parameters that explain best what was seen, and how sure they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    pub(super) law: Law,
    pub(super) best: [f64; 2],
    /// The root of their covariance: lower triangle.
    spread: [[f64; 2]; 2],
    pub(super) ln_likelihood: f64,
}

pub(super) fn ln_likelihood(seen: &[Seen], ln_hazard: impl Fn(&Seen) -> f64) -> f64 {
    let one = |seen: &Seen| {
        let ln_hazard = ln_hazard(seen);
        seen.ended * ln_hazard - seen.watched * ln_hazard.exp()
    };
    seen.iter().map(one).sum()
}

impl Fit {
    /// Newton's way uphill, with differences in the place of derivatives.
    pub(super) fn new(law: Law, seen: &[Seen]) -> Self {
        let value = |at: [f64; 2]| {
            let sum = ln_likelihood(seen, |one| law.ln_hazard(at, one.at)) + law.ln_prior(at);
            if sum.is_finite() { sum } else { f64::MIN }
        };
        let mut at = law.start(seen);
        let mut here = value(at);
        for _ in 0..40 {
            let (slope, bend) = shape(&value, at, here);
            let step = uphill(slope, bend);
            let mut length = 1.0;
            let better = loop {
                let there = [at[0] + length * step[0], at[1] + length * step[1]];
                let found = value(there);
                if found > here {
                    break Some((there, found));
                }
                length /= 2.0;
                if length < 1e-6 {
                    break None;
                }
            };
            let Some((there, found)) = better else { break };
            let gain = found - here;
            (at, here) = (there, found);
            if gain < 1e-6 {
                break;
            }
        }
        let (_, bend) = shape(&value, at, here);
        let ln_likelihood = ln_likelihood(seen, |one| law.ln_hazard(at, one.at));
        Self { law, best: at, spread: root_of_inverse(bend), ln_likelihood }
    }

    pub(super) fn hazard(&self, one: &Seen) -> f64 {
        self.law.ln_hazard(self.best, one.at).exp()
    }

    /// Nine sets of parameters, with weights, that stand for all that may be true.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (f64, [f64; 2])> + '_ {
        // Gauss and Hermite: right for everything up to the fifth power.
        const POINTS: [(f64, f64); 3] =
            [(1.0 / 6.0, -1.732_050_807_568_877_2), (2.0 / 3.0, 0.0), (1.0 / 6.0, 1.732_050_807_568_877_2)];
        POINTS.iter().flat_map(move |(first_weight, first)| {
            POINTS.iter().map(move |(second_weight, second)| {
                let [upper, lower] = self.spread;
                let at = [self.best[0] + upper[0] * first, self.best[1] + lower[0] * first + lower[1] * second];
                (first_weight * second_weight, at)
            })
        })
    }
}

type Shape = ([f64; 2], [[f64; 2]; 2]);

/// Slope and bend of a function at a point.
fn shape(value: &impl Fn([f64; 2]) -> f64, at: [f64; 2], here: f64) -> Shape {
    const STEP: f64 = 1e-3;
    let there = |x: f64, y: f64| value([at[0] + x * STEP, at[1] + y * STEP]);
    let (right, left, up, down) = (there(1.0, 0.0), there(-1.0, 0.0), there(0.0, 1.0), there(0.0, -1.0));
    let slope = [(right - left) / (2.0 * STEP), (up - down) / (2.0 * STEP)];
    let both = (there(1.0, 1.0) - there(1.0, -1.0) - there(-1.0, 1.0) + there(-1.0, -1.0)) / (4.0 * STEP * STEP);
    let bend = [[(right - 2.0 * here + left) / (STEP * STEP), both], [both, (up - 2.0 * here + down) / (STEP * STEP)]];
    (slope, bend)
}

/// A step uphill: Newton's where the ground is a hill, else along the slope.
fn uphill(slope: [f64; 2], bend: [[f64; 2]; 2]) -> [f64; 2] {
    let det = bend[0][0] * bend[1][1] - bend[0][1] * bend[1][0];
    let step = if bend[0][0] < 0.0 && det > 0.0 {
        [(bend[0][1] * slope[1] - bend[1][1] * slope[0]) / det, (bend[1][0] * slope[0] - bend[0][0] * slope[1]) / det]
    } else {
        slope
    };
    let length = step[0].hypot(step[1]);
    if length > 1.0 { step.map(|one| one / length) } else { step }
}

/// The lower root of the covariance, which is the inverse of what the hill bends.
fn root_of_inverse(bend: [[f64; 2]; 2]) -> [[f64; 2]; 2] {
    let det = bend[0][0] * bend[1][1] - bend[0][1] * bend[1][0];
    if bend[0][0] >= 0.0 || det <= 0.0 {
        return [[0.0; 2]; 2];
    }
    let covariance = [-bend[1][1] / det, bend[0][1] / det, -bend[0][0] / det];
    let first = covariance[0].sqrt();
    let below = covariance[1] / first;
    [[first, 0.0], [below, (covariance[2] - below * below).max(0.0).sqrt()]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebb_model::AGE_BINS;

    #[test]
    fn the_normal_tail_is_right_far_out() {
        for (x, beyond) in [(0.0f64, 0.5f64), (1.0, 0.158_655_253_9), (-1.0, 0.841_344_746_1), (6.0, 9.865_876e-10)] {
            assert!((ln_normal_beyond(x) - beyond.ln()).abs() < 1e-5, "{x}");
        }
        // Mills: the hazard goes to x.
        assert!((ln_normal_hazard(30.0).exp() / 30.033 - 1.0).abs() < 1e-4);
    }

    #[test]
    fn parameters_are_found_again() {
        let seen: Vec<Seen> = (0..AGE_BINS)
            .map(|bin| {
                let (at, width) = (middle(bin), Lifetimes::edge(bin + 1) - Lifetimes::edge(bin));
                let watched = 50.0 * width;
                let ended = watched * Law::LogNormal.ln_hazard([6.0, 0.3], at).exp();
                Seen { bin, at, ended, watched }
            })
            .collect();
        let fit = Fit::new(Law::LogNormal, &seen);
        assert!((fit.best[0] - 6.0).abs() < 0.02 && (fit.best[1] - 0.3).abs() < 0.02, "{fit:?}");
        assert!(fit.spread[0][0] > 0.0 && fit.spread[1][1] > 0.0);
        let weights: f64 = fit.nodes().map(|(weight, _)| weight).sum();
        assert!((weights - 1.0).abs() < 1e-12);
    }
}
