//! A real Dovecot as Debian sets it up, and clients of each of its protocols: who is there, on which connection, what they
//! do, and what they read when they are sent away.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use common::{Folder, ask, eventually, must_run, program};
use ebb_daemons::{Adapter, Seen, recognise};
use ebb_kernel::netns::die_with_parent;
use ebb_model::{Ability, Busy, DaemonSettings, Door, Ended, Proto, Reach, Role, Use};

const IMAP: u16 = 21_143;
const IMAPS: u16 = 21_993;
const POP3: u16 = 21_110;
const SIEVE: u16 = 24_190;
const LMTP: u16 = 21_024;

const CONFIG: &str = "\
base_dir = FOLDER/run
state_dir = FOLDER/state
log_path = FOLDER/log
protocols = imap pop3 sieve lmtp
listen = AT
ssl = yes
ssl_cert = <FOLDER/cert
ssl_key = <FOLDER/key
disable_plaintext_auth = no
mail_location = maildir:FOLDER/mail/%u
first_valid_uid = 1
service imap-login {
  inet_listener imap {
    port = 21143
  }
  inet_listener imaps {
    port = 21993
    ssl = yes
  }
  service_count = COUNT
}
service pop3-login {
  inet_listener pop3 {
    port = 21110
  }
  inet_listener pop3s {
    port = 0
  }
}
service managesieve-login {
  inet_listener sieve {
    port = 24190
  }
}
service lmtp {
  inet_listener lmtp {
    port = 21024
  }
}
passdb {
  driver = static
  args = password=pw
}
userdb {
  driver = static
  args = uid=mail gid=mail home=FOLDER/mail/%u
}
";

/// A Dovecot and the folder that it lives in.
struct Dovecot {
    folder: Folder,
    child: Child,
    at: &'static str,
}

impl Dovecot {
    /// With `service_count` of its login process: 1 for each client its own, 0 for all the same.
    fn start(at: &'static str, count: u32) -> Option<Self> {
        let dovecot = must_run(program("dovecot"))?;
        let folder = Folder::owned_by(&format!("ebb-dovecot-{count}"), "root");
        let path = folder.path();
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", "key", "-out", "cert",
        ]);
        assert!(openssl.current_dir(path).stderr(Stdio::null()).status().unwrap().success());
        std::fs::create_dir(format!("{path}/mail")).unwrap();
        assert!(Command::new("chown").args(["mail:mail", &format!("{path}/mail")]).status().unwrap().success());
        let config = CONFIG.replace("FOLDER", path).replace("AT", at).replace("COUNT", &count.to_string());
        std::fs::write(format!("{path}/config"), config).unwrap();
        // Its processes outlive their first; none outlives the first of a PID namespace, which stays root.
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--kill-child", "sh", "-c", "\"$@\" & wait", "sh"]);
        command.arg(dovecot).args(["-F", "-c", &format!("{path}/config")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = die_with_parent(&mut command).spawn().unwrap();
        let found = Self { folder, child, at };
        for port in [IMAP, IMAPS, POP3, SIEVE, LMTP] {
            eventually("Dovecot listens", || TcpStream::connect((at, port)).is_ok());
        }
        eventually("nobody is there any more", || ask(found.adapter().uses(9)).is_ok_and(|uses| uses.uses.is_empty()));
        Some(found)
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        let door = |port| Door { proto: Proto::Tcp, reach: Reach::Addr(self.at.parse().unwrap()), port };
        let seen = Seen {
            executables: ["dovecot".to_owned()].into(),
            doors: [IMAP, IMAPS, POP3, SIEVE, LMTP].map(door).into(),
            unix: vec![format!("{}/run/anvil", self.folder.path())],
            ..Seen::default()
        };
        recognise(&seen, &DaemonSettings::default()).unwrap()
    }

    fn uses(&self) -> Vec<Use> {
        ask(self.adapter().uses(100)).unwrap().uses
    }

    /// What it says of each, sorted.
    fn told(&self) -> Vec<String> {
        let line = |one: Use| {
            let (user, what) = (one.user.as_deref().unwrap_or("-"), one.what.as_deref().unwrap_or("-"));
            format!("{user} {what} {:?}", one.busy)
        };
        let mut told: Vec<String> = self.uses().into_iter().map(line).collect();
        told.sort();
        told
    }

    fn end(&self, keys: &[&Use], inside: bool) -> Vec<Ended> {
        let keys: Vec<String> = keys.iter().map(|one| one.key.clone()).collect();
        ask(self.adapter().end(&keys, "", inside)).unwrap()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client on a plain connection.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, reads the greeting, and says these lines; after each it reads up to a line with the word beside it.
    fn new(at: &str, port: u16, says: &[(&str, &str)]) -> Self {
        let mut client = Self { stream: BufReader::new(TcpStream::connect((at, port)).unwrap()) };
        client.until(if port == SIEVE { "ready" } else { "" });
        for (line, word) in says {
            client.say(line);
            client.until(word);
        }
        client
    }

    fn say(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    fn until(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) || line.is_empty() {
            line.clear();
            assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "no {word}");
        }
    }

    /// All that it reads from now on to the end.
    fn rest(self) -> Vec<String> {
        self.stream.lines().map_while(Result::ok).collect()
    }

    fn at(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().unwrap()
    }
}

