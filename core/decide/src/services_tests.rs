use super::*;
use crate::resolve;

fn services(sight: &Sight) -> Vec<Service> {
    find(sight).services
}

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

fn run(sight: &mut Sight, processes: &[(u32, u32, &str)]) {
    sight.processes.extend(processes.iter().map(|(pid, parent, name)| (*pid, process(*parent, name))));
}

/// What is remembered of a held service started by hand.
fn record(name: &str, root: u32, doors: &[&str]) -> Record {
    let executable = name.split(':').next().unwrap_or(name).to_owned();
    Record {
        service: ServiceName::new(name).unwrap(),
        doors: doors.iter().map(|at| door(&listener(Proto::Tcp, at, None, &[]))).collect(),
        added: BTreeSet::new(),
        aliases: BTreeSet::new(),
        units: vec![],
        sockets: vec![],
        trees: vec![Tree { root, started_ticks: 5, executable, command: vec![] }],
        drain: None,
        learn: None,
        stopped: vec![],
        own_probes: 0,
        refused_before: 0,
        neighbours: BTreeSet::new(),
    }
}

/// Name, doors, whether it runs, and the roots of its trees.
fn told(sight: &Sight) -> Vec<String> {
    let tell = |service: &Service| {
        let doors: Vec<_> = service.doors.iter().map(ToString::to_string).collect();
        let Origin::Trees(trees) = &service.origin else { return format!("{}: units", service.name) };
        let roots: Vec<_> = trees.iter().map(|tree| tree.root).collect();
        format!("{}: {} {:?} {roots:?}", service.name, doors.join(", "), service.up)
    };
    services(sight).iter().map(tell).collect()
}

fn meant(typed: &str, sight: &Sight) -> String {
    let services = services(sight);
    let none = BTreeSet::new();
    resolve::one(typed, &resolve::known(&services, &none)).map_or_else(|why| why.to_string(), ToString::to_string)
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
    run(
        &mut sight,
        &[
            (10, 1, "nginx"),
            (11, 10, "nginx"),
            (20, 5, "python3"),
            (30, 5, "python3"),
            (40, 5, "socat"),
            (5, 1, "bash"),
        ],
    );
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
    let named = |found: &Found| found.clients.iter().map(|service| service.name.to_string()).collect::<Vec<_>>();
    assert_eq!(named(&find(&sight)), ["chrony"]);
}

#[test]
fn a_udp_socket_at_a_port_for_clients_is_no_door_unless_the_configuration_says_so() {
    let mut sight = sight(vec![
        listener(Proto::Udp, "0.0.0.0:50500", None, &[10]),
        listener(Proto::Udp, "0.0.0.0:50500", Some("turn.service"), &[]),
        listener(Proto::Tcp, "0.0.0.0:3478", Some("turn.service"), &[]),
        listener(Proto::Tcp, "0.0.0.0:7000", None, &[20]),
    ]);
    run(&mut sight, &[(10, 1, "python3"), (20, 1, "python3")]);
    assert_eq!(found(&sight), ["python3: tcp 0.0.0.0:7000", "turn: tcp 0.0.0.0:3478"], "a client moves no name");
    let seen = find(&sight);
    assert_eq!(seen.services[1].passed_over.len(), 1);
    assert_eq!((seen.clients[0].name.as_str(), seen.clients[0].doors.len()), ("python3:50500", 0));
    let says = |name: &str| Group { name: name.into(), udp: vec![50500], ..Group::default() };
    sight.groups = vec![says("turn"), says("python3:50500")];
    assert_eq!(
        found(&sight),
        [
            "python3:50500: udp 0.0.0.0:50500",
            "python3:7000: tcp 0.0.0.0:7000",
            "turn: tcp 0.0.0.0:3478, udp 0.0.0.0:50500"
        ]
    );
    sight.groups = vec![Group { executables: vec!["python3".into()], ..says("lab") }];
    assert!(found(&sight).contains(&"lab: tcp 0.0.0.0:7000, udp 0.0.0.0:50500".to_owned()), "{:?}", found(&sight));
}

