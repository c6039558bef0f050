use std::time::Duration;

use crate::{UnitFileState, UnitKind, UnitName, properties::Properties, words::words};

words! {
    /// `ActiveState`.
    ActiveState {
        /// Running, listening, mounted, ...
        Active = "active",
        /// Active, and reading its configuration again.
        Reloading = "reloading",
        /// Active, and remounting (systemd 256 and later).
        Refreshing = "refreshing",
        /// Not running, and that is in order.
        Inactive = "inactive",
        /// Not running, because it ended badly. Also after some stops.
        Failed = "failed",
        /// On its way up; also while waiting for an automatic restart.
        Activating = "activating",
        /// On its way down.
        Deactivating = "deactivating",
        /// A maintenance operation is running (`systemctl clean`).
        Maintenance = "maintenance",
    }
}

impl ActiveState {
    /// Neither down nor about to be: active, reloading, refreshing, activating.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Active | Self::Reloading | Self::Refreshing | Self::Activating)
    }
}

words! {
    /// `LoadState`.
    LoadState {
        /// The unit file was read.
        Loaded = "loaded",
        /// There is no unit file (the unit may still run: its file was removed under it).
        NotFound = "not-found",
        /// The unit file has an error which makes it unusable.
        BadSetting = "bad-setting",
        /// The unit file could not be read.
        Error = "error",
        /// Merged into another unit.
        Merged = "merged",
        /// Linked to `/dev/null`.
        Masked = "masked",
        /// Known by name only.
        Stub = "stub",
    }
}

words! {
    /// `Type=` of a service.
    #[expect(missing_docs, reason = "systemd's own words")]
    ServiceType {
        Simple = "simple",
        Exec = "exec",
        Forking = "forking",
        Oneshot = "oneshot",
        Dbus = "dbus",
        Notify = "notify",
        NotifyReload = "notify-reload",
        Idle = "idle",
    }
}

words! {
    /// `Restart=`: when systemd starts the service again by itself. A stop asked of systemd never restarts.
    #[expect(missing_docs, reason = "systemd's own words")]
    RestartPolicy {
        No = "no",
        OnSuccess = "on-success",
        OnFailure = "on-failure",
        OnAbnormal = "on-abnormal",
        OnWatchdog = "on-watchdog",
        OnAbort = "on-abort",
        Always = "always",
    }
}

words! {
    /// `KillMode=`: whom a stop signals.
    KillMode {
        /// Every process of the cgroup.
        ControlGroup = "control-group",
        /// The main process first, at the end every process.
        Mixed = "mixed",
        /// The main process only: its children survive.
        Process = "process",
        /// Nobody.
        None = "none",
    }
}

/// An instant, as systemd recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970, UTC. `None` where only the fallback could be asked.
    pub wall_usec: Option<u64>,
    /// Microseconds of `CLOCK_MONOTONIC`.
    pub monotonic_usec: u64,
}

/// One address of a socket unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// systemd's word: `Stream`, `Datagram`, `SequentialPacket`, `FIFO`, `Netlink`, `Special`, `MessageQueue`, `USBFunction`.
    pub kind: String,
    /// `[::]:80`, `127.0.0.1:80`, `/run/x.sock`, `@abstract`, ...
    pub address: String,
}

