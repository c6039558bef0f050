//! Every role serves what it says, by the means a test would use.

use std::time::Duration;

use ebb_lab::{Host, Lab, LabError, roles};

const SOON: Duration = Duration::from_secs(20);

fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

#[test]
fn nginx_holds_long_sessions() -> Result<(), LabError> {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("nginx")?;
    let [a, b, p] = lab.servers(["a", "b", "p"])?;
    let c = lab.client("c")?;
    roles::nginx(&a)?;
    roles::nginx(&b)?;

    let upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Key: eA=="];
    let ws = a.url("/ws");
    let mut socket = c.spawn(&[&["curl", "-sSvN", "--http1.1", ws.as_str()][..], &upgrade].concat())?;
    socket.wait_for("101 Switching Protocols", SOON)?;
    let mut download = c.spawn(&["curl", "-svo", "/dev/null", &a.url("/slow")])?;
    download.wait_for("200 OK", SOON)?;
    assert!(socket.is_running() && download.is_running());
    let sessions = a.check(&["ss", "-Htn", "state", "established", "sport = :80"])?;
    assert_eq!(sessions.lines().count(), 2, "{sessions}");

    roles::haproxy(&p, &[a.v4(), b.v4()])?;
    let mut seen = String::new();
    for _ in 0..4 {
        seen += &c.check(&["curl", "-sS", "--max-time", "10", &p.url("/")])?;
    }
    assert!(seen.contains("ok a") && seen.contains("ok b"), "{seen}");
    assert!(c.check(&["curl", "-sS", "--max-time", "10", &p.url6("/")])?.starts_with("ok"));
    Ok(())
}

#[test]
fn sshd_lets_both_users_in() -> Result<(), LabError> {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("ssh")?;
    let a = lab.server("a")?;
    let c = lab.client("c")?;
    roles::sshd(&lab, &a)?;
    for user in ["root", "tester"] {
        let login = roles::ssh_command(&lab, user, &a)?;
        assert_eq!(c.check(&[&words(&login)[..], &["whoami"]].concat())?.trim(), user);
        let mut session = c.spawn(&[&words(&login)[..], &["echo in; exec sleep 1000"]].concat())?;
        session.wait_for("in", SOON)?;
        let known = a.check(&["loginctl", "list-sessions", "--no-legend"])?;
        assert!(known.contains(user), "logind knows: {known:?}");
    }
    Ok(())
}

#[test]
fn postgresql_answers_from_the_network() -> Result<(), LabError> {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("sql")?;
    let a = lab.server("a")?;
    let c = lab.client("c")?;
    roles::postgresql(&a)?;
    for host in [a.v4().to_string(), a.v6().to_string()] {
        let who = c.check(&["psql", "-h", &host, "-U", "lab", "-Atc", "select current_user", "lab"])?;
        assert_eq!(who, "lab\n");
    }
    a.reboot()?;
    roles::wait_port(&a, 5432)?;
    let owner = a.check(&["ss", "-Hltn", "--cgroup", "sport = :5432"])?;
    assert!(owner.contains("postgresql@15-main.service"), "{owner}");
    Ok(())
}

#[test]
fn echo_and_greeter_and_one_started_by_hand() -> Result<(), LabError> {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("echo")?;
    let a = lab.server("a")?;
    let c = lab.client("c")?;
    roles::echo(&a)?;
    roles::greeter(&a)?;
    let mut by_hand = a.spawn(&["python3", "/opt/echo.py", "7001", "7002"])?;
    by_hand.wait_for("ready", SOON)?;
    assert_eq!(a.exec(&["systemctl", "is-active", "greeter.service"])?.stdout, "inactive\n");

    let talk = "import socket,sys\n\
        s=socket.create_connection((sys.argv[1],int(sys.argv[2])),10); s.settimeout(10)\n\
        s.sendall(b'ping\\n'); s.shutdown(socket.SHUT_WR)\n\
        print(b''.join(iter(lambda: s.recv(99), b'')).decode(), end='')\n";
    for (host, port, answer) in [
        (a.v4().to_string(), "7000", "ping\n"),
        (a.v6().to_string(), "7000", "ping\n"),
        (a.v4().to_string(), "7002", "ping\n"),
        (a.v6().to_string(), "7300", "hello from a\nping\n"),
        (a.v4().to_string(), "7300", "hello from a\nping\n"),
    ] {
        assert_eq!(c.check(&["python3", "-c", talk, &host, port])?, answer, "port {port} of {host}");
    }
    assert_eq!(a.exec(&["systemctl", "is-active", "greeter.service"])?.stdout, "active\n");
    let door = a.check(&["ss", "-Hltn", "--cgroup", "sport = :7300"])?;
    assert!(door.contains("greeter.socket"), "{door}");
    Ok(())
}
