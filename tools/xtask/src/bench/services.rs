//! A server with many services, and how fast a command is there.

use std::path::Path;
use std::process::Command;

use super::cpu::Used;
use super::ebb::Ebb;
use super::figure::{Figure, Figures, Target, median, quantile};
use super::peer::ss;
use super::stage::{Player, Stage};

const SERVICES: u16 = 200;
const FIRST_PORT: u16 = 9000;
/// Runs of each command.
const RUNS: usize = 21;

/// Measures.
pub fn measure(figures: &mut Figures) -> Result<(), String> {
    let Some(ebb) = Ebb::find()? else {
        figures.note("services: ebb has not been built");
        return Ok(());
    };
    let stage = Stage::build()?;
    let servers = (0..SERVICES).map(|number| start(&stage, &ebb.folder, number)).collect::<Result<Vec<_>, _>>()?;
    figures
        .part("services", &format!("{SERVICES} services by hand (no systemd), each a process with a listening socket"));
    let listed = ebb.lines(&stage.server, &["services", "--json"], "service")?;
    if listed != servers.len() {
        return Err(format!("have ebb list {SERVICES} services: it lists {listed}"));
    }
    let (mut ours, mut peer) = (Used::default(), Used::default());
    for _ in 0..RUNS {
        ours.add(ebb.command(&stage.server, &["services"]))?;
        peer.add(ss(&stage.server, &["-Htulnp"]))?;
    }
    let peer = Some(("ss -Htulnp", median(&peer.wall) * 1e3));
    let target = Target::AtMost(100.0);
    figures.add(&Figure { what: "ebb services, wall ms", ours: median(&ours.wall) * 1e3, peer, target });
    figures.own("ebb services, worst wall ms", quantile(&ours.wall, 1.0) * 1e3, Target::None);
    drop(servers);
    cold(figures, &stage, &ebb, &["--version"])?;
    cold(figures, &stage, &ebb, &["holds"])
}

/// Each by a name of its own, or they would be one service.
fn start(stage: &Stage, folder: &Path, number: u16) -> Result<Player, String> {
    let own = std::env::current_exe().map_err(|error| format!("find ourselves: {error}"))?;
    let program = folder.join(format!("service-{number:03}"));
    std::fs::hard_link(&own, &program).map_err(|error| format!("link {}: {error}", program.display()))?;
    let listener = stage.listen(FIRST_PORT + number)?;
    let mut server = Player::server_by(Command::new(program), &stage.server, &["listen"], &listener)?;
    server.hear()?;
    Ok(server)
}

fn cold(figures: &mut Figures, stage: &Stage, ebb: &Ebb, arguments: &[&str]) -> Result<(), String> {
    let (mut ours, mut peer) = (Used::default(), Used::default());
    for _ in 0..RUNS {
        ours.add(ebb.command(&stage.server, arguments))?;
        peer.add(ss(&stage.server, &["-V"]))?;
    }
    let what = format!("ebb {}, wall ms", arguments.join(" "));
    let peer = Some(("ss -V", median(&peer.wall) * 1e3));
    let ours = median(&ours.wall) * 1e3;
    figures.add(&Figure { what: &what, ours, peer, target: Target::AtMost(30.0) });
    Ok(())
}
