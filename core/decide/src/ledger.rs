//! The ledger of one drain: who was there, who has gone and how, and who should not be there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ebb_model::{Age, Counts, How, Mono, Oldest, SessionId, SessionState, Span, Tally};

/// One session in a whole census.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its name.
    pub id: SessionId,
    /// Its client.
    pub peer: SocketAddr,
    /// How far it is.
    pub state: SessionState,
    /// How old it is.
    pub age: Age,
    /// Its client is in a range of `--except`.
    pub may_enter: bool,
    /// *Drained* waits for it. It does not for replication, or for a connection that only carries what its daemon tells.
    pub counts: bool,
    /// Nothing is under way on it: an end now loses nothing.
    pub idle: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: SessionState,
    excepted: bool,
    ending: Option<How>,
    counts: bool,
    /// It cannot be ended by us.
    kept: bool,
    idle: bool,
    /// When it was told goodbye before the deadline.
    asked: Option<Mono>,
}

/// Who was there when the gate was shut, and what became of them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    baseline: Option<BTreeSet<SessionId>>,
    present: BTreeMap<SessionId, Entry>,
    leaked: BTreeSet<SessionId>,
    counts: Counts,
    oldest: Option<Oldest>,
    tally: Tally,
    last_end: Option<Mono>,
    /// Ends in each of the last seconds, newest last: second and number.
    rate: Vec<(u64, u64)>,
}

impl Ledger {
    /// A ledger that goes on after a crash: `baseline` was there when the gate was shut. Those whom the next
    /// census does not find ended while nobody watched.
    #[must_use]
    pub fn continued(baseline: BTreeSet<SessionId>, at_start: u64) -> Self {
        let unseen = Entry {
            state: SessionState::Established,
            excepted: false,
            ending: None,
            counts: true,
            kept: false,
            idle: false,
            asked: None,
        };
        let mut counts = Counts::default();
        baseline.iter().for_each(|_| counts.add(unseen.state, false));
        Self {
            present: baseline.iter().map(|id| (*id, unseen)).collect(),
            baseline: Some(baseline),
            counts,
            tally: Tally { at_start, ..Tally::default() },
            ..Self::default()
        }
    }

    /// Who was there when the gate was shut; none before the first census.
    #[must_use]
    pub const fn baseline(&self) -> Option<&BTreeSet<SessionId>> {
        self.baseline.as_ref()
    }

    /// Takes a whole census. The first one is the baseline; after it, a session that was not there is a
    /// leak unless its client may enter or `late` says that such may appear (SYN cookies). A UDP flow is
    /// none either: it is known because the gate learnt it before it shut. Answers with the new leaks.
    pub fn observe(&mut self, seen: &[Seen], late: bool, now: Mono) -> Vec<SessionId> {
        let first = self.baseline.is_none();
        let mut present = BTreeMap::new();
        let mut leaks = Vec::new();
        self.counts = Counts::default();
        self.oldest = None;
        for session in seen {
            let known = self.baseline.as_ref().is_some_and(|baseline| baseline.contains(&session.id));
            let fresh = !first && !known;
            let excepted = fresh && session.may_enter;
            if fresh && !excepted && session.state != SessionState::Orphan {
                if late || matches!(session.state, SessionState::Flow | SessionState::Use) {
                    self.baseline.as_mut().map(|baseline| baseline.insert(session.id));
                    self.tally.at_start += u64::from(session.counts);
                } else if self.leaked.insert(session.id) {
                    leaks.push(session.id);
                }
            }
            if session.counts {
                self.counts.add(session.state, excepted);
                self.note_oldest(session);
            }
            let before = self.present.get(&session.id);
            let (ending, kept, asked) =
                before.map_or((None, false, None), |entry| (entry.ending, entry.kept, entry.asked));
            let Seen { state, counts, idle, .. } = *session;
            present.insert(session.id, Entry { state, excepted, ending, counts, kept, idle, asked });
        }
        // A session ends when nobody but the kernel owns its socket any more, or when the socket is gone.
        let orphaned = |entry: &Entry| entry.state == SessionState::Orphan;
        let gone: Vec<Entry> = self
            .present
            .iter()
            .filter(|(id, entry)| !orphaned(entry) && present.get(id).is_none_or(orphaned))
            .map(|(_, entry)| *entry)
            .collect();
        self.present = present;
        for entry in gone {
            self.ended(entry, now);
        }
        if first {
            self.baseline = Some(self.sessions().collect());
            self.tally.at_start = self.counts.left();
        }
        leaks
    }

