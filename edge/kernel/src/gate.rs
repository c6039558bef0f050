//! The gate: an nftables table that refuses new connections at chosen doors and leaves all that exists alone.
//!
//! TCP: only a SYN without ACK is looked at, and answered with a reset. UDP: flows are learnt into a set without
//! connection tracking, later only known ones pass; the kernel itself ends the learning. QUIC: only its Initial packets are refused. Nothing here uses `ct`,
//! so that connection tracking stays off where it is off, and a packet of an existing connection can never match.
//!
//! The table is plain data of the kernel: it outlives us, `nft list table inet NAME` prints it, and anybody with the
//! right may change it. [`Gate::apply`] therefore converges from whatever it finds, and [`Watch`] tells of changes.

mod elements;
mod expr;
mod layout;
mod message;
mod read;
#[cfg(test)]
mod tests;
mod types;
mod watch;

pub use types::{Applied, Door, Error, Except, Flow, Proto, Reach, Result, Rules, Seen, Support};
pub use watch::{Change, ChangeKind, Watch};

use std::time::{Duration, Instant};

use crate::netlink;
use elements::{Learning, Placed};
use layout::{Layout, SetNames};
use message::{Nft, Transaction};
use read::{Found, is_about};

/// How long a learnt UDP flow is remembered without a packet; the kernel refreshes it with each. Learning should last
/// at least the longest keepalive of the protocol (SIP 30 s, WireGuard 25 s).
pub const FLOW_TIMEOUT: Duration = Duration::from_secs(60);

/// Learning that would last no longer than this is not begun: it has ended.
pub const LEARN_LEAST: Duration = Duration::from_millis(100);

/// Two ends of learning that are no further apart are the same: time passes between our saying and the kernel's doing.
const LEARN_SLACK: Duration = Duration::from_secs(1);

/// How often somebody else's commits may come in between before we give up. One is microseconds.
const ATTEMPTS: u32 = 50;

/// The gate of one network namespace: that of the thread which opened it.
#[derive(Debug)]
pub struct Gate {
    nft: Nft,
    /// Whether this kernel takes the exception for more paths of an MPTCP connection.
    mptcp: bool,
    /// What the table holds, and the ruleset generation at which that was so.
    known: Option<Known>,
    /// Gates of other processes change the table too, rightly.
    shared: bool,
    /// What we last applied, to see elements that somebody else removed.
    applied: Option<Placed>,
    /// The rules of the table when we last made it or saw it whole.
    standing: Option<(Rules, Instant)>,
    /// Flows as last seen and when: a flushed table gets them back.
    flows: (Vec<Vec<u8>>, Option<Instant>),
}

#[derive(Debug)]
struct Known {
    generation: u32,
    /// `None`: there is no table.
    table: Option<Table>,
}

/// An intact table.
#[derive(Debug)]
struct Table {
    sets: SetNames,
    placed: Placed,
}

/// A change of the table.
#[derive(Debug)]
struct Plan {
    transaction: Transaction,
    /// What there is afterwards.
    table: Option<Table>,
    applied: Applied,
    /// It takes elements out that the kernel may take out itself at any moment.
    may_be_gone: bool,
}

/// Of the elements of learning doors: those to take out, those to put in, and those that there are afterwards.
fn learning(now: &Placed, wanted: &Placed) -> (Learning, Learning, Learning) {
    let clock = Instant::now();
    let stays = |key: &_, until: Instant| match wanted.learning.get(key) {
        Some(wish) => is_about(until, *wish),
        // It is about to go by itself; of a door that is none any more it must not stay even so long.
        None => until <= clock + LEARN_SLACK && wanted.refuses_after(key),
    };
    let (mut after, removed): (Learning, Learning) =
        now.learning.clone().into_iter().partition(|(key, until)| stays(key, *until));
    let mut added = wanted.learning.clone();
    added.retain(|key, until| !after.contains_key(key) && *until > clock + LEARN_LEAST);
    after.extend(added.clone());
    (removed, added, after)
}

impl Gate {
    /// Opens the way to the table `inet <table>` of this thread's network namespace. Changes nothing.
    ///
    /// # Errors
    ///
    /// No netlink socket (no nftables in this kernel), or a name that nftables does not take.
    pub fn open(table: &str) -> Result<Self> {
        let fits = table.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
            && table.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && table.len() < 128;
        if !fits {
            return Err(Error::Name { name: table.to_owned() });
        }
        let nft = Nft::open(table)?;
        watch::remember_port(nft.port());
        let flows = (Vec::new(), None);
        Ok(Self { nft, mptcp: true, known: None, shared: false, applied: None, standing: None, flows })
    }

