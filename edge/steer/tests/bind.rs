//! BIND of Debian, a primary and a secondary, looked at from outside with `dig`.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Daemon, Folder, LIMIT, alone, eventually, journaled, look, run};
use ebb_steer::dns::{Dns, Kind, Named};
use ebb_steer::{Applied, Error, Standing, Steer, Wish};

const PROGRAMS: [&str; 3] = ["/usr/sbin/named", "/usr/bin/dig", "/usr/bin/nsupdate"];
const SECRET: &str = "bm90IGEgc2VjcmV0IGJ1dCBsb25nIGVub3VnaCBmb3IgYSBrZXk=";
const OTHER: &str = "YW5vdGhlciBvbmUgdGhhdCBubyBzZXJ2ZXIgb2YgdGhpcyB0ZXN0IGhhcw==";

const ZONE: &str = "$TTL 300
@ SOA ns1 root 1 3600 600 86400 60
@ NS ns1
@ NS ns2
ns1 A 10.77.0.1
ns2 A 10.77.0.2
pool 120 A 192.0.2.1
pool 120 A 192.0.2.2
pool AAAA 2001:db8::1
pool AAAA 2001:db8::2
m1 60 A 192.0.2.1
m2 60 A 192.0.2.2
_xmpp-client._tcp SRV 10 60 5222 m1
_xmpp-client._tcp SRV 10 40 5222 m2
alone A 192.0.2.1
other CNAME pool
";

struct Bind {
    folder: Folder,
    _primary: Daemon,
    secondary: Option<Daemon>,
}

fn key(name: &str, secret: &str) -> String {
    format!("key \"{name}\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n")
}

impl Bind {
    fn start(name: &str) -> Self {
        let folder = Folder::new(name);
        for (file, name, secret) in
            [("ebb", "ebb", SECRET), ("wrong", "ebb", OTHER), ("unknown", "nobody", OTHER), ("weak", "weak", SECRET)]
        {
            folder.write(&format!("{file}.key"), &key(name, secret));
        }
        folder.write("x.zone", ZONE);
        let primary = Self::named(
            &folder,
            1,
            "zone x.test { type primary; file \"FOLDER/x.zone\"; \
            update-policy { grant ebb zonesub A AAAA SRV; grant weak name m2.x.test A; }; };",
        );
        let secondary = Self::secondary(&folder);
        Self { folder, _primary: primary, secondary: Some(secondary) }
    }

    fn secondary(folder: &Folder) -> Daemon {
        Self::named(folder, 2, "zone x.test { type secondary; primaries { 10.77.0.1; }; file \"FOLDER/x.copy\"; };")
    }

    fn named(folder: &Folder, number: u8, zone: &str) -> Daemon {
        let config = format!(
            "options {{ directory \"FOLDER\"; listen-on {{ 10.77.0.{number}; }}; listen-on-v6 {{ none; }}; recursion no; \
             pid-file none; session-keyfile none; managed-keys-directory \"FOLDER\"; dnssec-validation no; \
             notify-delay 0; notify-source 10.77.0.{number}; transfer-source 10.77.0.{number}; \
             max-refresh-time 1; min-refresh-time 1; max-retry-time 1; min-retry-time 1; }};\n\
             controls {{ }};\ninclude \"FOLDER/ebb.key\";\ninclude \"FOLDER/weak.key\";\n{zone}\n"
        );
        let config = config.replace("FOLDER", folder.path("").trim_end_matches('/'));
        let config = folder.write(&format!("named{number}.conf"), &config);
        Daemon::start(&folder.path(&format!("log{number}")), &["/usr/sbin/named", "-g", "-c", &config])
    }

    fn steer(&self, key: &str, names: Vec<Named>) -> Steer {
        Steer::Dns(Dns {
            zone: "x.test".to_owned(),
            primary: "10.77.0.1".to_owned(),
            key: Some(self.folder.path(&format!("{key}.key")).into()),
            servers: Vec::new(),
            names,
        })
    }

    /// Changes something as somebody else would.
    fn edit(&self, lines: &str) {
        let script = self.folder.write("edit", &format!("server 10.77.0.1\nzone x.test\n{lines}\nsend\n"));
        let done = Command::new("nsupdate").args(["-k", &self.folder.path("ebb.key"), &script]).status().unwrap();
        assert!(done.success());
    }
}

fn named(name: &str, kind: Kind, member: &str) -> Named {
    Named { name: format!("{name}.x.test"), kind, member: member.to_owned(), instead: Vec::new(), behind: None }
}

fn pool() -> Named {
    named("pool", Kind::A, "192.0.2.1")
}

/// What a server answers: TTL and value of each record.
fn dig(server: u8, name: &str, kind: &str) -> Vec<String> {
    let mut command = Command::new("dig");
    command.args(["+noall", "+answer", "+norecurse", "+tries=1", "+time=2", &format!("@10.77.0.{server}")]);
    let output = command.args([&format!("{name}.x.test"), kind]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        format!("{} {}", words[1], words[4..].join(" "))
    };
    let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with(';')).map(words).collect();
    lines.sort();
    lines
}

