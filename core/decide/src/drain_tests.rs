use super::*;
use ebb_model::{Age, Door, Pace, Proto, Reach, Requester, ServiceName, SessionState};

fn seen(id: u64) -> Seen {
    let peer = "10.0.0.9:1000".parse().unwrap();
    Seen {
        id: SessionId(id),
        peer,
        state: SessionState::Established,
        age: Age::Unknown,
        may_enter: false,
        counts: true,
        idle: false,
    }
}

fn census(ids: &[u64]) -> Input {
    Input::Census { seen: ids.iter().copied().map(seen).collect(), cost: Span(1), cookies: false }
}

fn proofs(refused: Result<(), Why>) -> Vec<DoorProof> {
    vec![DoorProof { door: Door { proto: Proto::Tcp, reach: Reach::Any, port: 80 }, refused }]
}

/// A drain with its gate shut and proven, and these sessions there.
fn draining(spec: DrainSpec, ids: &[u64]) -> Drain {
    let mut drain = Drain::new(spec, None, Ledger::default(), Mono(0));
    assert_eq!(drain.begin(), [Action::Place]);
    assert_eq!(drain.step(Input::Placed, Mono(0)), [Action::Shut]);
    assert_eq!(drain.step(Input::Shut { cookies: false }, Mono(1)), [Action::TakeCensus, Action::Prove]);
    assert_eq!(drain.step(Input::Proved(proofs(Ok(()))), Mono(1)), []);
    assert_eq!(drain.step(census(ids), Mono(2)), [Action::KeepBaseline]);
    drain
}

fn is_finish(actions: &[Action]) -> Option<&Outcome> {
    actions.iter().find_map(|action| match action {
        Action::Finish(outcome) => Some(outcome),
        _ => None,
    })
}

#[test]
fn the_hold_is_written_before_the_gate_is_shut() {
    let mut drain = Drain::new(DrainSpec::default(), None, Ledger::default(), Mono(0));
    assert_eq!(drain.begin(), [Action::Place]);
    assert_eq!(drain.step(Input::Placed, Mono(0)), [Action::Shut]);
}

#[test]
fn drained_needs_settle_time_two_censuses_and_a_whole_gate() {
    let mut drain = draining(DrainSpec::default(), &[]);
    assert_eq!(drain.step(census(&[]), Mono(1000)), []);
    assert_eq!(drain.step(census(&[]), Mono(2001)), [], "a moment too early");
    assert_eq!(drain.step(census(&[]), Mono(2002)), [Action::Confirm]);
    assert_eq!(drain.step(census(&[]), Mono(2003)), []);
    let actions = drain.step(Input::Confirmed(true), Mono(2003));
    assert!(matches!(&actions[..], [Action::SayDrained(proof), Action::Stop] if proof.empty_for == Span(2001)));
    let actions = drain.step(Input::Stopped(Ok(())), Mono(2500));
    assert_eq!(actions, [Action::Finish(Outcome::Stopped)]);
    assert!(drain.is_over());
}

#[test]
fn a_gate_that_is_not_whole_at_the_end_is_shut_again_and_nothing_is_said() {
    let mut drain = draining(DrainSpec::default(), &[]);
    drain.step(census(&[]), Mono(1000));
    assert_eq!(drain.step(census(&[]), Mono(3000)), [Action::Confirm]);
    assert_eq!(drain.step(Input::Confirmed(false), Mono(3001)), [Action::Shut]);
    assert!(drain.proof().is_none());
}

#[test]
fn somebody_in_the_last_census_undoes_the_settling() {
    let mut drain = draining(DrainSpec::default(), &[]);
    drain.step(census(&[]), Mono(1000));
    assert_eq!(drain.step(census(&[]), Mono(3000)), [Action::Confirm]);
    assert_eq!(drain.step(census(&[7]), Mono(3001)), [Action::Leak(vec![SessionId(7)])]);
    assert_eq!(drain.step(Input::Confirmed(true), Mono(3001)), []);
    assert!(drain.proof().is_none() && !drain.is_over());
}

