//! What others do to the table: noticed, told, healed; and that we do nothing to theirs.

use std::net::TcpListener;

use super::*;
use crate::gate::{Applied, Change, ChangeKind, Except, Support, Watch, support};
use crate::testnet::in_new_netns;

fn rules() -> Rules {
    let mut rules = shut([tcp(Reach::Any, 7000), tcp(addr("127.0.0.1"), 7001), udp(Reach::Any4, 7002)]);
    let from = ("192.0.2.0".parse().unwrap(), 24);
    rules.except.insert(Except { from, door: tcp(Reach::Any, 7000) });
    rules.probe_mark = 7;
    rules
}

/// Those, with something of everything that a table can have.
fn rules_of_every_kind() -> Rules {
    let mut rules = rules();
    rules.shut.insert(Door { proto: Proto::Quic, reach: Reach::Any, port: 7003 });
    rules.shut.insert(tcp(Reach::Forward("10.99.0.2".parse().unwrap()), 80));
    let learning = learning([udp(Reach::Any6, 7004), udp(Reach::Any4, 7005)], HOUR);
    rules.shut.extend(learning.shut);
    rules.learn = learning.learn;
    rules.open.insert(("192.0.2.1".parse().unwrap(), 7000));
    rules.mptcp.insert(tcp(Reach::Any, 7000));
    rules.tokens.insert(0x0102_0304);
    rules
}

#[test]
fn whatever_was_done_to_the_table_is_noticed_and_healed() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        let _listener = TcpListener::bind("[::]:7000").unwrap();
        // { } is the table; what is done, and whether a gate that did not apply the rules itself can tell.
        let deeds = [
            ("nft flush ruleset", true),
            ("nft delete table {}", true),
            ("nft flush chain {} input", true),
            ("nft flush table {}", true),
            ("nft add rule {} input tcp dport 22 drop", true),
            ("nft insert rule {} gate_tcp accept", true),
            ("nft add chain {} mine", true),
            ("nft add set {} mine '{ type inet_service; }'", true),
            ("nft add table {} '{ flags dormant; }'", true),
            ("nft 'add chain {} forward { policy drop; }'", true),
            ("nft delete element {} udp_ports '{ 7002 }'", true),
            ("nft delete element {} tcp_ports '{ 7000 }'", true),
            ("nft flush set {} tcp_ports", true),
            ("nft add element {} any4 '{ 9 }'", true),
            ("nft delete element {} any6 '{ 7000 }'", true),
            ("nft flush chain {} output; nft flush chain {} sent_udp; nft delete chain {} sent_udp", true),
            ("nft delete element {} out_any4 '{ 7002 }'", true),
            ("nft flush set {} join_any4", true),
            ("nft flush set {} tokens", true),
            ("nft add element {} tokens '{ 9 }'", false),
            ("nft add element {} open4 '{ 127.0.0.1 . 7000 }'", false),
            ("nft flush set {} except4", false),
            ("nft flush set {} learn_any6", false),
            ("nft add element {} learn_any4 '{ 7002 timeout 1h }'", false),
            ("nft delete element {} learn_any4 '{ 7005 }'; nft add element {} learn_any4 '{ 7005 timeout 9h }'", false),
            // Of no shut door, and one that never ends.
            ("nft add element {} learn_any4 '{ 9 timeout 1h }'", true),
            ("nft delete element {} learn_any4 '{ 7005 }'; nft add element {} learn_any4 '{ 7005 }'", true),
            // The MPTCP doors are still there, and must be shut ones.
            ("nft flush set {} any4; nft flush set {} any6", true),
            // The port of that door is still there, and must be a shut door's.
            ("nft flush set {} addr4", true),
            // One rule of the chain replaced by a similar one.
            (
                "nft replace rule {} gate_tcp handle $(nft -a list chain {} gate_tcp | sed -n '/@addr4/s/.*handle //p') \
              ip daddr . th dport @addr4 accept comment shut",
                true,
            ),
            (
                "nft replace rule {} gate_tcp handle $(nft -a list chain {} gate_tcp | sed -n '/@addr4/s/.*handle //p') \
              ip daddr . th dport != @addr4 reject with tcp reset comment shut",
                true,
            ),
        ];
        for (deed, plain_to_all) in deeds {
            let mut ours = gate();
            ours.apply(&rules_of_every_kind()).unwrap();
            assert_eq!(ours.seen().unwrap().unwrap().altered, None);
            run(&deed.replace("{}", &format!("inet {TABLE}")));
            let seen = ours.seen().unwrap();
            assert!(seen.is_none_or(|seen| !seen.intact()), "{deed}: not noticed");
            let others = gate().seen().unwrap();
            assert_eq!(others.is_none_or(|seen| !seen.intact()), plain_to_all, "{deed}");
            let applied = gate().apply(&rules_of_every_kind()).unwrap();
            assert_ne!(applied, Applied::Nothing, "{deed}");
            println!("{deed}: {applied:?}");
            let seen = gate().seen().unwrap().unwrap();
            assert_eq!(seen.altered, None, "{deed}");
            assert_same(&seen.rules, &rules_of_every_kind());
            assert_refused("127.0.0.1:7000");
            assert_refused("[::1]:7000");
            // And by the gate that knew how it was.
            run(&deed.replace("{}", &format!("inet {TABLE}")));
            assert_ne!(ours.apply(&rules_of_every_kind()).unwrap(), Applied::Nothing, "{deed}");
            assert_eq!(ours.apply(&rules_of_every_kind()).unwrap(), Applied::Nothing, "{deed}");
            assert_eq!(ours.seen().unwrap().unwrap().altered, None, "{deed}");
        }
    });
}