/// One unit, read at one moment. What this systemd does not tell is `None`, empty or `Other("")`.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The name asked for, perhaps an alias.
    pub name: UnitName,
    /// The unit's own name.
    pub id: UnitName,
    /// `Description=`.
    pub description: String,
    /// Whether the unit file was read.
    pub load_state: LoadState,
    /// The state in general.
    pub active_state: ActiveState,
    /// The state in the words of its kind: `running`, `exited`, `listening`, ...
    pub sub_state: String,
    /// How the last run ended (`success`, `exit-code`, `timeout`, ...); services, sockets, scopes and timers have it.
    pub result: String,
    /// Start type.
    pub unit_file_state: UnitFileState,
    /// `Type=`.
    pub service_type: ServiceType,
    /// The main process.
    pub main_pid: Option<u32>,
    /// The process of a start, reload or stop command that runs now.
    pub control_pid: Option<u32>,
    /// The cgroup's path below the root of the (unified or systemd's own) hierarchy; `None` while there is none.
    pub control_group: Option<String>,
    /// The inode of the cgroup's directory, which is what sock_diag calls the cgroup id (systemd 252 and later).
    pub control_group_id: Option<u64>,
    /// How many tasks are in the cgroup; `None` where the pids controller is off.
    pub tasks: Option<u64>,
    /// `RemainAfterExit=`.
    pub remain_after_exit: bool,
    /// `Restart=`.
    pub restart: RestartPolicy,
    /// After how long a stop is cut short; `None`: never.
    pub timeout_stop: Option<Duration>,
    /// `KillMode=`.
    pub kill_mode: KillMode,
    /// The commands a stop runs, for people.
    pub exec_stop: Vec<String>,
    /// Sockets, timers and paths that start this unit. Only loaded ones are listed.
    pub triggered_by: Vec<UnitName>,
    /// What this unit (a socket, a timer, a path) starts.
    pub triggers: Vec<UnitName>,
    /// Those of `triggered_by` that are up: they start the unit again.
    pub triggers_up: Vec<UnitName>,
    /// Units with `PartOf=` this one.
    pub consists_of: Vec<UnitName>,
    /// `PartOf=`.
    pub part_of: Vec<UnitName>,
    /// `Requires=`.
    pub requires: Vec<UnitName>,
    /// Units with `Requires=` this one.
    pub required_by: Vec<UnitName>,
    /// Units with `BindsTo=` this one.
    pub bound_by: Vec<UnitName>,
    /// `Wants=`.
    pub wants: Vec<UnitName>,
    /// Units a stop of this one is passed on to by `PropagatesStopTo=`.
    pub propagates_stop_to: Vec<UnitName>,
    /// Units which are up and would be stopped with this one, directly or through others.
    pub stops_with: Vec<UnitName>,
    /// `RefuseManualStop=`.
    pub refuse_manual_stop: bool,
    /// `RefuseManualStart=`.
    pub refuse_manual_start: bool,
    /// Whether systemd could start it at all.
    pub can_start: bool,
    /// The unit file.
    pub fragment_path: Option<String>,
    /// The drop-in files.
    pub drop_ins: Vec<String>,
    /// Since when it is active, or when it last was.
    pub active_enter: Option<Moment>,
    /// Automatic restarts since the last start by hand.
    pub n_restarts: Option<u32>,
    /// Whether conditions held at the last start (`false`: it was skipped).
    pub condition_met: Option<bool>,
    /// The job that is queued or running for it.
    pub job: Option<u32>,
    /// What a socket unit listens on.
    pub listen: Vec<ListenAddress>,
    /// `Accept=` of a socket unit: a service instance per connection.
    pub accept: bool,
    /// Connections of a socket unit now (only counted with `Accept=yes`).
    pub n_connections: Option<u32>,
}

impl Unit {
    /// Whether the unit owns no process and never will while it is "active (exited)": Debian's
    /// `postgresql.service` and `postfix.service`. If it has [`crate::Systemd::instances`], those
    /// are the service; if it has none, it is a piece of setup.
    pub fn is_wrapper(&self) -> bool {
        self.id.kind() == UnitKind::Service
            && self.service_type == ServiceType::Oneshot
            && self.remain_after_exit
            && self.main_pid.is_none()
            && self.control_pid.is_none()
            && self.tasks.is_none_or(|tasks| tasks == 0)
    }

