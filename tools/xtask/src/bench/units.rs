//! `ebb services` on a server under a real systemd with two hundred units.

use std::time::Duration;

use ebb_lab::{Host, Lab, Server};

use super::ebb::Ebb;
use super::figure::{Figure, Figures, Target, median, quantile};

const UNITS: usize = 200;
/// Runs of each command, in turn.
const RUNS: usize = 21;
/// What the units' start may take on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Each unit is one process with one listening socket. The number is the port.
const UNIT: &str = "[Unit]
Description=one of many services
[Service]
ExecStart=/usr/bin/python3 -S -c \"import socket,signal; s=socket.create_server(('',%i)); signal.pause()\"
";

/// Prints the wall time of each command in microseconds, in turn.
const TIMES: &str = r#"
runs=$1; shift
for _ in $(seq "$runs"); do
  for command; do
    began=${EPOCHREALTIME/./}
    $command >/dev/null || exit 1
    printf '%s ' $((${EPOCHREALTIME/./} - began))
  done
  echo
done"#;

/// What is timed: ours first.
const COMMANDS: [&str; 3] =
    ["ebb services", "systemctl list-units --type=service --no-pager --no-legend", "ss -Htulnp"];

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let Some(ebb) = Ebb::find()? else {
        figures.note("units: ebb has not been built");
        return Ok(());
    };
    let text = |error: ebb_lab::LabError| error.to_string();
    let lab = Lab::new("bench").map_err(text)?;
    let server = lab.server("many").map_err(text)?;
    server.put("/usr/bin/ebb", ebb.bytes()?, 0o755).map_err(text)?;
    start(&server).map_err(text)?;
    let seen = server.check(&["ebb", "services", "--json"]).map_err(text)?;
    let listed = seen.lines().filter(|line| line.contains(r#""name":"many@"#)).count();
    if listed != UNITS {
        return Err(format!("have ebb list {UNITS} units: it lists {listed}"));
    }
    figures.part("units", &format!("{UNITS} units with a listening socket each, under systemd in a namespace"));
    let runs = RUNS.to_string();
    let script = [&["bash", "-c", TIMES, "times", &runs], &COMMANDS[..]].concat();
    let said = server.exec_within(START, &script, b"").map_err(text)?;
    let rows: Vec<Vec<f64>> =
        said.stdout.lines().map(|line| line.split_whitespace().flat_map(str::parse).collect()).collect();
    if !said.ok() || rows.len() != RUNS || rows.iter().any(|row| row.len() != COMMANDS.len()) {
        return Err(format!("time the commands: {}{}", said.stdout, said.stderr));
    }
    let times = |index: usize| rows.iter().map(|row| row[index] / 1e3).collect::<Vec<f64>>();
    let ours = times(0);
    let peer = Some(("systemctl list-units", median(&times(1))));
    let target = Target::AtMost(100.0);
    figures.add(&Figure { what: "ebb services, 200 units, wall ms", ours: median(&ours), peer, target });
    figures.own("ebb services, 200 units, worst wall ms", quantile(&ours, 1.0), Target::None);
    figures.own("for comparison: ss -Htulnp, wall ms", median(&times(2)), Target::None);
    Ok(())
}

fn start(server: &Server) -> ebb_lab::Result<()> {
    server.put("/etc/systemd/system/many@.service", UNIT, 0o644)?;
    server.check(&["systemctl", "daemon-reload"])?;
    let start = "systemctl start $(seq -f 'many@%g' 9001 9200)";
    let started = server.exec_within(START, &["bash", "-c", start], b"")?;
    let count = "until [ $(ss -Hltn 'sport >= :9001 and sport <= :9200' | wc -l) -ge 200 ]; do sleep 0.1; done";
    server.exec_within(START, &["bash", "-c", count], b"")?;
    if started.ok() {
        return Ok(());
    }
    Err(ebb_lab::LabError::Command { command: start.to_owned(), code: started.code, text: started.stderr })
}
