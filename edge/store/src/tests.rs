mod lifetimes;
mod notices;

use super::*;
use ebb_model::{
    Door, DrainRecord, DrainSpec, End, EventKind, Learn, Level, Mono, Proto, Reach, ServerHold, Span, Stopped, Then,
    Tree, Watcher, Who,
};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("ebb-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn hold(requester: &str) -> Hold {
    Hold {
        service: name("nginx"),
        requester: Requester::new(requester).unwrap(),
        level: Level::Stopped,
        reason: "kernel update \"6.1\"".into(),
        by: Who { uid: 1000, name: "ana".into() },
        since: Wall(1_700_000_000_000),
        until: Some(End { wall: Wall(1_700_000_360_000), boot_id: "b".into(), mono: Mono(5), reopen: true }),
        except: ["10.0.0.0/8", "fd00::/8"].iter().map(|range| range.parse().unwrap()).collect(),
        whole_server: false,
    }
}

fn record() -> Record {
    let tree = Tree { root: 7, started_ticks: 99, executable: "python3".into(), command: vec!["python3".into()] };
    let reaches = [
        Reach::Any4,
        Reach::Any6,
        Reach::Any,
        Reach::Addr("10.0.0.1".parse().unwrap()),
        Reach::Forward("fd00::1".parse().unwrap()),
    ];
    let protos = [Proto::Tcp, Proto::Udp, Proto::Quic];
    Record {
        service: name("nginx"),
        doors: reaches
            .iter()
            .flat_map(|reach| protos.iter().map(|proto| Door { proto: *proto, reach: *reach, port: 443 }))
            .collect(),
        added: [Door { proto: Proto::Tcp, reach: Reach::Any, port: 443 }].into(),
        aliases: ["httpd".to_owned()].into(),
        units: vec!["nginx.service".into()],
        sockets: vec!["nginx.socket".into()],
        trees: vec![tree.clone()],
        drain: Some(DrainRecord {
            requester: Requester::operator(),
            began: Wall(5),
            began_mono: Mono(6),
            boot_id: "b".into(),
            at_start: 12,
            leaks: 1,
            drained_at: Some(Wall(9)),
            watcher: Some(Watcher { pid: 3, started_ticks: 4 }),
            deadline: Some(Mono(9006)),
            spec: Some(DrainSpec {
                deadline: Some(Span(9000)),
                then: Then::Cut,
                queue: "move:mx2".parse().unwrap(),
                ..DrainSpec::default()
            }),
        }),
        stopped: vec![Stopped::Unit("nginx.service".into()), Stopped::Tree(tree)],
        own_probes: 4,
        refused_before: 17,
        neighbours: [("10.0.0.2".parse().unwrap(), 443)].into(),
        learn: Some(Learn {
            boot_id: "b".into(),
            span: Span(30_000),
            doors: [Door { proto: Proto::Udp, reach: Reach::Any, port: 443 }].into(),
        }),
    }
}

#[test]
fn what_was_placed_is_there_for_the_next_process() {
    let dir = Dir::new("place");
    let (hold, record) = (hold("operator"), record());
    Store::open(&dir.0).unwrap().place(&hold, &record).unwrap();
    let store = Store::open(&dir.0).unwrap();
    assert_eq!(store.holds().unwrap(), [hold]);
    assert_eq!(store.records().unwrap(), [record]);
}

/// As ebb wrote it before learning was ended by the kernel.
#[test]
fn a_record_of_an_older_ebb_is_read() {
    let old = r#"{"doors":[{"proto":"udp","reach":"any4","address":null,"port":5060}],"units":[],"sockets":[],"trees":[],
        "drain":{"requester":"operator","began_ms":5,"began_mono_ms":6,"boot_id":"b","at_start":0,"leaks":0,
        "drained_ms":null,"learn_until_mono_ms":30006,"watcher":null},"stopped":[],"refused_before":0}"#;
    let record = format::record_from("sipd", old).unwrap();
    assert_eq!((record.doors.len(), record.learn, record.drain.unwrap().began), (1, None, Wall(5)));
}

