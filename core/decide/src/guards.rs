//! Guards: what was observed against what was settled, and two lists of them against each other.
//!
//! **What could not be told is never a pass.** Where the operator has set a limit, or named a command, a file or a
//! member to be asked, or where nothing works without the answer (`permission`, `disk`, `certificates`, `backup`,
//! `command`), it refuses. Where the question is only what else is going on (`failed-units`, `users`, `clock`,
//! `last-door`), it warns.

use std::collections::BTreeSet;

use ebb_model::{
    Change, Check, Checks, Fact, Guard, GuardSettings, Login, Measured, Others, Permit, Span, Trend, Unit, Verdict,
    Wall, duration, printable,
};

/// Names in one line; more are counted.
const NAMED: usize = 5;
/// A clock of another machine, or a file of one, may be ahead by so much.
const AHEAD: Span = Span::seconds(300);

/// What a guard says: `seen` is the fact that was observed for its check, or why it could not be.
#[must_use]
pub fn judge(name: &str, settings: &GuardSettings, seen: &Result<Fact, String>, now: Wall) -> Guard {
    let finding = match seen {
        Ok(fact) => find(&settings.check, fact, now).unwrap_or_else(|| {
            // Only a fault of ours: the fact of another check.
            Finding::new(Verdict::Refuse, "it could not be told: something else was observed")
        }),
        Err(why) => Finding::new(unknown(&settings.check), format!("it could not be told: {}", printable(why))),
    };
    let mut verdict = finding.verdict;
    if settings.warn_only {
        verdict = verdict.min(Verdict::Warn);
    }
    Guard {
        name: name.to_owned(),
        verdict,
        why: finding.why,
        measured: finding.measured,
        amiss: finding.amiss,
        of_beginning: matches!(settings.check, Check::Users | Check::LastDoor { .. } | Check::Backup { .. }),
    }
}

/// What a guard says that could not be told.
#[must_use]
pub const fn unknown(check: &Check) -> Verdict {
    match check {
        Check::FailedUnits | Check::Users | Check::Clock | Check::LastDoor { .. } => Verdict::Warn,
        Check::Permission
        | Check::Disk { .. }
        | Check::Certificates { .. }
        | Check::Backup { .. }
        | Check::Command { .. } => Verdict::Refuse,
    }
}

struct Finding {
    verdict: Verdict,
    why: String,
    measured: Option<Measured>,
    amiss: BTreeSet<String>,
}

impl Finding {
    fn new(verdict: Verdict, why: impl Into<String>) -> Self {
        Self { verdict, why: why.into(), measured: None, amiss: BTreeSet::new() }
    }

    fn with(mut self, value: f64, unit: Unit) -> Self {
        self.measured = Some(Measured { value, unit });
        self
    }

    fn amiss(mut self, names: BTreeSet<String>) -> Self {
        self.amiss = names;
        self
    }
}

fn find(check: &Check, fact: &Fact, now: Wall) -> Option<Finding> {
    Some(match (check, fact) {
        (Check::Permission, Fact::Permits(permits)) => permission(permits),
        (Check::Disk { path, warn_percent, refuse_percent }, Fact::Disk { free_percent, inodes_free_percent }) => {
            disk(path, (*warn_percent, *refuse_percent), *free_percent, *inodes_free_percent)
        }
        (Check::FailedUnits, Fact::FailedUnits(units)) => failed_units(units),
        (Check::Users, Fact::Logins(logins)) => users(logins),
        (Check::Certificates { warn, refuse, .. }, Fact::Certificates(all)) => certificates(all, (*warn, *refuse), now),
        (Check::Clock, Fact::Clock { synchronised: true }) => Finding::new(Verdict::Pass, "the clock is synchronised"),
        (Check::Clock, Fact::Clock { synchronised: false }) => {
            Finding::new(Verdict::Warn, "the kernel's clock is not synchronised: nobody sets it by a time server")
        }
        (Check::LastDoor { .. }, Fact::Others(services)) => last_door(services),
        (Check::Backup { warn, refuse, .. }, Fact::Backup { at, what }) => backup(*at, what, (*warn, *refuse), now),
        (Check::Command { .. }, Fact::Ended { code, line }) => command(*code, line),
        _ => return None,
    })
}

fn permission(permits: &[Permit]) -> Finding {
    let not = |permit: &&Permit| permit.granted.is_err();
    let amiss: BTreeSet<String> = permits.iter().filter(not).map(|permit| permit.step.to_owned()).collect();
    let verdict = match permits.iter().filter(not).map(|permit| permit.needed).max() {
        None => Verdict::Pass,
        Some(false) => Verdict::Warn,
        Some(true) => Verdict::Refuse,
    };
    let reason = |permit: &Permit| {
        permit.granted.as_ref().err().map(|why| format!("it cannot {}: {}", permit.step, printable(why)))
    };
    let reasons: Vec<String> = permits.iter().filter_map(reason).collect();
    if permits.is_empty() {
        return Finding::new(Verdict::Refuse, "it could not be told: no step was tried");
    }
    let steps = || permits.iter().map(|permit| permit.step).collect::<Vec<_>>().join(", ");
    let why = if reasons.is_empty() { format!("it may {}", steps()) } else { reasons.join("; ") };
    Finding::new(verdict, why).amiss(amiss)
}