const ALL: [(&str, &str); 4] = [("pool", "A"), ("pool", "AAAA"), ("m1", "A"), ("_xmpp-client._tcp", "SRV")];

/// Both servers, which must be of one mind.
fn everything() -> Vec<Vec<String>> {
    let [first, second] = [1, 2].map(|server| ALL.map(|(name, kind)| dig(server, name, kind)).to_vec());
    assert_eq!(first, second);
    first
}

fn done(answer: Result<Applied, Error>) -> bool {
    let applied = answer.unwrap();
    assert!(applied.everywhere(), "{applied:?}");
    assert_eq!(applied.places.len(), 2, "{applied:?}");
    applied.changed
}

#[test]
fn records_go_on_every_server_and_come_back_as_they_were() {
    alone(&PROGRAMS, || {
        let bind = Bind::start("dns");
        let steer = bind.steer(
            "ebb",
            vec![
                pool(),
                named("pool", Kind::Aaaa, "2001:db8::1"),
                Named { instead: vec!["192.0.2.2".to_owned()], ..named("m1", Kind::A, "192.0.2.1") },
                named("_xmpp-client._tcp", Kind::Srv, "M1.x.test"),
            ],
        );
        let seen = look(&steer);
        assert_eq!((seen.changes.len(), seen.last.as_ref(), seen.settles.as_secs()), (4, None, 300), "{seen:?}");
        let previous = journaled(&seen.previous);
        eventually("the secondary has the zone", || {
            (dig(2, "m1", "A").len() == 1).then_some(()).ok_or_else(String::new)
        });
        let before = everything();
        let applied = run(steer.apply(&previous, Wish::Away, LIMIT));
        assert_eq!(applied.as_ref().map(|applied| applied.settles.as_secs()), Ok(300));
        assert!(done(applied));
        let away = [["120 192.0.2.2"], ["300 2001:db8::2"], ["60 192.0.2.2"], ["300 10 40 5222 m2.x.test."]];
        assert_eq!(everything(), away);
        assert!(!done(run(steer.apply(&previous, Wish::Away, LIMIT))), "applied twice");
        assert!(look(&steer).changes.is_empty());
        assert!(run(steer.drift(&previous, Wish::Away, LIMIT)).unwrap().holds());
        // Somebody else adds a member, and puts ours back: theirs stays, ours is found.
        bind.edit("update add pool.x.test 120 A 192.0.2.3\nupdate add pool.x.test 120 A 192.0.2.1");
        let drift = run(steer.drift(&previous, Wish::Away, LIMIT)).unwrap();
        assert!(drift.lost.iter().any(|line| line.contains("pool.x.test A has 192.0.2")), "{drift:?}");
        assert!(done(run(steer.apply(&previous, Wish::Away, LIMIT))));
        assert_eq!(everything()[0], ["120 192.0.2.2", "120 192.0.2.3"]);
        bind.edit("update delete pool.x.test A 192.0.2.3");
        assert!(done(run(steer.undo(&previous, LIMIT))));
        assert_eq!(everything(), before);
        assert!(!done(run(steer.undo(&previous, LIMIT))), "undone twice");
    });
}

#[test]
fn srv_goes_behind_the_others_and_comes_back_by_weight() {
    alone(&PROGRAMS, || {
        let bind = Bind::start("srv");
        let srv = Named { behind: Some(90), ..named("_xmpp-client._tcp", Kind::Srv, "m1.x.test") };
        let steer = bind.steer("ebb", vec![srv]);
        let previous = journaled(&look(&steer).previous);
        let now = || dig(1, "_xmpp-client._tcp", "SRV");
        assert!(done(run(steer.apply(&previous, Wish::Away, LIMIT))));
        assert_eq!(now(), ["300 10 40 5222 m2.x.test.", "300 90 60 5222 m1.x.test."]);
        assert!(done(run(steer.apply(&previous, Wish::Share(10), LIMIT))));
        assert_eq!(now(), ["300 10 40 5222 m2.x.test.", "300 10 6 5222 m1.x.test."]);
        assert!(done(run(steer.undo(&previous, LIMIT))));
        assert_eq!(now(), ["300 10 40 5222 m2.x.test.", "300 10 60 5222 m1.x.test."]);
        let address = bind.steer("ebb", vec![pool()]);
        let previous = look(&address).previous;
        assert!(matches!(run(address.apply(&previous, Wish::Share(10), LIMIT)), Err(Error::Cannot { .. })));
    });
}

