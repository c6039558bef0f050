//! `ebb try`, whole: as root and as an ordinary user, and that its figures can fail.
//!
//! Every trial here has a directory of its own, with a copy of the binary in it: what is left behind shows, whatever else
//! happens on this machine.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: clippy knows only test functions")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

const NOBODY: u32 = 65534;
/// Nothing here may take longer; a trial ends by itself after 60 s.
const LONG: Duration = Duration::from_secs(90);

/// A directory for one test and one user; gone with it, together with every process that came from it.
struct Ground {
    dir: PathBuf,
    uid: u32,
}

impl Ground {
    /// `None`, and a loud word, where this user cannot be played.
    fn of(uid: u32) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("test-ebb-try-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let me = fs::metadata(&dir).unwrap().uid();
        if me != 0 && uid != me {
            fs::remove_dir(&dir).unwrap();
            skipped(&format!("needs root, to be user {uid}"));
            return None;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let ground = Self { dir, uid };
        fs::create_dir(ground.tmp()).unwrap();
        if me == 0 {
            chown(ground.tmp(), Some(uid), Some(uid)).unwrap();
        }
        // By another process: a file that we had open for writing could be in the hands of a child that another test is just
        // starting, and could not be run then.
        let copied =
            Command::new("cp").args([Path::new(env!("CARGO_BIN_EXE_ebb")), &ground.binary()]).status().unwrap();
        assert!(copied.success());
        Some(ground)
    }

    fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    fn binary(&self) -> PathBuf {
        self.dir.join("ebb")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command.args(arguments).env("TMPDIR", self.tmp()).env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
        if fs::metadata(&self.dir).unwrap().uid() == 0 {
            command.uid(self.uid).gid(self.uid);
        }
        command
    }

    fn begin(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// A whole trial, and its output if this machine allows it.
    fn play(&self, arguments: &[&str]) -> Option<Output> {
        let output = self.command(arguments).output().unwrap();
        let story = String::from_utf8_lossy(&output.stderr);
        println!("{}\n{story}", String::from_utf8_lossy(&output.stdout));
        if output.status.code() == Some(9) {
            skipped("this machine allows no namespaces");
            return None;
        }
        Some(output)
    }

    /// The figures of a trial.
    fn figures(&self, arguments: &[&str]) -> Option<(i32, Value)> {
        let output = self.play(&[&["try", "--json"], arguments].concat())?;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().count(), 1, "one line of JSON and nothing else: {text}");
        Some((output.status.code().unwrap(), serde_json::from_str(&text).unwrap()))
    }

    /// Processes whose program lies in our directory.
    fn processes(&self) -> Vec<u32> {
        let numbers =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(&self.dir));
        numbers.filter(ours).collect()
    }

    fn places(&self) -> usize {
        fs::read_dir(self.tmp()).unwrap().count()
    }

