//! When a drain ends: forecast, and what came true, for populations that are made by chance from fixed seeds.
//!
//! Only computes. Each drain has learnt from another stretch of watching, with sessions that were there before, and some
//! that were lost sight of.

mod population;

use std::time::Instant;

use ebb_decide::eta::Estimator;
use ebb_model::{Age, Ages, Lifetimes, Span};

use super::figure::{Figure, Figures, Target, median};
use population::{Chance, Drain, Law, Population};

/// Drains for each population and each record.
const DRAINS: u64 = 200;
/// Ends that were recorded before.
const RECORDED: [f64; 3] = [300.0, 1000.0, 10_000.0];
/// Shares that have left when it is forecast.
const LEFT: [f64; 4] = [0.0, 0.2, 0.5, 0.9];
/// Of these the targets are spoken.
const TARGET_AT: usize = 1;
/// Whole lives that stand for all there is to know.
const ALL_KNOWN: usize = 200_000;
const MEDIAN_ERROR_PERCENT: f64 = 25.0;
const COVERED_PERCENT: [f64; 2] = [70.0, 90.0];
/// Ours to the constant's.
const BETTER: f64 = 0.333;

const POPULATIONS: [Population; 6] = [
    Population { name: "exponential, 3 min", law: Law::Exponential(180.0), daily: false, present: 200.0 },
    Population { name: "log-normal 1.0, 10 min", law: Law::LogNormal(600.0, 1.0), daily: false, present: 200.0 },
    Population { name: "log-normal 1.5, 5 min", law: Law::LogNormal(300.0, 1.5), daily: false, present: 200.0 },
    Population { name: "mixture, 20 s and 1 h", law: Law::Mixture(0.9, 20.0, 3600.0), daily: false, present: 200.0 },
    Population { name: "log-normal 0.4, 30 min", law: Law::LogNormal(1800.0, 0.4), daily: false, present: 60.0 },
    Population { name: "daily pattern, 1.0, 30 min", law: Law::LogNormal(1800.0, 1.0), daily: true, present: 200.0 },
];

/// One forecast against what came.
#[derive(Debug, Clone, Copy)]
struct Came {
    /// Of the length of the drain.
    error: f64,
    /// Of what was left of it.
    error_of_rest: f64,
    covered: bool,
    end: f64,
}

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    figures.part(
        "eta",
        &format!("{DRAINS} drains of each population and record, seen once 20 % have left; median errors of the end"),
    );
    speed(figures);
    let mut all = Vec::new();
    for population in &POPULATIONS {
        let known = population.known(ALL_KNOWN);
        for recorded in RECORDED {
            let (ours, best) = drains(population, recorded, &known)?;
            table(figures, &format!("{}, {recorded} recorded", population.name), &ours, &best);
            all.push(ours);
        }
    }
    together(figures, &all);
    Ok(())
}

/// By share that has left: each drain's forecast.
type Forecasts = [Vec<Came>; LEFT.len()];

fn drains(population: &Population, recorded: f64, known: &Lifetimes) -> Result<(Forecasts, Forecasts), String> {
    let (mut ours, mut best): (Forecasts, Forecasts) = (Default::default(), Default::default());
    // Others than those with which the estimator was made. A few leave too little recorded: they are passed over.
    for seed in 0..DRAINS {
        let drain = population.drained(recorded, seed * 104_729 + 1_000_003 + recorded as u64);
        let (Ok(estimator), Ok(all_known)) = (Estimator::new(&drain.lifetimes), Estimator::new(known)) else {
            continue;
        };
        for (at, left) in LEFT.iter().enumerate() {
            ours[at].push(forecast(&estimator, &drain, *left));
            best[at].push(forecast(&all_known, &drain, *left));
        }
    }
    if ours[0].len() < DRAINS as usize / 2 {
        return Err(format!("record enough of {}", population.name));
    }
    Ok((ours, best))
}

