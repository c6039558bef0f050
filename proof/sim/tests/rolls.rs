//! Random rolls over random pools: servers of several pools, failures, holds of others that come and go, members nobody
//! hears of, capacity that is used up, and a controller that is killed. An observer who knows nothing of the decisions looks
//! at the world each time a server is taken out. The number of rolls is `EBB_ROLLS`, or 2,000.

use std::collections::{BTreeMap, BTreeSet};

use ebb_decide::roll::{RollState, next};
use ebb_model::{Budget, Label, MemberStep, Roll, RollEntry, RollLine, RollPlan, Serving, Sight, Span, Wall, Work};
use ebb_sim::Dice;

/// No roll has more to do.
const MOST: usize = 4_000;
/// Where the room may never be enough, or nothing is possible, it is enough to see that nothing wrong is done for so long.
const ENOUGH: usize = 400;

struct Server {
    /// Held by somebody else until then.
    held_until: u64,
    /// Nobody hears of it until then.
    unheard_until: u64,
    sessions: u64,
    /// Out by us.
    out: bool,
    /// How long its maintenance takes.
    takes: u64,
}

struct World {
    now: u64,
    servers: BTreeMap<Label, Server>,
    roll: Roll,
    /// What is being done, and when it is over.
    flying: BTreeMap<Label, (MemberStep, u64)>,
    quiet: bool,
}

fn label(kind: &str, number: u64) -> Label {
    Label::new(format!("{kind}{number}")).expect("a label")
}

fn budget(dice: &mut Dice, members: BTreeSet<Label>, quiet: bool) -> Budget {
    let count = members.len() as u64;
    let groups = if dice.one_in(4) && !quiet {
        let (mut even, mut odd) = (BTreeSet::new(), BTreeSet::new());
        for (place, member) in members.iter().enumerate() {
            if place % 2 == 0 {
                even.insert(member.clone())
            } else {
                odd.insert(member.clone())
            };
        }
        vec![even, odd]
    } else {
        Vec::new()
    };
    Budget {
        max_unavailable: 1 + dice.below(count.div_ceil(3)) as usize,
        min_available: if dice.one_in(2) { dice.below(count) as usize } else { 0 },
        capacity: (!quiet && dice.one_in(3)).then(|| 50 + dice.below(200)),
        quorum: count > 2 && dice.one_in(3),
        groups,
        members,
    }
}

impl World {
    fn new(dice: &mut Dice) -> Self {
        let quiet = dice.one_in(3);
        let most = if dice.one_in(10) { 49 } else { 12 };
        let count = 2 + dice.below(most);
        let all: Vec<Label> = (0..count).map(|number| label("s", number)).collect();
        let mut pools = BTreeMap::new();
        pools.insert(label("p", 0), budget(dice, all.iter().cloned().collect(), quiet));
        for number in 1..=(if quiet { 0 } else { dice.below(3) }) {
            let members: BTreeSet<Label> = all.iter().filter(|_| dice.one_in(2)).cloned().collect();
            if members.len() > 1 {
                pools.insert(label("p", number), budget(dice, members, quiet));
            }
        }
        let one = |dice: &mut Dice| Server {
            held_until: if !quiet && dice.one_in(8) { dice.below(400) } else { 0 },
            unheard_until: if !quiet && dice.one_in(10) { dice.below(400) } else { 0 },
            sessions: dice.below(100),
            out: false,
            takes: 20 + dice.below(80),
        };
        let servers = all.iter().map(|name| (name.clone(), one(dice))).collect();
        let plan = RollPlan {
            targets: all.into_iter().filter(|_| quiet || !dice.one_in(6)).collect(),
            pools,
            work: Work::Reboot,
            canary: if quiet { 0 } else { dice.below(3) as usize },
            max_failures: dice.below(3) as usize,
            soak: Span::seconds(5),
        };
        Self { now: 0, servers, roll: Roll { plan, journal: Vec::new() }, flying: BTreeMap::new(), quiet }
    }

    fn serves(&self, server: &Label) -> bool {
        let one = &self.servers[server];
        !one.out && one.held_until <= self.now
    }

    fn sight(&self) -> Sight {
        let of = |server: &Label| {
            let one = &self.servers[server];
            if one.unheard_until > self.now {
                Serving::Unknown { why: "not heard of".into() }
            } else if self.serves(server) {
                Serving::Yes { sessions: one.sessions }
            } else {
                Serving::No { why: "held".into() }
            }
        };
        let pool = |budget: &Budget| budget.members.iter().map(|one| (one.clone(), of(one))).collect();
        self.roll.plan.pools.iter().map(|(name, budget)| (name.clone(), pool(budget))).collect()
    }

    fn write(&mut self, entry: RollEntry) {
        self.roll.journal.push(RollLine { at: Wall(self.now as i64), entry, text: "it did".into() });
    }

