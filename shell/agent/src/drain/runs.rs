//! The drains under way in a resident agent: they go on without viewers, and viewers join them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ebb_link::Hub;
use ebb_model::{Requester, ServiceName};
use tokio::sync::mpsc;

use super::watch::Outside;

/// One drain of one service.
#[derive(Clone)]
pub(crate) struct Run {
    /// Where viewers join.
    pub(crate) hub: Hub,
    /// The way to its loop.
    pub(crate) outside: mpsc::Sender<Outside>,
    /// Whose hold it has.
    pub(crate) requester: Requester,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Runs {
    under_way: Mutex<BTreeMap<ServiceName, Run>>,
    /// Held from the look whether one is under way until it is: two callers do not both begin one.
    pub(crate) admission: tokio::sync::Mutex<()>,
}

impl Runs {
    pub(crate) fn of(&self, service: &ServiceName) -> Option<Run> {
        self.all().remove(service)
    }

    pub(crate) fn all(&self) -> BTreeMap<ServiceName, Run> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add(&self, service: ServiceName, run: Run) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(service, run);
    }

    /// The hold of a drain was released: it is over, though its loop has yet to find out. A drain that is asked for now
    /// is another one.
    pub(crate) fn released(&self, service: &ServiceName, requester: &Requester) {
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(service).is_some_and(|run| run.requester == *requester) {
            all.remove(service);
        }
    }

    /// The drain of a service by this loop is over; another one may have begun already.
    pub(crate) fn remove(&self, service: &ServiceName, outside: &mpsc::Sender<Outside>) {
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(service).is_some_and(|run| run.outside.same_channel(outside)) {
            all.remove(service);
        }
    }
}
