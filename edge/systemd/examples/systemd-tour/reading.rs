use std::{
    io::Write as _,
    net::TcpStream,
    os::unix::process::CommandExt as _,
    process::Command,
    time::{Duration, Instant},
};

use ebb_systemd::{
    Error, JobEnd, KillMode, LoadState, RestartPolicy, ServiceType, StopWarning, Systemd, UnitFileState, UnitName,
    journal::Journal,
};
use tokio::time::sleep;

use crate::{Outcome, PATIENCE, check, fixture, text, unit};

const NOBODY: u32 = 65534;

pub async fn lists(systemd: &Systemd) -> Outcome {
    let began = Instant::now();
    let units = systemd.units().await.map_err(text)?;
    println!("  note  {} services and sockets listed in {:?}", units.len(), began.elapsed());
    check("all units are listed", units.len() >= fixture::FILL, &units.len())?;
    let began = Instant::now();
    let files = systemd.unit_files().await.map_err(text)?;
    println!("  note  {} unit files listed in {:?}", files.len(), began.elapsed());
    let state = |name: &str| files.iter().find(|f| f.name.as_str() == name).map(|f| &f.state);
    let seen = state("ebb-tour-plain.service");
    check("a unit without [Install] is static", seen == Some(&UnitFileState::Static), &seen)?;
    let names = [unit("ebb-tour-fill@7.service")?, unit("ebb-tour-none.service")?];
    let states = systemd.states(&names).await.map_err(text)?;
    let none = states.iter().any(|s| s.name == names[1] && s.load == LoadState::NotFound);
    check("states of chosen units", states.len() == 2 && none, &states)
}

pub async fn details(systemd: &Systemd) -> Outcome {
    fixture::start(systemd, "ebb-tour-plain.service").await?;
    let began = Instant::now();
    let plain = systemd.unit(&unit("ebb-tour-plain.service")?).await.map_err(text)?;
    println!("  note  one unit read in {:?}", began.elapsed());
    let as_written = plain.restart == RestartPolicy::Always
        && plain.kill_mode == KillMode::Process
        && plain.service_type == ServiceType::Simple
        && plain.timeout_stop == Some(Duration::from_secs(5))
        && plain.fragment_path.as_deref() == Some("/run/systemd/system/ebb-tour-plain.service");
    check("the unit is as written", as_written, &plain)?;
    let pid = plain.main_pid.unwrap_or_default();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(text)?;
    let path = cgroup.lines().filter_map(|line| line.split("::").nth(1)).next().unwrap_or_default();
    let owner = UnitName::from_cgroup_path(path).map(|owner| owner.unit);
    check("its process' cgroup names it", owner.as_ref() == Some(&plain.id), &cgroup)?;
    check("so does systemd", plain.control_group.as_deref() == Some(path), &plain.control_group)?;
    let inode =
        std::fs::metadata(format!("/sys/fs/cgroup{path}")).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)).ok();
    let same = plain.control_group_id.is_none() || plain.control_group_id == inode;
    check("the cgroup id is the inode", same, &(plain.control_group_id, inode))?;
    let processes = systemd.processes(&plain.id).await.map_err(text)?;
    check("its one process", processes.len() == 1 && processes[0].pid == pid, &processes)?;
    let moment = plain.active_enter.and_then(|moment| moment.wall_usec);
    check("since when", moment.is_some_and(|usec| usec > 1_600_000_000_000_000), &moment)?;
    let warnings = plain.stop_warnings();
    let wanted = [
        StopWarning::CutsShort { after: Duration::from_secs(5) },
        StopWarning::ChildrenSurvive { mode: KillMode::Process },
        StopWarning::RestartsWhenKilled { policy: RestartPolicy::Always },
    ];
    check("what to know before a stop", warnings == wanted, &warnings)
}

pub async fn company(systemd: &Systemd) -> Outcome {
    for name in ["ebb-tour-wrapper.service", "ebb-tour-top.service"] {
        fixture::start(systemd, name).await?;
    }
    let wrapper = systemd.unit(&unit("ebb-tour-wrapper.service")?).await.map_err(text)?;
    check("a wrapper is known as one", wrapper.is_wrapper(), &wrapper)?;
    let instances = systemd.instances(&wrapper).await.map_err(text)?;
    let names: Vec<_> = instances.iter().map(|line| line.name.as_str()).collect();
    check("and its instance found", names == ["ebb-tour-wrapper@1.service"], &names)?;
    let plain = systemd.unit(&unit("ebb-tour-plain.service")?).await.map_err(text)?;
    check("a service is no wrapper", !plain.is_wrapper(), &plain)?;
    // Loaded, but not up: it must not be named.
    systemd.unit(&unit("ebb-tour-idle-dependant.service")?).await.map_err(text)?;
    let base = systemd.unit(&unit("ebb-tour-base.service")?).await.map_err(text)?;
    let names: Vec<_> = base.stops_with.iter().map(UnitName::as_str).collect();
    let wanted = ["ebb-tour-middle.service", "ebb-tour-top.service"];
    check("what a stop takes along, through others too", names == wanted, &base)?;
    systemd.stop(&base.id, PATIENCE).await.map_err(text)?;
    let states = systemd.states(&base.stops_with).await.map_err(text)?;
    check("and it does", states.iter().all(|line| !line.active.is_up()), &states)
}

