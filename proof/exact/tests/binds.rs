//! Every way to bind a door: all of it is shut, nothing else is, and exactly its own sessions are counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ebb_exact::{Answer, Crowd, CrowdSpec, Daemon, Ebb, Listen, Met, Net, ServeSpec, meet, server4, server6};
use ebb_kernel::netns::Ns;

const PORT: u16 = 7000;
const LIMIT: Duration = Duration::from_secs(30);
/// Clients of each kind.
const EACH: u32 = 5;

/// Where a client comes from, and where it goes.
type Way<'a> = (&'a Ns, SocketAddr);

fn at(ip: impl Into<IpAddr>) -> SocketAddr {
    (ip.into(), PORT).into()
}

fn mapped(ip: IpAddr) -> SocketAddr {
    let IpAddr::V4(v4) = ip else { panic!("{ip} is not IPv4") };
    at(v4.to_ipv6_mapped())
}

/// From elsewhere and from the server itself.
fn ways<'a>(net: &'a Net, remote: &[IpAddr], loopback: &[IpAddr]) -> Vec<Way<'a>> {
    let from_far = remote.iter().map(|ip| (&net.client, at(*ip)));
    let from_here = remote.iter().chain(loopback).map(|ip| (&net.server, at(*ip)));
    from_far.chain(from_here).collect()
}

fn connect(ways: &[Way]) -> Vec<Crowd> {
    let mut crowds: Vec<Crowd> =
        ways.iter().map(|(from, to)| Crowd::start_in(from, &[CrowdSpec::echoes([*to], EACH)])).collect();
    for crowd in &mut crowds {
        assert_eq!(crowd.all_connected(LIMIT).connected, u64::from(EACH));
    }
    unharmed(&mut crowds);
    crowds
}

fn unharmed(crowds: &mut [Crowd]) {
    for crowd in crowds {
        let tally = crowd.echo(LIMIT);
        assert_eq!((tally.lost, tally.living), (0, u64::from(EACH)), "{tally:?}");
    }
}

fn all_meet(ways: &[Way], met: Met) {
    for (from, to) in ways {
        assert_eq!(meet(from, *to), met, "{to} from {}", from.inode());
    }
}

/// Shuts a service and counts it, without a wish to empty it.
fn shut(ebb: &Ebb, service: &str, expected: u64) -> Answer {
    let answer = ebb.run(&["drain", service, "--no-stop", "--deadline", "1s"]);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["outcome"]), (Some(3), &"deadline_reached".into()), "{answer:#?}");
    assert_eq!((&report["at_start"], &report["left"]), (&expected.into(), &expected.into()), "{report:#}");
    assert_eq!(report["leaks"].as_array().map(Vec::len), Some(0), "{report:#}");
    answer
}

/// One service with these sockets, and all ways to it.
fn one_service(listen: &[Listen], remote: &[IpAddr], loopback: &[IpAddr]) {
    let Some(net) = Net::new() else { return };
    let _server = Daemon::start(&net, &ServeSpec::at(listen.to_vec()));
    let ebb = Ebb::on(&net);
    let ways = ways(&net, remote, loopback);
    let mut crowds = connect(&ways);
    shut(&ebb, "exact-part", u64::from(EACH) * ways.len() as u64);
    all_meet(&ways, Met::Refused);
    unharmed(&mut crowds);
    ebb.done(&["resume", "exact-part"]);
    all_meet(&ways, Met::Connected);
    unharmed(&mut crowds);
}

const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const HERE4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HERE6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn any_ipv4() {
    one_service(&[Listen::tcp(at(ANY4))], &[server4(1), server4(2)], &[HERE4]);
}

#[test]
fn any_ipv6_alone() {
    one_service(&[Listen { v6only: true, ..Listen::tcp(at(ANY6)) }], &[server6(1), server6(2)], &[HERE6]);
}

#[test]
fn dual_stack() {
    one_service(&[Listen::tcp(at(ANY6))], &[server4(1), server6(1)], &[HERE4, HERE6]);
}

#[test]
fn an_ipv4_address_in_an_ipv6_socket() {
    one_service(&[Listen::tcp(mapped(server4(1)))], &[server4(1)], &[]);
}

#[test]
fn one_ipv4_address() {
    one_service(&[Listen::tcp(at(server4(1)))], &[server4(1)], &[]);
}

#[test]
fn one_ipv6_address() {
    one_service(&[Listen::tcp(at(server6(1)))], &[server6(1)], &[]);
}

#[test]
fn loopback_alone() {
    one_service(&[Listen::tcp(at(HERE4)), Listen::tcp(at(HERE6))], &[], &[HERE4, HERE6]);
}

#[test]
fn several_sockets_on_one_port() {
    one_service(&vec![Listen::tcp(at(ANY4)); 4], &[server4(1)], &[HERE4]);
}

#[test]
fn two_processes_on_one_port() {
    let Some(net) = Net::new() else { return };
    let _server = Daemon::start(&net, &ServeSpec { workers: 3, ..ServeSpec::at([Listen::tcp(at(ANY4))]) });
    let ebb = Ebb::on(&net);
    let ways = ways(&net, &[server4(1)], &[HERE4]);
    let mut crowds = connect(&ways);
    shut(&ebb, "exact-part", u64::from(EACH) * ways.len() as u64);
    all_meet(&ways, Met::Refused);
    ebb.done(&["resume", "exact-part"]);
    unharmed(&mut crowds);
}

