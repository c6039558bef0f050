//! A real nginx with people between two requests, in downloads, and in WebSockets to a server behind it: a reload, and a drain
//! that tells the idle goodbye and waits for the others.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_exact::{Ebb, Met, Net, Script, meet, server4};
use ebb_kernel::netns::die_with_parent;

const LIMIT: Duration = Duration::from_secs(60);
const KEPT: usize = 120;
const SLOW: usize = 60;
const CHATS: usize = 30;
const LATE: usize = 10;
const ALL: usize = KEPT + SLOW + CHATS + LATE;

const CONFIG: &str = "
daemon off; user root; worker_processes 1; pid FOLDER/pid; error_log FOLDER/log;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_timeout 1h;
    server {
        listen SERVER:7000;
        root FOLDER;
        limit_rate 6k;
        location /ws {
            proxy_pass http://SERVER:7001;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }
        location /late { proxy_pass http://SERVER:7002; }
    }
}
";

struct Nginx {
    child: Child,
    folder: PathBuf,
}

impl Nginx {
    fn start(net: &Net) -> Self {
        let folder = std::env::temp_dir().join(format!("ebb-exact-nginx-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder is made");
        let config = CONFIG.replace("FOLDER", &folder.display().to_string()).replace("SERVER", &server4(1).to_string());
        std::fs::write(folder.join("nginx.conf"), config).expect("its configuration is written");
        std::fs::write(folder.join("body"), vec![b'x'; 60_000]).expect("a file to download");
        let mut command = Command::new("unshare");
        // Its workers outlive their master; none outlives the first of a PID namespace.
        command.args(["--fork", "--pid", "--kill-child", "sh", "-c", "\"$@\" & wait", "sh", "/usr/sbin/nginx", "-c"]);
        command.arg(folder.join("nginx.conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = net.server.command(die_with_parent(&mut command)).spawn().expect("nginx starts");
        let nginx = Self { child, folder };
        let began = Instant::now();
        while meet(&net.client, (server4(1), 7000).into()) != Met::Connected {
            assert!(began.elapsed() < LIMIT, "no nginx");
            std::thread::sleep(Duration::from_millis(50));
        }
        nginx
    }

    /// As `nginx -s reload` would, from outside of its PID namespace.
    fn reload(&self) {
        let below = |pid: u32| -> u32 {
            let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
            text.split_whitespace().next().expect("one").parse().expect("a number")
        };
        let master = below(below(self.child.id()));
        assert!(Command::new("kill").args(["-HUP", &master.to_string()]).status().expect("kill runs").success());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn load(net: &Net, counts: [usize; 4]) -> Script {
    let [kept, slow, chats, late] = counts.map(|count| count.to_string());
    let words = ["load", &server4(1).to_string(), &kept, &slow, &chats, &late].map(str::to_owned);
    Script::start(&net.client, "nginx/part.py", &words.each_ref().map(String::as_str), counts.iter().sum())
}

fn count(heard: &[String], line: &str) -> usize {
    heard.iter().filter(|one| *one == line).count()
}

/// At the deadline who is idle hears goodbye, and all others have the grace.
const DRAIN: [&str; 9] = ["drain", "nginx", "--no-stop", "--deadline", "6s", "--then", "end", "--grace", "10s"];

#[test]
fn who_is_between_two_requests_hears_goodbye_and_all_others_come_to_their_end() {
    let Some(net) = Net::new() else { return };
    let _behind = Script::start(&net.server, "nginx/part.py", &["serve", &server4(1).to_string()], 1);
    let _nginx = Nginx::start(&net);
    let clients = load(&net, [KEPT, SLOW, CHATS, LATE]);
    let ebb = Ebb::on(&net);
    std::thread::sleep(Duration::from_secs(5));
    let listed = ebb.done(&["sessions", "nginx"]);
    let because = |why: &str| listed.all("session").filter(|one| one["why"] == why).count();
    assert_eq!([because("idle"), because("not answered yet")], [KEPT, LATE], "{listed:#?}");
    assert_eq!(listed.all("session").count(), ALL);
    let drain = ebb.done(&DRAIN);
    let report = drain.one("drained");
    assert_eq!((&report["outcome"], &report["cut"]), (&"drained".into(), &0.into()), "{report:#?}");
    let heard = clients.next(ALL);
    let seen = ["kept eof", "slow whole", "chat whole", "late whole"].map(|line| count(&heard, line));
    assert_eq!(seen, [KEPT, SLOW, CHATS, LATE], "{heard:?} {report:#?}");
    ebb.done(&["resume", "nginx"]);
    assert_eq!(meet(&net.client, (server4(1), 7000).into()), Met::Connected);
}

#[test]
fn after_a_reload_those_of_the_old_worker_are_told_and_end_by_themselves() {
    let Some(net) = Net::new() else { return };
    let _behind = Script::start(&net.server, "nginx/part.py", &["serve", &server4(1).to_string()], 1);
    let nginx = Nginx::start(&net);
    let clients = load(&net, [KEPT, SLOW, CHATS, LATE]);
    nginx.reload();
    // What was kept between two requests is closed by nginx itself.
    let mut heard = clients.next(KEPT);
    assert_eq!(count(&heard, "kept eof"), KEPT, "{heard:?}");
    let fresh = load(&net, [5, 0, 0, 0]);
    let ebb = Ebb::on(&net);
    let listed = ebb.done(&["sessions", "nginx"]);
    let old = |one: &&serde_json::Value| one["what"].as_str().is_some_and(|what| what.contains("shuts down"));
    assert_eq!(listed.all("session").filter(old).count(), SLOW + CHATS + LATE, "{listed:#?}");
    assert_eq!(listed.all("session").count(), SLOW + CHATS + LATE + 5, "{listed:#?}");
    let drain = ebb.done(&DRAIN);
    heard.extend(clients.next(SLOW + CHATS + LATE));
    let seen = ["slow whole", "chat whole", "late whole"].map(|line| count(&heard, line));
    assert_eq!(seen, [SLOW, CHATS, LATE], "{heard:?} {drain:#?}");
    assert_eq!(count(&fresh.next(5), "kept eof"), 5);
}
