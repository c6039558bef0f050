//! A real Dovecot with IMAP clients in IDLE, plain and over TLS: they read its own goodbye, and who is in the middle of
//! something is left to finish it. A real Postfix with SMTP sessions and a queue: what is on its way is waited for, also after
//! the last session, and what is deferred or on hold is not.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ebb_exact::{CLIENT4, Ebb, Met, Net, meet, server4};
use ebb_kernel::netns::{Ns, die_with_parent};

const LIMIT: Duration = Duration::from_secs(60);
/// IMAP clients in IDLE, every fourth over TLS; or sessions of SMTP.
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

const POSTFIX: &str = "\
compatibility_level = 3.6
myhostname = mx.x.test
mydestination =
relay_domains = x.test, late.test
mynetworks = 127.0.0.0/8, CLIENT
inet_interfaces = SERVER
inet_protocols = ipv4
queue_directory = FOLDER/spool
data_directory = FOLDER/data
maillog_file = FOLDER/log
maillog_file_prefixes = FOLDER
relayhost = [CLIENT]:2525
transport_maps = inline:{ { late.test = smtp:[CLIENT]:9 } }
disable_dns_lookups = yes
smtp_host_lookup = native
alias_maps =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{ { hold@x.test = HOLD } }
smtpd_client_connection_count_limit = 0
default_process_limit = 300
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

/// As Debian sets it up, but for what is said above, and without a chroot, which would lack the files of its own folder.
fn postfix(net: &Net) -> Server {
    let folder = folder("smtp");
    let at = folder.display().to_string();
    // Its processes have other users.
    done(Command::new("chmod").arg("755").arg(&folder));
    for name in ["config", "spool", "data"] {
        done(Command::new("mkdir").arg(folder.join(name)));
    }
    done(Command::new("chown").arg("postfix").arg(folder.join("data")));
    let config = POSTFIX.replace("FOLDER", &at).replace("SERVER", &server4(1).to_string());
    let config = config.replace("CLIENT", &CLIENT4.to_string());
    std::fs::write(folder.join("config/main.cf"), config).expect("main.cf is written");
    let services = std::fs::read_to_string("/etc/postfix/master.cf.proto").expect("Postfix is there");
    let services: Vec<String> = services.lines().filter(|line| !line.starts_with('#')).map(without_chroot).collect();
    std::fs::write(folder.join("config/master.cf"), services.join("\n") + "\n").expect("master.cf is written");
    let server = Server::start(net, folder, &["/usr/sbin/postfix", "-c", &format!("{at}/config"), "start-fg"]);
    server.until_met(net, 25);
    server
}

