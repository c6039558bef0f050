//! A real Kamailio with calls by sipp over UDP and TCP: new ones are refused by SIP's own answer, those that exist go on to
//! their natural end, or are ended by a BYE that both sides read.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_exact::{CLIENT4, Ebb, Met, Net, meet, server4};
use ebb_kernel::netns::die_with_parent;

const LIMIT: Duration = Duration::from_secs(60);

/// An ordinary small proxy, with the snippet as an operator would include it.
const CONFIG: &str = r#"#!KAMAILIO
debug=1
log_stderror=yes
children=2
tcp_children=2
auto_aliases=no
listen=udp:SERVER:5060
listen=tcp:SERVER:5060
loadmodule "jsonrpcs.so"
loadmodule "kex.so"
loadmodule "corex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
modparam("jsonrpcs", "fifo_name", "FOLDER/rpc")
modparam("jsonrpcs", "transport", 2)
include_file "SNIPPET"
modparam("jsonrpcs", "fifo_reply_dir", "FOLDER/")
request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
  if (has_totag()) {
    if (loose_route()) { t_relay(); exit; }
    if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
    sl_send_reply("404", "Not here"); exit;
  }
  t_check_trans();
  route(EBB);
  if (is_method("REGISTER")) { if (!save("location")) sl_reply_error(); exit; }
  if (is_method("INVITE")) record_route();
  $du = "sip:CLIENT:5070";
  t_relay();
}
"#;

struct Sip {
    folder: PathBuf,
    children: Vec<Child>,
}

