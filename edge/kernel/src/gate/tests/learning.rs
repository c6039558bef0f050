//! Learning: begun by us, ended by the kernel.

use super::flows::{Server, client};
use super::*;
use crate::gate::Applied;
use crate::testnet::in_new_netns;

/// So long that a busy machine does what a test does within it.
const TIME: Duration = Duration::from_millis(1200);

fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// After the end, with what a timer may be late.
fn ended(rules: &Rules) -> Instant {
    *rules.learn.values().max().unwrap() + Duration::from_millis(150)
}

#[test]
fn it_ends_by_itself_when_nobody_is_left_to_end_it() {
    in_new_netns(|| {
        let (v4, v6) = (Server::new("127.0.0.1:7600"), Server::new("[::1]:7600"));
        let (old4, old6) = (client("127.0.0.1:7600"), client("[::1]:7600"));
        for doors in [vec![udp(Reach::Any, 7600)], vec![udp(addr("127.0.0.1"), 7600), udp(addr("::1"), 7600)]] {
            let rules = learning(doors.clone(), TIME);
            // As of a process that is killed: nothing of it is left but the table.
            gate().apply(&rules).unwrap();
            assert!(v4.hears(&old4, b"a") && v6.hears(&old6, b"b"));
            assert_same(&gate().seen().unwrap().unwrap().rules, &rules);
            sleep_until(ended(&rules));
            let (new4, new6) = (client("127.0.0.1:7600"), client("[::1]:7600"));
            assert!(v4.hears(&old4, b"a") && v6.hears(&old6, b"b"));
            assert!(!v4.hears(&new4, b"c") && !v6.hears(&new6, b"d"));
            let seen = gate().seen().unwrap().unwrap();
            assert_eq!((seen.rules, seen.altered), (shut(doors.clone()), None));
            assert_eq!(seen.refused.values().sum::<u64>(), 2, "nothing is refused while it learns");
            gate().apply(&Rules::default()).unwrap();
        }
    });
}

#[test]
fn its_end_is_no_change_by_others_and_applying_again_changes_nothing() {
    in_new_netns(|| {
        let rules = learning([udp(Reach::Any, 7600), udp(addr("127.0.0.1"), 7601)], TIME);
        let ended = ended(&rules);
        let mut ours = gate();
        ours.apply(&rules).unwrap();
        while Instant::now() < ended + LEARN_LATE {
            for gate in [&mut ours, &mut gate()] {
                assert_eq!(gate.apply(&rules).unwrap(), Applied::Nothing);
                assert_eq!(gate.seen().unwrap().unwrap().altered, None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Who says that it has ended when the kernel has a moment to go changes nothing either.
        let more = learning([udp(Reach::Any, 7602)], TIME / 2);
        let mut both = Rules { learn: more.learn.clone(), ..rules.clone() };
        both.shut.extend(&more.shut);
        ours.apply(&both).unwrap();
        assert_eq!(ours.apply(&Rules { learn: Default::default(), ..both.clone() }).unwrap(), Applied::Nothing);
        assert_eq!(ours.seen().unwrap().unwrap().altered, None);
        // But an open door does not learn; that its element may go at this very moment is no error.
        for late in [Duration::ZERO, TIME] {
            ours.apply(&both).unwrap();
            std::thread::sleep(late);
            ours.apply(&shut([udp(Reach::Any, 7600)])).unwrap();
            assert_eq!(ours.seen().unwrap().unwrap().rules, shut([udp(Reach::Any, 7600)]));
        }
    });
}

/// How long after the end the tests above look on.
const LEARN_LATE: Duration = Duration::from_millis(300);

#[test]
fn a_flushed_table_gets_the_flows_and_the_time_that_is_left() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        let server = Server::new("127.0.0.1:7600");
        let (old, late) = (client("127.0.0.1:7600"), client("127.0.0.1:7600"));
        let rules = learning([udp(Reach::Any, 7600)], TIME);
        let mut ours = gate().shared();
        ours.apply(&rules).unwrap();
        assert!(server.hears(&old, b"a"));
        assert_eq!(ours.seen().unwrap().unwrap().flows.len(), 1);
        run("nft flush ruleset");
        assert_eq!(ours.seen().unwrap(), None);
        let standing = ours.standing().unwrap().clone();
        assert_same(&standing, &rules);
        assert_eq!(ours.apply(&standing).unwrap(), Applied::Built { altered: None });
        assert!(server.hears(&late, b"b"), "it still learns");
        let seen = ours.seen().unwrap().unwrap();
        assert_eq!(seen.flows.len(), 2);
        assert_same(&seen.rules, &rules);
        sleep_until(ended(&rules));
        for _ in 0..2 {
            assert!(server.hears(&old, b"a") && server.hears(&late, b"b"));
            assert!(!server.hears(&client("127.0.0.1:7600"), b"c"));
            ours.seen().unwrap();
            run("nft flush ruleset");
            let standing = ours.standing().unwrap().clone();
            assert_eq!(standing, shut([udp(Reach::Any, 7600)]));
            ours.apply(&standing).unwrap();
        }
        ours.apply(&Rules::default()).unwrap();
        assert_eq!((ours.standing(), ours.flows.0.len()), (None, 0));
    });
}

#[test]
fn one_address_then_others_then_every_address() {
    in_new_netns(|| {
        let server = |last: u8| Server::new(&format!("127.0.0.{last}:7600"));
        let to = |last: u8| client(&format!("127.0.0.{last}:7600"));
        let (every, shut_one, others, learns) = (server(1), server(2), server(3), server(4));
        let mut rules = learning([udp(Reach::Any4, 7600)], HOUR);
        rules.shut.insert(udp(addr("127.0.0.2"), 7600));
        rules.open.insert(("127.0.0.3".parse().unwrap(), 7600));
        let mut gate = gate();
        gate.apply(&rules).unwrap();
        assert!(every.hears(&to(1), b"a") && others.hears(&to(3), b"b"));
        assert!(!shut_one.hears(&to(2), b"c"), "that every address learns does not open this one");
        let peers = |gate: &mut Gate| -> Vec<u8> {
            let flows = gate.seen().unwrap().unwrap().flows;
            flows.iter().map(|flow| flow.local.to_string().as_bytes()[8]).collect()
        };
        assert_eq!(peers(&mut gate), b"1", "what passes to others is not learnt");
        // And the other way round.
        let mut rules = learning([udp(addr("127.0.0.4"), 7600)], HOUR);
        rules.shut.insert(udp(Reach::Any4, 7600));
        gate.apply(&rules).unwrap();
        assert!(learns.hears(&to(4), b"d") && !every.hears(&to(1), b"e"));
        assert_eq!(gate.seen().unwrap().unwrap().altered, None);
    });
}