#[test]
fn a_count_that_could_not_be_read_is_not_zero() {
    let mut drain = draining(DrainSpec::default(), &[]);
    drain.step(census(&[]), Mono(1000));
    let unread = Why::Unread { what: "sessions".into(), cause: "ENOBUFS".into() };
    drain.step(Input::CensusFailed(unread.clone()), Mono(1900));
    assert_eq!(drain.step(census(&[]), Mono(2500)), [], "settling begins anew");
    assert_eq!(drain.step(Input::CensusFailed(unread.clone()), Mono(2600)), []);
    assert_eq!(drain.why(Mono(2600)), unread);
}

#[test]
fn a_probe_that_was_accepted_ends_it() {
    let mut drain = Drain::new(DrainSpec::default(), None, Ledger::default(), Mono(0));
    drain.step(Input::Placed, Mono(0));
    drain.step(Input::Shut { cookies: false }, Mono(1));
    let door = proofs(Ok(()))[0].door;
    let met = Why::ProbeMet { door, met: "accepted".into() };
    let actions = drain.step(Input::Proved(proofs(Err(met.clone()))), Mono(2));
    assert_eq!(actions, [Action::Finish(Outcome::Failed(met))]);
}

#[test]
fn the_deadline_asks_by_default_and_changes_nothing() {
    let mut drain = draining(DrainSpec { deadline: Some(Span(5000)), ..DrainSpec::default() }, &[1]);
    assert_eq!(drain.wakeup().unwrap().at, Mono(1002), "the next census");
    assert_eq!(drain.step(Input::Tick, Mono(4999)), [Action::TakeCensus]);
    let actions = drain.step(Input::Tick, Mono(5000));
    assert_eq!(actions, [Action::Deadline, Action::Finish(Outcome::DeadlineReached)]);
}

#[test]
fn a_deadline_while_it_only_settles_does_not_spoil_it() {
    let mut drain = draining(DrainSpec { deadline: Some(Span(3000)), ..DrainSpec::default() }, &[1]);
    drain.step(census(&[]), Mono(2500));
    assert_eq!(drain.step(Input::Tick, Mono(3000)), [Action::TakeCensus], "nobody is left to wait for");
    assert!(!drain.is_over() && drain.wakeup().unwrap().at > Mono(3000));
    assert_eq!(drain.step(census(&[]), Mono(4500)), [Action::Confirm]);
    let mut drain = draining(DrainSpec { deadline: Some(Span(3000)), ..DrainSpec::default() }, &[1]);
    drain.step(census(&[]), Mono(2500));
    let actions = drain.step(census(&[1]), Mono(3500));
    assert_eq!(actions, [Action::Deadline, Action::Finish(Outcome::DeadlineReached)], "somebody is, after all");
}

#[test]
fn those_whom_a_goodbye_spared_hear_it_again_within_their_grace() {
    let spec = DrainSpec { deadline: Some(Span(5000)), then: Then::End, grace: Span(9000), ..DrainSpec::default() };
    let mut drain = draining(spec, &[1, 2]);
    drain.step(Input::Tick, Mono(5000));
    drain.step(Input::Closed(vec![SessionId(1)]), Mono(5100));
    let again = Action::GoodbyeAgain(vec![SessionId(2)]);
    let mut times = 0;
    for at in (5200..14_000).step_by(200) {
        times += usize::from(drain.step(Input::Tick, Mono(at)).contains(&again));
    }
    assert_eq!(times, 4, "every two seconds");
    let actions = drain.step(Input::Tick, Mono(14_000));
    assert!(actions.contains(&Action::End(How::Destroy, vec![SessionId(2)])), "{actions:?}");
}