    /// Takes the kernel's word that a session has gone.
    pub fn closed(&mut self, id: SessionId, now: Mono) {
        let Some(entry) = self.present.remove(&id) else { return };
        if !entry.counts {
            return;
        }
        match entry.state {
            SessionState::Opening => self.counts.opening -= 1,
            SessionState::NotAccepted => self.counts.not_accepted -= 1,
            SessionState::Orphan => self.counts.orphans -= 1,
            SessionState::Established
            | SessionState::PeerClosed
            | SessionState::Closing
            | SessionState::Flow
            | SessionState::Use => {
                self.counts.accepted -= 1;
            }
        }
        self.counts.excepted -= u64::from(entry.excepted && entry.state != SessionState::Orphan);
        if self.oldest.as_ref().is_some_and(|oldest| oldest.id == id) {
            self.oldest = None;
        }
        self.ended(entry, now);
    }

    /// Remembers that we are about to end these.
    pub fn ending(&mut self, ids: &[SessionId], how: How) {
        for id in ids {
            if let Some(entry) = self.present.get_mut(id) {
                entry.ending = Some(how);
            }
        }
    }

    /// Those of a class who are to be told goodbye before the deadline, and were not since `since`. Remembers that they
    /// are now.
    pub fn ask(&mut self, class: impl Fn(bool) -> bool, since: Mono, now: Mono) -> Vec<SessionId> {
        let mut asked = Vec::new();
        for (id, entry) in &mut self.present {
            if endable(entry) && class(entry.idle) && entry.asked.is_none_or(|at| at < since) {
                entry.asked = Some(now);
                asked.push(*id);
            }
        }
        asked
    }

    /// These heard no goodbye after all.
    pub fn not_told(&mut self, ids: &[SessionId]) {
        for id in ids {
            if let Some(entry) = self.present.get_mut(id)
                && entry.ending == Some(How::Goodbye)
            {
                entry.ending = None;
            }
        }
    }

    /// Nobody is meant to be ended any more.
    pub fn spare(&mut self) {
        self.present.values_mut().for_each(|entry| (entry.ending, entry.asked) = (None, None));
    }

    /// Remembers that these cannot be ended by us.
    pub fn kept(&mut self, ids: &[SessionId]) {
        for id in ids {
            if let Some(entry) = self.present.get_mut(id) {
                (entry.kept, entry.ending) = (true, None);
            }
        }
    }

    /// `count` of those we meant to destroy had gone by themselves before we came to them.
    pub fn were_gone(&mut self, count: u64) {
        let count = count.min(self.tally.cut);
        self.tally.cut -= count;
        self.tally.by_themselves += count;
    }

    fn note_oldest(&mut self, session: &Seen) {
        if session.state == SessionState::Orphan {
            return;
        }
        let age = session.age.at_least();
        if self.oldest.as_ref().is_none_or(|oldest| oldest.age.at_least() < age) {
            self.oldest = Some(Oldest { id: session.id, peer: session.peer, age: session.age });
        }
    }