fn disk(path: &str, (warn, refuse): (f64, f64), free: f64, inodes: Option<f64>) -> Finding {
    // The scarcer of the two decides. No number at all is the least of numbers.
    let least = inodes.map_or(free, |inodes| inodes.min(free));
    let least = if least.is_nan() { 0.0 } else { least };
    let limit = |verdict, limit: f64| (verdict, format!(", less than {limit} %"));
    let (verdict, said) = match least {
        least if least < refuse => limit(Verdict::Refuse, refuse),
        least if least < warn => limit(Verdict::Warn, warn),
        _ => (Verdict::Pass, String::new()),
    };
    let inodes = inodes.map_or_else(String::new, |inodes| format!(" of the space, {inodes:.1} % of the inodes"));
    let why = format!("{}: {free:.1} %{inodes} free{said}", printable(path));
    Finding::new(verdict, why).with(least, Unit::PercentFree)
}

fn failed_units(units: &BTreeSet<String>) -> Finding {
    let count = units.len() as f64;
    let why = match units.len() {
        0 => "no unit has failed".to_owned(),
        1 => format!("{} has failed", names(units)),
        number => format!("{number} units have failed: {}", names(units)),
    };
    let verdict = if units.is_empty() { Verdict::Pass } else { Verdict::Refuse };
    Finding::new(verdict, why).with(count, Unit::Count).amiss(units.clone())
}

fn users(logins: &[Login]) -> Finding {
    let said = |login: &Login| {
        let from = login.from.as_ref().map_or_else(String::new, |from| format!(" from {}", printable(from)));
        format!("{} at {}{from}", printable(&login.user), printable(&login.terminal))
    };
    let all: BTreeSet<String> = logins.iter().map(said).collect();
    let (verdict, why) = match all.len() {
        0 => (Verdict::Pass, "nobody else is logged in".to_owned()),
        _ => (Verdict::Refuse, format!("also logged in: {}", names(&all))),
    };
    Finding::new(verdict, why).with(all.len() as f64, Unit::Count).amiss(all)
}

fn certificates(all: &[(String, Result<Wall, String>)], (warn, refuse): (Span, Span), now: Wall) -> Finding {
    if all.is_empty() {
        return Finding::new(Verdict::Refuse, "it could not be told: no file fits");
    }
    // Signed seconds left; what cannot be read is as bad as what is over.
    let left = |until: Wall| (until.0.saturating_sub(now.0)) as f64 / 1000.0;
    let mut verdict = Verdict::Pass;
    let mut amiss = BTreeSet::new();
    let mut reasons = Vec::new();
    let mut soonest: Option<(f64, &str)> = None;
    for (file, until) in all {
        let file = file.as_str();
        let one = match until {
            Err(why) => {
                reasons.push(format!("{}: {}", printable(file), printable(why)));
                Verdict::Refuse
            }
            Ok(until) => {
                let left = left(*until);
                if soonest.is_none_or(|(least, _)| left < least) {
                    soonest = Some((left, file));
                }
                let one = within(left, warn, refuse);
                if one != Verdict::Pass {
                    reasons.push(expires(file, left));
                }
                one
            }
        };
        if one != Verdict::Pass {
            amiss.insert(file.to_owned());
        }
        verdict = verdict.max(one);
    }
    let why = match (reasons.is_empty(), soonest) {
        (true, Some((left, file))) if all.len() > 1 => {
            format!("{} certificates; the first: {}", all.len(), expires(file, left))
        }
        (true, Some((left, file))) => expires(file, left),
        _ => some(&reasons, "; "),
    };
    let finding = Finding::new(verdict, why).amiss(amiss);
    match soonest {
        Some((left, _)) => finding.with(left, Unit::SecondsLeft),
        None => finding,
    }
}

fn within(left: f64, warn: Span, refuse: Span) -> Verdict {
    match left {
        left if left <= 0.0 || left < refuse.as_seconds() => Verdict::Refuse,
        left if left < warn.as_seconds() => Verdict::Warn,
        _ => Verdict::Pass,
    }
}

fn expires(file: &str, left: f64) -> String {
    let span = Span((left.abs() * 1000.0) as u64);
    let file = printable(file);
    if left > 0.0 {
        format!("{file} is valid for {} more", duration(span))
    } else {
        format!("{file} expired {} ago", duration(span))
    }
}

