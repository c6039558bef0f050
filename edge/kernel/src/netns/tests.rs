use super::*;
use crate::boot::{Capability, effective_uid, has_capability};
use crate::probe::{Answer, knock, own_addresses};
use crate::process::{Handle, Liveness, PeerProbe};
use crate::testnet::skipped;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);
/// Set in the second run of a test.
const AGAIN: &str = "EBB_TEST_AGAIN";

fn may_make_namespaces() -> bool {
    let may = has_capability(Capability::SysAdmin).unwrap() && has_capability(Capability::NetAdmin).unwrap();
    if !may {
        skipped("needs CAP_SYS_ADMIN and CAP_NET_ADMIN for namespaces of its own");
    }
    may
}

/// A world needs a process with a single thread, which no test of the harness is. So: this binary again, for this test alone
/// and as that user, and there a fork, whose child has one thread. A deadline ends it whatever happens.
fn alone(test: &str, uid: u32, body: impl FnOnce() + std::panic::UnwindSafe) {
    if std::env::var_os(AGAIN).is_some() {
        return forked(body);
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", test, "--nocapture"]).env(AGAIN, "1");
    if effective_uid() == 0 {
        command.uid(uid).gid(uid);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{complaint}");
}

fn forked(body: impl FnOnce() + std::panic::UnwindSafe) {
    // SAFETY: the harness' other thread only waits for this one, so no lock is held across the fork.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: no memory involved; SIGALRM ends the process.
        unsafe { libc::alarm(60) };
        let failed = std::panic::catch_unwind(body).is_err();
        // SAFETY: ends the child without the harness noticing.
        unsafe { libc::_exit(i32::from(failed)) };
    }
    let mut status = 0;
    // SAFETY: writes one int.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "wait status of the world");
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn waiting(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn prefixes() {
    assert_eq!(prefix("192.0.2.5/24").to_string(), "192.0.2.5/24");
    assert_eq!((prefix("::/0").length(), prefix("fd00::1/128").address()), (0, "fd00::1".parse().unwrap()));
    for wrong in ["192.0.2.5", "192.0.2.5/33", "::/129", "/8", "a/8", "192.0.2.5/-1", ""] {
        assert!(matches!(wrong.parse::<Prefix>(), Err(Error::Prefix { .. })), "{wrong}");
    }
}

#[test]
fn our_own_namespace() {
    let current = Ns::current().unwrap();
    assert_eq!(Ns::of(Pid::current()).unwrap(), current);
    assert_eq!(Some(current.inode()), crate::process::read(Pid::current()).unwrap().unwrap().net_namespace);
    let mut child = waiting(&mut Command::new("cat"));
    let pid = Pid::new(child.id()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(Ns::of(pid), Err(Error::Gone { .. })));
    let lo = Links::open().unwrap().index_of("lo").unwrap();
    assert_eq!(lo, 1);
    assert!(matches!(Links::open().unwrap().index_of("no-such-link"), Err(Error::NoLink { .. })));
    for wrong in ["", "..", "a/b", "a b", "sixteen-bytes-xx"] {
        assert!(matches!(Links::open().unwrap().index_of(wrong), Err(Error::Name { .. })), "{wrong}");
    }
}

#[test]
fn a_fresh_namespace_is_another_world() {
    if !may_make_namespaces() {
        return;
    }
    let before = Ns::current().unwrap();
    let ns = Ns::fresh().unwrap();
    assert_ne!(ns, before);
    assert_eq!(in_ns(&ns, || Ns::current().unwrap()).unwrap(), ns);
    assert_eq!(Ns::current().unwrap(), before, "the caller's thread has not moved");
    let up = || own_addresses().unwrap().iter().any(|own| own.loopback && own.up);
    assert!(!in_ns(&ns, up).unwrap());
    Links::inside(&ns).unwrap().set_up(1).unwrap();
    assert!(in_ns(&ns, up).unwrap());
    let listener = in_ns(&ns, || TcpListener::bind("127.0.0.1:7").unwrap()).unwrap();
    let door = listener.local_addr().unwrap();
    assert_eq!(in_ns(&ns, || knock(door, LONG, None, None)).unwrap(), Answer::Accepted);
    let panicked = std::panic::catch_unwind(|| in_ns(&Ns::current().unwrap(), || panic!("of the work")));
    assert!(panicked.is_err(), "a panic inside is not swallowed");
}

#[test]
fn a_knock_never_meets_itself() {
    if !may_make_namespaces() {
        return;
    }
    let door = SocketAddr::from(([127, 0, 0, 1], 40000));
    let with_one_port = |work: fn(SocketAddr) -> bool| {
        let ns = Ns::fresh().unwrap();
        Links::inside(&ns).unwrap().set_up(1).unwrap();
        in_ns(&ns, || {
            // One ephemeral port: a connect to it has to come from it.
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000").unwrap();
            work(door)
        })
        .unwrap()
    };
    let plain = with_one_port(|door| std::net::TcpStream::connect(door).is_ok());
    assert!(plain, "the pitfall is real: nobody listens, and a plain connect succeeds");
    // Twice: the first leaves nothing behind.
    let ours = with_one_port(|door| (0..2).all(|_| knock(door, LONG, None, None) == Answer::Refused));
    assert!(ours);
}

#[test]
fn unreachable_is_not_refused() {
    if !may_make_namespaces() {
        return;
    }
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 80));
    let answer = in_ns(&Ns::fresh().unwrap(), || knock(nowhere, LONG, None, None)).unwrap();
    assert!(matches!(answer, Answer::Unreachable(errno) if errno.get() == libc::ENETUNREACH), "{answer:?}");
}

#[test]
fn programs_start_inside() {
    if !may_make_namespaces() {
        return;
    }
    let ns = Ns::fresh().unwrap();
    let mut child = waiting(ns.command(&mut Command::new("cat")));
    let inside = crate::process::read(Pid::new(child.id()).unwrap()).unwrap().unwrap().net_namespace;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(inside, Some(ns.inode()));
}

#[test]
fn a_child_dies_with_the_thread_that_started_it() {
    let start = || waiting(die_with_parent(&mut Command::new("cat")));
    let mut child = std::thread::spawn(start).join().unwrap();
    // Its stdin is still open here: without the signal it would wait for ever. Looked at before our own kill.
    let pid = Pid::new(child.id()).unwrap();
    let ended = crate::process::read(pid).unwrap().is_none_or(|seen| {
        let handle = Handle::open(pid, seen.start_ticks);
        handle.is_ok_and(|handle| handle.wait_exit(LONG).unwrap())
    });
    let _ = child.kill();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(ended);
    let mut child = waiting(die_with_parent(&mut Command::new("cat")));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "and lives as long as its starter does");
}

