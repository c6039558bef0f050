//! What comes back: a stream of frames, the last of which is the answer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Eta, Forecast, Listed, Session};

/// One line of an answer. `--json` prints each as one JSON object with its `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Frame {
    /// Something happened.
    Event(Event),
    /// How far a drain is.
    Progress(Progress),
    /// A session of the list asked for.
    Session(Session),
    /// One service of `ebb services`.
    Service(Service),
    /// One hold of `ebb holds`.
    Hold(Hold),
    /// What a verb would do, by `--dry-run`.
    Plan(Plan),
    /// A word to the operator that is no event: a warning, a no-op.
    Note(Note),
    /// A drain ended.
    Drained(DrainReport),
    /// A resume ended.
    Resumed(ResumeReport),
    /// One service of `ebb status`.
    Status(Status),
    /// When the sessions of a service will have gone.
    Eta(Eta),
    /// Sessions were ended, or would be.
    Ended(EndReport),
    /// All sessions have been listed.
    Listed(Listed),
    /// A hold was placed, or was there already.
    Held(HoldReport),
    /// A hold was released.
    Released(HoldReport),
    /// Something that is not as it should be.
    Finding(Finding),
    /// A step of a maintenance: it is planned, has begun, is done, or failed.
    Step(Step),
    /// A maintenance as it is now. Of one that is watched the last word.
    Maintenance(Maintenance),
    /// Something wrong in the configuration, or probably not meant.
    Fault(Fault),
    /// The configuration was checked.
    Checked(Checked),
    /// One key of the configuration.
    Setting(Setting),
    /// One guard of `ebb check`.
    Guard(Guard),
    /// One notifier of `ebb notify list`.
    Notifier(Notifier),
    /// What became of a test notice.
    Noticed(Noticed),
    /// It could not be done, for one service or as a whole.
    Refused(Refusal),
    /// Nothing more comes.
    Done,
}

impl Frame {
    /// Which service it is about; none if about none or several.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Event(event) => event.service.as_deref(),
            Self::Progress(progress) => Some(&progress.service),
            Self::Service(service) => Some(&service.name),
            Self::Hold(hold) => Some(&hold.service),
            Self::Plan(plan) => Some(&plan.service.name),
            Self::Note(note) => note.service.as_deref(),
            Self::Drained(report) => Some(&report.service),
            Self::Resumed(report) => Some(&report.service),
            Self::Status(status) => Some(&status.service.name),
            Self::Held(report) | Self::Released(report) => Some(&report.hold.service),
            Self::Refused(refusal) => refusal.service.as_deref(),
            Self::Finding(finding) => finding.service.as_deref(),
            Self::Ended(report) => Some(&report.service),
            Self::Listed(listed) => Some(&listed.service),
            Self::Eta(eta) => Some(&eta.service),
            Self::Session(_)
            | Self::Step(_)
            | Self::Maintenance(_)
            | Self::Fault(_)
            | Self::Checked(_)
            | Self::Setting(_)
            | Self::Guard(_)
            | Self::Notifier(_)
            | Self::Noticed(_)
            | Self::Done => None,
        }
    }
}

/// Why something was refused or failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// For which service; none if for the request as a whole.
    pub service: Option<String>,
    /// Which kind: fixes the exit code.
    pub kind: RefusalKind,
    /// Why, in a sentence.
    pub why: String,
    /// What helps.
    pub help: Option<String>,
}

/// Kinds of refusal, as far as a caller must tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// It failed, or cannot be done.
    Failed,
    /// The request makes no sense as written.
    Usage,
    /// Another requester's hold stands.
    HeldByOther,
    /// Somebody else has called it off.
    CalledOff,
    /// The caller may not.
    NotPermitted,
    /// This kernel or system cannot.
    Unsupported,
    /// No service of that name, or several.
    NoSuchService,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// About which service; none if about the server.
    pub service: Option<String>,
    /// What.
    pub what: String,
    /// The command, or the word, that mends it.
    pub mend: String,
}

/// Something in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// In which file.
    pub file: String,
    /// In which line, from 1; none if it is about the file as a whole.
    pub line: Option<u64>,
    /// In which column, in characters from 1.
    pub column: Option<u64>,
    /// What, in a sentence.
    pub what: String,
    /// What helps.
    pub hint: Option<String>,
    /// False: the configuration is refused for it. True: it is taken all the same.
    pub warning: bool,
}

/// What a check of the configuration came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// Files that were read, the later over the earlier.
    pub files: Vec<String>,
    /// For any of these it is refused.
    pub faults: u64,
    /// Probably not meant.
    pub warnings: u64,
    /// Why names could not be compared with the services of this server, if they could not.
    pub unseen: Option<String>,
}

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// As in `guard.disk-root.path`.
    pub key: String,
    /// As it is written in TOML; none if it is not set. What may be a secret is not in it.
    pub value: Option<String>,
    /// The file that says so; none: nobody does, it is the default.
    pub file: Option<String>,
    /// The line there, from 1.
    pub line: Option<u64>,
}

