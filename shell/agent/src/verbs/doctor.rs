//! `ebb doctor`: what is not as it should be, and the command that mends it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;

use ebb_decide::maintenance::{Next, is_coming_back, next};
use ebb_link::Reply;
use ebb_model::{ServiceName, Why, duration, resume_server};
use ebb_wire::v1::{Finding, Frame};

use super::services::Known;
use super::status::{command, watcher};
use crate::world::World;
use crate::{converge, lockout, look, protect};

pub(crate) async fn answer(world: &Arc<World>, reply: &Reply) -> Result<(), Why> {
    let known = Known::read(world)?;
    let mut found = Vec::new();
    disk(world, &mut found);
    gates(world, &known, &mut found).await?;
    holds(world, &known, &mut found);
    servers(world, &mut found);
    drains(world, &known, &mut found);
    if let Some(trouble) = world.config_trouble() {
        found.push(finding(None, trouble.what, trouble.mend));
    }
    for text in lockout::drift(world, &known) {
        found.push(finding(
            None,
            text,
            "the resident agent mends it; without one: `ebb drain` or `ebb resume` it again",
        ));
    }
    if let Some(text) = protect::orphaned(world) {
        let text = format!("an agent that is gone has left this behind: {text}");
        found.push(finding(None, text, "systemctl start ebb-agent; without one: ebb protect off --reason TEXT"));
    }
    if !world.resident && !known.holds.is_empty() {
        let text =
            "services are held and no agent is resident: a reboot or a flush of the firewall opens them".to_owned();
        found.push(finding(None, text, "systemctl enable --now ebb-gate ebb-agent"));
    }
    for one in found {
        reply.send(Frame::Finding(one)).await;
    }
    Ok(())
}

fn finding(service: Option<&ServiceName>, what: String, mend: impl Into<String>) -> Finding {
    Finding { service: service.map(ToString::to_string), what, mend: mend.into() }
}

/// Whether something can be written where the store is: a full disk is seen before the next hold is lost to it.
fn disk(world: &World, found: &mut Vec<Finding>) {
    let dir = &world.place.state_dir;
    if !dir.is_dir() || !world.store().is_writable() {
        return;
    }
    // As much as a hold takes, with its journal.
    let probe = dir.join("doctor.probe");
    let written =
        File::create(&probe).and_then(|mut file| file.write_all(&[0; 64 << 10]).and_then(|()| file.sync_all()));
    let _ = fs::remove_file(&probe);
    if let Err(error) = written {
        let text = format!("nothing can be written to {}: {error}", dir.display());
        found.push(finding(
            None,
            text,
            "make room there (`df` shows it): until then no hold can be placed or released",
        ));
    }
}

/// The gate is shut where somebody holds, and nowhere else.
async fn gates(world: &World, known: &Known, found: &mut Vec<Finding>) -> Result<(), Why> {
    let seen = converge::seen(world)?;
    if !seen.intact {
        let text = "the gate's table in the kernel was changed by somebody".to_owned();
        found.push(finding(
            None,
            text,
            "any `ebb drain`, `hold` or `release` writes it anew; the resident agent does at once",
        ));
    }
    let mut held = BTreeSet::new();
    for record in known.records.iter().filter(|record| known.holds_of(&record.service).next().is_some()) {
        held.extend(record.doors.iter().copied());
        let open: Vec<String> =
            record.doors.iter().filter(|door| !seen.shut.contains_key(door)).map(ToString::to_string).collect();
        if !open.is_empty() {
            let text = format!("it is held, but open at {}", open.join(", "));
            let hold = known.holds_of(&record.service).next();
            let mend = hold.map_or_else(String::new, |hold| {
                let what = if hold.whole_server { "--server" } else { record.service.as_str() };
                format!("ebb hold {what} --as {}", hold.requester)
            });
            found.push(finding(Some(&record.service), text, mend));
        }
    }
    let orphans: Vec<String> = seen.shut.keys().filter(|door| !held.contains(door)).map(ToString::to_string).collect();
    if !orphans.is_empty() {
        let services = look::services(world).await?;
        let of = services.iter().find(|service| service.doors.iter().any(|door| orphans.contains(&door.to_string())));
        let mend = of.map_or_else(|| "ebb resume SERVICE".to_owned(), |service| format!("ebb resume {}", service.name));
        let text = format!("new connections are refused at {}, and nobody holds it", orphans.join(", "));
        found.push(finding(of.map(|service| &service.name), text, mend));
    }
    Ok(())
}