/// Two services on one port, `alpha` and `beta`: one is drained, the other stays open and is not counted.
fn neighbours(alpha: SocketAddr, beta: SocketAddr, alphas: &[IpAddr], betas: &[IpAddr]) {
    let Some(net) = Net::new() else { return };
    let _alpha = Daemon::named(&net, "alpha", &ServeSpec::at([Listen::tcp(alpha)]));
    let _beta = Daemon::named(&net, "beta", &ServeSpec::at([Listen::tcp(beta)]));
    let ebb = Ebb::on(&net);
    let (to_alpha, to_beta) = (ways(&net, alphas, &[]), ways(&net, betas, &[]));
    let (mut at_alpha, mut at_beta) = (connect(&to_alpha), connect(&to_beta));
    for (service, own, shut_ways, open_ways) in
        [("alpha", &to_alpha, &to_alpha, &to_beta), ("beta", &to_beta, &to_beta, &to_alpha)]
    {
        shut(&ebb, service, u64::from(EACH) * own.len() as u64);
        all_meet(shut_ways, Met::Refused);
        all_meet(open_ways, Met::Connected);
        ebb.done(&["resume", service]);
        all_meet(shut_ways, Met::Connected);
    }
    // Both at once, then one of them opens.
    ebb.done(&["hold", "alpha", "beta"]);
    all_meet(&to_alpha, Met::Refused);
    all_meet(&to_beta, Met::Refused);
    ebb.done(&["release", "alpha"]);
    all_meet(&to_alpha, Met::Connected);
    all_meet(&to_beta, Met::Refused);
    unharmed(&mut at_alpha);
    unharmed(&mut at_beta);
}

#[test]
fn neighbours_on_addresses_of_their_own() {
    neighbours(at(server4(1)), at(server4(2)), &[server4(1)], &[server4(2)]);
}

#[test]
fn a_neighbour_on_an_address_of_its_own_beside_any_address() {
    neighbours(at(ANY4), at(server4(2)), &[server4(1), server4(3)], &[server4(2)]);
}

#[test]
fn a_neighbour_on_an_ipv4_address_beside_dual_stack() {
    neighbours(at(ANY6), at(server4(2)), &[server4(1), server6(1)], &[server4(2)]);
}

#[test]
fn two_services_on_one_door_are_both_shut_and_it_is_said() {
    let Some(net) = Net::new() else { return };
    let door = Listen::tcp(at(ANY4));
    let _alpha = Daemon::named(&net, "alpha", &ServeSpec::at([door.clone()]));
    let _beta = Daemon::named(&net, "beta", &ServeSpec::at([door]));
    let ebb = Ebb::on(&net);
    let ways = ways(&net, &[server4(1)], &[HERE4]);
    let mut crowds = connect(&ways);
    let answer = ebb.run(&["drain", "alpha", "--no-stop", "--deadline", "1s"]);
    let warned = answer
        .all("note")
        .any(|note| note["warning"] == true && note["text"].as_str().is_some_and(|text| text.contains("beta")));
    assert!(warned, "{answer:#?}");
    all_meet(&ways, Met::Refused);
    unharmed(&mut crowds);
    ebb.done(&["resume", "alpha"]);
    all_meet(&ways, Met::Connected);
}

#[test]
fn a_door_that_opens_while_it_drains_is_shut_too() {
    let Some(net) = Net::new() else { return };
    let mut server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at(ANY4))]));
    let ebb = Ebb::on(&net);
    let mut crowds = connect(&ways(&net, &[server4(1)], &[]));
    let mut drain = ebb.watch(&["drain", "exact-part"]);
    drain.event("GateProven");
    let second: SocketAddr = (server4(1), 7001).into();
    server.open(&Listen::tcp(second));
    drain.event("DoorAdded");
    assert_eq!(meet(&net.client, second), Met::Refused);
    unharmed(&mut crowds);
    drop(crowds);
    let answer = drain.wait(LIMIT);
    assert_eq!(answer.code, Some(0), "{answer:#?}");
}

#[test]
fn those_excepted_come_in_and_are_no_leaks() {
    let Some(net) = Net::new() else { return };
    let _server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at(ANY6))]));
    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop", "--except", "10.77.1.0/24"]);
    drain.event("GateProven");
    // Who comes before the first census cannot be told from those who were there.
    drain.until("census", LIMIT, |frame| frame["type"] == "progress" && frame["doing"] == "settling");
    assert_eq!(meet(&net.client, at(server6(1))), Met::Refused);
    assert_eq!(meet(&net.server, at(HERE4)), Met::Refused);
    let mut testers = connect(&[(&net.client, at(server4(1)))]);
    let answer = drain.wait(LIMIT);
    assert_eq!((answer.code, &answer.one("drained")["outcome"]), (Some(0), &"drained".into()), "{answer:#?}");
    unharmed(&mut testers);
}
