//! Linux as it is: nftables, `sock_diag`, cgroups, processes and namespaces, spoken to directly.
//!
//! Everything here is blocking and synchronous and knows nothing of its callers. Where events arrive
//! ([`gate::Watch`], [`closings::Closings`]) the type gives its descriptor with `AsFd` and reads without
//! blocking, so that any event loop can wait for it.
//!
//! A netlink socket belongs to the network namespace of the thread that opened it, for as long as it lives:
//! what a [`gate::Gate`] changes and what a [`diag::Diag`] sees is that namespace, whatever thread uses it later.

pub mod boot;
pub mod cgroup;
pub mod closings;
pub mod diag;
pub mod gate;
pub mod names;
pub mod netlink;
pub mod netns;
pub mod netstat;
pub mod probe;
pub mod process;

#[cfg(test)]
mod testnet;