#[test]
fn the_record_goes_with_the_last_hold_only() {
    let dir = Dir::new("release");
    let mut store = Store::open(&dir.0).unwrap();
    store.place(&hold("operator"), &record()).unwrap();
    store.place(&hold("deploy"), &record()).unwrap();
    store.keep_baseline(&record(), &[SessionId(1), SessionId(u64::MAX)].into()).unwrap();
    assert!(store.release(&name("nginx"), &Requester::operator()).unwrap());
    assert!(!store.release(&name("nginx"), &Requester::operator()).unwrap());
    assert_eq!(store.records().unwrap().len(), 1);
    assert_eq!(store.baseline(&name("nginx")).unwrap().unwrap().len(), 2);
    assert!(store.release(&name("nginx"), &Requester::new("deploy").unwrap()).unwrap());
    assert_eq!((store.holds().unwrap().len(), store.records().unwrap().len()), (0, 0));
    assert_eq!(store.baseline(&name("nginx")).unwrap(), None);
    // A drain that learns of the release later leaves nothing behind.
    store.remember(&record()).unwrap();
    store.keep_baseline(&record(), &[SessionId(1)].into()).unwrap();
    assert_eq!((store.records().unwrap().len(), store.baseline(&name("nginx")).unwrap()), (0, None));
}

#[test]
fn history_is_read_back_in_order_and_by_service() {
    let dir = Dir::new("events");
    let mut store = Store::open(&dir.0).unwrap();
    for (at, service) in [(1, "a"), (2, "b"), (3, "a")] {
        let event = Event::new(Wall(at), EventKind::GateShut, &name(service), "shut").with("doors", 2);
        store.append(&event).unwrap();
    }
    let of_a = store.events(0, 10, Some(&name("a"))).unwrap();
    assert_eq!(of_a.iter().map(|(sequence, event)| (*sequence, event.at.0)).collect::<Vec<_>>(), [(1, 1), (3, 3)]);
    assert_eq!(store.events(0, 1, None).unwrap()[0].0, 3);
    assert_eq!(store.events(1, 10, None).unwrap().len(), 2);
    assert_eq!(of_a[0].1.fields[0].value, "2");
}

#[test]
fn a_store_of_a_newer_ebb_is_refused_and_left_alone() {
    let dir = Dir::new("newer");
    Store::open(&dir.0).unwrap().make().unwrap();
    let db = Connection::open(dir.0.join("ebb.db")).unwrap();
    db.pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    assert!(matches!(Store::open(&dir.0), Err(StoreError::Newer { .. })));
}

#[test]
fn who_only_looks_makes_nothing() {
    let dir = Dir::new("look");
    let mut looks = Store::open(&dir.0).unwrap();
    assert_eq!((looks.holds().unwrap().len(), looks.records().unwrap().len()), (0, 0));
    assert!(looks.is_writable());
    looks.remember(&record()).unwrap();
    looks.keep_baseline(&record(), &[SessionId(1)].into()).unwrap();
    assert!(!looks.release(&name("nginx"), &Requester::operator()).unwrap());
    looks.catch_up().unwrap();
    assert!(!dir.0.exists(), "nothing was there to be written");
    // What another one writes is seen.
    Store::open(&dir.0).unwrap().place(&hold("operator"), &record()).unwrap();
    assert!(looks.holds().is_err(), "not as if there were none");
    looks.catch_up().unwrap();
    assert_eq!(looks.holds().unwrap().len(), 1);
    assert!(looks.release(&name("nginx"), &Requester::operator()).unwrap());
}

#[test]
fn two_that_make_it_make_one() {
    let dir = Dir::new("two");
    let (mut one, mut two) = (Store::open(&dir.0).unwrap(), Store::open(&dir.0).unwrap());
    one.place(&hold("operator"), &record()).unwrap();
    two.place(&hold("deploy"), &record()).unwrap();
    assert_eq!((one.holds().unwrap().len(), two.holds().unwrap().len()), (2, 2));
}

