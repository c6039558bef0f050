//! What is said between face and shell, and printed by `--json`: a folder per version.
//!
//! These types are the documented schema (`docs/json.md`). Fields are added, never renamed;
//! units stand in the names. Nothing else in ebb serialises the API.

pub mod v1;
