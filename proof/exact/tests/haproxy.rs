//! A real HAProxy as the service itself: whose connection goes to which server, and an end that spares requests under way.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_exact::{Ebb, Met, Net, Script, meet, server4};
use ebb_kernel::netns::die_with_parent;

const LIMIT: Duration = Duration::from_secs(60);
/// Requests take four seconds.
const SOON: Duration = Duration::from_secs(2);
const TCP: usize = 200;
const SLOW: usize = 6;
const KEPT: usize = 1;

const CONFIG: &str = "
global
    stats socket FOLDER/admin.sock mode 600 level LEVEL
    maxconn 2000
defaults
    timeout connect 3s
    timeout client 1h
    timeout server 1h
frontend fe
    mode tcp
    bind SERVER:7000
    default_backend be
backend be
    mode tcp
    server s1 BEHIND:7001
frontend web
    mode http
    bind SERVER:7080
    default_backend wb
backend wb
    mode http
    server w1 BEHIND:7081
";

struct Haproxy {
    child: Child,
    folder: PathBuf,
}

impl Haproxy {
    fn start(net: &Net, level: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ebb-exact-haproxy-{}-{level}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder is made");
        let config = CONFIG.replace("FOLDER", &folder.display().to_string()).replace("LEVEL", level);
        let config = config.replace("SERVER", &server4(1).to_string()).replace("BEHIND", &server4(2).to_string());
        std::fs::write(folder.join("haproxy.cfg"), config).expect("its configuration is written");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-db", "-f"]).arg(folder.join("haproxy.cfg"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = net.server.command(die_with_parent(&mut command)).spawn().expect("HAProxy starts");
        let haproxy = Self { child, folder };
        let began = Instant::now();
        while meet(&net.client, (server4(1), 7080).into()) != Met::Connected {
            assert!(began.elapsed() < LIMIT, "no HAProxy");
            std::thread::sleep(Duration::from_millis(50));
        }
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn load(net: &Net) -> Script {
    let (host, counts) = (server4(1).to_string(), [TCP, SLOW, KEPT].map(|count| count.to_string()));
    Script::start(
        &net.client,
        "haproxy/part.py",
        &["load", &host, &counts[0], &counts[1], &counts[2]],
        TCP + SLOW + KEPT,
    )
}

#[test]
fn connections_are_told_by_where_they_go_and_a_request_under_way_is_answered() {
    let Some(net) = Net::new() else { return };
    let _behind = Script::start(&net.server, "haproxy/part.py", &["serve", &server4(2).to_string()], 1);
    let _haproxy = Haproxy::start(&net, "admin");
    let clients = load(&net);
    let ebb = Ebb::on(&net);
    let began = Instant::now();
    let listed = loop {
        let listed = ebb.done(&["sessions", "haproxy"]);
        let of = |what: Option<&str>, seen_by: &str| {
            listed.all("session").filter(|one| one["what"].as_str() == what && one["seen_by"] == seen_by).count()
        };
        let told = [of(Some("fe -> be/s1"), "both"), of(Some("web -> wb/w1: a request"), "both"), of(None, "kernel")];
        if told == [TCP, SLOW, KEPT] {
            break listed;
        }
        // A request that was just sent is not HAProxy's yet.
        assert!(began.elapsed() < SOON, "one between two requests is the kernel's alone: {told:?} {listed:#?}");
    };
    assert_eq!(listed.all("session").count(), TCP + SLOW + KEPT, "our own is not listed");
    let drain = ebb.done(&["drain", "haproxy", "--no-stop", "--deadline", "1s", "--then", "end", "--grace", "9s"]);
    let report = drain.one("drained");
    assert_eq!(report["outcome"], "drained", "{drain:#?}");
    let mut heard = clients.next(TCP + SLOW + KEPT);
    heard.sort();
    let count = |line: &str| heard.iter().filter(|one| *one == line).count();
    assert_eq!([count("tcp eof"), count("slow 200")], [TCP, SLOW], "{heard:?} {report:#?}");
    assert_eq!(count("kept eof") + count("kept reset"), KEPT, "{heard:?}");
    assert_eq!(report["cut"], KEPT, "only those that HAProxy does not list: {report:#?}");
}

#[test]
fn a_socket_that_may_only_look_cuts_nobody_and_says_so() {
    let Some(net) = Net::new() else { return };
    let _behind = Script::start(&net.server, "haproxy/part.py", &["serve", &server4(2).to_string()], 1);
    let _haproxy = Haproxy::start(&net, "operator");
    let _clients = load(&net);
    let ebb = Ebb::on(&net);
    let listed = ebb.done(&["sessions", "haproxy"]);
    assert_eq!(listed.all("session").filter(|one| one["what"] == "fe -> be/s1").count(), TCP);
    let drain = ebb.done(&["drain", "haproxy", "--no-stop", "--deadline", "1s", "--then", "end", "--grace", "1s"]);
    let report = drain.one("drained");
    // A request that was answered within the grace counts as ended by us.
    assert_eq!(report["outcome"], "drained", "{drain:#?}");
    assert!(report["cut"].as_u64() >= Some((TCP + KEPT) as u64), "{report:#?}");
}