#[test]
fn end_says_goodbye_then_after_the_grace_destroys() {
    let spec = DrainSpec { deadline: Some(Span(5000)), then: Then::End, ..DrainSpec::default() };
    let mut drain = draining(spec, &[1, 2, 3]);
    let actions = drain.step(Input::Tick, Mono(5000));
    let all = vec![SessionId(1), SessionId(2), SessionId(3)];
    assert_eq!(actions, [Action::TakeCensus, Action::Deadline, Action::End(How::Goodbye, all), Action::TakeCensus]);
    drain.step(Input::Closed(vec![SessionId(1)]), Mono(6000));
    let left = vec![SessionId(2), SessionId(3)];
    let actions = drain.step(Input::Tick, Mono(10_000));
    assert!(actions.contains(&Action::End(How::Destroy, left)), "{actions:?}");
    drain.step(Input::Closed(vec![SessionId(2), SessionId(3)]), Mono(10_100));
    let tally = drain.tally();
    assert_eq!((tally.by_themselves, tally.by_us, tally.cut, tally.left), (0, 1, 2, 0));
}

#[test]
fn who_was_spared_and_leaves_within_the_grace_has_left_by_themselves() {
    let spec = DrainSpec { deadline: Some(Span(5000)), then: Then::End, ..DrainSpec::default() };
    let mut drain = draining(spec, &[1, 2, 3]);
    drain.step(Input::Tick, Mono(5000));
    drain.step(Input::Spared(vec![SessionId(2), SessionId(3)]), Mono(5010));
    drain.step(Input::Closed(vec![SessionId(1), SessionId(2)]), Mono(6000));
    let actions = drain.step(Input::Tick, Mono(10_000));
    assert!(actions.contains(&Action::End(How::Destroy, vec![SessionId(3)])), "{actions:?}");
    // The word comes too late to make a cut none.
    drain.step(Input::Spared(vec![SessionId(3)]), Mono(10_001));
    drain.step(Input::Closed(vec![SessionId(3)]), Mono(10_100));
    let tally = drain.tally();
    assert_eq!((tally.by_themselves, tally.by_us, tally.cut, tally.left), (1, 1, 1, 0));
}

#[test]
fn cut_destroys_at_once_and_again_what_does_not_go() {
    let spec = DrainSpec { deadline: Some(Span(5000)), then: Then::Cut, ..DrainSpec::default() };
    let mut drain = draining(spec, &[1]);
    let destroy = Action::End(How::Destroy, vec![SessionId(1)]);
    assert!(drain.step(Input::Tick, Mono(5000)).contains(&destroy));
    drain.step(census(&[1]), Mono(5001));
    assert!(!drain.step(Input::Tick, Mono(6500)).contains(&destroy), "not at once again");
    drain.step(census(&[1]), Mono(6501));
    assert!(drain.step(Input::Tick, Mono(7501)).contains(&destroy));
}

#[test]
fn syn_cookies_ask_for_a_grace_of_their_own() {
    let mut drain =
        Drain::new(DrainSpec { settle: Span(100), ..DrainSpec::default() }, None, Ledger::default(), Mono(0));
    drain.step(Input::Placed, Mono(0));
    drain.step(Input::Shut { cookies: true }, Mono(0));
    drain.step(Input::Proved(proofs(Ok(()))), Mono(0));
    drain.step(census(&[]), Mono(10));
    assert_eq!(drain.step(census(&[]), Mono(2000)), []);
    assert!(matches!(drain.why(Mono(2000)), Why::CookieGrace { .. }));
    let late = Input::Census { seen: vec![seen(9)], cost: Span(1), cookies: true };
    assert_eq!(drain.step(late, Mono(2500)), [Action::KeepBaseline], "the client behind a cookie is no leak");
    assert_eq!(drain.step(census(&[9, 8]), Mono(2600)), [Action::Leak(vec![SessionId(8)])], "no cookie came back");
    drain.step(census(&[]), Mono(4000));
    assert_eq!(drain.step(census(&[]), Mono(7500)), [Action::Confirm]);
}

