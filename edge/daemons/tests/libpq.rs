//! Servers that speak PostgreSQL's protocol badly, or against us: the agent is root, and whoever may listen on a socket may
//! call himself `postgres`. Every answer is an error or a list, within bounds.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ebb_daemons::{Adapter, Error, MOST_USES, Seen, recognise, within};
use ebb_model::{Ability, DaemonKind, DaemonSettings, Uses};
use proptest::prelude::*;

/// A socket in a folder of its own, both gone with this.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ebb-libpq-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn socket(&self) -> String {
        self.0.join(".s.PGSQL.5432").display().to_string()
    }

    fn adapter(&self, kind: DaemonKind) -> Box<dyn Adapter> {
        let settings = DaemonSettings { kind: Some(kind), ..DaemonSettings::default() };
        recognise(&Seen { unix: vec![self.socket()], ..Seen::default() }, &settings).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that greets who connects, waits for a question if the greeting is a good one, and says: `once`, then `again` until nobody listens.
fn says(place: &Place, greeting: Vec<u8>, once: Vec<u8>, again: Vec<u8>, patience: Option<Duration>) {
    let listener = UnixListener::bind(place.socket()).unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 4096];
            let _ = client.read(&mut asked);
            if client.write_all(&greeting).is_ok() && greeting == welcome() {
                let _ = client.read(&mut asked);
            }
            let mut more = client.write_all(&once).is_ok() && !again.is_empty();
            while more {
                more = client.write_all(&again).is_ok();
            }
            // To whatever else is asked; who was answered with nonsense may ask nothing more, and wait.
            client.set_read_timeout(patience).unwrap();
            let _ = client.read(&mut asked);
            let _ = client.write_all(&[message(b'C', b"SHOW\0"), READY.to_vec()].concat());
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut client, &mut std::io::sink());
        }
    });
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn row_of(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    message(b'D', &body)
}

fn columns(names: &[&str]) -> Vec<u8> {
    let mut body = (names.len() as u16).to_be_bytes().to_vec();
    for name in names {
        body.extend(name.as_bytes());
        body.push(0);
        body.extend([0; 18]);
    }
    message(b'T', &body)
}

/// So long a server waits for a question that may never come.
const IMPATIENT: Duration = Duration::from_millis(10);
const READY: &[u8] = b"Z\0\0\0\x05I";
const CLIENTS: [&str; 8] = ["user", "database", "state", "addr", "port", "link", "ptr", "application_name"];

fn welcome() -> Vec<u8> {
    [&message(b'R', &[0; 4])[..], &message(b'K', &[0; 8]), READY].concat()
}

fn client_of(user: &[u8]) -> Vec<u8> {
    row_of(&[Some(user), Some(b"app"), Some(b"active"), Some(b"10.0.0.1"), Some(b"4711"), None, Some(b"0x55"), None])
}

fn list(rows: &[Vec<u8>]) -> Vec<u8> {
    [columns(&CLIENTS), rows.concat(), message(b'C', b"SHOW\0"), READY.to_vec()].concat()
}

fn asked(place: &Place, kind: DaemonKind, most: usize) -> Result<Uses, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let adapter = place.adapter(kind);
    // Long, for a machine that is busy: what has no bounds never ends, and fails all the same.
    runtime.block_on(within(Duration::from_secs(60), kind, adapter.uses(most)))
}

fn said(greeting: Vec<u8>, once: Vec<u8>, again: Vec<u8>, most: usize) -> Result<Uses, Error> {
    let patience = (!once.ends_with(READY)).then_some(IMPATIENT);
    let place = Place::new();
    says(&place, greeting, once, again, patience);
    asked(&place, DaemonKind::Pgbouncer, most)
}

#[test]
fn a_list_is_read_as_it_is() {
    let uses = said(welcome(), list(&[client_of(b"ana")]), vec![], 10).unwrap();
    let one = &uses.uses[0];
    assert_eq!((one.user.as_deref(), one.peer), (Some("ana"), Some("10.0.0.1:4711".parse().unwrap())));
    assert_eq!(uses.more, 0);
}

#[test]
fn nonsense_is_an_error_and_never_nobody() {
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    let long = [&b"R\xff\xff\xff\xff"[..], &[0; 64]].concat();
    let negative = b"R\0\0\0\0".to_vec();
    for once in [http, long, negative, vec![]] {
        is_senseless(&said(vec![], once.clone(), vec![], 10));
        is_senseless(&said(welcome(), once, vec![], 10));
    }
    let empty = list(&[]);
    let half = list(&[client_of(b"ana")])[..90].to_vec();
    let no_columns = [client_of(b"ana"), READY.to_vec()].concat();
    let fewer = list(&[client_of(b"ana"), row_of(&[Some(b"ana")])]);
    let nameless = list(&[row_of(&[None; 8])]);
    let others = [columns(&["x"]), row_of(&[Some(b"y")]), READY.to_vec()].concat();
    let wide = [columns(&vec!["x"; 60_000]), READY.to_vec()].concat();
    for once in [empty, half, no_columns, fewer, nameless, others, wide, READY.to_vec()] {
        is_senseless(&said(welcome(), once, vec![], 10));
    }
}

