use std::collections::BTreeMap;

use super::*;
use ebb_model::Backup;

const NOW: Wall = Wall(1_800_000_000_000);
const DAY: Span = Span::seconds(86_400);

fn settings(check: Check) -> GuardSettings {
    GuardSettings { check, warn_only: false, off: false, timeout: Span::seconds(10) }
}

fn judged(check: Check, fact: Fact) -> Guard {
    judge("g", &settings(check), &Ok(fact), NOW)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn checks() -> Vec<Check> {
    vec![
        Check::Permission,
        disk_check(),
        Check::FailedUnits,
        Check::Users,
        certificates_check(),
        Check::Clock,
        Check::LastDoor { others: BTreeMap::new() },
        backup_check(),
        Check::Command { command: vec!["true".into()] },
    ]
}

fn disk_check() -> Check {
    Check::Disk { path: "/var".into(), warn_percent: 10.0, refuse_percent: 3.0 }
}

fn certificates_check() -> Check {
    Check::Certificates { files: vec!["/etc/ssl/x.pem".into()], warn: Span(14 * DAY.0), refuse: Span(2 * DAY.0) }
}

fn backup_check() -> Check {
    Check::Backup { kind: Backup::File { path: "/b".into() }, warn: DAY, refuse: Span(2 * DAY.0) }
}

#[test]
fn what_could_not_be_told_is_never_a_pass() {
    for check in checks() {
        let guard = judge("g", &settings(check.clone()), &Err("no \x1b[2Janswer".into()), NOW);
        assert_ne!(guard.verdict, Verdict::Pass, "{check:?}");
        assert_eq!(guard.verdict, unknown(&check));
        assert!(guard.why.starts_with("it could not be told: no \u{fffd}[2Janswer"), "{}", guard.why);
        // The fact of another check is none.
        let other = if check == Check::Clock { Fact::Logins(vec![]) } else { Fact::Clock { synchronised: true } };
        assert_eq!(judged(check, other).verdict, Verdict::Refuse);
    }
}

#[test]
fn a_guard_that_only_warns_never_refuses() {
    for check in checks() {
        let lenient = GuardSettings { warn_only: true, ..settings(check) };
        assert_eq!(judge("g", &lenient, &Err("x".into()), NOW).verdict, Verdict::Warn);
    }
}

#[test]
fn disks() {
    for (free, inodes, verdict, why) in [
        (50.0, None, Verdict::Pass, "/var: 50.0 % free"),
        (10.0, Some(80.0), Verdict::Pass, "/var: 10.0 % of the space, 80.0 % of the inodes free"),
        (9.9, None, Verdict::Warn, "/var: 9.9 % free, less than 10 %"),
        (3.0, None, Verdict::Warn, "/var: 3.0 % free, less than 10 %"),
        (2.9, None, Verdict::Refuse, "/var: 2.9 % free, less than 3 %"),
        (0.0, None, Verdict::Refuse, "/var: 0.0 % free, less than 3 %"),
        (50.0, Some(2.0), Verdict::Refuse, "/var: 50.0 % of the space, 2.0 % of the inodes free, less than 3 %"),
        (f64::NAN, None, Verdict::Refuse, "/var: NaN % free, less than 3 %"),
    ] {
        let guard = judged(disk_check(), Fact::Disk { free_percent: free, inodes_free_percent: inodes });
        assert_eq!((guard.verdict, guard.why.as_str()), (verdict, why));
    }
}

#[test]
fn permits() {
    let permit = |step, granted: bool, needed| Permit {
        step,
        granted: if granted { Ok(()) } else { Err("CAP_NET_ADMIN is missing".into()) },
        needed,
    };
    for (permits, verdict, why) in [
        (vec![permit("shut gates", true, true), permit("cut", true, false)], Verdict::Pass, "it may shut gates, cut"),
        (
            vec![permit("shut gates", true, true), permit("cut", false, false)],
            Verdict::Warn,
            "it cannot cut: CAP_NET_ADMIN is missing",
        ),
        (
            vec![permit("shut gates", false, true), permit("cut", false, false)],
            Verdict::Refuse,
            "it cannot shut gates: CAP_NET_ADMIN is missing; it cannot cut: CAP_NET_ADMIN is missing",
        ),
        (vec![], Verdict::Refuse, "it could not be told: no step was tried"),
    ] {
        let guard = judged(Check::Permission, Fact::Permits(permits));
        assert_eq!((guard.verdict, guard.why.as_str()), (verdict, why));
    }
}

#[test]
fn units_users_and_clock() {
    let units = |names: &[&str]| judged(Check::FailedUnits, Fact::FailedUnits(set(names)));
    assert_eq!((units(&[]).verdict, units(&[]).why.as_str()), (Verdict::Pass, "no unit has failed"));
    assert_eq!(units(&["a.service"]).why, "a.service has failed");
    let many = units(&["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!((many.verdict, many.measured.unwrap().value), (Verdict::Refuse, 7.0));
    assert_eq!(many.why, "7 units have failed: a, b, c, d, e, and 2 more");

    let login = |from: Option<&str>| Login {
        user: "an\x1ba".into(),
        terminal: "pts/3".into(),
        from: from.map(Into::into),
        leader: 7,
    };
    let users = judged(Check::Users, Fact::Logins(vec![login(Some("10.0.0.9"))]));
    assert_eq!(
        (users.verdict, users.why.as_str()),
        (Verdict::Refuse, "also logged in: an\u{fffd}a at pts/3 from 10.0.0.9")
    );
    assert_eq!(judged(Check::Users, Fact::Logins(vec![])).verdict, Verdict::Pass);

    assert_eq!(judged(Check::Clock, Fact::Clock { synchronised: true }).verdict, Verdict::Pass);
    assert_eq!(judged(Check::Clock, Fact::Clock { synchronised: false }).verdict, Verdict::Warn);
}

#[test]
fn certificates_by_the_first_that_expires() {
    let file = |name: &str, days: i64| (name.to_owned(), Ok(Wall(NOW.0 + days * 86_400_000)));
    for (days, verdict, why) in [
        (15, Verdict::Pass, "a.pem is valid for 15 d 0 h more"),
        (14, Verdict::Pass, "a.pem is valid for 14 d 0 h more"),
        (13, Verdict::Warn, "a.pem is valid for 13 d 0 h more"),
        (1, Verdict::Refuse, "a.pem is valid for 1 d 0 h more"),
        (0, Verdict::Refuse, "a.pem expired 0.0 s ago"),
        (-3, Verdict::Refuse, "a.pem expired 3 d 0 h ago"),
    ] {
        let guard = judged(certificates_check(), Fact::Certificates(vec![file("a.pem", days)]));
        assert_eq!((guard.verdict, guard.why.as_str()), (verdict, why));
    }
    let two = judged(certificates_check(), Fact::Certificates(vec![file("a.pem", 90), file("b.pem", 30)]));
    assert_eq!(two.why, "2 certificates; the first: b.pem is valid for 30 d 0 h more");
    let unread = ("c.pem".to_owned(), Err("no certificate is in it".to_owned()));
    let bad = judged(certificates_check(), Fact::Certificates(vec![file("a.pem", 90), unread]));
    assert_eq!((bad.verdict, bad.why.as_str()), (Verdict::Refuse, "c.pem: no certificate is in it"));
    assert_eq!(judged(certificates_check(), Fact::Certificates(vec![])).verdict, Verdict::Refuse);
    // Without a limit of its own an expired one is still refused.
    let no_limit = Check::Certificates { files: vec![], warn: Span::ZERO, refuse: Span::ZERO };
    assert_eq!(judged(no_limit, Fact::Certificates(vec![file("a.pem", -1)])).verdict, Verdict::Refuse);
}

#[test]
fn backups_by_their_age() {
    let hours = |hours: i64| {
        judged(backup_check(), Fact::Backup { at: Wall(NOW.0 - hours * 3_600_000), what: "snapshot 1a".into() })
    };
    for (age, verdict, why) in [
        (3, Verdict::Pass, "the newest, snapshot 1a, is 3 h 00 min old"),
        (24, Verdict::Pass, "the newest, snapshot 1a, is 1 d 0 h old"),
        (25, Verdict::Warn, "the newest, snapshot 1a, is 1 d 1 h old, more than 1 d 0 h"),
        (49, Verdict::Refuse, "the newest, snapshot 1a, is 2 d 1 h old, more than 2 d 0 h"),
        (-1, Verdict::Refuse, "snapshot 1a lies 1 h 00 min in the future: a clock is wrong"),
    ] {
        assert_eq!((hours(age).verdict, hours(age).why.as_str()), (verdict, why));
    }
    let ahead = judged(backup_check(), Fact::Backup { at: Wall(NOW.0 + 60_000), what: "x".into() });
    assert_eq!(ahead.verdict, Verdict::Pass, "another machine's clock may be a minute ahead");
}

#[test]
fn last_doors() {
    let others = |service: &str, members: &[(&str, bool)]| Others {
        service: service.into(),
        members: members
            .iter()
            .map(|(at, answers)| ((*at).to_owned(), if *answers { Ok(()) } else { Err("refused".to_owned()) }))
            .collect(),
    };
    let said = |services: Vec<Others>| {
        let guard = judged(Check::LastDoor { others: BTreeMap::new() }, Fact::Others(services));
        (guard.verdict, guard.why)
    };
    assert_eq!(said(vec![]), (Verdict::Pass, "no service has a door for others".into()));
    assert_eq!(
        said(vec![others("web", &[("b:80", false), ("c:80", true)])]),
        (Verdict::Pass, "each service has another member that answers".into())
    );
    assert_eq!(
        said(vec![others("web", &[("b:80", true)]), others("ssh", &[])]),
        (Verdict::Warn, "no other member is known for ssh".into())
    );
    assert_eq!(
        said(vec![others("web", &[("b:80", false)]), others("ssh", &[])]),
        (Verdict::Refuse, "no other member of web answers: b:80 is refused; no other member is known for ssh".into())
    );
}

#[test]
fn commands_by_their_codes() {
    let said = |code, line: &str| {
        let guard = judged(Check::Command { command: vec![] }, Fact::Ended { code, line: line.into() });
        (guard.verdict, guard.why)
    };
    assert_eq!(said(Some(0), "all is well"), (Verdict::Pass, "all is well".into()));
    assert_eq!(said(Some(1), " lagging\n"), (Verdict::Warn, "lagging".into()));
    assert_eq!(said(Some(2), ""), (Verdict::Refuse, "it ended with 2, and said nothing".into()));
    assert_eq!(said(None, ""), (Verdict::Refuse, "it was killed by a signal, and said nothing".into()));
    assert_eq!(said(Some(0), "\x1b[2J").1, "\u{fffd}[2J");
}

fn guard(name: &str, verdict: Verdict, amiss: &[&str]) -> Guard {
    Guard { name: name.into(), verdict, why: String::new(), measured: None, amiss: set(amiss), of_beginning: false }
}

fn list(guards: Vec<Guard>) -> Checks {
    Checks { at: NOW, guards }
}

#[test]
fn every_pair_of_verdicts_has_a_trend() {
    use Trend::{Better, Same, Worse};
    use Verdict::{Pass, Refuse, Warn};
    for (was, now, trend) in [
        (Pass, Pass, Same),
        (Pass, Warn, Worse),
        (Pass, Refuse, Worse),
        (Warn, Pass, Better),
        (Warn, Warn, Same),
        (Warn, Refuse, Worse),
        (Refuse, Pass, Better),
        (Refuse, Warn, Better),
        (Refuse, Refuse, Same),
    ] {
        let changes = diff(&list(vec![guard("g", was, &[])]), &list(vec![guard("g", now, &[])]));
        assert_eq!((changes.len(), changes[0].trend), (1, trend), "{was} -> {now}");
        assert_eq!(changes[0].regression, trend == Worse);
        assert_eq!(better_or_equal(&changes), trend != Worse);
    }
}

#[test]
fn another_unit_that_fails_is_worse_though_the_verdict_is_the_same() {
    use Verdict::{Pass, Refuse, Warn};
    for (was, now, trend) in [
        (guard("g", Refuse, &["a"]), guard("g", Refuse, &["a"]), Trend::Same),
        (guard("g", Refuse, &["a"]), guard("g", Refuse, &["a", "b"]), Trend::Worse),
        (guard("g", Refuse, &["a"]), guard("g", Refuse, &["b"]), Trend::Worse),
        (guard("g", Refuse, &["a", "b"]), guard("g", Refuse, &["a"]), Trend::Better),
        (guard("g", Refuse, &["a"]), guard("g", Warn, &["b"]), Trend::Worse),
        (guard("g", Refuse, &["a"]), guard("g", Pass, &[]), Trend::Better),
    ] {
        assert_eq!(diff(&list(vec![was.clone()]), &list(vec![now.clone()]))[0].trend, trend, "{was:?} {now:?}");
    }
}

#[test]
fn new_and_gone_are_named_and_a_new_refusal_is_no_return() {
    let (a, b) = (guard("a", Verdict::Pass, &[]), guard("b", Verdict::Warn, &[]));
    let changes = diff(&list(vec![a.clone()]), &list(vec![b]));
    let said: Vec<_> = changes.iter().map(|change| (change.name.as_str(), change.trend, change.regression)).collect();
    assert_eq!(said, [("b", Trend::New, false), ("a", Trend::Gone, false)]);
    assert!(better_or_equal(&changes));
    assert!(!better_or_equal(&diff(&list(vec![a]), &list(vec![guard("b", Verdict::Refuse, &[])]))));
}

#[test]
fn what_only_says_whether_to_begin_keeps_nothing_shut() {
    for (check, fact, counts) in [
        (Check::FailedUnits, Fact::FailedUnits(set(&["a.service"])), true),
        (
            Check::Users,
            Fact::Logins(vec![Login { user: "a".into(), terminal: "pts/1".into(), from: None, leader: 0 }]),
            false,
        ),
        (backup_check(), Fact::Backup { at: Wall(0), what: "x".into() }, false),
        (
            Check::LastDoor { others: BTreeMap::new() },
            Fact::Others(vec![Others { service: "w".into(), members: vec![] }]),
            false,
        ),
    ] {
        let after = judged(check, fact);
        let before = Guard { verdict: Verdict::Pass, amiss: BTreeSet::new(), ..after.clone() };
        let changes = diff(&list(vec![before]), &list(vec![after]));
        assert_eq!((changes[0].trend, changes[0].regression), (Trend::Worse, counts), "{changes:?}");
    }
}

#[test]
fn a_guard_is_no_worse_than_itself_and_what_is_better_one_way_is_worse_the_other() {
    let mut states = vec![guard("g", Verdict::Pass, &[])];
    for verdict in [Verdict::Warn, Verdict::Refuse] {
        states.extend([&[][..], &["a"], &["b"], &["a", "b"]].map(|amiss| guard("g", verdict, amiss)));
    }
    let trend = |was: &Guard, now: &Guard| diff(&list(vec![was.clone()]), &list(vec![now.clone()]))[0].trend;
    for was in &states {
        assert_eq!(trend(was, was), Trend::Same);
        for now in states.iter().filter(|now| *now != was) {
            assert_ne!(trend(was, now), Trend::Same, "{was:?} {now:?}");
            if trend(was, now) == Trend::Better {
                assert_eq!(trend(now, was), Trend::Worse, "{was:?} {now:?}");
            }
        }
    }
}
