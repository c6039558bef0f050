//! UDP flows.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::child::{Part, parts};
use crate::net::Net;

/// Orders of one process of flows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowsSpec {
    /// Where to.
    pub to: SocketAddr,
    /// How many, each with a port of its own.
    pub count: u32,
    /// What each sends.
    pub datagram: Vec<u8>,
}

/// What came of one datagram of each flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// It came back.
    pub answered: u64,
    /// An ICMP error came.
    pub refused: u64,
    /// Nothing came.
    pub silent: u64,
}

/// UDP flows under way.
#[derive(Debug)]
pub struct Flows(Part);

impl Flows {
    /// Makes flows, which say nothing yet.
    #[must_use]
    pub fn start(net: &Net, spec: &FlowsSpec) -> Self {
        Self(Part::start(&parts(), &net.client, "flows", spec))
    }

    /// Each sends its datagram once.
    pub fn speak(&mut self) -> Answered {
        self.0.ask("speak")
    }
}
