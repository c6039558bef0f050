//! `ebb end`: says how many, asks, ends.

use std::io::{BufRead, IsTerminal, Write};

use ebb_wire::v1::{Choose, EndReport, EndRequest, Frame, Request};

use super::{connect, view, write};
use crate::args::{Common, EndArgs};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::end::End;
use crate::render::words::many;
use crate::render::{Said, Text};
use crate::values::whole_seconds;

/// Runs it.
///
/// # Errors
/// The face itself failed, or there is nobody to ask.
pub async fn run(args: &EndArgs, common: &Common) -> Result<Exit, Problem> {
    if args.yes || args.dry_run {
        return ask(request(args, args.dry_run), common, false).await.map(|(exit, _)| exit);
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Problem::NobodyToAsk);
    }
    let (exit, report) = ask(request(args, true), common, true).await?;
    let Some(report) = report.filter(|report| report.chosen > 0) else { return Ok(exit) };
    if !confirmed(&report)? {
        let mut said = Said::default();
        said.talk("nothing was ended");
        write(&mut said)?;
        return Ok(Exit::Done);
    }
    ask(request(args, false), common, false).await.map(|(exit, _)| exit)
}

fn request(args: &EndArgs, dry_run: bool) -> EndRequest {
    let choose = if args.all {
        Choose::All
    } else if let Some(range) = &args.peer {
        Choose::Peer(range.clone())
    } else if let Some(span) = args.idle_over {
        Choose::IdleOver(whole_seconds(span))
    } else {
        Choose::Ids(args.session.clone())
    };
    EndRequest {
        service: args.service.clone(),
        choose,
        cut: args.cut,
        rate_per_second: args.rate,
        over_seconds: args.over.map(whole_seconds),
        grace_ms: args.grace.0,
        dry_run,
    }
}

fn confirmed(report: &EndReport) -> Result<bool, Problem> {
    let mut err = anstream::stderr();
    let question =
        format!("End {} of {}? [y/N] ", many(report.chosen, "session"), ebb_model::printable(&report.service));
    err.write_all(question.as_bytes()).and_then(|()| err.flush()).map_err(Problem::Output)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Problem::Answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks; with `only_count` nothing is said unless nothing was chosen.
async fn ask(request: EndRequest, common: &Common, only_count: bool) -> Result<(Exit, Option<EndReport>), Problem> {
    let (client, running) = connect(common)?;
    let mut frames = client.ask(Request::End(request)).await?;
    drop(client);
    let mut said = Said { quiet: common.quiet, ..Said::default() };
    let mut text = End { only_count, ..End::default() };
    let (mut exit, mut report) = (Exit::Done, None);
    loop {
        let frame = frames.next().await.ok_or(Problem::CutShort)?;
        exit = exit.graver(Exit::of(&frame));
        let counted = matches!(&frame, Frame::Ended(report) if only_count && report.chosen > 0);
        if common.json && !counted {
            let line = serde_json::to_string(&frame).map_err(|error| Problem::Output(error.into()))?;
            said.result(&format!("{line}\n"));
        } else if !counted {
            text.frame(&frame, &view(), &mut said);
        }
        write(&mut said)?;
        match frame {
            Frame::Ended(ended) => report = Some(ended),
            Frame::Done => break,
            _ => {}
        }
    }
    running.stop().await;
    Ok((exit, report))
}