impl Drop for Sip {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn ours(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

impl Sip {
    /// Kamailio, and one who answers calls.
    fn start(net: &Net) -> Self {
        let folder = std::env::temp_dir().join(format!("ebb-exact-sip-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder is made");
        let owned = Command::new("chown").arg("kamailio:kamailio").arg(&folder).status();
        assert!(owned.expect("chown runs").success());
        let config = CONFIG
            .replace("SERVER", &server4(1).to_string())
            .replace("CLIENT", &CLIENT4.to_string())
            .replace("SNIPPET", &ours("../../packaging/kamailio/ebb.cfg"))
            .replace("FOLDER", &folder.display().to_string());
        std::fs::write(folder.join("kamailio.cfg"), config).expect("kamailio.cfg is written");
        // Its processes outlive their first; none outlives the first of a PID namespace, which stays root: who changes
        // his user loses the signal by which he would end with his parent.
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--kill-child", "sh", "-c", "\"$@\" & wait", "sh", "/usr/sbin/kamailio"]);
        command.args(["-DD", "-E", "-m", "64"]);
        command.args(["-u", "kamailio", "-g", "kamailio", "-f"]).arg(folder.join("kamailio.cfg"));
        let log = std::fs::File::create(folder.join("log")).expect("a log is made");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let kamailio = net.server.command(die_with_parent(&mut command)).spawn().expect("kamailio starts");
        let mut sip = Self { folder, children: vec![kamailio] };
        let answers = sip.sipp(net, "answers", &["-sf", &ours("sip/answer.xml"), "-p", "5070"]);
        sip.children.push(answers);
        let began = Instant::now();
        while meet(&net.client, (server4(1), 5060).into()) != Met::Connected {
            let log = std::fs::read_to_string(sip.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < LIMIT, "no Kamailio: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        sip
    }

    /// sipp, with what it logs and the messages it reads in files of this name.
    fn sipp(&self, net: &Net, name: &str, words: &[&str]) -> Child {
        let mut command = Command::new("sipp");
        command.args(["-i", &CLIENT4.to_string(), "-nostdin", "-trace_msg", "-message_overwrite", "true"]);
        command.arg("-message_file").arg(self.folder.join(format!("{name}.messages")));
        command.args(["-trace_logs", "-log_file"]).arg(self.folder.join(format!("{name}.log"))).args(words);
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        net.client.command(die_with_parent(&mut command)).spawn().expect("sipp starts")
    }

    /// So many calls of a scenario, side by side.
    fn calls(&self, net: &Net, scenario: &str, count: usize, transport: &str, port: u16) -> Child {
        let (file, to) = (ours(&format!("sip/{scenario}.xml")), format!("{}:5060", server4(1)));
        let (count, port, name) = (count.to_string(), port.to_string(), format!("{scenario}-{transport}"));
        let words = ["-sf", &file, "-t", transport, "-p", &port, "-m", &count, "-l", &count, "-r", "200", &to];
        self.sipp(net, &name, &words)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }
}

fn ends(mut child: Child) -> Option<i32> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().expect("it can be asked") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn ebb_of(net: &Net, sip: &Sip, more: &str) -> Ebb {
    let ebb = Ebb::on(net);
    ebb.configure(&format!("[daemon.kamailio]\nsocket = \"{}/rpc\"\n{more}", sip.folder.display()));
    ebb
}

/// Calls that are told now.
fn told(ebb: &Ebb) -> usize {
    let listed = ebb.done(&["sessions", "kamailio"]);
    listed.all("session").filter(|one| one["what"].as_str().is_some_and(|what| what.starts_with("call to"))).count()
}

fn until_told(ebb: &Ebb, calls: usize) {
    let began = Instant::now();
    while told(ebb) != calls {
        assert!(began.elapsed() < LIMIT, "{} of {calls} calls", told(ebb));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn new_calls_are_refused_by_sip_itself_and_those_that_exist_come_to_their_natural_end() {
    let Some(net) = Net::new() else { return };
    let sip = Sip::start(&net);
    let ebb = ebb_of(&net, &sip, "");
    let registered = ends(sip.calls(&net, "register", 1, "u1", 5099));
    assert_eq!(registered, Some(0), "a phone registers: {}", sip.read("register-u1.messages"));
    let (udp, tcp) = (sip.calls(&net, "call", 120, "u1", 5081), sip.calls(&net, "call", 100, "t1", 5082));
    until_told(&ebb, 220);
    let mut drain = ebb.watch(&["drain", "kamailio", "--no-stop"]);
    let refuses = |frame: &serde_json::Value| frame["text"] == "kamailio refuses new work itself from now on";
    drain.until("it refuses", LIMIT, refuses);
    let at_start = drain.until("the count", LIMIT, |frame| frame["type"] == "progress" && frame["at_start"] != 0);
    assert_eq!(ends(sip.calls(&net, "refused", 5, "u1", 5083)), Some(0), "503 and Retry-After");
    assert!(
        sip.read("refused-u1.log").lines().all(|line| line.trim().is_empty() || line == "refused  30"),
        "Retry-After: 30"
    );
    assert_eq!(meet(&net.client, (server4(1), 5060).into()), Met::Refused, "a new TCP connection");
    // A registration is listed, and not waited for; nor is the connection that carries a hundred calls.
    let listed = ebb.done(&["sessions", "kamailio"]);
    let counted = |counts: bool| listed.all("session").filter(move |one| one["counts"] == counts);
    assert!(counted(true).all(|one| one["what"].as_str().is_some_and(|what| what.contains(" sip:svc@"))));
    let others: Vec<_> = counted(false).map(|one| one["why"].as_str().unwrap_or_default()).collect();
    assert!(others.contains(&"presence, does not count") && others.contains(&"carries calls, does not count"));
    let eve = listed.all("session").find_map(|one| one["user"].as_str().filter(|user| user.starts_with("sip:eve")));
    assert!(eve.is_some_and(|user| user.contains('\u{202e}')), "{listed:#?}");
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!((&report["outcome"], &report["cut"], &report["by_us"]), (&"drained".into(), &0.into(), &0.into()));
    assert_eq!(report["by_themselves"], report["at_start"], "{at_start:#?}");
    assert_eq!((ends(udp), ends(tcp)), (Some(0), Some(0)), "220 calls, and none was disturbed");
    ebb.done(&["release", "kamailio"]);
    assert_eq!(ends(sip.calls(&net, "call", 3, "u1", 5084)), Some(0), "new calls are taken again");
}

#[test]
fn calls_are_ended_by_a_bye_that_both_sides_read_and_new_ones_are_sent_elsewhere() {
    let Some(net) = Net::new() else { return };
    let mut sip = Sip::start(&net);
    let ebb = ebb_of(&net, &sip, "redirect = \"192.0.2.7:5060\"\n");
    let (udp, tcp) = (sip.calls(&net, "wait", 150, "u1", 5081), sip.calls(&net, "wait", 50, "t1", 5082));
    until_told(&ebb, 200);
    let mut drain = ebb.watch(&["drain", "kamailio", "--no-stop", "--deadline", "3s", "--then", "end"]);
    let refuses = |frame: &serde_json::Value| frame["text"] == "kamailio refuses new work itself from now on";
    drain.until("it refuses", LIMIT, refuses);
    assert_eq!(ends(sip.calls(&net, "moved", 3, "u1", 5083)), Some(0), "302");
    assert!(sip.read("moved-u1.log").contains("<sip:svc@192.0.2.7:5060>"), "{}", sip.read("moved-u1.log"));
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!(
        (&report["outcome"], &report["by_us"], &report["cut"]),
        (&"drained".into(), &200.into(), &0.into()),
        "{answer:#?}"
    );
    assert_eq!((ends(udp), ends(tcp)), (Some(0), Some(0)), "each caller read its BYE");
    let reasons = sip.read("wait-u1.log") + &sip.read("wait-t1.log");
    let read = reasons.lines().filter(|line| line.contains("SIP;cause=503;text=\"maintenance\"")).count();
    assert_eq!(read, 200, "{reasons}");
    // The other side read it too. What it wrote is whole when it has left (SIGUSR1: when no call is left).
    let answers = sip.children.pop().expect("one answers calls");
    let left = Command::new("kill").args(["-USR1", &answers.id().to_string()]).status();
    assert!(left.expect("kill runs").success() && ends(answers).is_some());
    let answered = sip.read("answers.messages").matches("Reason: SIP;cause=503;text=\"maintenance\"").count();
    assert!(answered >= 200, "{answered} of 200 on the other side");
}
