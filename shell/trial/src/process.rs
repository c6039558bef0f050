//! What the processes of a trial have in common.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::Error;
use crate::error::started;

/// Ourselves, to be started again. Unlike its path this also leads to a binary that was deleted or replaced meanwhile.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// A runtime on this very thread: no other thread means no other namespace.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    Builder::new_current_thread().enable_all().build().map_err(started("start an event loop"))
}

/// As many descriptors as we may have: the usual 1024 are fewer than the sessions may be.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Up to the hard limit everybody may; if not, the sessions that find no descriptor will say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
