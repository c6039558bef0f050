use super::*;
use ebb_model::AgeBin;

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn at(ms: u64) -> Now {
    Now { wall: Wall(ms as i64), mono: Mono(ms) }
}

/// A census of one service at a time in milliseconds, with these sessions.
fn look(ms: u64, ids: impl IntoIterator<Item = u64>) -> Look {
    let services = vec![Looked { name: name("nginx"), total: 0, thin: 0 }];
    let mut look = Look { now: at(ms), whole: true, services, ..Look::default() };
    ids.into_iter().for_each(|id| look.add(0, SessionId(id), Age::Unknown));
    look
}

fn gone(id: u64) -> Gone {
    Gone { id: SessionId(id), service: name("nginx"), least: Span::ZERO }
}

fn sums(recorder: &mut Recorder, ms: u64) -> AgeBin {
    let (lifetimes, _) = recorder.known(&name("nginx"), at(ms)).unwrap();
    lifetimes.ages.iter().fold(AgeBin::default(), |sum, bin| AgeBin {
        ended: sum.ended + bin.ended,
        censored: sum.censored + bin.censored,
        watched: sum.watched + bin.watched,
    })
}

#[test]
fn one_that_comes_and_goes_is_recorded_with_its_age() {
    let mut recorder = Recorder::default();
    recorder.look(&look(0, []));
    recorder.look(&look(1000, [1]));
    recorder.closed(&[gone(1)], Mono(61_000));
    recorder.look(&look(62_000, []));
    let (lifetimes, ages) = recorder.known(&name("nginx"), at(62_000)).unwrap();
    let bin = lifetimes.ages.iter().position(|bin| bin.ended > 0.0).unwrap();
    assert_eq!((bin, ages.count()), (Lifetimes::bin(Span(60_500)), 0.0));
    let all = sums(&mut recorder, 62_000);
    assert!((all.ended - 1.0).abs() < 1e-2 && (60.0..=61.0).contains(&all.watched), "{all:?}");
}

#[test]
fn who_was_there_before_us_teaches_nothing_but_is_there() {
    let mut recorder = Recorder::default();
    recorder.look(&look(0, [1, 2]));
    recorder.closed(&[gone(1)], Mono(5000));
    recorder.look(&look(10_000, [2]));
    assert_eq!(sums(&mut recorder, 10_000), AgeBin::default());
    let (_, ages) = recorder.known(&name("nginx"), at(10_000)).unwrap();
    assert_eq!((ages.at_least().count(), ages.exact().count()), (1, 0));
}

#[test]
fn a_short_life_between_two_censuses_is_learnt_from_its_closing() {
    let mut recorder = Recorder::default();
    recorder.look(&look(0, []));
    recorder.closed(&[gone(9)], Mono(800));
    recorder.look(&look(1000, []));
    let all = sums(&mut recorder, 1000);
    assert!((all.ended - 1.0).abs() < 1e-2 && all.watched <= 0.8, "{all:?}");
}

#[test]
fn a_closing_that_was_not_heard_is_seen_in_the_census_and_counted_once() {
    let mut recorder = Recorder::default();
    recorder.look(&look(0, []));
    recorder.look(&look(1000, [1]));
    recorder.look(&look(21_000, []));
    recorder.closed(&[gone(1)], Mono(21_100));
    recorder.look(&look(22_000, []));
    let all = sums(&mut recorder, 22_000);
    assert!((all.ended - 1.0).abs() < 1e-2 && (10.0..=11.0).contains(&all.watched), "{all:?}");
}

#[test]
fn what_we_end_has_not_ended_by_itself() {
    let mut recorder = Recorder::default();
    recorder.look(&look(0, []));
    recorder.look(&look(1000, [1, 2]));
    recorder.ours(&[SessionId(1), SessionId(2)]);
    recorder.closed(&[gone(1)], Mono(11_000));
    recorder.look(&look(12_000, []));
    let all = sums(&mut recorder, 12_000);
    assert!(all.ended == 0.0 && (all.censored - 2.0).abs() < 1e-2 && all.watched > 15.0, "{all:?}");
}

#[test]
fn what_ends_with_its_service_has_not_ended_by_itself() {
    for restarted in [true, false] {
        let mut recorder = Recorder::default();
        recorder.look(&look(0, []));
        recorder.look(&look(1000, 1..=3));
        recorder.closed(&[gone(1), gone(2), gone(3)], Mono(11_000));
        let mut after = look(12_000, []);
        after.restarted.extend(restarted.then(|| name("nginx")));
        recorder.look(&after);
        let all = sums(&mut recorder, 12_000);
        let expected = if restarted { (0.0, 3.0) } else { (3.0, 0.0) };
        assert!((all.ended - expected.0).abs() < 1e-2 && (all.censored - expected.1).abs() < 1e-2, "{all:?}");
    }
}

