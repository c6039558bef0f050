//! HAProxy of Debian, twice, before three servers, with clients connected all the time.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Daemon, Folder, LIMIT, alone, eventually, journaled, look, run};
use ebb_steer::haproxy::{Haproxy, State};
use ebb_steer::{Error, Previous, Steer, Wish, apply_all, drift_all, look_all};

const PROGRAMS: [&str; 1] = ["/usr/sbin/haproxy"];
const CLIENTS: usize = 40;
const CONFIG: &str = "
global
    stats socket FOLDER/NAME.sock mode 600 level admin expose-fd listeners
    stats socket FOLDER/NAME-looks.sock mode 600 level operator
    stats socket ipv4@127.0.0.1:990NUMBER level admin
    server-state-file FOLDER/states
    maxconn 500
    nbthread 1
defaults
    mode tcp
    timeout connect 3s
    timeout client 1h
    timeout server 1h
    load-server-state-from-file global
frontend fe
    bind 127.0.0.1:700NUMBER
    default_backend be
backend be
    balance roundrobin
    server s1 127.0.0.1:7101 weight 100
    server s2 127.0.0.1:7102 weight 100
    server s3 127.0.0.1:7103 weight 100
backend fixed
    mode http
    balance static-rr
    cookie S insert indirect
    server f1 127.0.0.1:7101 cookie one weight 10
    server f2 127.0.0.1:7102 cookie two weight 10
";

struct Balancer {
    folder: Folder,
    number: u8,
    daemon: Daemon,
}

impl Balancer {
    fn start(name: &str, number: u8) -> Self {
        let folder = Folder::new(&format!("{name}{number}"));
        let config = CONFIG.replace("FOLDER/", &folder.path("")).replace("NAME", "h");
        let config = folder.write("haproxy.cfg", &config.replace("NUMBER", &number.to_string()));
        let log = folder.path("log");
        let daemon = Daemon::start(&log, &["/usr/sbin/haproxy", "-W", "-f", &config]);
        let balancer = Self { folder, number, daemon };
        // Its unix sockets have their names a moment later than its doors are open.
        eventually("HAProxy listens", || {
            let sockets = ["h.sock", "h-looks.sock"].map(|name| UnixStream::connect(balancer.folder.path(name)));
            let sockets: Result<Vec<_>, _> = sockets.into_iter().collect();
            sockets.and_then(|_| balancer.connect()).map(drop).map_err(|error| error.to_string())
        });
        balancer
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", 7000 + u16::from(self.number)))
    }

    fn steer(&self, at: &str, backend: &str, server: &str) -> Steer {
        let at = if at == "tcp" { format!("127.0.0.1:990{}", self.number) } else { self.folder.path(at) };
        Steer::Haproxy(Haproxy { at, backend: backend.to_owned(), server: server.to_owned() })
    }

    /// Says something as an operator would.
    fn say(&self, words: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.path("h.sock")).unwrap();
        writeln!(stream, "{words}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The master begins a new worker; the old one keeps its sessions.
    fn reload(&self) {
        let of = |parent: &str, name: &str| {
            let output = Command::new("pgrep").args(["-x", "-P", parent, name]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let master = of(&of(&self.daemon.0.id().to_string(), "sh"), "haproxy");
        assert!(Command::new("kill").args(["-USR2", &master]).status().unwrap().success());
    }
}

/// Servers that say who they are, and repeat what they are told.
fn serve() {
    for number in 1..=3_u16 {
        let listener = TcpListener::bind(("127.0.0.1", 7100 + number)).unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut line = String::new();
                    let mut lines = BufReader::new(client.try_clone().unwrap());
                    let mut alive = writeln!(client, "s{number}").is_ok();
                    while alive && lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                        alive = client.write_all(line.as_bytes()).is_ok();
                        line.clear();
                    }
                });
            }
        });
    }
}

/// A client, and the server to which it came.
struct Client {
    stream: BufReader<TcpStream>,
    server: String,
}

