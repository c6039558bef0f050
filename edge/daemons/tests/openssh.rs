//! A real sshd and real ssh clients: who is logged in, what runs there, what a client reads when it is sent away, and that
//! nobody else is.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Folder, ask, eventually, must_run, program};
use ebb_daemons::{Adapter, Seen, recognise};
use ebb_kernel::netns::die_with_parent;
use ebb_model::{Ability, Busy, DaemonSettings, Door, Ended, Proto, Reach, Role, Use};

const AT: &str = "127.77.2.1";
const PORT: u16 = 22_022;
/// A second server, whose sessions are its own.
const OTHER: u16 = 22_023;

struct Sshd(Child);

impl Sshd {
    fn start(folder: &Folder, port: u16) -> Option<Self> {
        let sshd = must_run(program("sshd"))?;
        std::fs::create_dir_all("/run/sshd").unwrap();
        let at = folder.path();
        let config = format!(
            "ListenAddress {AT}\nPort {port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\nStrictModes no\n\
             UsePAM no\nPermitRootLogin yes\nMaxStartups 500\nPidFile none\nPrintMotd no\nSubsystem sftp internal-sftp\n"
        );
        let file = format!("{at}/config-{port}");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(sshd);
        command.args(["-D", "-f", &file]).stdin(Stdio::null()).stderr(Stdio::null());
        let found = Self(die_with_parent(&mut command).spawn().unwrap());
        eventually("sshd listens", || TcpStream::connect((AT, port)).is_ok());
        Some(found)
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        let door = Door { proto: Proto::Tcp, reach: Reach::Addr(AT.parse().unwrap()), port: PORT };
        let seen = Seen {
            executables: ["sshd".to_owned()].into(),
            pids: [self.0.id()].into(),
            doors: [door].into(),
            ..Seen::default()
        };
        recognise(&seen, &DaemonSettings::default()).unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ssh(folder: &Folder, port: u16, user: &str, words: &[&str]) -> Child {
    let mut command = Command::new("ssh");
    let key = format!("{}/user", folder.path());
    command.args(["-F", "none", "-p", &port.to_string(), "-i", &key, "-l", user]);
    command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]).arg(AT).args(words);
    common::piped(&mut command)
}

fn said(mut child: Child) -> String {
    let mut text = String::new();
    let _ = child.stderr.take().unwrap().read_to_string(&mut text);
    let _ = child.wait();
    text
}

/// `user what`, sorted; the numbers of terminals left out.
fn told(uses: &[Use]) -> Vec<String> {
    let line = |one: &Use| {
        let what = one.what.clone().unwrap_or_default();
        let what = if what.starts_with("pts/") { what.split_once(": ").unwrap().1.to_owned() } else { what };
        format!("{} {what} {:?}", one.user.as_deref().unwrap_or("nobody"), one.busy)
    };
    let mut lines: Vec<String> = uses.iter().map(line).collect();
    lines.sort();
    lines
}

fn of<'a>(uses: &'a [Use], what: &str) -> &'a Use {
    uses.iter().find(|one| one.what.as_deref().is_some_and(|text| text.contains(what))).unwrap()
}

fn keys(folder: &Folder) {
    for key in ["host", "user"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(Path::new(folder.path()).join(key));
        assert!(keygen.status().unwrap().success());
    }
    // Of whom it is, sshd reads it as the user who logs in.
    for file in [folder.path().to_owned(), format!("{}/user.pub", folder.path())] {
        assert!(Command::new("chmod").args(["go+rX", &file]).status().unwrap().success());
    }
}

#[test]
fn logins_are_named_and_sent_away_one_by_one() {
    if must_run(program("sshd")).and(must_run(program("ssh"))).is_none() {
        return;
    }
    let folder = Folder::owned_by("ebb-ssh", "root");
    keys(&folder);
    let (sshd, _other) = (Sshd::start(&folder, PORT).unwrap(), Sshd::start(&folder, OTHER).unwrap());
    let adapter = sshd.adapter();
    let abilities = ask(adapter.abilities()).unwrap();
    assert!(abilities.list.is_ready() && abilities.end.is_ready(), "{abilities:?}");
    assert!(matches!(abilities.refuse, Ability::Never(_)));
    let mut clients = clients(&folder);
    let wanted = [
        "nobody logging in NotLoggedIn",
        "root bash Idle",
        "root no terminal: internal-sftp Inside",
        "root no terminal: no command Unknown",
        "root sleep Inside",
        "root sleep, bash Inside",
        "root tail Inside",
    ];
    let mut uses = Vec::new();
    eventually("all are there", || {
        uses = ask(adapter.uses(100)).unwrap().uses;
        told(&uses) == wanted
    });
    let mut peers: Vec<String> = uses.iter().map(|one| one.peer.unwrap().to_string()).collect();
    peers.sort();
    let mut kernel = connections();
    kernel.sort();
    assert_eq!(peers, kernel, "as `ss` shows them");
    assert!(uses.iter().all(|one| one.pid.is_some() && one.age.is_some() && one.role == Role::User));
    ends(adapter.as_ref(), &uses, &mut clients);
    outlive_their_listener(&folder, sshd, &mut clients);
}

