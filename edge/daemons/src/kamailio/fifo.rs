//! One question and its answer over a pair of FIFOs: Kamailio's, into which the question is written, and one of our own
//! beside it, into which Kamailio writes the answer. Ours is made as the owner of their folder, for nobody else to read or
//! write.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::Uid;
use serde_json::{Value, json};

use super::KAMAILIO;
use crate::{Error, MOST_BYTES, call};

/// Whoever waits for the answer gives up before that; this ends the thread.
const LONGEST: Duration = Duration::from_secs(20);
/// Between two looks at a FIFO that has nothing.
const PAUSE: Duration = Duration::from_millis(1);

/// Asks, and answers with all that came.
pub(super) async fn ask(fifo: &str, method: &'static str, params: Value) -> Result<Vec<u8>, Error> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let path = PathBuf::from(fifo);
    let not_reached = |error: &dyn std::fmt::Display| Error::NotReached {
        daemon: KAMAILIO,
        at: fifo.to_owned(),
        cause: call::short(&error.to_string()),
    };
    // A thread of its own: its user is changed for good.
    let thread = std::thread::Builder::new().name("fifo".to_owned()).spawn(move || {
        let mut gone = || tell.is_closed();
        let answer = talk(&path, method, &params, &mut gone);
        let _ = tell.send(answer);
    });
    thread.map_err(|error| not_reached(&error))?;
    let answer = told.await.map_err(|error| not_reached(&error))?;
    answer.map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => Error::NotUnderstood { daemon: KAMAILIO, what: error.to_string() },
        ErrorKind::PermissionDenied => {
            Error::NotPermitted { daemon: KAMAILIO, at: fifo.to_owned(), cause: error.to_string() }
        }
        _ => not_reached(&error),
    })
}

/// Our FIFO, taken away again whatever happens.
struct Ours(PathBuf);

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn talk(fifo: &Path, method: &str, params: &Value, gone: &mut dyn FnMut() -> bool) -> std::io::Result<Vec<u8>> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let until = Instant::now() + LONGEST;
    let theirs = std::fs::metadata(fifo)?;
    if !theirs.file_type().is_fifo() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no FIFO"));
    }
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    // Without a reader on the other side this fails at once: Kamailio is not there. Theirs may be ours alone, or theirs.
    let open = || OpenOptions::new().write(true).custom_flags(nonblocking).open(fifo);
    let early = open();
    let folder = fifo.parent().unwrap_or(Path::new("/"));
    let owner = std::fs::metadata(folder)?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        let keep = None::<Uid>;
        rustix::thread::set_thread_res_uid(keep, Some(Uid::from_raw(owner)), keep)?;
    }
    let mut asks = early.or_else(|_| open())?;
    // Kamailio takes no name with a dot in it.
    let name = format!("ebb_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let ours = Ours(fifo.with_file_name(&name));
    let _ = std::fs::remove_file(&ours.0);
    mknodat(CWD, &ours.0, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let mut answers = OpenOptions::new().read(true).custom_flags(nonblocking).open(&ours.0)?;
    let question = json!({"jsonrpc": "2.0", "method": method, "params": params, "reply_name": name, "id": 1});
    asks.write_all(format!("{question}\n").as_bytes())?;
    drop(asks);
    read(&mut answers, until, gone)
}

/// Until its writer has closed it. Before it is opened there is nothing to read either.
fn read(answers: &mut File, until: Instant, gone: &mut dyn FnMut() -> bool) -> std::io::Result<Vec<u8>> {
    let (mut all, mut some) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match answers.read(&mut some) {
            Ok(0) if !all.is_empty() => return Ok(all),
            Ok(0) => {}
            Ok(count) => {
                all.extend_from_slice(some.get(..count).unwrap_or_default());
                if all.len() > MOST_BYTES {
                    return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("more than {MOST_BYTES} bytes")));
                }
                continue;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if gone() || Instant::now() > until {
            return Err(std::io::Error::new(ErrorKind::TimedOut, "no answer"));
        }
        std::thread::sleep(PAUSE);
    }
}
