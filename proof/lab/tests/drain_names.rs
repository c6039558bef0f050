//! Names that would drift: a service for each client, a group that is made while one of its units is held, and what is
//! stopped along.

mod common;

use ebb_lab::ebb::{ebb, watch};
use ebb_lab::load::Echoes;
use ebb_lab::{Host, Lab, Result, Server, roles};
use ebb_wire::v1::{Gate, Outcome as Came};

use common::{LATE, Outcome, SOON};

const PER_SOCKET: &str = "[Socket]\nListenStream=7600\nAccept=yes\n[Install]\nWantedBy=sockets.target\n";
const PER_SERVICE: &str = "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n";
const OTHER: &str = "[Service]\nExecStart=/usr/bin/python3 /opt/echo.py 7601\n";
/// Another echo server that goes down with the first.
const ALONG: &str = "[Unit]\nRequires=echo.service\nAfter=echo.service\nPartOf=echo.service\n[Service]\n\
                     ExecStart=/usr/bin/python3 /opt/echo.py 7500\n";

fn unit(a: &Server, name: &str, text: &str) -> Result<()> {
    a.put(&format!("/etc/systemd/system/{name}"), text, 0o644)
}

#[test]
fn names_stay_and_nobody_is_lost_by_them() -> Outcome {
    if !ebb_lab::allowed() {
        return Ok(());
    }
    let lab = Lab::new("names")?;
    let (a, c) = (lab.server("a")?, lab.client("c")?);
    roles::echo(&a)?;
    for (name, text) in
        [("per.socket", PER_SOCKET), ("per@.service", PER_SERVICE), ("other.service", OTHER), ("along.service", ALONG)]
    {
        unit(&a, name, text)?;
    }
    a.check(&["systemctl", "daemon-reload"])?;
    a.enable("per.socket")?;

    // One service for each client: the service is the socket's, whoever comes and goes.
    let mut clients = Echoes::open(&c, &a, 7600, 2)?;
    let mut drain = watch(&a, &["drain", "per"])?;
    drain.wait_left(2, SOON)?;
    clients.end(1)?;
    drain.wait_left(1, SOON)?;
    a.check(&["systemctl", "start", "other"])?;
    roles::wait_port(&a, 7601)?;
    std::thread::sleep(SOON / 8);
    assert_eq!(clients.count()?.harmed, 0);
    let status = ebb(&a, &["status", "per"])?;
    assert_eq!((status.statuses()[0].gate, status.statuses()[0].service.sessions), (Gate::Shut, Some(1)), "{status:?}");
    clients.end(1)?;
    let answer = drain.wait(LATE)?;
    let report = answer.drains()[0];
    assert_eq!((answer.code, report.outcome, report.by_themselves), (Some(0), Came::Stopped, 2), "{answer:?}");
    assert_eq!(clients.finish()?.harmed, 0);
    let answer = ebb(&a, &["resume", "per"])?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(Echoes::open(&c, &a, 7600, 1)?.finish()?.harmed, 0);

    // A group is made in the configuration while one of its units is held under its own name.
    let mut clients = Echoes::open(&c, &a, roles::ECHO_PORT, 3)?;
    let answer = ebb(&a, &["drain", "echo", "--deadline", "1s"])?;
    assert_eq!((answer.code, answer.drains()[0].left), (Some(3), 3), "{answer:?}");
    a.put("/etc/ebb/ebb.toml", "[service.pair]\nunits = [\"echo\", \"other\"]\n", 0o644)?;
    let answer = ebb(&a, &["drain", "echo", "--deadline", "3s"])?;
    assert_eq!((answer.code, answer.drains()[0].left), (Some(3), 3), "its sessions are still its own: {answer:?}");
    a.check(&["rm", "/etc/ebb/ebb.toml"])?;
    assert_eq!(ebb(&a, &["resume", "echo"])?.code, Some(0));

    // What systemd would stop along has clients of its own: refused, and together they are drained, and come back.
    a.check(&["systemctl", "start", "along"])?;
    roles::wait_port(&a, 7500)?;
    let mut others = Echoes::open(&c, &a, 7500, 2)?;
    let answer = ebb(&a, &["drain", "echo"])?;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("along") && answer.stderr.contains("ebb drain echo along"), "{answer:?}");
    let drain = watch(&a, &["drain", "echo", "along"])?;
    clients.end(3)?;
    std::thread::sleep(SOON / 8);
    assert_eq!(others.count()?.harmed, 0, "echo waits with its stop");
    others.end(2)?;
    let answer = drain.wait(LATE)?;
    assert!(answer.code == Some(0) && answer.drains().iter().all(|one| one.outcome == Came::Stopped), "{answer:?}");
    assert_eq!((clients.finish()?.harmed, others.finish()?.harmed), (0, 0));
    assert_eq!(ebb(&a, &["resume", "echo", "along"])?.code, Some(0));
    for unit in ["echo", "along"] {
        assert_eq!(a.exec(&["systemctl", "is-active", unit])?.stdout.trim(), "active", "{unit}");
    }
    Ok(())
}
