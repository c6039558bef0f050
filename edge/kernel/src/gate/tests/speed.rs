//! How long it takes. Not a check (the machine is shared): prints figures. Run it with `--run-ignored only`.

use std::time::Instant;

use super::*;
use crate::gate::Except;
use crate::testnet::in_new_netns;

const ROUNDS: usize = 300;

/// The first build of a table for these rules, from opening the gate to the kernel's acknowledgement.
fn first_build(what: &str, rules: &Rules) {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            let mut gate = gate();
            gate.apply(rules).unwrap();
            let took = began.elapsed();
            gate.apply(&Rules::default()).unwrap();
            drop(gate);
            // The kernel clears the old table away in the background, and a change waits for that.
            std::thread::sleep(Duration::from_millis(60));
            took
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times[(ROUNDS * percent / 100).min(ROUNDS - 1)];
    println!("{what}: p50 {:?}, p90 {:?}, p99 {:?}, worst {:?}", at(50), at(90), at(99), at(100));
}

#[test]
#[ignore = "a measurement"]
fn first_build_of_the_table() {
    in_new_netns(|| {
        let mark = |rules| Rules { probe_mark: 0xebb, ..rules };
        let door = tcp(Reach::Any, 7000);
        first_build("one TCP door", &mark(shut([door])));
        first_build("ten TCP doors", &mark(shut((7000..7010).map(|port| tcp(Reach::Any, port)))));
        let from = ("192.0.2.0".parse().unwrap(), 24);
        first_build("with an exception", &Rules { except: [Except { from, door }].into(), ..mark(shut([door])) });
        first_build("TCP and UDP", &mark(shut([door, udp(Reach::Any, 7000)])));
        let forward = tcp(Reach::Forward("10.99.0.2".parse().unwrap()), 80);
        first_build("TCP and a forwarded door", &mark(shut([door, forward])));
    });
}