/// What a guard says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Pass,
    /// Somebody should know.
    Warn,
    /// Not without a reason.
    Refuse,
}

/// Which way a guard has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// It was worse.
    Better,
    /// It was better.
    Worse,
    /// It was the same.
    Same,
    /// It was not asked before.
    New,
    /// It is not asked any more.
    Gone,
}

/// One guard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Guard {
    /// Its name in the configuration.
    pub name: String,
    /// What it says; none if it is gone.
    pub verdict: Option<Verdict>,
    /// Why, in a line.
    pub why: String,
    /// The number behind it.
    pub measured: Option<f64>,
    /// `percent_free`, `seconds_old`, `seconds_left`, `count` or `exit_code`.
    pub measured_in: Option<String>,
    /// What it found amiss, by name.
    pub amiss: Vec<String>,
    /// Compared with a list that was kept: which way it has changed; none if it was not compared.
    pub trend: Option<Trend>,
    /// What it said then.
    pub verdict_before: Option<Verdict>,
    /// What was well then is not any more, and speaks against coming back.
    pub regression: bool,
}

/// Somebody who is told of drains and maintenances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Notifier {
    /// Its name in `ebb.toml`.
    pub name: String,
    /// `mail`, `webhook` or `wall`; none if it is not configured any more.
    pub way: Option<String>,
    /// By which server or host.
    pub via: Option<String>,
    /// To whom, where it is configured.
    pub to: Vec<String>,
    /// When: `before`, `start`, `end`, `trouble`.
    pub on: Vec<String>,
    /// Notices that are yet to be sent.
    pub queued: u64,
    /// Notices that were given up.
    pub failed: u64,
    /// Notices that were sent, of those that are remembered.
    pub sent: u64,
    /// When the next try is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next: Option<Timestamp>,
    /// Why the last of those that are queued or were given up could not be sent.
    pub last_error: Option<String>,
}

/// What became of a test notice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Noticed {
    /// By which notifier.
    pub notifier: String,
    /// To whom; none if the notifier itself says it.
    pub recipient: Option<String>,
    /// Whether the other end has taken it.
    pub sent: bool,
    /// If not, why.
    pub why: Option<String>,
    /// What went otherwise than the settings wish.
    pub remarks: Vec<String>,
    /// How long it took.
    pub took_seconds: f64,
}

/// A word to the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Note {
    /// About which service.
    pub service: Option<String>,
    /// True if something may go otherwise than wished.
    pub warning: bool,
    /// The word.
    pub text: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Rising number in this server's history; 0 if it was not recorded.
    pub sequence: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Fixed number of its kind.
    pub number: u16,
    /// Name of its kind, as in `GateShut`.
    pub name: String,
    /// Which service.
    pub service: Option<String>,
    /// In a sentence.
    pub text: String,
    /// In parts.
    pub fields: std::collections::BTreeMap<String, String>,
}

/// A door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Door {
    /// `tcp`, `udp`, `quic` or `unix`.
    pub proto: String,
    /// Bound address: `*` for all of both families, `0.0.0.0`, `::`, an address, or a path.
    pub address: String,
    /// Port; 0 for unix sockets.
    pub port: u16,
    /// Whether the gate can hold it.
    pub holdable: bool,
    /// Connection attempts refused here since the gate was shut.
    pub refused: Option<u64>,
    /// Whether the gate is shut here.
    pub gate: Gate,
    /// For how long still everybody is let in and the flows are learnt, in seconds; none if not.
    pub learning_seconds: Option<f64>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `open`, `draining`, `drained` or `stopped`.
    pub state: String,
    /// Sessions now; none if not counted or not countable.
    pub sessions: Option<u64>,
    /// Its doors.
    pub doors: Vec<Door>,
    /// `enabled`, `disabled`, `static`, `socket`, `by hand`, ...
    pub start: String,
    /// Units it is made of; empty for process trees.
    pub units: Vec<String>,
    /// Topmost processes, for process trees.
    pub pids: Vec<u32>,
    /// Other services on one of its doors.
    pub shared_with: Vec<String>,
    /// Who holds it.
    pub holders: Vec<Hold>,
    /// Anything to know about it: failed, shared doors, a gate that is missing.
    pub remarks: Vec<String>,
    /// Its daemon and what that can do; none if it is none that is known, or was not asked.
    pub daemon: Option<Daemon>,
}

