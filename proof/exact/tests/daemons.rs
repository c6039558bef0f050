//! The daemon's own view beside the kernel's: who is connected, the goodbye of the protocol, and a daemon that says nothing.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_exact::{CLIENT4, Ebb, Met, Net, meet, server4};
use ebb_kernel::netns::die_with_parent;

const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 7700;
const CLIENTS: usize = 200;

/// So many WebSocket clients, each with a name; each says how it was closed.
const CROWD: &str = "
import asyncio, sys, websockets
host, count, where = sys.argv[1], int(sys.argv[2]), sys.argv[3]
async def one(number):
    async with websockets.connect(f'ws://{host}/user{number}{where}', ping_interval=None) as chat:
        print('in', flush=True)
        try:
            while True: await chat.recv()
        except websockets.ConnectionClosed as end:
            print('closed', end.code, end.reason, flush=True)
async def all():
    await asyncio.gather(*[one(number) for number in range(count)])
asyncio.run(asyncio.wait_for(all(), 100))
";

struct Chat {
    server: Child,
    control: PathBuf,
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_file(&self.control);
    }
}

/// The example of `docs/daemons/exec.md`.
fn example() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/daemons/chat.py")
}

fn chat(net: &Net, ebb: &Ebb) -> Chat {
    let control = ebb.state_dir().with_extension("chat");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(example()).args(["serve", &server4(1).to_string(), &PORT.to_string()]).arg(&control);
    command.stderr(Stdio::null());
    let server = net.server.command(die_with_parent(&mut command)).spawn().expect("python3 starts");
    let began = Instant::now();
    while !control.exists() || meet(&net.client, at()) != Met::Connected {
        assert!(began.elapsed() < LIMIT, "no chat");
        std::thread::sleep(Duration::from_millis(50));
    }
    Chat { server, control }
}

fn at() -> SocketAddr {
    (server4(1), PORT).into()
}

