//! Version 1.

mod reply;
mod request;

pub use reply::*;
pub use request::*;