fn last_door(services: &[Others]) -> Finding {
    let unknown: BTreeSet<String> =
        services.iter().filter(|one| one.members.is_empty()).map(|one| one.service.clone()).collect();
    let alone = |one: &&Others| !one.members.is_empty() && one.members.iter().all(|(_, met)| met.is_err());
    let mut verdict = Verdict::Pass;
    let mut reasons = Vec::new();
    for one in services.iter().filter(alone) {
        verdict = Verdict::Refuse;
        let met = one
            .members
            .iter()
            .filter_map(|(at, met)| met.as_ref().err().map(|why| format!("{} is {}", printable(at), printable(why))));
        let met: Vec<String> = met.collect();
        reasons.push(format!("no other member of {} answers: {}", printable(&one.service), some(&met, ", ")));
    }
    let mut amiss: BTreeSet<String> = services.iter().filter(alone).map(|one| one.service.clone()).collect();
    if !unknown.is_empty() {
        verdict = verdict.max(Verdict::Warn);
        reasons.push(format!("no other member is known for {}", names(&unknown)));
        amiss.extend(unknown);
    }
    let why = match (services.is_empty(), reasons.is_empty()) {
        (true, _) => "no service has a door for others".to_owned(),
        (_, true) => "each service has another member that answers".to_owned(),
        _ => reasons.join("; "),
    };
    Finding::new(verdict, why).with(amiss.len() as f64, Unit::Count).amiss(amiss)
}

fn backup(at: Wall, what: &str, (warn, refuse): (Span, Span), now: Wall) -> Finding {
    let what = printable(what);
    if at.0 > (now + AHEAD).0 {
        let ahead = duration(at.since(now));
        // Fresh backups forever, by a clock that is wrong: that is no pass.
        return Finding::new(Verdict::Refuse, format!("{what} lies {ahead} in the future: a clock is wrong"));
    }
    let age = now.since(at);
    let than = |limit: Span| format!(", more than {}", duration(limit));
    let (verdict, said) = match age {
        age if age > refuse => (Verdict::Refuse, than(refuse)),
        age if age > warn => (Verdict::Warn, than(warn)),
        _ => (Verdict::Pass, String::new()),
    };
    let why = format!("the newest, {what}, is {} old{said}", duration(age));
    Finding::new(verdict, why).with(age.as_seconds(), Unit::SecondsOld)
}

fn command(code: Option<i32>, line: &str) -> Finding {
    let verdict = match code {
        Some(0) => Verdict::Pass,
        Some(1) => Verdict::Warn,
        _ => Verdict::Refuse,
    };
    let ended = code.map_or_else(|| "it was killed by a signal".to_owned(), |code| format!("it ended with {code}"));
    let line = printable(line.trim());
    let why = if line.is_empty() { format!("{ended}, and said nothing") } else { line };
    let finding = Finding::new(verdict, why);
    match code {
        Some(code) => finding.with(f64::from(code), Unit::ExitCode),
        None => finding,
    }
}

fn names(all: &BTreeSet<String>) -> String {
    let all: Vec<String> = all.iter().map(|name| printable(name)).collect();
    some(&all, ", ")
}

/// The first few, and how many more there are.
fn some(all: &[String], between: &str) -> String {
    let mut said = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(between);
    if all.len() > NAMED {
        said.push_str(&format!("{between}and {} more", all.len() - NAMED));
    }
    said
}

/// Two lists against each other: each guard of either, in the order of `after`, then those that are gone.
#[must_use]
pub fn diff(before: &Checks, after: &Checks) -> Vec<Change> {
    let of = |all: &Checks, name: &str| all.guards.iter().find(|guard| guard.name == name).cloned();
    let mut changes: Vec<Change> =
        after.guards.iter().map(|now| change(of(before, &now.name), Some(now.clone()), &now.name)).collect();
    let gone = before.guards.iter().filter(|was| of(after, &was.name).is_none());
    changes.extend(gone.map(|was| change(Some(was.clone()), None, &was.name)));
    changes
}

/// Whether nothing speaks against coming back: no regression among the changes.
#[must_use]
pub fn better_or_equal(changes: &[Change]) -> bool {
    !changes.iter().any(|change| change.regression)
}

fn change(before: Option<Guard>, after: Option<Guard>, name: &str) -> Change {
    let trend = match (&before, &after) {
        (Some(was), Some(now)) => trend(was, now),
        (None, _) => Trend::New,
        (_, None) => Trend::Gone,
    };
    let regression = after.as_ref().is_some_and(|now| {
        let refuses_anew = trend == Trend::New && now.verdict == Verdict::Refuse;
        !now.of_beginning && (trend == Trend::Worse || refuses_anew)
    });
    Change { name: name.to_owned(), trend, before, after, regression }
}

/// By verdict; of two that are no pass and equal, by what is amiss: something new there is worse.
fn trend(was: &Guard, now: &Guard) -> Trend {
    match now.verdict.cmp(&was.verdict) {
        std::cmp::Ordering::Greater => Trend::Worse,
        std::cmp::Ordering::Less if now.amiss.is_subset(&was.amiss) => Trend::Better,
        // Better as a whole, and yet something is amiss that was not.
        std::cmp::Ordering::Less if now.verdict == Verdict::Pass => Trend::Better,
        std::cmp::Ordering::Less => Trend::Worse,
        std::cmp::Ordering::Equal if !now.amiss.is_subset(&was.amiss) => Trend::Worse,
        std::cmp::Ordering::Equal if now.amiss != was.amiss => Trend::Better,
        std::cmp::Ordering::Equal => Trend::Same,
    }
}

#[cfg(test)]
#[path = "guards_tests.rs"]
mod tests;