#[test]
fn a_client_behind_a_cookie_whom_a_full_queue_turned_away_comes_back() {
    for (cookies, wait) in [(true, 6000 + 10_000), (false, 2000)] {
        let mut drain = Drain::new(DrainSpec::default(), None, Ledger::default(), Mono(0));
        drain.step(Input::Placed, Mono(0));
        drain.step(Input::Shut { cookies }, Mono(0));
        drain.step(Input::Proved(proofs(Ok(()))), Mono(0));
        drain.step(census(&[1]), Mono(10));
        drain.step(Input::TurnedAway, Mono(6000));
        drain.step(census(&[]), Mono(6000));
        drain.step(census(&[]), Mono(6500));
        assert_eq!(drain.step(census(&[]), Mono(6000 + wait - 1)), []);
        assert_eq!(drain.step(census(&[]), Mono(6000 + wait)), [Action::Confirm]);
    }
}

#[test]
fn testers_hold_up_a_stop_but_not_a_drain_without_one() {
    for (stop, blocking) in [(true, 1), (false, 0)] {
        let mut drain = draining(DrainSpec { stop, ..DrainSpec::default() }, &[]);
        let tester = Seen { may_enter: true, ..seen(5) };
        drain.step(Input::Census { seen: vec![tester], cost: Span(1), cookies: false }, Mono(500));
        assert_eq!(drain.blocking(), blocking);
    }
}

#[test]
fn a_service_that_somebody_else_ended_is_not_called_stopped_by_us() {
    let mut drain = draining(DrainSpec::default(), &[1]);
    let actions = drain.step(Input::Up(Up::Stopped, "inactive".into()), Mono(100));
    assert_eq!(actions, [Action::TakeCensus], "its sessions may outlive it");
    drain.step(census(&[]), Mono(200));
    drain.step(census(&[]), Mono(2200));
    let actions = drain.step(Input::Confirmed(true), Mono(2201));
    assert!(matches!(is_finish(&actions), Some(Outcome::EndedElsewhere(_))), "{actions:?}");
}

#[test]
fn without_its_hold_it_is_over_and_stops_nothing() {
    let why = || Why::Released { service: ServiceName::new("a").unwrap(), requester: Requester::operator() };
    let mut drain = draining(DrainSpec::default(), &[1]);
    assert_eq!(drain.step(Input::Released(why()), Mono(100)), [Action::Finish(Outcome::Released(why()))]);
    // Found out at the last moment, when it was to be stopped.
    let mut drain = draining(DrainSpec::default(), &[]);
    drain.step(census(&[]), Mono(1000));
    assert_eq!(drain.step(census(&[]), Mono(3000)), [Action::Confirm]);
    assert!(drain.step(Input::Confirmed(true), Mono(3000)).contains(&Action::Stop));
    assert_eq!(drain.step(Input::Stopped(Err(why())), Mono(3001)), [Action::Finish(Outcome::Released(why()))]);
    // What is being stopped is stopped.
    let mut drain = draining(DrainSpec::default(), &[]);
    drain.step(census(&[]), Mono(1000));
    drain.step(census(&[]), Mono(3000));
    drain.step(Input::Confirmed(true), Mono(3000));
    assert_eq!(drain.step(Input::Released(why()), Mono(3001)), []);
    assert_eq!(drain.step(Input::Stopped(Ok(())), Mono(3002)), [Action::Finish(Outcome::Stopped)]);
}

#[test]
fn what_cannot_be_ended_is_not_tried_for_ever() {
    let spec = || DrainSpec { deadline: Some(Span::seconds(1)), then: Then::Cut, ..DrainSpec::default() };
    let mut drain = draining(spec(), &[1]);
    let flow = Seen { state: SessionState::Flow, ..seen(1) };
    drain.step(Input::Census { seen: vec![flow], cost: Span(1), cookies: false }, Mono(500));
    let actions = drain.step(Input::Tick, Mono(1001));
    assert_eq!(is_finish(&actions), Some(&Outcome::DeadlineReached), "a flow has no connection: {actions:?}");
    // What may be another service's is kept; what is ours is ended all the same.
    let mut drain = draining(spec(), &[1, 2]);
    let both = vec![SessionId(1), SessionId(2)];
    let end = |ids| [Action::Deadline, Action::End(How::Destroy, ids), Action::TakeCensus];
    assert_eq!(drain.step(Input::Tick, Mono(1001)), end(both));
    drain.step(Input::Kept(vec![SessionId(2)]), Mono(1002));
    drain.step(census(&[2]), Mono(1003));
    assert_eq!(drain.tally().cut, 1);
    let actions = drain.step(Input::Tick, Mono(3100));
    assert_eq!(is_finish(&actions), Some(&Outcome::DeadlineReached), "{actions:?}");
    assert_eq!(drain.tally().left, 1);
}