#[test]
fn a_place_where_no_store_can_be_is_an_error_not_an_empty_store() {
    let mut store = Store::open(Path::new("/proc/no-such-place")).unwrap();
    assert!(matches!(store.place(&hold("operator"), &record()), Err(StoreError::Directory { .. })));
    assert!(matches!(Store::open(Path::new("/proc/self/status/ebb")), Err(StoreError::Hidden { .. })));
}

#[test]
fn a_file_that_is_no_store_is_an_error_not_an_empty_one() {
    let dir = Dir::new("garbage");
    std::fs::create_dir_all(&dir.0).unwrap();
    std::fs::write(dir.0.join("ebb.db"), vec![b'x'; 4096]).unwrap();
    assert!(Store::open(&dir.0).is_err());
}

#[test]
fn a_store_that_is_lost_is_made_again_from_its_copy() {
    let dir = Dir::new("lost");
    Store::open(&dir.0).unwrap().place(&hold("operator"), &record()).unwrap();
    let whole = (vec![hold("operator")], vec![record()]);
    for lose in [|path: &Path| std::fs::remove_file(path).unwrap(), |path: &Path| std::fs::write(path, "").unwrap()] {
        lose(&dir.0.join("ebb.db"));
        let mut store = Store::open(&dir.0).unwrap();
        assert_eq!((store.holds().unwrap(), store.records().unwrap()), whole);
        store.make().unwrap();
        let again = Store::open_to_read(&dir.0).unwrap();
        assert_eq!((again.holds().unwrap(), again.records().unwrap()), whole);
    }
    assert_eq!(copy(&dir.0).unwrap(), whole);
    Store::open(&dir.0).unwrap().release(&name("nginx"), &Requester::operator()).unwrap();
    std::fs::remove_file(dir.0.join("ebb.db")).unwrap();
    assert_eq!(Store::open(&dir.0).unwrap().holds().unwrap(), [], "what was released is not held again");
}

fn server_hold(requester: &str, covers: &[&str]) -> ServerHold {
    let one = hold(requester);
    ServerHold {
        requester: one.requester,
        level: one.level,
        reason: one.reason,
        by: one.by,
        since: one.since,
        until: one.until,
        except: one.except,
        covers: covers.iter().map(|service| name(service)).collect(),
        leaves_open: ["ssh".to_owned(), "prometheus-*".to_owned()].into(),
    }
}

#[test]
fn a_hold_on_the_server_holds_each_of_its_services_until_the_last_goes() {
    let dir = Dir::new("server");
    let mut store = Store::open(&dir.0).unwrap();
    let other = Record { service: name("chat"), ..record() };
    let server = server_hold("maintenance", &["nginx", "chat"]);
    store.place_server(&server, &[record(), other.clone()]).unwrap();
    store.place(&hold("operator"), &record()).unwrap();
    drop(store);
    let mut store = Store::open(&dir.0).unwrap();
    assert_eq!(store.server_holds().unwrap(), std::slice::from_ref(&server));
    let wanted = vec![hold("operator"), server.on(&name("chat")), server.on(&name("nginx"))];
    assert_eq!(store.holds().unwrap(), wanted);
    assert_eq!(copy(&dir.0).unwrap(), (wanted, vec![other, record()]));
    // A hold of the server's own requester is another one.
    store.place(&hold("maintenance"), &record()).unwrap();
    assert!(store.release(&name("nginx"), &server.requester).unwrap());
    assert_eq!(store.holds().unwrap().len(), 3);
    // One service fewer: what is remembered of it goes.
    let fewer = ServerHold { covers: [name("nginx")].into(), ..server.clone() };
    store.place_server(&fewer, &[]).unwrap();
    assert_eq!(store.records().unwrap(), [record()]);
    store.remember(&Record { service: name("chat"), ..record() }).unwrap();
    assert_eq!(store.records().unwrap().len(), 1, "nobody holds it");
    assert!(store.release_server(&server.requester).unwrap());
    assert!(!store.release_server(&server.requester).unwrap());
    assert_eq!((store.holds().unwrap(), store.records().unwrap()), (vec![hold("operator")], vec![record()]));
}

