//! Whether the sessions of a service are to be protected from stops and reboots by somebody else.

use std::collections::BTreeMap;

use ebb_model::{Mono, ServiceName, Span};

/// A first session must have been there for this long: who comes and goes within it needs no protection, and systemd is not
/// made to read its files for each.
const SETTLED: Span = Span::seconds(2);
/// Protection stays for this long after the last session, for the next may come.
const QUIET: Span = Span::seconds(15);

/// What was seen of one protected service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Sessions now; none if they could not be counted, which is not zero.
    pub sessions: Option<u64>,
    /// The oldest is at least this old.
    pub oldest: Span,
    /// Somebody holds it: no newcomer will follow the last session.
    pub held: bool,
}

/// What is remembered of one service between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Since when it has not been empty for long.
    pub since: Mono,
    /// When the last session was seen.
    pub last: Mono,
    /// How many there were then.
    pub sessions: u64,
    /// It is protected.
    pub protected: bool,
}

/// All services of which something is remembered.
pub type Memories = BTreeMap<ServiceName, Memory>;

/// What is remembered after this look.
#[must_use]
pub fn step(before: &Memories, seen: &BTreeMap<ServiceName, Seen>, now: Mono) -> Memories {
    let next = |(name, seen): (&ServiceName, &Seen)| Some((name.clone(), one(before.get(name), *seen, now)?));
    seen.iter().filter_map(next).collect()
}

fn one(before: Option<&Memory>, seen: Seen, now: Mono) -> Option<Memory> {
    match (seen.sessions, before) {
        // Not counted: it stays as it was.
        (None, before) => before.copied(),
        (Some(0), None) => None,
        (Some(0), Some(before)) => {
            let over = seen.held || !before.protected || now.since(before.last) >= QUIET;
            (!over).then_some(Memory { sessions: 0, ..*before })
        }
        (Some(sessions), before) => {
            let born = Mono(now.0.saturating_sub(seen.oldest.0));
            let since = before.map_or(born, |before| before.since.min(born));
            let protected = before.is_some_and(|before| before.protected) || now.since(since) >= SETTLED;
            Some(Memory { since, last: now, sessions, protected })
        }
    }
}

/// Which are protected.
pub fn protected(memories: &Memories) -> impl Iterator<Item = (&ServiceName, &Memory)> {
    memories.iter().filter(|(_, memory)| memory.protected)
}

/// Names in a line; the first of many.
const NAMED: usize = 3;

/// `3 sessions on nginx since 41 min, 1 session on chat since 2 s: drain first (ebb drain nginx chat), or override (...)`.
#[must_use]
pub fn now_text(memories: &Memories, now: Mono) -> String {
    let counted = |(name, memory): (&ServiceName, &Memory)| {
        let word = if memory.sessions == 1 { "session" } else { "sessions" };
        format!("{} {word} on {name} since {}", memory.sessions, roughly(now.since(memory.since)))
    };
    let parts: Vec<String> = protected(memories).map(counted).collect();
    let names: Vec<ServiceName> = protected(memories).map(|(name, _)| name.clone()).collect();
    let drain = drain(&names);
    format!("{}: drain first ({drain}), or override (ebb protect off --reason TEXT)", few(&parts))
}

/// The same without figures, which would be old by the time they are read.
#[must_use]
pub fn lasting_text(names: &[ServiceName]) -> String {
    format!("sessions live on {}. Drain first: {}. Override: ebb protect off", few(names), drain(names))
}

fn few<T: std::fmt::Display>(parts: &[T]) -> String {
    let list: Vec<String> = parts.iter().take(NAMED).map(ToString::to_string).collect();
    let more = parts.len().saturating_sub(NAMED);
    if more == 0 { list.join(", ") } else { format!("{} and {more} more", list.join(", ")) }
}

fn drain(names: &[ServiceName]) -> String {
    let list: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
    if list.len() > NAMED { "ebb drain SERVICE...".to_owned() } else { format!("ebb drain {}", list.join(" ")) }
}

/// In whole units: a line that is not written anew each second.
fn roughly(span: Span) -> String {
    match span.0 / 1000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ServiceName {
        ServiceName::new("nginx").unwrap()
    }

    /// Looks one after the other, each a second with these sessions; what is remembered at the end.
    fn looks(all: &[(Option<u64>, u64, bool)]) -> Option<Memory> {
        let mut memories = Memories::new();
        for (at, (sessions, oldest, held)) in all.iter().enumerate() {
            let seen = Seen { sessions: *sessions, oldest: Span::seconds(*oldest), held: *held };
            memories = step(&memories, &[(name(), seen)].into(), Mono(1_000_000 + at as u64 * 1000));
        }
        memories.get(&name()).copied()
    }

    #[test]
    fn a_session_that_stays_is_protected_and_one_that_passes_is_not() {
        assert!(!looks(&[(Some(1), 0, false)]).unwrap().protected);
        assert!(looks(&[(Some(1), 0, false); 3]).unwrap().protected);
        assert!(looks(&[(Some(1), 60, false)]).unwrap().protected, "it was there before us");
        assert!(!looks(&[(Some(1), 0, false), (Some(0), 0, false), (Some(1), 0, false)]).unwrap().protected);
    }

    #[test]
    fn protection_outlives_the_last_session_for_a_while_unless_held() {
        let mut all = vec![(Some(2), 60, false)];
        all.extend([(Some(0), 0, false); 14]);
        assert!(looks(&all).unwrap().protected);
        all.push((Some(0), 0, false));
        assert_eq!(looks(&all), None);
        assert_eq!(looks(&[(Some(2), 60, false), (Some(0), 0, true)]), None, "held, nobody follows");
        assert!(looks(&[(Some(2), 60, true)]).unwrap().protected, "a drain protects who is left from others");
    }

    #[test]
    fn a_count_that_could_not_be_read_changes_nothing() {
        assert_eq!(looks(&[(None, 0, false)]), None);
        let mut all = vec![(Some(2), 60, false)];
        all.extend([(None, 0, false); 100]);
        assert!(looks(&all).unwrap().protected);
    }

    #[test]
    fn words_name_figures_and_help() {
        let memory = Memory { since: Mono(0), last: Mono(0), sessions: 3, protected: true };
        let memories: Memories = [(name(), memory)].into();
        let help = "drain first (ebb drain nginx), or override (ebb protect off --reason TEXT)";
        let text = now_text(&memories, Mono(41 * 60_000));
        assert_eq!(text, format!("3 sessions on nginx since 41 min: {help}"));
        let text = lasting_text(&[name()]);
        assert_eq!(text, "sessions live on nginx. Drain first: ebb drain nginx. Override: ebb protect off");
        let many = ["a", "b", "c", "d"].map(|name| ServiceName::new(name).unwrap());
        assert!(
            lasting_text(&many).starts_with("sessions live on a, b, c and 1 more. Drain first: ebb drain SERVICE...")
        );
    }
}
