//! A real nginx, downloads that take a while, and a reload in the middle of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use common::{Folder, ask, eventually, must_run, program};
use ebb_daemons::{Adapter, Seen, recognise};
use ebb_kernel::netns::die_with_parent;
use ebb_model::{Ability, Busy, DaemonSettings, Door, Proto, Reach};

const AT: &str = "127.77.4.1";
const PORT: u16 = 28_080;
const DOWNLOADS: usize = 200;
const BODY: usize = 30_000;

struct Nginx {
    child: Child,
    master: u32,
}

impl Nginx {
    fn start(folder: &Folder) -> Option<Self> {
        let nginx = must_run(program("nginx"))?;
        let at = folder.path();
        std::fs::write(format!("{at}/body"), vec![b'x'; BODY]).unwrap();
        let config = format!(
            "daemon off; user root; worker_processes 2; pid {at}/pid; error_log {at}/log; events {{}}\n\
             http {{ access_log off; server {{ listen {AT}:{PORT}; root {at}; limit_rate 5k; }} }}\n"
        );
        std::fs::write(format!("{at}/nginx.conf"), config).unwrap();
        // Its workers outlive their master; none outlives the first of a PID namespace.
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--kill-child", "sh", "-c", "\"$@\" & wait", "sh"]).arg(nginx);
        command.args(["-c", &format!("{at}/nginx.conf")]).stdin(Stdio::null()).stderr(Stdio::null());
        let child = die_with_parent(&mut command).spawn().unwrap();
        eventually("nginx listens", || TcpStream::connect((AT, PORT)).is_ok());
        // unshare, its shell, the master.
        let below = |pid: u32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            text.split_whitespace().next().unwrap().parse::<u32>().unwrap()
        };
        let master = below(below(child.id()));
        Some(Self { child, master })
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        let door = Door { proto: Proto::Tcp, reach: Reach::Addr(AT.parse().unwrap()), port: PORT };
        let seen = Seen {
            executables: ["nginx".to_owned()].into(),
            pids: [self.master].into(),
            doors: [door].into(),
            ..Seen::default()
        };
        recognise(&seen, &DaemonSettings::default()).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get() -> TcpStream {
    let mut client = TcpStream::connect((AT, PORT)).unwrap();
    client.write_all(b"GET /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    client
}

#[test]
fn what_a_worker_that_shuts_down_still_has_is_told() {
    let folder = Folder::owned_by("ebb-nginx", "root");
    let Some(nginx) = Nginx::start(&folder) else { return };
    let adapter = nginx.adapter();
    let abilities = ask(adapter.abilities()).unwrap();
    assert!(abilities.list.is_ready() && matches!(abilities.end, Ability::Never(_)), "{abilities:?}");
    let mut kept = TcpStream::connect((AT, PORT)).unwrap();
    kept.write_all(b"HEAD /body HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(kept.read(&mut [0; 4096]).unwrap() > 0);
    let downloads: Vec<TcpStream> = (0..DOWNLOADS).map(|_| get()).collect();
    eventually("all are accepted", || ask(adapter.uses(1000)).unwrap().more == DOWNLOADS as u64 + 1);
    assert!(ask(adapter.uses(1000)).unwrap().uses.is_empty(), "nothing is known of those of a worker that stays");
    assert!(Command::new("kill").args(["-HUP", &nginx.master.to_string()]).status().unwrap().success());
    let mut told = ask(adapter.uses(1000)).unwrap();
    eventually("a reload has come", || {
        told = ask(adapter.uses(1000)).unwrap();
        told.uses.len() == DOWNLOADS
    });
    let _new = get();
    eventually("a new one is of another worker", || ask(adapter.uses(1000)).unwrap().more == 1);
    let mut peers: Vec<_> = told.uses.iter().map(|one| one.peer.unwrap()).collect();
    let mut wanted: Vec<_> = downloads.iter().map(|client| client.local_addr().unwrap()).collect();
    peers.sort();
    wanted.sort();
    assert_eq!(peers, wanted);
    assert_eq!(kept.read(&mut [0; 4096]).unwrap(), 0, "one that was idle between two requests was closed");
    assert!(told.uses.iter().all(|one| one.busy == Busy::Unknown && one.by_connection));
    assert_eq!(ask(adapter.uses(150)).map(|uses| (uses.uses.len(), uses.more)).unwrap(), (150, 51));
    for mut client in downloads {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert!(all.ends_with(&[b'x'; 1000]) && all.len() > BODY, "each is served to its end");
    }
    eventually("no old worker is left", || ask(adapter.uses(1000)).unwrap().uses.is_empty());
}
