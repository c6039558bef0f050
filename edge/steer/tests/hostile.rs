//! Who listens where a HAProxy or a Kamailio should be, and is none, or speaks against us: each answer is an error, within
//! its time and bounds.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use ebb_steer::haproxy::Haproxy;
use ebb_steer::kamailio::Kamailio;
use ebb_steer::{Error, Look, Steer};

/// Long, for a machine that is busy: what has no bounds never ends, and fails all the same.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ebb-steer-hostile-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn looked(steer: &Steer, limit: Duration) -> Result<Look, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(steer.look(limit))
}

fn haproxy(at: String) -> Steer {
    Steer::Haproxy(Haproxy { at, backend: "be".to_owned(), server: "s1".to_owned() })
}

fn kamailio(at: String) -> Steer {
    Steer::Kamailio(Kamailio { at, set: 1, destination: "sip:a".to_owned() })
}

/// Says this to whoever comes, then this again and again until nobody listens; with nothing at all it only waits.
fn says(mut stream: impl Read + Write, first: &[u8], again: &[u8]) {
    let mut some = [0; 4096];
    let _ = stream.read(&mut some);
    let again = again.repeat(8192);
    let mut more = stream.write_all(first).is_ok() && !again.is_empty();
    while more {
        more = stream.write_all(&again).is_ok();
    }
    if first.is_empty() {
        let _ = stream.read(&mut some);
    }
}

fn is_senseless(answer: &Result<Look, Error>) -> bool {
    matches!(answer, Err(Error::NotUnderstood { .. } | Error::NotReached { .. }))
}

#[test]
fn what_is_no_haproxy() {
    let folder = Folder::new("haproxy");
    let at = folder.path("sock");
    let listener = UnixListener::bind(&at).unwrap();
    let answers: [(&[u8], &[u8]); 5] =
        [(b"\xff\xfe", b""), (b"admin\n\n", b""), (b"\n", b""), (b"admin\n\nPid: 1\n\n", b""), (b"x", b"admin\n\n")];
    thread::spawn(move || {
        for ((first, again), client) in answers.into_iter().zip(listener.incoming()) {
            says(client.unwrap(), first, again);
        }
        says(listener.accept().unwrap().0, b"", b"");
    });
    for (first, again) in answers {
        let answer = looked(&haproxy(at.clone()), LONG);
        assert!(is_senseless(&answer), "{first:?} {again:?}: {answer:?}");
    }
    assert!(matches!(looked(&haproxy(at), SHORT), Err(Error::Late { .. })), "it says nothing");
}

#[test]
fn what_is_no_kamailio_behind_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}/RPC", listener.local_addr().unwrap());
    let answers: [(&[u8], &[u8]); 6] = [
        (b"220 mail ready\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", b""),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"[[[[[[[["),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
    ];
    thread::spawn(move || {
        for ((first, again), client) in answers.into_iter().zip(listener.incoming()) {
            says(client.unwrap(), first, again);
        }
        says(listener.accept().unwrap().0, b"", b"");
    });
    for (first, again) in answers {
        let answer = looked(&kamailio(at.clone()), LONG);
        assert!(is_senseless(&answer), "{first:?} {again:?}: {answer:?}");
    }
    assert!(matches!(looked(&kamailio(at), SHORT), Err(Error::Late { .. })), "it says nothing");
}

#[test]
fn what_is_no_kamailio_behind_a_socket() {
    let folder = Folder::new("datagram");
    let at = folder.path("sock");
    let socket = UnixDatagram::bind(&at).unwrap();
    thread::spawn(move || {
        let mut some = [0; 4096];
        for answer in ["", "{}", "[", r#"{"id":999,"result":{}}"#] {
            let (_, from) = socket.recv_from(&mut some).unwrap();
            let _ = socket.send_to_addr(answer.as_bytes(), &from);
        }
        let _ = socket.recv_from(&mut some);
        thread::sleep(LONG);
    });
    for _ in 0..4 {
        let answer = looked(&kamailio(at.clone()), LONG);
        assert!(is_senseless(&answer), "{answer:?}");
    }
    assert!(matches!(looked(&kamailio(at), SHORT), Err(Error::Late { .. })), "it says nothing");
}

#[test]
fn what_is_no_kamailio_behind_a_fifo() {
    let folder = Folder::new("fifo");
    let at = folder.path("rpc");
    assert!(Command::new("mkfifo").arg(&at).status().unwrap().success());
    assert!(matches!(looked(&kamailio(at.clone()), SHORT), Err(Error::NotReached { .. })), "nobody reads there");
    let answers: [(&[u8], &[u8]); 3] = [(b"{", b""), (b"{}", b""), (b"[", b"[[[[[[[[")];
    // Open for both, so that it is there between two questions.
    let mut fifo = std::fs::OpenOptions::new().read(true).write(true).open(&at).unwrap();
    let place = folder.0.clone();
    thread::spawn(move || {
        let mut asked = || {
            let mut some = vec![0; 4096];
            let count = fifo.read(&mut some).unwrap();
            let text = String::from_utf8(some[..count].to_vec()).unwrap();
            let name = text.split("\"reply_name\":\"").nth(1).unwrap().split('"').next().unwrap();
            place.join(name)
        };
        for (first, again) in answers {
            let mut reply = std::fs::OpenOptions::new().write(true).open(asked()).unwrap();
            let again = again.repeat(8192);
            let mut more = reply.write_all(first).is_ok() && !again.is_empty();
            while more {
                more = reply.write_all(&again).is_ok();
            }
        }
        let _ = asked();
        let _ = asked();
        // Another one, as a Kamailio that is started again makes it, before the first is gone.
        let (path, other) = (place.join("rpc"), place.join("other"));
        assert!(Command::new("mkfifo").arg(&other).status().unwrap().success());
        std::fs::rename(other, path).unwrap();
        thread::sleep(LONG);
    });
    for (first, again) in answers {
        let answer = looked(&kamailio(at.clone()), LONG);
        assert!(is_senseless(&answer), "{first:?} {again:?}: {answer:?}");
    }
    assert!(matches!(looked(&kamailio(at.clone()), SHORT), Err(Error::Late { .. })), "it says nothing");
    let again = looked(&kamailio(at), LONG);
    assert!(matches!(&again, Err(Error::NotReached { cause, .. }) if cause.contains("started again")), "{again:?}");
    let left = std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(left, 1, "ours is taken away again");
}
