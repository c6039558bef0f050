//! Learns how long sessions live, for as long as an agent is resident. `decide::recorder` says what that comes to; here it is
//! heard and looked at.

mod watch;

pub(crate) use watch::hour_of_week;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ebb_decide::eta::Estimator;
use ebb_decide::recorder as decide;
use ebb_model::{Ages, Lifetimes, Mono, Now, ServiceName, SessionId, Span};
use ebb_store::KeptLifetimes;
use ebb_wire::v1;

use crate::world::{World, chain};
use watch::Watch;

/// A forecast of a drain that is under way is this old at most.
const AGAIN: Span = Span::seconds(10);

/// What an agent has learnt of lifetimes. One that is not resident learns nothing.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<decide::Recorder>);

impl Recorder {
    /// For one short use; never across an await.
    fn get(&self) -> MutexGuard<'_, decide::Recorder> {
        // A panic in a holder leaves at worst sums that are a little off.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// We are about to end these: that is not their own end.
    pub(crate) fn ours(&self, ids: impl Iterator<Item = SessionId>) {
        self.get().ours(&ids.collect::<Vec<_>>());
    }

    /// What is known of a service's lifetimes, and how old those are that are followed; none if it was never looked at.
    pub(crate) fn known(&self, name: &ServiceName, now: Now) -> Option<(Lifetimes, Ages)> {
        self.get().known(name, now)
    }
}

/// Learns until dropped.
pub(crate) async fn run(world: &Arc<World>) {
    Watch::new(world).run().await;
}

/// Writes down what was learnt. What cannot be written is said, and learnt on all the same.
pub(crate) fn save(world: &World) {
    let now = world.now();
    let kept = world.recorder.get().keep(now, &world.boot_id);
    let kept: Vec<KeptLifetimes> = kept
        .into_iter()
        .map(|(service, lifetimes, following)| KeptLifetimes { service, lifetimes, following })
        .collect();
    if kept.is_empty() {
        return;
    }
    if let Err(error) = world.store().keep_lifetimes(&kept, now.wall) {
        world.complain(&format!("what was learnt of lifetimes cannot be written: {}", chain(&error)));
    }
}

/// When those who are left in a drain will have gone, looked at now and then.
#[derive(Debug, Default)]
pub(crate) struct Foreseen {
    forecast: Option<v1::Forecast>,
    looked: Option<Mono>,
}

impl Foreseen {
    /// Looks again, if it is time.
    pub(crate) fn look(&mut self, world: &World, name: &ServiceName, left: u64, deadline: Option<Mono>, now: Now) {
        let fresh = self.looked.is_some_and(|looked| now.mono.since(looked) < AGAIN);
        if !world.resident || fresh {
            return;
        }
        self.looked = Some(now.mono);
        self.forecast = world.recorder.known(name, now).filter(|_| left > 0).and_then(|(lifetimes, ages)| {
            let estimator = Estimator::new(&lifetimes).ok()?;
            let ages = Some(ages).filter(|ages| ages.count() > 0.0)?;
            let deadline = deadline.map(|deadline| deadline.since(now.mono));
            let eta = estimator.eta(&ages.standing_for(left as f64), deadline);
            Some(crate::verbs::eta::forecast(&eta))
        });
    }

    /// As it is now: time has passed since it was looked at.
    pub(crate) fn at(&self, now: Mono) -> Option<v1::Forecast> {
        let passed = now.since(self.looked?).as_seconds();
        let later = |seconds: f64| (seconds - passed).max(0.0);
        self.forecast.map(|forecast| v1::Forecast {
            half_seconds: later(forecast.half_seconds),
            most_seconds: later(forecast.most_seconds),
            nearly_all_seconds: later(forecast.nearly_all_seconds),
            last_seconds: later(forecast.last_seconds),
            last_from_seconds: later(forecast.last_from_seconds),
            last_to_seconds: later(forecast.last_to_seconds),
            ..forecast
        })
    }
}
