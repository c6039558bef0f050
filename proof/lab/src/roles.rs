//! What a server can be. Each function puts the files in place, enables the units (so they come back after a
//! reboot) and returns when they serve. A server may have several roles.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::tool::script;
use crate::{Host, Lab, LabError, Result, Server};

/// The port of [`echo`].
pub const ECHO_PORT: u16 = 7000;
/// The port of [`greeter`].
pub const GREETER_PORT: u16 = 7300;

/// How long a daemon has from "started" to its first answer.
const SERVE_LIMIT: Duration = Duration::from_secs(20);

/// nginx on port 80: `/` says "ok NAME" with long keep-alive, `/slow` is a download of 64 MB at 64 kB/s, `/ws` a
/// WebSocket upgrade (`ws-echo.service` behind it gives back raw bytes), `/status` the number of connections.
///
/// # Errors
/// When the server is off or a unit does not start.
pub fn nginx(server: &Server) -> Result<()> {
    server.put("/opt/ws.py", include_str!("../roles/ws.py"), 0o644)?;
    server.put("/etc/systemd/system/ws-echo.service", include_str!("../roles/ws-echo.service"), 0o644)?;
    server.put("/etc/nginx/nginx.conf", include_str!("../roles/nginx.conf"), 0o644)?;
    server.check(&["sh", "-c", "mkdir -p /var/www/lab && truncate -s 64M /var/www/lab/big"])?;
    server.enable("ws-echo.service")?;
    server.enable("nginx.service")?;
    wait_port(server, 7191)?;
    wait_port(server, 80)
}

/// sshd on port 22; the key of [`ssh_command`] opens it for `root` and `tester`.
///
/// # Errors
/// When the key cannot be made, the server is off or the unit does not start.
pub fn sshd(lab: &Lab, server: &Server) -> Result<()> {
    let public = key(lab)?.with_extension("pub");
    let line = fs::read_to_string(&public).map_err(LabError::file("read", &public))?;
    for (user, home) in [("root", "/root"), ("tester", "/home/tester")] {
        server.put(&format!("{home}/.ssh/authorized_keys"), &line, 0o600)?;
        server.check(&["chown", "-R", user, &format!("{home}/.ssh")])?;
        server.check(&["chmod", "700", &format!("{home}/.ssh")])?;
    }
    server.enable("ssh.service")?;
    wait_port(server, 22)
}

