//! The agent of one server: takes requests from the link, lets `decide` decide, performs, observes, publishes.
//!
//! With no agent running, `ebb` starts one in its own process for the length of a command; holds, gates
//! and records are on disk and in the kernel, so that several such processes see one truth.

mod access;
mod behind;
mod boot;
mod config;
mod converge;
mod convert;
mod daemons;
mod drain;
mod expiry;
mod facts;
mod handle;
mod keeper;
mod knock;
mod lockout;
mod look;
mod maintenance;
mod notices;
mod observe;
mod protect;
mod recorder;
mod resident;
mod say;
mod sources;
mod uninstall;
mod verbs;
mod world;

pub use boot::{Restored, restore_gate};
pub use config::{
    Checked, ConfigError, Explained, Fault, Origin, Setting, check as check_config, explain as explain_config,
};
pub use resident::{Resident, reside};
pub use uninstall::{Keep, Removal, Standing, Step, UninstallError, perform, plan_removal, tell_journal};

use std::path::PathBuf;
use std::sync::Arc;

use ebb_link::{Client, Peer};

/// Where an agent keeps and finds its things.
#[derive(Clone, Debug)]
pub struct Place {
    /// Holds, records and history.
    pub state_dir: PathBuf,
    /// `ebb.toml`; need not exist.
    pub config: PathBuf,
}

/// Why an agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error("failed to open the store")]
    Store(#[from] ebb_store::StoreError),
    /// The configuration.
    #[error("failed to read the configuration")]
    Config(#[from] ConfigError),
    /// The system does not tell what every agent must know.
    #[error("failed to read {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing can be written down.
    #[error("failed to write to {}, where what is held is kept; what is shut stays shut", path.display())]
    Unwritable {
        /// The state directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent is resident.
    #[error("another agent is resident, it holds {}", path.display())]
    Resident {
        /// Its socket, or its lock.
        path: PathBuf,
    },
}

/// A running agent.
#[derive(Debug)]
pub struct Running {
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Waits until the agent has finished what its viewers left behind. Drop every client before.
    pub async fn stop(self) {
        // The task ends by itself when the last client is gone; a panic in it has been printed already.
        let _ = self.task.await;
    }
}

/// Behind `sudo`, who called us: user id and login name.
#[must_use]
pub fn behalf() -> Option<(u32, String)> {
    let user = ebb_kernel::boot::sudo_user()?;
    Some((user.uid, user.name.unwrap_or_else(|| format!("uid {}", user.uid))))
}

/// Makes the gate what the holds on disk ask for.
async fn converge_at_start(world: &world::World) -> Result<(), ebb_model::Why> {
    let services = look::services(world).await?;
    let _lock = world.lock()?;
    converge::converge(world, &services).map(drop)
}

/// Starts an agent in this process; call it inside a tokio runtime.
///
/// # Errors
/// [`StartError`]: nothing has been changed then.
pub fn start(place: Place) -> Result<(Client, Running), StartError> {
    let world = world::World::open(place, false)?;
    let peer = Peer { uid: world.who.uid, name: world.who.name.clone(), behalf: None };
    let (client, server) = ebb_link::in_process(peer);
    let task = tokio::spawn(handle::serve(Arc::new(world), server));
    Ok((client, Running { task }))
}
