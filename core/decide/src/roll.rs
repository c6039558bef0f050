//! What comes next in a roll, from its plan, its journal and what is seen of the pools: after a crash the same.
//!
//! A server is begun only if each pool that it is in can spare it at this moment. What is not seen to serve does not serve,
//! and what we have taken out counts as out until it is proven to be back, whatever is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ebb_model::{Budget, Label, MemberStep, Roll, RollEntry, RollPlan, Serving, Sight};

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// These steps, side by side; each may have been begun before.
    pub todo: Vec<(Label, MemberStep)>,
    /// Why the others wait.
    pub waits: Vec<(Label, Blocked)>,
    /// As a whole.
    pub state: RollState,
}

/// A roll as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollState {
    /// Something is done, or waited for.
    UnderWay,
    /// Nothing more is begun until somebody asks for it; these failed.
    Halted(Vec<(Label, MemberStep, String)>),
    /// The last line of the journal.
    End,
    /// Nothing more.
    Over,
}

/// Why a server is not begun now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// As many are out as may be.
    MaxUnavailable {
        /// Of which pool.
        pool: Label,
        /// Who is out, or not proven to be back.
        out: Vec<Label>,
        /// How many may be.
        max: usize,
    },
    /// Too few would serve.
    MinAvailable {
        /// Of which pool.
        pool: Label,
        /// So many would.
        left: usize,
        /// So many must.
        min: usize,
    },
    /// Fewer than half would serve.
    Quorum {
        /// Of which pool.
        pool: Label,
        /// So many would.
        left: usize,
        /// Of so many.
        of: usize,
    },
    /// The rest could not carry the sessions.
    Capacity {
        /// Of which pool.
        pool: Label,
        /// Sessions there are.
        sessions: u64,
        /// What those who are left can carry.
        room: u64,
    },
    /// A member of another group is out.
    Group {
        /// Of which pool.
        pool: Label,
        /// Who.
        out: Label,
    },
    /// It is not ours to take: somebody else has it out, or nobody knows how it is.
    NotServing {
        /// In which pool.
        pool: Label,
        /// In words.
        why: String,
    },
    /// The first ones are not proven yet.
    Canary {
        /// Which.
        first: Vec<Label>,
    },
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |names: &[Label]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::MaxUnavailable { pool, out, max } => {
                write!(f, "{pool}: {max} may be out, and {} are out: {}", out.len(), named(out))
            }
            Self::MinAvailable { pool, left, min } => write!(f, "{pool}: {left} would serve, and {min} must"),
            Self::Quorum { pool, left, of } => write!(f, "{pool}: {left} of {of} would serve, which is no majority"),
            Self::Capacity { pool, sessions, room } => {
                write!(f, "{pool}: {sessions} sessions, and those who are left have room for {room}")
            }
            Self::Group { pool, out } => write!(f, "{pool}: {out} of another group is out"),
            Self::NotServing { pool, why } => write!(f, "{pool}: {why}"),
            Self::Canary { first } => write!(f, "the first are not proven yet: {}", named(first)),
        }
    }
}

/// What comes next in a roll.
///
/// Servers that were begun go on, whatever the budgets say: to leave one half done makes nothing better. Then others are
/// begun, those with the fewest sessions first, as long as each pool can spare them. With a failure too many, or once its end
/// was asked for, none is begun.
#[must_use]
pub fn next(roll: &Roll, sight: &Sight) -> Next {
    let seen = Seen::of(roll);
    let mut next = Next { todo: Vec::new(), waits: Vec::new(), state: RollState::UnderWay };
    if seen.over {
        next.state = RollState::Over;
        return next;
    }
    let under_way =
        seen.members.iter().filter_map(|(server, member)| Some((server.clone(), member.next(seen.aborting)?)));
    next.todo.extend(under_way);
    let failed = seen.failed();
    if !seen.aborting && failed.len() <= roll.plan.max_failures {
        begin(&roll.plan, &seen, sight, &mut next);
    }
    if next.todo.is_empty() && !failed.is_empty() {
        next.state = RollState::Halted(failed);
    } else if next.todo.is_empty() && next.waits.is_empty() {
        next.state = RollState::End;
    }
    next
}

