//! The users of the sessions are told too, where a daemon names them and somebody wants that.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebb_model::{Event, Notice, NotifyWay, Occasion, Role, Run, Service, ServiceName};

use super::{of, of_run_notice, queue};
use crate::daemons::{self, Daemon};
use crate::look;
use crate::world::World;

fn wanted(world: &World, occasion: Occasion) -> bool {
    let config = world.config();
    let wants = |way: &NotifyWay| matches!(way, NotifyWay::Mail { users: true, .. });
    config.settings.notify.values().any(|notifier| notifier.on.contains(&occasion) && wants(&notifier.way))
}

/// Those whom a drain that begins meets.
pub(crate) fn of_drain(world: &Arc<World>, service: &Service, event: &Event) {
    if !wanted(world, Occasion::Start) {
        return;
    }
    if let (Some(daemon), Some(notice)) =
        (daemons::of(world, service), of(world, Occasion::Start, event, &service.name))
    {
        // Nothing waits for a daemon that is slow.
        let world = Arc::clone(world);
        tokio::spawn(async move { tell(&world, &[daemon], notice).await });
    }
}

/// Those whom a maintenance that is announced, or begins, meets on any of its services.
pub(crate) fn of_run(world: &Arc<World>, run: &Run, occasion: Occasion) {
    if !wanted(world, occasion) {
        return;
    }
    let notice = of_run_notice(world, run, occasion, occasion.as_str(), None);
    let names: BTreeSet<ServiceName> = run.plan.layers.iter().flatten().cloned().collect();
    let world = Arc::clone(world);
    tokio::spawn(async move {
        let Ok(services) = look::services(&world).await else { return };
        let ours = services.iter().filter(|service| names.contains(&service.name));
        let daemons: Vec<Daemon> = ours.filter_map(|service| daemons::of(&world, service)).collect();
        tell(&world, &daemons, notice).await;
    });
}

async fn tell(world: &World, daemons: &[Daemon], notice: Notice) {
    let mut users = BTreeSet::new();
    for daemon in daemons {
        if !daemon.abilities().await.list.is_ready() {
            continue;
        }
        let told = daemon.uses().await.unwrap_or_default().uses;
        users.extend(told.into_iter().filter(|one| one.role == Role::User).filter_map(|one| one.user));
    }
    if !users.is_empty() {
        // Who has it already does not get it again: these alone are new.
        queue(world, &Notice { users: users.into_iter().collect(), ..notice });
    }
}
