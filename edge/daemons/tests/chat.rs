//! Who listens on the socket of Prosody and is none, or speaks against us: every answer is an error or a list, within bounds.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ebb_daemons::{Adapter, Error, MOST_USES, Seen, recognise, within};
use ebb_model::{Ability, DaemonKind, DaemonSettings, Ended, Span, Uses};
use proptest::prelude::*;

/// A socket in a folder of its own, both gone with this.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ebb-chat-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn socket(&self) -> String {
        self.0.join("prosody.sock").display().to_string()
    }

    /// Known by the name of its socket.
    fn adapter(&self) -> Box<dyn Adapter> {
        recognise(&Seen { unix: vec![self.socket()], ..Seen::default() }, &DaemonSettings::default()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers each question with the next of these, the last one again and again; says nothing more after an empty one, and
/// closes at the end of its patience.
fn says(place: &Place, answers: Vec<Vec<u8>>, patience: Duration) {
    let listener = UnixListener::bind(place.socket()).unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            client.set_read_timeout(Some(patience)).unwrap();
            let mut read = Vec::new();
            for number in 0.. {
                let mut some = [0; 65536];
                let answer = answers.get(number.min(answers.len() - 1)).unwrap();
                while !read.ends_with(b"</repl-input>") {
                    match client.read(&mut some) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => read.extend_from_slice(&some[..count]),
                    }
                }
                if !read.ends_with(b"</repl-input>") || client.write_all(answer).is_err() {
                    break;
                }
                read.clear();
            }
        }
    });
}

fn ok(text: &str) -> Vec<u8> {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!("<repl-result>OK: {text}</repl-result>").into_bytes()
}

fn row(user: &str) -> String {
    let user = serde_json::Value::from(user);
    format!(r#"["c2s1-2.5","c2s",{user},"r",null,null,"10.0.0.1",4711.0,1.0,null,null,true,[],0]"#)
}

fn page(left: usize, rows: &[String]) -> Vec<u8> {
    ok(&format!(r#"{{"left":{left},"rows":[{}]}}"#, rows.join(",")))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

const IMPATIENT: Duration = Duration::from_millis(20);

fn said(answers: Vec<Vec<u8>>, most: usize) -> Result<Uses, Error> {
    said_to(answers, most, IMPATIENT)
}

fn said_to(answers: Vec<Vec<u8>>, most: usize, patience: Duration) -> Result<Uses, Error> {
    let place = Place::new();
    says(&place, [vec![ok("0.12.3")], answers].concat(), patience);
    // Long, for a machine that is busy: what has no bounds never ends, and fails all the same.
    block_on(within(Duration::from_secs(60), DaemonKind::Prosody, place.adapter().uses(most)))
}

#[test]
fn a_list_is_read_as_it_is() {
    let uses = said(vec![page(3, &[row("ana@x")]), page(0, &[row("bob@x"), row("a\u{1b}[2J\nb")])], 2).unwrap();
    assert_eq!((uses.uses.len(), uses.more), (2, 1));
    assert_eq!(uses.uses[0].peer, "10.0.0.1:4711".parse().ok());
    assert!(said(vec![page(0, &[])], 9).unwrap().uses.is_empty(), "nobody, said in so many words");
}

#[test]
fn nonsense_is_an_error_and_never_nobody() {
    let fault = b"<repl-result type='error'>attempt to index a nil value</repl-result>".to_vec();
    let half = page(0, &[row("ana@x")])[..90].to_vec();
    for answer in [
        vec![],
        half,
        fault,
        ok(""),
        ok("[]"),
        ok("{\"left\":0}"),
        ok("{\"left\":-1,\"rows\":[]}"),
        ok("{\"left\":0,\"rows\":[[]]}"),
        b"<repl-result/>".to_vec(),
        b"<repl-result>Result: nil</repl-result>".to_vec(),
        b"</stream:stream>".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xff; 1000],
    ] {
        let told = said(vec![answer.clone()], 9);
        let error = told.as_ref().err();
        let senseless = |error: &Error| !matches!(error, Error::Late { .. } | Error::Cannot { .. });
        assert!(error.is_some_and(senseless), "{told:?} {}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn what_never_ends_is_given_up() {
    let long = format!("<repl-output>{}</repl-output>", "x".repeat(1 << 20)).repeat(70).into_bytes();
    let unfinished = [b"<repl-result>OK: ".to_vec(), vec![b'x'; 70 << 20]].concat();
    for answer in [long, unfinished, page(1, &vec![row(&"x".repeat(1000)); 10_000])] {
        let error = said_to(vec![answer], MOST_USES * 9, Duration::from_secs(60)).unwrap_err().to_string();
        assert!(error.contains("more than 67108864 bytes"), "{error}");
    }
}

#[test]
fn of_many_the_first_are_kept_and_each_is_short() {
    let rows = vec![row(&"\u{202e}x".repeat(3000)); 1000];
    let uses = said(vec![page(49_000, &rows)], 1_000).unwrap();
    assert_eq!((uses.uses.len(), uses.more), (1_000, 49_000));
    let longest = uses.uses.iter().map(|one| one.user.as_ref().unwrap().len() + one.what.as_ref().unwrap().len()).max();
    assert!(longest.unwrap() < 4_500);
}

#[test]
fn each_session_has_an_outcome_and_keys_are_no_lua() {
    let place = Place::new();
    says(&place, vec![ok("0.12.3"), ok(r#"["asked","gone","stays","failed: x"]"#)], IMPATIENT);
    let keys = ["a", "b", "\") os.exit() --", "</repl-input>"].map(str::to_owned);
    let ended = block_on(place.adapter().end(&keys, "bye", false)).unwrap();
    assert!(matches!(&ended[..], [Ended::Asked, Ended::Gone, Ended::Failed(_), Ended::Failed(_)]), "{ended:?}");
    let fewer = block_on(place.adapter().end(&keys[..2], "bye", false));
    assert!(matches!(fewer, Err(Error::NotUnderstood { .. })), "{fewer:?}");
}

#[test]
fn one_that_is_slow_is_left_and_one_that_is_not_there_is_a_missing_ability() {
    let place = Place::new();
    assert!(matches!(block_on(place.adapter().abilities()).unwrap().list, Ability::Missing { .. }));
    says(&place, vec![vec![]], Duration::from_secs(9));
    let limit = Duration::from_millis(50);
    let late = block_on(within(limit, DaemonKind::Prosody, place.adapter().uses(9)));
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    // Who answers one question in time, and there are many.
    let place = Place::new();
    let asked = ok(&format!("[{}]", vec!["\"asked\""; 100].join(",")));
    says(&place, vec![ok("0.12.3"), asked], IMPATIENT);
    let settings = DaemonSettings { timeout: Span(1), ..DaemonSettings::default() };
    let adapter = recognise(&Seen { unix: vec![place.socket()], ..Seen::default() }, &settings).unwrap();
    let ended = block_on(adapter.end(&vec!["k".to_owned(); 500], "bye", false)).unwrap();
    assert!(ended.len() == 500 && matches!(ended.last(), Some(Ended::Failed(_))), "{ended:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_answer_is_an_error_or_a_list(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut answer = page(0, &[row("ana@x"), row("Zoë@x")]);
        for (at, byte) in changes {
            let at = at.index(answer.len());
            answer[at] = byte;
        }
        if let Ok(uses) = said(vec![answer], 10) {
            prop_assert!(!uses.uses.is_empty());
        }
    }
}
