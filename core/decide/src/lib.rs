//! Verbs: what should happen. Pure functions and state machines over [`ebb_model`]: what the world is
//! and what time it is are arguments, what should be done comes back as data.

pub mod drain;
pub mod effective;
pub mod eta;
pub mod expiry;
pub mod gate;
pub mod guards;
pub mod ledger;
pub mod maintenance;
pub mod protect;
pub mod recorder;
pub mod resolve;
pub mod roll;
pub mod services;
pub mod stay;
pub mod uses;