#[test]
fn a_stranger_of_the_same_executable_is_not_the_held_one_that_closed_its_listener() {
    let mut sight = sight(vec![listener(Proto::Tcp, "0.0.0.0:9000", None, &[90])]);
    run(&mut sight, &[(70, 1, "python3"), (90, 1, "python3")]);
    sight.held = vec![record("python3", 70, &["0.0.0.0:7000"])];
    sight.alive = [(70, 5)].into();
    let held = "python3: tcp 0.0.0.0:7000 Running [70]";
    assert_eq!(told(&sight), [held, "python3:9000: tcp 0.0.0.0:9000 Running [90]"]);
    // Nor is one that takes its port while it still lives.
    sight.listeners = vec![listener(Proto::Tcp, "0.0.0.0:7000", None, &[90])];
    assert_eq!(told(&sight), [held, "python3:7000@0.0.0.0@90: tcp 0.0.0.0:7000 Running [90]"]);
    assert!(meant("python3:7000", &sight).contains("fits several services"), "it has meant the held one");
    assert!(services(&sight)[0].shared_with.len() == 1 && services(&sight)[1].shared_with.len() == 1);
}

#[test]
fn a_stranger_of_the_same_executable_is_not_the_held_one_that_was_stopped() {
    let mut sight = sight(vec![listener(Proto::Tcp, "0.0.0.0:9000", None, &[90])]);
    run(&mut sight, &[(90, 1, "python3")]);
    sight.held = vec![record("python3", 70, &["0.0.0.0:7000"])];
    assert_eq!(told(&sight), ["python3: tcp 0.0.0.0:7000 Stopped [70]", "python3:9000: tcp 0.0.0.0:9000 Running [90]"]);
    assert_eq!((meant("python3", &sight), meant("python3:9000", &sight)), ("python3".into(), "python3:9000".into()));
    // The same executable at its door is it, started again; the stranger stays one.
    sight.listeners.push(listener(Proto::Tcp, "0.0.0.0:7000", None, &[71]));
    run(&mut sight, &[(71, 1, "python3")]);
    assert_eq!(told(&sight), ["python3: tcp 0.0.0.0:7000 Running [71]", "python3:9000: tcp 0.0.0.0:9000 Running [90]"]);
}

#[test]
fn a_held_name_with_a_port_stays_and_no_other_becomes_short_beside_it() {
    let mut sight = sight(vec![listener(Proto::Tcp, "0.0.0.0:9000", None, &[90])]);
    run(&mut sight, &[(90, 1, "python3")]);
    sight.held = vec![record("python3:7000", 70, &["0.0.0.0:7000"])];
    assert_eq!(
        told(&sight),
        ["python3:7000: tcp 0.0.0.0:7000 Stopped [70]", "python3:9000: tcp 0.0.0.0:9000 Running [90]"]
    );
    assert!(meant("python3", &sight).starts_with("`python3` fits several services"), "{}", meant("python3", &sight));
}

#[test]
fn another_program_at_a_held_door_is_a_service_of_its_own() {
    let mut sight = sight(vec![listener(Proto::Tcp, "0.0.0.0:7000", None, &[80])]);
    run(&mut sight, &[(80, 1, "socat")]);
    sight.held = vec![record("python3", 70, &["0.0.0.0:7000"])];
    assert_eq!(told(&sight), ["python3: tcp 0.0.0.0:7000 Stopped [70]", "socat: tcp 0.0.0.0:7000 Running [80]"]);
}

#[test]
fn a_unit_is_not_the_held_tree_of_its_name() {
    let mut sight = sight(vec![listener(Proto::Tcp, "0.0.0.0:80", Some("python3.service"), &[])]);
    sight.units.insert("python3.service".into(), unit(Up::Running, "enabled", None));
    sight.held = vec![record("python3", 70, &["0.0.0.0:7000"])];
    assert_eq!(told(&sight), ["python3: tcp 0.0.0.0:7000 Stopped [70]", "python3.service: units"]);
    assert_eq!(meant("python3.service", &sight), "python3.service");
    // A unit that is held is known by itself.
    sight.held[0] = Record { units: vec!["python3.service".into()], trees: vec![], ..sight.held[0].clone() };
    assert_eq!(found(&sight), ["python3: tcp 0.0.0.0:80, tcp 0.0.0.0:7000"]);
}

#[test]
fn two_servers_of_one_executable_on_one_port_are_told_apart_by_address() {
    let mut sight = sight(vec![
        listener(Proto::Tcp, "127.0.0.2:7104", None, &[20]),
        listener(Proto::Tcp, "127.0.0.3:7104", None, &[30]),
        listener(Proto::Tcp, "[fd00::1]:7104", None, &[40]),
        listener(Proto::Tcp, "0.0.0.0:7105", None, &[50]),
        listener(Proto::Udp, "0.0.0.0:7105", None, &[60]),
    ]);
    run(&mut sight, &[20, 30, 40, 50, 60].map(|pid| (pid, 1, "python3")));
    assert_eq!(
        found(&sight),
        [
            "python3:7104@127.0.0.2: tcp 127.0.0.2:7104",
            "python3:7104@127.0.0.3: tcp 127.0.0.3:7104",
            "python3:7104@fd00::1: tcp [fd00::1]:7104",
            "python3:7105@0.0.0.0@50: tcp 0.0.0.0:7105",
            "python3:7105@0.0.0.0@60: udp 0.0.0.0:7105"
        ]
    );
    assert_eq!(meant("python3@127.0.0.3:7104", &sight), "python3:7104@127.0.0.3");
    assert_eq!(meant("python3@[fd00::1]:7104", &sight), "python3:7104@fd00::1");
    assert!(meant("python3:7104", &sight).contains("fits several services"), "{}", meant("python3:7104", &sight));
}

