//! Closed means closed: not one connection whose SYN was sent after the gate's acknowledgement is accepted, of a
//! million; and not one established connection, of 100,000, is harmed by gate, census and resume.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ebb_exact::{
    Crowd, CrowdSpec, Daemon, Ebb, KnockSpec, Knocks, Listen, Net, ServeSpec, heavy, server4, server6, told,
};

const PORT: u16 = 7000;
const LIMIT: Duration = Duration::from_secs(60);
const ATTEMPTS: u64 = 1_000_000;
const ESTABLISHED: u32 = 100_000;

/// All addresses of the server.
fn everywhere() -> Vec<SocketAddr> {
    (1..=8).map(|number| (server4(number), PORT).into()).chain([(server6(1), PORT).into()]).collect()
}

#[test]
fn of_a_million_attempts_after_the_gate_not_one_is_accepted() {
    let Some(net) = Net::new() else { return };
    let _turn = heavy();
    let any = "[::]:7000".parse().unwrap();
    let mut server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(any)]));
    let ebb = Ebb::on(&net);
    // One who stays, so that the drain is watched all the time.
    let mut stays = Crowd::start(&net, &[CrowdSpec::echoes([everywhere()[0]], 1)]);
    stays.all_connected(LIMIT);
    let mut knocks = Knocks::start(&net, 3, &KnockSpec { to: everywhere(), threads: 2, stay: false });
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let open = knocks.count();
    let rate = open.served as f64 / began.elapsed().as_secs_f64();

    let mut drain = ebb.watch(&["drain", "exact-part"]);
    let (seen_us, event) = drain.event("GateShut");
    // The event was made after the acknowledgement; its time is cut to milliseconds.
    let after_us = event_us(&event) + 1000;
    let shut_since = Instant::now();
    while knocks.count().refused < ATTEMPTS {
        std::thread::sleep(Duration::from_millis(100));
        assert!(shut_since.elapsed() < LIMIT * 2, "{:?}", knocks.count());
    }
    let attempts_rate = ATTEMPTS as f64 / shut_since.elapsed().as_secs_f64();
    let knocked = knocks.stop();
    let tally = stays.echo(LIMIT);
    assert_eq!((tally.echoes, tally.lost), (1, 0), "{tally:?}");
    let served = server.served();
    stays.end(1);
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");

    let late = knocked.lately_in_us.iter().filter(|began| **began >= after_us).count();
    let within_ms = (knocked.last_in_us as i64 - after_us as i64) as f64 / 1000.0;
    told(&format!(
        "{rate:.0} connects/s before; shut; {} attempts refused at {attempts_rate:.0}/s; let in after: {late}; the last \
         SYN let in began {within_ms:.3} ms before or after the acknowledgement's millisecond, the event was read {} us \
         after that",
        knocked.refused,
        seen_us.saturating_sub(after_us),
    ));
    assert_eq!(late, 0, "let in after the gate's acknowledgement: {knocked:?}");
    assert!(knocked.last_in_us < after_us);
    // The clocks agree, and the load went on until the gate: some were let in within its last second.
    assert!(knocked.last_in_us + 1_000_000 > after_us, "{} and {after_us}", knocked.last_in_us);
    assert_eq!((knocked.broken, knocked.other), (0, 0), "{:?}", knocked.why);
    // Each accepted connection is one that a client knows of: those before the gate, and the one who stays.
    assert_eq!(served.accepted, knocked.served + 1);
    assert_eq!((answer.code, &report["outcome"]), (Some(0), &"stopped".into()), "{report:#}");
    assert_eq!(report["leaks"].as_array().map(Vec::len), Some(0));
    assert_eq!(report["refused"].as_u64(), Some(knocked.refused), "ebb counts each refusal, and not its own probes");
}

/// The time of an event in microseconds.
fn event_us(event: &serde_json::Value) -> u64 {
    let text = event["at"].as_str().unwrap_or_default();
    // 2026-11-21T08:00:00.123Z: only the time within the day is compared, with the same day of now.
    let clock = text.split('T').nth(1).map(|clock| clock.trim_end_matches('Z')).unwrap_or_default();
    let parts: Vec<f64> = clock.split(':').filter_map(|part| part.parse().ok()).collect();
    let [hours, minutes, seconds] = parts[..] else { panic!("no time in {event}") };
    let day_us = 86_400_000_000;
    let of_day = ((hours * 3600.0 + minutes * 60.0 + seconds) * 1e6).round() as u64;
    let now = ebb_exact::now_us();
    let at = now - now % day_us + of_day;
    // Just after midnight the event may be of yesterday.
    if at > now + day_us / 2 { at - day_us } else { at }
}

#[test]
fn of_100_000_established_connections_not_one_is_harmed() {
    let Some(net) = Net::new() else { return };
    let _turn = heavy();
    let began = Instant::now();
    let any = "[::]:7000".parse().unwrap();
    // A process may have 20,000 descriptors.
    let server = Daemon::start(&net, &ServeSpec { workers: 6, ..ServeSpec::at([Listen::tcp(any)]) });
    let some = CrowdSpec { at_once: 256, ..CrowdSpec::echoes(everywhere(), ESTABLISHED / 8) };
    let mut crowd = Crowd::start(&net, &vec![some; 8]);
    let all = u64::from(ESTABLISHED);
    let tally = crowd.all_connected(LIMIT);
    assert_eq!(tally.connected, all, "{tally:?}");
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.echoes, tally.lost), (all, 0), "{tally:?}");
    let connected = began.elapsed();

    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop", "--deadline", "4s"]);
    drain.event("GateProven");
    let (_, progress) = drain.until("census", LIMIT, |frame| frame["type"] == "progress" && frame["left"].is_u64());
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.echoes, tally.lost), (2 * all, 0), "while the gate is shut: {tally:?}");
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["outcome"]), (Some(3), &"deadline_reached".into()), "{report:#}");
    assert_eq!((report["at_start"].as_u64(), report["left"].as_u64()), (Some(all), Some(all)), "{report:#}");
    assert_eq!(progress["at_start"].as_u64(), Some(all));
    let sessions = ebb.done(&["sessions", "exact-part", "--limit", "3"]);
    assert_eq!(sessions.one("listed")["total"].as_u64(), Some(all));
    ebb.done(&["resume", "exact-part"]);
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.echoes, tally.lost, tally.living), (3 * all, 0, all), "after resume: {tally:?}");
    // The clients would have noticed: one is destroyed.
    let sessions = ebb.done(&["sessions", "exact-part", "--limit", "1"]);
    let id = sessions.one("session")["id"].as_str().unwrap_or_default().to_owned();
    ebb.done(&["end", "exact-part", "--session", &id, "--cut", "--yes"]);
    let noticed = crowd.echo(LIMIT);
    assert_eq!((noticed.echoes, noticed.lost, noticed.living), (4 * all - 1, 1, all - 1), "{noticed:?}");
    told(&format!(
        "{all} connected and echoed in {connected:.1?}, all done in {:.1?}, harmed: {}",
        began.elapsed(),
        tally.lost
    ));
    drop(server);
}