#[test]
fn a_world_for_root() {
    if !may_make_namespaces() {
        return;
    }
    in_ns(&Ns::fresh().unwrap(), || tour(World::here().unwrap())).unwrap();
}

#[test]
fn a_dead_peer_is_silent_and_not_harmed_by_asking() {
    if !may_make_namespaces() {
        return;
    }
    let mut world = in_ns(&Ns::fresh().unwrap(), || World::here().unwrap()).unwrap();
    let a = world.host("a", &[prefix("10.77.0.1/24")]).unwrap();
    let b = world.host("b", &[prefix("10.77.0.2/24")]).unwrap();
    let listener = in_ns(&a, || TcpListener::bind("10.77.0.1:80").unwrap()).unwrap();
    let mut client = in_ns(&b, || std::net::TcpStream::connect("10.77.0.1:80").unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let inode = inode_of(&server);

    let mut switch = Links::inside(world.switch()).unwrap();
    let cable = switch.index_of("b").unwrap();
    switch.set_down(cable).unwrap();
    let me = Pid::current();
    let handle = Handle::open(me, crate::process::read(me).unwrap().unwrap().start_ticks).unwrap();
    let probe = PeerProbe::start(&handle, inode).unwrap();
    std::thread::sleep(PeerProbe::NEEDED);
    assert_eq!(probe.finish().unwrap(), Liveness::Silent);

    switch.set_up(cable).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    server.write_all(b"still there").unwrap();
    let mut heard = [0; 11];
    client.read_exact(&mut heard).expect("the connection itself lives on");
}

fn inode_of(socket: &std::net::TcpStream) -> u32 {
    let copy = std::os::fd::AsFd::as_fd(socket).try_clone_to_owned().unwrap();
    u32::try_from(File::from(copy).metadata().unwrap().ino()).unwrap()
}

#[test]
fn a_world_for_an_ordinary_user() {
    alone("netns::tests::a_world_for_an_ordinary_user", 65534, tour_of_a_new_world);
}

#[test]
fn a_new_world_for_root_too() {
    alone("netns::tests::a_new_world_for_root_too", 0, tour_of_a_new_world);
}

fn tour_of_a_new_world() {
    match World::new() {
        Ok(world) => {
            assert!(has_capability(Capability::NetAdmin).unwrap(), "root of our own little world");
            tour(world);
        }
        Err(error @ Error::Forbidden { .. }) => skipped(&error.to_string()),
        Err(other) => panic!("{other}: {other:?}"),
    }
}

#[test]
fn an_ordinary_user_is_told_so() {
    alone("netns::tests::an_ordinary_user_is_told_so", 65534, || {
        for capability in [Capability::SysAdmin, Capability::NetAdmin] {
            assert!(!has_capability(capability).unwrap(), "else this would change the machine's own network");
        }
        let current = Ns::current().unwrap();
        assert!(matches!(Ns::fresh(), Err(Error::NoPermission { .. })));
        assert!(matches!(in_ns(&current, || ()), Err(Error::NoPermission { .. })));
        assert!(matches!(Ns::of(Pid::new(1).unwrap()), Err(Error::NoPermission { .. })));
        assert!(matches!(Links::open().unwrap().set_up(1), Err(Error::NoPermission { .. })));
        assert!(matches!(World::here(), Err(Error::NoPermission { .. })));
    });
}

#[test]
fn no_room_for_user_namespaces_is_said() {
    alone("netns::tests::no_room_for_user_namespaces_is_said", 65534, || {
        // Inside our own user namespace its limit is ours to set: no machine setting is touched.
        if let Err(error) = unshare_user_net() {
            return skipped(&error.to_string());
        }
        std::fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
        let refused = unshare_user_net().unwrap_err();
        assert!(matches!(refused, Error::Forbidden { why: Forbidden::MaxZero, .. }), "{refused}");
        assert_eq!(refused.to_string(), "make a user namespace: user.max_user_namespaces is 0");
    });
}

/// Two servers and a client on one switch, IPv4 and IPv6, programs inside, a route.
fn tour(mut world: World) {
    let a = world.host("a", &[prefix("10.77.0.1/24"), prefix("fd77::1/64")]).unwrap();
    let b = world.host("b", &[prefix("10.77.0.2/24"), prefix("fd77::2/64")]).unwrap();
    assert!(matches!(world.host("much-too-long-a-name", &[]), Err(Error::Name { .. })));
    assert!(a != b && a != *world.switch());

    let listeners: Vec<TcpListener> =
        ["10.77.0.2:80", "[fd77::2]:80"].map(|door| in_ns(&b, || TcpListener::bind(door).unwrap()).unwrap()).into();
    for listener in &listeners {
        let door = listener.local_addr().unwrap();
        assert_eq!(in_ns(&a, || knock(door, LONG, Some(1), None)).unwrap(), Answer::Accepted, "{door}");
        assert_ne!(in_ns(world.switch(), || knock(door, LONG, None, None)).unwrap(), Answer::Accepted);
    }
    assert_eq!(listeners[0].accept().unwrap().1.ip(), prefix("10.77.0.1/24").address());
    let doors: Vec<SocketAddr> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    drop(listeners);
    for door in doors {
        assert_eq!(in_ns(&a, || knock(door, LONG, None, None)).unwrap(), Answer::Refused, "{door}");
    }
    link_local_needs_its_link(&a);

    Links::inside(&a).unwrap().add_route(prefix("10.78.0.0/16"), prefix("10.77.0.2/24").address()).unwrap();
    Links::inside(&a).unwrap().add_route(prefix("::/0"), prefix("fd77::2/64").address()).unwrap();
    let routes = in_ns(&a, || std::fs::read_to_string("/proc/thread-self/net/route").unwrap()).unwrap();
    assert!(routes.contains("eth0\t00004E0A\t02004D0A\t"), "{routes}");

    let mut child = waiting(die_with_parent(b.command(&mut Command::new("cat"))));
    assert_eq!(Ns::of(Pid::new(child.id()).unwrap()).unwrap(), b);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// A door on every address of a host is reached by its link-local address too, given the scope.
fn link_local_needs_its_link(host: &Ns) {
    in_ns(host, || {
        let listener = TcpListener::bind("[::]:90").unwrap();
        let own = own_addresses().unwrap();
        let targets = crate::probe::targets(listener.local_addr().unwrap(), &own);
        assert!(targets.iter().any(|target| matches!(target, SocketAddr::V6(v6) if v6.scope_id() > 0)), "{targets:?}");
        for target in targets.iter().filter(|target| matches!(target, SocketAddr::V6(v6) if v6.scope_id() == 0)) {
            assert_eq!(knock(*target, LONG, None, None), Answer::Accepted, "{target}");
        }
    })
    .unwrap();
}

/// A program that waits in a namespace, ended with the thread.
fn inhabit(ns: &Ns) -> Child {
    let mut command = Command::new("cat");
    waiting(ns.command(die_with_parent(&mut command)))
}

/// Which namespaces are seen behind this one, by their addresses.
fn behind_here() -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> =
        behind().unwrap().found.iter().map(|one| one.addresses.iter().map(ToString::to_string).collect()).collect();
    all.sort();
    all
}

/// A cable from here to a namespace, and its ends up, with an address each.
fn lay(name: &str, ns: &Ns, here: &[&str], there: &[&str]) -> u32 {
    let mut links = Links::open().unwrap();
    let cable = links.add_cable(name, ns, "eth0").unwrap();
    let mut inside = Links::inside(ns).unwrap();
    let eth0 = inside.index_of("eth0").unwrap();
    here.iter().for_each(|address| links.add_address(cable, prefix(address)).unwrap());
    there.iter().for_each(|address| inside.add_address(eth0, prefix(address)).unwrap());
    links.set_up(cable).unwrap();
    inside.set_up(eth0).unwrap();
    cable
}

#[test]
fn containers_are_found_by_their_cables() {
    if !may_make_namespaces() {
        return;
    }
    in_ns(&Ns::fresh().unwrap(), || {
        assert_eq!(behind_here(), Vec::<Vec<String>>::new());
        let ns = Ns::fresh().unwrap();
        let there = ["10.99.0.2/24", "fd00:99::2/64"];
        lay("one", &ns, &["10.99.0.1/24", "fd00:99::1/64"], &there);
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        assert_eq!(behind_here(), Vec::<Vec<String>>::new(), "nobody lives there");
        let mut one = inhabit(&ns);
        assert_eq!(behind_here(), [["10.99.0.2"]]);
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        assert_eq!(behind_here(), [["10.99.0.2", "fd00:99::2"]]);
        assert_eq!(behind().unwrap().found[0].ns, ns);

        // On a bridge, as container programs do it.
        let plugged = Ns::fresh().unwrap();
        let mut links = Links::open().unwrap();
        let bridge = links.add_bridge("bridge0").unwrap();
        links.add_address(bridge, prefix("10.98.0.1/24")).unwrap();
        links.set_up(bridge).unwrap();
        let cable = lay("two", &plugged, &[], &["10.98.0.2/24"]);
        links.plug(cable, bridge).unwrap();
        let mut two = inhabit(&plugged);
        assert_eq!(behind_here(), [vec!["10.98.0.2"], vec!["10.99.0.2", "fd00:99::2"]]);
        // A card in the bridge: the world comes in without us.
        crate::testnet::run(
            "ip link add card0 type dummy || ip link add card0 type ifb; ip link set card0 master bridge0",
        );
        assert_eq!(behind_here(), [["10.99.0.2", "fd00:99::2"]]);

        // Behind a router that is one of them: what comes there, comes by other ways too.
        Links::open().unwrap().add_route(prefix("10.97.0.0/24"), "10.99.0.2".parse().unwrap()).unwrap();
        let far = Ns::fresh().unwrap();
        in_ns(&ns, || lay("far", &far, &["10.97.0.1/24"], &["10.97.0.2/24"])).unwrap();
        let mut three = inhabit(&far);
        assert_eq!(behind_here(), [["10.99.0.2", "fd00:99::2"]]);
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        assert_eq!(behind_here(), [["fd00:99::2"]]);
        for child in [&mut one, &mut two, &mut three] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(behind_here(), Vec::<Vec<String>>::new());
    })
    .unwrap();
}
