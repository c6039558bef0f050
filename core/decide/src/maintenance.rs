//! What comes next in a maintenance, from its plan and its journal alone: after a crash or a reboot the same.

use std::collections::{BTreeMap, BTreeSet};

use ebb_model::{Entry, Line, Run, ServiceName, Span, Step, Work};

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This step; it may have been begun before.
    Do(Step),
    /// Nothing until somebody says that the work is done.
    AwaitFinish,
    /// Nothing until somebody asks again: this step failed, and why.
    Halted(Step, String),
    /// The last line of the journal.
    End,
    /// Nothing more.
    Over,
}

/// What comes next in a run.
///
/// Forward: guards, hold, drain layer by layer, work. Back, once somebody has asked for it or a command has done the work:
/// take back what is under way, start layer by layer in the other order, check, open, watch; only what a step forward has
/// begun is taken back. A step that failed halts the run until somebody asks again.
#[must_use]
pub fn next(run: &Run) -> Next {
    if run.is_over() {
        return Next::Over;
    }
    let seen = Seen::of(run);
    let forward = steps_forward(run);
    let there = forward.iter().all(|step| seen.done.contains(step));
    // Of work by hand somebody says that it is done.
    let back = seen.finishing || (there && (run.plan.drill || run.plan.work != Work::ByHand));
    let steps = if back { steps_back(run, &seen) } else { forward };
    let Some(step) = steps.into_iter().find(|step| !seen.done.contains(step)) else {
        return if back { Next::End } else { Next::AwaitFinish };
    };
    match seen.failed.get(&step) {
        Some(why) => Next::Halted(step, why.clone()),
        None => Next::Do(step),
    }
}

/// All steps of a plan in order, as long as nothing goes wrong.
#[must_use]
pub fn steps(run: &Run) -> Vec<Step> {
    let mut steps = steps_forward(run);
    if run.plan.drill {
        steps.extend([Step::Check, Step::Open]);
    } else {
        steps.extend((0..run.plan.layers.len()).rev().map(Step::Start));
        steps.extend([Step::Check, Step::Open, Step::Watch]);
    }
    steps
}

fn steps_forward(run: &Run) -> Vec<Step> {
    let announce = (run.plan.delay > Span::ZERO).then_some(Step::Announce);
    let mut steps: Vec<Step> = announce.into_iter().chain([Step::Guards, Step::Hold]).collect();
    steps.extend((0..run.plan.layers.len()).map(Step::Drain));
    steps.extend((!run.plan.drill && run.plan.work != Work::ByHand).then_some(Step::Work));
    steps
}

fn steps_back(run: &Run, seen: &Seen) -> Vec<Step> {
    let mut steps = Vec::new();
    if !seen.begun.contains(&Step::Hold) {
        return steps;
    }
    let began = |layer: &usize| seen.begun.contains(&Step::Drain(*layer));
    let whole = (0..run.plan.layers.len()).all(|layer| seen.done.contains(&Step::Drain(layer)));
    steps.extend((!whole).then_some(Step::TakeBack));
    if !run.plan.drill {
        steps.extend((0..run.plan.layers.len()).rev().filter(began).map(Step::Start));
    }
    steps.extend([Step::Check, Step::Open]);
    steps.extend((!run.plan.drill).then_some(Step::Watch));
    steps
}

/// The journal, folded.
#[derive(Default)]
struct Seen {
    begun: BTreeSet<Step>,
    done: BTreeSet<Step>,
    /// Failed, and nobody has asked again since.
    failed: BTreeMap<Step, String>,
    finishing: bool,
}

impl Seen {
    fn of(run: &Run) -> Self {
        let mut seen = Self::default();
        for line in &run.journal {
            match &line.entry {
                Entry::StartAsked => seen.failed.clear(),
                Entry::FinishAsked { .. } => {
                    seen.failed.clear();
                    seen.finishing = true;
                }
                Entry::Began(step) => drop(seen.begun.insert(*step)),
                Entry::Done(step) => {
                    seen.done.insert(*step);
                    seen.failed.remove(step);
                }
                Entry::Failed(step) => drop(seen.failed.insert(*step, line.text.clone())),
                Entry::Over => {}
            }
        }
        seen
    }
}

