//! What must be, told in another way than the code under test tells it: a list of who wishes what, and nothing else.

use std::collections::BTreeSet;

use ebb_model::Level;

/// One wish: of a requester, on a service or, with none, on the server.
#[derive(Clone, Debug)]
pub struct Wish {
    pub requester: usize,
    pub service: Option<usize>,
    pub level: Level,
    /// When it ends, by the count of milliseconds that have really passed; and whether the service comes back then.
    pub end: Option<(u64, bool)>,
    /// Of one on the server: services that it leaves open.
    pub open: BTreeSet<usize>,
}

/// All wishes that stand.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    pub wishes: Vec<Wish>,
}

impl Reference {
    /// A requester wishes again: the newer word on the end counts, the graver level stays.
    pub fn wish(&mut self, new: Wish) {
        match self.wishes.iter_mut().find(|old| (old.requester, old.service) == (new.requester, new.service)) {
            Some(old) => {
                old.level = old.level.max(new.level);
                old.end = new.end.or(old.end);
                old.open.extend(new.open);
            }
            None => self.wishes.push(new),
        }
    }

    /// Nobody wishes anything.
    pub const fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }

    /// False if there was no such wish.
    pub fn release(&mut self, requester: usize, service: Option<usize>) -> bool {
        let before = self.wishes.len();
        self.wishes.retain(|wish| (wish.requester, wish.service) != (requester, service));
        self.wishes.len() < before
    }

    /// Who holds a service, at which level, and whether with the server. `there`: services that have ever listened while
    /// the server was held.
    pub fn holders(&self, service: usize, covered: impl Fn(usize, usize) -> bool) -> Vec<(usize, Level, bool)> {
        let mut holders: Vec<_> = self
            .wishes
            .iter()
            .filter(|wish| match wish.service {
                Some(own) => own == service,
                None => covered(wish.requester, service) && !wish.open.contains(&service),
            })
            .map(|wish| (wish.requester, wish.level, wish.service.is_none()))
            .collect();
        holders.sort_by_key(|(requester, _, server)| (*server, *requester));
        holders
    }

    /// Those whose time has really come and that bring the service back then.
    pub fn over(&self, passed: u64) -> Vec<(usize, Option<usize>)> {
        let over = self.wishes.iter().filter(|wish| wish.end.is_some_and(|(at, reopen)| reopen && at <= passed));
        over.map(|wish| (wish.requester, wish.service)).collect()
    }
}