/// `openssl s_client` in IDLE.
fn tls(at: &str, user: &str) -> Child {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", &format!("{at}:{IMAPS}")]);
    let mut child = common::piped(&mut command);
    let lines = format!("a LOGIN {user} pw\r\nb SELECT INBOX\r\nc IDLE\r\n");
    child.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    child
}

/// All that it reads to the end.
fn read(mut child: Child) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
    let _ = child.wait();
    text
}

fn of<'a>(uses: &'a [Use], user: &str) -> &'a Use {
    uses.iter().find(|one| one.user.as_deref() == Some(user)).unwrap()
}

const LOGIN: (&str, &str) = ("a LOGIN ", "a OK");

fn imap(at: &str, user: &str, says: &[(&str, &str)]) -> Client {
    let login = format!("{}{user} pw", LOGIN.0);
    let mut all = vec![(login.as_str(), LOGIN.1), ("b SELECT INBOX", "b OK")];
    all.extend(says);
    Client::new(at, IMAP, &all)
}

#[test]
fn each_protocol_has_its_users_and_its_goodbye() {
    const AT: &str = "127.77.4.2";
    let Some(dovecot) = Dovecot::start(AT, 1) else { return };
    let abilities = ask(dovecot.adapter().abilities()).unwrap();
    assert!(abilities.list.is_ready() && abilities.end.is_ready(), "{abilities:?}");
    assert!(matches!((abilities.refuse, abilities.redirect), (Ability::Never(_), Ability::Never(_))));
    let idle = imap(AT, "idle", &[("c IDLE", "+")]);
    let between = imap(AT, "between", &[]);
    let mut appends = imap(AT, "appends", &[("c APPEND INBOX {40}", "+")]);
    appends.say("Subject: x");
    let pop = Client::new(AT, POP3, &[("USER pop", "+OK"), ("PASS pw", "+OK")]);
    let sieve = Client::new(AT, SIEVE, &[("AUTHENTICATE \"PLAIN\" \"AHNpZXZlAHB3\"", "OK")]);
    let delivers =
        Client::new(AT, LMTP, &[("LHLO x", "250 "), ("MAIL FROM:<a@b.c>", "250"), ("RCPT TO:<d@e.f>", "250")]);
    let (secret, other) = (tls(AT, "secret"), tls(AT, "other"));
    let silent = Client::new(AT, IMAP, &[]);
    let wanted = [
        "- imap: not logged in NotLoggedIn",
        "- lmtp: deliveries Inside",
        "appends imap: a message is read or written Inside",
        "between imap: no message is open Unknown",
        "idle imap: IDLE Idle",
        "other imap: IDLE Idle",
        "pop pop3: what it deletes counts after QUIT Inside",
        "secret imap: IDLE Idle",
        "sieve sieve: no message is open Unknown",
    ];
    let mut told = Vec::new();
    eventually_told(&dovecot, &wanted, &mut told);
    let uses = dovecot.uses();
    for (user, client) in
        [("idle", &idle), ("between", &between), ("appends", &appends), ("pop", &pop), ("sieve", &sieve)]
    {
        assert_eq!(of(&uses, user).peer, Some(client.at()), "{user}");
    }
    assert!(uses.iter().all(|one| one.peer.is_some() && one.age.is_some() && one.role == Role::User), "{uses:?}");
    // One of the two behind login processes of their own, and nobody else.
    assert_eq!(dovecot.end(&[of(&uses, "secret")], false), [Ended::Asked]);
    assert!(read(secret).ends_with("* BYE Server shutting down.\r\n"));
    assert!(dovecot.told().contains(&"other imap: IDLE Idle".to_owned()));
    let rest = dovecot.uses();
    let all: Vec<&Use> = rest.iter().collect();
    let spared = dovecot.end(&all, false).into_iter().filter(|ended| matches!(ended, Ended::Spared(_))).count();
    assert_eq!(spared, 3, "POP3, a delivery, and half an APPEND");
    assert_eq!(idle.rest().last().map(String::as_str), Some("* BYE Server shutting down."));
    assert_eq!(between.rest(), ["* BYE Server shutting down."]);
    assert_eq!(silent.rest(), ["* BYE Shutting down"]);
    assert_eq!(sieve.rest(), ["BYE \"Server shutting down.\""]);
    assert!(read(other).ends_with("* BYE Server shutting down.\r\n"));
    appends.say(&"x".repeat(28));
    appends.until("c OK");
    let rest = dovecot.uses();
    assert_eq!(dovecot.end(&[of(&rest, "appends"), of(&rest, "pop")], true), [Ended::Asked, Ended::Asked]);
    assert_eq!(appends.rest(), ["* BYE Server shutting down."]);
    assert_eq!(pop.rest(), ["-ERR [SYS/TEMP] Server shutting down."]);
    drop(delivers);
    eventually("all are gone", || dovecot.uses().is_empty());
    assert_eq!(dovecot.end(&[&uses[0]], true), [Ended::Gone]);
}