/// The word that called it off, if any: the way back was asked for before the way there was done.
#[must_use]
pub fn called_off(run: &Run) -> Option<&Line> {
    let asked = run.journal.iter().position(|line| matches!(line.entry, Entry::FinishAsked { .. }))?;
    let before = |step: &Step| run.journal[..asked].iter().any(|line| line.entry == Entry::Done(*step));
    (!steps_forward(run).iter().all(before)).then(|| &run.journal[asked])
}

/// Whether its services are being brought back: nothing may keep them from starting meanwhile.
#[must_use]
pub fn is_coming_back(run: &Run) -> bool {
    let back = |step: Step| matches!(step, Step::Start(_) | Step::Check | Step::Open | Step::Watch);
    match next(run) {
        Next::Do(step) | Next::Halted(step, _) => back(step),
        Next::End => true,
        Next::AwaitFinish | Next::Over => false,
    }
}

/// Whether the way back has been asked for, and regressions are accepted: the newest word counts.
#[must_use]
pub fn accepts_worse(run: &Run) -> Option<&str> {
    run.journal.iter().rev().find_map(|line| match &line.entry {
        Entry::FinishAsked { accept_worse } => Some(accept_worse.as_deref()),
        _ => None,
    })?
}

/// Services in layers: one comes before those that it uses. Those that use each other in a circle share a layer.
/// `uses`: of a service, those that must outlive it.
#[must_use]
pub fn layers(
    services: &BTreeSet<ServiceName>,
    uses: &BTreeMap<ServiceName, BTreeSet<ServiceName>>,
) -> Vec<Vec<ServiceName>> {
    let mut left = services.clone();
    let mut layers = Vec::new();
    while !left.is_empty() {
        let used_by_others = |service: &ServiceName| {
            left.iter().any(|other| other != service && uses.get(other).is_some_and(|used| used.contains(service)))
        };
        let mut layer: Vec<ServiceName> = left.iter().filter(|service| !used_by_others(service)).cloned().collect();
        if layer.is_empty() {
            // A circle: all that is in one, or behind it.
            layer = left.iter().cloned().collect();
        }
        left.retain(|service| !layer.contains(service));
        layers.push(layer);
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebb_model::{Line, MaintenancePlan, Requester, Then, Wall, Who};

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn run(work: Work, drill: bool) -> Run {
        Run {
            number: 1,
            plan: MaintenancePlan {
                requester: Requester::operator(),
                reason: String::new(),
                by: Who { uid: 0, name: "root".into() },
                layers: vec![vec![name("web")], vec![name("db")]],
                not: Vec::new(),
                meant_for: None,
                reopen: false,
                except: BTreeSet::new(),
                delay: Span::ZERO,
                deadline: None,
                then: Then::Ask,
                work,
                drill,
                watch: Span::ZERO,
                override_guards: None,
            },
            journal: Vec::new(),
        }
    }

    fn write(run: &mut Run, entry: Entry) {
        run.journal.push(Line { at: Wall(0), boot_id: "b".into(), entry, text: "why".into() });
    }

    /// Does what comes next until something else than a step does.
    fn go_on(run: &mut Run) -> (Vec<String>, Next) {
        let mut did = Vec::new();
        for _ in 0..100 {
            match next(run) {
                Next::Do(step) => {
                    write(run, Entry::Began(step));
                    assert_eq!(next(run), Next::Do(step), "a crash in the middle: the same again");
                    write(run, Entry::Done(step));
                    did.push(step.to_string());
                }
                other => return (did, other),
            }
        }
        panic!("it has no end: {did:?}");
    }

    const FINISH: Entry = Entry::FinishAsked { accept_worse: None };

    #[test]
    fn by_hand_it_waits_for_a_word_and_goes_back_in_the_other_order() {
        let mut run = run(Work::ByHand, false);
        let (did, then) = go_on(&mut run);
        assert_eq!((did.join(", ").as_str(), then), ("guards, hold, drain 1, drain 2", Next::AwaitFinish));
        write(&mut run, FINISH);
        let (did, then) = go_on(&mut run);
        assert_eq!((did.join(", ").as_str(), then), ("start 2, start 1, check, open, watch", Next::End));
        write(&mut run, Entry::Over);
        assert_eq!(next(&run), Next::Over);
    }

    #[test]
    fn a_command_goes_all_the_way_and_a_drill_stops_nothing() {
        let mut command = run(Work::Command(vec!["true".into()]), false);
        let (did, then) = go_on(&mut command);
        let wanted = "guards, hold, drain 1, drain 2, work, start 2, start 1, check, open, watch";
        assert_eq!((did.join(", ").as_str(), then), (wanted, Next::End));
        let planned: Vec<String> = steps(&run(Work::Reboot, false)).iter().map(ToString::to_string).collect();
        assert_eq!(planned.join(", "), wanted, "what is planned is what is done");
        let mut drill = run(Work::ByHand, true);
        let (did, then) = go_on(&mut drill);
        assert_eq!((did.join(", ").as_str(), then), ("guards, hold, drain 1, drain 2, check, open", Next::End));
    }

    #[test]
    fn one_that_is_announced_begins_with_that_and_can_be_called_off() {
        let mut run = run(Work::ByHand, false);
        run.plan.delay = Span::seconds(900);
        assert_eq!(next(&run), Next::Do(Step::Announce));
        assert_eq!(steps(&run)[..2], [Step::Announce, Step::Guards]);
        write(&mut run, Entry::Began(Step::Announce));
        assert_eq!(called_off(&run), None);
        write(&mut run, FINISH);
        assert_eq!(next(&run), Next::End);
        assert!(called_off(&run).is_some());
    }

    #[test]
    fn asked_back_in_the_middle_only_what_was_begun_is_undone() {
        let mut early = run(Work::ByHand, false);
        write(&mut early, Entry::Began(Step::Guards));
        write(&mut early, FINISH);
        assert_eq!(next(&early), Next::End, "nothing was touched");
        let mut middle = run(Work::ByHand, false);
        for step in [Step::Guards, Step::Hold] {
            write(&mut middle, Entry::Done(step));
        }
        write(&mut middle, Entry::Began(Step::Hold));
        write(&mut middle, Entry::Began(Step::Drain(0)));
        write(&mut middle, FINISH);
        let (did, then) = go_on(&mut middle);
        assert_eq!((did.join(", ").as_str(), then), ("take back, start 1, check, open, watch", Next::End));
    }

    #[test]
    fn what_failed_halts_until_somebody_asks_again() {
        let mut run = run(Work::Command(vec!["false".into()]), false);
        for step in [Step::Guards, Step::Hold, Step::Drain(0), Step::Drain(1)] {
            write(&mut run, Entry::Began(step));
            write(&mut run, Entry::Done(step));
        }
        write(&mut run, Entry::Began(Step::Work));
        write(&mut run, Entry::Failed(Step::Work));
        assert_eq!(next(&run), Next::Halted(Step::Work, "why".into()));
        write(&mut run, Entry::StartAsked);
        assert_eq!(next(&run), Next::Do(Step::Work));
        write(&mut run, Entry::Failed(Step::Work));
        write(&mut run, FINISH);
        assert_eq!(next(&run), Next::Do(Step::Start(1)), "and back without it");
        write(&mut run, Entry::Failed(Step::Start(1)));
        assert_eq!(next(&run), Next::Halted(Step::Start(1), "why".into()), "no gate is opened past it");
    }

    #[test]
    fn the_newest_word_on_regressions_counts() {
        let mut run = run(Work::ByHand, false);
        assert_eq!(accepts_worse(&run), None);
        write(&mut run, Entry::FinishAsked { accept_worse: Some("known".into()) });
        assert_eq!(accepts_worse(&run), Some("known"));
        write(&mut run, FINISH);
        assert_eq!(accepts_worse(&run), None);
    }

    #[test]
    fn layers_put_users_before_what_they_use() {
        let all: BTreeSet<ServiceName> = ["web", "app", "db", "cache", "mail"].map(name).into();
        let uses = BTreeMap::from([
            (name("web"), BTreeSet::from([name("app"), name("cache")])),
            (name("app"), BTreeSet::from([name("db"), name("cache")])),
            (name("mail"), BTreeSet::from([name("elsewhere")])),
        ]);
        let plain = |layers: Vec<Vec<ServiceName>>| {
            layers
                .iter()
                .map(|layer| layer.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(layers(&all, &uses)), ["mail web", "app", "cache db"]);
        assert_eq!(layers(&BTreeSet::new(), &uses), Vec::<Vec<ServiceName>>::new());
        // In a circle, and what it uses, together.
        let circle =
            BTreeMap::from([(name("app"), BTreeSet::from([name("db")])), (name("db"), BTreeSet::from([name("app")]))]);
        assert_eq!(plain(layers(&["web", "app", "db"].map(name).into(), &circle)), ["web", "app db"]);
    }
}
