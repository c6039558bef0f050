use super::*;

fn listener(proto: Proto, local: &str, unit: Option<&str>, pids: &[u32]) -> Listener {
    Listener {
        proto,
        local: local.parse().unwrap(),
        v6only: false,
        cgroup: unit.map(|unit| unit.len() as u64),
        unit: unit.map(str::to_owned),
        pids: pids.to_vec(),
        forward: false,
    }
}

fn process(ppid: u32, executable: &str) -> Process {
    Process { ppid, started_ticks: 5, executable: executable.into(), command: vec![executable.into()], own: false }
}

fn unit(up: Up, file_state: &str, triggers: Option<&str>) -> Unit {
    Unit { up, file_state: Some(file_state.into()), triggers: triggers.map(str::to_owned) }
}

fn sight(listeners: Vec<Listener>) -> Sight {
    Sight { listeners, ephemeral: (32_768, 60_999), ..Sight::default() }
}

fn found(sight: &Sight) -> Vec<String> {
    services(sight)
        .iter()
        .map(|service| {
            let doors: Vec<_> = service.doors.iter().map(ToString::to_string).collect();
            format!("{}: {}", service.name, doors.join(", "))
        })
        .collect()
}

#[test]
fn units_are_named_by_their_stem_and_doors_by_their_bind() {
    let mut sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:80", Some("nginx.service"), &[]),
        listener(Proto::Tcp, "[::]:80", Some("nginx.service"), &[]),
        listener(Proto::Tcp, "[::ffff:10.0.0.1]:5432", Some("postgresql@15-main.service"), &[]),
    ]);
    sight.listeners[1].v6only = true;
    assert_eq!(
        found(&sight),
        ["nginx: tcp 0.0.0.0:80, tcp [::]:80 (v6 only)", "postgresql@15-main: tcp 10.0.0.1:5432"]
    );
    assert!(services(&sight)[1].aliases.contains("postgresql"));
}

#[test]
fn a_socket_unit_is_shown_under_the_service_it_starts() {
    let mut sight = sight(vec![listener(Proto::Tcp, "[::]:22", Some("ssh.socket"), &[1])]);
    sight.processes.insert(1, process(0, "systemd"));
    sight.units.insert("ssh.socket".into(), unit(Up::Running, "enabled", Some("ssh.service")));
    sight.units.insert("ssh.service".into(), unit(Up::Stopped, "disabled", None));
    let services = services(&sight);
    assert_eq!(services[0].name.as_str(), "ssh");
    assert_eq!(services[0].start, StartType::Socket("ssh.socket".into()));
    assert_eq!(services[0].up, Up::Running, "it runs on demand");
    assert!(services[0].aliases.is_empty(), "systemd is no alias of it");
}

#[test]
fn trees_are_named_by_executable_and_by_port_where_that_is_ambiguous() {
    let mut sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:80", None, &[10, 11]),
        listener(Proto::Tcp, "0.0.0.0:7000", None, &[20]),
        listener(Proto::Tcp, "0.0.0.0:8000", None, &[30]),
        listener(Proto::Tcp, "0.0.0.0:9000", Some("session-3.scope"), &[40]),
    ]);
    for (pid, parent, executable) in
        [(10, 1, "nginx"), (11, 10, "nginx"), (20, 5, "python3"), (30, 5, "python3"), (40, 5, "socat")]
    {
        sight.processes.insert(pid, process(parent, executable));
    }
    sight.processes.insert(5, process(1, "bash"));
    assert_eq!(
        found(&sight),
        [
            "nginx: tcp 0.0.0.0:80",
            "python3:7000: tcp 0.0.0.0:7000",
            "python3:8000: tcp 0.0.0.0:8000",
            "socat: tcp 0.0.0.0:9000"
        ]
    );
    let Origin::Trees(trees) = &services(&sight)[0].origin else { panic!("no tree") };
    assert_eq!((trees.len(), trees[0].root), (1, 10));
}

#[test]
fn containers_of_one_image_are_services_of_their_own() {
    let inside = |address: &str, pid| Listener { forward: true, ..listener(Proto::Tcp, address, None, &[pid]) };
    let mut sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:80", None, &[10]),
        inside("10.99.0.2:80", 20),
        inside("[fd00:99::2]:80", 20),
        inside("10.99.0.3:80", 30),
        inside("10.99.0.4:6379", 40),
    ]);
    sight.processes.extend([10, 20, 30].map(|pid| (pid, process(1, "nginx"))));
    sight.processes.insert(40, process(1, "redis"));
    assert_eq!(
        found(&sight),
        [
            "nginx:80: tcp 0.0.0.0:80",
            "nginx@10.99.0.2: tcp 10.99.0.2:80 (forwarded), tcp [fd00:99::2]:80 (forwarded)",
            "nginx@10.99.0.3: tcp 10.99.0.3:80 (forwarded)",
            "redis: tcp 10.99.0.4:6379 (forwarded)"
        ]
    );
}

#[test]
fn our_own_sockets_and_clients_sockets_are_no_services() {
    let mut sight = sight(vec![
        listener(Proto::Tcp, "127.0.0.1:9", None, &[7]),
        listener(Proto::Udp, "0.0.0.0:68", Some("dhclient.service"), &[]),
        listener(Proto::Udp, "0.0.0.0:41000", Some("chrony.service"), &[]),
    ]);
    sight.processes.insert(7, Process { own: true, ..process(1, "ebb") });
    assert_eq!(found(&sight), Vec::<String>::new());
}

#[test]
fn http3_is_quic_and_dns_is_not() {
    let sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:443", Some("nginx.service"), &[]),
        listener(Proto::Udp, "0.0.0.0:443", Some("nginx.service"), &[]),
        listener(Proto::Tcp, "0.0.0.0:53", Some("named.service"), &[]),
        listener(Proto::Udp, "0.0.0.0:53", Some("named.service"), &[]),
    ]);
    assert_eq!(found(&sight), ["named: tcp 0.0.0.0:53, udp 0.0.0.0:53", "nginx: tcp 0.0.0.0:443, quic 0.0.0.0:443"]);
}

#[test]
fn a_group_is_one_service() {
    let mut sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:25", Some("postfix@-.service"), &[]),
        listener(Proto::Tcp, "0.0.0.0:143", Some("dovecot.service"), &[]),
        listener(Proto::Tcp, "0.0.0.0:22", Some("ssh.service"), &[]),
    ]);
    sight.groups.push(Group {
        name: "mail".into(),
        units: vec!["postfix@-".into(), "dovecot.service".into()],
        ..Group::default()
    });
    assert_eq!(found(&sight), ["mail: tcp 0.0.0.0:25, tcp 0.0.0.0:143", "ssh: tcp 0.0.0.0:22"]);
}

#[test]
fn a_port_shared_by_two_services_is_marked_on_both() {
    let sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:80", Some("a.service"), &[]),
        listener(Proto::Tcp, "0.0.0.0:80", Some("b.service"), &[]),
        listener(Proto::Tcp, "10.0.0.1:80", Some("c.service"), &[]),
    ]);
    let shared: Vec<_> = services(&sight).iter().map(|service| service.shared_with.len()).collect();
    assert_eq!(shared, [1, 1, 0]);
}
