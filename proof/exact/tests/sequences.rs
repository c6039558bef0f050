//! Gate, count, stop: in each state that a connection can be in when the gate shuts, nobody is lost. Each test also
//! stops the server right after the gate, and sees that clients are lost then.

use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Net, ServeSpec, Tally, server4, told};

const PORT: u16 = 7000;
const LIMIT: Duration = Duration::from_secs(60);

fn at() -> SocketAddr {
    (server4(1), PORT).into()
}

/// Who stops the server after the gate was shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// ebb, when it says *drained*.
    Drained,
    /// We, at once: the test must see clients lost.
    AtOnce,
}

struct Scene {
    net: Net,
    server: Daemon,
    crowd: Crowd,
}

/// What goes on after the gate was shut: `after` frees what was held back.
fn drained(mut scene: Scene, stop: Stop, after: impl FnOnce(&mut Scene)) -> Tally {
    let ebb = Ebb::on(&scene.net);
    if stop == Stop::AtOnce {
        ebb.done(&["hold", "exact-part"]);
        scene.server.terminate();
        after(&mut scene);
    } else {
        let mut watched = ebb.watch(&["drain", "exact-part"]);
        watched.event("GateShut");
        after(&mut scene);
        let answer = watched.wait(LIMIT);
        let report = answer.one("drained");
        assert_eq!((answer.code, report["outcome"].as_str()), (Some(0), Some("stopped")), "{answer:#?}");
        assert!(!scene.server.is_running());
        assert_eq!(report["leaks"].as_array().map(Vec::len), Some(0), "{report:#}");
    }
    scene.crowd.until("end of all clients", LIMIT, |tally| tally.connecting == 0 && tally.living == 0)
}

/// Runs a scene as ebb drains, and once more with a stop at once.
fn prove(least: u64, scene: impl Fn() -> Option<Scene>, after: impl Fn(&mut Scene)) {
    let Some(first) = scene() else { return };
    let tally = drained(first, Stop::Drained, &after);
    told(&format!("ebb: {tally:?}"));
    assert_eq!((tally.lost, tally.failed), (0, 0), "{tally:?}");
    assert_eq!(tally.served, tally.connected, "{tally:?}");
    assert!(tally.served >= least, "too few to prove anything: {tally:?}");
    let Some(control) = scene() else { return };
    let tally = drained(control, Stop::AtOnce, &after);
    told(&format!("stopped at once: {tally:?}"));
    assert!(tally.lost + tally.failed > 0, "a stop at once must lose clients, or this proves nothing: {tally:?}");
}

#[test]
fn handshakes_whose_last_packet_is_late_are_served() {
    let scene = || {
        let net = Net::new()?;
        let server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
        net.drop_acks(at());
        let mut crowd = Crowd::start(&net, &[CrowdSpec { speak: false, ..CrowdSpec::answers(at(), 300) }]);
        crowd.all_connected(LIMIT);
        Some(Scene { net, server, crowd })
    };
    prove(300, scene, |scene| {
        // Longer than the settle time: only that they are counted keeps the server alive.
        std::thread::sleep(Duration::from_secs(3));
        scene.net.pass_acks();
        scene.crowd.speak();
    });
}

#[test]
fn a_full_queue_with_a_slow_acceptor_is_emptied() {
    let scene = || {
        let net = Net::new()?;
        net.sysctl(&net.server, "net/ipv4/tcp_syncookies", "0");
        let any = ([0, 0, 0, 0], PORT).into();
        let slow = Listen { backlog: 256, ..Listen::tcp(any) };
        let server = Daemon::start(&net, &ServeSpec { accepts: false, pause_us: 2000, ..ServeSpec::at([slow]) });
        net.drop_acks(at());
        let late = CrowdSpec::answers(at(), 200);
        let many = CrowdSpec::answers((server4(2), PORT).into(), 2000);
        let mut crowd = Crowd::start(&net, &[late]);
        crowd.all_connected(LIMIT);
        // These fill the queue, so that the last packet of those above is dropped for want of room when it comes.
        crowd.add(&net, &many);
        crowd.until("full queue", LIMIT, |tally| tally.connected >= 200 + 257);
        Some(Scene { net, server, crowd })
    };
    prove(200 + 257, scene, |scene| {
        scene.net.pass_acks();
        std::thread::sleep(Duration::from_secs(3));
        if scene.server.is_running() {
            scene.server.accept();
        }
    });
}

