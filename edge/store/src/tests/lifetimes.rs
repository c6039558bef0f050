use super::*;
use crate::KeptLifetimes;
use ebb_model::{Followed, Following, Lifetimes};

fn kept(service: &str) -> KeptLifetimes {
    let mut lifetimes = Lifetimes::new(Wall(5));
    lifetimes.lived(Span(250), Span(3_000_000));
    lifetimes.ended(Span(3_000_000));
    lifetimes.censored(Span(12_500));
    lifetimes.looked(167, Span(60_000), 12.0, 3.0);
    let sessions = vec![
        Followed { id: SessionId(7), began: Mono(u64::MAX) },
        Followed { id: SessionId(u64::MAX), began: Mono(0) },
    ];
    KeptLifetimes { service: name(service), lifetimes, following: Following { boot_id: "b".into(), sessions } }
}

/// Sums are kept to a thousandth.
fn is_near(one: &Lifetimes, other: &Lifetimes) -> bool {
    let near = |(one, other): (f64, f64)| (one - other).abs() < 0.001;
    one.faded == other.faded
        && one.ages.iter().zip(&other.ages).all(|(one, other)| {
            [(one.ended, other.ended), (one.censored, other.censored), (one.watched, other.watched)]
                .into_iter()
                .all(near)
        })
        && one.hours == other.hours
}

#[test]
fn lifetimes_are_there_for_the_next_process() {
    let dir = Dir::new("lifetimes");
    let one = kept("nginx");
    Store::open(&dir.0).unwrap().keep_lifetimes(&[one.clone(), kept("sshd")], Wall(9)).unwrap();
    let store = Store::open(&dir.0).unwrap();
    let found = store.lifetimes(&name("nginx")).unwrap().unwrap();
    assert!(is_near(&found.lifetimes, &one.lifetimes), "{found:?}");
    assert_eq!(found.following, one.following);
    assert_eq!(store.lifetimes(&name("apache2")).unwrap(), None);
}

#[test]
fn services_not_seen_for_90_days_are_forgotten_and_the_number_is_bounded() {
    let dir = Dir::new("lifetimes-old");
    let mut store = Store::open(&dir.0).unwrap();
    let day = |days: i64| Wall(days * 86_400_000);
    store.keep_lifetimes(&[kept("old"), kept("seen")], day(1)).unwrap();
    store.keep_lifetimes(&[kept("seen")], day(91)).unwrap();
    assert!(store.lifetimes(&name("old")).unwrap().is_some(), "90 days are not over 90 days");
    store.keep_lifetimes(&[kept("seen")], day(92)).unwrap();
    assert!(store.lifetimes(&name("old")).unwrap().is_none());
    let many: Vec<_> = (0..1005).map(|number| kept(&format!("s{number}"))).collect();
    store.keep_lifetimes(&many, day(93)).unwrap();
    let rows: i64 = store.db.query_row("SELECT count(*) FROM lifetimes", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1000);
    assert!(store.lifetimes(&name("seen")).unwrap().is_none(), "seen longest ago");
}

#[test]
fn lifetimes_that_make_no_sense_are_an_error_and_can_be_written_anew() {
    let dir = Dir::new("lifetimes-bad");
    let mut store = Store::open(&dir.0).unwrap();
    store.keep_lifetimes(&[kept("nginx")], Wall(9)).unwrap();
    for bad in ["{", r#"{"faded_ms":1,"ages":[],"hours":[]}"#] {
        store.db.execute("UPDATE lifetimes SET record = ?1", [bad]).unwrap();
        assert!(matches!(store.lifetimes(&name("nginx")), Err(StoreError::Corrupt { what: "lifetimes", .. })), "{bad}");
    }
    let negative = well().replace("\"hours\":[[0.0", "\"hours\":[[-1.0");
    store.db.execute("UPDATE lifetimes SET record = ?1", [negative]).unwrap();
    assert!(store.lifetimes(&name("nginx")).is_err());
    store.keep_lifetimes(&[kept("nginx")], Wall(10)).unwrap();
    assert!(store.lifetimes(&name("nginx")).unwrap().is_some());
}

/// As it is written, of a service that is well.
fn well() -> String {
    let dir = Dir::new("lifetimes-well");
    let mut store = Store::open(&dir.0).unwrap();
    store.keep_lifetimes(&[kept("nginx")], Wall(9)).unwrap();
    store.db.query_row("SELECT record FROM lifetimes", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_store_of_an_older_ebb_has_none_and_takes_them() {
    let dir = Dir::new("lifetimes-older");
    std::fs::create_dir_all(&dir.0).unwrap();
    let db = Connection::open(dir.0.join("ebb.db")).unwrap();
    make_tables(&db).unwrap();
    db.execute_batch("DROP TABLE lifetimes; PRAGMA user_version = 2;").unwrap();
    assert_eq!(Store::open_to_read(&dir.0).unwrap().lifetimes(&name("nginx")).unwrap(), None);
    let mut store = Store::open(&dir.0).unwrap();
    store.keep_lifetimes(&[kept("nginx")], Wall(9)).unwrap();
    assert_eq!(version(&store.db, &dir.0.join("ebb.db")).unwrap(), SCHEMA);
}