/// The words that log a client in by ssh, to be followed by a command, or `-N`, or nothing.
///
/// # Errors
/// When the key cannot be made.
pub fn ssh_command(lab: &Lab, user: &str, server: &Server) -> Result<Vec<String>> {
    let key = key(lab)?;
    let mut words: Vec<String> =
        ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-i"].map(str::to_owned).into();
    words.push(key.display().to_string());
    words.extend(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"].map(str::to_owned));
    words.push(format!("{user}@{}", server.v4()));
    Ok(words)
}

/// PostgreSQL on port 5432: role and database `lab`, and superuser `postgres`, without password from the lab.
/// The unit with the sockets is `postgresql@15-main.service`.
///
/// # Errors
/// When the server is off, the unit does not start or does not answer.
pub fn postgresql(server: &Server) -> Result<()> {
    let etc = "/etc/postgresql/15/main";
    server.put(&format!("{etc}/conf.d/lab.conf"), "listen_addresses = '*'\n", 0o644)?;
    let trust = "host all all 10.77.0.0/24 trust\nhost all all fd77::/64 trust\n";
    let hba = server.read(&format!("{etc}/pg_hba.conf"))? + trust;
    server.put(&format!("{etc}/pg_hba.conf"), hba, 0o640)?;
    server.check(&["chown", "postgres:postgres", &format!("{etc}/pg_hba.conf")])?;
    server.enable("postgresql.service")?;
    wait_port(server, 5432)?;
    let make = "CREATE ROLE lab LOGIN; CREATE DATABASE lab OWNER lab";
    for statement in make.split("; ") {
        server.check(&["runuser", "-u", "postgres", "--", "psql", "-qc", statement])?;
    }
    Ok(())
}

/// Kamailio on port 5060 of the server's address, UDP and TCP, with ebb's snippet, and otherwise with what its package sets.
///
/// # Errors
/// When the server is off or the unit does not start.
pub fn kamailio(server: &Server) -> Result<()> {
    let config = include_str!("../roles/kamailio.cfg").replace("ADDRESS", &server.v4().to_string());
    server.put("/etc/kamailio/kamailio.cfg", config, 0o644)?;
    server.put("/etc/kamailio/ebb.cfg", include_str!("../../../packaging/kamailio/ebb.cfg"), 0o644)?;
    server.enable("kamailio.service")?;
    wait_port(server, 5060)
}

/// Postfix on port 25 of all addresses, as Debian sets it up; its queue cannot leave, for its relay is a port where nobody
/// listens. The unit with the sockets is `postfix@-.service`. Another mail server, `smtp-sink`, is at 127.0.0.1:2526.
///
/// # Errors
/// When the server is off or a unit does not start.
pub fn postfix(server: &Server) -> Result<()> {
    server.check(&["postconf", "-e", "relayhost = [127.0.0.1]:9", "mydestination =", "inet_protocols = ipv4"])?;
    server.check(&["postconf", "-e", "inet_interfaces = all", "maillog_file ="])?;
    server.put("/etc/systemd/system/sink.service", include_str!("../roles/sink.service"), 0o644)?;
    server.enable("sink.service")?;
    server.enable("postfix.service")?;
    wait_port(server, 2526)?;
    wait_port(server, 25)
}

/// HAProxy on port 80 in front of these servers' port 80, round robin, backend `pool`, servers `s1`, `s2`, …;
/// the stats socket with all rights is `/run/haproxy/admin.sock`.
///
/// # Errors
/// When the server is off or the unit does not start.
pub fn haproxy(server: &Server, behind: &[Ipv4Addr]) -> Result<()> {
    let mut config = include_str!("../roles/haproxy.cfg").to_owned();
    for (number, address) in (1..).zip(behind) {
        config += &format!("    server s{number} {address}:80\n");
    }
    server.put("/etc/haproxy/haproxy.cfg", config, 0o644)?;
    server.enable("haproxy.service")?;
    wait_port(server, 80)
}

/// A TCP echo server on [`ECHO_PORT`], `echo.service`. To start one by hand put [`echo_script`] and run
/// `python3 /opt/echo.py PORT...`; it says "ready".
///
/// # Errors
/// When the server is off or the unit does not start.
pub fn echo(server: &Server) -> Result<()> {
    echo_script(server)?;
    server.put("/etc/systemd/system/echo.service", include_str!("../roles/echo.service"), 0o644)?;
    server.enable("echo.service")?;
    wait_port(server, ECHO_PORT)
}

/// Puts `/opt/echo.py`, which [`echo`] does too.
///
/// # Errors
/// When the server is off.
pub fn echo_script(server: &Server) -> Result<()> {
    server.put("/opt/echo.py", include_str!("../roles/echo.py"), 0o644)
}

/// A socket-activated service on [`GREETER_PORT`]: `greeter.socket` listens, its first client starts
/// `greeter.service`, which says "hello from NAME" and then gives back what it gets.
///
/// # Errors
/// When the server is off or the socket unit does not start.
pub fn greeter(server: &Server) -> Result<()> {
    server.put("/opt/greeter.py", include_str!("../roles/greeter.py"), 0o644)?;
    server.put("/etc/systemd/system/greeter.service", include_str!("../roles/greeter.service"), 0o644)?;
    server.put("/etc/systemd/system/greeter.socket", include_str!("../roles/greeter.socket"), 0o644)?;
    server.enable("greeter.socket")?;
    wait_port(server, GREETER_PORT)
}

/// The resident agent, from the units that are shipped, and the unit that shuts the gates at boot; enabled and started.
///
/// # Errors
/// When the server is off or a unit does not start.
pub fn agent(server: &Server) -> Result<()> {
    for (to, text) in [
        ("systemd/system/ebb-agent.service", include_str!("../../../packaging/ebb-agent.service")),
        ("systemd/system/ebb-gate.service", include_str!("../../../packaging/ebb-gate.service")),
        ("sysusers.d/ebb.conf", include_str!("../../../packaging/ebb.sysusers")),
    ] {
        server.put(&format!("/usr/lib/{to}"), text, 0o644)?;
    }
    server.check(&["systemd-sysusers"])?;
    server.check(&["systemctl", "daemon-reload"])?;
    server.enable("ebb-gate.service")?;
    server.enable("ebb-agent.service")
}

/// Waits until something listens on a TCP port of the server; it does not connect, which would be counted.
///
/// # Errors
/// When nothing does within 20 s.
pub fn wait_port(server: &Server, port: u16) -> Result<()> {
    let start = Instant::now();
    let filter = format!("sport = :{port}");
    loop {
        if !server.check(&["ss", "-Hltn", &filter])?.is_empty() {
            return Ok(());
        }
        if start.elapsed() > SERVE_LIMIT {
            let what = format!("port {port} of {}", server.name());
            let text = server.check(&["ss", "-Hltnp"])?;
            return Err(LabError::NotSeen { what, limit: SERVE_LIMIT, text });
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The lab's own login key.
fn key(lab: &Lab) -> Result<PathBuf> {
    let path = lab.dir().join("login_key");
    if !path.exists() {
        script("# make a login key\nexec ssh-keygen -q -t ed25519 -N '' -C lab -f \"$1\" </dev/null", &[&path])?;
    }
    Ok(path)
}