/// Holds that nobody may remember.
fn holds(world: &World, known: &Known, found: &mut Vec<Finding>) {
    let now = world.now().wall;
    // One that is older than this, and was not said to be, may have been forgotten.
    let forgotten = world.config().settings.holds.forgotten_after;
    for hold in known.holds.iter().filter(|hold| !hold.whole_server) {
        let mend =
            format!("ask {}; or, in their name: ebb resume {} --as {}", hold.by.name, hold.service, hold.requester);
        let by = format!("`{}` (by {})", hold.requester, hold.by.name);
        match hold.until.as_ref().map(|end| end.wall) {
            Some(until) if until < now => {
                let text = format!("the hold of {by} was meant to end {} ago", duration(now.since(until)));
                found.push(finding(Some(&hold.service), text, mend));
            }
            None if now.since(hold.since) > forgotten => {
                let text = format!("the hold of {by} has stood for {}", duration(now.since(hold.since)));
                found.push(finding(Some(&hold.service), text, mend));
            }
            _ => {}
        }
    }
    for record in known.records.iter().filter(|record| known.holds_of(&record.service).next().is_none()) {
        let text = "something is remembered of it, and nobody holds it".to_owned();
        found.push(finding(Some(&record.service), text, format!("ebb resume {}", record.service)));
    }
}

/// Holds on the whole server that somebody may have forgotten, and maintenance that waits for somebody.
fn servers(world: &World, found: &mut Vec<Finding>) {
    let now = world.now().wall;
    let forgotten = world.config().settings.holds.forgotten_after;
    for server in world.store().server_holds().unwrap_or_default() {
        let by = format!("`{}` (by {})", server.requester, server.by.name);
        let stands = duration(now.since(server.since));
        let text = match server.until.as_ref().map(|end| end.wall) {
            Some(until) if until < now => {
                format!("the hold of {by} on the server was meant to end {} ago", duration(now.since(until)))
            }
            None if now.since(server.since) > forgotten => {
                format!("the hold of {by} on the server has stood for {stands}")
            }
            _ => continue,
        };
        let mend = format!("ask {}; or, in their name: {}", server.by.name, resume_server(server.requester.as_str()));
        found.push(finding(None, text, mend));
    }
    let run = crate::maintenance::current(world).ok().flatten();
    let Some(run) = run else { return };
    let (again, back) = (crate::maintenance::again(&run), resume_server(run.plan.requester.as_str()));
    match next(&run) {
        Next::Halted(step, why) => {
            let text = format!("maintenance {} waits for somebody: {step}: {why}", run.number);
            let mend = if is_coming_back(&run) { back } else { format!("mend it, then {again}, or {back}") };
            found.push(finding(None, text, mend));
        }
        Next::Do(_) | Next::End if !world.resident && !crate::maintenance::is_driven(world) => {
            let text = format!("maintenance {} was interrupted, and nobody goes on with it", run.number);
            found.push(finding(None, text, format!("{again}, or {back}")));
        }
        _ => {}
    }
}

/// Drains that nobody goes on with.
fn drains(world: &World, known: &Known, found: &mut Vec<Finding>) {
    let run = crate::maintenance::current(world).ok().flatten();
    for record in &known.records {
        let under_way = record.drain.as_ref().is_some_and(|drain| drain.spec.is_some() && drain.drained_at.is_none());
        if under_way && !world.resident && watcher(record).is_none() {
            let Some(requester) = record.drain.as_ref().map(|drain| &drain.requester) else { continue };
            if run.as_ref().is_some_and(|run| run.plan.requester == *requester) {
                // A part of a maintenance, of which it is said already.
                continue;
            }
            let text = "its drain was interrupted, and nobody goes on with it".to_owned();
            found.push(finding(
                Some(&record.service),
                text,
                command("drain", record.service.as_str(), requester.as_str()),
            ));
        }
    }
}