    fn ended(&mut self, entry: Entry, now: Mono) {
        // An orphan's session was counted when its owner closed it.
        if !entry.counts || entry.excepted || entry.state == SessionState::Orphan {
            return;
        }
        match entry.ending {
            None => self.tally.by_themselves += 1,
            Some(How::Goodbye) => self.tally.by_us += 1,
            Some(How::Destroy) => self.tally.cut += 1,
        }
        self.last_end = Some(now);
        let second = now.0 / 1000;
        match self.rate.last_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => self.rate.push((second, 1)),
        }
        self.rate.retain(|(at, _)| at + 60 > second);
    }

    /// The numbers now.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Every session there now that is one: orphans are not.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.present.iter().filter(|(_, entry)| entry.state != SessionState::Orphan).map(|(id, _)| *id)
    }

    /// Those that can be ended: a UDP flow has no connection that the kernel could end.
    pub fn endable(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.present.iter().filter(|(_, entry)| endable(entry)).map(|(id, _)| *id)
    }

    /// The oldest, as of the last whole census.
    #[must_use]
    pub const fn oldest(&self) -> Option<&Oldest> {
        self.oldest.as_ref()
    }

    /// What has become of the sessions so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally { left: self.counts.left(), ..self.tally }
    }

    /// Leaks so far, gone or not.
    #[must_use]
    pub fn leaks(&self) -> u64 {
        self.leaked.len() as u64
    }

    /// When the last session ended.
    #[must_use]
    pub const fn last_end(&self) -> Option<Mono> {
        self.last_end
    }

    /// Sessions that ended per minute, over the last minute or the time since `since` if that is shorter.
    #[must_use]
    pub fn ending_per_minute(&self, since: Mono, now: Mono) -> f64 {
        let window = now.since(since).min(Span::seconds(60)).as_seconds().max(1.0);
        let oldest = (now.0 / 1000).saturating_sub(59);
        let ended: u64 = self.rate.iter().filter(|(second, _)| *second >= oldest).map(|(_, count)| count).sum();
        ended as f64 * 60.0 / window
    }
}

