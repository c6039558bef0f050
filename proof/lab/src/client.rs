//! A plain network namespace for clients.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Result;
use crate::lab::Cable;
use crate::run::{Host, Place};

/// A host without a system: the machine's own programs (curl, psql, ssh, …) on the lab's network.
///
/// It sees the machine's files; its processes end with the lab.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) name: String,
    pub(crate) cable: Cable,
    pub(crate) place: Place,
}

impl Host for Client {
    fn name(&self) -> &str {
        &self.name
    }

    fn v4(&self) -> Ipv4Addr {
        self.cable.v4
    }

    fn v6(&self) -> Ipv6Addr {
        self.cable.v6
    }

    fn place(&self) -> Result<Place> {
        Ok(self.place.clone())
    }
}