    /// Waits for what will happen.
    fn until(&self, what: &str, mut happened: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !happened(self) {
            assert!(began.elapsed() < LONG, "{what}: processes {:?}, {} places", self.processes(), self.places());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn nothing_is_left(&self) {
        assert_eq!(self.processes(), [0; 0]);
        assert_eq!(self.places(), 0);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for pid in self.processes() {
            kill("KILL", pid);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn kill(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
}

fn skipped(why: &str) {
    assert!(std::env::var_os("EBB_TEST_MUST_RUN").is_none(), "must run, and cannot: {why}");
    println!("SKIPPED: {why}");
}

fn number(figures: &Value, name: &str) -> u64 {
    figures[name].as_u64().unwrap_or_else(|| panic!("{name} in {figures}"))
}

fn nobody_is_dropped(uid: u32) {
    let Some(ground) = Ground::of(uid) else { return };
    let Some((code, figures)) = ground.figures(&["--seconds", "8"]) else { return };
    assert_eq!(code, 0, "{figures}");
    assert_eq!((number(&figures, "harmed"), number(&figures, "failed")), (0, 0), "{figures}");
    assert_eq!((&figures["ok"], &figures["faults"]), (&Value::from(true), &Value::Array(Vec::new())));
    assert_eq!(number(&figures, "uid"), u64::from(uid));
    assert!(number(&figures, "sessions_at_drain_a") >= 150, "{figures}");
    assert!(number(&figures, "sessions_served") >= 300, "{figures}");
    assert!(number(&figures, "moved") > 0 && number(&figures, "refused") >= number(&figures, "moved"), "{figures}");
    assert!(number(&figures, "back_on_a") > 0 && number(&figures, "back_on_b") > 0, "{figures}");
    ground.nothing_is_left();
}

#[test]
fn nobody_is_dropped_as_root() {
    nobody_is_dropped(0);
}

#[test]
fn nobody_is_dropped_as_an_ordinary_user() {
    nobody_is_dropped(NOBODY);
}

#[test]
fn the_story_shows_the_real_commands() {
    let Some(ground) = Ground::of(NOBODY) else { return };
    let Some(output) = ground.play(&["try", "--seconds", "5", "--sessions", "50"]) else { return };
    let story = String::from_utf8(output.stdout).unwrap();
    for part in [
        "server-a$ ebb services",
        "server-a$ ebb drain chat --no-stop",
        "server-a$ ebb status chat",
        "server-a$ ebb resume chat",
        "sessions harmed   0 of",
        "newcomers failed  0 of",
        "by hand",
    ] {
        assert!(story.contains(part), "lacks {part:?}");
    }
    assert_eq!(output.status.code(), Some(0));
    ground.nothing_is_left();
}

/// What a trial says when something goes wrong on purpose.
fn spoilt(sabotage: &str) -> Option<Value> {
    let ground = Ground::of(NOBODY)?;
    let (code, figures) = ground.figures(&["--seconds", "8", "--sessions", "100", "--sabotage", sabotage])?;
    assert_eq!((code, &figures["ok"]), (1, &Value::from(false)), "{figures}");
    ground.nothing_is_left();
    Some(figures)
}

#[test]
fn a_server_that_dies_harms_its_sessions() {
    let Some(figures) = spoilt("kill-server") else { return };
    assert!(number(&figures, "harmed") >= 40, "{figures}");
    assert!(!figures["harms"].as_array().unwrap().is_empty(), "{figures}");
}

#[test]
fn a_pool_without_a_server_fails_newcomers() {
    let Some(figures) = spoilt("kill-other") else { return };
    assert!(number(&figures, "failed") > 0, "{figures}");
}

#[test]
fn a_drain_that_never_was_is_no_success() {
    let Some(figures) = spoilt("skip-drain") else { return };
    assert_eq!((number(&figures, "moved"), number(&figures, "harmed")), (0, 0), "{figures}");
}

/// A trial in the middle of its drain: the stage, two servers, the clients and the command run.
fn in_the_middle(ground: &Ground) -> Child {
    let mut child = ground.begin(&["try"]);
    ground.until("the trial must be under way", |ground| {
        let over = child.try_wait().unwrap();
        assert!(over.is_none_or(|status| status.code() == Some(9)), "{over:?}");
        over.is_some() || ground.processes().len() >= 6
    });
    child
}

fn ended_by(signal: &str, uid: u32) {
    let Some(ground) = Ground::of(uid) else { return };
    let mut child = in_the_middle(&ground);
    kill(signal, child.id());
    match child.wait().unwrap().code() {
        Some(9) => skipped("this machine allows no namespaces"),
        code => assert_eq!(code, (signal != "KILL").then_some(1)),
    }
    if signal == "KILL" {
        ground.until("the stage must tidy up", |ground| ground.processes().is_empty() && ground.places() == 0);
    }
    ground.nothing_is_left();
}

#[test]
fn ctrl_c_leaves_nothing() {
    ended_by("INT", NOBODY);
    ended_by("TERM", 0);
}

#[test]
fn being_killed_leaves_nothing() {
    ended_by("KILL", NOBODY);
    ended_by("KILL", 0);
}

#[test]
fn when_all_are_killed_the_next_trial_tidies_up() {
    let Some(ground) = Ground::of(NOBODY) else { return };
    let mut child = in_the_middle(&ground);
    for pid in ground.processes() {
        kill("KILL", pid);
    }
    if child.wait().unwrap().code() == Some(9) {
        return skipped("this machine allows no namespaces");
    }
    ground.until("all must end", |ground| ground.processes().is_empty());
    assert_eq!(ground.places(), 1, "nobody was there to remove it");
    ground.play(&["try", "--seconds", "5", "--sessions", "2", "--sabotage", "skip-drain"]);
    ground.nothing_is_left();
}

/// A user namespace in which no other may be made, and no capability is left: no setting of the machine is touched.
#[test]
fn where_namespaces_are_forbidden_it_says_what_to_do() {
    let Some(ground) = Ground::of(NOBODY) else { return };
    let shell = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all {} try",
        path(&ground.binary())
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", &shell]).env("TMPDIR", ground.tmp());
    if fs::metadata(&ground.dir).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare failed") {
        return skipped("this machine allows no namespaces");
    }
    assert_eq!(output.status.code(), Some(9), "{said}");
    for part in ["user.max_user_namespaces is 0", "sudo ebb try", "sudo sysctl user.max_user_namespaces=10000"] {
        assert!(said.contains(part), "lacks {part:?}: {said}");
    }
    ground.nothing_is_left();
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
