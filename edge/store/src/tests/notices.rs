use ebb_model::{About, Matter, Notice, NoticeService, Occasion, Queued, Sending};

use super::*;

fn notice(key: &str) -> Notice {
    let about = About {
        matter: Matter::Maintenance,
        server: "web1".into(),
        services: vec![NoticeService { name: name("nginx"), sessions: Some(3) }],
        reason: "new \"kernel\"".into(),
        requester: "maintenance".into(),
        by: "ana".into(),
        at: Wall(7),
        until: Some(Wall(9)),
        trouble: Some("t".into()),
    };
    Notice { occasion: Occasion::Trouble, key: key.into(), about, users: vec!["bo@example.org".into()] }
}

fn to(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(name, recipient)| ((*name).into(), (*recipient).into())).collect()
}

const LATEST: Span = Span::seconds(600);

fn take(store: &mut Store, now: i64) -> Option<Queued> {
    store.take_notice(Wall(now), &BTreeSet::new(), |_| Wall(now + 5000), LATEST).unwrap()
}

#[test]
fn a_notice_is_queued_once_for_each_and_taken_by_one() {
    let dir = Dir::new("notices");
    let mut store = Store::open(&dir.0).unwrap();
    assert_eq!((store.notices().unwrap(), store.next_notice().unwrap()), (Vec::new(), None));
    let all = to(&[("mail", "ana@example.org"), ("mail", "bo@example.org"), ("chat", "")]);
    assert_eq!(store.queue_notice(&notice("maintenance/1/start"), &all, Wall(10)).unwrap(), 3);
    assert_eq!(store.queue_notice(&notice("maintenance/1/start"), &all, Wall(11)).unwrap(), 0, "it is the same");
    let kept = store.notices().unwrap();
    assert_eq!((kept.len(), &kept[0].notice), (3, &notice("maintenance/1/start")));
    // Another process, at the same time.
    let mut other = Store::open(&dir.0).unwrap();
    let taken: Vec<_> = [take(&mut store, 20), take(&mut other, 20), take(&mut store, 20), take(&mut other, 20)]
        .into_iter()
        .flatten()
        .map(|one| (one.notifier, one.recipient, one.attempts))
        .collect();
    let mut expected: Vec<_> = all.iter().map(|(name, recipient)| (name.clone(), recipient.clone(), 1)).collect();
    expected.sort();
    assert_eq!(
        {
            let mut taken = taken;
            taken.sort();
            taken
        },
        expected
    );
    let busy = BTreeSet::from(["mail".to_owned()]);
    let free = other.take_notice(Wall(5020), &busy, |_| Wall(5020), LATEST).unwrap().unwrap();
    assert_eq!(free.notifier, "chat", "who is busy is not asked for more");
    // Whoever took them was killed: they are due again, and not before.
    assert_eq!(store.next_notice().unwrap(), Some(Wall(5020)));
    assert!(take(&mut store, 5019).is_none());
    let again = take(&mut store, 5020).unwrap();
    assert!(again.attempts >= 2);
    store.settle_notice(&Queued { state: Sending::Sent, ..again.clone() }).unwrap();
    assert_eq!(store.queue_notice(&notice("maintenance/1/start"), &all, Wall(12)).unwrap(), 0);
    let sent = store.notices().unwrap().into_iter().filter(|one| one.state == Sending::Sent).count();
    assert_eq!(sent, 1, "what was sent is not queued again");
}

/// Everybody may read who holds what, and nobody who was told of it.
#[test]
fn addresses_are_for_their_owner_only() {
    let dir = Dir::new("notices-private");
    let mut store = Store::open(&dir.0).unwrap();
    let address = "ana.private@example.org";
    store.queue_notice(&notice("k"), &to(&[("mail", address)]), Wall(1)).unwrap();
    store.append(&Event::of_server(Wall(1), EventKind::NoticeSent, "x".to_owned())).unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(&dir.0).unwrap().flatten() {
        let text = std::fs::read(file.path()).unwrap();
        let has = |what: &str| text.windows(what.len()).any(|window| window == what.as_bytes());
        if has(address) || has("bo@example.org") {
            assert_eq!(file.metadata().unwrap().mode() & 0o077, 0, "{:?}", file.path());
            seen += 1;
        }
    }
    assert_eq!(seen, 1, "they are kept");
    assert_eq!(std::fs::metadata(dir.0.join("ebb.db")).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_clock_that_was_set_back_delays_nobody_for_long() {
    let dir = Dir::new("notices-clock");
    let mut store = Store::open(&dir.0).unwrap();
    store.queue_notice(&notice("k"), &to(&[("chat", "")]), Wall(10_000_000)).unwrap();
    assert!(take(&mut store, 9_500_000).is_none());
    assert!(take(&mut store, 1_000_000).is_some());
}

#[test]
fn old_ones_are_forgotten_and_what_is_queued_is_not() {
    let dir = Dir::new("notices-old");
    let mut store = Store::open(&dir.0).unwrap();
    store.queue_notice(&notice("old"), &to(&[("a", ""), ("b", "")]), Wall(0)).unwrap();
    let taken = take(&mut store, 0).unwrap();
    store.settle_notice(&Queued { state: Sending::Sent, ..taken }).unwrap();
    let month = 31 * 86_400_000;
    store.queue_notice(&notice("new"), &to(&[("a", "")]), Wall(month)).unwrap();
    let left: Vec<_> = store.notices().unwrap().into_iter().map(|one| (one.notice.key, one.notifier)).collect();
    assert_eq!(left, [("old".into(), "b".into()), ("new".into(), "a".into())]);
}

/// A store as the ebb before notices made it.
#[test]
fn a_store_of_the_ebb_before_is_read_and_taken_over_with_all_that_is_held() {
    let dir = Dir::new("schema1");
    std::fs::create_dir_all(&dir.0).unwrap();
    let path = dir.0.join("ebb.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(TABLES).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    let held = hold("operator");
    db.execute(
        "INSERT INTO holds (service, requester, record) VALUES ('nginx', 'operator', ?1)",
        params![format::hold_to(&held)],
    )
    .unwrap();
    put_record(&db, &record()).unwrap();
    drop(db);
    // The copy is of yesterday: what it has more was released since.
    let copied = [("nginx", "operator"), ("nginx", "deploy")]
        .map(|(service, requester)| (service.into(), requester.into(), format::hold_to(&hold(requester))));
    copy::Copy { holds: copied.to_vec(), ..copy::Copy::default() }.write(&dir.0).unwrap();

    let reads = Store::open_to_read(&dir.0).unwrap();
    assert_eq!((reads.notices().unwrap().len(), reads.next_notice().unwrap()), (0, None));
    drop(reads);
    let mut store = Store::open(&dir.0).unwrap();
    assert_eq!((store.holds().unwrap(), store.records().unwrap()), (vec![held], vec![record()]));
    assert_eq!(store.queue_notice(&notice("k"), &to(&[("chat", "")]), Wall(1)).unwrap(), 1);
    assert_eq!(version(&store.db, &path).unwrap(), SCHEMA);
}
