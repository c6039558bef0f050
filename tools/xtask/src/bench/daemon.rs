//! What it costs to know who they are: `ebb sessions` of a PostgreSQL with many, beside PostgreSQL's own list.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebb_kernel::netns::{Ns, die_with_parent};

use super::cpu::Used;
use super::ebb::Ebb;
use super::figure::{Figure, Figures, Target, median};
use super::stage::Stage;
use crate::tool;

/// Logins.
const SESSIONS: usize = 2000;
/// Runs of each program, in turn.
const RUNS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(120);
/// What ebb shows of each, and a person would ask for.
const LIST: &str = "select pid, usename, datname, application_name, client_addr, client_port, backend_start, \
                    state, state_change, xact_start, wait_event from pg_stat_activity";

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let (Some(ebb), Some(programs)) = (Ebb::find()?, programs()) else {
        figures.note("daemon: it needs ebb, and PostgreSQL in /usr/lib/postgresql");
        return Ok(());
    };
    let stage = Stage::build()?;
    figures.part("daemon", &format!("{SESSIONS} sessions of a PostgreSQL, with their users"));
    let postgres = Postgres::start(&stage, programs)?;
    let _clients = postgres.clients(&stage)?;
    let arguments = ["sessions", "postgres", "--json"];
    let named = tool::output(&mut ebb.command(&stage.server, &arguments))?;
    let named = named.lines().filter(|line| line.contains("\"user\":\"postgres\"")).count();
    if named != SESSIONS {
        return Err(format!("have ebb name {SESSIONS} users: it names {named}"));
    }
    let (mut ours, mut peer) = (Used::default(), Used::default());
    for _ in 0..RUNS {
        ours.add(ebb.command(&stage.server, &arguments))?;
        peer.add(postgres.psql(&stage.server, LIST))?;
    }
    let [ours, peer] = [&ours, &peer].map(|used| median(&used.wall) * 1e3);
    let peer = Some(("psql, pg_stat_activity", peer));
    figures.add(&Figure { what: "ebb sessions --json, wall ms", ours, peer, target: Target::RatioAtMost(1.5) });
    Ok(())
}

/// Where PostgreSQL has its programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.flatten().map(|version| version.path().join("bin")).find(|bin| bin.join("pgbench").exists())
}

struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    at: IpAddr,
    child: Child,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Postgres {
    fn start(stage: &Stage, programs: PathBuf) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("ebb-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
        tool::output(Command::new("chown").arg("postgres:postgres").arg(&folder))?;
        let data = folder.join("data").display().to_string();
        let initdb = programs.join("initdb").display().to_string();
        let words = [&initdb, "-D", &data, "-U", "postgres", "--no-sync", "--auth-local", "peer"];
        let made = as_postgres(&stage.server, &words)?.wait().map_err(|error| error.to_string())?;
        if !made.success() {
            return Err(format!("make a database: {made}"));
        }
        let hba = "local all all peer\nhost all all 0.0.0.0/0 trust\n";
        fs::write(folder.join("data/pg_hba.conf"), hba).map_err(|error| format!("write pg_hba.conf: {error}"))?;
        let at = Stage::address(1);
        let sets = [
            format!("listen_addresses={at}"),
            format!("unix_socket_directories={}", folder.display()),
            format!("max_connections={}", SESSIONS + 50),
            "fsync=off".to_owned(),
        ];
        let server = programs.join("postgres").display().to_string();
        let mut words = vec![server.as_str(), "-D", &data];
        sets.iter().for_each(|set| words.extend(["-c", set]));
        let postgres = Self { child: as_postgres(&stage.server, &words)?, programs, folder, at };
        postgres.until(stage, "have PostgreSQL answer", "select 1", "1")?;
        Ok(postgres)
    }

    fn psql(&self, ns: &Ns, query: &str) -> Command {
        let mut psql = Command::new("psql");
        ns.command(psql.args(["-h", &self.at.to_string(), "-U", "postgres", "-Atc", query]));
        psql
    }

    fn until(&self, stage: &Stage, what: &str, query: &str, answer: &str) -> Result<(), String> {
        let began = Instant::now();
        while tool::output(&mut self.psql(&stage.server, query)).map(|said| said.trim() != answer).unwrap_or(true) {
            if began.elapsed() > PATIENCE {
                return Err(what.to_owned());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// They log in, and are idle.
    fn clients(&self, stage: &Stage) -> Result<Clients, String> {
        let script = self.folder.join("idle.sql");
        fs::write(&script, "\\sleep 600 s\n").map_err(|error| format!("write a script: {error}"))?;
        let mut command = Command::new(self.programs.join("pgbench"));
        command.args(["-n", "-j", "1", "-T", "600", "-c", &SESSIONS.to_string(), "-h", &self.at.to_string()]);
        command.args(["-U", "postgres", "-f"]).arg(&script).arg("postgres");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = stage.clients.command(die_with_parent(&mut command)).spawn();
        let clients = Clients(child.map_err(|error| format!("start pgbench: {error}"))?);
        let query = "select count(*) from pg_stat_activity where application_name = 'pgbench'";
        self.until(stage, "have all log in", query, &SESSIONS.to_string())?;
        Ok(clients)
    }
}

struct Clients(Child);

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn as_postgres(ns: &Ns, words: &[&str]) -> Result<Child, String> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--pdeathsig", "KILL"]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    ns.command(die_with_parent(&mut command)).spawn().map_err(|error| format!("start PostgreSQL: {error}"))
}