const fn endable(entry: &Entry) -> bool {
    entry.counts && !entry.kept && !matches!(entry.state, SessionState::Orphan | SessionState::Flow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: u64, state: SessionState, may_enter: bool) -> Seen {
        let peer = "10.0.0.9:1000".parse().unwrap();
        Seen { id: SessionId(id), peer, state, age: Age::AtLeast(Span(id)), may_enter, counts: true, idle: false }
    }

    fn open(id: u64) -> Seen {
        seen(id, SessionState::Established, false)
    }

    #[test]
    fn those_there_at_first_are_no_leaks_and_others_are() {
        let mut ledger = Ledger::default();
        assert!(ledger.observe(&[open(1), seen(2, SessionState::Opening, false)], false, Mono(0)).is_empty());
        assert_eq!(ledger.observe(&[open(2), open(3)], false, Mono(1)), [SessionId(3)]);
        assert!(ledger.observe(&[open(2), open(3)], false, Mono(2)).is_empty(), "said once");
        assert_eq!((ledger.leaks(), ledger.tally().at_start, ledger.tally().by_themselves), (1, 2, 1));
    }

    #[test]
    fn what_does_not_count_is_neither_waited_for_nor_told_nor_ended_and_may_count_later() {
        let mut ledger = Ledger::default();
        let carrier = Seen { counts: false, ..open(1) };
        ledger.observe(&[carrier, open(2)], false, Mono(0));
        assert_eq!((ledger.counts().left(), ledger.tally().at_start), (1, 1));
        assert_eq!(ledger.endable().collect::<Vec<_>>(), [SessionId(2)]);
        ledger.closed(SessionId(2), Mono(1));
        assert_eq!((ledger.counts().left(), ledger.tally().by_themselves), (0, 1));
        // Its daemon is not read any more: the kernel's word counts, and it is no leak.
        assert!(ledger.observe(&[open(1)], false, Mono(2)).is_empty());
        assert_eq!((ledger.counts().left(), ledger.leaks()), (1, 0));
        ledger.observe(&[carrier], false, Mono(3));
        ledger.closed(SessionId(1), Mono(4));
        assert_eq!((ledger.counts().left(), ledger.tally().by_themselves), (0, 1));
    }

    #[test]
    fn a_client_behind_a_syn_cookie_is_late_and_no_leak() {
        let mut ledger = Ledger::default();
        ledger.observe(&[open(1)], false, Mono(0));
        assert!(ledger.observe(&[open(1), open(2)], true, Mono(1)).is_empty());
        assert!(ledger.observe(&[open(1), open(2)], false, Mono(2)).is_empty());
        assert_eq!((ledger.leaks(), ledger.tally().at_start), (0, 2));
    }

    #[test]
    fn a_flow_that_is_learnt_after_the_first_census_was_there_and_is_no_leak() {
        let mut ledger = Ledger::default();
        ledger.observe(&[], false, Mono(0));
        assert!(ledger.observe(&[seen(1, SessionState::Flow, false)], false, Mono(1)).is_empty());
        assert_eq!((ledger.leaks(), ledger.tally().at_start), (0, 1));
        assert_eq!(ledger.baseline().map(BTreeSet::len), Some(1));
    }

    #[test]
    fn testers_are_counted_apart_and_never_leak() {
        let mut ledger = Ledger::default();
        ledger.observe(&[seen(1, SessionState::Established, true)], false, Mono(0));
        assert_eq!(ledger.counts().excepted, 0, "it came before the gate: a session like others");
        let both = [seen(1, SessionState::Established, true), seen(2, SessionState::Established, true)];
        assert!(ledger.observe(&both, false, Mono(1)).is_empty());
        assert_eq!((ledger.counts().excepted, ledger.counts().left()), (1, 2));
    }

    #[test]
    fn ends_are_attributed_and_events_agree_with_censuses() {
        let mut ledger = Ledger::default();
        ledger.observe(&(1..=5).map(open).collect::<Vec<_>>(), false, Mono(0));
        ledger.ending(&[SessionId(2)], How::Goodbye);
        ledger.ending(&[SessionId(3), SessionId(4)], How::Destroy);
        ledger.closed(SessionId(1), Mono(10));
        ledger.closed(SessionId(1), Mono(10));
        ledger.observe(&[open(5)], false, Mono(20));
        ledger.were_gone(1);
        let tally = ledger.tally();
        assert_eq!((tally.by_themselves, tally.by_us, tally.cut, tally.left), (2, 1, 1, 1));
        assert_eq!(ledger.last_end(), Some(Mono(20)));
    }

    #[test]
    fn a_session_ends_once_when_the_kernel_alone_is_left_with_it() {
        let mut ledger = Ledger::default();
        ledger.observe(&[open(1)], false, Mono(0));
        ledger.observe(&[seen(1, SessionState::Orphan, false)], false, Mono(1));
        assert_eq!((ledger.tally().by_themselves, ledger.tally().left), (1, 0));
        ledger.closed(SessionId(1), Mono(2));
        assert_eq!(ledger.tally().by_themselves, 1);
    }

    #[test]
    fn who_ended_while_nobody_watched_is_counted_when_the_drain_goes_on() {
        let mut ledger = Ledger::continued((1..=5).map(SessionId).collect(), 5);
        ledger.closed(SessionId(1), Mono(9)); // told before the first census
        assert!(ledger.observe(&[open(4), open(5)], false, Mono(10)).is_empty());
        let tally = ledger.tally();
        assert_eq!((tally.at_start, tally.by_themselves, tally.left), (5, 3, 2));
    }

    #[test]
    fn orphans_are_no_sessions() {
        let mut ledger = Ledger::default();
        ledger.observe(&[seen(1, SessionState::Orphan, false)], false, Mono(0));
        assert_eq!((ledger.counts().left(), ledger.counts().orphans), (0, 1));
        assert_eq!(ledger.sessions().count(), 0);
        assert!(ledger.oldest().is_none());
    }
}
