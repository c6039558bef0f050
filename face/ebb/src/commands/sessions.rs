//! `ebb sessions`: once, or again each second.

use std::time::Duration;

use ebb_wire::v1::{Frame, Request, SessionsRequest};

use super::{asked_to_leave, connect, view, write};
use crate::args::{Common, SessionsArgs};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::render::sessions::Sessions;
use crate::render::{Said, Text};

/// Without a limit, processes are looked up for lists that a person may read; each costs a look at
/// every descriptor of the service.
const LOOK_UP: usize = 2000;
/// JSON is written when so much has gathered.
const CHUNK: usize = 1 << 16;

/// Runs it.
///
/// # Errors
/// The face itself failed.
pub async fn run(args: &SessionsArgs, common: &Common) -> Result<Exit, Problem> {
    let mut stop = std::pin::pin!(asked_to_leave());
    loop {
        let exit = tokio::select! {
            exit = once(args, common) => exit?,
            () = &mut stop => return Ok(Exit::Done),
        };
        if !args.watch || exit != Exit::Done {
            return Ok(exit);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = &mut stop => return Ok(Exit::Done),
        }
    }
}

async fn once(args: &SessionsArgs, common: &Common) -> Result<Exit, Problem> {
    let (client, running) = connect(common)?;
    let few = args.limit.is_some_and(|limit| limit <= LOOK_UP);
    let request = SessionsRequest {
        service: args.service.clone(),
        sort: args.sort.into(),
        limit: args.limit,
        processes: !args.no_processes && (few || !common.json),
        names: args.names,
    };
    let mut frames = client.ask(Request::Sessions(request)).await?;
    drop(client);
    let mut said = Said { quiet: common.quiet, ..Said::default() };
    if args.watch && !common.json {
        said.result("\x1b[H\x1b[2J");
    }
    let mut text = Sessions::default();
    let mut exit = Exit::Done;
    let view = view();
    loop {
        let frame = frames.next().await.ok_or(Problem::CutShort)?;
        exit = exit.graver(Exit::of(&frame));
        if common.json {
            serde_json::to_writer(&mut said.out, &frame).map_err(|error| Problem::Output(error.into()))?;
            said.out.push(b'\n');
        } else {
            text.frame(&frame, &view, &mut said);
        }
        let done = frame == Frame::Done;
        if done && !common.json {
            text.end(&view, &mut said);
        }
        if done || said.out.len() >= CHUNK {
            write(&mut said)?;
        }
        if done {
            break;
        }
    }
    running.stop().await;
    Ok(exit)
}
