//! What people are told of a drain: once, through kills of the agent, and in nobody's way.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_exact::{Daemon, Ebb, Listen, Met, Net, ServeSpec, meet, server4};
use ebb_kernel::netns::die_with_parent;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 9999;

/// A web server on the server.
struct Hook {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Hook {
    fn start(net: &Net) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../edge/notify/tests/peers/hook_server.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).env("PORT", PORT.to_string()).stdout(Stdio::piped());
        net.server.command(die_with_parent(&mut command));
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), PORT.to_string());
        Self { child, lines }
    }

    fn got(&mut self) -> Value {
        let request: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
        serde_json::from_str(request["body"].as_str().unwrap()).unwrap()
    }

    /// What it got beside what was read.
    fn rest(mut self) -> usize {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.by_ref().count()
    }
}

fn hook(ebb: &Ebb) -> Value {
    let list = ebb.done(&["notify", "list"]);
    list.all("notifier").find(|one| one["name"] == "hook").unwrap().clone()
}

#[test]
fn a_notice_is_sent_once_through_kills_of_the_agent() {
    let Some(net) = Net::new() else { return };
    let at: SocketAddr = (server4(1), 7000).into();
    let _server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at)]));
    let ebb = Ebb::on(&net);
    ebb.configure(&format!(
        "[notify.hook]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{PORT}/x\"\ntimeout = \"2s\"\non = [\"start\", \"end\"]\n"
    ));
    let mut first = ebb.agent();
    // Nobody listens there: the drain does not mind, and it is written down.
    ebb.done(&["drain", "exact-part", "--no-stop", "--reason", "new kernel"]);
    assert_eq!(meet(&net.client, at), Met::Refused);
    first.kill();
    let listed = hook(&ebb);
    assert_eq!((&listed["queued"], &listed["sent"]), (&1.into(), &0.into()), "{listed}");
    assert!(listed["last_error"].as_str().unwrap().contains("refused"), "{listed}");

    let mut hook_server = Hook::start(&net);
    let mut second = ebb.agent();
    let start = hook_server.got();
    assert_eq!((&start["occasion"], &start["reason"]), (&"start".into(), &"new kernel".into()), "{start}");
    let began = Instant::now();
    while hook(&ebb)["sent"] != 1 {
        assert!(began.elapsed() < LIMIT, "it is written down that it was sent");
        std::thread::sleep(Duration::from_millis(20));
    }
    second.kill();
    let _third = ebb.agent();
    // The same drain again is the same notice.
    ebb.done(&["drain", "exact-part", "--no-stop"]);
    ebb.done(&["resume", "exact-part"]);
    let end = hook_server.got();
    assert_eq!((&end["occasion"], &end["reason"]), (&"end".into(), &"new kernel".into()), "{end}");
    assert_eq!(hook_server.rest(), 0, "each once");
    let events = ebb.done(&["events", "--last", "100"]);
    let sent = events.all("event").filter(|event| event["name"] == "NoticeSent").count();
    assert_eq!(sent, 2, "{events:#?}");
}

/// Without a resident agent a command sends beside its work, and says what it leaves.
#[test]
fn without_an_agent_a_command_sends_beside_its_work() {
    let Some(net) = Net::new() else { return };
    let at: SocketAddr = (server4(1), 7000).into();
    let _server = Daemon::start(&net, &ServeSpec::at([Listen::tcp(at)]));
    let ebb = Ebb::on(&net);
    let mut hook_server = Hook::start(&net);
    ebb.configure(&format!(
        "[notify.hook]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{PORT}/x\"\n\
         [notify.hangs]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{PORT}/hang\"\ntimeout = \"1s\"\non = [\"end\"]\n\
         [notify.dead]\nkind = \"mail\"\nserver = \"127.0.0.1:1\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n"
    ));
    let drained = ebb.done(&["drain", "exact-part", "--no-stop"]);
    assert_eq!(hook_server.got()["occasion"], "start");
    assert!(
        drained.all("note").any(|note| note["text"].as_str().unwrap().contains("yet to be sent (dead: ")),
        "{drained:#?}"
    );
    ebb.done(&["resume", "exact-part"]);
    let both: BTreeSet<String> = (0..2).map(|_| hook_server.got()["notifier"].as_str().unwrap().to_owned()).collect();
    assert_eq!(both, ["hangs", "hook"].map(str::to_owned).into());
    // A drain of a maintenance leaves start and end to it.
    ebb.done(&["drain", "exact-part", "--no-stop", "--as", "maintenance"]);
    ebb.done(&["resume", "exact-part", "--as", "maintenance"]);
    assert_eq!(hook(&ebb)["sent"], 2);
    let tested = ebb.run(&["notify", "test", "dead"]);
    assert_eq!((tested.code, &tested.one("noticed")["sent"]), (Some(1), &false.into()), "{tested:#?}");
    assert_eq!(ebb.run(&["notify", "test", "nobody"]).code, Some(2));
    ebb.done(&["notify", "test", "hook"]);
    assert_eq!(hook_server.got()["matter"], "test");
}
