//! `cargo xtask bench`: our figures against those of the tools that people use, in the same run on the same machine.
//!
//! Everything happens in network namespaces of its own, on the release code. Ratios say more than absolute times: the
//! peer meets the same noise.

mod agent;
mod big;
mod cpu;
mod crew;
mod daemon;
mod dump;
mod ebb;
mod eta;
mod figure;
mod gate;
mod overhead;
mod pacing;
mod peer;
mod services;
mod sockets;
mod stage;
mod units;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use ebb_kernel::boot::{Capability, has_capability};

use crate::tool;
use figure::Figures;

pub use crew::play;

const PARTS: [&str; 10] = ["gate", "overhead", "dump", "services", "units", "agent", "pacing", "daemon", ETA, BIG];
/// Only computes: it needs neither root nor `ebb`.
const ETA: &str = "eta";
/// Takes minutes and many GiB: only when asked for.
const BIG: &str = "big";

/// What is asked for.
#[derive(Debug)]
struct Wish<'a> {
    parts: Vec<&'a str>,
    /// A missed target is a failure.
    strict: bool,
}

/// Runs the parts that are named; none named: all.
pub fn run(arguments: &[&str]) -> Result<ExitCode, String> {
    let wish = wish(arguments)?;
    let computes = wish.parts == [ETA];
    for capability in [Capability::NetAdmin, Capability::SysAdmin] {
        if !computes && !has_capability(capability).map_err(|error| error.to_string())? {
            return Err(format!("run the benchmark: it needs root ({} for its namespaces)", capability.name()));
        }
    }
    if cfg!(debug_assertions) {
        return again_in_release(arguments, !computes);
    }
    let mut figures = Figures::default();
    let mut broken = 0;
    for part in &wish.parts {
        let done = match *part {
            "gate" => gate::measure(&mut figures),
            "overhead" => overhead::measure(&mut figures),
            "dump" => dump::measure(&mut figures),
            "units" => units::measure(&mut figures),
            "agent" => agent::measure(&mut figures),
            "pacing" => pacing::measure(&mut figures),
            "daemon" => daemon::measure(&mut figures),
            ETA => eta::measure(&mut figures),
            BIG => big::measure(&mut figures),
            _ => services::measure(&mut figures),
        };
        if let Err(error) = done {
            println!("{part}: failed to {error}");
            broken += 1;
        }
    }
    println!("\n{} figures, {} MISS, {broken} parts could not run", figures.count(), figures.missed());
    let failed = broken > 0 || (wish.strict && figures.missed() > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn wish<'a>(arguments: &[&'a str]) -> Result<Wish<'a>, String> {
    let mut wish = Wish { parts: Vec::new(), strict: false };
    let mut big = false;
    for argument in arguments {
        match *argument {
            "--big" => big = true,
            "--strict" => wish.strict = true,
            part if PARTS.contains(&part) => wish.parts.push(part),
            other => return Err(format!("understand `{other}`: parts are {}", PARTS.join(", "))),
        }
    }
    if wish.parts.is_empty() {
        wish.parts.extend(PARTS.iter().filter(|part| **part != BIG));
    }
    if big && !wish.parts.contains(&BIG) {
        wish.parts.push(BIG);
    }
    Ok(wish)
}

/// Builds and runs ourselves as people would get it. The benchmark without `ebb` is better than none.
fn again_in_release(arguments: &[&str], ebb: bool) -> Result<ExitCode, String> {
    let root = tool::root()?;
    let build = |package: &str| {
        let mut cargo = Command::new(tool::cargo());
        cargo.args(["build", "--release", "--quiet", "--package", package]).current_dir(&root);
        cargo.status().is_ok_and(|status| status.success())
    };
    if !build("xtask") {
        return Err(String::from("build xtask for release"));
    }
    if ebb && !build("ebb") {
        println!("ebb does not build: what needs it is left out");
    }
    let release = release_folder()?;
    let status = Command::new(release.join("xtask")).arg("bench").args(arguments).status();
    let status = status.map_err(|error| format!("start the release build of xtask: {error}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where Cargo puts release builds, seen from where it has put us.
fn release_folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("find ourselves: {error}"))?;
    let target = own.ancestors().nth(2).ok_or("find Cargo's target folder")?;
    Ok(target.join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_can_be_chosen() {
        assert_eq!(
            wish(&[]).unwrap().parts,
            ["gate", "overhead", "dump", "services", "units", "agent", "pacing", "daemon", "eta"]
        );
        let some = wish(&["dump", "--big"]).unwrap();
        assert!(some.parts == ["dump", "big"] && !some.strict);
        assert!(wish(&["big", "--strict"]).unwrap().strict);
        assert!(wish(&["dumps"]).is_err());
    }
}
