//! Stopped is what does not listen any more, whoever of the service's processes it is; and a service that lives on in
//! other processes is still that service.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ebb_exact::{Crowd, CrowdSpec, Daemon, Ebb, Listen, Met, Net, ServeSpec, meet, server4};
use ebb_kernel::netns::die_with_parent;

const LIMIT: Duration = Duration::from_secs(30);

/// A server of two workers that outlive their parent; all end by themselves after a minute.
const PREFORK: &str = "
import os, signal, socket, sys
signal.alarm(60)
server = socket.create_server(('', 7000), reuse_port=True)
for _ in range(2):
    if os.fork() == 0:
        signal.alarm(60)
        while True:
            client, _ = server.accept()
            while data := client.recv(100): client.sendall(data)
            client.close()
print('ready', flush=True)
signal.pause()
";

fn at(port: u16) -> SocketAddr {
    (server4(1), port).into()
}

fn prefork(net: &Net) -> Child {
    use std::io::Read;
    let mut command = Command::new("python3");
    command.args(["-S", "-c", PREFORK]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = net.server.command(die_with_parent(&mut command)).spawn().expect("python3 starts");
    let mut ready = [0; 6];
    child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("it says that it is ready");
    child
}

#[test]
fn workers_that_outlive_their_parent_are_stopped_too() {
    let Some(net) = Net::new() else { return };
    let mut server = prefork(&net);
    let ebb = Ebb::on(&net);
    let answer = ebb.run(&["drain", "python3"]);
    assert_eq!((answer.code, &answer.one("drained")["outcome"]), (Some(0), &"stopped".into()), "{answer:#?}");
    let _ = server.wait();
    assert_eq!(net.run(&net.server, &["ss", "-Hltn", "sport = :7000"]), "", "nobody listens any more");
}

#[test]
fn a_service_whose_parent_was_killed_is_drained_on() {
    let Some(net) = Net::new() else { return };
    let mut server = prefork(&net);
    let mut client = Crowd::start(&net, &[CrowdSpec::echoes([at(7000)], 1)]);
    client.all_connected(LIMIT);
    let ebb = Ebb::on(&net);
    let mut drain = ebb.watch(&["drain", "python3"]);
    drain.event("GateProven");
    server.kill().expect("it was alive");
    let _ = server.wait();
    drain.event("ServiceRestartedElsewhere");
    assert_eq!(client.echo(LIMIT).living, 1);
    assert_eq!(meet(&net.client, at(7000)), Met::Refused);
    client.end(1);
    let answer = drain.wait(LIMIT);
    assert_eq!((answer.code, &answer.one("drained")["outcome"]), (Some(0), &"stopped".into()), "{answer:#?}");
    assert_eq!(net.run(&net.server, &["ss", "-Hltn", "sport = :7000"]), "", "nobody listens any more");
}

/// A door that was open for a while during the drain: held and probed meanwhile, and no condition of a resume.
#[test]
fn a_door_that_came_and_went_does_not_keep_the_service_shut() {
    let Some(net) = Net::new() else { return };
    let mut server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at(7000))]));
    let ebb = Ebb::on(&net);
    let mut client = Crowd::start(&net, &[CrowdSpec::echoes([at(7000)], 1)]);
    client.all_connected(LIMIT);
    let mut drain = ebb.watch(&["drain", "exact-part", "--no-stop"]);
    drain.event("GateProven");
    server.open(&Listen::tcp(at(7001)));
    drain.event("DoorAdded");
    assert_eq!(meet(&net.client, at(7001)), Met::Refused);
    client.end(1);
    let answer = drain.wait(LIMIT);
    let doors = answer.one("drained")["proof"]["doors"].as_array().map(Vec::len);
    assert_eq!((answer.code, doors), (Some(0), Some(2)), "{answer:#?}");
    // The same program again, without that door.
    server.terminate();
    let _again = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at(7000))]));
    ebb.done(&["resume", "exact-part"]);
    assert_eq!(meet(&net.client, at(7000)), Met::Connected);
}

/// Its ports were changed while it was held: that is said, nobody is let in, and one flag takes it as it is.
#[test]
fn a_service_that_has_moved_is_opened_as_it_is_when_that_is_meant() {
    let Some(net) = Net::new() else { return };
    let mut server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at(7000)), Listen::tcp(at(7002))]));
    let ebb = Ebb::on(&net);
    ebb.done(&["drain", "exact-part", "--no-stop"]);
    server.terminate();
    let _again = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at(7002)), Listen::tcp(at(7003))]));
    let answer = ebb.run(&["resume", "exact-part"]);
    let refused = answer.one("refused");
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert!(refused["help"].as_str().is_some_and(|help| help.contains("--as-is")), "{refused:#}");
    assert_eq!(meet(&net.client, at(7002)), Met::Refused);
    assert_eq!(meet(&net.client, at(7003)), Met::Refused, "a door that it opened meanwhile is held too");
    ebb.done(&["resume", "exact-part", "--as-is"]);
    assert_eq!([7002, 7003].map(|port| meet(&net.client, at(port))), [Met::Connected, Met::Connected]);
    assert_eq!(net.run(&net.server, &["nft", "list", "ruleset"]), "");
}
