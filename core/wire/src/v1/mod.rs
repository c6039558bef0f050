//! Version 1.

mod eta;
mod reply;
mod request;

pub use eta::*;
pub use reply::*;
pub use request::*;