struct Clients {
    idle: Child,
    works: Child,
    forwards: Child,
    others: Vec<Child>,
    _connection: TcpStream,
}

fn clients(folder: &Folder) -> Clients {
    let master = format!("ControlPath={}/master", folder.path());
    let idle = ssh(folder, PORT, "root", &["-tt"]);
    let works = ssh(folder, PORT, "root", &["-tt", "exec sleep 91"]);
    let forwards = ssh(folder, PORT, "root", &["-N"]);
    let sftp = ssh(folder, PORT, "root", &["-s", "sftp"]);
    let background = ssh(folder, PORT, "root", &["-tt"]);
    background.stdin.as_ref().unwrap().write_all(b"tail -f /dev/null &\n").unwrap();
    let both = ssh(folder, PORT, "root", &["-tt", "-M", "-o", &master]);
    eventually("the master is there", || Path::new(&format!("{}/master", folder.path())).exists());
    let second = ssh(folder, PORT, "root", &["-tt", "-o", &master, "exec sleep 92"]);
    let stranger = ssh(folder, OTHER, "root", &["-tt"]);
    // It says nothing.
    let connection = TcpStream::connect((AT, PORT)).unwrap();
    Clients { idle, works, forwards, others: vec![sftp, background, both, second, stranger], _connection: connection }
}

/// Clients' ends of the connections to the server, as the kernel's own tool tells them.
fn connections() -> Vec<String> {
    let filter = format!("src {AT}:{PORT}");
    let output = Command::new("ss").args(["-Htn", "state", "established", &filter]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect()
}

fn ends(adapter: &dyn Adapter, uses: &[Use], clients: &mut Clients) {
    let keys: Vec<String> = uses.iter().map(|one| one.key.clone()).collect();
    let ended = ask(adapter.end(&keys, "", false)).unwrap();
    for (one, ended) in uses.iter().zip(&ended) {
        match one.busy {
            Busy::Inside | Busy::Unknown => assert_eq!(*ended, Ended::Spared(one.what.clone().unwrap())),
            _ => assert_eq!(*ended, Ended::Asked, "{one:?}"),
        }
    }
    let idle = std::mem::replace(&mut clients.idle, common::piped(&mut Command::new("true")));
    let text = said(idle);
    assert!(text.contains(&format!("Connection to {AT} closed by remote host.")), "{text}");
    eventually("two are gone", || ask(adapter.uses(100)).unwrap().uses.len() == uses.len() - 2);
    assert!(clients.works.try_wait().unwrap().is_none(), "who is at work is spared");
    let mut forwards = of(uses, "no command").key.clone();
    assert_eq!(ask(adapter.end(&[forwards.clone()], "", true)).unwrap(), [Ended::Asked]);
    let text = said(std::mem::replace(&mut clients.forwards, common::piped(&mut Command::new("true"))));
    assert!(text.contains("closed by remote host"), "{text}");
    eventually("it is gone", || ask(adapter.end(&[forwards.clone()], "", true)).unwrap() == [Ended::Gone]);
    forwards.push('0');
    assert_eq!(ask(adapter.end(&[forwards], "", true)).unwrap(), [Ended::Gone]);
}

/// An upgrade of the package restarts the listener, and leaves the sessions: they are this server's still, by their
/// connections, and another's are not. Whoever was to be asked about them before knows the new ones, too.
fn outlive_their_listener(folder: &Folder, sshd: Sshd, clients: &mut Clients) {
    let old = sshd.adapter();
    let before = ask(old.uses(100)).unwrap().uses;
    drop(sshd);
    assert_eq!(told(&ask(old.uses(100)).unwrap().uses), told(&before));
    let sshd = Sshd::start(folder, PORT).unwrap();
    let adapter = sshd.adapter();
    let mut new = ssh(folder, PORT, "root", &["-N"]);
    let count = |adapter: &dyn Adapter| ask(adapter.uses(100)).unwrap().uses.len();
    eventually("a new one", || [count(old.as_ref()), count(adapter.as_ref())] == [before.len() + 1; 2]);
    new.kill().unwrap();
    new.wait().unwrap();
    let mut after = Vec::new();
    eventually("the sessions of before are there", || {
        after = ask(adapter.uses(100)).unwrap().uses;
        told(&after) == told(&before)
    });
    let works = after.iter().find(|one| one.what.as_deref().is_some_and(|what| what.ends_with(": sleep"))).unwrap();
    assert_eq!(ask(adapter.end(std::slice::from_ref(&works.key), "", true)).unwrap(), [Ended::Asked]);
    let text = said(std::mem::replace(&mut clients.works, common::piped(&mut Command::new("true"))));
    assert!(text.contains("closed by remote host"), "{text}");
    let stranger = clients.others.last_mut().unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "another server's session is none of ours");
    for child in &mut clients.others {
        let _ = child.kill();
        let _ = child.wait();
    }
    eventually("all are gone", || ask(adapter.uses(100)).unwrap().uses.is_empty());
}