impl Client {
    fn new(balancer: &Balancer) -> Self {
        let stream = balancer.connect().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut client = Self { stream: BufReader::new(stream), server: String::new() };
        client.server = client.read();
        client
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "a connection to {} was cut", self.server);
        line.trim().to_owned()
    }

    /// Whether it is still there: what it says comes back.
    fn speak(&mut self) {
        writeln!(self.stream.get_mut(), "hello").unwrap();
        assert_eq!(self.read(), "hello");
    }
}

fn newcomers(balancer: &Balancer, server: &str) -> usize {
    (0..CLIENTS).filter(|_| Client::new(balancer).server == server).count()
}

fn pairs(steers: &[Steer], previous: &[Previous]) -> Vec<(Steer, Previous)> {
    steers.iter().cloned().zip(previous.iter().cloned()).collect()
}

#[test]
fn newcomers_go_elsewhere_nobody_is_cut_and_a_reload_is_found() {
    alone(&PROGRAMS, || {
        serve();
        let balancers = [Balancer::start("h", 1), Balancer::start("h", 2)];
        // A weight that the configuration does not have.
        assert_eq!(balancers[0].say("set weight be/s2 60").trim(), "");
        let steers = [balancers[0].steer("h.sock", "be", "s2"), balancers[1].steer("tcp", "be", "s2")];
        let mut clients: Vec<_> = balancers.iter().flat_map(|one| (0..CLIENTS).map(|_| Client::new(one))).collect();
        let looks: Vec<_> = run(look_all(&steers, LIMIT)).into_iter().map(Result::unwrap).collect();
        let on_s2 = clients.iter().filter(|client| client.server == "s2").count() as u64;
        assert_eq!(looks.iter().map(|look| look.sessions.unwrap()).sum::<u64>(), on_s2);
        assert!(looks.iter().all(|look| look.changes.len() == 1 && look.last.is_none()), "{looks:?}");
        let previous: Vec<_> = looks.iter().map(|look| journaled(&look.previous)).collect();
        let told = pairs(&steers, &previous);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // Those who are connected speak all the time, and others come all the time.
            let speaking = scope.spawn(|| {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) || rounds < 3 {
                    clients.iter_mut().for_each(Client::speak);
                    let _ = newcomers(&balancers[rounds % 2], "s2");
                    rounds += 1;
                }
                rounds
            });
            let away = || {
                let applied = run(apply_all(&told, Wish::Away, LIMIT));
                let changed: Vec<_> = applied.into_iter().map(|one| one.unwrap().changed).collect();
                assert_eq!(balancers.each_ref().map(|one| newcomers(one, "s2")), [0, 0]);
                changed
            };
            assert_eq!(away(), [true, true]);
            assert_eq!(away(), [false, false], "applied twice");
            assert!(run(drift_all(&told, Wish::Away, LIMIT)).into_iter().all(|drift| drift.unwrap().holds()));
            // The first is reloaded, and has forgotten all; the second has not.
            balancers[0].reload();
            let lost = eventually("the drift", || {
                let mut drifts = run(drift_all(&told, Wish::Away, LIMIT)).into_iter();
                let (first, second) = (drifts.next().unwrap(), drifts.next().unwrap());
                assert!(second.unwrap().holds());
                let first = first.map_err(|error| error.to_string())?;
                first.lost.first().cloned().ok_or_else(|| "it holds".to_owned())
            });
            let says = "be/s2 is ready with weight 100, and HAProxy was reloaded or started again";
            assert!(lost.ends_with(says), "{lost}");
            assert_eq!(away(), [true, false], "asserted again");
            stop.store(true, Ordering::Relaxed);
            assert!(speaking.join().unwrap() >= 3);
        });
        // A slow start, and then what was: not what the configuration says.
        let weight = |one: &Balancer| one.say("get weight be/s2").trim().to_owned();
        run(apply_all(&told, Wish::Share(10), LIMIT)).into_iter().for_each(|one| drop(one.unwrap()));
        assert_eq!(balancers.each_ref().map(weight), ["6 (initial 100)", "10 (initial 100)"]);
        assert!(newcomers(&balancers[0], "s2") > 0 && newcomers(&balancers[1], "s2") > 0);
        assert!(run(drift_all(&told, Wish::Share(10), LIMIT)).into_iter().all(|drift| drift.unwrap().holds()));
        for (one, changed) in [(0, true), (0, false), (1, true), (1, false)] {
            assert_eq!(run(steers[one].undo(&previous[one], LIMIT)).unwrap().changed, changed);
        }
        assert_eq!(balancers.each_ref().map(weight), ["60 (initial 100)", "100 (initial 100)"]);
        clients.iter_mut().for_each(Client::speak);
    });
}

