use proptest::prelude::*;

use super::*;

#[test]
fn titles() {
    let session = |user, terminals| Title::Session { user, terminals };
    for (text, means) in [
        ("sshd: ana@pts/0", session("ana", Some("pts/0"))),
        ("sshd: ana@notty", session("ana", None)),
        ("sshd-session: ana@pts/3,pts/4", session("ana", Some("pts/3,pts/4"))),
        ("sshd: ana", session("ana", None)),
        ("sshd: ana@example.org", session("ana@example.org", None)),
        ("sshd: ana@example.org@pts/0", session("ana@example.org", Some("pts/0"))),
        ("sshd: ana [priv]", Title::Monitor { user: Some("ana") }),
        ("sshd: unknown [priv]", Title::Monitor { user: None }),
        ("sshd: unknown [net]", Title::NotLoggedIn { user: None }),
        ("sshd-auth: root [net]", Title::NotLoggedIn { user: Some("root") }),
        ("sshd: ana [pam]", Title::Other),
        ("sshd: [accepted]", Title::NotLoggedIn { user: None }),
        ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", Title::Listener),
        ("/usr/sbin/sshd -D -R", Title::Other),
        ("sshd: ", Title::Other),
        ("-bash", Title::Other),
        ("", Title::Other),
        ("sshd: a\u{1b}[2J@pts/1", session("a\u{1b}[2J", Some("pts/1"))),
    ] {
        assert_eq!(title(text), means, "{text}");
    }
}

fn one(pid: u32, parent: u32, title: &str, name: &str, foreground: Option<u32>) -> (u32, Process) {
    (pid, Process { pid, parent, title: title.into(), name: name.into(), started: 1, foreground })
}

const LISTENER: &str = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups";

#[test]
fn what_runs_is_told_and_a_waiting_shell_is_idle() {
    let all: BTreeMap<u32, Process> = [
        one(10, 1, LISTENER, "sshd", None),
        one(11, 10, "sshd: ana [priv]", "sshd", None),
        one(12, 11, "sshd: ana@pts/0", "sshd", None),
        one(13, 12, "-bash", "bash", Some(14)),
        one(14, 13, "", "apt", Some(14)),
        one(21, 10, "sshd: bob [priv]", "sshd", None),
        one(22, 21, "sshd: bob@pts/1", "sshd", None),
        one(23, 22, "-bash", "bash", Some(23)),
        one(31, 10, "sshd: root@notty", "sshd", None),
        one(32, 31, "sshd: root@internal-sftp", "sshd", None),
        one(41, 10, "sshd: unknown [priv]", "sshd", None),
        one(42, 41, "sshd: unknown [net]", "sshd", None),
        one(43, 10, "/usr/sbin/sshd -D -R", "sshd", None),
        one(61, 10, "sshd: root@pts/2", "sshd", None),
        one(62, 61, "sleep 90", "sleep", Some(62)),
        // Two shells on one connection: one waits, in the other something runs.
        one(71, 10, "sshd: eve [priv]", "sshd", None),
        one(72, 71, "sshd: eve@pts/3,pts/4", "sshd", None),
        one(73, 72, "-bash", "bash", Some(73)),
        one(74, 72, "-bash", "bash", Some(75)),
        one(75, 74, "", "make", Some(75)),
        // Only forwards.
        one(81, 10, "sshd: kim [priv]", "sshd", None),
        one(82, 81, "sshd: kim", "sshd", None),
        // A shell that waits, with something in its background.
        one(91, 10, "sshd: root@pts/5", "sshd", None),
        one(92, 91, "-bash", "bash", Some(92)),
        one(93, 92, "", "rsync", Some(92)),
        // Another server's, as long as its connection does not say otherwise, and who calls himself so.
        one(100, 1, LISTENER, "sshd", None),
        one(101, 100, "sshd: other [priv]", "sshd", None),
        one(111, 23, "sshd: root@pts/9", "xsshd", None),
    ]
    .into();
    let told = sessions(&[10, 23].into(), &all, Span::seconds(100));
    let line = |pid, user: Option<&str>, what: &str, busy| {
        (Some(pid), user.map(str::to_owned), Some(what.to_owned()), busy, false)
    };
    let (told, others): (Vec<Found>, Vec<Found>) = told.into_iter().partition(|one| !one.orphan);
    assert_eq!(others.iter().map(|one| one.head).collect::<Vec<_>>(), [101]);
    let is = |one: Found| (one.told.pid, one.told.user, one.told.what, one.told.busy, one.orphan);
    assert_eq!(
        told.into_iter().map(is).collect::<Vec<_>>(),
        [
            line(12, Some("ana"), "pts/0: apt", Busy::Inside),
            line(22, Some("bob"), "pts/1: xsshd", Busy::Inside),
            line(31, Some("root"), "no terminal: internal-sftp", Busy::Inside),
            line(42, None, "logging in", Busy::NotLoggedIn),
            line(43, None, "connecting", Busy::NotLoggedIn),
            line(61, Some("root"), "pts/2: sleep", Busy::Inside),
            line(72, Some("eve"), "pts/3,pts/4: make, bash", Busy::Inside),
            line(82, Some("kim"), "no terminal: no command", Busy::Unknown),
            line(91, Some("root"), "pts/5: rsync", Busy::Inside),
        ]
    );
}

#[test]
fn a_session_outlives_its_listener_and_is_not_believed_for_its_title() {
    let all: BTreeMap<u32, Process> = [
        one(10, 1, LISTENER, "sshd", None),
        one(11, 1, "sshd: ana [priv]", "sshd", None),
        one(12, 11, "sshd: ana@pts/0", "sshd", None),
        one(13, 12, "-bash", "bash", Some(13)),
        one(20, 1, "sleep 9", "sshd", None),
    ]
    .into();
    let told = sessions(&[10].into(), &all, Span::seconds(100));
    let [found] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((found.head, found.process, found.orphan, found.told.busy), (11, 12, true, Busy::Idle));
    assert_eq!(found.told.age, Some(Span(99_990)));
}

#[test]
fn many_are_no_trouble() {
    let sessions_of = |number: u32| {
        let (head, inner, shell) = (number * 3 + 100, number * 3 + 101, number * 3 + 102);
        [
            one(head, 10, "sshd: ana [priv]", "sshd", None),
            one(inner, head, "sshd: ana@pts/0", "sshd", None),
            one(shell, inner, "-bash", "bash", Some(shell)),
        ]
    };
    let all = (0..50_000).flat_map(sessions_of).chain([one(10, 1, LISTENER, "sshd", None)]).collect();
    let told = sessions(&[10].into(), &all, Span::ZERO);
    assert_eq!(told.len(), 50_000);
    assert!(told.iter().all(|one| one.told.busy == Busy::Idle));
}

proptest! {
    /// Any titles, and any parents: of themselves, and of each other.
    #[test]
    fn any_processes_are_survived(all in proptest::collection::vec((0..20_u32, "(sshd: )?[a-z@/,\\[\\] ]{0,12}", any::<bool>(), 0..20_u32), 0..20)) {
        let all: BTreeMap<u32, Process> = all
            .iter()
            .zip(0..)
            .map(|((parent, title, sshd, front), pid)| one(pid, *parent, title, if *sshd { "sshd" } else { "sh" }, Some(*front)))
            .collect();
        let told = sessions(&(0..5).collect(), &all, Span::ZERO);
        prop_assert!(told.len() <= all.len());
    }
}
