//! Real servers in namespaces, for tests.
//!
//! A [`Lab`] is a bridge in a network namespace of its own. A [`Server`] on it boots a real systemd (Debian 12)
//! in its own net, mount, pid, uts, ipc, cgroup and time namespaces; a [`Client`] is a plain network namespace.
//! Nothing happens in the machine's own network namespace, and nothing stays behind: a watcher process removes
//! every trace when the lab is dropped, and also when the test panics or is killed.
//!
//! ```no_run
//! use ebb_lab::{Host, Lab, roles};
//! # fn main() -> ebb_lab::Result<()> {
//! let lab = Lab::new("example")?;
//! let a = lab.server("a")?;
//! let c = lab.client("c")?;
//! roles::nginx(&a)?;
//! assert_eq!(c.check(&["curl", "-s", &a.url("/")])?, "ok a\n");
//! a.reboot()?;
//! # Ok(())
//! # }
//! ```
//!
//! What a lab cannot show: files lost by a power cut (the page cache is shared with the machine), and delay on
//! the wire where the kernel has no netem. One thing of the machine is changed and stays:
//! `fs.inotify.max_user_instances` is raised to 4096 where it is lower, for each server needs seven of them.

mod base;
mod client;
pub mod ebb;
mod error;
mod lab;
pub mod load;
mod permission;
pub mod receivers;
pub mod roles;
mod run;
mod server;
mod tool;

pub use base::base_image;
pub use client::Client;
pub use error::{LabError, Result};
pub use lab::Lab;
pub use permission::{allowed, forbidden_because};
pub use run::{Host, Output, Running};
pub use server::{Server, ebb_binary};
