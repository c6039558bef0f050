use super::*;
use ebb_model::{RollLine, Span, Wall, Work};

fn label(name: &str) -> Label {
    Label::new(name).unwrap()
}

fn labels(names: &str) -> BTreeSet<Label> {
    names.split(' ').map(label).collect()
}

fn budget(members: &str) -> Budget {
    Budget {
        members: labels(members),
        max_unavailable: 1,
        min_available: 0,
        capacity: None,
        quorum: false,
        groups: Vec::new(),
    }
}

fn roll(budget: Budget) -> Roll {
    let plan = RollPlan {
        targets: budget.members.clone(),
        pools: BTreeMap::from([(label("web"), budget)]),
        work: Work::Reboot,
        canary: 0,
        max_failures: 0,
        soak: Span::ZERO,
    };
    Roll { plan, journal: Vec::new() }
}

/// All serve, with so many sessions.
fn sight(sessions: &[(&str, u64)]) -> Sight {
    let one = |(name, sessions): &(&str, u64)| (label(name), Serving::Yes { sessions: *sessions });
    BTreeMap::from([(label("web"), sessions.iter().map(one).collect())])
}

fn write(roll: &mut Roll, entry: RollEntry) {
    roll.journal.push(RollLine { at: Wall(0), entry, text: "why".into() });
}

/// What is to be done, as `a: steer away`.
fn todo(next: &Next) -> Vec<String> {
    next.todo.iter().map(|(server, step)| format!("{server}: {step}")).collect()
}

fn done(roll: &mut Roll, server: &str, until: MemberStep) {
    for step in MemberStep::FORWARD.into_iter().filter(|step| *step <= until) {
        write(roll, RollEntry::Began(label(server), step));
        write(roll, RollEntry::Done(label(server), step));
    }
}

const EVEN: [(&str, u64); 3] = [("a", 5), ("b", 5), ("c", 5)];

#[test]
fn one_after_the_other_the_emptiest_first_and_each_is_proven_before_the_next() {
    let mut roll = roll(budget("a b c"));
    let sight = sight(&[("a", 9), ("b", 1), ("c", 5)]);
    let mut did = Vec::new();
    for _ in 0..30 {
        let next = next(&roll, &sight);
        assert!(next.todo.len() <= 1, "{next:?}");
        let Some((server, step)) = next.todo.first().cloned() else {
            assert_eq!(next.state, RollState::End);
            break;
        };
        did.push(format!("{server} {step}"));
        write(&mut roll, RollEntry::Began(server.clone(), step));
        assert_eq!(
            super::next(&roll, &sight).todo,
            [(server.clone(), step)],
            "killed in its middle, it goes on with it"
        );
        write(&mut roll, RollEntry::Done(server, step));
    }
    let of = |server: &str| MemberStep::FORWARD.map(|step| format!("{server} {step}"));
    assert_eq!(did, [of("b"), of("c"), of("a")].concat());
    write(&mut roll, RollEntry::Over);
    assert_eq!(next(&roll, &sight).state, RollState::Over);
}

#[test]
fn what_the_pool_cannot_spare_is_not_begun_and_it_is_said_why() {
    let two = Budget { max_unavailable: 2, ..budget("a b c") };
    for (what, budget, sight, begins, why) in [
        ("two at once", two.clone(), sight(&EVEN), 2, "web: 2 may be out, and 2 are out: a, b"),
        (
            "but one must be left",
            Budget { min_available: 2, ..two.clone() },
            sight(&EVEN),
            1,
            "web: 1 would serve, and 2 must",
        ),
        (
            "a majority",
            Budget { quorum: true, ..two.clone() },
            sight(&EVEN),
            1,
            "web: 1 of 3 would serve, which is no majority",
        ),
        (
            "room for all",
            Budget { capacity: Some(8), ..two.clone() },
            sight(&EVEN),
            1,
            "web: 15 sessions, and those who are left have room for 8",
        ),
        (
            "groups",
            Budget { groups: vec![labels("a b"), labels("c")], max_unavailable: 3, ..budget("a b c") },
            sight(&EVEN),
            2,
            "web: a of another group is out",
        ),
        ("nothing known", two, Sight::new(), 0, "web: nothing was ever heard of a"),
    ] {
        let next = next(&roll(budget), &sight);
        assert_eq!(next.todo.len(), begins, "{what}: {next:?}");
        let waits: Vec<String> = next.waits.iter().map(|(_, why)| why.to_string()).collect();
        assert!(waits.iter().any(|text| text == why), "{what}: {waits:?}");
        assert_eq!(next.state, RollState::UnderWay, "{what}");
    }
}

