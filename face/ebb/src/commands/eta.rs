//! `ebb eta`

use clap::Args;
use ebb_link::Client;
use ebb_model::Span;
use ebb_wire::v1::{EtaRequest, Request};
use jiff::{Timestamp, Zoned};

use super::ask::look;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::eta::Etas;
use crate::screen::Screen;
use crate::values::{duration, whole_seconds};

/// How it is typed.
pub const EXAMPLES: &str = "\
EXAMPLES
  ebb eta nginx
      when half, 90 % and 99 % of those who are connected now would be gone, and the last one
  ebb eta nginx --deadline 30m
      and how many would be left then
  ebb eta nginx --at 02:00
      how many are usually there at that hour, and what a drain would take then
  ebb eta nginx --json | jq 'select(.type == \"eta\").forecast.last_to_seconds'
      for a script

It stands on how long sessions of that service lived before: a resident agent learns that. docs/eta.md says how it is
computed, and how far it can be trusted.";

/// `ebb eta`
#[derive(Debug, Args)]
pub struct EtaArgs {
    /// Of which service
    service: String,
    /// Of a drain that begins then, the next time: 02:00, or 2026-11-28T02:00
    #[arg(long, value_name = "TIME", value_parser = at)]
    at: Option<Timestamp>,
    /// How many would be left after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Span>,
}

/// Asks and shows.
///
/// # Errors
/// [`Problem`]
pub async fn run(args: &EtaArgs, client: &Client, screen: &mut Screen) -> Result<Exit, Problem> {
    let request =
        EtaRequest { service: args.service.clone(), at: args.at, deadline_seconds: args.deadline.map(whole_seconds) };
    look(client, Request::Eta(request), &mut Etas, screen).await
}

fn at(text: &str) -> Result<Timestamp, String> {
    next(text, &Zoned::now())
}

/// The next time that a clock shows this, or a moment with its date.
fn next(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let wrong = || "write a time as in 02:00, or with its date as in 2026-11-28T02:00".to_owned();
    let zoned = |at: jiff::civil::DateTime| at.to_zoned(now.time_zone().clone()).map_err(|_| wrong());
    if let Ok(time) = jiff::civil::Time::strptime("%H:%M", text) {
        let today = zoned(now.date().to_datetime(time))?;
        if today.timestamp() > now.timestamp() {
            return Ok(today.timestamp());
        }
        let tomorrow = now.date().tomorrow().map_err(|_| wrong())?;
        return Ok(zoned(tomorrow.to_datetime(time))?.timestamp());
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    Ok(zoned(text.parse().map_err(|_| wrong())?)?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_means_its_next_time() {
        let now: Zoned = "2026-11-26T14:30:00+01:00[+01:00]".parse().unwrap();
        for (typed, meant) in [
            ("02:00", "2026-11-27T01:00:00Z"),
            ("14:30", "2026-11-27T13:30:00Z"),
            ("14:31", "2026-11-26T13:31:00Z"),
            ("2026-11-28T02:00", "2026-11-28T01:00:00Z"),
            ("2026-11-28T02:00:00Z", "2026-11-28T02:00:00Z"),
        ] {
            assert_eq!(next(typed, &now), Ok(meant.parse().unwrap()), "{typed}");
        }
        for typed in ["", "2", "25:00", "02:60", "night", "2026-13-01T00:00"] {
            assert!(next(typed, &now).is_err_and(|error| error.contains("02:00")), "{typed}");
        }
    }
}
