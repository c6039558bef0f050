//! Real daemons of Debian's packages, started for one test and gone with it.

use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_daemons::{Answer, Error};
use ebb_kernel::netns::die_with_parent;

/// Nothing here takes so long on a machine that works.
const LIMIT: Duration = Duration::from_secs(60);

/// A program of a daemon's package, which may lie outside of `PATH`.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let of_postgres = versions.map(|version| version.path().join("bin"));
    let places = ["/usr/sbin", "/usr/bin"].map(PathBuf::from).into_iter().chain(of_postgres);
    let found = places.map(|place| place.join(name)).find(|path| path.exists());
    found.ok_or_else(|| format!("there is no {name}"))
}

/// What is missing fails the test where tests must run, and skips it elsewhere, aloud.
#[expect(clippy::print_stdout, reason = "a test that did not run must be seen")]
pub fn must_run<T>(found: Result<T, String>) -> Option<T> {
    let root = rustix::process::geteuid().is_root();
    let found = found.and_then(|found| if root { Ok(found) } else { Err("only root can do this".to_owned()) });
    match found {
        Ok(found) => Some(found),
        Err(why) if std::env::var_os("EBB_TEST_MUST_RUN").is_some() => panic!("{why}"),
        Err(why) => {
            println!("SKIPPED: {why}");
            None
        }
    }
}

/// A folder for one test, gone with this.
pub struct Folder(String);

impl Folder {
    pub fn owned_by(name: &str, user: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        let path = path.display().to_string();
        assert!(Command::new("chown").args([user, &path]).status().unwrap().success());
        Self(path)
    }

    pub fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts a program as a user; it ends with us.
pub fn start_as(user: &str, program: &std::path::Path, words: &[&str]) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", "--pdeathsig", "KILL"]).arg(program).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    die_with_parent(&mut command).spawn().unwrap()
}

/// Starts a client that is typed to and listened to.
pub fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
    die_with_parent(command).spawn().unwrap()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Asks an adapter, with patience.
pub fn ask<T>(answer: Answer<'_, T>) -> Result<T, Error> {
    block_on(ebb_daemons::within(LIMIT, ebb_model::DaemonKind::Exec, answer))
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
