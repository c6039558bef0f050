//! The configuration of a running agent: a change is taken without a restart, one with a fault is not.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use ebb_exact::{Daemon, Ebb, Listen, Net, ServeSpec, Watched, server4};

const LIMIT: Duration = Duration::from_secs(60);

/// An agent whose socket everybody reaches, as members of the group `ebb` do.
fn agent(ebb: &Ebb) -> Watched {
    let agent = ebb.watch(&["agent"]);
    until("an agent", || UnixStream::connect(ebb.socket()).is_ok());
    let mode = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(ebb.socket(), mode).expect("open the socket to all");
    agent
}

fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LIMIT, "no {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn hangup(agent: &Watched) {
    let done = Command::new("kill").args(["-HUP", &agent.pid().to_string()]).status().expect("run kill");
    assert!(done.success());
}

fn names(ebb: &Ebb) -> Vec<String> {
    let answer = ebb.done(&["services", "--no-count"]);
    answer.all("service").filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_changed_configuration_is_taken_without_a_restart_and_one_with_a_fault_is_refused() {
    let Some(net) = Net::new() else { return };
    let at: SocketAddr = (server4(1), 7000).into();
    let _server = Daemon::named(&net, "alpha", &ServeSpec::at([Listen::tcp(at)]));
    let ebb = Ebb::on(&net);
    ebb.let_others_look(true);
    ebb.configure("[access]\noperators = [\"root\"]\n");
    let mut agent = agent(&ebb);
    assert_eq!(names(&ebb), ["alpha"]);
    let may = || ebb.run_as_nobody(&["hold", "alpha"]).code == Some(0);
    let refused = ebb.run_as_nobody(&["hold", "alpha"]);
    assert_eq!(refused.code, Some(8), "{refused:#?}");

    // By itself, some seconds after a change; a drop-in is one too.
    let drop_ins = ebb.config().with_extension("toml.d");
    std::fs::create_dir_all(&drop_ins).unwrap();
    std::fs::write(drop_ins.join("10.toml"), "[access]\noperators = [\"nobody\"]\n").unwrap();
    until("right for nobody", may);
    ebb.done(&["resume", "alpha"]);

    // By a signal: other groups.
    ebb.configure("[service.greek]\nexecutables = [\"alpha\"]\n");
    hangup(&agent);
    until("service of the new name", || names(&ebb) == ["greek"]);

    // One with a fault is refused as a whole, also what it says beside the fault; and that is told.
    assert_eq!(ebb.run(&["doctor"]).code, Some(0));
    ebb.configure("[service.latin]\nexecutables = [\"alpha\"]\n[holds]\nforgotten_after = \"soon\"\n");
    until("finding", || {
        let doctor = ebb.run(&["doctor"]);
        doctor.all("finding").any(|one| one["what"].as_str().is_some_and(|what| what.contains(".toml:4:19: ")))
    });
    assert_eq!(names(&ebb), ["greek"]);
    hangup(&agent);
    let check = ebb.run(&["config", "check"]);
    assert_eq!((check.code, check.all("fault").count()), (Some(1), 1), "{check:#?}");
    assert_eq!((check.one("fault")["line"].as_u64(), check.one("fault")["column"].as_u64()), (Some(4), Some(19)));

    // Mended, it is taken; only `systemd` is not.
    ebb.configure("systemd = false\n[service.latin]\nexecutables = [\"alpha\"]\nuses = [\"beta\"]\n");
    until("service of the mended name", || names(&ebb) == ["latin"]);
    let doctor = ebb.run(&["doctor"]);
    assert!(doctor.one("finding")["what"].as_str().is_some_and(|what| what.contains("`systemd`")), "{doctor:#?}");
    let check = ebb.done(&["config", "check"]);
    assert!(check.one("fault")["what"].as_str().is_some_and(|what| what.contains("`beta`")), "{check:#?}");
    let explained = ebb.done(&["config", "explain", "access.operators"]);
    let setting = explained.one("setting");
    assert_eq!((&setting["value"], &setting["line"]), (&"[\"nobody\"]".into(), &2.into()), "{setting:#}");
    agent.kill();
}

/// The journal is told once of each fault, not each few seconds and not by each signal.
#[test]
fn a_refused_configuration_is_complained_of_once() {
    let Some(net) = Net::new() else { return };
    let ebb = Ebb::on(&net);
    let agent = agent(&ebb);
    ebb.configure("nothing = 1\n");
    let found = || ebb.run(&["doctor"]).all("finding").count() == 1;
    until("finding", found);
    for _ in 0..3 {
        hangup(&agent);
        assert!(found());
    }
    ebb.configure("");
    until("no finding", || !found());
    Command::new("kill").arg(agent.pid().to_string()).status().unwrap();
    let answer = agent.wait(LIMIT);
    assert_eq!(answer.code, Some(0), "a SIGHUP ends no agent: {answer:#?}");
    assert_eq!(answer.stderr.matches("the configuration is refused").count(), 1, "{}", answer.stderr);
}
