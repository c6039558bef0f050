//! Version 1.

mod eta;
mod reply;
mod request;
mod session;

pub use eta::*;
pub use reply::*;
pub use request::*;
pub use session::*;
