//! Two programs at one door: whose a client is the kernel does not tell, so neither is drained before it has gone, and
//! neither is cut for the other.

use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Net, ServeSpec, server4};

const LIMIT: Duration = Duration::from_secs(30);
const CLIENTS: u32 = 24;

fn at() -> SocketAddr {
    (server4(1), 7000).into()
}

struct Scene {
    net: Net,
    first: Daemon,
    second: Daemon,
    crowd: Crowd,
    ebb: Ebb,
}

/// `alpha` and `beta` both listen at one door, and both have clients.
fn scene() -> Option<Scene> {
    let net = Net::new()?;
    let spec = ServeSpec::at([Listen::tcp(at())]);
    let mut first = Daemon::named(&net, "alpha", &spec);
    let mut second = Daemon::named(&net, "beta", &spec);
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at()], CLIENTS)]);
    crowd.all_connected(LIMIT);
    crowd.echo(LIMIT);
    let accepted = [first.served().accepted, second.served().accepted];
    assert!(accepted.iter().all(|count| *count > 0), "the kernel spreads them: {accepted:?}");
    let ebb = Ebb::on(&net);
    Some(Scene { net, first, second, crowd, ebb })
}

#[test]
fn nobody_at_a_shared_door_is_dropped_by_the_stop_of_one() {
    let Some(mut scene) = scene() else { return };
    let mut drain = scene.ebb.watch(&["drain", "alpha"]);
    drain.until("all of them", LIMIT, |frame| frame["type"] == "progress" && frame["left"] == CLIENTS);
    std::thread::sleep(Duration::from_secs(3));
    let tally = scene.crowd.echo(LIMIT);
    assert_eq!((tally.lost, tally.living), (0, u64::from(CLIENTS)), "{tally:?}");
    scene.crowd.end(CLIENTS);
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["outcome"]), (Some(0), &"stopped".into()), "{answer:#?}");
    assert_eq!((&report["at_start"], &report["by_themselves"]), (&CLIENTS.into(), &CLIENTS.into()));
    assert!(!scene.first.is_running() && scene.second.is_running());
    drop(scene.net);
}

#[test]
fn a_cut_ends_only_what_the_service_holds_itself() {
    let Some(mut scene) = scene() else { return };
    let own = scene.first.served().accepted;
    let answer = scene.ebb.run(&["drain", "alpha", "--no-stop", "--deadline", "1s", "--then", "cut"]);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["outcome"]), (Some(3), &"deadline_reached".into()), "{answer:#?}");
    let tally = scene.crowd.echo(LIMIT);
    assert_eq!((tally.lost, tally.living), (own, u64::from(CLIENTS) - own), "{tally:?}");
    assert_eq!(report["cut"], own, "{report:#}");
}