/// A daemon that can be spoken to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Daemon {
    /// `postgresql`, `kamailio`, ...
    pub kind: String,
    /// Its version, as it says.
    pub version: Option<String>,
    /// List its sessions with their users.
    pub sessions: Ability,
    /// Refuse new work itself.
    pub refuse: Ability,
    /// End one session by its protocol's goodbye.
    pub end: Ability,
    /// Ask a client to go to another server.
    pub redirect: Ability,
}

/// Whether a daemon can do something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ability {
    /// It can, now.
    pub can: bool,
    /// If not, why.
    pub why: Option<String>,
    /// What helps, where something does.
    pub help: Option<String>,
}

/// One hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// What is held.
    pub service: String,
    /// Who wishes it.
    pub requester: String,
    /// `draining` or `stopped`.
    pub level: String,
    /// Why.
    pub reason: String,
    /// Login name of the one who placed it.
    pub by: String,
    /// Their user id.
    pub by_uid: u32,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Until when it is meant.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// The resident agent brings the service back then.
    pub reopens: bool,
    /// Who may still come in.
    pub except: Vec<String>,
    /// It is the whole server that is held. In a list of holds `service` is `*` then.
    #[serde(default)]
    pub whole_server: bool,
    /// In a list of holds, of one on the server: the services that it holds.
    #[serde(default)]
    pub covers: Vec<String>,
}

/// The age of a session.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Age {
    /// Not younger than this, in seconds.
    pub at_least_seconds: f64,
    /// Not older than this, in seconds, where a bound is known. Equal to the other if it is exact.
    pub at_most_seconds: Option<f64>,
}

/// How far a drain is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Which service.
    pub service: String,
    /// What it is doing: `shutting the gate`, `draining`, `settling`, `stopping`, ...
    pub doing: String,
    /// Effective state.
    pub state: String,
    /// Sessions left; none if they could not be counted.
    pub left: Option<u64>,
    /// Of which not accepted yet, or with the handshake under way.
    pub not_accepted: u64,
    /// Sessions when the gate was shut.
    pub at_start: u64,
    /// Client of the oldest.
    pub oldest_peer: Option<String>,
    /// Age of the oldest.
    pub oldest_age: Option<Age>,
    /// Sessions that ended per minute, over the last minute.
    pub ending_per_minute: f64,
    /// Since the drain began.
    pub elapsed_seconds: f64,
    /// Until the deadline.
    pub deadline_in_seconds: Option<f64>,
    /// New connections refused so far.
    pub refused: u64,
    /// What it waits for.
    pub why: String,
    /// When those who are left will have gone; none if that is not known.
    #[serde(default)]
    pub eta: Option<Forecast>,
}

/// One door's part of a proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DoorProof {
    /// The door.
    pub door: String,
    /// Whether the probe was refused.
    pub refused: bool,
    /// If not, why.
    pub why: Option<String>,
}

/// Why *drained* could be said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// Probes at the doors.
    pub doors: Vec<DoorProof>,
    /// How long no session had been left, in seconds.
    pub empty_for_seconds: f64,
    /// How many whole censuses in that time found none.
    pub censuses: u32,
    /// Waited in addition for SYN cookies, in seconds.
    pub cookie_grace_seconds: f64,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Proven empty; still running.
    Drained,
    /// Proven empty, then stopped.
    Stopped,
    /// Proven empty; the stop went wrong.
    StopFailed,
    /// Sessions were left at the deadline.
    DeadlineReached,
    /// Somebody else ended the service.
    EndedElsewhere,
    /// Somebody released its hold.
    Released,
    /// It could not be done.
    Failed,
    /// The operator stopped watching.
    Detached,
}

/// What a drain came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrainReport {
    /// Which service.
    pub service: String,
    /// In whose name.
    pub requester: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub why: Option<String>,
    /// What helps.
    pub help: Option<String>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// How long it took.
    pub took_seconds: f64,
    /// Sessions when the gate was shut.
    pub at_start: u64,
    /// Ended without us.
    pub by_themselves: u64,
    /// Ended after our goodbye.
    pub by_us: u64,
    /// Destroyed by us.
    pub cut: u64,
    /// Still there.
    pub left: u64,
    /// The longest that one stayed after the gate was shut, in seconds.
    pub longest_wait_seconds: f64,
    /// New connections refused, our own probes not counted.
    pub refused: u64,
    /// The proof.
    pub proof: Option<Proof>,
    /// Connections that came in although the gate should have been shut.
    pub leaks: Vec<Session>,
    /// The oldest sessions left, at most ten.
    pub stragglers: Vec<Session>,
}

