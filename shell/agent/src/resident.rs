//! An agent that stays: it serves a socket, goes on with drains whose viewers have left, and keeps what is held.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ebb_kernel::boot;
use ebb_link::{Door, Intake, LinkError};
use ebb_systemd::Notify;

use crate::keeper::Keeper;
use crate::protect::Protector;
use crate::world::World;
use crate::{Place, StartError, drain, handle, notices, protect, recorder};

/// Members of this group may look.
pub(crate) const READERS: &str = "ebb";
/// Between two looks whether the socket is still there.
const REACHABLE: Duration = Duration::from_secs(1);

/// An agent about to stay. Its socket is open, and nobody is served yet.
pub struct Resident {
    world: Arc<World>,
    door: Door,
    adopted: usize,
    notify: Notify,
    /// Released when the process ends, however it does.
    _only: File,
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resident").field("socket", &self.door.path()).finish_non_exhaustive()
    }
}

/// Makes an agent resident: the gate is as the holds on disk ask for, and the drains that an agent before left under way
/// go on, before the socket is opened.
///
/// # Errors
/// [`StartError`]: another one is resident, or the store, the configuration or the socket cannot be used. What was shut
/// stays shut.
pub async fn reside(place: Place, socket: PathBuf) -> Result<Resident, StartError> {
    let world = Arc::new(World::open(place, true)?);
    if !world.store().is_writable() {
        let source = world.store().unwritable();
        return Err(StartError::Unwritable { path: world.place.state_dir.clone(), source });
    }
    world.store().make()?;
    let only = only_one(&world)?;
    not_anothers_gate(&world)?;
    if let Err(why) = crate::lockout::converge(&world, None).await {
        world.complain(&format!("held units cannot be kept from starting: {why}"));
    }
    if let Err(why) = crate::converge_at_start(&world).await {
        world.complain(&format!("the gate is not as the holds ask for: {why}"));
    }
    let adopted = match drain::adopt(&world).await {
        Ok(adopted) => adopted,
        Err(why) => {
            world.complain(&format!("drains under way cannot be gone on with: {why}"));
            0
        }
    };
    let group = boot::group_id(READERS);
    let door = Door::open(&socket, group).await.map_err(|error| match error {
        LinkError::Served { path } => StartError::Resident { path: path.into() },
        error => StartError::System { what: "its socket", source: error.into() },
    })?;
    Ok(Resident { world, door, adopted, notify: Notify::from_env(), _only: only })
}

/// A gate that stands here although nothing was ever held from our state directory is that of another one's holds. One
/// that has held before may have been killed between the release of its last hold and the opening of the gate.
fn not_anothers_gate(world: &World) -> Result<(), StartError> {
    let usual = world.place.state_dir.as_os_str() == "/var/lib/ebb";
    let shuts = crate::converge::seen(world).is_ok_and(|seen| !seen.shut.is_empty());
    let held_before = world.store().newest_event()? > 0;
    if usual || !shuts || held_before || !world.store().holds()?.is_empty() {
        return Ok(());
    }
    let what = "whose the gate is that stands here: it is not of this state directory's holds";
    Err(StartError::System {
        what,
        source: std::io::Error::other("two would undo each other; use a network namespace").into(),
    })
}

/// Two would each undo what the other does.
fn only_one(world: &World) -> Result<File, StartError> {
    let path = world.place.state_dir.join("agent.lock");
    let system = |source: std::io::Error| StartError::System { what: "its lock", source: source.into() };
    // For its owner only: whoever may open it could hold it.
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(system)?;
    let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Resident { path }),
        Err(TryLockError::Error(error)) => Err(system(error)),
    }
}

/// Serves at its socket; where somebody removes that, at a new one in its place.
async fn stay_reachable(mut door: Door, intake: Intake) {
    loop {
        let path = door.path().to_owned();
        let removed = async {
            while path.exists() {
                tokio::time::sleep(REACHABLE).await;
            }
        };
        // Answers under way go on by themselves.
        tokio::select! {
            () = door.serve(intake.clone()) => return,
            () = removed => {}
        }
        door = loop {
            match Door::open(&path, boot::group_id(READERS)).await {
                Ok(door) => break door,
                Err(_) => tokio::time::sleep(REACHABLE).await,
            }
        };
    }
}

impl Resident {
    /// How many drains it went on with.
    #[must_use]
    pub const fn adopted(&self) -> usize {
        self.adopted
    }

    /// Serves until `stop`. Holds, gates and what is remembered of drains stay: the next agent goes on with them. Each time
    /// that `again` has been waited for, the configuration is read again.
    pub async fn serve(self, stop: impl Future<Output = ()>, mut again: impl AsyncFnMut()) {
        let (intake, server) = ebb_link::resident();
        let intake = intake.naming(crate::world::user_name);
        if let Err(why) = crate::maintenance::adopt(&self.world) {
            self.world.complain(&format!("a maintenance cannot be gone on with: {why}"));
        }
        let (world, notify) = (&self.world, &self.notify);
        let serves = format!("serves at {}", self.door.path().display());
        let ready = || {
            let trouble = world.config_trouble().map_or_else(String::new, |trouble| format!("; {}", trouble.what));
            // Nobody listens to this where it was started by hand.
            let _ = notify.ready(&format!("{serves}{trouble}"));
        };
        ready();
        let reload = async {
            loop {
                again().await;
                let _ = notify.reloading(boot::monotonic());
                world.read_config_again();
                ready();
            }
        };
        let keeper = Keeper::new(&self.world, &self.notify);
        tokio::select! {
            () = stay_reachable(self.door, intake) => {}
            () = handle::serve(Arc::clone(&self.world), server) => {}
            () = keeper.run() => {}
            () = reload => {}
            () = notices::send(&self.world) => {}
            () = Protector::new(&self.world).run() => {}
            () = recorder::run(&self.world) => {}
            () = stop => {}
        }
        let _ = self.notify.stopping();
        recorder::save(&self.world);
        // Nobody would look after it: a reboot that is refused for ever is worse than one that is not.
        if let Err(why) = protect::withdraw(&self.world).await {
            self.world.complain(&format!("what protects sessions could not be taken away: {why}"));
        }
    }
}