fn eventually_told(dovecot: &Dovecot, wanted: &[&str], told: &mut Vec<String>) {
    let began = std::time::Instant::now();
    while told != wanted {
        assert!(began.elapsed().as_secs() < 60, "{told:#?}");
        *told = dovecot.told();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn those_who_share_a_login_process_are_not_confused_and_end_together() {
    const AT: &str = "127.77.4.3";
    let Some(dovecot) = Dovecot::start(AT, 0) else { return };
    let clients = [tls(AT, "ana"), tls(AT, "bob")];
    let line = "- one of 2 behind one login process: ana, bob Idle";
    let mut told = Vec::new();
    eventually_told(&dovecot, &[line, line], &mut told);
    let silent = Client::new(AT, IMAP, &[]);
    let unsure = "- imap-login: one of several, logged in or not Unknown";
    eventually_told(&dovecot, &[unsure, line, line], &mut told);
    let uses = dovecot.uses();
    // Whose connection is whose is not said, nor which of the three has not logged in.
    let (both, other): (Vec<&Use>, Vec<&Use>) = uses.iter().partition(|one| one.busy == Busy::Idle);
    assert_eq!((both.len(), other.len()), (2, 1));
    assert!(matches!(dovecot.end(&both[..1], true)[..], [Ended::Spared(_)]));
    assert!(matches!(dovecot.end(&other, true)[..], [Ended::Spared(_)]), "its end would cut the others");
    assert_eq!(dovecot.told().len(), 3);
    // In two parts, as many are: the second completes them.
    let adapter = dovecot.adapter();
    let end = |one: &Use| ask(adapter.end(std::slice::from_ref(&one.key), "", false)).unwrap().remove(0);
    assert!(matches!([end(both[0]), end(other[0]), end(both[1])], [Ended::Spared(_), Ended::Spared(_), Ended::Asked]));
    for client in clients {
        assert!(read(client).ends_with("* BYE Server shutting down.\r\n"));
    }
    eventually_told(&dovecot, &["- imap: not logged in NotLoggedIn"], &mut told);
    drop(silent);
}

/// The socket at Debian's path, and a queue at its path, are those of the server itself.
#[test]
fn one_in_a_container_is_not_taken_for_the_servers_own() {
    let Some(unshare) = must_run(program("unshare")) else { return };
    let mut command = Command::new(unshare);
    let mut contained = common::piped(command.args(["--net", "sleep", "60"]));
    let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let pid = contained.id();
    eventually("it is contained", || space(&pid.to_string()) != space("self"));
    let seen =
        |executable: &str| Seen { executables: [executable.to_owned()].into(), pids: [pid].into(), ..Seen::default() };
    let found = ["dovecot", "master"].map(|name| recognise(&seen(name), &DaemonSettings::default()).is_some());
    contained.kill().unwrap();
    contained.wait().unwrap();
    assert_eq!(found, [false, false]);
    assert!(
        recognise(&Seen { pids: [std::process::id()].into(), ..seen("dovecot") }, &DaemonSettings::default()).is_some()
    );
}