#[test]
fn the_last_one_is_told_and_what_somebody_else_holds_stays() {
    alone(&PROGRAMS, || {
        serve();
        let one = Balancer::start("hl", 3);
        let s2 = one.steer("h.sock", "be", "s2");
        one.say("set server be/s1 state maint");
        one.say("set weight be/s3 0");
        let seen = look(&s2);
        assert!(seen.last.is_some_and(|last| last.contains("be/s2 is the last usable server")));
        one.say("set weight be/s3 100");
        assert_eq!(look(&s2).last, None);
        // In maintenance by somebody else: it is away already, and is not brought back by us.
        let s1 = one.steer("h.sock", "be", "s1");
        let seen = look(&s1);
        assert!(
            seen.changes.is_empty() && matches!(&seen.previous, Previous::Haproxy(was) if was.state == State::Maint)
        );
        let changed = |steer: &Steer, wish| run(steer.apply(&seen.previous, wish, LIMIT)).map(|one| one.changed);
        assert_eq!((changed(&s1, Wish::Away), changed(&s1, Wish::Back)), (Ok(false), Ok(false)));
        let previous = look(&s2).previous;
        assert!(run(s2.apply(&previous, Wish::Away, LIMIT)).unwrap().changed);
        one.say("set server be/s2 state maint");
        assert!(run(s2.drift(&previous, Wish::Away, LIMIT)).unwrap().holds());
        assert!(matches!(run(s2.undo(&previous, LIMIT)), Err(Error::Changed { .. })));
        one.say("set server be/s2 state drain");
        assert!(run(s2.undo(&previous, LIMIT)).unwrap().changed);
        // A reload that reads the states as they were written before it.
        let keeps = one.steer("h.sock", "be", "s3");
        let previous = look(&keeps).previous;
        assert!(run(keeps.apply(&previous, Wish::Away, LIMIT)).unwrap().changed);
        one.folder.write("states", &one.say("show servers state"));
        one.reload();
        eventually("another worker", || {
            let Previous::Haproxy(now) = look(&keeps).previous else { unreachable!() };
            let Previous::Haproxy(was) = &previous else { unreachable!() };
            (now.worker != was.worker).then_some(()).ok_or_else(|| "the old one answers".to_owned())
        });
        assert!(run(keeps.drift(&previous, Wish::Away, LIMIT)).unwrap().holds());
        assert!(run(keeps.undo(&previous, LIMIT)).unwrap().changed);
        // A record of another server.
        assert!(matches!(run(s1.undo(&previous, LIMIT)), Err(Error::Settings { .. })));
    });
}

#[test]
fn a_refusal_says_what_to_do() {
    alone(&PROGRAMS, || {
        let one = Balancer::start("hr", 4);
        let said = |at: &str, backend: &str, server: &str, what: &str| {
            let error = run(one.steer(at, backend, server).look(LIMIT)).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        said("h-looks.sock", "be", "s1", "the socket needs `level admin`");
        said("h.sock", "nope", "s1", "has no backend nope");
        said("h.sock", "be", "s9", "has no server be/s9");
        said("none.sock", "be", "s1", "is not reached");
        said("h.sock", "be;shutdown sessions server be/s1", "s1", "make a name");
        // A backend whose weights are fixed, and clients that stick.
        let fixed = one.steer("h.sock", "fixed", "f1");
        let seen = look(&fixed);
        assert_eq!(seen.notes, ["clients that have the cookie one still come to fixed/f1"]);
        assert!(run(fixed.apply(&seen.previous, Wish::Away, LIMIT)).unwrap().changed);
        let error = run(fixed.apply(&seen.previous, Wish::Share(50), LIMIT)).unwrap_err().to_string();
        assert!(error.contains("leave out the slow start"), "{error}");
        assert!(run(fixed.undo(&seen.previous, LIMIT)).unwrap().changed);
    });
}
