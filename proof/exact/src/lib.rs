//! Exactness: not one connection is let in, lost or harmed, counted against the real `ebb` binary.
//!
//! Each test makes a [`Net`] of its own: a server and a client network namespace, joined by a cable. A server made for
//! the purpose ([`Daemon`]), its clients ([`Crowd`], [`Knocks`]) and `ebb` itself ([`Ebb`]) are processes in there. One
//! process may have 20,000 descriptors, so that big loads are several. Nothing stays behind: processes end with the
//! thread that started them, namespaces with their last process.
//!
//! This crate is all test: what it needs and does not get ends the test with a word on why, instead of an error type.

mod child;
mod crowd;
mod daemon;
mod ebb;
mod flows;
mod knocks;
mod meet;
mod net;
pub mod part;
mod script;
mod steps;

pub use child::{Part, heavy, now_us};
pub use crowd::{Crowd, CrowdSpec, Kind, Tally};
pub use daemon::{Daemon, Listen, ServeSpec, Served};
pub use ebb::{Answer, Ebb, Watched};
pub use flows::{Answered, Flows, FlowsSpec};
pub use knocks::{KnockSpec, Knocked, Knocks};
pub use meet::{Met, meet};
pub use net::{CLIENT4, CLIENT6, Net, server4, server6, skipped, told};
pub use script::Script;
pub use steps::Stepped;

/// Ends the test when something that it needs is not to be had.
pub(crate) fn must<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("failed to {what}: {error}"))
}
