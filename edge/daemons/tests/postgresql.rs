//! A real PostgreSQL with its own clients, and a real PgBouncer before it: what an adapter says of them is what they say
//! themselves, and what a client reads when it is sent away is what the protocol has for it.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::io::{Read, Write};
use std::process::{Child, Command};

use common::{Folder, ask, eventually, must_run, program, start_as};
use ebb_daemons::{Adapter, Seen, recognise};
use ebb_model::{Ability, Busy, DaemonKind, DaemonSettings, Ended, Role, Use};

const AT: &str = "127.77.1.1";
const PORT: &str = "54321";
const BOUNCER: &str = "54322";
const CLIENTS: usize = 220;
const USERS: [&str; 5] = ["postgres", "ana", "bob", "eve", "watch"];

struct Postgres {
    server: Child,
    bouncer: Child,
    folder: Folder,
}

impl Postgres {
    fn start() -> Option<Self> {
        let (initdb, postgres) = (must_run(program("initdb"))?, must_run(program("postgres"))?);
        let pgbouncer = must_run(program("pgbouncer"))?;
        let folder = Folder::owned_by("ebb-pg", "postgres");
        let (at, data) = (folder.path(), format!("{}/data", folder.path()));
        let words = ["-D", &data, "-U", "postgres", "--no-sync", "--auth-local=peer", "--auth-host=trust"];
        assert!(start_as("postgres", &initdb, &words).wait().unwrap().success());
        let sockets = format!("unix_socket_directories={at}");
        let listen = format!("listen_addresses={AT}");
        let words = ["-D", &data, "-p", PORT, "-c", &sockets, "-c", &listen, "-c", "max_connections=300"];
        let server = start_as("postgres", &postgres, &[&words[..], &["-c", "fsync=off"]].concat());
        let ini = format!(
            "[databases]\n* = host={AT} port={PORT}\nkept = host={AT} port={PORT} dbname=postgres pool_mode=session\n\
             [pgbouncer]\nlisten_addr = {AT}\nlisten_port = {BOUNCER}\nunix_socket_dir = {at}\nauth_type = trust\n\
             auth_file = {at}/users\nstats_users = watch\npool_mode = transaction\nlogfile =\n"
        );
        std::fs::write(format!("{at}/users"), USERS.map(|user| format!("\"{user}\" \"\"\n")).concat()).unwrap();
        std::fs::write(format!("{at}/pgbouncer.ini"), ini).unwrap();
        let bouncer = start_as("postgres", &pgbouncer, &[&format!("{at}/pgbouncer.ini")]);
        let found = Self { server, bouncer, folder };
        eventually("PostgreSQL answers", || found.select("select 1") == "1");
        eventually("PgBouncer answers", || said(psql(BOUNCER, "postgres", &["-c", "select 1"])) == "1");
        Some(found)
    }

    fn select(&self, query: &str) -> String {
        said(psql(PORT, "postgres", &["-c", query]))
    }