#[test]
fn a_lost_store_has_its_holds_on_the_server_again() {
    let dir = Dir::new("server-lost");
    let server = server_hold("maintenance", &["nginx"]);
    Store::open(&dir.0).unwrap().place_server(&server, &[record()]).unwrap();
    std::fs::remove_file(dir.0.join("ebb.db")).unwrap();
    assert_eq!(Store::open(&dir.0).unwrap().server_holds().unwrap(), [server]);
}

#[test]
fn a_store_of_the_first_schema_is_read_as_it_is_and_upgraded_by_who_writes() {
    let dir = Dir::new("first-schema");
    std::fs::create_dir_all(&dir.0).unwrap();
    let path = dir.0.join("ebb.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE holds (service TEXT NOT NULL, requester TEXT NOT NULL, record TEXT NOT NULL, \
         PRIMARY KEY (service, requester)) STRICT;
         CREATE TABLE records (service TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
         CREATE TABLE baselines (service TEXT PRIMARY KEY, ids BLOB NOT NULL) STRICT;
         CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, number INTEGER NOT NULL,
           service TEXT, text TEXT NOT NULL, fields TEXT NOT NULL) STRICT;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    old.execute("INSERT INTO holds VALUES ('nginx', 'operator', ?1)", params![format::hold_to(&hold("operator"))])
        .unwrap();
    drop(old);
    assert_eq!(Store::open_to_read(&dir.0).unwrap().holds().unwrap(), [hold("operator")]);
    // A copy beside it is older, or of nobody: what is there counts.
    std::fs::write(dir.0.join("held.json"), r#"{"holds":[["chat","deploy","{}"]],"records":[]}"#).unwrap();
    let mut store = Store::open(&dir.0).unwrap();
    assert_eq!(store.holds().unwrap(), [hold("operator")]);
    store.place_server(&server_hold("maintenance", &["nginx"]), &[record()]).unwrap();
    assert_eq!(store.holds().unwrap().len(), 2);
}

#[test]
fn runs_and_their_journals_are_read_back_whole() {
    use ebb_model::{Entry, Line, MaintenancePlan, Step, Work};
    let dir = Dir::new("runs");
    let mut store = Store::open(&dir.0).unwrap();
    assert_eq!(store.run(None).unwrap(), None);
    let plan = MaintenancePlan {
        requester: Requester::new("maintenance").unwrap(),
        reason: "kernel".into(),
        by: Who { uid: 1000, name: "ana".into() },
        layers: vec![vec![name("nginx"), name("chat")], vec![name("db")]],
        not: vec![name("mail")],
        meant_for: Some(Span(7_200_000)),
        reopen: true,
        except: ["10.0.0.0/8".parse().unwrap()].into(),
        delay: Span(900_000),
        deadline: Some(Span(60_000)),
        then: Then::End,
        work: Work::Command(vec!["apt-get".into(), "upgrade".into()]),
        drill: true,
        watch: Span(300_000),
        override_guards: Some("known".into()),
    };
    let line = |entry| Line { at: Wall(7), boot_id: "b".into(), entry, text: "by ana".into() };
    let number = store.begin_run(&plan, &line(Entry::StartAsked)).unwrap();
    let entries = [
        Entry::Began(Step::Drain(1)),
        Entry::Done(Step::Drain(1)),
        Entry::Failed(Step::Work),
        Entry::FinishAsked { accept_worse: Some("fine".into()) },
        Entry::FinishAsked { accept_worse: None },
        Entry::Over,
    ];
    for entry in entries.clone() {
        store.add_line(number, &line(entry)).unwrap();
    }
    let read = Store::open_to_read(&dir.0).unwrap().run(None).unwrap().unwrap();
    assert_eq!((read.number, &read.plan), (1, &plan));
    let journal: Vec<_> = [Entry::StartAsked].into_iter().chain(entries).map(line).collect();
    assert_eq!(read.journal, journal);
    assert!(read.is_over());
    for work in [Work::ByHand, Work::Reboot] {
        let next = MaintenancePlan { work, ..plan.clone() };
        let number = store.begin_run(&next, &line(Entry::StartAsked)).unwrap();
        assert_eq!(store.run(Some(number)).unwrap().unwrap().plan, next);
        assert_eq!(store.run(None).unwrap().unwrap().number, number);
    }
    assert_eq!(store.run(Some(1)).unwrap().unwrap().plan, plan);
    assert_eq!(store.run(Some(9)).unwrap(), None);
}

fn checks() -> ebb_model::Checks {
    use ebb_model::{Guard, Measured, Unit, Verdict};
    let measured = |unit| Some(Measured { value: 2.5, unit });
    let guard = |number: usize, verdict, measured| Guard {
        name: format!("guard-{number}"),
        verdict,
        why: "disk \"full\"".into(),
        measured,
        amiss: ["a.service".to_owned()].into(),
        of_beginning: number == 0,
    };
    let mut guards: Vec<Guard> =
        Unit::ALL.into_iter().enumerate().map(|(number, unit)| guard(number, Verdict::Warn, measured(unit))).collect();
    guards.extend(Verdict::ALL.into_iter().enumerate().map(|(number, verdict)| guard(10 + number, verdict, None)));
    ebb_model::Checks { at: Wall(1_700_000_000_000), guards }
}

#[test]
fn a_list_of_checks_is_kept_replaced_and_forgotten() {
    let dir = Dir::new("checks");
    let mut store = Store::open(&dir.0).unwrap();
    assert_eq!(store.checks("before").unwrap(), None);
    store.forget_checks("before").unwrap();
    assert!(!dir.0.exists(), "nothing was there to be written");
    store.keep_checks("before", &checks()).unwrap();
    assert_eq!(Store::open(&dir.0).unwrap().checks("before").unwrap(), Some(checks()));
    assert_eq!(store.checks("other").unwrap(), None);
    let less = ebb_model::Checks { at: Wall(5), guards: vec![] };
    store.keep_checks("before", &less).unwrap();
    assert_eq!(store.checks("before").unwrap(), Some(less));
    store.forget_checks("before").unwrap();
    assert_eq!(store.checks("before").unwrap(), None);
    store.db.execute("INSERT INTO checks VALUES ('before', '{}')", []).unwrap();
    assert!(matches!(store.checks("before"), Err(StoreError::Corrupt { .. })), "not as if there were none");
}

/// The tables as schema 1 had them.
const TABLES_1: &str = "
CREATE TABLE holds (
  service TEXT NOT NULL, requester TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (service, requester)
) STRICT;
CREATE TABLE records (service TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE baselines (service TEXT PRIMARY KEY, ids BLOB NOT NULL) STRICT;
CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, number INTEGER NOT NULL,
  service TEXT, text TEXT NOT NULL, fields TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_service ON events (service, sequence);
PRAGMA user_version = 1;
";

#[test]
fn a_store_of_the_version_before_is_brought_up_and_loses_nothing() {
    let dir = Dir::new("upgrade");
    std::fs::create_dir_all(&dir.0).unwrap();
    let path = dir.0.join("ebb.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(TABLES_1).unwrap();
    for requester in ["operator", "deploy"] {
        db.execute("INSERT INTO holds VALUES ('nginx', ?1, ?2)", params![requester, format::hold_to(&hold(requester))])
            .unwrap();
    }
    put_record(&db, &record()).unwrap();
    drop(db);
    // A copy from before the second hold was placed, and of one that was released since: it brings nothing back.
    std::fs::write(dir.0.join("held.json"), br#"{"holds":[["gone","operator","{}"]],"records":[]}"#).unwrap();
    // Who may only read it sees the holds, and no checks.
    let reader = Store::open_to_read(&dir.0).unwrap();
    assert_eq!((reader.holds().unwrap().len(), reader.checks("before").unwrap()), (2, None));
    drop(reader);
    let mut store = Store::open(&dir.0).unwrap();
    assert_eq!(store.holds().unwrap(), [hold("deploy"), hold("operator")]);
    assert_eq!(store.records().unwrap(), [record()]);
    assert_eq!(version(&store.db, &path).unwrap(), SCHEMA);
    store.keep_checks("before", &checks()).unwrap();
    assert_eq!(Store::open(&dir.0).unwrap().checks("before").unwrap(), Some(checks()));
}