/// The fifth column of `master.cf`.
fn without_chroot(line: &str) -> String {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if !line.starts_with(' ') && words.len() > 4 {
        words[4] = "n";
        return words.join(" ");
    }
    line.to_owned()
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
    // Who was spared, in mid-APPEND, and left within the grace has left by themselves.
    assert_eq!(
        (&report["outcome"], &report["by_themselves"], &report["by_us"], &report["cut"]),
        (&"drained".into(), &21.into(), &181.into(), &0.into()),
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

#[test]
fn a_drain_waits_for_sessions_and_for_mail_on_its_way_and_not_for_what_is_deferred() {
    let Some(net) = Net::new() else { return };
    let postfix = postfix(&net);
    let ebb = Ebb::on(&net);
    let words = [server4(1).to_string(), CLIENTS.to_string(), CLIENT4.to_string()];
    let mut clients = Clients::start(&net.client, "smtp.py", &words.each_ref().map(String::as_str));
    let began = Instant::now();
    loop {
        let listed = ebb.done(&["sessions", "master"]);
        let of = |what: &str| {
            listed.all("session").filter(|one| one["what"].as_str().is_some_and(|told| told.starts_with(what))).count()
        };
        let sessions = (of("SMTP: between mails"), of("SMTP: a mail is handed over"));
        let messages =
            (of("active: to b@x.test"), of("hold: to hold@x.test"), of("deferred: to b@late.test: connect to "));
        if (sessions, messages) == ((CLIENTS, 1), (1, 1, 1)) {
            assert_eq!(listed.all("session").filter(|one| one["counts"] == true).count(), CLIENTS + 2, "{listed:#?}");
            break;
        }
        assert!(began.elapsed() < LIMIT, "{listed:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut drain = ebb.watch(&["drain", "master", "--no-stop"]);
    let left = |count: usize| move |frame: &serde_json::Value| frame["type"] == "progress" && frame["left"] == count;
    drain.until("all are counted", LIMIT, left(CLIENTS + 2));
    assert_eq!(meet(&net.client, (server4(1), 25).into()), Met::Refused, "a new client");
    clients.say(&format!("leave {CLIENTS}"));
    let mut read = clients.until(&format!("c{:03}: 221", CLIENTS - 1));
    drain.until("two are left", LIMIT, left(2));
    clients.say("finish");
    read.extend(clients.until("half: 221"));
    // Nobody is connected any more; what they left is.
    drain.until("both mails are left", LIMIT, left(2));
    // Who is on the server itself is not refused, and is waited for.
    let mut sendmail = Command::new("/usr/sbin/sendmail");
    sendmail.arg("-C").arg(postfix.folder.join("config/main.cf")).args(["-f", "local@x.test", "b@x.test"]);
    let mut sendmail = net.server.command(sendmail.stdin(Stdio::piped())).spawn().expect("sendmail starts");
    sendmail.stdin.take().expect("piped").write_all(b"Subject: local\n\nx\n").expect("it reads");
    assert!(sendmail.wait().expect("it ends").success());
    drain.until("all three are left", LIMIT, left(3));
    assert!(drain.is_running());
    clients.say("deliver");
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!(
        (&report["outcome"], &report["by_us"], &report["cut"], &report["by_themselves"]),
        (&"drained".into(), &0.into(), &0.into(), &(CLIENTS + 4).into()),
        "{report:#}"
    );
    read.extend(clients.rest());
    let count = |text: &str| read.iter().filter(|line| line.ends_with(text)).count();
    assert_eq!((count(": 221"), count("half: 250")), (CLIENTS + 1, 1), "{read:#?}");
    for from in ["a@x.test", "half@x.test", "local@x.test"] {
        assert_eq!(count(&format!("next hop: {from} to b@x.test")), 1, "{read:#?}");
    }
    let listed = ebb.done(&["sessions", "master"]);
    let parked: Vec<_> = listed.all("session").map(|one| one["why"].as_str().unwrap_or_default()).collect();
    assert_eq!(parked, ["parked, does not count"; 2], "{listed:#?}");
    ebb.done(&["release", "master"]);
    assert_eq!(meet(&net.client, (server4(1), 25).into()), Met::Connected, "new clients are let in");
}

/// All but one leave by the other server, each once, through a kill of ebb in the middle; its way back is what was there.
#[test]
fn a_queue_that_cannot_leave_leaves_by_another_server() {
    const QUEUED: usize = 30;
    let Some(net) = Net::new() else { return };
    let postfix = postfix(&net);
    let main = postfix.folder.join("config/main.cf");
    let before = std::fs::read(&main).expect("main.cf is there");
    let ebb = Ebb::on(&net);
    let words = [server4(1).to_string(), QUEUED.to_string(), CLIENT4.to_string()];
    let mut other = Clients::start(&net.client, "queue.py", &words.each_ref().map(String::as_str));
    let deferred = || {
        let listed = ebb.done(&["sessions", "master"]);
        listed
            .all("session")
            .filter(|one| one["what"].as_str().is_some_and(|what| what.starts_with("deferred")))
            .count()
    };
    let began = Instant::now();
    while deferred() < QUEUED + 1 {
        assert!(began.elapsed() < LIMIT, "{} are deferred", deferred());
        std::thread::sleep(Duration::from_millis(200));
    }
    let to = format!("move:{CLIENT4}:2526");
    let drain = ["drain", "master", "--no-stop", "--queue", &to];
    for (words, code, says) in [
        (&["drain", "master", "--no-stop", "--queue", "move:mx 2"][..], 2, "no HOST or HOST:PORT"),
        (&drain, 9, "takes no mail now: Connection refused"),
    ] {
        let refused = ebb.run(words);
        assert_eq!(refused.code, Some(code), "{refused:#?}");
        assert!(refused.stderr.contains(says), "{refused:#?}");
        assert_eq!(meet(&net.client, (server4(1), 25).into()), Met::Connected, "nothing was touched");
    }
    other.say("listen");
    other.until("listens");
    let planned = format!("{:#?}", ebb.done(&[&drain[..], &["--dry-run"]].concat()));
    assert!(planned.contains(&format!("send by [{CLIENT4}]:2526 what is in its queue")), "{planned}");
    assert_eq!(std::fs::read(&main).expect("it is there"), before, "a plan changes nothing");
    let mut killed = ebb.watch(&drain);
    let told = |frame: &serde_json::Value| frame["text"].as_str().is_some_and(|text| text.contains("leaves by"));
    killed.until("it leaves", LIMIT, told);
    killed.kill();
    assert_ne!(std::fs::read(&main).expect("it is there"), before);
    let answer = ebb.done(&drain);
    assert!(answer.notes().contains(&"1 message stays in the queue of master:"), "{answer:#?}");
    let named = |note: &&str| note.contains("deferred: to bad@x.test: ") && note.contains("450 not now");
    assert!(answer.notes().iter().any(named), "{answer:#?}");
    assert_eq!(deferred(), 1);
    ebb.done(&["resume", "master"]);
    assert_eq!(std::fs::read(&main).expect("it is there"), before, "byte for byte");
    other.say("end");
    let mut taken = other.rest();
    taken.sort();
    let mut wanted: Vec<String> = (0..QUEUED).map(|number| format!("other: q{number}@x.test")).collect();
    wanted.sort();
    assert_eq!(taken, wanted, "each once");
}
