//! Nouns: what is true on a server. No I/O, no clock, no async, no serde.
//!
//! Everything here is a plain value. The shell observes the world and makes these values,
//! [`ebb-decide`](../ebb_decide/index.html) decides on them, and the wire carries a copy of them.

mod daemon;
mod door;
mod drain;
mod event;
mod guard;
mod hold;
mod lifetimes;
mod name;
mod notice;
mod queue;
mod record;
mod roll;
mod run;
mod service;
mod session;
mod settings;
mod text;
mod time;
mod typed;
mod why;

pub use daemon::{Abilities, Ability, Busy, DaemonKind, DaemonSettings, Ended, Role, Use, UseKind, Uses};
pub use door::{Door, Proto, Reach, UnixDoor};
pub use drain::{DoorProof, DrainSpec, How, Outcome, Pace, Proof, Report, Tally, Then, When};
pub use event::{Event, EventKind, Field};
pub use guard::{Change, Checks, Fact, Guard, Login, Measured, Others, Permit, Trend, Unit, Verdict};
pub use hold::{Cidr, End, Hold, Level, MAINTENANCE, ServerHold, Who, fits, resume_server};
pub use lifetimes::{AGE_BINS, AgeBin, Ages, Eta, Followed, Following, Forecast, Group, Hour, Lifetimes, WEEK_HOURS};
pub use name::{Label, NameError, Requester, ServiceName};
pub use notice::{About, Matter, Notice, NoticeService, Queued, Sending};
pub use queue::{NextHop, Queue};
pub use record::{DrainRecord, Learn, Record, Stopped, Watcher};
pub use roll::{Budget, MemberStep, Roll, RollEntry, RollLine, RollPlan, Serving, Sight};
pub use run::{Entry, Line, MaintenancePlan, Run, Step, Work};
pub use service::{EffectiveState, Origin, Service, StartType, Tree, UnitSight, Up};
pub use session::{Age, Census, Counts, Oldest, SeenBy, Session, SessionId, SessionState};
pub use settings::{
    AtShutdown, Backup, Check, GuardSettings, HoldSettings, MailTls, MaintenanceSettings, NotifySettings, NotifyWay,
    Occasion, ProtectSettings, Settings, WebhookFormat,
};
pub use text::{bytes, duration, printable};
pub use time::{Mono, Now, Span, Wall};
pub use typed::SpanError;
pub use why::{Stay, Why, passed_over};
