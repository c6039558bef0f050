//! What becomes of each session at the deadline of its drain.

use std::collections::{BTreeMap, HashMap};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use ebb_decide::eta::Estimator;
use ebb_model::{
    Age, DrainSpec, Lifetimes, Mono, Record, Service, ServiceName, Session, SessionState, Span, Stay, Then,
};
use ebb_wire::v1::{Advice, AtDeadline};

use crate::world::World;

/// A deadline that is to come.
pub(crate) struct Outlook {
    then: Then,
    left: Span,
    lifetimes: Option<Lifetimes>,
}

impl Outlook {
    /// Of a drain that is under way; none without a deadline that is to come.
    pub(crate) fn of_record(world: &Arc<World>, name: &ServiceName, record: Option<&Record>) -> Option<Self> {
        let drain = record?.drain.as_ref().filter(|drain| drain.boot_id == world.boot_id)?;
        let now = world.now().mono;
        let at: Mono = drain.deadline.filter(|at| *at > now)?;
        Some(Self { then: drain.spec.as_ref()?.then, left: at.since(now), lifetimes: lifetimes(world, name) })
    }

    /// Of a drain that would begin now.
    pub(crate) fn of_spec(world: &Arc<World>, service: &Service, spec: &DrainSpec) -> Option<Self> {
        Some(Self { then: spec.then, left: spec.deadline?, lifetimes: lifetimes(world, &service.name) })
    }

    /// Ready to be asked of many.
    pub(crate) fn ready(&self) -> Ready<'_> {
        let estimator = self.lifetimes.as_ref().and_then(|lifetimes| Estimator::new(lifetimes).ok());
        Ready { outlook: self, estimator, known: BTreeMap::new() }
    }
}

fn lifetimes(world: &Arc<World>, name: &ServiceName) -> Option<Lifetimes> {
    let now = world.now();
    if let Some((lifetimes, _)) = world.recorder.known(name, now) {
        return Some(lifetimes);
    }
    let mut kept = world.store().lifetimes(name).ok()??.lifetimes;
    kept.fade(now.wall);
    Some(kept)
}

/// An outlook that remembers what it has computed: of a hundred thousand sessions many are as old as others.
pub(crate) struct Ready<'a> {
    outlook: &'a Outlook,
    estimator: Option<Estimator<'a>>,
    known: BTreeMap<(bool, u64, Option<u64>), f64>,
}

/// Ages that differ by less than so many hundredths have the same chance.
const ALIKE: f64 = 1.02;

impl Ready<'_> {
    pub(crate) fn of(&mut self, session: &Session) -> AtDeadline {
        let alike = |age: Span| (age.as_seconds().max(1.0).ln() / ALIKE.ln()) as u64;
        let most = if let Age::Between(_, most) = session.age { Some(alike(most)) } else { None };
        let exactly = matches!(session.age, Age::Exactly(_));
        let key = (exactly, alike(session.age.at_least()), most);
        let (estimator, left) = (&self.estimator, self.outlook.left);
        let gone = estimator
            .as_ref()
            .map(|estimator| *self.known.entry(key).or_insert_with(|| estimator.ends_within(session.age, left)));
        let ends = session.counts() && session.state != SessionState::Flow;
        let then = match self.outlook.then {
            Then::End if ends => "goodbye",
            Then::Cut if ends => "cut",
            Then::Ask | Then::End | Then::Cut => "left",
        };
        AtDeadline { gone, then: then.to_owned() }
    }
}

/// What can be done about these, by reason; the most frequent first.
pub(crate) fn advice(service: &ServiceName, sessions: &[Session]) -> Vec<Advice> {
    // Few kinds, many sessions: what each says is written once.
    let mut kinds: HashMap<Discriminant<Stay>, Option<Advice>> = HashMap::new();
    for session in sessions {
        let kind = kinds.entry(discriminant(&session.stay)).or_insert_with(|| {
            let (why, text) = session.stay.advice(service)?;
            Some(Advice { why: why.to_owned(), count: 0, text })
        });
        if let Some(advice) = kind {
            advice.count += 1;
        }
    }
    let mut all: Vec<Advice> = kinds.into_values().flatten().collect();
    all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.why.cmp(&b.why)));
    all
}
