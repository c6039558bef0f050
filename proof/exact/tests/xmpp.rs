//! A real Prosody and 200 slixmpp clients: who they are, where they sit, which of them only sleep; the goodbye that each
//! of them reads, and the server to which all of them are sent.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use ebb_exact::{Answer, CLIENT4, Ebb, Met, Net, meet, server4};
use ebb_kernel::netns::{Ns, die_with_parent};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
const CLIENTS: usize = 203;
/// Those of them who sit in a room.
const GUESTS: usize = 40;

/// Passwords are anything; a domain is an address as well, which needs no DNS between servers.
const CONFIG: &str = r#"
daemonize = false
data_path = "FOLDER"
pidfile = "FOLDER/pid"
log = { warn = "*console" }
modules_enabled = { "roster", "saslauth", "presence", "message", "iq", "smacks", "dialback", "admin_shell", "disco" }
modules_disabled = { "tls" }
authentication = "insecure"
insecure_open_authentication = "Yes please, I know what I'm doing!"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
s2s_require_encryption = false
s2s_secure_auth = false
storage = "memory"
interfaces = { "ADDRESS" }
VirtualHost "x.test"
VirtualHost "ADDRESS"
Component "muc.x.test" "muc"
muc_room_locking = false
"#;

struct Prosody {
    child: Child,
    folder: PathBuf,
}