    /// Somebody who looks at the world alone: may this one go out now?
    fn observe(&self, server: &Label, seed: u64) {
        for (name, budget) in self.roll.plan.pools.iter().filter(|(_, budget)| budget.members.contains(server)) {
            let serving: Vec<&Label> = budget.members.iter().filter(|one| self.serves(one)).collect();
            let (out, left) = (budget.members.len() - serving.len(), serving.len() as i64 - 1);
            let told = format!("roll {seed}: {server} of {name} at {}", self.now);
            assert!(serving.contains(&server), "{told}: it is another's");
            assert!(self.servers[server].unheard_until <= self.now, "{told}: nobody knows how it is");
            assert!(out < budget.max_unavailable, "{told}: {out} are out already");
            assert!(left >= budget.min_available as i64, "{told}: {left} would serve");
            assert!(!budget.quorum || left * 2 > budget.members.len() as i64, "{told}: no majority");
            // What nobody knows is neither room nor a burden.
            let known = serving.iter().filter(|one| self.servers[**one].unheard_until <= self.now);
            let (count, sessions) =
                known.fold((0, 0), |(count, sum), one| (count + 1, sum + self.servers[*one].sessions));
            assert!(budget.capacity.is_none_or(|one| sessions <= one * (count - 1)), "{told}: no room for {sessions}");
            let group = |one: &Label| budget.groups.iter().position(|group| group.contains(one));
            let others = budget.members.iter().filter(|one| !self.serves(one));
            let clash = others.filter(|one| group(one).is_some() && group(one) != group(server)).count();
            assert!(group(server).is_none() || clash == 0, "{told}: two groups are out");
        }
    }

    fn takes(&self, server: &Label, step: MemberStep) -> u64 {
        match step {
            MemberStep::SteerAway | MemberStep::SteerBack => 1,
            MemberStep::Settle => 2,
            MemberStep::Maintain | MemberStep::Undo => self.servers[server].takes,
            MemberStep::Soak => 5,
        }
    }

    /// One look, and what comes of it; true when it is over.
    fn turn(&mut self, dice: &mut Dice, seed: u64) -> bool {
        let decided = next(&self.roll, &self.sight());
        for (server, step) in decided.todo {
            if self.flying.contains_key(&server) {
                continue;
            }
            if step == MemberStep::SteerAway && !self.servers[&server].out {
                self.observe(&server, seed);
                self.servers.get_mut(&server).expect("it").out = true;
            }
            self.flying.insert(server.clone(), (step, self.now + self.takes(&server, step)));
            self.write(RollEntry::Began(server, step));
        }
        match decided.state {
            RollState::End | RollState::Over => return true,
            RollState::Halted(_) if dice.one_in(3) => self.write(RollEntry::AbortAsked),
            RollState::Halted(_) => self.write(RollEntry::ContinueAsked),
            RollState::UnderWay => {}
        }
        let first = self.flying.iter().min_by_key(|(_, (_, until))| *until).map(|(server, _)| server.clone());
        let Some(server) = first else {
            self.now += 10;
            return false;
        };
        let (step, until) = self.flying[&server];
        self.now = self.now.max(until);
        if !self.quiet && dice.one_in(30) {
            // The controller is killed, and what it was about is begun again by the next.
            self.flying.clear();
            return false;
        }
        self.flying.remove(&server);
        if !self.quiet && dice.one_in(25) {
            self.write(RollEntry::Failed(server, step));
            return false;
        }
        if matches!(step, MemberStep::SteerBack | MemberStep::Undo) {
            self.servers.get_mut(&server).expect("it").out = false;
        }
        self.write(RollEntry::Done(server, step));
        if !self.quiet && dice.one_in(10) {
            let one = label("s", dice.below(self.servers.len() as u64));
            let until = self.now + dice.below(100);
            let one = self.servers.get_mut(&one).expect("it");
            match dice.below(3) {
                0 if !one.out => one.held_until = until,
                1 => one.unheard_until = until,
                _ => one.sessions = dice.below(100),
            }
        }
        false
    }

    /// How long all of it must take at the least, with nothing in the way.
    fn at_least(&self) -> u64 {
        let budget = &self.roll.plan.pools[&label("p", 0)];
        let count = budget.members.len();
        let spare = if budget.quorum { count - count / 2 - 1 } else { count };
        let side_by_side = budget.max_unavailable.min(count - budget.min_available).min(spare).max(1);
        let mut each: Vec<u64> = self.servers.values().map(|one| one.takes + 9).collect();
        each.sort_unstable();
        let rounds: u64 = each.iter().take(count.div_ceil(side_by_side)).sum();
        let pair = if side_by_side < count { each[count - side_by_side - 1] + each[count - side_by_side] } else { 0 };
        let share = each.iter().sum::<u64>().div_ceil(side_by_side as u64);
        share.max(rounds).max(pair).max(each[count - 1])
    }
}

#[test]
fn no_budget_is_exceeded_and_each_roll_comes_to_its_end() {
    let rolls: u64 = std::env::var("EBB_ROLLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let (mut took, mut least, mut quiet, mut worst) = (0, 0, 0, 1.0_f64);
    for seed in 0..rolls {
        let mut dice = Dice::new(seed);
        let mut world = World::new(&mut dice);
        let possible = ebb_decide::roll::impossible(&world.roll.plan).is_empty();
        let crowded = world.roll.plan.pools.values().any(|budget| budget.capacity.is_some());
        let most = if crowded || !possible { ENOUGH } else { MOST };
        let over = (0..most).any(|_| world.turn(&mut dice, seed));
        assert!(over || crowded || !possible, "roll {seed}: no end: {:?}", next(&world.roll, &world.sight()));
        assert!(!over || world.servers.values().all(|server| !server.out), "roll {seed}: somebody was left out");
        let begun = world.roll.journal.iter().any(|line| matches!(line.entry, RollEntry::Began(..)));
        if world.quiet && possible {
            assert!(begun, "roll {seed}: nothing was done");
            quiet += 1;
            took += world.now;
            least += world.at_least();
            worst = worst.max(world.now as f64 / world.at_least() as f64);
        }
    }
    let ratio = took as f64 / least as f64;
    println!("{rolls} rolls; {quiet} with nothing in the way took {ratio:.3} of the lower bound, the worst {worst:.2}");
    assert!(ratio <= 1.2, "{ratio}");
}