/// Begins as many as each pool can spare.
fn begin(plan: &RollPlan, seen: &Seen, sight: &Sight, next: &mut Next) {
    let mut out = seen.out();
    let mut begun = seen.order.len();
    let first = seen.order.iter().take(plan.canary);
    let unproven: Vec<Label> = first.filter(|name| !seen.members[*name].is_proven()).cloned().collect();
    for server in in_order(plan, seen, sight) {
        let early = begun < plan.canary;
        if !early && (seen.order.len() < plan.canary || !unproven.is_empty()) {
            next.waits.push((server, Blocked::Canary { first: unproven.clone() }));
            continue;
        }
        match blocked(plan, sight, &out, &server) {
            Some(why) => next.waits.push((server, why)),
            None => {
                out.insert(server.clone());
                begun += 1;
                next.todo.push((server, MemberStep::SteerAway));
            }
        }
    }
}

/// Those that are not begun yet: whoever has the fewest sessions first, for they are drained soonest.
fn in_order(plan: &RollPlan, seen: &Seen, sight: &Sight) -> Vec<Label> {
    let sessions = |server: &Label| -> u64 {
        let of = sight.values().filter_map(|pool| pool.get(server));
        of.map(|serving| if let Serving::Yes { sessions } = serving { *sessions } else { 0 }).sum()
    };
    let mut left: Vec<Label> = plan.targets.iter().filter(|one| !seen.members.contains_key(*one)).cloned().collect();
    left.sort_by_key(|server| (sessions(server), server.clone()));
    left
}

/// Why a server cannot be spared, if so.
fn blocked(plan: &RollPlan, sight: &Sight, out: &BTreeSet<Label>, server: &Label) -> Option<Blocked> {
    let pools = plan.pools.iter().filter(|(_, budget)| budget.members.contains(server));
    pools.into_iter().find_map(|(name, budget)| of_pool(name, budget, sight.get(name), out, server))
}

fn of_pool(
    name: &Label,
    budget: &Budget,
    sight: Option<&BTreeMap<Label, Serving>>,
    ours: &BTreeSet<Label>,
    server: &Label,
) -> Option<Blocked> {
    let pool = || name.clone();
    let unknown = Serving::Unknown { why: format!("nothing was ever heard of {server}") };
    let why = match sight.and_then(|pool| pool.get(server)).unwrap_or(&unknown) {
        Serving::Yes { .. } => None,
        Serving::No { why } | Serving::Unknown { why } => Some(why.clone()),
    };
    if let Some(why) = why {
        return Some(Blocked::NotServing { pool: pool(), why });
    }
    let serves = |one: &Label| matches!(sight.and_then(|pool| pool.get(one)), Some(Serving::Yes { .. }));
    let out: Vec<Label> = budget.members.iter().filter(|one| ours.contains(*one) || !serves(one)).cloned().collect();
    if out.len() >= budget.max_unavailable {
        return Some(Blocked::MaxUnavailable { pool: pool(), out, max: budget.max_unavailable });
    }
    let left = budget.members.len() - out.len() - 1;
    if left < budget.min_available {
        return Some(Blocked::MinAvailable { pool: pool(), left, min: budget.min_available });
    }
    if budget.quorum && left * 2 <= budget.members.len() {
        return Some(Blocked::Quorum { pool: pool(), left, of: budget.members.len() });
    }
    // All sessions of those who serve must find room with those who are left and proven.
    let carries = |one: &Label| match sight.and_then(|pool| pool.get(one)) {
        Some(Serving::Yes { sessions }) => Some(*sessions),
        _ => None,
    };
    let sessions: u64 = budget.members.iter().filter_map(carries).sum();
    let room = budget.capacity.map(|one| one.saturating_mul(left as u64));
    if let Some(room) = room.filter(|room| sessions > *room) {
        return Some(Blocked::Capacity { pool: pool(), sessions, room });
    }
    let group = |one: &Label| budget.groups.iter().position(|group| group.contains(one));
    let other = out.into_iter().find(|one| group(one).zip(group(server)).is_some_and(|(there, here)| there != here));
    other.map(|out| Blocked::Group { pool: pool(), out })
}

