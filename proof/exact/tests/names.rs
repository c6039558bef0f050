//! Who is who without units: a name is one service's, whatever else of its executable runs, and nobody else is shut,
//! counted or stopped under it.

use std::net::SocketAddr;
use std::time::Duration;

use ebb_exact::{Answer, Crowd, CrowdSpec, Daemon, Ebb, Flows, FlowsSpec, Listen, Met, Net, ServeSpec, meet, server4};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn at(number: u8, port: u16) -> SocketAddr {
    (server4(number), port).into()
}

/// A server of its own at one address.
fn server(net: &Net, name: &str, at: SocketAddr) -> Daemon {
    Daemon::named(net, name, &ServeSpec::at([Listen::tcp(at)]))
}

fn crowd(net: &Net, to: SocketAddr) -> Crowd {
    let mut crowd = Crowd::start(net, &[CrowdSpec::echoes([to], 5)]);
    assert_eq!(crowd.all_connected(LIMIT).connected, 5);
    unharmed(&mut crowd);
    crowd
}

fn unharmed(crowd: &mut Crowd) {
    let tally = crowd.echo(LIMIT);
    assert_eq!((tally.lost, tally.living), (0, 5), "{tally:?}");
}

/// Name, state and sessions of each service.
fn services(ebb: &Ebb) -> Vec<String> {
    let answer = ebb.done(&["services"]);
    let tell = |one: &Value| format!("{} {} {}", one["name"].as_str().unwrap_or(""), one["state"], one["sessions"]);
    answer.all("service").map(|one| tell(one).replace('"', "")).collect()
}

fn remarks(ebb: &Ebb, name: &str) -> String {
    let answer = ebb.done(&["services"]);
    let service = answer.all("service").find(|one| one["name"] == name).cloned();
    service.unwrap_or_else(|| panic!("no {name}: {answer:#?}"))["remarks"].to_string()
}