    /// Units that may be the real service behind a wrapper: they are part of it, or it pulls them
    /// in and they are instances of its own name.
    pub fn instance_candidates(&self) -> Vec<UnitName> {
        let own = |name: &&UnitName| name.template_prefix() == Some(self.id.stem());
        let mut names: Vec<UnitName> = self
            .consists_of
            .iter()
            .chain(self.wants.iter().filter(own))
            .chain(self.requires.iter().filter(own))
            .filter(|name| name.kind() == UnitKind::Service)
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Units a stop of this one is passed on to by one step, up or not.
    pub(crate) fn stop_edges(&self) -> impl Iterator<Item = &UnitName> {
        self.required_by.iter().chain(&self.bound_by).chain(&self.consists_of).chain(&self.propagates_stop_to)
    }

    pub(crate) fn from_properties(name: &UnitName, all: &Properties) -> Self {
        let non_empty = |key: &str| Some(all.text(key)).filter(|text| !text.is_empty());
        let pid = |key: &str| all.number32(key).filter(|pid| *pid != 0);
        Self {
            name: name.clone(),
            id: UnitName::new(&all.text("Id")).unwrap_or_else(|_| name.clone()),
            description: all.text("Description"),
            load_state: LoadState::from_word(&all.text("LoadState")),
            active_state: ActiveState::from_word(&all.text("ActiveState")),
            sub_state: all.text("SubState"),
            result: all.text("Result"),
            unit_file_state: UnitFileState::from_word(&all.text("UnitFileState")),
            service_type: ServiceType::from_word(&all.text("Type")),
            main_pid: pid("MainPID"),
            control_pid: pid("ControlPID"),
            control_group: non_empty("ControlGroup"),
            control_group_id: all.number("ControlGroupId").filter(|id| *id != 0),
            tasks: all.number("TasksCurrent"),
            remain_after_exit: all.flag("RemainAfterExit").unwrap_or(false),
            restart: RestartPolicy::from_word(&all.text("Restart")),
            // Sockets and mounts have one limit for everything, named differently.
            timeout_stop: all
                .span("TimeoutStopUSec")
                .or_else(|| all.span("TimeoutUSec"))
                .filter(|limit| !limit.is_zero()),
            kill_mode: KillMode::from_word(&all.text("KillMode")),
            exec_stop: all.commands("ExecStop"),
            triggered_by: all.units("TriggeredBy"),
            triggers: all.units("Triggers"),
            triggers_up: Vec::new(),
            consists_of: all.units("ConsistsOf"),
            part_of: all.units("PartOf"),
            requires: all.units("Requires"),
            required_by: all.units("RequiredBy"),
            bound_by: all.units("BoundBy"),
            wants: all.units("Wants"),
            propagates_stop_to: all.units("PropagatesStopTo"),
            stops_with: Vec::new(),
            refuse_manual_stop: all.flag("RefuseManualStop").unwrap_or(false),
            refuse_manual_start: all.flag("RefuseManualStart").unwrap_or(false),
            can_start: all.flag("CanStart").unwrap_or(false),
            fragment_path: non_empty("FragmentPath"),
            drop_ins: all.list("DropInPaths"),
            active_enter: active_enter(all),
            n_restarts: all.number32("NRestarts"),
            condition_met: condition_met(all),
            job: all.job(),
            listen: all.listens().into_iter().map(|(kind, address)| ListenAddress { kind, address }).collect(),
            accept: all.flag("Accept").unwrap_or(false),
            n_connections: all.number32("NConnections"),
        }
    }
}

fn active_enter(all: &Properties) -> Option<Moment> {
    Some(Moment {
        // The fallback prints a date for people here, which is no number.
        wall_usec: all.number("ActiveEnterTimestamp").filter(|usec| *usec != 0),
        monotonic_usec: all.number("ActiveEnterTimestampMonotonic").filter(|usec| *usec != 0)?,
    })
}

/// systemd says "no" also for a unit whose conditions were never looked at.
pub(crate) fn condition_met(all: &Properties) -> Option<bool> {
    all.number("ConditionTimestampMonotonic").filter(|usec| *usec != 0)?;
    all.flag("ConditionResult")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn unit(show: &str) -> Unit {
        let name = UnitName::new("x.service").unwrap();
        Unit::from_properties(&name, &Properties::from_show(show))
    }

    #[test]
    fn a_unit_of_which_nothing_is_known() {
        let unit = unit("");
        assert_eq!(unit.id.as_str(), "x.service");
        assert_eq!(unit.load_state, LoadState::Other(String::new()));
        assert!(!unit.is_wrapper());
        assert!(unit.active_enter.is_none());
        assert!(unit.condition_met.is_none());
    }

    #[test]
    fn wrappers() {
        let postgresql = "Id=postgresql.service\nType=oneshot\nRemainAfterExit=yes\nMainPID=0
ActiveState=active\nSubState=exited\nTasksCurrent=[not set]
ConsistsOf=postgresql@15-main.service postgresql.socket\nWants=postgresql@16-main.service network.target other@1.service";
        let wrapper = unit(postgresql);
        assert!(wrapper.is_wrapper());
        let names: Vec<_> = wrapper.instance_candidates().iter().map(UnitName::to_string).collect();
        assert_eq!(names, ["postgresql@15-main.service", "postgresql@16-main.service"]);
        for not in ["MainPID=7", "TasksCurrent=2", "RemainAfterExit=no", "Type=forking"] {
            let key = not.split_once('=').unwrap().0;
            let lines = postgresql.lines().filter(|line| !line.starts_with(key));
            let show = lines.chain([not]).collect::<Vec<_>>().join("\n");
            assert!(!unit(&show).is_wrapper(), "{not}");
        }
    }

    #[test]
    fn zero_and_infinity_both_mean_never() {
        assert_eq!(unit("TimeoutStopUSec=infinity").timeout_stop, None);
        assert_eq!(unit("TimeoutStopUSec=0").timeout_stop, None);
        assert_eq!(unit("TimeoutUSec=1min 30s").timeout_stop, Some(Duration::from_secs(90)));
    }
}