#[test]
fn a_new_wish_takes_back_an_ending() {
    for then in [Then::End, Then::Cut] {
        let spec = DrainSpec { deadline: Some(Span::seconds(1)), then, ..DrainSpec::default() };
        let mut drain = draining(spec, &[1]);
        assert!(drain.step(Input::Tick, Mono(1001)).iter().any(|action| matches!(action, Action::End(..))));
        drain.step(census(&[1]), Mono(1002));
        drain.respec(DrainSpec { deadline: Some(Span::seconds(100)), ..DrainSpec::default() }, Mono(1500));
        for at in [4000, 7000, 20_000] {
            let actions = drain.step(Input::Tick, Mono(at));
            assert!(!actions.iter().any(|action| matches!(action, Action::End(..))), "{then:?} {at}: {actions:?}");
            drain.step(census(&[1]), Mono(at + 1));
        }
        drain.step(Input::Closed(vec![SessionId(1)]), Mono(20_500));
        assert_eq!((drain.tally().by_themselves, drain.tally().cut, drain.tally().by_us), (1, 0, 0), "{then:?}");
        assert_eq!(drain.deadline_at(), Some(Mono(101_500)));
    }
}

#[test]
fn a_deadline_is_not_judged_before_somebody_has_counted() {
    let spec = DrainSpec { deadline: Some(Span::ZERO), ..DrainSpec::default() };
    let mut drain = Drain::new(spec, None, Ledger::default(), Mono(0));
    drain.step(Input::Placed, Mono(0));
    drain.step(Input::Shut { cookies: false }, Mono(0));
    assert_eq!(drain.step(Input::Proved(proofs(Ok(()))), Mono(1)), []);
    let actions = drain.step(census(&[1]), Mono(2));
    assert_eq!(is_finish(&actions), Some(&Outcome::DeadlineReached), "{actions:?}");
}

#[test]
fn udp_is_not_drained_before_its_flows_are_learnt_and_gone() {
    let mut drain = Drain::new(DrainSpec::default(), Some(Mono(30_000)), Ledger::default(), Mono(0));
    drain.step(Input::Placed, Mono(0));
    drain.step(Input::Shut { cookies: false }, Mono(0));
    drain.step(Input::Proved(proofs(Ok(()))), Mono(0));
    for at in [10, 5000, 30_000, 31_999] {
        assert!(!drain.step(census(&[]), Mono(at)).contains(&Action::Confirm), "{at}");
    }
    assert_eq!(drain.step(census(&[]), Mono(32_000)), [Action::Confirm]);
    // The kernel learns a little longer than we thought: it is not whole.
    assert_eq!(drain.step(Input::Confirmed(false), Mono(32_000)), [Action::Shut]);
}

#[test]
fn a_census_that_costs_much_is_taken_rarely_but_never_later_than_two_minutes() {
    let mut drain = draining(DrainSpec::default(), &[1]);
    for (cost, pace) in [(1, 1000), (80, 24_000), (900, 120_000)] {
        drain.step(Input::Census { seen: vec![seen(1)], cost: Span(cost), cookies: false }, Mono(10_000));
        assert_eq!(drain.wakeup().unwrap().at, Mono(10_000 + pace));
    }
    assert_eq!(drain.step(Input::Closed(vec![SessionId(1)]), Mono(10_500)), [Action::TakeCensus], "zero is looked at");
}

/// A world that a drain acts in: sessions end at random, sometimes the count fails, sometimes the gate
/// is torn down and a client slips in.
struct World {
    chance: u64,
    sessions: BTreeSet<u64>,
    next: u64,
    gate: bool,
}

