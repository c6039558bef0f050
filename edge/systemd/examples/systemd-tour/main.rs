//! A tour of everything this crate does, on a real systemd. It makes units of its own
//! (`ebb-tour-*`, in `/run`), stops and freezes the bus, and checks what it sees.
//!
//! For a throwaway machine only: it needs root and is asked for with `--in-a-lab`. Exit code: 0
//! all as it should be, 1 something was not, 2 not run. No check measures time; numbers are printed.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod bus_trouble;
mod fixture;
mod jobs;
mod reading;

use std::{process::ExitCode, time::Duration};

use ebb_systemd::{Systemd, UnitName};

type Outcome = Result<(), String>;

/// Longer than anything here takes; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(60);

fn unit(name: &str) -> Result<UnitName, String> {
    UnitName::new(name).map_err(text)
}

/// One line per check; the first that fails ends its chapter.
fn check(what: &str, holds: bool, seen: &dyn std::fmt::Debug) -> Outcome {
    if holds {
        println!("  ok    {what}");
        return Ok(());
    }
    Err(format!("{what}: seen {seen:?}"))
}

/// An error with its causes.
fn text(error: impl std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--in-a-lab") => {}
        Some("--as-nobody") => return code(reading::as_nobody().await),
        _ => {
            println!("this stops services and the bus: in a lab only, with --in-a-lab");
            return ExitCode::from(2);
        }
    }
    if !ebb_systemd::is_running() {
        println!("systemd is not running here");
        return ExitCode::from(2);
    }
    let ended = tokio::time::timeout(PATIENCE * 5, tour()).await;
    let cleaned = fixture::remove().await;
    code(ended.unwrap_or_else(|_| Err("the tour hangs".to_owned())).and(cleaned))
}

fn code(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => {
            println!("ALL OK");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("  FAILED {why}");
            ExitCode::FAILURE
        }
    }
}

async fn tour() -> Outcome {
    let systemd = Systemd::new();
    fixture::make(&systemd).await?;
    println!("reading");
    reading::lists(&systemd).await?;
    reading::details(&systemd).await?;
    reading::company(&systemd).await?;
    reading::socket_activation(&systemd).await?;
    reading::refusals(&systemd).await?;
    reading::nobody_is_refused()?;
    println!("jobs");
    jobs::stop_and_start(&systemd).await?;
    jobs::bad_ends(&systemd).await?;
    jobs::interrupted(&systemd).await?;
    jobs::many_at_once(&systemd).await?;
    jobs::changes(&systemd).await?;
    println!("journal");
    reading::journal().await?;
    println!("bus trouble");
    bus_trouble::restart_while_waiting(&systemd).await?;
    bus_trouble::changes_survive(&systemd).await?;
    bus_trouble::frozen(&systemd).await?;
    bus_trouble::stopped(&systemd).await
}
