//! Somebody flushes all rules while a drain is watched: the gate is back within a second, and who slipped in is named.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{
    Crowd, CrowdSpec, Daemon, Ebb, KnockSpec, Knocks, Listen, Net, ServeSpec, heavy, now_us, server4, told,
};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_gate_is_back_within_a_second_and_leaks_are_named() {
    let Some(net) = Net::new() else { return };
    let _turn = heavy();
    let at: SocketAddr = (server4(1), 7000).into();
    let server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at)]));
    let mut stays = Crowd::start(&net, &[CrowdSpec::echoes([at], 10)]);
    stays.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "exact-part"]);
    drain.event("GateProven");
    drain.until("census", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] == 10);
    let mut knocks = Knocks::start(&net, 2, &KnockSpec { to: vec![at], threads: 2, stay: true });
    while knocks.count().refused < 10_000 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(knocks.count().served, 0);

    let flushed_us = now_us();
    net.nft(&net.server, "flush ruleset");
    drain.event("GateLost");
    drain.event("GateRestored");
    std::thread::sleep(Duration::from_millis(1500));
    let before = knocks.count();
    std::thread::sleep(Duration::from_millis(500));
    // Those who slipped in leave when this process ends, which is when `knocks` is dropped.
    let after = knocks.count();
    assert_eq!(after.served, before.served, "let in although the gate is back");
    assert!(after.refused > before.refused);
    drain.event("LeakSeen");
    let status = ebb.status("exact-part");
    assert_eq!(status["leaks"].as_u64(), Some(after.served), "{status:#}");

    drop(knocks);
    stays.end(10);
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    let open_ms = after.last_in_us.saturating_sub(flushed_us) as f64 / 1000.0;
    let leaks = report["leaks"].as_array().unwrap();
    told(&format!(
        "{} slipped in, the last began {open_ms:.1} ms after the flush began; {} leaks named, {} refused",
        after.served,
        leaks.len(),
        after.refused
    ));
    assert!(after.served > 0, "nobody slipped in, so nothing is proven");
    assert!(open_ms < 1000.0);
    assert_eq!((answer.code, &report["outcome"]), (Some(4), &"stopped".into()), "{report:#}");
    let peers: BTreeSet<&str> = leaks.iter().filter_map(|leak| leak["peer"].as_str()).collect();
    assert_eq!(peers.len() as u64, after.served, "each is named once");
    assert_eq!(report["at_start"], 10);
    let counted = ["by_themselves", "by_us", "cut"].map(|part| report[part].as_u64().unwrap_or_default());
    assert_eq!(counted.iter().sum::<u64>(), 10 + after.served, "{report:#}");
    drop(server);
}