#[test]
fn most_that_end_within_a_second_were_ended() {
    let mut recorder = Recorder::default();
    recorder.look(&look(0, []));
    recorder.look(&look(1000, 1..=100));
    let all: Vec<Gone> = (1..=90).map(gone).collect();
    recorder.closed(&all, Mono(31_000));
    recorder.closed(&[gone(91), gone(92)], Mono(35_000));
    recorder.look(&look(36_000, 93..=100));
    let sums = sums(&mut recorder, 36_000);
    assert!((sums.ended - 2.0).abs() < 1e-2 && (sums.censored - 90.0).abs() < 1e-2, "{sums:?}");
}

#[test]
fn of_too_many_a_share_is_followed_that_stands_for_all() {
    let mut recorder = Recorder::default();
    recorder.look(&look(0, []));
    recorder.look(&look(1000, 1..=50_000));
    let thin = recorder.thin(&name("nginx"));
    assert!(thin >= 3, "{thin}");
    let chosen: Vec<u64> = (1..=50_000).filter(|id| is_followed(SessionId(*id), thin)).collect();
    let share = chosen.len() as f64 / 50_000.0 * f64::from(1 << thin);
    assert!((0.9..1.1).contains(&share), "{share}");
    let mut second = look(2000, chosen.iter().copied());
    second.services[0].total = 50_000;
    recorder.look(&second);
    let (_, ages) = recorder.known(&name("nginx"), at(2000)).unwrap();
    assert!((ages.count() - chosen.len() as f64).abs() < 1e-2 && chosen.len() <= FOLLOWED);
    assert_eq!(sums(&mut recorder, 2000).ended, 0.0, "those not followed any more have not ended");
    // Few are left: all are followed again, and of those that come back into sight the age is not known.
    let mut third = look(3000, chosen[..10].iter().copied());
    third.services[0].total = 70;
    recorder.look(&third);
    assert_eq!(recorder.thin(&name("nginx")), 0);
    recorder.look(&look(4000, chosen[..10].iter().copied().chain(60_000..60_060)));
    let (_, ages) = recorder.known(&name("nginx"), at(4000)).unwrap();
    let count = |groups: Vec<f64>| groups.into_iter().sum::<f64>();
    assert!((count(ages.exact().map(|group| group.count).collect()) - 10.0).abs() < 1e-2);
    assert!((count(ages.at_least().map(|group| group.count).collect()) - 60.0).abs() < 1e-2);
}

#[test]
fn the_next_one_goes_on_with_whom_it_finds() {
    let mut first = Recorder::default();
    first.look(&look(0, []));
    first.look(&look(1000, [1, 2]));
    let kept = first.keep(at(11_000), "boot");
    let began = kept[0].2.sessions[0].began;
    let resumed = |boot_id: &str| {
        let mut second = Recorder::default();
        for (name, lifetimes, following) in kept.clone() {
            second.load(&name, lifetimes, &following, boot_id);
        }
        second.look(&look(60_000, [1, 3]));
        second
    };
    let mut second = resumed("boot");
    second.closed(&[gone(1)], Mono(70_000));
    second.look(&look(71_000, [3]));
    let all = sums(&mut second, 71_000);
    let (lifetimes, ages) = second.known(&name("nginx"), at(71_000)).unwrap();
    // Two for ten seconds, one for ten more: not the time in which nobody looked.
    assert!((29.0..=32.0).contains(&all.watched) && (all.ended - 1.0).abs() < 1e-2, "{all:?}");
    assert!(lifetimes.ages[Lifetimes::bin(Mono(70_000).since(began))].ended > 0.9);
    assert_eq!(ages.at_least().count(), 1, "3 was never seen before");
    let mut other = resumed("another boot");
    other.closed(&[gone(1)], Mono(70_000));
    other.look(&look(71_000, [3]));
    assert!(sums(&mut other, 71_000).ended == 0.0, "names are of one boot");
}

#[test]
fn the_hours_are_learnt_but_not_while_held() {
    let mut recorder = Recorder::default();
    let mut hour = |ms: u64, ids: std::ops::Range<u64>, hour_of_week: usize, held: bool| {
        let mut look = Look { hour_of_week, ..look(ms, ids) };
        look.held.extend(held.then(|| name("nginx")));
        recorder.look(&look);
        recorder.known(&name("nginx"), at(ms)).unwrap().0.hours[hour_of_week]
    };
    hour(0, 0..10, 3, false);
    let seen = hour(30_000, 0..12, 3, false);
    assert!((seen.watched - 30.0).abs() < 1e-2 && (seen.present - 360.0).abs() < 1e-2, "{seen:?}");
    assert!((seen.arrived - 2.0).abs() < 1e-2);
    assert_eq!(hour(60_000, 0..12, 4, true).watched, 0.0);
}