impl Prosody {
    fn start(net: &Net, place: &Ns, name: &str, address: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ebb-exact-xmpp-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder is made");
        let config = CONFIG.replace("FOLDER", &folder.display().to_string()).replace("ADDRESS", address);
        std::fs::write(folder.join("prosody.cfg.lua"), config).expect("its configuration is written");
        let owned = Command::new("chown").args(["-R", "prosody:prosody"]).arg(&folder).status();
        assert!(owned.expect("chown runs").success());
        // It may not be root; who changes his user loses the signal by which he would end with his parent.
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--kill-child", "sh", "-c", "\"$@\" & wait", "sh", "setpriv"]);
        command.args(["--reuid", "prosody", "--regid", "prosody", "--clear-groups", "/usr/bin/prosody", "-F"]);
        command.arg("--config").arg(folder.join("prosody.cfg.lua"));
        let log = std::fs::File::create(folder.join("log")).expect("a log is made");
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        let child = place.command(die_with_parent(&mut command)).spawn().expect("Prosody starts");
        let prosody = Self { child, folder };
        let began = Instant::now();
        let at = (address.parse::<std::net::IpAddr>().expect("an address"), 5222).into();
        while meet(&net.client, at) != Met::Connected {
            let log = std::fs::read_to_string(prosody.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < LIMIT, "no Prosody: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        prosody
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Clients {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
}

impl Clients {
    /// All of them, logged in.
    fn start(net: &Net) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("xmpp/clients.py"));
        command.args([&server4(1).to_string(), "5222", "x.test", &CLIENTS.to_string(), "room@muc.x.test"]);
        command.arg(format!("bob@{CLIENT4}")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = net.client.command(die_with_parent(&mut command)).spawn().expect("python3 starts");
        let (tell, lines) = std::sync::mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let orders = child.stdin.take().expect("piped");
        let clients = Self { child, orders, lines };
        assert_eq!(clients.read("in", CLIENTS).len(), CLIENTS);
        clients
    }

    /// What follows this word in so many lines.
    fn read(&self, word: &str, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        while found.len() < count {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("{} of {count} say {word}: {found:?}", found.len()));
            found.extend(line.strip_prefix(word).map(|rest| rest.trim().to_owned()));
        }
        found
    }

    /// Its connection is cut.
    fn sleep(&mut self, name: &str) {
        writeln!(self.orders, "sleep {name}").expect("it is told");
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two servers, clients on the first, and ebb beside it.
fn lab(net: &Net, more: &str) -> (Prosody, Prosody, Clients, Ebb) {
    let other = Prosody::start(net, &net.client, "other", &CLIENT4.to_string());
    let prosody = Prosody::start(net, &net.server, "one", &server4(1).to_string());
    let ebb = Ebb::on(net);
    ebb.configure(&format!("[service.xmpp]\nexecutables = [\"lua5\"]\n{more}"));
    (prosody, other, Clients::start(net), ebb)
}

fn those(listed: &Answer, fits: impl Fn(&Value) -> bool) -> Vec<&Value> {
    listed.all("session").filter(|one| fits(one)).collect()
}

fn says(one: &Value, what: &str) -> bool {
    one["what"].as_str().is_some_and(|text| text.contains(what))
}

#[test]
fn streams_have_their_users_and_each_reads_a_goodbye() {
    let Some(net) = Net::new() else { return };
    let (_prosody, _other, mut clients, ebb) = lab(&net, "");
    let began = Instant::now();
    let listed = loop {
        let listed = ebb.done(&["sessions", "xmpp"]);
        let rooms = those(&listed, |one| says(one, "online, in room@muc.x.test") && one["seen_by"] == "both");
        if rooms.len() == GUESTS && those(&listed, |one| says(one, "another server")).len() >= 2 {
            break listed;
        }
        assert!(began.elapsed() < LIMIT, "{} sit in the room: {listed:#?}", rooms.len());
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(those(&listed, |one| one["user"] == "u0200@x.test" && says(one, "/r200: ")).len(), 1);
    assert!(listed.all("session").all(|one| one["seen_by"] != "kernel_alone" && one["seen_by"] != "daemon_alone"));
    // A name as long as XMPP has it, and one that is no plain text.
    let long = those(&listed, |one| one["user"].as_str().is_some_and(|user| user.starts_with("nnn")));
    assert!(long.len() == 1 && long[0].to_string().len() < 2000 && says(long[0], "rrr…: online"), "{long:?}");
    assert_eq!(those(&listed, |one| says(one, "/[2J<&'\"\\]]>{%s}$(id)ß日本: online")).len(), 1);
    // Other servers come again by themselves.
    let servers = those(&listed, |one| says(one, "another server"));
    assert!(servers.iter().all(|one| one["counts"] == false && one["user"] == CLIENT4.to_string()), "{servers:#?}");
    // Who lost his connection, and may come back, is told, and not waited for.
    clients.sleep("u0000");
    clients.read("out", 1);
    let listed = ebb.done(&["sessions", "xmpp"]);
    let sleeps = those(&listed, |one| says(one, "/r0: "));
    assert!(sleeps.len() == 1 && sleeps[0]["why"] == "client gone, may resume", "{sleeps:#?}");
    let drain = ebb.done(&["drain", "xmpp", "--no-stop", "--deadline", "1s", "--then", "end"]);
    let report = drain.one("drained");
    let told = (&report["outcome"], &report["by_us"], &report["cut"], &report["at_start"]);
    assert_eq!(told, (&"drained".into(), &202.into(), &0.into(), &202.into()), "{drain:#?}");
    let heard = clients.read("error", CLIENTS - 1);
    assert!(heard.iter().all(|line| line.ends_with(" system-shutdown maintenance")), "{heard:?}");
    assert_eq!(meet(&net.client, (server4(1), 5222).into()), Met::Refused);
}

#[test]
fn all_are_told_to_which_server_to_go() {
    let Some(net) = Net::new() else { return };
    let more = format!("[daemon.xmpp]\nredirect = \"{CLIENT4}:5222\"\n");
    let (_prosody, _other, clients, ebb) = lab(&net, &more);
    let drain = ebb.done(&["drain", "xmpp", "--no-stop", "--deadline", "1s", "--then", "end"]);
    let report = drain.one("drained");
    assert_eq!((&report["outcome"], &report["cut"]), (&"drained".into(), &0.into()), "{drain:#?}");
    let heard = clients.read("error", CLIENTS);
    assert!(heard.iter().all(|line| line.ends_with(&format!(" see-other-host {CLIENT4}:5222"))), "{heard:?}");
}