#[test]
fn who_is_out_already_counts_and_is_nobodys_target() {
    let roll = roll(budget("a b c"));
    let mut sight = sight(&EVEN);
    let out = Serving::No { why: "held by `deploy`: release 41".into() };
    sight.get_mut(&label("web")).unwrap().insert(label("b"), out);
    let next = next(&roll, &sight);
    assert!(next.todo.is_empty(), "{next:?}");
    let waits: Vec<String> = next.waits.iter().map(|(server, why)| format!("{server}: {why}")).collect();
    assert!(waits.contains(&"b: web: held by `deploy`: release 41".to_owned()), "{waits:?}");
    assert!(waits.contains(&"a: web: 1 may be out, and 1 are out: b".to_owned()), "{waits:?}");
}

#[test]
fn a_server_of_two_pools_needs_both_to_spare_it() {
    let mut roll = roll(Budget { max_unavailable: 2, ..budget("a b c") });
    roll.plan.pools.insert(label("mail"), budget("a b"));
    let mut sight = sight(&EVEN);
    let mail = sight[&label("web")].iter().filter(|(name, _)| *name != &label("c"));
    let mail = mail.map(|(name, serving)| (name.clone(), serving.clone())).collect();
    sight.insert(label("mail"), mail);
    let next = next(&roll, &sight);
    assert_eq!(todo(&next), ["c: steer away", "a: steer away"], "c has the fewest: it is in one pool");
    assert_eq!(next.waits[0].1.to_string(), "mail: 1 may be out, and 1 are out: a");
}

#[test]
fn the_first_ones_are_proven_before_any_other_begins() {
    let mut roll = roll(Budget { max_unavailable: 3, ..budget("a b c d") });
    roll.plan.canary = 1;
    let sight = sight(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    let first = next(&roll, &sight);
    assert_eq!(todo(&first), ["a: steer away"], "{first:?}");
    done(&mut roll, "a", MemberStep::SteerBack);
    let soaking = next(&roll, &sight);
    assert_eq!(todo(&soaking), ["a: soak"]);
    assert_eq!(soaking.waits[0].1.to_string(), "the first are not proven yet: a");
    done(&mut roll, "a", MemberStep::Soak);
    assert_eq!(todo(&next(&roll, &sight)), ["b: steer away", "c: steer away", "d: steer away"]);
}

#[test]
fn a_failure_too_many_stops_it_until_somebody_asks() {
    let mut roll = roll(Budget { max_unavailable: 2, ..budget("a b c") });
    let sight = sight(&EVEN);
    done(&mut roll, "a", MemberStep::Settle);
    done(&mut roll, "b", MemberStep::SteerAway);
    write(&mut roll, RollEntry::Failed(label("a"), MemberStep::Maintain));
    let stopped = next(&roll, &sight);
    assert_eq!(todo(&stopped), ["b: settle"], "who is out goes on, and none begins");
    assert_eq!(stopped.state, RollState::UnderWay);
    done(&mut roll, "b", MemberStep::Soak);
    let failed = vec![(label("a"), MemberStep::Maintain, "why".to_owned())];
    assert_eq!(next(&roll, &sight).state, RollState::Halted(failed));
    let mut again = roll.clone();
    write(&mut again, RollEntry::ContinueAsked);
    assert_eq!(todo(&next(&again, &sight)), ["a: maintain", "c: steer away"]);
    write(&mut roll, RollEntry::AbortAsked);
    assert_eq!(todo(&next(&roll, &sight)), ["a: undo"], "c was never touched, b is done");
    write(&mut roll, RollEntry::Done(label("a"), MemberStep::Undo));
    assert_eq!(next(&roll, &sight).state, RollState::End);
}

#[test]
fn what_can_never_be_done_is_said_with_what_would_help() {
    let alone = roll(Budget { min_available: 1, ..budget("a") }).plan;
    assert_eq!(
        impossible(&alone),
        ["web: 1 of 1 must serve, so none may be out; one member more, or min_available = 0 would do"]
    );
    assert_eq!(impossible(&roll(Budget { quorum: true, ..budget("a b") }).plan).len(), 1);
    assert_eq!(impossible(&roll(Budget { max_unavailable: 0, ..budget("a b") }).plan).len(), 1);
    assert!(impossible(&roll(budget("a")).plan).is_empty());
}