impl World {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift: the same seed, the same story.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % sides
    }

    fn come(&mut self) {
        self.next += 1;
        self.sessions.insert(self.next);
    }

    fn pass(&mut self) -> Vec<u64> {
        if !self.gate && self.roll(2) == 0 {
            self.come();
        }
        if self.roll(40) == 0 {
            self.gate = false;
        }
        let gone: Vec<u64> =
            self.sessions.iter().copied().collect::<Vec<_>>().into_iter().filter(|_| self.roll(12) == 0).collect();
        for id in &gone {
            self.sessions.remove(id);
        }
        gone
    }

    fn perform(&mut self, action: &Action) -> Vec<Input> {
        match action {
            Action::Place => vec![Input::Placed],
            Action::Shut => {
                self.gate = true;
                vec![Input::Shut { cookies: false }]
            }
            Action::Prove => vec![Input::Proved(proofs(Ok(())))],
            Action::TakeCensus if self.roll(10) == 0 => {
                vec![Input::CensusFailed(Why::Unread { what: "x".into(), cause: "y".into() })]
            }
            Action::TakeCensus => vec![census(&self.sessions.iter().copied().collect::<Vec<_>>())],
            Action::Confirm => {
                vec![census(&self.sessions.iter().copied().collect::<Vec<_>>()), Input::Confirmed(self.gate)]
            }
            Action::End(How::Destroy, ids) => {
                self.sessions.retain(|id| !ids.contains(&SessionId(*id)));
                vec![]
            }
            Action::SayDrained(_) => {
                assert!(self.gate, "drained is said behind a shut gate only");
                assert!(self.sessions.is_empty(), "drained is said of nobody left only: {:?}", self.sessions);
                vec![]
            }
            Action::Stop => {
                assert!(self.sessions.is_empty(), "nobody is stopped under");
                vec![Input::Stopped(Ok(()))]
            }
            _ => vec![],
        }
    }
}

#[test]
fn in_2000_random_worlds_nobody_is_dropped_and_drained_is_true() {
    let mut outcomes = BTreeSet::new();
    for seed in 1..=2000_u64 {
        let mut world = World { chance: (seed * 0x9e37_79b9) | 1, sessions: BTreeSet::new(), next: 0, gate: false };
        (0..seed % 30).for_each(|_| world.come());
        let then = [Then::Ask, Then::End, Then::Cut][usize::try_from(seed % 3).unwrap()];
        let deadline = (seed % 5 == 0).then_some(Span(20_000));
        let spec = DrainSpec { deadline, then, stop: seed % 2 == 0, ..DrainSpec::default() };
        let mut drain = Drain::new(spec, None, Ledger::default(), Mono(0));
        let mut queue: Vec<Input> = drain.begin().iter().flat_map(|action| world.perform(action)).collect();
        let mut outcome = None;
        for tick in 0..20_000_u64 {
            let now = Mono(tick * 250);
            let gone = world.pass();
            queue.push(Input::Closed(gone.into_iter().map(SessionId).collect()));
            queue.push(Input::Tick);
            while !queue.is_empty() {
                let input = queue.remove(0);
                for action in drain.step(input, now) {
                    if let Action::Finish(end) = &action {
                        outcome = Some(end.clone());
                    }
                    queue.extend(world.perform(&action));
                }
            }
            // Somebody puts the gate back, as the shell's watch does.
            if world.roll(4) == 0 {
                world.gate = true;
            }
            if drain.is_over() {
                break;
            }
        }
        let tally = drain.tally();
        let leaks = drain.ledger().leaks();
        assert_eq!(
            tally.at_start + leaks,
            tally.by_themselves + tally.by_us + tally.cut + tally.left,
            "every session is accounted for in world {seed}"
        );
        outcomes.insert(format!("{:?}", outcome.unwrap_or_else(|| panic!("world {seed} never ends"))));
    }
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
}

