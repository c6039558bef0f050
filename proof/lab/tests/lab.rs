//! The lab itself: what it promises to the tests that use it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ebb_lab::{Host, Lab, LabError, Server, roles};

const SOON: Duration = Duration::from_secs(20);

/// A failure shows the lab's own message, not its Debug form.
type Outcome = Result<(), Failure>;

struct Failure(String);

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Self(format!("failed to {error} {why}"))
    }
}

/// What a lab could leave behind: everything is named after it.
fn traces(lab_id: &str) -> Vec<String> {
    let netns = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut found: Vec<String> = netns.map(|e| e.path().display().to_string()).collect();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().map(str::to_owned));
    for mount in mounts.lines().filter(|l| l.split(' ').nth(2) == Some("cgroup2")) {
        let groups = fs::read_dir(mount.split(' ').nth(1).unwrap()).unwrap().flatten();
        found.extend(groups.map(|e| e.path().display().to_string()));
    }
    found.extend(
        fs::read_dir("/var/tmp/ebb-lab").into_iter().flatten().flatten().map(|e| e.path().display().to_string()),
    );
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let cgroup = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        found.push(format!("{} {cgroup} {}", process.path().display(), command.replace('\0', " ")));
    }
    found.retain(|line| line.contains(lab_id));
    found
}

fn id(lab: &Lab) -> String {
    lab.dir().file_name().unwrap().to_str().unwrap().to_owned()
}

fn curl(client: &impl Host, url: &str) -> Result<String, LabError> {
    client.check(&["curl", "-sS", "--max-time", "10", url])
}

#[test]
fn a_server_boots_serves_and_reboots() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("boot")?;
    let a = lab.server("a")?;
    let c = lab.client("c")?;
    assert_eq!(a.check(&["hostname"])?, "a\n");
    assert_eq!(a.sh("systemctl --failed --no-legend")?.stdout, "");
    for unit in ["systemd-journald", "dbus", "systemd-logind"] {
        assert_eq!(a.exec(&["systemctl", "is-active", unit])?.stdout, "active\n", "{unit}");
    }

    if let Some(ebb) = std::env::var_os("EBB_BIN") {
        let size = fs::metadata(ebb).unwrap().len();
        assert_eq!(a.check(&["stat", "-c", "%s %A", "/usr/bin/ebb"])?, format!("{size} -rwxr-xr-x\n"));
    }

    roles::nginx(&a)?;
    assert_eq!(curl(&c, &a.url("/"))?, "ok a\n");
    assert_eq!(curl(&c, &a.url6("/"))?, "ok a\n");

    let (before, marks) = (a.boot_id()?, "nft add table inet mark; touch /run/mark /root/mark");
    assert!(a.sh(marks)?.ok());
    a.reboot()?;
    assert_ne!(a.boot_id()?, before);
    assert_eq!(a.boots(), 2);
    assert_eq!(a.check(&["nft", "list", "tables"])?, "", "a reboot loses the firewall");
    assert_eq!(a.sh("ls /run/mark /root/mark 2>/dev/null")?.stdout, "/root/mark\n");
    roles::wait_port(&a, 80)?;
    assert_eq!(curl(&c, &a.url("/"))?, "ok a\n", "enabled units come back");
    assert!(a.sh("journalctl -b -1 -u nginx")?.stdout.contains("Stopped"), "the journal goes back");
    Ok(())
}

#[test]
fn power_loss_is_silent_and_power_off_is_not() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("power")?;
    let a = lab.server("a")?;
    let c = lab.client("c")?;
    roles::echo(&a)?;
    let session = connect(&c, &a, roles::ECHO_PORT)?;

    a.power_loss()?;
    assert!(matches!(a.exec(&["true"]), Err(LabError::Off { .. })));
    assert!(a.power_loss().is_err());
    let left = c.check(&["ss", "-Htn", "state", "established"])?;
    assert!(left.contains(":7000"), "no FIN, no RST: {left:?}");
    drop(session);

    a.power_on()?;
    assert!(a.power_on().is_err(), "it is on");
    roles::wait_port(&a, roles::ECHO_PORT)?;
    let mut session = connect(&c, &a, roles::ECHO_PORT)?;
    a.power_off()?;
    session.wait_for("closed", SOON)?;
    Ok(())
}

