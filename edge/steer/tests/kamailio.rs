//! Kamailio of Debian before two sipp that take calls: new calls go to the other, those that exist go on to their BYE.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Daemon, Folder, LIMIT, alone, eventually, journaled, look, run};
use ebb_kernel::netns::die_with_parent;
use ebb_steer::kamailio::Kamailio;
use ebb_steer::{Error, Previous, Steer, Wish};

const PROGRAMS: [&str; 2] = ["/usr/sbin/kamailio", "/usr/bin/sipp"];
const CALLS: usize = 30;
const CONFIG: &str = r#"#!KAMAILIO
debug=1
log_stderror=yes
children=2
tcp_children=1
auto_aliases=no
tcp_accept_no_cl=yes
listen=udp:10.77.0.1:5060
listen=tcp:10.77.0.1:5080
loadmodule "jsonrpcs.so"
loadmodule "ctl.so"
loadmodule "kex.so"
loadmodule "corex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xhttp.so"
loadmodule "dispatcher.so"
modparam("ctl", "binrpc", "unixs:FOLDER/ctl")
modparam("jsonrpcs", "transport", 7)
modparam("jsonrpcs", "fifo_name", "FOLDER/rpc")
modparam("jsonrpcs", "fifo_reply_dir", "FOLDER/")
modparam("jsonrpcs", "dgram_socket", "FOLDER/sock")
modparam("dispatcher", "list_file", "FOLDER/dispatcher.list")
request_route {
  if (has_totag()) {
    if (loose_route()) { t_relay(); exit; }
    if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
    sl_send_reply("404", "Not here"); exit;
  }
  if (is_method("INVITE")) record_route();
  if (!ds_select_dst("1", "4")) { sl_send_reply("503", "Nobody"); exit; }
  t_relay();
}
event_route[xhttp:request] {
  if ($hu == "/RPC") { jsonrpc_dispatch(); exit; }
  xhttp_reply("404", "Not here", "text/plain", "no");
}
"#;
const LIST: &str = "1 sip:10.77.0.2:5070\n1 sip:10.77.0.3:5070\n2 sip:10.77.0.2:5070\n";

fn scenario(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../proof/exact/sip/{name}.xml")).display().to_string()
}

struct Sip {
    folder: Folder,
    kamailio: Option<Daemon>,
    answers: Vec<Child>,
}

