//! UDP: flows that exist go on, newcomers are refused once those have been learnt. QUIC by its Initial packets. What
//! cannot be held is said.

use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{Daemon, Ebb, Flows, FlowsSpec, Listen, Net, ServeSpec, Watched, server4, told};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn flows(net: &Net, port: u16, count: u32, datagram: &[u8]) -> Flows {
    Flows::start(net, &FlowsSpec { to: (server4(1), port).into(), count, datagram: datagram.to_vec() })
}

fn warnings(frames: &[Value]) -> String {
    let notes = frames.iter().filter(|frame| frame["type"] == "note" && frame["warning"] == true);
    notes.filter_map(|note| note["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// Waits for the gate of UDP doors, which is shut after the others.
fn learnt(drain: &mut Watched) {
    drain.until("learning to end", LIMIT, |frame| {
        frame["name"] == "GateShut" && frame["text"].as_str().is_some_and(|text| text.contains("UDP"))
    });
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
    drain.until("learning", LIMIT, |frame| frame["type"] == "progress");
    assert_eq!((two_way.speak().answered, one_way.speak().silent), (30, 10));
    learnt(&mut drain);
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