    fn adapter(&self, port: &str, settings: &DaemonSettings) -> Box<dyn Adapter> {
        let kind = if port == PORT { DaemonKind::Postgresql } else { DaemonKind::Pgbouncer };
        let executables = [kind.as_str().replace("postgresql", "postgres")].into();
        let unix = vec!["/run/other".to_owned(), format!("{}/.s.PGSQL.{port}", self.folder.path())];
        recognise(&Seen { executables, unix, ..Seen::default() }, settings).expect("it is recognised")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        for child in [&mut self.bouncer, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn psql(port: &str, user: &str, words: &[&str]) -> Child {
    let mut command = Command::new("psql");
    command.args(["-XAtq", "-h", AT, "-p", port, "-U", user, "-d", "postgres"]).args(words);
    common::piped(&mut command)
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    (String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr)).trim().to_owned()
}

/// Types a line, and reads the answer that it must have.
fn typed(child: &mut Child, line: &str, answer: &str) {
    child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    let mut read = vec![0; answer.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8_lossy(&read), answer);
}

/// The session of a psql, by the pid that it has on the server.
fn session(child: &mut Child, begins: &str) -> u32 {
    child.stdin.as_mut().unwrap().write_all(format!("{begins}select pg_backend_pid();\n").as_bytes()).unwrap();
    let (mut read, mut byte) = (String::new(), [0]);
    while !read.ends_with('\n') {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        read.push(byte[0].into());
    }
    read.trim().parse().unwrap()
}

fn of(uses: &[Use], pid: u32) -> &Use {
    uses.iter().find(|one| one.pid == Some(pid)).unwrap_or_else(|| panic!("no {pid} in {uses:#?}"))
}

#[test]
fn sessions_are_those_that_it_has_and_end_as_it_ends_them() {
    let Some(postgres) = Postgres::start() else { return };
    lists_all(&postgres);
    ends_the_idle_and_spares_a_transaction(&postgres);
    a_replica_is_no_user(&postgres);
    a_role_without_rights_is_told_which(&postgres);
    bouncer(&postgres);
    a_stopped_server_is_late_and_not_empty(&postgres);
}

fn lists_all(postgres: &Postgres) {
    let bench = must_run(program("pgbench")).expect("it comes with the server");
    let count = CLIENTS.to_string();
    let words = ["-n", "-R", "50", "-T", "60", "-f", "/dev/stdin", "-h", AT, "-p", PORT, "-U", "postgres"];
    let mut command = Command::new(bench);
    command.args(words).args(["-c", &count, "postgres"]);
    let mut bench = common::piped(&mut command);
    bench.stdin.take().unwrap().write_all(b"select 1;\n").unwrap();
    let of_bench = "select count(*) from pg_stat_activity where application_name = 'pgbench'";
    eventually("all of pgbench are there", || postgres.select(of_bench) == count);
    let adapter = postgres.adapter(PORT, &DaemonSettings::default());
    let uses = ask(adapter.uses(1000)).unwrap();
    let mine: Vec<&Use> =
        uses.uses.iter().filter(|one| one.what.as_deref().is_some_and(|what| what.contains("(pgbench)"))).collect();
    assert_eq!((mine.len(), uses.more), (CLIENTS, 0));
    assert!(mine.iter().all(|one| one.role == Role::User && one.by_connection && one.age.is_some()), "{mine:#?}");
    // Join keys and all, against what the server tells its own client.
    let query = "select client_port || ' ' || pid from pg_stat_activity where application_name = 'pgbench'";
    let told: std::collections::BTreeSet<String> = postgres.select(query).lines().map(str::to_owned).collect();
    let port = |one: &Use| one.peer.map(|at| at.port());
    let found = mine.iter().map(|one| format!("{} {}", port(one).unwrap_or(0), one.pid.unwrap_or(0))).collect();
    assert_eq!(told, found);
    // Of few that are wished the others are counted.
    let few = ask(adapter.uses(7)).unwrap();
    assert_eq!((few.uses.len(), few.more >= CLIENTS as u64 - 7), (7, true));
    bench.kill().unwrap();
    bench.wait().unwrap();
    eventually("all of pgbench are gone", || postgres.select(of_bench) == "0");
}

fn ends_the_idle_and_spares_a_transaction(postgres: &Postgres) {
    let adapter = postgres.adapter(PORT, &DaemonSettings::default());
    let mut idle = psql(PORT, "postgres", &[]);
    let mut inside = psql(PORT, "postgres", &[]);
    let pids = [session(&mut idle, ""), session(&mut inside, "begin; ")];
    let uses = ask(adapter.uses(1000)).unwrap().uses;
    let keys = pids.map(|pid| of(&uses, pid).key.clone());
    assert_eq!(pids.map(|pid| of(&uses, pid).busy), [Busy::Idle, Busy::Inside]);
    let text = of(&uses, pids[1]).what.clone().unwrap();
    assert!(text.starts_with("postgres (psql): idle in transaction for ") && !text.contains("select"), "{text}");
    let asked = DaemonSettings { queries: true, ..DaemonSettings::default() };
    let uses = ask(postgres.adapter(PORT, &asked).uses(1000)).unwrap().uses;
    assert!(of(&uses, pids[1]).what.as_ref().unwrap().ends_with(": select pg_backend_pid();"));
    let ended = ask(adapter.end(&keys, "", false)).unwrap();
    assert_eq!(ended, [Ended::Asked, Ended::Spared("idle in transaction".into())]);
    eventually("the idle one is gone", || {
        let uses = ask(adapter.uses(1000)).unwrap().uses;
        uses.iter().all(|one| one.pid != Some(pids[0]))
    });
    let farewell = "FATAL:  terminating connection due to administrator command";
    idle.stdin.take().unwrap().write_all(b"select 'again';\n").unwrap();
    let text = said(idle);
    assert!(text.contains(farewell) || text.contains("server closed the connection"), "{text}");
    typed(&mut inside, "select 'alive';\n", "alive\n");
    // Named by when it began, too: a pid alone is not enough. And whoever is gone is gone.
    let other = format!("{}@1", pids[1]);
    let ended = ask(adapter.end(&[keys[0].clone(), other, "1) or (1=1".into()], "", true)).unwrap();
    assert_eq!(ended, [Ended::Gone, Ended::Gone, Ended::Gone]);
    typed(&mut inside, "select 'alive';\n", "alive\n");
    assert_eq!(ask(adapter.end(&keys[1..], "", true)).unwrap(), [Ended::Asked]);
    inside.stdin.take().unwrap().write_all(b"select 'never';\n").unwrap();
    let text = said(inside);
    assert!(text.contains(farewell) && !text.contains("never"), "57P01 inside a transaction: {text}");
}

fn a_replica_is_no_user(postgres: &Postgres) {
    let receiver = must_run(program("pg_receivewal")).expect("it comes with the server");
    let folder = Folder::owned_by("ebb-pg-wal", "postgres");
    let words = ["-h", AT, "-p", PORT, "-U", "postgres", "-D", folder.path(), "--no-sync"];
    let mut receiver = start_as("postgres", &receiver, &words);
    let mut local = Command::new("setpriv");
    local.args([
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
        "psql",
        "-XAtq",
        "-d",
        "postgres",
        "-p",
        PORT,
    ]);
    let mut local = common::piped(local.args(["-h", postgres.folder.path()]));
    let pid = session(&mut local, "");
    let adapter = postgres.adapter(PORT, &DaemonSettings::default());
    let mut roles = Vec::new();
    eventually("the replica is there", || {
        let uses = ask(adapter.uses(1000)).unwrap().uses;
        let on_socket = of(&uses, pid);
        assert_eq!((on_socket.role, on_socket.by_connection, on_socket.peer), (Role::Local, false, None));
        roles = uses.iter().map(|one| one.role).collect();
        roles.contains(&Role::Replication)
    });
    assert_eq!(roles.iter().filter(|role| **role == Role::Own).count(), 1, "{roles:?}");
    assert_eq!(roles.iter().filter(|role| **role == Role::Local).count(), 1, "{roles:?}");
    for child in [&mut receiver, &mut local] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn a_role_without_rights_is_told_which(postgres: &Postgres) {
    assert_eq!(postgres.select("create role watcher login in role pg_read_all_stats"), "");
    let settings = DaemonSettings {
        address: Some(format!("{AT}:{PORT}")),
        user: Some("watcher".into()),
        ..DaemonSettings::default()
    };
    let adapter = postgres.adapter(PORT, &settings);
    let abilities = ask(adapter.abilities()).unwrap();
    assert!(abilities.version.as_deref().is_some_and(|version| version.starts_with("15")), "{abilities:?}");
    let Ability::Missing { what, help } = abilities.end else { panic!("{abilities:?}") };
    assert!(what.contains("pg_signal_backend") && help.contains("grant pg_signal_backend"), "{what}: {help}");
    assert!(abilities.list.is_ready() && !abilities.refuse.is_ready());
    // With that, superusers are still not its to end.
    assert_eq!(postgres.select("grant pg_signal_backend to watcher"), "");
    assert!(ask(adapter.abilities()).unwrap().end.is_ready());
    let mut root = psql(PORT, "postgres", &[]);
    let pid = session(&mut root, "");
    let key = of(&ask(adapter.uses(1000)).unwrap().uses, pid).key.clone();
    let ended = ask(adapter.end(&[key, "1@1".into()], "", false)).unwrap();
    let [Ended::Failed(why), Ended::Gone] = ended.as_slice() else { panic!("{ended:?}") };
    assert!(why.contains("superuser"), "{why}");
    typed(&mut root, "select 'alive';\n", "alive\n");
    root.kill().unwrap();
    root.wait().unwrap();
    let ready = ask(postgres.adapter(PORT, &DaemonSettings::default()).abilities()).unwrap();
    assert!(ready.list.is_ready() && ready.end.is_ready(), "{ready:?}");
}

fn bouncer(postgres: &Postgres) {
    for user in &USERS[1..4] {
        postgres.select(&format!("create role {user} login"));
    }
    let mut idle = psql(BOUNCER, "ana", &[]);
    let mut inside = psql(BOUNCER, "bob", &[]);
    let mut kept = psql(BOUNCER, "eve", &["-d", "kept"]);
    let mut console = psql(BOUNCER, "watch", &["-d", "pgbouncer"]);
    typed(&mut kept, "select 3;\n", "3\n");
    typed(&mut idle, "select 1;\n", "1\n");
    typed(&mut inside, "begin; select 2;\n", "2\n");
    console.stdin.as_mut().unwrap().write_all(b"show version;\n").unwrap();
    let adapter = postgres.adapter(BOUNCER, &DaemonSettings::default());
    let told =
        |one: &Use| (one.user.clone().unwrap_or_default(), one.what.clone().unwrap_or_default(), one.busy, one.role);
    let mut uses = Vec::new();
    eventually("all four are there", || {
        uses = ask(adapter.uses(1000)).unwrap().uses;
        uses.iter().filter(|one| one.role != Role::Own).count() == 4
    });
    let mut seen: Vec<_> = uses.iter().filter(|one| one.role != Role::Own).map(told).collect();
    seen.sort();
    let line = |user: &str, what: &str, busy, role| (user.to_owned(), what.to_owned(), busy, role);
    assert_eq!(
        seen,
        [
            line("ana", "postgres (psql): idle", Busy::Idle, Role::User),
            line("bob", "postgres (psql): has a server", Busy::Inside, Role::User),
            line("eve", "kept (psql): keeps its server", Busy::Unknown, Role::User),
            line("watch", "console (psql): idle", Busy::Idle, Role::Monitoring),
        ]
    );
    assert!(uses.iter().filter(|one| one.role != Role::Own).all(|one| one.peer.is_some() && one.age.is_some()));
    let abilities = ask(adapter.abilities()).unwrap();
    assert!(matches!(abilities.end, Ability::Never(_)) && abilities.list.is_ready(), "{abilities:?}");
    assert!(ask(adapter.end(&[uses[0].key.clone()], "", true)).is_err(), "it says so, too");
    typed(&mut inside, "select 'alive';\n", "alive\n");
    for child in [&mut idle, &mut inside, &mut kept, &mut console] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The last: a server that is stopped takes no part any more.
fn a_stopped_server_is_late_and_not_empty(postgres: &Postgres) {
    let adapter = postgres.adapter(PORT, &DaemonSettings::default());
    let pid = postgres.server.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(signal("-STOP").success());
    let limit = std::time::Duration::from_millis(500);
    let late = common::block_on(ebb_daemons::within(limit, DaemonKind::Postgresql, adapter.uses(9)));
    assert!(matches!(late, Err(ebb_daemons::Error::Late { .. })), "{late:?}");
    assert!(signal("-CONT").success());
    assert!(ask(adapter.uses(9)).is_ok());
}
