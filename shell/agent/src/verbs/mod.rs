//! One file per verb; `drain`, being the longest, has a folder of its own beside this one.

pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod end;
pub(crate) mod eta;
pub(crate) mod events;
pub(crate) mod hold;
pub(crate) mod notify;
pub(crate) mod outlook;
pub(crate) mod protect;
pub(crate) mod resume;
pub(crate) mod server;
pub(crate) mod services;
pub(crate) mod sessions;
pub(crate) mod status;
