//! A real PostgreSQL: who is connected as it says itself, the goodbye of its protocol, and a transaction that is spared.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_exact::{Ebb, Net, server4};
use ebb_kernel::netns::{Ns, die_with_parent};

const LIMIT: Duration = Duration::from_secs(60);
const CLIENTS: usize = 200;

struct Postgres {
    child: Child,
    folder: PathBuf,
}

fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let found = versions.flatten().map(|version| version.path().join("bin").join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {name} in /usr/lib/postgresql"))
}

fn as_postgres(ns: &Ns, words: &[&str]) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--pdeathsig", "KILL"]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    ns.command(die_with_parent(&mut command)).spawn().expect("setpriv starts")
}

impl Postgres {
    fn start(net: &Net) -> Self {
        let folder = std::env::temp_dir().join(format!("ebb-exact-pg-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder is made");
        let owned = Command::new("chown").arg("postgres:postgres").arg(&folder).status();
        assert!(owned.expect("chown runs").success());
        let (at, data) = (folder.display().to_string(), folder.join("data").display().to_string());
        let initdb = program("initdb").display().to_string();
        let words =
            [&initdb, "-D", &data, "-U", "postgres", "--no-sync", "--auth-local", "peer", "--auth-host", "trust"];
        assert!(as_postgres(&net.server, &words).wait().expect("initdb ends").success());
        let hba = "local all all peer\nhost all all 0.0.0.0/0 trust\n";
        std::fs::write(folder.join("data/pg_hba.conf"), hba).expect("pg_hba.conf is written");
        let listen = format!("listen_addresses={}", server4(1));
        let sockets = format!("unix_socket_directories={at}");
        let server = program("postgres").display().to_string();
        let mut words = vec![server.as_str(), "-D", &data];
        for set in [listen.as_str(), &sockets, "fsync=off", "max_connections=300"] {
            words.extend(["-c", set]);
        }
        let child = as_postgres(&net.server, &words);
        let postgres = Self { child, folder };
        let began = Instant::now();
        while psql(net, "select 1").is_empty() {
            assert!(began.elapsed() < LIMIT, "no PostgreSQL");
            std::thread::sleep(Duration::from_millis(100));
        }
        postgres
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn client(net: &Net, program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", &server4(1).to_string(), "-U", "postgres"]).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    net.client.command(die_with_parent(&mut command));
    command
}

fn psql(net: &Net, query: &str) -> String {
    let output = client(net, "psql", &["-Atc", query]).output().expect("psql runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// So many sessions that ask something now and then.
fn pgbench(net: &Net, seconds: &str) -> Child {
    let bench = program("pgbench").display().to_string();
    let (count, words) = (CLIENTS.to_string(), ["-n", "-R", "100", "-j", "2", "-f", "/dev/stdin", "-T", seconds, "-c"]);
    let mut child = client(net, &bench, &[&words[..], &[&count, "postgres"]].concat()).spawn().expect("pgbench starts");
    child.stdin.take().expect("piped").write_all(b"select 1;\n").expect("pgbench reads");
    let began = Instant::now();
    let of_bench = "select count(*) from pg_stat_activity where application_name = 'pgbench'";
    while psql(net, of_bench) != count {
        assert!(began.elapsed() < LIMIT, "pgbench does not connect");
        std::thread::sleep(Duration::from_millis(100));
    }
    child
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn sessions_are_those_of_pg_stat_activity_and_end_in_peace() {
    let Some(net) = Net::new() else { return };
    let _postgres = Postgres::start(&net);
    let ebb = Ebb::on(&net);
    let doors = ebb.done(&["services", "--doors"]);
    let daemon = &doors.all("service").find(|one| one["name"] == "postgres").expect("it is found")["daemon"];
    assert_eq!((&daemon["sessions"]["can"], &daemon["end"]["can"]), (&true.into(), &true.into()), "{doors:#?}");
    let bench = pgbench(&net, "20");
    let listed = ebb.done(&["sessions", "postgres"]);
    let of_bench = |one: &&serde_json::Value| {
        one["user"] == "postgres"
            && one["seen_by"] == "both"
            && one["what"].as_str().is_some_and(|what| what.starts_with("postgres (pgbench): "))
    };
    assert_eq!(listed.all("session").filter(of_bench).count(), CLIENTS, "{listed:#?}");
    // They leave by themselves; nobody is harmed, and our own sessions to it are none.
    let drain = ebb.done(&["drain", "postgres", "--no-stop"]);
    let report = drain.one("drained");
    // On a slow machine some may have left before the gate was shut.
    assert_eq!(
        (&report["outcome"], &report["by_themselves"], &report["cut"]),
        (&"drained".into(), &report["at_start"], &0.into()),
        "{drain:#?}"
    );
    assert_ne!(report["at_start"], 0, "{drain:#?}");
    let text = said(bench);
    assert!(text.contains("number of failed transactions: 0"), "{text}");
}

#[test]
fn the_idle_are_told_goodbye_and_a_transaction_is_spared_until_the_end_of_its_grace() {
    let Some(net) = Net::new() else { return };
    let _postgres = Postgres::start(&net);
    let ebb = Ebb::on(&net);
    let bench = pgbench(&net, "60");
    let mut inside = client(&net, "psql", &["-At"]).spawn().expect("psql starts");
    let mut typed = inside.stdin.take().expect("piped");
    typed.write_all(b"begin; select 'in';\n").expect("psql reads");
    let mut answer = [0; 9];
    inside.stdout.as_mut().expect("piped").read_exact(&mut answer).expect("psql answers");
    assert_eq!(&answer, b"BEGIN\nin\n");
    let listed = ebb.done(&["sessions", "postgres"]);
    let whys: Vec<_> = listed.all("session").filter(|one| one["why"] == "in mid-work").collect();
    assert!(whys.iter().any(|one| one["what"].as_str().is_some_and(|what| what.contains("idle in transaction for"))));
    let mut drain =
        ebb.watch(&["drain", "postgres", "--no-stop", "--deadline", "1s", "--then", "end", "--grace", "5s"]);
    drain.until("only the transaction is left", LIMIT, |frame| frame["type"] == "progress" && frame["left"] == 1);
    typed.write_all(b"commit; select 'done';\n\\q\n").expect("psql reads");
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!((&report["outcome"], &report["cut"]), (&"drained".into(), &0.into()), "{answer:#?}");
    let text = said(inside);
    assert!(text.contains("done"), "its transaction was committed: {text}");
    let text = said(bench);
    assert!(text.contains("terminating connection due to administrator command"), "{text}");
}

/// Idle ones are told goodbye without a deadline, at their pace; one at work is waited for, and is told when it is idle.
#[test]
fn with_idle_now_only_those_at_work_are_waited_for() {
    let Some(net) = Net::new() else { return };
    let _postgres = Postgres::start(&net);
    let ebb = Ebb::on(&net);
    let start = |typed: &str, answered: &str| {
        let mut psql = client(&net, "psql", &["-At"]).spawn().expect("psql starts");
        psql.stdin.as_mut().expect("piped").write_all(typed.as_bytes()).expect("psql reads");
        let mut answer = vec![0; answered.len()];
        psql.stdout.as_mut().expect("piped").read_exact(&mut answer).expect("psql answers");
        psql
    };
    let idle: Vec<Child> = (0..20).map(|_| start("select 1;\n", "1\n")).collect();
    let mut inside = start("begin; select 'in';\n", "BEGIN\nin\n");
    let plan = ebb.done(&["drain", "postgres", "--dry-run", "--idle", "now", "--deadline", "1h", "--then", "end"]);
    let plan = plan.one("plan");
    let sessions = plan["sessions"].as_array().expect("a list");
    assert!(
        sessions.iter().all(|one| one["at_deadline"]["then"] == "goodbye" && one["user"] == "postgres"),
        "{plan:#}"
    );
    let of_user = ["end", "postgres", "--dry-run", "--user"];
    assert_eq!(ebb.done(&[&of_user[..], &["postgres"]].concat()).one("ended")["chosen"], 21);
    assert_eq!(ebb.done(&[&of_user[..], &["somebody"]].concat()).one("ended")["chosen"], 0);
    let mut drain = ebb.watch(&["drain", "postgres", "--no-stop", "--idle", "now", "--rate", "20/s"]);
    drain.until("the transaction is left", LIMIT, |frame| frame["type"] == "progress" && frame["left"] == 1);
    let listed = ebb.done(&["sessions", "postgres"]);
    assert_eq!(listed.one("listed")["advice"][0]["why"], "in mid-work", "{listed:#?}");
    let mut typed = inside.stdin.take().expect("piped");
    typed.write_all(b"commit; select 'done';\n").expect("psql reads");
    let answer = drain.wait(LIMIT);
    let report = answer.one("drained");
    assert_eq!(
        (&report["outcome"], &report["by_us"], &report["cut"]),
        (&"drained".into(), &21.into(), &0.into()),
        "{answer:#?}"
    );
    drop(typed);
    assert!(said(inside).contains("COMMIT\ndone"), "its work was kept");
    for mut psql in idle {
        psql.stdin.take().expect("piped").write_all(b"select 2;\n").expect("psql reads");
        assert!(said(psql).contains("terminating connection due to administrator command"));
    }
}

/// PgBouncer in front: its clients by name, inside a transaction or not; it has no goodbye for one, and says so.
#[test]
fn clients_of_a_pgbouncer_have_their_names() {
    let Some(net) = Net::new() else { return };
    let postgres = Postgres::start(&net);
    let folder = postgres.folder.display();
    let ini = postgres.folder.join("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host={folder} user=postgres\n[pgbouncer]\nlisten_addr = {}\nlisten_port = 6432\n\
         unix_socket_dir = {folder}\nauth_type = any\npool_mode = transaction\nlogfile =\n",
        server4(1)
    );
    std::fs::write(&ini, text).expect("pgbouncer.ini is written");
    let mut bouncer = as_postgres(&net.server, &["pgbouncer", &ini.display().to_string()]);
    let socket = postgres.folder.join(".s.PGSQL.6432");
    let began = Instant::now();
    while !socket.exists() {
        assert!(began.elapsed() < LIMIT, "no PgBouncer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut inside = client(&net, "psql", &["-At", "-p", "6432", "postgres"]).spawn().expect("psql starts");
    let mut idle = client(&net, "psql", &["-At", "-p", "6432", "postgres"]).spawn().expect("psql starts");
    for (child, typed, said) in [(&mut inside, "begin; select 1;\n", "BEGIN\n1\n"), (&mut idle, "select 2;\n", "2\n")] {
        child.stdin.as_mut().expect("piped").write_all(typed.as_bytes()).expect("psql reads");
        let mut answer = vec![0; said.len()];
        child.stdout.as_mut().expect("piped").read_exact(&mut answer).expect("psql answers");
        assert_eq!(String::from_utf8_lossy(&answer), said);
    }
    let ebb = Ebb::on(&net);
    let listed = ebb.done(&["sessions", "pgbouncer"]);
    let mut seen: Vec<String> =
        listed.all("session").map(|one| format!("{} {} {}", one["user"], one["what"], one["why"])).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            r#""postgres" "postgres (psql): has a server" "in mid-work""#,
            r#""postgres" "postgres (psql): idle" "active""#
        ],
        "{listed:#?}"
    );
    let doors = ebb.done(&["services", "--doors"]);
    let daemon = &doors.all("service").find(|one| one["name"] == "pgbouncer").expect("it is found")["daemon"];
    assert_eq!((&daemon["sessions"]["can"], &daemon["end"]["can"]), (&true.into(), &false.into()), "{daemon:#?}");
    for child in [&mut inside, &mut idle, &mut bouncer] {
        let _ = child.kill();
        let _ = child.wait();
    }
}