#[test]
fn intact_table_keeps_its_counters() {
    in_new_netns(|| {
        let _listener = TcpListener::bind("[::]:7000").unwrap();
        let mut first = gate();
        first.apply(&shut([tcp(Reach::Any, 7000)])).unwrap();
        assert_refused("127.0.0.1:7000");
        let both = shut([tcp(Reach::Any, 7000), tcp(Reach::Any, 7001)]);
        assert_eq!(gate().apply(&both).unwrap(), Applied::Changed { added: 3, removed: 0 });
        // The first gate learns by the generation that the table is not what it knew.
        assert_eq!(first.apply(&both).unwrap(), Applied::Nothing);
        assert_refused("[::1]:7000");
        assert_eq!(first.seen().unwrap().unwrap().refused[&tcp(Reach::Any, 7000)], 2);
    });
}

/// A table has only what its rules need; what a later rule needs comes in the same batch, and nothing is lost.
#[test]
fn a_table_grows_and_keeps_its_counters() {
    in_new_netns(|| {
        let _listener = TcpListener::bind("[::]:7000").unwrap();
        let all = rules_of_every_kind();
        let door = tcp(Reach::Any, 7000);
        let mut ours = gate();
        ours.apply(&shut([door])).unwrap();
        assert_refused("127.0.0.1:7000");
        let mut steps = vec![shut([door])];
        steps.extend(all.shut.iter().map(|more| shut([door, *more])));
        let base = || shut([door]);
        steps.push(Rules { learn: all.learn.clone(), ..base() }.normal());
        steps.push(Rules { open: all.open.clone(), ..base() });
        steps.push(Rules { except: all.except.clone(), ..base() });
        steps.push(Rules { mptcp: all.mptcp.clone(), tokens: all.tokens.clone(), ..base() });
        steps.push(Rules { probe_mark: 9, ..base() });
        steps.push(all);
        steps.push(base());
        for (step, rules) in (2..).zip(&steps) {
            // In turns by the gate that knows the table, and by one that must read it.
            let applied = if step % 2 == 0 { ours.apply(rules) } else { gate().apply(rules) }.unwrap();
            assert!(matches!(applied, Applied::Changed { .. } | Applied::Nothing), "{rules:?}: {applied:?}");
            assert_refused("127.0.0.1:7000");
            for gate in [&mut ours, &mut gate()] {
                let seen = gate.seen().unwrap().unwrap();
                assert_same(&seen.rules, rules);
                assert_eq!(seen.refused[&door], step, "{:?}", seen.altered);
            }
            assert_eq!(gate().seen().unwrap().unwrap().altered, None);
        }
    });
}

