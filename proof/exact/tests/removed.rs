//! What somebody removes under a resident agent: its socket, its store. Nothing that was acknowledged is lost by that, and
//! no gate opens.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ebb_exact::{Daemon, Ebb, Listen, Met, Net, ServeSpec, Watched, meet, server4};

const LIMIT: Duration = Duration::from_secs(30);

fn at(port: u16) -> SocketAddr {
    (server4(1), port).into()
}

fn agent(ebb: &Ebb) -> Watched {
    let agent = ebb.watch(&["agent"]);
    serves(ebb);
    agent
}

fn serves(ebb: &Ebb) {
    let began = Instant::now();
    while UnixStream::connect(ebb.socket()).is_err() {
        assert!(began.elapsed() < LIMIT, "no agent");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn holders(ebb: &Ebb) -> Vec<String> {
    let answer = ebb.done(&["holds"]);
    answer.all("hold").map(|hold| format!("{} {}", hold["service"], hold["requester"]).replace('"', "")).collect()
}

/// The gate is taken away by somebody, and the agent puts it back from what it knows.
fn is_kept(net: &Net, ports: &[u16]) {
    net.nft(&net.server, "delete table inet ebb");
    let began = Instant::now();
    for port in ports {
        while meet(&net.client, at(*port)) != Met::Refused {
            assert!(began.elapsed() < LIMIT, "{port} stays open");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_socket_that_somebody_removes_is_made_anew() {
    let Some(net) = Net::new() else { return };
    let _alpha = Daemon::named(&net, "alpha", &ServeSpec::at([Listen::tcp(at(7000))]));
    let ebb = Ebb::on(&net);
    let mut agent = agent(&ebb);
    ebb.done(&["hold", "alpha"]);
    let mut viewer = ebb.watch(&["events", "--follow", "--last", "0"]);
    fs::remove_file(ebb.socket()).expect("the socket");
    serves(&ebb);
    assert!(agent.is_running());
    ebb.done(&["release", "alpha"]);
    viewer.event("HoldReleased");
    let second = ebb.run(&["agent"]);
    assert!(second.code == Some(1) && second.stderr.contains("another agent is resident"), "{second:?}");
}

#[test]
fn a_store_that_somebody_moves_away_is_made_anew_from_its_copy() {
    let Some(net) = Net::new() else { return };
    let _alpha = Daemon::named(&net, "alpha", &ServeSpec::at([Listen::tcp(at(7000))]));
    let _beta = Daemon::named(&net, "beta", &ServeSpec::at([Listen::tcp(at(7001))]));
    let ebb = Ebb::on(&net);
    let mut first = agent(&ebb);
    ebb.done(&["hold", "alpha"]);
    let store = ebb.state_dir().join("ebb.db");
    fs::rename(&store, store.with_extension("away")).expect("the store");
    assert_eq!(holders(&ebb), ["alpha operator"]);
    ebb.done(&["hold", "beta", "--as", "deploy"]);
    assert!(store.exists());
    is_kept(&net, &[7000, 7001]);
    first.kill();
    let _second = agent(&ebb);
    assert_eq!(holders(&ebb), ["alpha operator", "beta deploy"]);
    is_kept(&net, &[7000, 7001]);

    // With its copy too: what is held is what the agent knows, and nothing else is acknowledged.
    fs::remove_file(&store).and_then(|()| fs::remove_file(ebb.state_dir().join("held.json"))).expect("store and copy");
    let refused = ebb.run(&["hold", "alpha", "--as", "deploy"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("ebb.db was moved or removed"), "{refused:?}");
    assert_eq!(holders(&ebb), ["alpha operator", "beta deploy"]);
    is_kept(&net, &[7000, 7001]);
}
