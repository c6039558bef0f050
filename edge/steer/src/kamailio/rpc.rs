//! One question of JSON-RPC and its answer: over Kamailio's FIFO, its unix socket, or HTTP.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixDatagram as Datagram};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;

use crate::error::short;
use crate::{Error, Until, stream};

/// More is no list of destinations.
const MOST: usize = 16 << 20;
/// Kamailio drops a longer answer over its unix socket without a word.
const DATAGRAM: usize = 1 << 18;
/// Between two looks at a FIFO that has nothing.
const PAUSE: Duration = Duration::from_millis(2);

/// Whether it can be a way to Kamailio's RPC.
pub(super) fn check(at: &str) -> Result<(), Error> {
    if at.starts_with("http://") {
        url(at).map(drop)
    } else if at.starts_with('/') {
        super::socket_check(at)
    } else {
        Err(wrong(at))
    }
}

fn wrong(at: &str) -> Error {
    let help = "write /PATH of the FIFO or unix socket of jsonrpcs, or http://HOST:PORT/PATH".to_owned();
    Error::Settings { what: format!("Kamailio at `{}`", short(at)), help }
}

/// Asks, and gives what was answered.
pub(super) async fn ask(at: &str, method: &str, params: Value, until: Until) -> Result<Value, Error> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut question = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": number});
    let answer = until.wait(at, async {
        if at.starts_with("http://") {
            return http(at, question.to_string()).await;
        }
        let kind = std::fs::metadata(at).map_err(|error| stream::not_reached(at, &error))?.file_type();
        if !kind.is_fifo() {
            return datagram(at, question.to_string(), number).await;
        }
        // Kamailio takes no name with a dot in it.
        let name = format!("ebb_steer_{}_{number}", std::process::id());
        question["reply_name"] = json!(name);
        fifo(at, format!("{question}\n"), &name).await
    });
    result(&answer.await?, at, number)
}

/// What an answer holds. A name may hold any byte: what is no UTF-8 is replaced.
fn result(answer: &[u8], at: &str, number: u64) -> Result<Value, Error> {
    let not_understood = |what: String| Error::NotUnderstood { at: at.to_owned(), what: short(&what) };
    let text = String::from_utf8_lossy(answer);
    let mut told: Value = serde_json::from_str(&text).map_err(|error| not_understood(error.to_string()))?;
    if told.get("id").and_then(Value::as_u64) != Some(number) {
        return Err(not_understood("an answer to another question".to_owned()));
    }
    if let Some(error) = told.get("error") {
        let what = short(error.get("message").and_then(Value::as_str).unwrap_or("an error without a message"));
        let help = "load the module dispatcher, with a list".to_owned();
        return Err(Error::Refused { at: at.to_owned(), what, help });
    }
    told.get_mut("result").map(Value::take).ok_or_else(|| not_understood("no result".to_owned()))
}

/// Our FIFO, taken away again whatever happens.
struct Ours(PathBuf);

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Kamailio writes its answer into a FIFO of ours beside its own (`fifo_reply_dir`), which nobody else may open.
async fn fifo(at: &str, question: String, name: &str) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| stream::not_reached(at, &error);
    // Without a reader on the other side this fails at once: Kamailio is not there.
    let mut asks = pipe::OpenOptions::new().open_sender(at).map_err(failed)?;
    let ours = Ours(Path::new(at).with_file_name(name));
    let _ = std::fs::remove_file(&ours.0);
    let made = mknodat(CWD, &ours.0, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
    made.map_err(|error| failed(error.into()))?;
    let answers = pipe::OpenOptions::new().open_receiver(&ours.0).map_err(failed)?;
    // Theirs may be root's, from before Kamailio gave up his rights; the folder is Kamailio's own.
    let folder = ours.0.parent().unwrap_or(Path::new("/"));
    let owner = std::fs::metadata(folder).map_err(failed)?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        std::os::unix::fs::chown(&ours.0, Some(owner), None).map_err(failed)?;
    }
    let asked = rustix::fs::fstat(&asks).map_err(|error| failed(error.into()))?.st_ino;
    asks.write_all(question.as_bytes()).await.map_err(failed)?;
    drop(asks);
    let (mut all, mut some) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match answers.try_read(&mut some) {
            // Closed by its writer; before it was opened by one there is nothing either.
            Ok(0) if !all.is_empty() => return Ok(all),
            Ok(0) => pause(at, asked).await?,
            Ok(count) => all.extend_from_slice(some.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => pause(at, asked).await?,
            Err(error) => return Err(failed(error)),
        }
        if all.len() > MOST {
            return Err(Error::NotUnderstood { at: at.to_owned(), what: format!("more than {MOST} bytes") });
        }
    }
}

/// Waits a little, if the FIFO is still the one that was asked: one that was started again has not heard the question.
async fn pause(at: &str, asked: u64) -> Result<(), Error> {
    tokio::time::sleep(PAUSE).await;
    match std::fs::metadata(at).map_err(|error| stream::not_reached(at, &error))?.ino() == asked {
        true => Ok(()),
        false => Err(Error::NotReached { at: at.to_owned(), cause: "it was started again meanwhile".to_owned() }),
    }
}

/// From a socket without a file, so that Kamailio needs no right to answer; connected, so that nobody else can.
async fn datagram(at: &str, question: String, number: u64) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| stream::not_reached(at, &error);
    let name = format!("ebb-steer-{}-{number}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).map_err(failed)?;
    let socket = Datagram::bind_addr(&address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.connect(at).map_err(failed)?;
    let socket = UnixDatagram::from_std(socket).map_err(failed)?;
    socket.send(question.as_bytes()).await.map_err(failed)?;
    let mut answer = vec![0; DATAGRAM];
    let count = socket.recv(&mut answer).await.map_err(failed)?;
    answer.truncate(count);
    Ok(answer)
}

/// Where a URL leads, and its path.
fn url(at: &str) -> Result<(String, String), Error> {
    let uri: Uri = at.parse().map_err(|_| wrong(at))?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(|| wrong(at))?;
    let host = authority.host();
    let to = format!("{host}:{}", authority.port_u16().unwrap_or(80));
    Ok((to, uri.path().to_owned()))
}

async fn http(at: &str, question: String) -> Result<Vec<u8>, Error> {
    let (to, path) = url(at)?;
    let failed = |error: hyper::Error| Error::NotReached { at: at.to_owned(), cause: short(&error.to_string()) };
    let not_understood =
        |what: &dyn std::fmt::Display| Error::NotUnderstood { at: at.to_owned(), what: short(&what.to_string()) };
    let request = Request::post(path).header("host", &to).header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(question))).map_err(|error| not_understood(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream::connect(&to).await?)).await.map_err(failed)?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let code = answer.status();
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| not_understood(&error))?;
        if code.is_success() { Ok(body.to_bytes().to_vec()) } else { Err(not_understood(&format!("HTTP {code}"))) }
    };
    let mut asked = std::pin::pin!(asked);
    // The connection moves while it is waited for; one that has ended may have brought the answer.
    tokio::select! {
        answer = &mut asked => answer,
        _ = connection => asked.await,
    }
}