/// The same table whether it was built at once or grew.
#[test]
fn every_pair_of_rules_makes_a_whole_table() {
    in_new_netns(|| {
        let all = rules_of_every_kind();
        let mut kinds: Vec<Rules> = all.shut.iter().map(|door| shut([*door])).collect();
        kinds.extend(all.learn.keys().map(|door| learning([*door], HOUR)));
        kinds.push(Rules { open: all.open.clone(), ..shut([tcp(Reach::Any, 7000)]) });
        kinds.push(Rules { mptcp: all.mptcp.clone(), tokens: all.tokens.clone(), ..shut([tcp(Reach::Any, 7000)]) });
        kinds.push(Rules { except: all.except.clone(), ..shut([udp(Reach::Any4, 7002)]) });
        for first in &kinds {
            for second in &kinds {
                let both = Rules {
                    shut: &first.shut | &second.shut,
                    learn: first.learn.iter().chain(&second.learn).map(|(door, until)| (*door, *until)).collect(),
                    open: &first.open | &second.open,
                    except: &first.except | &second.except,
                    mptcp: &first.mptcp | &second.mptcp,
                    tokens: &first.tokens | &second.tokens,
                    probe_mark: 0,
                };
                let mut gate = gate();
                for rules in [first, &both, second] {
                    gate.apply(rules).unwrap();
                    assert_eq!(gate.seen().unwrap().unwrap().altered, None, "{first:?} {second:?}");
                    assert_same(&gate.seen().unwrap().unwrap().rules, rules);
                }
                gate.apply(&Rules::default()).unwrap();
            }
        }
    });
}

#[test]
fn tables_of_others_stay_as_they_are() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        run("nft -f - <<'EOF'
table ip filter {
    set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
    chain input { type filter hook input priority 0; policy accept; ct state new counter accept; ip saddr @s drop; }
}
table inet gatetest2 { chain input { tcp dport 7000 accept; }; }
table ip gatetest { chain input { tcp dport 7000 accept; }; }
EOF");
        let others = || run("nft list table ip filter; nft list table inet gatetest2; nft list table ip gatetest");
        let before = (others(), run("nft -j list tables"));
        let mut gate = gate();
        for _ in 0..2 {
            gate.apply(&rules()).unwrap();
            assert_eq!(others(), before.0);
            assert_eq!(gate.seen().unwrap().unwrap().altered, None);
            assert_eq!(gate.apply(&Rules::default()).unwrap(), Applied::Removed);
        }
        assert_eq!((others(), run("nft -j list tables")), before);
    });
}

#[test]
fn an_older_or_foreign_table_of_our_name_is_replaced() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        run("nft -f - <<'EOF'
table inet gatetest {
    set any4 { type ipv4_addr; elements = { 10.0.0.1 } }
    set flow4 { type ipv4_addr; elements = { 10.0.0.1 } }
    chain input { type filter hook input priority 5; tcp dport 1 drop; }
}
EOF");
        let mut gate = gate();
        assert!(!gate.seen().unwrap().unwrap().intact());
        assert!(matches!(gate.apply(&rules()).unwrap(), Applied::Built { altered: Some(_) }));
        assert_eq!(gate.seen().unwrap().unwrap().altered, None);
        run("nft flush chain inet gatetest input");
        assert_eq!(gate.apply(&Rules::default()).unwrap(), Applied::Removed);
        assert_eq!(gate.seen().unwrap(), None);
    });
}

