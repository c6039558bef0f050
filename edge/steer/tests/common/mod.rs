//! Real daemons of Debian's packages in a network of their own, gone with the test.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ebb_kernel::netns::{Links, Ns, Prefix, die_with_parent, in_ns};
use ebb_steer::{Look, Previous, Steer};

/// Nothing here takes so long on a machine that works.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test on a thread in a network of its own, with nothing in it but a loopback. What is missing fails the test where
/// tests must run, and skips it elsewhere, aloud.
#[expect(clippy::print_stdout, reason = "a test that did not run must be seen")]
pub fn alone(programs: &[&str], test: impl FnOnce() + Send) {
    let ready = || {
        if let Some(missing) = programs.iter().find(|program| !Path::new(program).exists()) {
            return Err(format!("there is no {missing}"));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("only root can do this".to_owned());
        }
        let ns = Ns::fresh().map_err(|error| format!("failed to {error}"))?;
        let mut links = Links::inside(&ns).map_err(|error| format!("failed to {error}"))?;
        let up = links.index_of("lo").and_then(|lo| {
            links.set_up(lo)?;
            // BIND listens at addresses that an interface has, and loopback ones are not added.
            let prefix = |last| Prefix::new(IpAddr::from([10, 77, 0, last]), 32);
            (1..=3).filter_map(prefix).try_for_each(|prefix| links.add_address(lo, prefix))
        });
        up.map_err(|error| format!("failed to {error}")).map(|()| ns)
    };
    match ready() {
        Ok(ns) => in_ns(&ns, test).unwrap(),
        Err(why) if std::env::var_os("EBB_TEST_MUST_RUN").is_some() => panic!("{why}"),
        Err(why) => println!("SKIPPED: {why}"),
    }
}

/// A folder for one test, gone with this.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ebb-steer-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Writes a file, for its owner alone.
    pub fn write(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.0.join(name), text).unwrap();
        std::fs::set_permissions(self.0.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A daemon, ended with this: all its processes, since they are in a PID namespace of their own.
pub struct Daemon(pub Child);

impl Daemon {
    pub fn start(log: &str, words: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--kill-child", "sh", "-c", "\"$@\" & wait", "sh"]).args(words);
        let log = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir("/");
        Self(die_with_parent(&mut command).spawn().unwrap())
    }
}

impl Drop for Daemon {
    /// The first process of the namespace is ended, by which all in there are; its parent, for which we wait, ends after it.
    fn drop(&mut self) {
        let first = Command::new("pkill").args(["-KILL", "-P", &self.0.id().to_string()]).status();
        if !first.is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Waits until something is so, and gives it.
pub fn eventually<T>(what: &str, mut is: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match is() {
            Ok(found) => return found,
            Err(why) => assert!(began.elapsed() < LIMIT, "never: {what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Looks, when what it looks at has started.
pub fn look(steer: &Steer) -> Look {
    eventually("a look", || run(steer.look(Duration::from_secs(5))).map_err(|error| error.to_string()))
}

/// As whoever journals it would read it again.
pub fn journaled(previous: &Previous) -> Previous {
    let again = serde_json::from_str(&serde_json::to_string(previous).unwrap()).unwrap();
    assert_eq!(previous, &again);
    again
}