/// A session that has been answered, and says when it ends.
fn connect(client: &impl Host, server: &Server, port: u16) -> Result<ebb_lab::Running, LabError> {
    const CLIENT: &str = "import socket,sys\n\
        s=socket.create_connection((sys.argv[1],int(sys.argv[2])),10); s.sendall(b'x'); s.recv(1)\n\
        s.settimeout(None); print('session',flush=True)\n\
        try: print('closed' if s.recv(1)==b'' else 'data',flush=True)\n\
        except OSError as e: print('broken',e,flush=True)\n";
    let mut running = client.spawn(&["python3", "-c", CLIENT, &server.v4().to_string(), &port.to_string()])?;
    running.wait_for("session", SOON)?;
    Ok(running)
}

#[test]
fn two_labs_live_side_by_side_and_leave_nothing() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let (one, two) = (Lab::new("twin")?, Lab::new("twin")?);
    let ids = [id(&one), id(&two)];
    let (a, b) = (one.server("a")?, two.server("a")?);
    assert_eq!(a.v4(), b.v4(), "each lab is a world of its own");
    assert!(matches!(one.client("a"), Err(LabError::Name { .. })));
    let c = one.client("c")?;
    let sleeper = c.spawn(&["sleep", "1000"])?;
    b.put("/etc/mark", "two", 0o600)?;
    assert_eq!(b.read("/etc/mark")?, "two");
    assert!(a.read("/etc/mark").is_err());
    assert_eq!(b.check(&["stat", "-c", "%a", "/etc/mark"])?, "600\n");
    assert!(!traces(&ids[0]).is_empty(), "the test can see traces");

    drop(two);
    assert_eq!(traces(&ids[1]), [""; 0]);
    assert!(matches!(b.exec(&["true"]), Err(LabError::Off { .. })));
    assert!(a.exec(&["true"])?.ok(), "the other lab lives on");
    drop(one);
    drop(sleeper); // Killed with the lab; a zombie of this test until its handle goes.
    assert_eq!(traces(&ids[0]), [""; 0]);
    Ok(())
}

#[test]
fn a_panic_leaves_nothing() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let lab = Lab::new("panic").unwrap();
        lab.server("a").unwrap();
        tell.send(id(&lab)).unwrap();
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    assert_eq!(traces(&told.recv().unwrap()), [""; 0]);
    Ok(())
}

/// The test runner kills what hangs: then nobody runs Drop.
#[test]
fn a_killed_test_leaves_nothing() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    if std::env::var_os("EBB_LAB_TO_BE_KILLED").is_some() {
        let lab = Lab::new("killed")?;
        lab.server("a")?;
        writeln!(std::io::stderr(), "\nlab {} is up", id(&lab)).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return Ok(());
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_leaves_nothing", "--nocapture"])
        .env("EBB_LAB_TO_BE_KILLED", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let line = lines.map_while(Result::ok).find(|l| l.starts_with("lab ")).expect("the child tells its lab");
    child.kill().unwrap();
    child.wait().unwrap();
    let lab_id = line.split(' ').nth(1).unwrap();
    assert!(!lab_id.is_empty());
    // Its sweeper works beside us.
    let mut left = traces(lab_id);
    for _ in 0..300 {
        if left.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
        left = traces(lab_id);
    }
    panic!("still there: {left:#?}");
}

#[test]
fn a_stale_lab_is_removed_by_the_next() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    // A process number that is in use, but was born at another time.
    let stale = Path::new("/var/tmp/ebb-lab").join(format!("ebb-stale-{}-1-0", std::process::id()));
    fs::create_dir_all(stale.join("a/upper")).unwrap();
    let _lab = Lab::new("fresh")?;
    assert!(!stale.exists());
    Ok(())
}

