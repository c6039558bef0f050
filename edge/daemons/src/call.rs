//! Ways to a daemon that several have in common: a command of its package, a unix socket. Bounded in bytes; bounded in
//! time by whoever waits for them, since all that was started ends when it is dropped.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebb_model::{DaemonKind, printable};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::{Error, MOST_BYTES};

/// So much is kept of what a command says on standard error.
const MOST_SAID: usize = 4096;

/// So many pieces of blocking work may be under way, those that nobody waits for any more included.
const MOST_ASIDE: usize = 8;

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: Vec<u8>,
    /// The beginning of its standard error, printable.
    pub err: String,
}

/// Runs a program of the daemon's package, without a shell and in the C locale. It is killed when this is dropped.
///
/// # Errors
/// [`Error::NotReached`] if it cannot be started, [`Error::NotUnderstood`] if it says too much.
pub async fn run(daemon: DaemonKind, program: &str, arguments: &[&str], input: Option<&[u8]>) -> Result<Ran, Error> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |error: std::io::Error| Error::NotReached { daemon, at: program.to_owned(), cause: error.to_string() };
    let mut child = command.spawn().map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // It may end before it has read all: its answer says more than that.
            let _ = stdin.write_all(input).await;
        }
        Ok(())
    };
    let ((), out, err) = tokio::try_join!(write, read(daemon, stdout, MOST_BYTES), async {
        let mut kept = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(MOST_SAID as u64).read_to_end(&mut kept).await;
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        }
        Ok(kept)
    })?;
    let status = child.wait().await.map_err(failed)?;
    Ok(Ran { code: status.code(), out, err: short(&String::from_utf8_lossy(&err)) })
}

/// Reads to the end, if that is not too far.
async fn read(daemon: DaemonKind, from: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    let Some(from) = from else { return Ok(all) };
    let failed = |error: std::io::Error| Error::NotUnderstood { daemon, what: error.to_string() };
    from.take(most as u64 + 1).read_to_end(&mut all).await.map_err(failed)?;
    if all.len() > most {
        return Err(Error::NotUnderstood { daemon, what: format!("more than {most} bytes") });
    }
    Ok(all)
}

/// Work that blocks, on a thread of its own: to look at `/proc`, say, where a process can make whoever reads of it wait.
/// Whoever waits for it may leave; then it goes on, and only so many may.
///
/// # Errors
/// [`Error::NotReached`] if too many have not come back, or no thread is to be had.
pub async fn aside<T, F>(daemon: DaemonKind, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    static ASIDE: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            ASIDE.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let failed = |cause: String| Error::NotReached { daemon, at: "a thread of our own".to_owned(), cause };
    let before = ASIDE.fetch_add(1, Ordering::Relaxed);
    let counted = Counted;
    if before >= MOST_ASIDE {
        return Err(failed(format!("{before} earlier looks have not come back")));
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("aside".to_owned()).spawn(move || {
        let _counted = counted;
        let _ = tell.send(work());
    });
    thread.map_err(|error| failed(error.to_string()))?;
    told.await.map_err(|error| failed(error.to_string()))
}

/// The beginning of what a daemon said, fit for a message: printable, one line, 200 characters at most.
#[must_use]
pub fn short(text: &str) -> String {
    printable(text.trim()).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_says_what_it_came_to() {
        let ran = run(DaemonKind::Exec, "sh", &["-c", "cat; echo no >&2; exit 3"], Some(b"abc")).await.unwrap();
        assert_eq!((ran.code, ran.out.as_slice(), ran.err.as_str()), (Some(3), &b"abc"[..], "no"));
        let missing = run(DaemonKind::Exec, "/nonexistent", &[], None).await;
        assert!(matches!(missing, Err(Error::NotReached { .. })), "{missing:?}");
    }

    #[tokio::test]
    async fn too_much_is_refused_and_not_kept() {
        let endless = run(DaemonKind::Exec, "sh", &["-c", "yes"], None).await;
        assert!(matches!(endless, Err(Error::NotUnderstood { .. })), "{endless:?}");
    }

    #[tokio::test]
    async fn work_that_does_not_come_back_is_not_begun_for_ever() {
        assert_eq!(aside(DaemonKind::Exec, || 7).await.unwrap(), 7);
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        for _ in 0..MOST_ASIDE {
            let held = held.clone();
            let stuck = aside(DaemonKind::Exec, move || held.lock().map(|held| held.recv().is_ok()).is_ok());
            let left = tokio::time::timeout(std::time::Duration::from_millis(1), stuck).await;
            assert!(left.is_err());
        }
        let refused = aside(DaemonKind::Exec, || 7).await;
        assert!(matches!(refused, Err(Error::NotReached { .. })), "{refused:?}");
        drop(hold);
        while aside(DaemonKind::Exec, || 7).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn what_a_daemon_says_cannot_move_a_cursor() {
        assert_eq!(short(&format!("  \x1b[2J{}", "x".repeat(500))).chars().count(), 200);
        assert!(!short("a\nb").contains('\n'));
    }
}
