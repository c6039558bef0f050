//! `ebb try`: the first minute of a new user.
//!
//! A pool of two servers and its clients, in network namespaces of their own, on which the real `ebb drain` and `ebb resume`
//! are run. Nothing is installed, nothing outside is touched, nothing is left behind.
//!
//! Several processes, all from the one binary, play [`Role`]s:
//!
//! ```text
//! ebb try            begins the trial, waits, tidies up ([`run`])
//!  └ stage           makes the namespaces, directs the others, tells the story ([`stage`])
//!     ├ chat, chat   the service, on server-a and server-b: a copy of the binary, named as the service
//!     ├ clients      every session, and the judge of whether one was harmed
//!     └ ebb drain …  the commands as anybody would type them, in the network namespace of server-a
//! ```
//!
//! The stage must have one thread only when it makes its namespaces, hence a process of its own. It holds a pipe to the first
//! process as a leash: when that ends, however it ends, the stage ends; when the stage ends, the kernel ends the others.

mod clients;
mod dice;
mod error;
mod options;
mod parent;
mod place;
mod pool;
mod process;
mod report;
mod server;
mod session;
mod stage;
mod tally;
mod troupe;
mod waiting;

pub use clients::clients;
pub use error::Error;
pub use options::{Options, Role, Sabotage};
pub use parent::{Ended, run};
pub use report::{Back, Fault, Ran, Report};
pub use server::serve;
pub use stage::{Event, Step, stage};
pub use tally::Tally;
