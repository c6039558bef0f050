//! A real sshd and real ssh clients: who is logged in, what runs there, and an end that spares who is at work.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_exact::{Ebb, Met, Net, meet, server4};
use ebb_kernel::netns::die_with_parent;

const LIMIT: Duration = Duration::from_secs(100);
/// Two hundred take two cores a minute to log in.
/// Their home has no start files, and their keys are cheap: two cores log them in within half a minute.
const CLIENTS: usize = 200;

struct Sshd {
    child: Child,
    folder: PathBuf,
}

impl Sshd {
    fn start(net: &Net) -> Self {
        let folder = std::env::temp_dir().join(format!("ebb-exact-ssh-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder is made");
        for key in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key));
            assert!(keygen.status().expect("ssh-keygen runs").success());
        }
        std::fs::create_dir_all("/run/sshd").expect("sshd's own folder");
        let at = folder.display();
        let config = format!(
            "ListenAddress {}\nPort 2222\nHostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\nStrictModes no\n\
             UsePAM no\nPermitRootLogin yes\nMaxStartups 500\nPidFile none\nPrintMotd no\nSubsystem sftp internal-sftp\n\
             KexAlgorithms curve25519-sha256\nSetEnv HOME={at}\n",
            server4(1)
        );
        std::fs::write(folder.join("config"), config).expect("sshd's configuration is written");
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-D").arg("-f").arg(folder.join("config")).stdin(Stdio::null()).stderr(Stdio::null());
        let child = net.server.command(die_with_parent(&mut command)).spawn().expect("sshd starts");
        let sshd = Self { child, folder };
        let began = Instant::now();
        while meet(&net.client, (server4(1), 2222).into()) != Met::Connected {
            assert!(began.elapsed() < LIMIT, "no sshd");
            std::thread::sleep(Duration::from_millis(50));
        }
        sshd
    }

    fn login(&self, net: &Net, words: &[&str]) -> Child {
        let mut command = Command::new("ssh");
        command.args(["-p", "2222", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i"]);
        command.arg(self.folder.join("user")).arg(format!("root@{}", server4(1))).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        net.client.command(die_with_parent(&mut command)).spawn().expect("ssh starts")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn said(mut child: Child) -> String {
    let mut text = String::new();
    let _ = child.stderr.take().expect("piped").read_to_string(&mut text);
    let _ = child.wait();
    text
}

#[test]
fn logins_have_their_users_and_who_is_at_work_is_spared() {
    let Some(net) = Net::new() else { return };
    let sshd = Sshd::start(&net);
    let ebb = Ebb::on(&net);
    // Waiting shells, one at work on a terminal, and one transfer.
    let mut shells: Vec<Child> = (0..CLIENTS).map(|_| sshd.login(&net, &["-tt"])).collect();
    let mut works = sshd.login(&net, &["-tt", "exec sleep 90"]);
    let transfer = sshd.login(&net, &["-s", "sftp"]);
    let began = Instant::now();
    let listed = loop {
        let listed = ebb.done(&["sessions", "sshd"]);
        let of = |text: &str| {
            listed.all("session").filter(|one| one["what"].as_str().is_some_and(|what| what.contains(text))).count()
        };
        if (of("pts/"), of("sleep"), of("no terminal: ")) == (CLIENTS + 1, 1, 1) {
            break listed;
        }
        assert!(began.elapsed() < LIMIT, "{listed:#?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(listed.all("session").all(|one| one["user"] == "root" && one["seen_by"] == "both"), "{listed:#?}");
    // Some leave by themselves, and the rest is told goodbye; who is at work has the grace.
    let mut drain = ebb.watch(&["drain", "sshd", "--no-stop", "--deadline", "10s", "--then", "end", "--grace", "6s"]);
    drain.until("all are counted", LIMIT, |frame| frame["type"] == "progress" && frame["left"] == CLIENTS + 2);
    for shell in shells.iter_mut().take(10) {
        shell.stdin.take().expect("piped").write_all(b"exit\n").expect("ssh reads");
    }
    drain.until("two are left", LIMIT, |frame| frame["type"] == "progress" && frame["left"] == 2);
    assert!(works.try_wait().expect("it can be asked").is_none(), "who is at work is spared");
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!(
        (&report["outcome"], &report["by_themselves"], &report["by_us"], &report["cut"]),
        (&"drained".into(), &10.into(), &(CLIENTS - 10).into(), &2.into()),
        "{report:#}"
    );
    said(transfer);
    said(works);
    for (number, shell) in shells.into_iter().enumerate() {
        let text = said(shell);
        assert_eq!(text.contains("closed by remote host"), number >= 10, "{number}: {text}");
    }
}