/// What can never be done, whoever serves: said before anything is touched. Each with what would make it possible.
#[must_use]
pub fn impossible(plan: &RollPlan) -> Vec<String> {
    let mut all = Vec::new();
    for (name, budget) in &plan.pools {
        if budget.members.is_disjoint(&plan.targets) {
            continue;
        }
        let members = budget.members.len();
        let left = members.saturating_sub(1);
        if budget.max_unavailable == 0 {
            all.push(format!("{name}: max_unavailable is 0, so none may ever be out; 1 would do"));
        } else if left < budget.min_available {
            let min = budget.min_available;
            all.push(format!(
                "{name}: {min} of {members} must serve, so none may be out; one member more, or min_available = {left} would do"
            ));
        } else if budget.quorum && left * 2 <= members {
            all.push(format!("{name}: without one of its {members} members there is no majority; 3 members would do"));
        }
    }
    all
}

/// A server that was begun.
#[derive(Default)]
struct Member {
    done: BTreeSet<MemberStep>,
    failed: Option<(MemberStep, String)>,
}

impl Member {
    /// It is in service again, and has stayed well.
    fn is_proven(&self) -> bool {
        self.done.contains(&MemberStep::Soak)
    }

    /// It is out, or not proven to be back.
    fn is_out(&self) -> bool {
        !self.is_proven() && !self.done.contains(&MemberStep::Undo)
    }

    fn next(&self, aborting: bool) -> Option<MemberStep> {
        if self.failed.is_some() || !self.is_out() {
            return None;
        }
        if aborting && !self.done.contains(&MemberStep::SteerBack) {
            return Some(MemberStep::Undo);
        }
        MemberStep::FORWARD.into_iter().find(|step| !self.done.contains(step))
    }
}

/// The journal, folded.
#[derive(Default)]
struct Seen {
    members: BTreeMap<Label, Member>,
    /// As they were begun.
    order: Vec<Label>,
    aborting: bool,
    over: bool,
}

impl Seen {
    fn of(roll: &Roll) -> Self {
        let mut seen = Self::default();
        for line in &roll.journal {
            match &line.entry {
                RollEntry::ContinueAsked => seen.forgive(),
                RollEntry::AbortAsked => {
                    seen.aborting = true;
                    seen.forgive();
                }
                RollEntry::Began(server, _) => drop(seen.member(server)),
                RollEntry::Done(server, step) => {
                    let member = seen.member(server);
                    member.done.insert(*step);
                    member.failed = None;
                }
                RollEntry::Failed(server, step) => seen.member(server).failed = Some((*step, line.text.clone())),
                RollEntry::Over => seen.over = true,
            }
        }
        seen
    }

    fn member(&mut self, server: &Label) -> &mut Member {
        if !self.members.contains_key(server) {
            self.order.push(server.clone());
        }
        self.members.entry(server.clone()).or_default()
    }

    fn forgive(&mut self) {
        self.members.values_mut().for_each(|member| member.failed = None);
    }

    fn out(&self) -> BTreeSet<Label> {
        self.members.iter().filter(|(_, member)| member.is_out()).map(|(server, _)| server.clone()).collect()
    }

    fn failed(&self) -> Vec<(Label, MemberStep, String)> {
        let failed = self.members.iter().filter_map(|(server, member)| Some((server, member.failed.as_ref()?)));
        failed.map(|(server, (step, why))| (server.clone(), *step, why.clone())).collect()
    }
}

#[cfg(test)]
#[path = "roll_tests.rs"]
mod tests;
