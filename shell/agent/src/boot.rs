//! The gate at boot: before the network is up and before anybody listens, whether an agent works or not.

use std::path::Path;

use ebb_decide::gate::Standing;
use ebb_kernel::{boot, gate};
use ebb_model::Mono;
use ebb_store::Store;

use crate::converge::to_kernel;
use crate::world::{TABLE, chain};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Doors that are shut now.
    pub doors: usize,
    /// Services that they belong to.
    pub services: usize,
    /// The store could not be read, and the copy beside it was used: why.
    pub from_copy: Option<String>,
}

/// Shuts the gates of all holds in the store of `state_dir`; where that cannot be read, of its copy.
///
/// # Errors
/// In words: neither can be read, or the kernel refuses. Then nothing has changed.
pub fn restore_gate(state_dir: &Path) -> Result<Restored, String> {
    let read = || {
        let store = Store::open_to_read(state_dir)?;
        Ok::<_, ebb_store::StoreError>((store.holds()?, store.records()?))
    };
    let (from_copy, (holds, records)) = match read() {
        Ok(both) => (None, both),
        Err(error) => {
            let cause = chain(&error);
            let copy = ebb_store::copy(state_dir).map_err(|copy| format!("{cause}; and its copy: {}", chain(&copy)))?;
            (Some(cause), copy)
        }
    };
    let boot_id = boot::BootId::current().map_err(|error| chain(&error))?;
    let now = Mono(boot::boottime_ms());
    let standing = Standing { boot_id: boot_id.as_str().to_owned(), now, ..Standing::default() };
    let rules = ebb_decide::gate::rules(&holds, &records, None, &standing);
    let mut gate = gate::Gate::open(TABLE).map_err(|error| chain(&error))?;
    gate.apply(&to_kernel(&rules, now)).map_err(|error| chain(&error))?;
    let services = records.iter().filter(|record| holds.iter().any(|hold| hold.service == record.service)).count();
    Ok(Restored { doors: rules.shut.len(), services, from_copy })
}
