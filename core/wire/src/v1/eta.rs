//! When sessions will have gone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When the sessions of a service will have gone, if it is drained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Eta {
    /// Which service.
    pub service: String,
    /// When the drain would begin: all seconds count from here.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// How many sessions there are, or usually are at that hour; none if that is not known.
    pub sessions: Option<u64>,
    /// They were not counted: so many are there at that hour of the week on average.
    pub usual: bool,
    /// Ends of sessions that were recorded, old ones counted less.
    pub recorded: u64,
    /// How many are needed.
    pub needed: u64,
    /// What is to be expected; none if too little is known.
    pub forecast: Option<Forecast>,
    /// The deadline that was asked about, in seconds.
    pub deadline_seconds: Option<u64>,
    /// The hour of the next day at which a drain would be over first; none if the hours are not known.
    pub best: Option<BestHour>,
}

/// How a drain is expected to go: seconds from its beginning, or from now if it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Forecast {
    /// Half of the sessions are gone, as likely as not.
    pub half_seconds: f64,
    /// Nine of ten are.
    pub most_seconds: f64,
    /// Ninety-nine of a hundred are.
    pub nearly_all_seconds: f64,
    /// The last one is, by the best guess.
    pub last_seconds: f64,
    /// In eight cases of ten the last one goes not before this.
    pub last_from_seconds: f64,
    /// Nor after this.
    pub last_to_seconds: f64,
    /// How many are expected to be left at the deadline; none if there is none.
    pub left_at_deadline: Option<f64>,
    /// Sessions that are older than nearly all that were ever seen: of their like little is known.
    pub beyond: u64,
}

/// An hour at which few would have to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BestHour {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How many sessions there are usually.
    pub sessions: u64,
    /// Nine of ten of these would be gone after so many seconds.
    pub most_seconds: f64,
    /// In nine cases of ten the last one would be gone after so many seconds.
    pub last_to_seconds: f64,
}
