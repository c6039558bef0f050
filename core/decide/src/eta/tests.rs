use super::*;
use ebb_model::{Age, Wall};

fn seconds(seconds: f64) -> Span {
    Span((seconds * 1000.0) as u64)
}

/// What would have been seen of so many sessions which end with this hazard per second at any age.
fn exponential(sessions: f64, hazard: f64) -> Lifetimes {
    let mut lifetimes = Lifetimes::new(Wall(0));
    for bin in 0..ebb_model::AGE_BINS {
        let (from, to) = (Lifetimes::edge(bin), Lifetimes::edge(bin + 1));
        let ended = sessions * ((-hazard * from).exp() - (-hazard * to).exp());
        lifetimes.ages[bin].ended = ended;
        lifetimes.ages[bin].watched = ended / hazard;
    }
    lifetimes
}

fn known(forecast: Forecast) -> Eta {
    match forecast {
        Forecast::Known(eta) => eta,
        Forecast::Unknown { recorded, needed } => panic!("unknown: {recorded} of {needed}"),
    }
}

fn near(what: Span, seconds: f64, by: f64) {
    assert!((what.as_seconds() / seconds - 1.0).abs() < by, "{what:?} is not {seconds} s");
}

#[test]
fn ends_at_a_constant_rate_are_forecast_by_the_formula_at_any_age() {
    let lifetimes = exponential(20_000.0, 0.01);
    for age in [0.0, 100.0, 700.0] {
        let ages: Ages = (0..1000).map(|_| Age::Exactly(seconds(age))).collect();
        let eta = known(eta(&lifetimes, &ages, Some(seconds(300.0))));
        near(eta.half, 100.0 * 2f64.ln(), 0.05);
        near(eta.most, 100.0 * 10f64.ln(), 0.05);
        // 1 - (1 - e^-t/100)^1000 = 1/2, and 1/10 and 9/10.
        near(eta.last, 727.0, 0.1);
        near(eta.band.0, 607.0, 0.08);
        near(eta.band.1, 916.0, 0.12);
        let left = eta.left_at_deadline.unwrap();
        assert!((left - 1000.0 * (-3f64).exp()).abs() < 4.0, "{left}");
    }
}

#[test]
fn without_an_end_nothing_is_known() {
    let mut lifetimes = Lifetimes::new(Wall(0));
    let ages: Ages = [Age::Exactly(seconds(5.0))].into_iter().collect();
    assert_eq!(eta(&lifetimes, &ages, None), Forecast::Unknown { recorded: 0, needed: NEEDED });
    for _ in 0..1000 {
        lifetimes.lived(Span::ZERO, seconds(50.0));
        lifetimes.censored(seconds(50.0));
    }
    assert_eq!(eta(&lifetimes, &ages, None), Forecast::Unknown { recorded: 0, needed: NEEDED });
    (0..NEEDED - 1).for_each(|_| lifetimes.ended(seconds(20.0)));
    assert_eq!(eta(&lifetimes, &ages, None), Forecast::Unknown { recorded: NEEDED - 1, needed: NEEDED });
}

#[test]
fn nobody_there_is_gone_at_once() {
    let eta = known(eta(&exponential(1000.0, 0.01), &Ages::default(), Some(seconds(1.0))));
    assert_eq!((eta.present, eta.half, eta.last, eta.band), (0.0, Span::ZERO, Span::ZERO, (Span::ZERO, Span::ZERO)));
    assert_eq!(eta.left_at_deadline, Some(0.0));
}

#[test]
fn of_one_session_all_shares_are_its_own_end() {
    let ages: Ages = [Age::Exactly(seconds(40.0))].into_iter().collect();
    let eta = known(eta(&exponential(20_000.0, 0.01), &ages, None));
    near(eta.half, 100.0 * 2f64.ln(), 0.05);
    assert_eq!((eta.half, eta.most), (eta.nearly_all, eta.half));
    near(eta.band.0, 10.5, 0.1);
    near(eta.band.1, 230.0, 0.1);
}

