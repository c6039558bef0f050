//! UDP: flows that exist go on, newcomers are refused once those have been learnt. QUIC by its Initial packets. What
//! cannot be held is said.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ebb_exact::{Daemon, Ebb, Flows, FlowsSpec, Listen, Net, ServeSpec, server4, told};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn flows(net: &Net, port: u16, count: u32, datagram: &[u8]) -> Flows {
    Flows::start(net, &FlowsSpec { to: (server4(1), port).into(), count, datagram: datagram.to_vec() })
}

fn warnings(frames: &[Value]) -> String {
    let notes = frames.iter().filter(|frame| frame["type"] == "note" && frame["warning"] == true);
    notes.filter_map(|note| note["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// Waits until the kernel has ended the learning, and half a second more; `ebb status` must tell the truth meanwhile.
fn learnt(ebb: &Ebb) {
    let began = Instant::now();
    loop {
        let status = ebb.status("exact-part");
        if status["gate"] == "shut" {
            assert_eq!(status["learning_seconds"], Value::Null, "{status:#}");
            return;
        }
        assert_eq!(status["gate"], "learning", "{status:#}");
        assert!(status["learning_seconds"].as_f64().is_some_and(|left| left >= 0.0), "{status:#}");
        assert!(status["service"]["doors"][0]["learning_seconds"].is_number(), "{status:#}");
        assert!(began.elapsed() < LIMIT, "it learns for ever: {status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Nobody new comes in, by any of several tries; who was there before goes on.
fn shut_for_all_but(net: &Net, server: &mut Daemon, old: &mut Flows, count: u64) {
    let heard = server.served().heard;
    let newcomers = flows(net, 7600, 20, b"new here").speak();
    assert_eq!((newcomers.answered, server.served().heard), (0, heard), "a newcomer came through: {newcomers:?}");
    let spoke = old.speak();
    assert_eq!(spoke.answered, count, "a flow was cut: {spoke:?}");
}

fn server(net: &Net) -> Daemon {
    let at: SocketAddr = "0.0.0.0:7600".parse().expect("an address");
    Daemon::start(net, &ServeSpec::at([Listen::udp(at)]))
}

#[test]
fn flows_that_exist_go_on_and_newcomers_are_refused() {
    let Some(net) = Net::new() else { return };
    let at: SocketAddr = "0.0.0.0:7600".parse().expect("an address");
    let mut server = Daemon::start(&net, &ServeSpec::at([Listen::udp(at)]));
    let (mut two_way, mut one_way) = (flows(&net, 7600, 30, b"hello"), flows(&net, 7600, 10, b"Silent"));
    assert_eq!((two_way.speak().answered, one_way.speak().silent), (30, 10));
    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop", "--udp-learn", "3s", "--deadline", "15s"]);
    drain.event("HoldPlaced");
    drain.event("DrainBegan");
    // While it learns, all speak as always.
    let (_, shut) = drain.event("GateShut");
    let text = shut["text"].as_str().unwrap_or_default();
    assert!(text.contains("learns the UDP flows at udp 0.0.0.0:7600 for 3.0 s"), "{text}");
    assert!(!text.contains("refuses new connections"), "{text}");
    assert_eq!((two_way.speak().answered, one_way.speak().silent), (30, 10));
    learnt(&ebb);
    let mut new = flows(&net, 7600, 20, b"new here");
    let mut new_silent = flows(&net, 7600, 10, b"Silent too");
    let heard = server.served().heard;
    let newcomers = (new.speak(), new_silent.speak());
    assert_eq!((newcomers.0.answered, server.served().heard), (0, heard), "a newcomer came through: {newcomers:?}");
    // Each datagram renews a flow's place.
    for _ in 0..3 {
        assert_eq!((two_way.speak().answered, one_way.speak().silent), (30, 10));
    }
    assert_eq!(server.served().heard, heard + 3 * 40);
    told(&format!("30 two-way and 10 one-way flows go on; newcomers: {newcomers:?}"));
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!(answer.code, Some(3), "flows are sessions, and they are still there: {report:#}");
    assert_eq!(report["left"], 40, "{report:#}");
    assert!(warnings(&answer.frames).contains("UDP"), "{:?}", warnings(&answer.frames));
    ebb.done(&["resume", "exact-part"]);
    assert_eq!((new.speak().answered, two_way.speak().answered), (20, 30));
}

#[test]
fn a_hold_learns_and_who_asks_again_opens_nothing() {
    let Some(net) = Net::new() else { return };
    let mut server = server(&net);
    let mut old = flows(&net, 7600, 30, b"hello");
    assert_eq!(old.speak().answered, 30);
    let ebb = Ebb::on(&net);
    let held = ebb.done(&["hold", "exact-part", "--udp-learn", "2s"]);
    assert!(held.one("held")["learning_seconds"].as_f64().is_some_and(|left| (0.1..=2.0).contains(&left)), "{held:#?}");
    assert_eq!(held.events(), ["HoldPlaced", "GateShut"]);
    let less = ebb.done(&["hold", "exact-part", "--as", "health", "--udp-learn", "0s"]);
    assert!(less.one("held")["learning_seconds"].is_number(), "it was cut short: {less:#?}");
    assert_eq!(old.speak().answered, 30);
    learnt(&ebb);
    shut_for_all_but(&net, &mut server, &mut old, 30);
    // Another requester, and the same once more: nothing opens, for no moment.
    let again = ebb.done(&["hold", "exact-part", "--as", "deploy", "--udp-learn", "20s"]);
    assert_eq!(again.one("held")["learning_seconds"], Value::Null);
    shut_for_all_but(&net, &mut server, &mut old, 30);
    // A drain goes on with the one before: its deadline counts from there.
    for (requester, deadline) in [("deploy", "2s"), ("operator", "5s")] {
        let whom = ["drain", "exact-part", "--no-stop", "--as", requester, "--deadline", deadline];
        let mut drain = ebb.watch(&[&whom[..], &["--udp-learn", "20s"]].concat());
        drain.until("progress", LIMIT, |frame| frame["type"] == "progress");
        shut_for_all_but(&net, &mut server, &mut old, 30);
        assert_eq!(ebb.status("exact-part")["gate"], "shut");
        let answer = drain.wait(LIMIT);
        assert_eq!((answer.code, answer.one("drained")["left"].as_u64()), (Some(3), Some(30)), "{answer:#?}");
    }
    shut_for_all_but(&net, &mut server, &mut old, 30);
}

#[test]
fn killed_while_it_learns_the_kernel_shuts_the_door() {
    let Some(net) = Net::new() else { return };
    let mut server = server(&net);
    let mut old = flows(&net, 7600, 30, b"hello");
    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop", "--udp-learn", "2s"]);
    drain.event("GateShut");
    assert_eq!(old.speak().answered, 30);
    drain.kill();
    // Nobody of ours runs but to ask.
    learnt(&ebb);
    shut_for_all_but(&net, &mut server, &mut old, 30);
    // It goes on where it was, and does not learn anew.
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop", "--udp-learn", "20s", "--deadline", "3s"]);
    drain.until("progress", LIMIT, |frame| frame["type"] == "progress");
    shut_for_all_but(&net, &mut server, &mut old, 30);
    let answer = drain.wait(LIMIT);
    assert_eq!((answer.code, answer.one("drained")["left"].as_u64()), (Some(3), Some(30)), "{answer:#?}");
    ebb.done(&["resume", "exact-part"]);
    assert_eq!(flows(&net, 7600, 20, b"new here").speak().answered, 20);
}

#[test]
fn after_a_flush_the_flows_go_on() {
    let Some(net) = Net::new() else { return };
    let mut server = server(&net);
    let (mut old, mut late) = (flows(&net, 7600, 30, b"hello"), flows(&net, 7600, 5, b"later"));
    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop", "--udp-learn", "6s", "--deadline", "12s"]);
    drain.event("GateShut");
    assert_eq!(old.speak().answered, 30);
    // Seen each second.
    let census = |frame: &Value| frame["type"] == "progress" && frame["left"] == 30;
    drain.until("a census", LIMIT, census);
    std::thread::sleep(Duration::from_millis(1200));
    net.nft(&net.server, "flush ruleset");
    drain.event("GateRestored");
    let status = ebb.status("exact-part");
    let left = status["learning_seconds"].as_f64().unwrap_or_default();
    assert!(status["gate"] == "learning" && left < 5.0, "it goes on, and does not begin anew: {status:#}");
    assert_eq!(late.speak().answered, 5, "it still learns");
    learnt(&ebb);
    assert_eq!(late.speak().answered, 5);
    shut_for_all_but(&net, &mut server, &mut old, 30);
    std::thread::sleep(Duration::from_millis(1200));
    net.nft(&net.server, "flush ruleset");
    drain.event("GateRestored");
    assert_eq!(ebb.status("exact-part")["gate"], "shut");
    shut_for_all_but(&net, &mut server, &mut old, 30);
    let answer = drain.wait(LIMIT);
    assert_eq!((answer.code, answer.one("drained")["left"].as_u64()), (Some(3), Some(35)), "{answer:#?}");
}

#[test]
fn newcomers_of_quic_are_refused_by_their_first_packet() {
    let Some(net) = Net::new() else { return };
    let any = |udp: bool| {
        let at = "0.0.0.0:443".parse().expect("an address");
        if udp { Listen::udp(at) } else { Listen::tcp(at) }
    };
    let mut server = Daemon::start(&net, &ServeSpec::at([any(false), any(true)]));
    // RFC 9000, 17.2.2: long header, fixed bit, type Initial, version 1. RFC 9369: version 2, whose Initial is type 1.
    let mut initial = flows(&net, 443, 10, &[&[0xc3, 0, 0, 0, 1, 8][..], &[7; 40]].concat());
    let mut initial2 = flows(&net, 443, 10, &[&[0xd3, 0x6b, 0x33, 0x43, 0xcf, 8][..], &[7; 40]].concat());
    // A connection that exists, on a path that is new: short header, and the long header of a handshake under way.
    let mut short = flows(&net, 443, 10, &[&[0x43][..], &[7; 40]].concat());
    let mut handshake = flows(&net, 443, 10, &[&[0xe3, 0, 0, 0, 1, 8][..], &[7; 40]].concat());
    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop", "--deadline", "10s"]);
    drain.event("GateShut");
    let heard = server.served().heard;
    assert_eq!((initial.speak().answered, initial2.speak().answered), (0, 0));
    assert_eq!(server.served().heard, heard);
    assert_eq!((short.speak().answered, handshake.speak().answered), (10, 10));
    let answer = drain.wait(LIMIT);
    assert_eq!(answer.code, Some(0), "{answer:#?}");
    ebb.done(&["resume", "exact-part"]);
    assert_eq!((initial.speak().answered, initial2.speak().answered), (10, 10));
}

#[test]
fn udp_alone_is_told_plainly() {
    let Some(net) = Net::new() else { return };
    for (port, word) in [(53, "DNS"), (5060, "SIP"), (7600, "learnt")] {
        let _server = Daemon::start(&net, &ServeSpec::at([Listen::udp((server4(1), port).into())]));
        let ebb = Ebb::on(&net);
        let plan = ebb.done(&["drain", "exact-part", "--dry-run"]);
        let text = plan.one("plan")["warnings"].to_string();
        assert!(text.contains(word), "{port}: {text}");
        assert_eq!(ebb.done(&["holds"]).all("hold").count(), 0);
    }
}

#[test]
fn unix_sockets_alone_are_refused_plainly() {
    let Some(net) = Net::new() else { return };
    let path = std::env::temp_dir().join(format!("ebb-exact-{}.sock", std::process::id()));
    let spec = ServeSpec { unix: vec![path.clone()], ..ServeSpec::at([]) };
    let server = Daemon::named(&net, "unixonly", &spec);
    let ebb = Ebb::on(&net);
    let answer = ebb.run(&["drain", "unixonly"]);
    drop(server);
    let _ = std::fs::remove_file(&path);
    told(&format!("code {:?}: {:?} {}", answer.code, answer.all("refused").collect::<Vec<_>>(), answer.stderr));
    let why = answer.one("refused")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("unix") && why.contains(&*path.to_string_lossy()), "{why}");
    assert_ne!(answer.code, Some(0));
    assert_eq!(ebb.done(&["holds"]).all("hold").count(), 0);
}
