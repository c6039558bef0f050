use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ebb_model::{Role, Span, UseKind};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::anvil::{Row, rows};
use super::places::{Open, Sight, opened, placed};
use super::*;
use crate::proc::Process;

/// As Dovecot 2.3.19 told it.
const LIST: &str = "imap/127.0.0.1/tlsidle\t11\t1\nimap/2001:db8::7/between\t15\t2\nlmtp/ana@x.y\t17\t1\n\n";

fn row(service: &str, ip: &str, user: &str, pid: u32) -> Row {
    Row { service: service.into(), ip: ip.parse().ok(), user: user.into(), pid, count: 1 }
}

#[test]
fn a_real_list_and_odd_names() {
    let told = rows(LIST.as_bytes()).unwrap();
    let between = Row { count: 2, ..row("imap", "2001:db8::7", "between", 15) };
    assert_eq!(told, [row("imap", "127.0.0.1", "tlsidle", 11), between, row("lmtp", "", "ana@x.y", 17)]);
    assert!(rows(b"\n").unwrap().is_empty(), "nobody is there");
    let odd = b"imap/192.0.2.1/a/b\x01tc\x01n\x1b[2J\xff\t1\t1\nimap//local\t2\t1\nlmtp/a/b\t3\t1\n\n";
    let told = rows(odd).unwrap();
    let users: Vec<&str> = told.iter().map(|row| row.user.as_str()).collect();
    assert_eq!(users, ["a/b\tc\n\u{1b}[2J\u{fffd}", "local", "a/b"]);
    assert_eq!(told.iter().map(|row| row.ip.is_some()).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn what_is_cut_off_or_garbage_is_an_error_and_never_an_empty_list() {
    for cut in 0..LIST.len() {
        assert!(rows(&LIST.as_bytes()[..cut]).is_err(), "{cut}");
    }
    for text in
        ["", "x", "x\n\n", "imap/1.2.3.4/a\t-1\t1\n\n", "imap/1.2.3.4/a\t1\t0\n\n", "/1.2.3.4/a\t1\t1\n\n", "\n\n\n"]
    {
        assert!(rows(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn fifty_thousand_are_read_and_a_count_that_lies_costs_nothing() {
    let many: String = (0..50_000).map(|pid| format!("imap/192.0.2.7/user{pid}\t{pid}\t1\n")).collect();
    let told = rows(format!("{many}\n").as_bytes()).unwrap();
    assert_eq!(placed(told, &Sight::default()).len(), 50_000);
    let lie = rows(b"imap/192.0.2.7/ana\t1\t4294967295\n\n").unwrap();
    assert_eq!(placed(lie, &Sight::default()).len(), crate::MOST_USES);
}

/// Whoever answers at this socket.
fn says(answer: &'static [u8], then_waits: bool) -> (Dovecot, tempfile::Folder) {
    let folder = tempfile::Folder::new();
    let path = folder.path("anvil");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut asked = [0; 64];
            let _ = client.read(&mut asked).await;
            let _ = client.write_all(answer).await;
            if then_waits {
                std::future::pending::<()>().await;
            }
        }
    });
    let seen = Seen { unix: vec!["/run/other".into(), path], ..Seen::default() };
    (Dovecot::new(&seen, &DaemonSettings::default()).unwrap(), folder)
}

mod tempfile {
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(super) struct Folder(std::path::PathBuf);

    impl Folder {
        pub(super) fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("ebb-anvil-{}-{number}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(super) fn path(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[tokio::test]
async fn half_an_answer_is_an_error_and_silence_ends() {
    for answer in [&b""[..], b"imap/1.2.3.4/a\t1\t1\n", b"garbage\n\n"] {
        let (dovecot, _folder) = says(answer, false);
        let told = dovecot.uses(9).await;
        assert!(matches!(told, Err(Error::NotUnderstood { .. })), "{told:?}");
        assert!(matches!(dovecot.abilities().await.unwrap().list, Ability::Missing { .. }));
        assert!(dovecot.end(&["x".into()], "", true).await.is_err());
    }
    let (dovecot, _folder) = says(b"imap/1.2.3.4/a\t1\t1\n", true);
    let told = crate::within(Duration::from_millis(50), DOVECOT, dovecot.uses(9)).await;
    assert!(matches!(told, Err(Error::Late { .. })), "{told:?}");
    let seen = Seen { unix: vec!["/nonexistent/anvil".into()], ..Seen::default() };
    let told = Dovecot::new(&seen, &DaemonSettings::default()).unwrap().uses(9).await;
    assert!(matches!(told, Err(Error::NotReached { .. })), "{told:?}");
}

fn process(inner: u32, name: &str, title: &str) -> (u32, Process) {
    let pid = inner + 1000;
    (inner, Process { pid, name: name.into(), title: title.into(), started: 1, ..Process::default() })
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], port))
}

/// All kinds at once.
fn all_kinds() -> (Vec<Row>, Sight) {
    let rows = vec![
        row("imap", "192.0.2.7", "plain", 1),
        row("imap", "192.0.2.7", "tls", 2),
        row("imap", "192.0.2.7", "ana", 3),
        row("imap", "192.0.2.7", "bob", 4),
        row("imap", "192.0.2.9", "eve", 5),
        row("imap", "", "local", 6),
        row("lmtp", "", "delivered", 7),
        row("pop3", "192.0.2.7", "pop", 8),
        row("imap", "192.0.2.7", "ghost", 9),
    ];
    let processes = [
        process(1, "imap", "dovecot/imap [plain 192.0.2.7 idle]"),
        process(2, "imap", "dovecot/imap [tls 192.0.2.7 append]"),
        process(3, "imap", "dovecot/imap"),
        process(4, "imap", "dovecot/imap"),
        process(5, "imap", "dovecot/imap"),
        process(6, "imap", "dovecot/imap [local]"),
        process(7, "lmtp", ""),
        process(8, "pop3", ""),
        process(20, "imap-login", ""),
        process(21, "imap-login", ""),
        process(22, "imap-login", ""),
    ];
    let eves = SocketAddr::from(([192, 0, 2, 9], 5));
    let sight = Sight {
        processes: processes.into(),
        connections: [
            (1001, vec![peer(1)]),
            (1008, vec![peer(8)]),
            (1020, vec![peer(2)]),
            (1021, vec![peer(3), peer(4), eves]),
            (1022, vec![peer(9)]),
        ]
        .into(),
        behind: [(1002, 1020), (1003, 1021), (1004, 1021), (1005, 1021)].into(),
        open: [(1003, Open::Watches), (1004, Open::Message)].into(),
        up: Span::seconds(100),
    };
    (rows, sight)
}

#[test]
fn sessions_are_on_their_connections_also_behind_a_login_process() {
    let (rows, sight) = all_kinds();
    let all = placed(rows, &sight);
    let line = |one: &Placed| {
        let told = &one.told;
        format!(
            "{} {} {:?} {:?} {} {}",
            told.user.as_deref().unwrap_or("-"),
            told.peer.map_or_else(|| "-".to_owned(), |peer| peer.port().to_string()),
            told.busy,
            told.role,
            told.what.as_deref().unwrap_or("-"),
            one.group.map_or_else(|| "-".to_owned(), |group| group.to_string()),
        )
    };
    let lines: Vec<String> = all.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "plain 1 Idle User imap: IDLE -",
            "tls 2 Inside User imap: APPEND -",
            "- 3 Idle User one of 2 behind one login process: ana, bob 1021",
            "- 4 Inside User one of 2 behind one login process: ana, bob 1021",
            "eve 5 Unknown User imap: no message is open -",
            "local - Idle Local imap: between commands -",
            "delivered - Inside Local lmtp: a delivery -",
            "pop 8 Inside User pop3: what it deletes counts after QUIT -",
            "ghost - Unknown User imap: no message is open -",
            "- 9 NotLoggedIn User imap: not logged in -",
        ]
    );
    assert_eq!(all[8].told.peer_ip, "192.0.2.7".parse::<IpAddr>().ok());
    assert!(all[8].told.by_connection && !all[5].told.by_connection);
    assert_eq!((all[6].told.kind, all[0].told.age), (UseKind::Message, Some(Span(99_990))));
}

#[test]
fn who_cannot_be_told_apart_ends_with_the_others_or_not_at_all() {
    let (rows, sight) = all_kinds();
    let all = placed(rows, &sight);
    // No process here is alive: nobody is signalled.
    let keys: Vec<String> = all.iter().map(|one| one.told.key.clone()).collect();
    let outcome = |wished: &[String], inside| -> Vec<String> {
        let one = |ended| match ended {
            Ended::Spared(why) => why,
            other => format!("{other:?}"),
        };
        ended(&all, wished, inside, &mut BTreeSet::new()).into_iter().map(one).collect()
    };
    let together = "it is not told apart from others, or ends with them: ask for all";
    assert_eq!(outcome(&keys[2..3], false), [together]);
    assert_eq!(outcome(&keys[2..4], true), ["Gone", "Gone"]);
    let mut asked = BTreeSet::new();
    let one_by_one = [2, 3].map(|at| ended(&all, &keys[at..=at], true, &mut asked).remove(0));
    assert_eq!(one_by_one, [Ended::Spared(together.to_owned()), Ended::Gone]);
    assert!(ended(&[], &keys, true, &mut asked).iter().all(|one| *one == Ended::Gone) && asked.is_empty());
    assert_eq!(outcome(&keys[1..2], false), ["imap: APPEND"]);
    assert_eq!(outcome(&keys[8..9], true), ["its process is not seen"]);
    assert_eq!(outcome(&["nobody".to_owned()], true), ["Gone"]);
}

#[test]
fn open_files_say_what_is_done() {
    let told = |files: &[&str]| opened(files.iter().map(|file| (*file).to_owned()));
    let index = "/var/mail/ana/dovecot.index.log";
    assert_eq!(told(&[index, "socket:[7]", "/dev/null", "pipe:[1]"]), Open::Nothing);
    assert_eq!(told(&[index, "anon_inode:inotify"]), Open::Watches);
    assert_eq!(told(&["anon_inode:inotify", "/var/mail/ana/tmp/17.M2P3.host"]), Open::Message);
    assert_eq!(told(&["/var/mail/ana/cur/17.M2P3.host:2,S"]), Open::Message);
    assert_eq!(told(&[]), Open::Nothing);
}

proptest! {
    #[test]
    fn any_list_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = rows(&bytes);
    }

    /// Whatever the connections are: no two sessions are on one, and none is lost.
    #[test]
    fn each_connection_has_one_session(
        pids in proptest::collection::vec((1..6_u32, 0..3_u8, 1..3_u32), 0..12),
        ports in proptest::collection::vec((1..6_u32, 0..3_u8), 0..12),
        behind in proptest::collection::btree_map(1001..1006_u32, 1001..1006_u32, 0..6),
    ) {
        let ip = |last: u8| format!("192.0.2.{last}");
        let rows: Vec<Row> = pids.iter().map(|(pid, last, count)| Row { count: *count, ..row("imap", &ip(*last), "ana", *pid) }).collect();
        let wanted: u32 = rows.iter().map(|row| row.count).sum();
        let mut sight = Sight {
            processes: (1..6).map(|pid| process(pid, if pid > 3 { "imap-login" } else { "imap" }, "")).collect(),
            behind,
            ..Sight::default()
        };
        for ((pid, last), port) in ports.iter().zip(1..) {
            let at = SocketAddr::new(ip(*last).parse().unwrap(), port);
            sight.connections.entry(pid + 1000).or_default().push(at);
        }
        let all = placed(rows, &sight);
        let other = |one: &Placed| one.told.what.as_deref().is_some_and(|what| what.contains(": not ") || what.contains(": one of several"));
        let sessions = all.iter().filter(|one| !other(one)).count();
        prop_assert_eq!(sessions, wanted as usize);
        let mut peers: Vec<SocketAddr> = all.iter().filter_map(|one| one.told.peer).collect();
        let known = peers.len();
        peers.sort();
        peers.dedup();
        prop_assert_eq!(peers.len(), known);
        prop_assert!(all.iter().all(|one| one.told.role == Role::User));
    }
}