fn why(answer: &Answer) -> String {
    answer.one("refused")["why"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_stranger_of_the_same_executable_is_left_alone_while_one_drains_and_after() {
    let Some(net) = Net::new() else { return };
    let (own, others) = (at(1, 7000), at(1, 9000));
    let mut drained = server(&net, "alpha", own);
    let ebb = Ebb::on(&net);
    let mut clients = crowd(&net, own);
    let mut drain = ebb.watch(&["drain", "alpha"]);
    drain.event("GateProven");
    // Now that it is held by its short name another one comes, and it closes its listening socket.
    let mut stranger = server(&net, "alpha", others);
    let mut strangers = crowd(&net, others);
    drained.close(own);
    // Long enough for the drain to look around.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(meet(&net.client, others), Met::Connected);
    assert_eq!(services(&ebb), ["alpha draining 5", "alpha:9000 open 5"]);
    unharmed(&mut clients);
    drop(clients);
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!((answer.code, &report["outcome"]), (Some(0), &"stopped".into()), "{answer:#?}");
    assert_eq!((report["leaks"].as_array().map(Vec::len), report["at_start"].as_u64()), (Some(0), Some(5)));
    assert!(!answer.events().contains(&"DoorAdded"), "{:?}", answer.events());
    assert!(!drained.is_running() && stranger.is_running());
    // It is held and stopped; to drain it again stops nobody else.
    assert_eq!(services(&ebb), ["alpha stopped 0", "alpha:9000 open 5"]);
    let again = ebb.done(&["drain", "alpha"]);
    assert!(again.notes().iter().any(|note| note.contains("stopped already")), "{again:#?}");
    assert!(stranger.is_running());
    assert_eq!((meet(&net.client, own), meet(&net.client, others)), (Met::Refused, Met::Connected));
    unharmed(&mut strangers);
    // Started again at its door it is the held one, and comes back under its name.
    assert!(why(&ebb.run(&["resume", "alpha"])).contains("by hand"));
    let _again = server(&net, "alpha", own);
    assert_eq!(meet(&net.client, own), Met::Refused);
    ebb.done(&["resume", "alpha"]);
    assert_eq!((meet(&net.client, own), meet(&net.client, others)), (Met::Connected, Met::Connected));
    unharmed(&mut strangers);
}

#[test]
fn two_servers_on_one_port_at_addresses_of_their_own_are_two_services() {
    let Some(net) = Net::new() else { return };
    let (one, two) = (at(2, 7104), at(3, 7104));
    let (mut first, mut second) = (server(&net, "alpha", one), server(&net, "alpha", two));
    let ebb = Ebb::on(&net);
    let names = ["alpha:7104@10.77.0.2", "alpha:7104@10.77.0.3"];
    assert_eq!(services(&ebb), names.map(|name| format!("{name} open 0")));
    let mut clients = crowd(&net, two);
    let ambiguous = ebb.run(&["drain", "alpha:7104"]);
    assert_eq!((ambiguous.code, why(&ambiguous).contains("fits several")), (Some(10), true), "{ambiguous:#?}");
    let answer = ebb.done(&["drain", "alpha@10.77.0.2:7104"]);
    assert_eq!(
        (answer.one("drained")["at_start"].as_u64(), answer.one("drained")["service"].as_str()),
        (Some(0), Some(names[0]))
    );
    assert!(!first.is_running() && second.is_running());
    assert_eq!((meet(&net.client, one), meet(&net.client, two)), (Met::Refused, Met::Connected));
    unharmed(&mut clients);
    assert_eq!(services(&ebb), [format!("{} stopped 0", names[0]), format!("{} open 5", names[1])]);
    ebb.done(&["release", names[0]]);
    // What is alone has a short name, and answers to the others all the same.
    assert_eq!(services(&ebb), ["alpha open 5"]);
    for name in ["alpha:7104", names[1], "alpha@10.77.0.3:7104"] {
        assert_eq!(ebb.status(name)["service"]["name"], "alpha", "{name}");
    }
}

#[test]
fn udp_at_a_port_for_clients_is_told_and_held_when_the_configuration_says_so() {
    let Some(net) = Net::new() else { return };
    net.sysctl(&net.server, "net/ipv4/ip_local_port_range", "32768 60999");
    let any: SocketAddr = "0.0.0.0:50500".parse().expect("an address");
    let mut server = Daemon::named(&net, "alpha", &ServeSpec::at([Listen::tcp(at(1, 7000)), Listen::udp(any)]));
    let _only = Daemon::named(&net, "beta", &ServeSpec::at([Listen::udp(at(2, 50501))]));
    let ebb = Ebb::on(&net);
    let said = "udp 0.0.0.0:50500 is in the range of ports for clients: not held";
    assert!(remarks(&ebb, "alpha").contains(said), "{}", remarks(&ebb, "alpha"));
    assert_eq!(services(&ebb), ["alpha open 0"], "who has such a socket alone is not listed");
    let plan = ebb.done(&["drain", "alpha", "--dry-run"]);
    assert!(plan.one("plan")["warnings"].to_string().contains(said), "{plan:#?}");
    for words in [&["drain", "beta"][..], &["hold", "beta"], &["sessions", "beta:50501"]] {
        let answer = ebb.run(words);
        let (why, help) = (why(&answer), answer.one("refused")["help"].to_string());
        assert!(why.contains("udp 10.77.0.2:50501 is in the range of ports for clients"), "{words:?}: {why}");
        assert!(help.contains("udp = [50501]") && answer.code == Some(9), "{words:?}: {answer:#?}");
    }
    ebb.configure("[service.alpha]\nudp = [50500]\n");
    let mut flows = Flows::start(&net, &FlowsSpec { to: at(1, 50500), count: 5, datagram: b"hello".to_vec() });
    let answer = ebb.run(&["drain", "alpha", "--no-stop", "--udp-learn", "0s", "--deadline", "1s"]);
    assert!(answer.notes().iter().all(|note| !note.contains("range of ports")), "{answer:#?}");
    let heard = server.served().heard;
    assert_eq!((flows.speak().answered, server.served().heard), (0, heard));
    ebb.done(&["resume", "alpha"]);
    assert_eq!(flows.speak().answered, 5);
}

#[test]
fn another_program_at_a_held_door_is_not_the_service() {
    let Some(net) = Net::new() else { return };
    let door = at(1, 7000);
    let mut alpha = server(&net, "alpha", door);
    let ebb = Ebb::on(&net);
    ebb.done(&["drain", "alpha"]);
    assert!(!alpha.is_running());
    let beta = server(&net, "beta", door);
    assert_eq!(services(&ebb), ["alpha stopped 0", "beta open 0"]);
    let said = remarks(&ebb, "beta");
    assert!(said.contains("is held as alpha") && !said.contains("without a hold"), "{said}");
    let nothing = ebb.done(&["resume", "beta"]);
    assert!(nothing.notes().iter().any(|note| note.contains("as alpha")), "{nothing:#?}");
    // Its answers are not those of the service.
    let refused = ebb.run(&["resume", "alpha"]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(why(&refused).contains("started by hand") && why(&refused).contains("is beta"), "{}", why(&refused));
    assert_eq!((ebb.done(&["holds"]).all("hold").count(), meet(&net.client, door)), (1, Met::Refused));
    drop(beta);
    let _alpha = server(&net, "alpha", door);
    ebb.done(&["resume", "alpha"]);
    assert_eq!(meet(&net.client, door), Met::Connected);
}

#[test]
fn an_ordinary_user_is_told_what_cannot_be_seen() {
    let Some(net) = Net::new() else { return };
    let _alpha = server(&net, "alpha", at(1, 7300));
    let ebb = Ebb::on(&net);
    ebb.let_others_look(true);
    assert_eq!(services(&ebb), ["alpha open 0"]);
    assert_eq!(ebb.done(&["drain", "alpha", "--dry-run"]).all("plan").count(), 1);
    assert_eq!(ebb.kept(), Vec::<String>::new(), "who looks changes nothing");
    for words in [
        &["drain", "alpha:7300"][..],
        &["end", "alpha:7300", "--all", "--yes"],
        &["hold", "alpha"],
        &["sessions", "alpha"],
    ] {
        let answer = ebb.run_as_nobody(words);
        let help = answer.one("refused")["help"].to_string();
        assert!(why(&answer).contains("not permitted to see") && help.contains("as root"), "{words:?}: {answer:#?}");
        assert!(!answer.stderr.contains("did you mean"), "{words:?}: {}", answer.stderr);
        assert_eq!(answer.code, Some(8), "{words:?}: {answer:#?}");
    }
    ebb.done(&["hold", "alpha", "--as", "deploy"]);
    let next = ebb.status("alpha")["next"].clone();
    assert_eq!(next.as_array().and_then(|next| next.last()), Some(&"ebb resume alpha --as deploy".into()));
    let gates = |answer: &Answer| answer.one("service")["doors"][0]["gate"].clone();
    assert_eq!(gates(&ebb.done(&["services"])), "shut");
    assert_eq!(gates(&ebb.run_as_nobody(&["services"])), "unknown");
    // Holds that may not be read are not none.
    ebb.let_others_look(false);
    for words in [&["services"][..], &["holds"], &["status"]] {
        let answer = ebb.run_as_nobody(words);
        assert_eq!((answer.code, why(&answer).contains("cannot be read")), (Some(8), true), "{words:?}: {answer:#?}");
    }
}