#[test]
fn the_watch_names_who_did_it_and_is_silent_about_us() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        let mut watch = Watch::open(TABLE).unwrap();
        let mut gate = gate();
        gate.apply(&rules()).unwrap();
        gate.apply(&shut([tcp(Reach::Any, 7000)])).unwrap();
        gate.apply(&rules()).unwrap();
        assert_eq!(watch.try_next().unwrap(), None);
        run("nft add table ip others; nft add chain ip others c; nft delete table ip others");
        assert_eq!(watch.try_next().unwrap(), None);
        let pid: u32 =
            run("nft add rule inet gatetest input accept & pid=$!; wait $pid; echo $pid").trim().parse().unwrap();
        let change = watch.try_next().unwrap().unwrap();
        // In a pid namespace of our own the kernel gives another number.
        let first_namespace =
            std::fs::read_link("/proc/self/ns/pid").is_ok_and(|l| l.as_os_str() == "pid:[4026531836]");
        let by_pid = if first_namespace { pid } else { change.by_pid };
        assert_eq!(change, Change { kind: ChangeKind::Altered, by_pid, by_name: "nft".to_owned() });
        run("nft flush ruleset");
        let change = watch.try_next().unwrap().unwrap();
        assert_eq!((change.kind, change.by_name.as_str()), (ChangeKind::TableGone, "nft"));
        assert_eq!(watch.try_next().unwrap(), None);
        gate.apply(&rules()).unwrap();
        drop(gate);
        assert_eq!(watch.try_next().unwrap(), None);
        // Replaced in one go: it is there.
        run("nft -f - <<'EOF'
flush ruleset
table inet gatetest { chain input { tcp dport 7000 accept; }; }
EOF");
        assert_eq!(watch.try_next().unwrap().unwrap().kind, ChangeKind::Altered);
    });
}

#[test]
fn support_is_told_without_a_trace() {
    in_new_netns(|| {
        let mut watch = Watch::open(crate::gate::TRIAL).unwrap();
        assert!(matches!(support().unwrap(), Support::Ready { mptcp: true }), "{:?}", support());
        assert_eq!(watch.try_next().unwrap(), None);
        assert_eq!(Gate::open(crate::gate::TRIAL).unwrap().seen().unwrap(), None);
    });
}

#[test]
#[expect(unsafe_code, reason = "setuid of one thread has no safe form in std")]
fn without_the_right_it_says_so() {
    in_new_netns(|| {
        // SAFETY: the raw call changes only this thread, which ends with the test; that drops its capabilities.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        assert!(matches!(support().unwrap(), Support::NoPermission));
        assert_eq!(gate().apply(&rules()).unwrap_err().errno(), Some(libc::EPERM));
        assert_eq!(Watch::open(TABLE).unwrap_err().errno(), Some(libc::EPERM));
    });
}

#[test]
fn two_gates_at_once_end_with_one_of_both() {
    in_new_netns(|| {
        let (a, b) = (shut([tcp(Reach::Any, 1), tcp(Reach::Any4, 3)]), shut([tcp(Reach::Any, 2)]));
        let (mut one, mut two) = (gate(), gate());
        std::thread::scope(|scope| {
            for (gate, rules) in [(&mut one, &a), (&mut two, &b)] {
                scope.spawn(move || (0..200).for_each(|_| _ = gate.apply(rules).unwrap()));
            }
        });
        let seen = gate().seen().unwrap().unwrap();
        assert_eq!(seen.altered, None);
        assert!(seen.rules == a || seen.rules == b, "{:?}", seen.rules);
    });
}

#[test]
fn a_rebuild_leaves_no_instant_open() {
    if !nft_is_there() {
        return;
    }
    in_new_netns(|| {
        use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
        let _listener = TcpListener::bind("127.0.0.1:7000").unwrap();
        let (over, refused, came_in) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let mut gate = gate();
        gate.apply(&rules()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let count = if connect("127.0.0.1:7000").is_ok() { &came_in } else { &refused };
                    count.fetch_add(1, Relaxed);
                }
            });
            for round in 0..20 {
                run("nft add rule inet gatetest input tcp dport 22 drop");
                assert!(matches!(gate.apply(&rules()).unwrap(), Applied::Built { altered: Some(_) }));
                // It grows: chains get other rules.
                assert!(matches!(gate.apply(&rules_of_every_kind()).unwrap(), Applied::Changed { .. }));
                let others =
                    shut((8000..8000 + round).map(|port| tcp(Reach::Any, port)).chain([tcp(Reach::Any, 7000)]));
                gate.apply(&others).unwrap();
            }
            over.store(true, Relaxed);
        });
        assert_eq!(came_in.load(Relaxed), 0);
        assert!(refused.load(Relaxed) > 100);
    });
}
