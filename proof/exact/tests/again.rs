//! The same drain again, twice at once, and with hardly any time: what counts is what was asked last.

use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Net, ServeSpec, server4};

const LIMIT: Duration = Duration::from_secs(30);
const CLIENTS: u32 = 5;

fn at() -> SocketAddr {
    (server4(1), 7000).into()
}

fn scene() -> Option<(Net, Daemon, Crowd, Ebb)> {
    let net = Net::new()?;
    let server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at())]));
    let mut crowd = Crowd::start(&net, &[CrowdSpec::echoes([at()], CLIENTS)]);
    crowd.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    Some((net, server, crowd, ebb))
}

#[test]
fn a_deadline_counts_from_when_it_was_asked_for() {
    let Some((_net, _server, mut crowd, ebb)) = scene() else { return };
    let first = ebb.run(&["drain", "exact-part", "--no-stop", "--deadline", "1s"]);
    assert_eq!(first.code, Some(3), "{first:#?}");
    std::thread::sleep(Duration::from_secs(2));
    // Longer than its deadline since the first began.
    let again = ebb.watch(&["drain", "exact-part", "--no-stop", "--deadline", "3s", "--then", "cut"]);
    std::thread::sleep(Duration::from_millis(1500));
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.lost, tally.living), (0, u64::from(CLIENTS)), "cut too early: {tally:?}");
    let answer = again.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["cut"]), (Some(0), &CLIENTS.into()), "{answer:#?}");
}

#[test]
fn no_time_at_all_is_a_deadline_too() {
    let Some((_net, _server, mut crowd, ebb)) = scene() else { return };
    let answer = ebb.run(&["drain", "exact-part", "--deadline", "0s"]);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["left"]), (Some(3), &CLIENTS.into()), "{answer:#?}");
    assert_eq!(crowd.echo(LIMIT).living, u64::from(CLIENTS));
    let answer = ebb.run(&["drain", "exact-part", "--no-stop", "--deadline", "0s", "--then", "cut"]);
    assert_eq!((answer.code, &answer.one("drained")["cut"]), (Some(0), &CLIENTS.into()), "{answer:#?}");
}

#[test]
fn of_two_at_the_same_instant_one_drains_and_the_other_says_so() {
    let Some((_net, mut server, mut crowd, ebb)) = scene() else { return };
    let both: Vec<_> = (0..4).map(|_| ebb.watch(&["drain", "exact-part"])).collect();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(crowd.echo(LIMIT).living, u64::from(CLIENTS));
    crowd.end(CLIENTS);
    let answers: Vec<_> = both.into_iter().map(|one| one.wait(LIMIT)).collect();
    let done = answers.iter().filter(|answer| answer.code == Some(0)).count();
    assert_eq!(done, 1, "{answers:#?}");
    let stopped = answers.iter().filter(|answer| answer.all("drained").any(|report| report["outcome"] == "stopped"));
    assert_eq!(stopped.count(), 1, "{answers:#?}");
    assert!(!server.is_running());
    assert_eq!(ebb.done(&["holds"]).all("hold").count(), 1, "the hold of the one that drained stands");
}