#[test]
fn the_last_record_is_never_taken_also_by_two_at_once() {
    alone(&PROGRAMS, || {
        let bind = Bind::start("last");
        let alone = bind.steer("ebb", vec![named("alone", Kind::A, "192.0.2.1")]);
        let seen = look(&alone);
        assert!(seen.last.is_some_and(|last| last.contains("alone.x.test")));
        let refused = run(alone.apply(&seen.previous, Wish::Away, LIMIT));
        assert!(matches!(&refused, Err(Error::Last { what, .. }) if what == "alone.x.test A"), "{refused:?}");
        assert_eq!(dig(1, "alone", "A").len(), 1);
        // The secondary is not what this is about.
        let on_primary = |member| {
            let Steer::Dns(dns) = bind.steer("ebb", vec![named("pool", Kind::A, member)]) else { unreachable!() };
            Steer::Dns(Dns { servers: vec!["10.77.0.1:53".to_owned()], ..dns })
        };
        let (one, two) = (on_primary("192.0.2.1"), on_primary("192.0.2.2"));
        let (first, second) = (look(&one).previous, look(&two).previous);
        let (mut won, mut raced) = (0, 0);
        for _ in 0..20 {
            let both = async {
                let limit = Duration::from_secs(20);
                let answers = (one.apply(&first, Wish::Away, limit), two.apply(&second, Wish::Away, limit));
                futures_util::future::join(answers.0, answers.1).await
            };
            let (a, b) = run(both);
            for answer in [&a, &b] {
                match answer {
                    Ok(_) => won += 1,
                    Err(Error::Changed { .. }) => raced += 1,
                    Err(Error::Last { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(a.is_err() || b.is_err(), "nobody is left");
            assert_eq!(dig(1, "pool", "A").len(), 1);
            for (steer, previous) in [(&one, &first), (&two, &second)] {
                run(steer.undo(previous, LIMIT)).unwrap();
            }
        }
        assert_eq!(won, 20, "{raced} were told that the other was quicker");
        assert!(raced > 0, "they never met");
    });
}

#[test]
fn a_refusal_says_what_to_do_and_never_the_secret() {
    alone(&PROGRAMS, || {
        let bind = Bind::start("no");
        let steer = bind.steer("ebb", vec![pool()]);
        let previous = look(&steer).previous;
        let refused = |steer: &Steer| {
            let looked = run(steer.look(LIMIT));
            let error = match looked {
                Ok(_) => run(steer.apply(&previous, Wish::Away, LIMIT)).unwrap_err(),
                Err(error) => error,
            };
            assert!(!error.to_string().contains(SECRET) && !error.to_string().contains(OTHER));
            error.to_string()
        };
        for (key, what) in [
            ("wrong", "the key ebb has another secret there (BADSIG); copy the key file anew"),
            ("unknown", "it does not know the key nobody (BADKEY)"),
            ("weak", "REFUSED; allow the key there: update-policy"),
            ("missing", "No such file"),
        ] {
            let said = refused(&bind.steer(key, vec![pool()]));
            assert!(said.contains(what), "{key}: {said}");
        }
        let Steer::Dns(dns) = &steer else { unreachable!() };
        let secondary = Steer::Dns(Dns { primary: "10.77.0.2:53".to_owned(), ..dns.clone() });
        eventually("the secondary has the zone", || {
            run(secondary.look(LIMIT)).map(drop).map_err(|error| error.to_string())
        });
        let said = refused(&secondary);
        assert!(said.contains("10.77.0.2:53") && (said.contains("primary") || said.contains("REFUSED")), "{said}");
        let zone = Dns { zone: "test".to_owned(), ..dns.clone() };
        assert!(refused(&Steer::Dns(zone)).contains("REFUSED"), "a zone that it does not have");
        let nobody = Dns { primary: "10.77.0.9".to_owned(), ..dns.clone() };
        assert!(refused(&Steer::Dns(nobody)).contains("10.77.0.9:53 is not reached"));
        let alias = bind.steer("ebb", vec![named("other", Kind::A, "192.0.2.1")]);
        assert!(refused(&alias).contains("another name for pool.x.test"), "a CNAME");
        let beside = Dns { names: vec![Named { name: "pool.y.test".to_owned(), ..pool() }], ..dns.clone() };
        assert!(matches!(Steer::Dns(beside).check(), Err(Error::Settings { .. })));
        assert_eq!(dig(1, "pool", "A").len(), 2, "nothing was changed");
    });
}

#[test]
fn a_server_that_is_down_is_told_apart_and_has_it_when_it_is_back() {
    alone(&PROGRAMS, || {
        let mut bind = Bind::start("down");
        let steer = bind.steer("ebb", vec![pool()]);
        let previous = look(&steer).previous;
        drop(bind.secondary.take());
        let applied = run(steer.apply(&previous, Wish::Away, Duration::from_secs(2))).unwrap();
        assert!(applied.changed && !applied.everywhere());
        let [first, second] = applied.places.as_slice() else { panic!("{applied:?}") };
        assert_eq!((first.at.as_str(), &first.standing), ("ns1.x.test (10.77.0.1:53)", &Standing::Current));
        assert!(matches!(&second.standing, Standing::Unknown(why) if why.contains("10.77.0.2:53 is not reached")));
        let drift = run(steer.drift(&previous, Wish::Away, LIMIT)).unwrap();
        assert_eq!((drift.holds(), drift.unknown.len()), (true, 1), "{drift:?}");
        bind.secondary = Some(Bind::secondary(&bind.folder));
        assert!(!done(run(steer.apply(&previous, Wish::Away, LIMIT))));
        assert_eq!(dig(2, "pool", "A"), ["120 192.0.2.2"]);
    });
}