#[test]
fn commands_are_bounded_and_end_whole() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("run")?;
    let a = lab.server("a")?;
    let c = lab.client("c")?;
    for host in [&a as &dyn Host, &c] {
        let out = host.sh("echo out; echo err >&2; exit 3")?;
        assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (Some(3), "out\n", "err\n"));
        assert_eq!(host.exec(&["no-such-command"])?.code, Some(127));
        let slow = host.exec_within(Duration::from_millis(300), &["sh", "-c", "echo begun; sleep 1000"], b"");
        assert!(matches!(slow, Err(LabError::TooSlow { text, .. }) if text == "begun\n"));

        let mut cat = host.spawn(&["cat"])?;
        cat.write(b"hello\n");
        cat.wait_for("hello", SOON)?;
        cat.close_stdin();
        assert!(cat.wait(SOON)?.ok());

        let mut shell =
            host.spawn(&["sh", "-c", "trap 'echo got it; exit 7' TERM; echo set; while :; do sleep 0.1; done"])?;
        shell.wait_for("set", SOON)?;
        shell.signal("TERM")?;
        assert_eq!(shell.wait(SOON)?.code, Some(7));
    }
    drop(a.spawn(&["sh", "-c", "sleep 4711 & sleep 4711"])?);
    assert_eq!(a.sh("ps -eo args | grep -c '^sleep 4711'")?.stdout, "0\n", "dropped means ended, children too");
    assert!(a.sh("sleep 4712 >/dev/null 2>&1 &")?.ok());
    assert_eq!(a.sh("ps -eo args | grep -c '^sleep 4712'")?.stdout, "1\n", "a daemon started by hand stays");
    Ok(())
}

#[test]
fn the_machine_is_out_of_reach() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("apart")?;
    let a = lab.server("a")?;
    let c = lab.client("c")?;
    // Only looked at, never tried: on the day one of these fails, a trial would hit the machine.
    assert!(!a.exec(&["test", "-w", "/proc/sys/kernel/panic"])?.ok(), "the machine's settings are read-only");
    const MACHINES: u64 = 1 << 16 | 1 << 17 | 1 << 25; // CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_TIME
    let mut statuses = vec![c.check(&["cat", "/proc/self/status"])?];
    for process in ["self", "1"] {
        statuses.push(a.read(&format!("/proc/{process}/status"))?);
    }
    for status in statuses {
        for set in ["CapBnd", "CapPrm", "CapEff"] {
            let line = status.lines().find_map(|l| l.strip_prefix(set)).unwrap();
            let held = u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap();
            assert_eq!(held & MACHINES, 0, "{set}: the clock and the hardware are the machine's");
        }
    }
    assert!(a.sh("sysctl -w net.ipv4.tcp_syncookies=2")?.ok(), "the network's are its own");
    let uptime: f64 = a.read("/proc/uptime")?.split(' ').next().unwrap().parse().unwrap();
    let ours: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(uptime < ours, "its clock starts at its boot: {uptime} of {ours}");
    // Never try it for real: where it succeeds, it is the machine's clock that jumps.
    let bounding = a.sh("sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status")?.stdout;
    let bounding = u64::from_str_radix(bounding.trim(), 16).unwrap();
    assert_eq!(bounding & 1 << 25, 0, "CAP_SYS_TIME is out of reach: the clock is the machine's");

    // A door of the machine itself is not reachable from the lab.
    let door = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = door.local_addr().unwrap().port();
    let out = a.exec(&["curl", "-s", "--max-time", "5", &format!("http://127.0.0.1:{port}/")])?;
    assert_eq!(out.code, Some(7), "refused: {out:?}");
    Ok(())
}