/// What is said once a share has left, and what comes.
fn forecast(estimator: &Estimator<'_>, drain: &Drain, left: f64) -> Came {
    let mut stays: Vec<f64> = drain.live.iter().map(|live| live.stays).collect();
    stays.sort_by(f64::total_cmp);
    let end = stays.last().copied().unwrap_or(0.0);
    let gone = (stays.len() as f64 * left) as usize;
    let passed = if gone == 0 { 0.0 } else { stays[gone - 1] };
    let there = drain.live.iter().filter(|live| live.stays > passed);
    let ages: Ages = there.map(|live| later(live.age, passed)).collect();
    let eta = estimator.eta(&ages, None);
    let [least, last, most] = [eta.band.0, eta.last, eta.band.1].map(|span| passed + span.as_seconds());
    Came {
        error: (last - end).abs() / end,
        error_of_rest: (last - end).abs() / (end - passed),
        covered: least <= end && end <= most,
        end,
    }
}

fn later(age: Age, passed: f64) -> Age {
    let passed = (passed * 1000.0) as u64;
    match age {
        Age::Exactly(age) => Age::Exactly(Span(age.0 + passed)),
        Age::AtLeast(age) => Age::AtLeast(Span(age.0 + passed)),
        other => other,
    }
}

fn percent(came: &[Came], of: impl Fn(&Came) -> f64) -> f64 {
    100.0 * median(&came.iter().map(of).collect::<Vec<_>>())
}

fn covered(came: &[Came]) -> f64 {
    100.0 * came.iter().filter(|one| one.covered).count() as f64 / came.len() as f64
}

fn table(figures: &mut Figures, name: &str, ours: &Forecasts, best: &Forecasts) {
    let (ours, best) = (&ours[TARGET_AT], &best[TARGET_AT]);
    figures.add(&Figure {
        what: &format!("{name}: error, %"),
        ours: percent(ours, |one| one.error),
        peer: Some(("all lives known", percent(best, |one| one.error))),
        target: Target::AtMost(MEDIAN_ERROR_PERCENT),
    });
    band(figures, ours, Some(("all lives known", covered(best))));
}

fn band(figures: &mut Figures, ours: &[Came], peer: Option<(&str, f64)>) {
    let mine = covered(ours);
    let target = if mine < 80.0 { Target::AtLeast(COVERED_PERCENT[0]) } else { Target::AtMost(COVERED_PERCENT[1]) };
    figures.add(&Figure { what: "    ends in the band of 8 of 10, %", ours: mine, peer, target });
}

/// Against the best constant, chosen in hindsight over all drains.
fn together(figures: &mut Figures, all: &[Forecasts]) {
    for (at, left) in LEFT.iter().enumerate() {
        let came: Vec<Came> = all.iter().flat_map(|one| one[at].iter().copied()).collect();
        let error = |constant: f64| percent(&came, |one| (constant - one.end).abs() / one.end);
        // Steps of two in a hundred, from ten seconds to a month.
        let constant = (0..630).map(|step| 10.0 * 1.02f64.powi(step)).map(error).fold(f64::INFINITY, f64::min);
        let target = if at >= TARGET_AT { Target::RatioAtMost(BETTER) } else { Target::None };
        figures.add(&Figure {
            what: &format!("all, {:.0} % have left: error, %", left * 100.0),
            ours: percent(&came, |one| one.error),
            peer: Some(("the best constant, in hindsight", constant)),
            target,
        });
        if at == TARGET_AT {
            figures.own("    the same", percent(&came, |one| one.error), Target::AtMost(MEDIAN_ERROR_PERCENT));
            figures.own("    of what is left of it, %", percent(&came, |one| one.error_of_rest), Target::None);
        }
        band(figures, &came, None);
    }
}

/// What one forecast costs.
fn speed(figures: &mut Figures) {
    let lifetimes = POPULATIONS[2].known(20_000);
    let mut chance = Chance(3);
    let ages: Vec<Age> = (0..100_000)
        .map(|number| {
            let age = Span((1e6 * chance.share()) as u64);
            if number % 3 == 0 { Age::AtLeast(age) } else { Age::Exactly(age) }
        })
        .collect();
    let times: Vec<f64> = (0..20)
        .filter_map(|_| {
            let began = Instant::now();
            let grouped: Ages = ages.iter().copied().collect();
            let eta = Estimator::new(&lifetimes).ok()?.eta(&grouped, None);
            (eta.present > 0.0).then(|| began.elapsed().as_secs_f64() * 1000.0)
        })
        .collect();
    figures.own("of 100,000 sessions, ms", median(&times), Target::AtMost(10.0));
}
