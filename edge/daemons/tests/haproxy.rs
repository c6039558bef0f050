//! Who listens on the stats socket and is no HAProxy, or speaks against us: every answer is an error or a list, within bounds.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ebb_daemons::{Adapter, Error, MOST_USES, Seen, recognise, within};
use ebb_model::{Ability, DaemonKind, DaemonSettings, Ended, Role, Uses};
use proptest::prelude::*;

/// A socket in a folder of its own, both gone with this.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ebb-haproxy-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn socket(&self) -> String {
        self.0.join("admin.sock").display().to_string()
    }

    /// Known by its executable, and by the name under which the kernel knows the socket.
    fn adapter(&self) -> Box<dyn Adapter> {
        let seen = Seen {
            executables: ["haproxy".to_owned()].into(),
            unix: vec!["/run/haproxy-master.sock".to_owned(), format!("{}.4711.tmp", self.socket())],
            ..Seen::default()
        };
        recognise(&seen, &DaemonSettings::default()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers the first questions with these, each on a connection of its own, and all others with the last; `again` until
/// nobody listens.
fn says(place: &Place, answers: Vec<String>, again: &'static str) {
    let listener = UnixListener::bind(place.socket()).unwrap();
    std::thread::spawn(move || {
        for (number, mut client) in listener.incoming().map_while(Result::ok).enumerate() {
            let mut asked = [0; 65536];
            let _ = client.read(&mut asked);
            let mut more =
                client.write_all(answers[number.min(answers.len() - 1)].as_bytes()).is_ok() && !again.is_empty();
            while more {
                more = client.write_all(again.as_bytes()).is_ok();
            }
        }
    });
}

const FACTS: &str = "Name: HAProxy\nVersion: 2.6.12\nCurrConns: 9\n\n";
const OWN: &str =
    "0xf: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> age=0s rq[f=0,an=00h,] rp[f=0,an=00h,]\n";

fn session(number: usize, doing: &str) -> String {
    format!(
        "0x{number:x}: proto=tcpv4 src=10.0.0.1:{} fe=fe be=be srv=s1 age=1m rq[i=0,an={doing},rx=] rp[i=0,an=00h,rx=]\n",
        number + 1000
    )
}

fn list(sessions: &str) -> String {
    format!("{FACTS}{sessions}{OWN}\n")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn asked(place: &Place, most: usize) -> Result<Uses, Error> {
    // Long, for a machine that is busy: what has no bounds never ends, and fails all the same.
    block_on(within(Duration::from_secs(60), DaemonKind::Haproxy, place.adapter().uses(most)))
}

fn said(answer: String, again: &'static str, most: usize) -> Result<Uses, Error> {
    let place = Place::new();
    says(&place, vec![answer], again);
    asked(&place, most)
}

#[test]
fn a_list_is_read_as_it_is_and_what_is_not_in_it_is_counted() {
    let uses = said(list(&(session(1, "00h") + &session(2, "8000h"))), "", 10).unwrap();
    let users = uses.uses.iter().filter(|one| one.role == Role::User).count();
    assert_eq!((users, uses.uses.len(), uses.more), (2, 3, 7), "nine connections");
    assert_eq!(uses.uses[0].peer, "10.0.0.1:1001".parse().ok());
}

#[test]
fn nonsense_is_an_error_and_never_nobody() {
    let half = list(&session(1, "00h"));
    for answer in [
        String::new(),
        "\n".to_owned(),
        "Permission denied\n\n".to_owned(),
        FACTS.to_owned(),
        format!("{FACTS}\n"),
        format!("{FACTS}{}\n", session(1, "00h")),
        "Name: HAProxy\n\n\n".to_owned(),
        list("Unknown command: 'show sess'\n"),
        list("0x1;quit: src=a fe=b\n"),
        half[..half.len() - 20].to_owned(),
        "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(),
    ] {
        let told = said(answer.clone(), "", 9);
        let senseless = |error: &Error| !matches!(error, Error::Late { .. } | Error::Cannot { .. });
        assert!(told.as_ref().err().is_some_and(senseless), "{told:?} {answer}");
    }
}

#[test]
fn what_never_ends_is_given_up() {
    let error = said(list(""), "0x1: src=10.0.0.1:1 fe=fe rq[an=00h] rp[an=00h]\n", MOST_USES).unwrap_err().to_string();
    assert!(error.contains("more than 67108864 bytes"), "{error}");
}

#[test]
fn of_many_the_first_are_kept_and_names_are_short() {
    let many: String = (0..50_000).map(|number| session(number, "00h")).collect();
    let uses = said(list(&many), "", 1_000).unwrap();
    assert_eq!((uses.uses.len(), uses.more), (1_000, 49_001));
    let long = session(1, "00h").replace("fe=fe", &format!("fe=\u{1b}[2J{}", "x".repeat(100_000)));
    let what = said(list(&long), "", 10).unwrap().uses[0].what.clone().unwrap();
    assert!(what.len() < 500 && !what.contains('\u{1b}'), "{what}");
}

#[test]
fn an_end_is_read_back_and_a_request_is_spared() {
    let place = Place::new();
    let before = list(&(session(1, "00h") + &session(2, "8000h") + &session(3, "00h")));
    says(&place, vec![before, "\n\n".to_owned(), list(&(session(2, "8000h") + &session(3, "00h")))], "");
    let keys = [
        "1@10.0.0.1:1001",
        "2@10.0.0.1:1002",
        "3@10.0.0.1:1003",
        "4@10.0.0.1:1004",
        "1@10.0.0.9:1",
        "x;quit",
        "f@unix:1",
    ];
    let keys = keys.map(|key| if key.starts_with('x') { key.to_owned() } else { format!("0x{key}") });
    let ended = block_on(place.adapter().end(&keys, "", false)).unwrap();
    assert!(matches!(ended[0], Ended::Asked), "{ended:?}");
    assert!(matches!((&ended[1], &ended[2]), (Ended::Spared(_), Ended::Failed(_))), "{ended:?}");
    assert_eq!(ended[3..6], [Ended::Gone, Ended::Gone, Ended::Gone]);
    assert!(matches!(ended[6], Ended::Spared(_)), "{ended:?}");
}

#[test]
fn one_that_is_silent_is_left_and_one_that_is_not_there_is_a_missing_ability() {
    let place = Place::new();
    assert!(matches!(block_on(place.adapter().abilities()).unwrap().list, Ability::Missing { .. }));
    let _listener = UnixListener::bind(place.socket()).unwrap();
    let late = block_on(within(Duration::from_millis(50), DaemonKind::Haproxy, place.adapter().uses(9)));
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    let place = Place::new();
    says(&place, vec![FACTS.to_owned(), "operator\n\n".to_owned()], "");
    let abilities = block_on(place.adapter().abilities()).unwrap();
    assert!(
        abilities.list.is_ready()
            && matches!(&abilities.end, Ability::Missing { what, .. } if what.contains("operator"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_answer_is_an_error_or_a_list(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..8),
    ) {
        let mut answer: Vec<char> = list(&(session(1, "00h") + &session(2, "8000h"))).chars().collect();
        for (at, with) in changes {
            let at = at.index(answer.len());
            answer[at] = with;
        }
        if let Ok(uses) = said(answer.into_iter().collect(), "", 10) {
            prop_assert!(!uses.uses.is_empty());
        }
    }
}