#[test]
fn sessions_censored_early_do_not_make_lives_short() {
    let mut lifetimes = exponential(2000.0, 0.01);
    // As many again, of which we only saw the first 20 s: a fifth of them ended there.
    for _ in 0..2000 {
        lifetimes.lived(Span::ZERO, seconds(18.1));
    }
    (0..362).for_each(|_| lifetimes.ended(seconds(9.0)));
    (0..1638).for_each(|_| lifetimes.censored(seconds(20.0)));
    let ages: Ages = (0..100).map(|_| Age::Exactly(Span::ZERO)).collect();
    near(known(eta(&lifetimes, &ages, None)).half, 69.3, 0.12);
}

#[test]
fn the_old_stay_longer_where_lifetimes_have_a_heavy_tail() {
    // Nine of ten end at once in a hundredth a second, the others in a thousandth.
    let mut lifetimes = exponential(18_000.0, 0.05);
    for (bin, slow) in lifetimes.ages.iter_mut().zip(exponential(2000.0, 0.0005).ages) {
        bin.ended += slow.ended;
        bin.watched += slow.watched;
    }
    let forecast = |age: f64| {
        let ages: Ages = (0..100).map(|_| Age::Exactly(seconds(age))).collect();
        known(eta(&lifetimes, &ages, None))
    };
    let (young, old) = (forecast(1.0), forecast(300.0));
    near(young.half, 16.0, 0.3);
    near(old.half, 1386.0, 0.1);
    near(old.last, 10_370.0, 0.15);
}

#[test]
fn ages_beyond_what_was_seen_are_said_and_still_end() {
    let lifetimes = exponential(1000.0, 0.01);
    let ages: Ages =
        [seconds(30.0), Span::seconds(90 * 86_400), Span(u64::MAX)].map(Age::Exactly).into_iter().collect();
    let eta = known(eta(&lifetimes, &ages, None));
    assert!((eta.beyond - 2.0).abs() < 1e-9, "{eta:?}");
    assert!(eta.last > Span::ZERO && eta.band.0 <= eta.last && eta.last <= eta.band.1);
    assert!(eta.last < Span::seconds(1_000_000), "{eta:?}");
}

#[test]
fn bounds_stand_for_the_ages_between_them() {
    let lifetimes = exponential(20_000.0, 0.01);
    let bounds = [Age::Unknown, Age::AtLeast(seconds(60.0)), Age::Between(seconds(1.0), seconds(900.0))];
    for bound in bounds {
        let ages: Ages = std::iter::repeat_n(bound, 1000).collect();
        // An exponential one forgets its age.
        near(known(eta(&lifetimes, &ages, None)).half, 69.3, 0.06);
    }
}

#[test]
fn who_is_usually_there_at_an_hour_began_when_people_come() {
    let mut lifetimes = exponential(5000.0, 1.0 / 7200.0);
    for hour in 0..WEEK_HOURS {
        // Everybody comes between eight and nine.
        let arrived = if hour % 24 == 8 { 3600.0 } else { 0.0 };
        let present = 3600.0 * (-(((hour + 24 - 9) % 24) as f64) / 2.0).exp();
        lifetimes.looked(hour, Span::seconds(3600), present, arrived);
    }
    let estimator = Estimator::new(&lifetimes).unwrap();
    let (morning, night) = (estimator.usual(9).unwrap(), estimator.usual(2).unwrap());
    assert!((morning.count() - 3600.0).abs() < 1.0, "{}", morning.count());
    let mean = |ages: &Ages| ages.exact().map(|group| group.sum).sum::<f64>() / ages.count();
    assert!(mean(&morning) < 2.0 * 3600.0 && mean(&night) > 15.0 * 3600.0, "{} {}", mean(&morning), mean(&night));
    assert!(estimator.eta(&night, None).last < estimator.eta(&morning, None).last);
    assert_eq!(Estimator::new(&exponential(5000.0, 0.01)).unwrap().usual(3), None, "never looked at");
}
