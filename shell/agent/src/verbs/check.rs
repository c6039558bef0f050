//! `ebb check`: the guards, asked side by side, and compared with a list that was kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebb_checks::Here;
use ebb_decide::guards;
use ebb_link::Reply;
use ebb_model::{Change, Check, Checks, Fact, Guard, GuardSettings, ServiceName, Settings, Trend, Verdict, Why};
use ebb_wire::v1::{self, CheckRequest, Frame};
use futures_util::future::join_all;

use crate::world::{World, unread};
use crate::{facts, say};

/// Under which label `ebb check --save` keeps its list.
const SAVED: &str = "before";
/// One list at a time: a second asker waits, and nobody can make a server run a hundred backups' tools at once.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What to ask.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    /// Which guards; all if empty.
    pub(crate) guards: &'a [String],
    /// Services that are going to be drained; all if none.
    pub(crate) services: Option<&'a BTreeSet<ServiceName>>,
    /// The process of who asks: its own login is not somebody else's.
    pub(crate) asker: Option<u32>,
}

pub(crate) async fn answer(world: &Arc<World>, request: &CheckRequest, reply: &Reply) -> Result<(), Why> {
    let before = if request.against { saved(world)? } else { None };
    if request.against && before.is_none() {
        let why = "no list was kept to compare with";
        let help = Some("`ebb check --save` keeps one".to_owned());
        let refusal = v1::Refusal { service: None, kind: v1::RefusalKind::Failed, why: why.to_owned(), help };
        reply.send(Frame::Refused(refusal)).await;
        return Ok(());
    }
    let asked = Asked { guards: &request.guards, services: None, asker: request.asker_pid };
    let checks = match run(world, asked).await {
        Ok(checks) => checks,
        Err(why) => {
            reply.send(say::usage(why)).await;
            return Ok(());
        }
    };
    match before {
        None => {
            for guard in &checks.guards {
                reply.send(Frame::Guard(told(guard))).await;
            }
        }
        Some(mut before) => {
            // Who asks for some compares those.
            before.guards.retain(|guard| request.guards.is_empty() || request.guards.contains(&guard.name));
            for change in guards::diff(&before, &checks) {
                reply.send(Frame::Guard(changed(&change))).await;
            }
        }
    }
    if request.save {
        world.store().keep_checks(SAVED, &checks).map_err(|error| unread(&error))?;
        let text = "the list is kept: `ebb check --diff` compares with it";
        reply.send(say::note(None, false, text)).await;
    }
    Ok(())
}

fn saved(world: &World) -> Result<Option<Checks>, Why> {
    world.store().checks(SAVED).map_err(|error| unread(&error))
}

/// Asks these guards, all at once, each within its own time. An error: one is meant that is none.
pub(crate) async fn run(world: &Arc<World>, asked: Asked<'_>) -> Result<Checks, String> {
    let config = world.config();
    let settings = &config.settings;
    let chosen = chosen(settings, asked.guards)?;
    let _one = ONE.lock().await;
    let here = facts::here(world, asked.asker);
    let all = chosen.iter().map(|(name, guard)| {
        let here = &here;
        async move {
            let seen = seen(world, guard, asked.services, here).await;
            // By the clock of now: others may have taken their time.
            guards::judge(name, guard, &seen, world.now().wall)
        }
    });
    let guards = join_all(all).await;
    Ok(Checks { at: world.now().wall, guards })
}

fn chosen<'a>(settings: &'a Settings, names: &[String]) -> Result<Vec<(&'a str, &'a GuardSettings)>, String> {
    let on = || settings.guards.iter().filter(|(_, guard)| !guard.off);
    for name in names {
        match settings.guards.get(name) {
            Some(guard) if guard.off => return Err(format!("the guard `{name}` is switched off in ebb.toml")),
            Some(_) => {}
            None => {
                let all: Vec<&str> = on().map(|(name, _)| name.as_str()).collect();
                let name = ebb_model::printable(name);
                return Err(format!("no guard is called `{name}`; there are {}", all.join(", ")));
            }
        }
    }
    let wanted = |name: &String| names.is_empty() || names.contains(name);
    Ok(on().filter(|(name, _)| wanted(name)).map(|(name, guard)| (name.as_str(), guard)).collect())
}

async fn seen(
    world: &Arc<World>,
    guard: &GuardSettings,
    services: Option<&BTreeSet<ServiceName>>,
    here: &Here,
) -> Result<Fact, String> {
    if let Some(seen) = ebb_checks::observe(&guard.check, guard.timeout, here).await {
        return seen;
    }
    let seen = async {
        match &guard.check {
            Check::Permission => facts::permits(world).await,
            Check::FailedUnits => facts::failed_units(world).await,
            Check::Clock => facts::clock(guard.timeout).await,
            Check::LastDoor { others } => facts::others(world, services, others, guard.timeout).await,
            Check::Disk { .. }
            | Check::Users
            | Check::Certificates { .. }
            | Check::Backup { .. }
            | Check::Command { .. } => Err("nobody looks at it".to_owned()),
        }
    };
    // The members have that time each; to find out which services there are takes some too.
    let limit = std::time::Duration::from(guard.timeout).saturating_mul(2);
    let slow = || format!("no answer within {}", ebb_model::duration(limit.into()));
    tokio::time::timeout(limit, seen).await.unwrap_or_else(|_| Err(slow()))
}

const fn verdict(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Pass => v1::Verdict::Pass,
        Verdict::Warn => v1::Verdict::Warn,
        Verdict::Refuse => v1::Verdict::Refuse,
    }
}

const fn trend(trend: Trend) -> v1::Trend {
    match trend {
        Trend::Better => v1::Trend::Better,
        Trend::Worse => v1::Trend::Worse,
        Trend::Same => v1::Trend::Same,
        Trend::New => v1::Trend::New,
        Trend::Gone => v1::Trend::Gone,
    }
}

/// A guard on the wire.
fn told(guard: &Guard) -> v1::Guard {
    let measured = guard.measured.filter(|measured| measured.value.is_finite());
    v1::Guard {
        name: guard.name.clone(),
        verdict: Some(verdict(guard.verdict)),
        why: guard.why.clone(),
        measured: measured.map(|measured| measured.value),
        measured_in: measured.map(|measured| measured.unit.as_str().to_owned()),
        amiss: guard.amiss.iter().cloned().collect(),
        trend: None,
        verdict_before: None,
        regression: false,
    }
}

/// A guard on the wire, with what became of it.
fn changed(change: &Change) -> v1::Guard {
    let now = change.after.as_ref().map(told).unwrap_or_else(|| v1::Guard {
        name: change.name.clone(),
        verdict: None,
        why: "it is not asked any more".to_owned(),
        measured: None,
        measured_in: None,
        amiss: Vec::new(),
        trend: None,
        verdict_before: None,
        regression: false,
    });
    v1::Guard {
        trend: Some(trend(change.trend)),
        verdict_before: change.before.as_ref().map(|guard| verdict(guard.verdict)),
        regression: change.regression,
        ..now
    }
}