#[test]
fn deferred_connections_are_served_when_their_clients_speak() {
    let scene = || {
        let net = Net::new()?;
        let deferred = Listen { defer: Some(30), ..Listen::tcp(at()) };
        let server = Daemon::start(&net, &ServeSpec::at([deferred]));
        let mut crowd = Crowd::start(&net, &[CrowdSpec { speak: false, ..CrowdSpec::answers(at(), 300) }]);
        crowd.all_connected(LIMIT);
        Some(Scene { net, server, crowd })
    };
    prove(300, scene, |scene| {
        std::thread::sleep(Duration::from_secs(4));
        scene.crowd.speak();
    });
}

#[test]
fn requests_that_came_with_the_syn_are_answered() {
    let scene = || {
        let net = Net::new()?;
        for ns in [&net.server, &net.client] {
            net.sysctl(ns, "net/ipv4/tcp_fastopen", "3");
        }
        let fast = Listen { fastopen: Some(10_000), ..Listen::tcp(at()) };
        let mut server = Daemon::start(&net, &ServeSpec { accepts: false, ..ServeSpec::at([fast]) });
        // The first gets the cookie that the others need.
        let one = CrowdSpec { fastopen: true, ..CrowdSpec::answers(at(), 1) };
        Crowd::start(&net, &[one]).all_connected(LIMIT);
        let mut crowd = Crowd::start(&net, &[CrowdSpec { fastopen: true, ..CrowdSpec::answers(at(), 1000) }]);
        crowd.all_connected(LIMIT);
        let open = net.run(&net.server, &["cat", "/proc/net/netstat"]);
        assert!(counter(&open, "TCPFastOpenPassive") >= 1000, "no Fast Open here: {open}");
        assert_eq!(server.served().accepted, 0);
        Some(Scene { net, server, crowd })
    };
    prove(1000, scene, |scene| {
        std::thread::sleep(Duration::from_secs(3));
        if scene.server.is_running() {
            scene.server.accept();
        }
    });
}

#[test]
fn clients_behind_syn_cookies_are_waited_for() {
    let scene = || {
        let net = Net::new()?;
        net.sysctl(&net.server, "net/ipv4/tcp_syncookies", "2");
        let server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
        net.drop_acks(at());
        let mut crowd = Crowd::start(&net, &[CrowdSpec { speak: false, ..CrowdSpec::answers(at(), 300) }]);
        crowd.all_connected(LIMIT);
        Some(Scene { net, server, crowd })
    };
    // The kernel's list is empty all this time.
    prove(300, scene, |scene| {
        std::thread::sleep(Duration::from_secs(2));
        scene.net.pass_acks();
        scene.crowd.speak();
    });
}

#[test]
fn clients_behind_syn_cookies_whom_a_full_queue_turned_away_are_waited_for() {
    let scene = || {
        let net = Net::new()?;
        net.sysctl(&net.server, "net/ipv4/tcp_syncookies", "2");
        let short = Listen { backlog: 32, ..Listen::tcp(at()) };
        let server = Daemon::start(&net, &ServeSpec { accepts: false, ..ServeSpec::at([short]) });
        net.drop_acks(at());
        let mut crowd = Crowd::start(&net, &[CrowdSpec::answers(at(), 60)]);
        crowd.all_connected(LIMIT);
        Some(Scene { net, server, crowd })
    };
    // 33 fit into the queue. The others come back by themselves, later each time: after 0.2, 0.4, .. 6.4 s.
    prove(60, scene, |scene| {
        scene.net.pass_acks();
        std::thread::sleep(Duration::from_secs(7));
        if scene.server.is_running() {
            scene.server.accept();
        }
    });
}

#[test]
fn clients_who_asked_and_closed_before_they_were_accepted_are_answered() {
    let scene = || {
        let net = Net::new()?;
        let server = Daemon::start(&net, &ServeSpec { accepts: false, ..ServeSpec::at([Listen::tcp(at())]) });
        let mut crowd = Crowd::start(&net, &[CrowdSpec { half_close: true, ..CrowdSpec::answers(at(), 1000) }]);
        crowd.until("all requests", LIMIT, |tally| tally.waiting == 1000);
        Some(Scene { net, server, crowd })
    };
    prove(1000, scene, |scene| {
        std::thread::sleep(Duration::from_secs(3));
        if scene.server.is_running() {
            scene.server.accept();
        }
    });
}

/// A counter of `/proc/net/netstat`.
fn counter(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let column = names.split_whitespace().position(|word| word == name);
    column.and_then(|column| values.split_whitespace().nth(column)?.parse().ok()).unwrap_or(0)
}