    /// One of several gates that apply rules to the same table: what differs from what *this* one applied is no fault.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    /// The rules of the table when this gate last made it or saw it whole: what to put back when somebody has taken it
    /// away meanwhile. `None` when that was more than [`FLOW_TIMEOUT`] ago, or there was none.
    #[must_use]
    pub fn standing(&self) -> Option<&Rules> {
        self.standing.as_ref().filter(|(_, when)| when.elapsed() < FLOW_TIMEOUT).map(|(rules, _)| rules)
    }

    /// Forgets what stood, and the flows.
    pub fn forget(&mut self) {
        (self.standing, self.flows) = (None, (Vec::new(), None));
    }

    /// Makes the table exactly these rules, whatever is there: missing, altered by others, of an older version, partial.
    /// One atomic batch: at no instant is a door open that is shut before and after. An intact table gets only the
    /// elements that differ, and what sets and rules they need, and keeps its counters; another is rebuilt, with the UDP
    /// flows it knew. Nothing shut: the table is removed.
    ///
    /// # Errors
    ///
    /// The kernel's, with the name of the refused operation; then nothing has changed.
    pub fn apply(&mut self, rules: &Rules) -> Result<Applied> {
        let mut rules = rules.normal();
        if let Some(door) = rules.learn.keys().find(|door| door.proto != Proto::Udp) {
            return Err(Error::NotUdp { door: *door });
        }
        for _ in 0..ATTEMPTS {
            if !self.mptcp {
                rules.mptcp.clear();
                rules.tokens.clear();
            }
            let wanted = (!rules.is_empty()).then(|| Placed::of(&rules));
            let (known, altered) = self.known()?;
            let generation = known.generation;
            let Plan { transaction, table, applied, may_be_gone } = self.plan(known.table, altered, wanted);
            match self.nft.commit(transaction, generation) {
                Ok(generation) => {
                    self.applied = table.as_ref().map(|table| table.placed.clone());
                    self.known = Some(Known { generation, table });
                    if self.applied.is_some() {
                        self.standing = Some((rules, Instant::now()));
                    } else {
                        self.forget();
                    }
                    return Ok(applied);
                }
                // ERESTART: somebody else committed since we looked.
                Err(error) if error.errno() == Some(libc::ERESTART) => {}
                // ENOENT: what we meant to take out went by itself, which is no commit.
                Err(error) if may_be_gone && error.errno() == Some(libc::ENOENT) => {}
                Err(error) if self.mptcp && error.operation() == layout::MPTCP_RULE => self.mptcp = false,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { attempts: ATTEMPTS })
    }

    /// What there is now; `None` = no table.
    ///
    /// # Errors
    ///
    /// The kernel's. What could not be read whole is an error, never a short list.
    pub fn seen(&mut self) -> Result<Option<Seen>> {
        let (generation, found) = self.found(true)?;
        let Some(found) = found else {
            self.known = Some(Known { generation, table: None });
            return Ok(None);
        };
        let seen = found.seen(self.applied.as_ref().filter(|_| !self.shared));
        let now = Instant::now();
        if seen.intact() {
            self.standing = Some((seen.rules.clone(), now));
        }
        if found.structure.is_ok() {
            self.flows = (found.flows, Some(now));
        } else {
            // Whoever altered it may have taken flows out.
            self.flows.0.extend(found.flows);
            self.flows.0.sort_unstable();
            self.flows.0.dedup();
            self.flows.1.get_or_insert(now);
        }
        let table = found.structure.is_ok().then_some(Table { sets: found.sets, placed: found.placed });
        self.known = table.map(|table| Known { generation, table: Some(table) });
        Ok(Some(seen))
    }

    /// What the table holds (without reading it when nobody changed any rule of this namespace since we knew), and what
    /// is wrong with it.
    fn known(&mut self) -> Result<(Known, Option<String>)> {
        let generation = self.nft.generation()?.number;
        if let Some(known) = self.known.take()
            && known.generation == generation
        {
            return Ok((known, None));
        }
        let (generation, found) = self.found(false)?;
        Ok(match found {
            None => (Known { generation, table: None }, None),
            Some(Found { structure: Ok(()), placed, sets, .. }) => {
                (Known { generation, table: Some(Table { sets, placed }) }, None)
            }
            Some(Found { structure: Err(what), .. }) => (Known { generation, table: None }, Some(what)),
        })
    }

    /// Reads the table as of one generation.
    fn found(&mut self, with_flows: bool) -> Result<(u32, Option<Found>)> {
        for _ in 0..ATTEMPTS {
            let before = self.nft.generation()?.number;
            let found = read::read(&mut self.nft, with_flows);
            if self.nft.generation()?.number != before {
                continue;
            }
            return Ok((before, found?));
        }
        Err(Error::Contended { attempts: ATTEMPTS })
    }

    /// What to change, what there is afterwards, and what to call it.
    fn plan(&mut self, now: Option<Table>, altered: Option<String>, wanted: Option<Placed>) -> Plan {
        let mut transaction = Transaction::default();
        let mut may_be_gone = false;
        let exists = now.is_some() || altered.is_some();
        let (table, applied) = match (now, wanted) {
            (_, None) if !exists => (None, Applied::Nothing),
            (_, None) => {
                self.nft.delete_table(&mut transaction);
                (None, Applied::Removed)
            }
            (Some(now), Some(mut placed)) => {
                let (mut removed, mut added) = (now.placed.minus(&placed), placed.minus(&now.placed));
                (removed.learning, added.learning, placed.learning) = learning(&now.placed, &placed);
                may_be_gone = !removed.learning.is_empty();
                let applied = match (added.count(), removed.count()) {
                    (0, 0) => Applied::Nothing,
                    (added, removed) => Applied::Changed { added, removed },
                };
                let sets = &now.sets | &placed.sets();
                if sets != now.sets {
                    self.nft.grow(&mut transaction, &now.sets, &sets);
                }
                self.nft.delete_elements(&mut transaction, &removed);
                self.nft.add_elements(&mut transaction, &added);
                (Some(Table { sets, placed }), applied)
            }
            (None, Some(mut placed)) => {
                placed.learning = learning(&Placed::default(), &placed).2;
                let flows = if placed.has_udp() { self.flows_to_keep(exists) } else { Vec::new() };
                self.nft.build(&mut transaction, exists, &placed, &flows);
                (Some(Table { sets: placed.sets(), placed }), Applied::Built { altered })
            }
        };
        Plan { transaction, table, applied, may_be_gone }
    }

    /// The flows that a rebuilt table must know: those of the table that it replaces, or as we last saw them.
    fn flows_to_keep(&mut self, exists: bool) -> Vec<Vec<u8>> {
        let mut flows = match self.flows.1 {
            Some(when) if when.elapsed() < FLOW_TIMEOUT => self.flows.0.clone(),
            _ => Vec::new(),
        };
        if exists {
            // Best effort: a table altered by others may lack the sets or have others of that name.
            flows.extend(read::flows(&mut self.nft).unwrap_or_default().into_iter().map(|flow| flow.0));
        }
        flows.sort_unstable();
        flows.dedup();
        flows
    }
}

/// The table that is never made.
const TRIAL: &str = "gate-trial";

/// Whether gates work here: tries to build one in this thread's network namespace and has the kernel abandon it.
///
/// # Errors
///
/// Only what is neither a missing right nor a missing feature.
pub fn support() -> Result<Support> {
    let mut nft = match Nft::open(TRIAL) {
        Ok(nft) => nft,
        Err(error) => return unsupported(error),
    };
    for mptcp in [true, false] {
        let mut transaction = Transaction::default();
        nft.build_empty(&mut transaction, &Layout::all_sets(mptcp));
        match nft.try_out(transaction) {
            Ok(()) => return Ok(Support::Ready { mptcp }),
            Err(error) if mptcp && error.operation() == layout::MPTCP_RULE => {}
            Err(error) => return unsupported(error),
        }
    }
    Ok(Support::Ready { mptcp: false })
}

fn unsupported(error: netlink::Error) -> Result<Support> {
    match error.errno() {
        _ if error.is_permission() => Ok(Support::NoPermission),
        // EINVAL: nfnetlink does not know the subsystem; ENOENT: an expression's module is missing.
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOENT) => {
            Ok(Support::Missing { what: error })
        }
        _ => Err(error.into()),
    }
}

/// All readers of this module over one message, for the test of malformed input.
#[cfg(test)]
pub(crate) fn fuzzed(message: &netlink::Message<'_>) {
    read::fuzzed(message);
    watch::fuzzed(message);
}
