//! A real Dovecot with IMAP clients in IDLE, plain and over TLS: they read its own goodbye, and who is in the middle of
//! something is left to finish it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ebb_exact::{Ebb, Met, Net, meet, server4};
use ebb_kernel::netns::{Ns, die_with_parent};

const LIMIT: Duration = Duration::from_secs(60);
/// IMAP clients in IDLE; every fourth over TLS.
const CLIENTS: usize = 200;

const DOVECOT: &str = "\
base_dir = FOLDER/run
state_dir = FOLDER/state
log_path = FOLDER/log
protocols = imap
listen = SERVER
ssl = yes
ssl_cert = <FOLDER/cert
ssl_key = <FOLDER/key
disable_plaintext_auth = no
mail_location = maildir:FOLDER/mail/%u
first_valid_uid = 1
verbose_proctitle = yes
passdb {
  driver = static
  args = password=pw
}
userdb {
  driver = static
  args = uid=mail gid=mail home=FOLDER/mail/%u
}
";

/// A daemon, and all that it has started.
struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Its processes outlive their first; none outlives the first of a PID namespace, which stays root: who changes his
    /// user loses the signal by which he would end with his parent.
    fn start(net: &Net, folder: PathBuf, words: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--kill-child", "sh", "-c", "\"$@\" & wait", "sh"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = net.server.command(die_with_parent(&mut command)).spawn().expect("it starts");
        Self { child, folder }
    }

    fn until_met(&self, net: &Net, port: u16) {
        let began = Instant::now();
        while meet(&net.client, (server4(1), port).into()) != Met::Connected {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < LIMIT, "nobody listens: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("ebb-exact-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder is made");
    folder
}

fn done(command: &mut Command) {
    assert!(command.stderr(Stdio::null()).status().expect("it runs").success(), "{command:?}");
}

fn dovecot(net: &Net) -> Server {
    let folder = folder("imap");
    let at = folder.display().to_string();
    done(Command::new("mkdir").arg(folder.join("mail")));
    done(Command::new("chown").arg("mail:mail").arg(folder.join("mail")));
    let words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", "key", "-out", "cert"];
    done(Command::new("openssl").args(words).current_dir(&folder));
    let config = DOVECOT.replace("FOLDER", &at).replace("SERVER", &server4(1).to_string());
    std::fs::write(folder.join("config"), config).expect("a configuration is written");
    let server = Server::start(net, folder, &["/usr/sbin/dovecot", "-F", "-c", &format!("{at}/config")]);
    server.until_met(net, 143);
    server
}

/// Clients in Python, typed to and listened to.
struct Clients {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Clients {
    fn start(ns: &Ns, script: &str, words: &[&str]) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("mail").join(script);
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = ns.command(die_with_parent(&mut command)).spawn().expect("python3 starts");
        let (said, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(said.send(line))));
        let mut clients = Self { input: child.stdin.take(), child, lines };
        clients.until("ready");
        clients
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("not closed yet");
        input.write_all(format!("{line}\n").as_bytes()).expect("they read");
    }

    /// All lines until this one.
    fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut all = Vec::new();
        while all.last().is_none_or(|line| line != wanted) {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => all.push(line),
                Err(error) => panic!("no `{wanted}`: {error}, but {all:#?}"),
            }
        }
        all
    }

    /// All lines to their end.
    fn rest(mut self) -> Vec<String> {
        self.input = None;
        let mut all = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            all.push(line);
        }
        all
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn who_waits_for_mail_reads_a_goodbye_and_who_hands_one_in_is_spared() {
    let Some(net) = Net::new() else { return };
    let _dovecot = dovecot(&net);
    let ebb = Ebb::on(&net);
    let host = server4(1).to_string();
    let mut clients = Clients::start(&net.client, "imap.py", &[&host, &CLIENTS.to_string()]);
    let began = Instant::now();
    let listed = loop {
        let listed = ebb.done(&["sessions", "dovecot"]);
        let of =
            |what: &str| listed.all("session").filter(|one| one["what"] == what && one["seen_by"] == "both").count();
        if (of("imap: IDLE"), of("imap: APPEND"), of("imap: not logged in")) == (CLIENTS, 1, 1) {
            break listed;
        }
        assert!(began.elapsed() < LIMIT, "{listed:#?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    // Behind its login process, too, each has its own name.
    let mut users: Vec<&str> = listed.all("session").filter_map(|one| one["user"].as_str()).collect();
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), CLIENTS + 1);
    let mut drain =
        ebb.watch(&["drain", "dovecot", "--no-stop", "--deadline", "8s", "--then", "end", "--grace", "60s"]);
    drain.until("all are counted", LIMIT, |frame| frame["type"] == "progress" && frame["left"] == CLIENTS + 2);
    assert_eq!(meet(&net.client, (server4(1), 143).into()), Met::Refused, "a new client");
    clients.say("leave 20");
    drain.until("one is left", LIMIT, |frame| frame["type"] == "progress" && frame["left"] == 1);
    let mut read = clients.until("silent: end");
    clients.say("append");
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    // Who was spared, and left within the grace, is told with those who were asked.
    assert_eq!(
        (&report["outcome"], &report["by_themselves"], &report["by_us"], &report["cut"]),
        (&"drained".into(), &20.into(), &182.into(), &0.into()),
        "{report:#}"
    );
    read.extend(clients.rest());
    let count = |text: &str| read.iter().filter(|line| line.ends_with(text)).count();
    assert_eq!(count("* BYE Server shutting down."), CLIENTS - 20, "{read:#?}");
    assert_eq!((count("* BYE Logging out"), count(": end")), (21, CLIENTS + 2), "{read:#?}");
    assert!(read.iter().any(|line| line.starts_with("appends: a OK")), "its message is there: {read:#?}");
    ebb.done(&["release", "dovecot"]);
    let mut clients = Clients::start(&net.client, "imap.py", &[&host, "1"]);
    clients.say("append");
    clients.say("leave 1");
    clients.until("u000: end");
}