/// What a resume came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResumeReport {
    /// Which service.
    pub service: String,
    /// Whether a hold of ours was there.
    pub was_held: bool,
    /// Whether we started it.
    pub started: bool,
    /// Whether the gate is open now.
    pub open: bool,
    /// Doors that answered.
    pub verified: Vec<String>,
    /// How long it took.
    pub took_seconds: f64,
    /// Holds that remain.
    pub remaining: Vec<Hold>,
}

/// A hold placed or released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HoldReport {
    /// The hold.
    pub hold: Hold,
    /// False if nothing had to be done.
    pub changed: bool,
    /// Whether the gate is shut now.
    pub shut: bool,
    /// For how long still its UDP doors let everybody in and learn the flows, in seconds; none if they do not.
    pub learning_seconds: Option<f64>,
    /// Holds of others that remain.
    pub remaining: Vec<Hold>,
}

/// A held service as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The service.
    pub service: Service,
    /// Whether the gate stands in the kernel, as it must when held.
    pub gate: Gate,
    /// For how long still its UDP doors let everybody in and learn the flows, in seconds; none if they do not.
    pub learning_seconds: Option<f64>,
    /// New connections refused since the gate was shut.
    pub refused: u64,
    /// Sessions when the gate was shut, if a drain began.
    pub at_start: Option<u64>,
    /// When the drain began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub began: Option<Timestamp>,
    /// When it was proven empty.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub drained_at: Option<Timestamp>,
    /// Whether we stopped it.
    pub stopped_by_us: bool,
    /// Process that watches this drain now, if one does.
    pub watched_by_pid: Option<u32>,
    /// Connections that came in although the gate should have been shut, known so far.
    pub leaks: u64,
    /// What to type next.
    pub next: Vec<String>,
}

/// The gate in the kernel against what the holds ask for: at all doors of a service, or at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Shut.
    Shut,
    /// Shut, but UDP doors let everybody in for a while and learn the flows that exist.
    Learning,
    /// Open, as it should be; also where there is none, as at a unix socket.
    Open,
    /// It should be shut and is not, or not whole.
    Missing,
    /// It could not be read.
    Unknown,
}

/// What ending sessions came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndReport {
    /// Of which service.
    pub service: String,
    /// Whether it was only asked what would happen.
    pub dry_run: bool,
    /// Sessions that the choice fitted.
    pub chosen: u64,
    /// Gone before we came to them.
    pub by_themselves: u64,
    /// Gone after our goodbye.
    pub by_us: u64,
    /// Destroyed.
    pub cut: u64,
    /// Could not be ended.
    pub failed: u64,
    /// Why not, for the first of them.
    pub why: Option<String>,
    /// How long it took.
    pub took_seconds: f64,
}

/// What a verb would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// To which service.
    pub service: Service,
    /// In order.
    pub steps: Vec<String>,
    /// What to know before.
    pub warnings: Vec<String>,
    /// Who is connected now: the oldest, at most twenty.
    pub sessions: Vec<Session>,
    /// How many are connected.
    pub total: u64,
    /// When they will have gone; none if they could not be counted.
    #[serde(default)]
    pub eta: Option<Eta>,
}

/// How far a step of a maintenance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It comes, as long as nothing goes wrong.
    Planned,
    /// It is under way.
    Began,
    /// It is done.
    Done,
    /// It cannot be done until somebody does something.
    Failed,
}

/// A step of a maintenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Its place, from 1.
    pub number: usize,
    /// Of how many that are planned.
    pub of: usize,
    /// Which: `announce`, `guards`, `hold`, `drain 1`, `work`, `take back`, `start 1`, `check`, `open`, `watch`.
    pub name: String,
    /// The services that it is about.
    pub services: Vec<String>,
    /// How far it is.
    pub state: StepState,
    /// What it does, what came of it, or why it failed.
    pub text: String,
    /// How long it took, in seconds, once it is done.
    pub took_seconds: Option<f64>,
}

/// How far a maintenance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaintenanceState {
    /// Steps are being done.
    UnderWay,
    /// The server is out of service; somebody says when it is to come back.
    InWork,
    /// It waits for somebody to mend something.
    Halted,
    /// It is over.
    Over,
}

/// A maintenance as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Maintenance {
    /// Its number on this server.
    pub run: u64,
    /// How far it is.
    pub state: MaintenanceState,
    /// In whose name.
    pub requester: String,
    /// Login name of the one who asked.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The server is held for it now. Before its step `hold`, at its end, or when somebody has released it, it is not.
    pub held: bool,
    /// It stops nothing and does no work.
    pub drill: bool,
    /// What is done: `by hand`, a command, or `reboot`.
    pub work: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// Until when the server is meant to be held.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// How long it has taken, or took, in seconds.
    pub took_seconds: f64,
    /// Its steps, as they are.
    pub steps: Vec<Step>,
    /// What to type next.
    pub next: Vec<String>,
}