fn lines(child: &mut Child) -> std::sync::mpsc::Receiver<String> {
    let (tell, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    lines
}

struct Clients {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Clients {
    fn start(net: &Net, count: usize) -> Self {
        Self::of(net, count, "")
    }

    /// `user0@example.org`, ...
    fn of(net: &Net, count: usize, place: &str) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", CROWD, &at().to_string(), &count.to_string(), place])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = net.client.command(die_with_parent(&mut command)).spawn().expect("python3 starts");
        let lines = lines(&mut child);
        let clients = Self { child, lines };
        assert!(clients.next(count).iter().all(|line| line == "in"));
        clients
    }

    fn next(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.lines.recv_timeout(LIMIT).expect("a client says something")).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configured(ebb: &Ebb, command: &[&str]) {
    let command: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
    ebb.configure(&format!(
        "[service.chat]\nexecutables = [\"python3\"]\n[daemon.chat]\nkind = \"exec\"\ntimeout = \"2s\"\ncommand = [{}]\n",
        command.join(", ")
    ));
}

#[test]
fn each_session_has_its_user_and_hears_the_goodbye_of_its_protocol() {
    let Some(net) = Net::new() else { return };
    let ebb = Ebb::on(&net);
    let chat = chat(&net, &ebb);
    let (example, control) = (example(), chat.control.clone());
    configured(&ebb, &["/usr/bin/python3", &example.to_string_lossy(), "ebb", &control.to_string_lossy()]);
    let clients = Clients::start(&net, CLIENTS);
    let listed = ebb.done(&["sessions", "chat"]);
    let mut users: Vec<&str> = listed.all("session").filter_map(|one| one["user"].as_str()).collect();
    users.sort_unstable_by_key(|user| user.trim_start_matches("user").parse::<usize>().ok());
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("user{number}")).collect();
    assert_eq!(users, names);
    assert!(listed.all("session").all(|one| one["seen_by"] == "both" && one["uses"] == 1), "{listed:#?}");
    // One by its id: it alone hears of it.
    let chosen = listed.all("session").find(|one| one["user"] == "user7").expect("user7 is there");
    let ended = ebb.done(&["end", "chat", "--session", chosen["id"].as_str().expect("an id"), "--yes"]);
    assert_eq!((&ended.one("ended")["by_us"], &ended.one("ended")["cut"]), (&1.into(), &0.into()), "{ended:#?}");
    assert_eq!(clients.next(1), ["closed 1001 maintenance"]);
    let drain = ebb.done(&["drain", "chat", "--deadline", "1s", "--then", "end"]);
    let report = drain.one("drained");
    assert_eq!((&report["outcome"], &report["by_us"], &report["cut"]), (&"stopped".into(), &199.into(), &0.into()));
    assert!(clients.next(CLIENTS - 1).iter().all(|line| line == "closed 1001 maintenance"));
}

#[test]
fn a_daemon_that_says_nothing_or_rubbish_keeps_nobody_waiting() {
    let Some(net) = Net::new() else { return };
    let ebb = Ebb::on(&net);
    let _chat = chat(&net, &ebb);
    let _clients = Clients::start(&net, 3);
    for command in [
        &["/bin/sh", "-c", "exec sleep 100"][..],
        &["/bin/sh", "-c", "echo '{\"sessions\":[{\"key\":'"],
        &["/bin/sh", "-c", "exec cat /dev/zero"],
        &["/nonexistent"],
    ] {
        configured(&ebb, command);
        let listed = ebb.done(&["sessions", "chat"]);
        assert_eq!(listed.all("session").count(), 3, "{command:?}");
        assert!(listed.notes().iter().any(|note| note.contains("the kernel's view alone")), "{listed:#?}");
    }
    let drain = ebb.done(&["drain", "chat", "--no-stop", "--deadline", "1s", "--then", "cut"]);
    let report = drain.one("drained");
    assert_eq!((&report["outcome"], &report["cut"]), (&"drained".into(), &3.into()), "{drain:#?}");
    assert!(drain.notes().iter().any(|note| note.contains("the kernel's view of its sessions alone counts")));
}

/// Real mail, to the configured and to exactly those who are connected.
#[test]
fn the_users_of_the_sessions_are_told_by_mail() {
    let Some(net) = Net::new() else { return };
    let ebb = Ebb::on(&net);
    let chat = chat(&net, &ebb);
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../edge/notify/tests/peers/mail_server.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).args(["plain", "", ""]).env("PORT", "2525").env("HOST", CLIENT4.to_string());
    // Elsewhere: on the server it would be one more python3, and drained with the chat.
    let mut server =
        net.client.command(die_with_parent(command.stdout(Stdio::piped()))).spawn().expect("python3 starts");
    let lines = lines(&mut server);
    assert_eq!(lines.recv_timeout(LIMIT).expect("its port"), "2525");
    let control = chat.control.display().to_string();
    configured(&ebb, &["/usr/bin/python3", &example().display().to_string(), "ebb", &control]);
    let before = std::fs::read_to_string(ebb.config()).expect("it was written");
    ebb.configure(&format!(
        "{before}[notify.mail]\nkind = \"mail\"\nserver = \"{CLIENT4}:2525\"\ntls = \"none\"\nfrom = \"ebb@example.org\"\n\
         to = [\"ops@example.org\"]\nusers = true\non = [\"start\"]\n"
    ));
    let _clients = Clients::of(&net, 3, "@example.org");
    let mut drain = ebb.watch(&["drain", "chat", "--no-stop"]);
    let next = || {
        let line = lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no mail: {:#?}", ebb.run(&["notify", "list"])));
        let mail: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        mail["to"][0].as_str().expect("an address").to_owned()
    };
    let mut told: Vec<String> = (0..4).map(|_| next()).collect();
    told.sort();
    assert_eq!(told, ["ops@example.org", "user0@example.org", "user1@example.org", "user2@example.org"]);
    drain.kill();
    let _ = server.kill();
    let _ = server.wait();
    assert_eq!(lines.iter().count(), 0, "each once");
}