#[test]
fn processes_that_share_a_door_are_one_service() {
    let mut sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:7000", None, &[20]),
        listener(Proto::Tcp, "0.0.0.0:7000", None, &[30]),
        listener(Proto::Tcp, "0.0.0.0:7001", None, &[30, 40]),
        listener(Proto::Tcp, "0.0.0.0:7002", None, &[50]),
    ]);
    run(&mut sight, &[20, 30, 40, 50].map(|pid| (pid, 1, "python3")));
    assert_eq!(
        told(&sight),
        [
            "python3:7000: tcp 0.0.0.0:7000, tcp 0.0.0.0:7001 Running [20, 30, 40]",
            "python3:7002: tcp 0.0.0.0:7002 Running [50]"
        ]
    );
}

#[test]
fn a_name_with_a_port_means_the_same_whatever_else_runs() {
    let mut sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:7300", None, &[20]),
        listener(Proto::Tcp, "10.0.0.1:7301", None, &[20]),
    ]);
    run(&mut sight, &[(20, 1, "python3")]);
    for typed in ["python3", "python3:7300", "python3:7301", "python3@10.0.0.1:7301", "python3:7301@10.0.0.1"] {
        assert_eq!(meant(typed, &sight), "python3", "{typed}");
    }
    assert!(meant("python3:7302", &sight).starts_with("no service"));
    sight.listeners.push(listener(Proto::Tcp, "0.0.0.0:7302", None, &[30]));
    run(&mut sight, &[(30, 1, "python3")]);
    assert_eq!(
        (meant("python3:7301", &sight), meant("python3:7302", &sight)),
        ("python3:7300".into(), "python3:7302".into())
    );
    // Also of one that is held and stopped.
    sight.listeners.clear();
    sight.held = vec![record("python3", 70, &["0.0.0.0:7000"])];
    assert_eq!(meant("python3:7000", &sight), "python3");
}

#[test]
fn names_of_odd_executables_are_names_all_the_same() {
    let long = "x".repeat(300);
    let mut sight = sight(vec![
        listener(Proto::Tcp, "0.0.0.0:7000", None, &[20]),
        listener(Proto::Tcp, "0.0.0.0:7001", None, &[30]),
        listener(Proto::Tcp, "0.0.0.0:7002", None, &[40]),
    ]);
    run(&mut sight, &[(20, 1, "-my server"), (30, 1, &long), (40, 1, "--")]);
    let names: Vec<String> = services(&sight).iter().map(|service| service.name.to_string()).collect();
    assert_eq!(names, ["my-server".to_owned(), "unknown:7002".to_owned(), "x".repeat(160)]);
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

/// A group made in the configuration while one of its units is held under its own name: its sessions are still found.
#[test]
fn a_held_unit_that_goes_by_another_name_now_keeps_its_cgroup() {
    let mut record = record("nginx", 0, &["0.0.0.0:80"]);
    record.trees.clear();
    record.units = vec!["nginx.service".into()];
    let mut sight = Sight {
        listeners: vec![listener(Proto::Tcp, "0.0.0.0:80", Some("nginx.service"), &[])],
        groups: vec![Group { name: "web".into(), units: vec!["nginx".into(), "worker".into()], ..Group::default() }],
        held: vec![record],
        ..Sight::default()
    };
    sight.listeners[0].cgroup = Some(7);
    for unit in ["nginx.service", "worker.service", "other.service"] {
        let unit_is = Unit { up: Up::Running, file_state: None, triggers: None };
        sight.units.insert(unit.to_owned(), unit_is);
    }
    let services = find(&sight).services;
    let names: Vec<_> = services.iter().map(|service| (service.name.as_str(), service.cgroups.clone())).collect();
    assert_eq!(names, [("nginx", [7].into()), ("web", [7].into())]);
    let Origin::Units { units, .. } = &services[1].origin else { panic!() };
    let units: Vec<_> = units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(units, ["nginx.service", "worker.service"], "a unit without a socket belongs to its group too");
}