pub async fn socket_activation(systemd: &Systemd) -> Outcome {
    fixture::start(systemd, "ebb-tour-door.socket").await?;
    let socket = systemd.unit(&unit("ebb-tour-door.socket")?).await.map_err(text)?;
    let listen: Vec<_> = socket.listen.iter().map(|l| (l.kind.as_str(), l.address.as_str())).collect();
    let wanted = [("Stream", "127.0.0.1:7901"), ("Stream", "/run/ebb-tour-door")];
    check("where a socket listens", listen == wanted && !socket.accept, &socket)?;
    let door = unit("ebb-tour-door.service")?;
    check("what it starts", socket.triggers == [door.clone()], &socket.triggers)?;
    // Nobody ever accepts it, so it starts the service again after each stop.
    let client = TcpStream::connect("127.0.0.1:7901").map_err(text)?;
    let starts = async || Ok(systemd.unit(&door).await.map_err(text)?.main_pid.is_some());
    until("a connection starts the service", starts).await?;
    let service = systemd.unit(&door).await.map_err(text)?;
    let again = StopWarning::StartedAgainBy { units: vec![socket.id.clone()] };
    let warnings = service.stop_warnings();
    check("the socket will start it again", warnings.contains(&again), &warnings)?;
    let report = systemd.stop(&door, PATIENCE).await.map_err(text)?;
    check("stop it", report.end == JobEnd::Done, &report)?;
    until("and it does, for the waiting connection", starts).await?;
    drop(client);
    systemd.stop(&socket.id, PATIENCE).await.map_err(text)?;
    let report = systemd.stop(&door, PATIENCE).await.map_err(text)?;
    check("without the socket it stays down", report.is_down(), &report)?;
    let service = systemd.unit(&door).await.map_err(text)?;
    check("and no warning is left", service.triggers_up.is_empty(), &service)?;
    fixture::start(systemd, "ebb-tour-each.socket").await?;
    let each = unit("ebb-tour-each.socket")?;
    let mut client = TcpStream::connect("127.0.0.1:7902").map_err(text)?;
    client.write_all(b"x").map_err(text)?;
    until("a connection of an Accept=yes socket is counted", async || {
        let socket = systemd.unit(&each).await.map_err(text)?;
        Ok(socket.accept && socket.n_connections == Some(1))
    })
    .await
}

/// Waits for something that systemd does in its own time.
pub async fn until(what: &str, holds: impl AsyncFn() -> Result<bool, String>) -> Outcome {
    let latest = Instant::now() + PATIENCE;
    while !holds().await? {
        if Instant::now() > latest {
            return Err(format!("{what}: never"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    check(what, true, &())
}

pub async fn refusals(systemd: &Systemd) -> Outcome {
    let none = unit("ebb-tour-none.service")?;
    let seen = systemd.unit(&none).await;
    check("read none: no such unit", matches!(seen, Err(Error::NoSuchUnit { .. })), &seen)?;
    let seen = systemd.stop(&none, PATIENCE).await;
    check("stop none: no such unit", matches!(seen, Err(Error::NoSuchUnit { .. })), &seen)?;
    let seen = systemd.start(&none, PATIENCE).await;
    check("start none: no such unit", matches!(seen, Err(Error::NoSuchUnit { .. })), &seen)?;
    let seen = systemd.reset_failed(&none).await;
    check("reset none: nothing to do", seen.is_ok(), &seen)?;
    fixture::start(systemd, "ebb-tour-private.service").await?;
    let seen = systemd.stop(&unit("ebb-tour-private.service")?, PATIENCE).await;
    check("RefuseManualStop: refused", matches!(seen, Err(Error::Refused { .. })), &seen)?;
    fixture::run("systemctl", &["mask", "--runtime", "ebb-tour-masked.service"]).await?;
    let seen = systemd.start(&unit("ebb-tour-masked.service")?, PATIENCE).await;
    fixture::run("systemctl", &["unmask", "--runtime", "ebb-tour-masked.service"]).await?;
    check("start a masked one: masked", matches!(seen, Err(Error::Masked { .. })), &seen)
}

/// Runs this program again as nobody.
pub fn nobody_is_refused() -> Outcome {
    let program = std::env::current_exe().map_err(text)?;
    let status = Command::new(program).arg("--as-nobody").uid(NOBODY).gid(NOBODY).status();
    check("nobody may read and not act", status.is_ok_and(|s| s.success()), &"see above")
}

pub async fn as_nobody() -> Outcome {
    let systemd = Systemd::new();
    let plain = unit("ebb-tour-plain.service")?;
    let seen = systemd.unit(&plain).await;
    check("nobody reads", seen.is_ok(), &seen)?;
    let seen = systemd.stop(&plain, PATIENCE).await;
    check("nobody stops: access denied", matches!(seen, Err(Error::AccessDenied { .. })), &seen)
}

pub async fn journal() -> Outcome {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    let journal = Journal::open().ok_or("no journal")?;
    // Earlier tours are in the same journal.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(text)?;
    let words = format!("the tour says\n{}", now.as_nanos());
    journal
        .send(&[
            ("MESSAGE", &words),
            ("MESSAGE_ID", ID),
            ("PRIORITY", "5"),
            ("SYSLOG_IDENTIFIER", "ebb-tour"),
            ("OBJECT_SYSTEMD_UNIT", "ebb-tour-plain.service"),
        ])
        .map_err(text)?;
    // The kernel may queue as few as ten.
    let sent = (0..200).try_for_each(|_| journal.send(&[("MESSAGE", "one of a burst"), ("PRIORITY", "7")]));
    check("a burst is not lost", sent.is_ok(), &sent)?;
    let id = format!("MESSAGE_ID={ID}");
    until("a message arrives with its id, line break included", async || {
        Ok(fixture::run("journalctl", &["--no-pager", "-o", "cat", &id]).await?.contains(&words))
    })
    .await?;
    until("and under the unit it is about", async || {
        let arguments = ["--no-pager", "-o", "cat", "-u", "ebb-tour-plain.service"];
        Ok(fixture::run("journalctl", &arguments).await?.contains(&words))
    })
    .await
}