fn is_senseless(answer: &Result<Uses, Error>) {
    assert!(matches!(answer, Err(Error::NotReached { .. } | Error::NotUnderstood { .. })), "{answer:?}");
}

#[test]
fn what_never_ends_is_given_up() {
    // Long ones, for the sake of a build that is not optimized.
    let long = "x".repeat(60_000);
    let some = client_of(long.as_bytes());
    let notice = message(b'N', format!("SNOTICE\0C00000\0M{long}\0\0").as_bytes());
    let settings = message(b'S', format!("a\0{long}\0").as_bytes());
    for (greeting, once, again) in [
        (welcome(), columns(&CLIENTS), some),
        (welcome(), vec![], notice.clone()),
        (welcome(), vec![], settings.clone()),
        (welcome(), b"D\x7f\xff\xff\xff".to_vec(), vec![0; 65536]),
    ] {
        let error = said(greeting, once, again, MOST_USES).unwrap_err().to_string();
        assert!(error.contains("more than 67108864 bytes"), "{error}");
    }
    for again in [notice, settings] {
        is_senseless(&said(vec![], vec![], again, MOST_USES));
    }
}

#[test]
fn of_many_the_first_are_kept_and_the_others_counted() {
    let rows = vec![client_of(b"ana"); 50_000];
    let uses = said(welcome(), list(&rows), vec![], 1_000).unwrap();
    assert_eq!((uses.uses.len(), uses.more), (1_000, 49_000));
}

#[test]
fn names_may_be_anything() {
    let uses = said(welcome(), list(&[client_of(b"a\x1b[2J\nb"), client_of(b"\xff\xfe")]), vec![], 10).unwrap();
    assert_eq!(uses.uses[0].user.as_deref(), Some("a\u{1b}[2J\nb"), "made printable where it is shown");
    assert_eq!(uses.uses.len(), 2, "one whose name is no text is one still");
}

#[test]
fn what_it_says_in_the_end_is_told() {
    let fatal = message(b'E', b"SFATAL\0C28000\0Mno \x1b[31mentry\0\0");
    for greeting in [vec![], welcome()] {
        match said(greeting, fatal.clone(), vec![], 10) {
            Err(Error::NotPermitted { cause, .. }) => assert!(!cause.contains('\u{1b}'), "{cause:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A server that is stopped (`SIGSTOP`) takes no connection, and its queue is full soon. Nothing is left behind for each
/// time that it is asked.
#[test]
fn a_server_that_takes_no_connection_holds_no_thread() {
    let place = Place::new();
    let _listener = UnixListener::bind(place.socket()).unwrap();
    fill(&place.socket());
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let error = asked(&place, DaemonKind::Postgresql, 10).unwrap_err();
    assert!(matches!(error, Error::NotReached { .. }), "{error}");
    // It ends a moment after it has told.
    let ended = (0..1000).any(|_| {
        std::thread::sleep(IMPATIENT);
        threads() <= before
    });
    assert!(ended, "{} threads, and {before} before", threads());
}

/// Connects without waiting until the queue is full.
fn fill(path: &str) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let at = SocketAddrUnix::new(path).unwrap();
    let mut full = Vec::new();
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        if connect(&socket, &at).is_err() {
            break;
        }
        full.push(UnixStream::from(socket));
    }
    assert!(full.len() > 1);
    std::mem::forget(full);
}

#[test]
fn a_server_that_is_not_there_is_a_missing_ability() {
    let place = Place::new();
    let adapter = place.adapter(DaemonKind::Postgresql);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let abilities = runtime.block_on(adapter.abilities()).unwrap();
    assert!(matches!(abilities.list, Ability::Missing { .. }), "{abilities:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// A good answer, with some of its bytes changed and its end cut off.
    #[test]
    fn a_damaged_answer_is_an_error_or_a_list(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        (cuts, early) in any::<(bool, bool)>(),
    ) {
        let (mut greeting, mut once) =
            (welcome(), list(&[client_of(b"ana"), client_of("Zoë".as_bytes()), client_of(b"")]));
        let damaged = if early { &mut greeting } else { &mut once };
        for (at, byte) in changes {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        if cuts {
            damaged.truncate(cut.index(damaged.len()));
        }
        let place = Place::new();
        says(&place, greeting, once, vec![], Some(IMPATIENT));
        if let Ok(uses) = asked(&place, DaemonKind::Pgbouncer, 10) {
            prop_assert!(!uses.uses.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), greets in any::<bool>()) {
        let greeting = if greets { welcome() } else { vec![] };
        prop_assert!(said(greeting, bytes, vec![], 10).is_err());
    }
}