impl Drop for Sip {
    fn drop(&mut self) {
        for child in &mut self.answers {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Sip {
    fn start() -> Self {
        let folder = Folder::new("sip");
        folder.write("kamailio.cfg", &CONFIG.replace("FOLDER", folder.path("").trim_end_matches('/')));
        folder.write("dispatcher.list", LIST);
        let owned = Command::new("chown").args(["-R", "kamailio:kamailio", &folder.path("")]).status();
        assert!(owned.unwrap().success());
        let mut sip = Self { folder, kamailio: None, answers: Vec::new() };
        for number in [2, 3] {
            let (ip, file) = (format!("10.77.0.{number}"), scenario("answer"));
            let answers = sip.sipp(&format!("at{number}"), &["-i", &ip, "-sf", &file, "-p", "5070"]);
            sip.answers.push(answers);
        }
        sip.begin();
        sip
    }

    fn begin(&mut self) {
        let (config, log) = (self.folder.path("kamailio.cfg"), self.folder.path("log"));
        let words = ["/usr/sbin/kamailio", "-DD", "-E", "-m", "64", "-u", "kamailio", "-g", "kamailio", "-f", &config];
        self.kamailio = None;
        self.kamailio = Some(Daemon::start(&log, &words));
        eventually("Kamailio listens", || {
            TcpStream::connect("10.77.0.1:5080").map(drop).map_err(|_| std::fs::read_to_string(&log).unwrap())
        });
    }

    fn sipp(&self, name: &str, words: &[&str]) -> Child {
        let mut command = Command::new("/usr/bin/sipp");
        command.args(["-nostdin", "-trace_msg", "-message_overwrite", "true", "-message_file"]);
        command.arg(self.folder.path(name)).args(words).current_dir(self.folder.path(""));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        die_with_parent(&mut command).spawn().unwrap()
    }

    /// Calls that last some seconds; they end by themselves.
    fn calls(&self, port: u16) -> Child {
        let (port, file, count) = (port.to_string(), scenario("call"), CALLS.to_string());
        let words = ["-sf", &file, "-p", &port, "-m", &count, "-l", &count, "-r", "200", "10.77.0.1:5060"];
        self.sipp(&format!("calls{port}"), &[&["-i", "10.77.0.1"], words.as_slice()].concat())
    }

    /// Calls that came to this one so far.
    fn came(&self, number: u8) -> usize {
        let messages = std::fs::read_to_string(self.folder.path(&format!("at{number}"))).unwrap_or_default();
        messages.lines().filter(|line| line.starts_with("INVITE ")).count()
    }

    fn steer(&self, at: &str) -> Steer {
        let at = if at.starts_with("http") { at.to_owned() } else { self.folder.path(at) };
        Steer::Kamailio(Kamailio { at, set: 1, destination: "sip:10.77.0.2:5070".to_owned() })
    }
}

fn ends(mut child: Child) -> Option<i32> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn flags(steer: &Steer) -> String {
    let Previous::Kamailio(was) = look(steer).previous else { unreachable!() };
    was.flags
}

#[test]
fn new_calls_go_to_the_other_and_those_that_exist_go_on() {
    alone(&PROGRAMS, || {
        let mut sip = Sip::start();
        let steer = sip.steer("rpc");
        let first = sip.calls(5081);
        eventually("the calls are there", || {
            (sip.came(2) + sip.came(3) == CALLS).then_some(()).ok_or(format!("{} {}", sip.came(2), sip.came(3)))
        });
        let before = sip.came(2);
        assert_eq!(before, CALLS / 2, "half of them is at each");
        let seen = look(&steer);
        assert_eq!((seen.changes.len(), seen.last.as_ref()), (1, None), "{seen:?}");
        let previous = journaled(&seen.previous);
        assert!(run(steer.apply(&previous, Wish::Away, LIMIT)).unwrap().changed);
        assert!(!run(steer.apply(&previous, Wish::Away, LIMIT)).unwrap().changed, "applied twice");
        let second = sip.calls(5082);
        eventually("they are there", || {
            (sip.came(3) == CALLS / 2 + CALLS).then_some(()).ok_or(sip.came(3).to_string())
        });
        assert_eq!(sip.came(2), before, "nobody new");
        // Reloaded, it has forgotten; started again too.
        let holds = || run(steer.drift(&previous, Wish::Away, LIMIT)).unwrap().holds();
        assert!(holds());
        sip.rpc("dispatcher.reload");
        let drift = run(steer.drift(&previous, Wish::Away, LIMIT)).unwrap();
        assert!(drift.lost.iter().any(|line| line.contains("sip:10.77.0.2:5070 in set 1") && line.ends_with("is AX")));
        assert!(run(steer.apply(&previous, Wish::Away, LIMIT)).unwrap().changed);
        assert_eq!((ends(first), ends(second)), (Some(0), Some(0)), "each call came to its natural end");
        assert_eq!(sip.came(2), before);
        sip.begin();
        assert!(!holds());
        assert!(run(steer.apply(&previous, Wish::Away, LIMIT)).unwrap().changed);
        assert!(run(steer.undo(&previous, LIMIT)).unwrap().changed);
        assert!(!run(steer.undo(&previous, LIMIT)).unwrap().changed, "undone twice");
        let mut third = sip.calls(5083);
        let half = before + CALLS / 2;
        eventually("it has its half again", || (sip.came(2) == half).then_some(()).ok_or(sip.came(2).to_string()));
        let _ = third.kill();
        let _ = third.wait();
    });
}

#[test]
fn flags_are_kept_over_each_way_to_the_rpc() {
    alone(&PROGRAMS, || {
        let sip = Sip::start();
        for at in ["rpc", "sock", "http://10.77.0.1:5080/RPC"] {
            let steer = sip.steer(at);
            for state in ["ap", "ip", "i", "d"] {
                sip.rpc(&format!("dispatcher.set_state {state} 1 sip:10.77.0.2:5070"));
                let previous = journaled(&look(&steer).previous);
                let was = flags(&steer);
                let changed = run(steer.apply(&previous, Wish::Away, LIMIT)).unwrap().changed;
                assert_eq!((changed, flags(&steer).as_str()), (state != "d", "DX"), "{at} {state}");
                assert_eq!(run(steer.undo(&previous, LIMIT)).unwrap().changed, state != "d");
                assert_eq!(flags(&steer), was, "{at} {state}");
            }
            sip.rpc("dispatcher.set_state a 1 sip:10.77.0.2:5070");
        }
        let steer = sip.steer("rpc");
        sip.rpc("dispatcher.set_state d 1 sip:10.77.0.3:5070");
        assert!(look(&steer).last.is_some_and(|last| last.contains("last active one of its set")));
        let previous = look(&steer).previous;
        assert!(matches!(run(steer.apply(&previous, Wish::Share(10), LIMIT)), Err(Error::Cannot { .. })));
        let Steer::Kamailio(kamailio) = steer else { unreachable!() };
        let said = |one: Kamailio| run(Steer::Kamailio(one).look(Duration::from_secs(5))).unwrap_err().to_string();
        assert!(said(Kamailio { set: 9, ..kamailio.clone() }).contains("no set 9"));
        let other = Kamailio { destination: "sip:10.77.0.9:5070".to_owned(), ..kamailio.clone() };
        assert!(said(other).contains("it has sip:10.77.0."));
        let nowhere = Kamailio { at: sip.folder.path("none"), ..kamailio.clone() };
        assert!(said(nowhere).contains("is not reached"));
        let elsewhere = Kamailio { at: "http://10.77.0.1:5080/nope".to_owned(), ..kamailio };
        assert!(said(elsewhere).contains("HTTP 404"));
    });
}

impl Sip {
    /// Tells Kamailio something as an operator would.
    fn rpc(&self, words: &str) {
        let socket = format!("unixs:{}", self.folder.path("ctl"));
        let mut command = Command::new("/usr/sbin/kamcmd");
        let done = command.args(["-s", &socket]).args(words.split(' ')).output().unwrap();
        assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