fn idle(id: u64) -> Seen {
    Seen { idle: true, ..seen(id) }
}

fn mixed(seen: Vec<Seen>) -> Input {
    Input::Census { seen, cost: Span(1), cookies: false }
}

#[test]
fn who_is_idle_or_becomes_so_hears_a_goodbye_before_the_deadline_and_nobody_is_destroyed() {
    let spec = DrainSpec { idle: When::Now, ..DrainSpec::default() };
    let mut drain = draining(spec, &[1, 2]);
    let goodbye = |ids: &[u64]| Action::End(How::Goodbye, ids.iter().copied().map(SessionId).collect());
    let actions = drain.step(mixed(vec![idle(1), seen(2)]), Mono(1000));
    assert_eq!(actions, [goodbye(&[1]), Action::TakeCensus]);
    assert_eq!(drain.step(mixed(vec![idle(1), seen(2)]), Mono(2000)), [], "said once");
    assert_eq!(drain.step(mixed(vec![idle(1), idle(2)]), Mono(3000)), [goodbye(&[2]), Action::TakeCensus]);
    // Who does not heed it hears it again after a while.
    assert_eq!(drain.step(mixed(vec![idle(1)]), Mono(70_000)), [goodbye(&[1]), Action::TakeCensus]);
    let tally = drain.ledger().tally();
    assert_eq!((tally.by_us, tally.by_themselves, tally.left), (1, 0, 1));
}

#[test]
fn those_at_work_alone_can_be_told_goodbye_at_once() {
    let spec = DrainSpec { active: When::Now, ..DrainSpec::default() };
    let mut drain = Drain::new(spec, None, Ledger::default(), Mono(0));
    drain.step(Input::Placed, Mono(0));
    drain.step(Input::Shut { cookies: false }, Mono(1));
    drain.step(Input::Proved(proofs(Ok(()))), Mono(1));
    let actions = drain.step(mixed(vec![idle(1), seen(2)]), Mono(2));
    assert!(actions.contains(&Action::End(How::Goodbye, vec![SessionId(2)])), "{actions:?}");
}

#[test]
fn an_ending_that_is_spread_out_has_its_time_and_then_its_grace() {
    let pace = Pace { per_hour: Some(3600), over: None };
    let then = DrainSpec { deadline: Some(Span(9000)), then: Then::End, pace, ..DrainSpec::default() };
    let mut drain = draining(then, &[1, 2, 3, 4]);
    let actions = drain.step(Input::Tick, Mono(9000));
    assert!(actions.iter().any(|action| matches!(action, Action::End(How::Goodbye, ids) if ids.len() == 4)));
    // One has gone before its turn: by itself.
    drain.step(Input::Closed(vec![SessionId(4)]), Mono(9100));
    assert!(drain.turn(How::Goodbye, &[SessionId(1)]));
    drain.step(Input::Closed(vec![SessionId(1)]), Mono(9200));
    let tally = drain.ledger().tally();
    assert_eq!((tally.by_us, tally.by_themselves), (1, 1));
    // Four in four seconds and a bit, and five of grace.
    let destroys = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::End(How::Destroy, _)));
    assert!(!destroys(&drain.step(census(&[2, 3]), Mono(18_100))));
    assert!(destroys(&drain.step(census(&[2, 3]), Mono(18_200))));
    // Taken back, nobody's turn comes.
    drain.step(Input::Released(Why::NotDrained { service: ServiceName::new("x").unwrap() }), Mono(18_201));
    assert!(!drain.turn(How::Destroy, &[SessionId(2)]));
}

#[test]
fn a_pace_is_a_rate_or_a_time() {
    assert_eq!(Pace { per_hour: Some(360_000), over: None }.spread(5000), Span(52_500));
    assert_eq!(Pace { per_hour: None, over: Some(Span::seconds(9)) }.spread(3), Span::seconds(9));
    assert_eq!(Pace { per_hour: Some(1), over: Some(Span::seconds(9)) }.spread(0), Span::ZERO);
    assert_eq!(Pace::default().spread(5), Span::ZERO);
}
