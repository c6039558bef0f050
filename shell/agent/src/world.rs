//! Everything an agent holds on to: hands, eyes and memory.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ebb_kernel::{boot, gate, process};
use ebb_model::{Event, Mono, Now, Service, ServiceName, Wall, Watcher, Who, Why};
use ebb_store::Store;
use ebb_systemd::Systemd;
use ebb_systemd::journal::Journal;

use crate::config::{self, Config};
use crate::daemons::Refusing;
use crate::drain::runs::Runs;
use crate::maintenance::Driven;
use crate::{Place, StartError};

/// Name of our table in the kernel.
pub(crate) const TABLE: &str = "ebb";
/// Our local probe carries this firewall mark, and passes a shut gate by it: `ebb`, and a zero byte.
pub(crate) const PROBE_MARK: u32 = 0x6562_6200;

/// Others hold the lock for milliseconds; one that was stopped in the middle must not stop us too.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
const LOCK_AGAIN: Duration = Duration::from_millis(1);

/// Why the newest configuration is not what counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigTrouble {
    pub(crate) what: String,
    pub(crate) mend: &'static str,
}

pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) systemd: Option<Systemd>,
    pub(crate) boot_id: String,
    pub(crate) me: Watcher,
    pub(crate) who: Who,
    /// The agent outlives its callers: drains go on without viewers, and a keeper looks after what is held.
    pub(crate) resident: bool,
    /// Swapped as a whole; see [`Self::config`].
    config: RwLock<Arc<Config>>,
    /// Why the newest configuration was not taken as it is, if it was not.
    config_trouble: Mutex<Option<ConfigTrouble>>,
    /// The files as they were before they were read last.
    config_stamp: Mutex<config::Stamp>,
    /// Rings when a notice was queued.
    pub(crate) queued: tokio::sync::Notify,
    /// What of it stands.
    pub(crate) standing: crate::protect::Standing,
    /// Drains under way in this agent.
    pub(crate) runs: Runs,
    /// What it learns of lifetimes.
    pub(crate) recorder: crate::recorder::Recorder,
    /// The maintenance that it drives.
    pub(crate) maintenance: Driven,
    /// Daemons that refuse new work themselves, because we asked them to.
    pub(crate) refusing: Refusing,
    /// Services that are being started again: nothing keeps them down meanwhile.
    starting: Mutex<BTreeSet<ServiceName>>,
    store: Mutex<Store>,
    /// Kept, because it remembers: flows and times that somebody else's flush takes away.
    gate: Mutex<Option<gate::Gate>>,
    /// What the gate was made last.
    rules: Mutex<Option<gate::Rules>>,
    journal: Option<Journal>,
}

impl World {
    pub(crate) fn open(place: Place, resident: bool) -> Result<Self, StartError> {
        let stamp = config::stamp(&place.config);
        let config = config::read(&place.config)?;
        Self::over(place, config, stamp, resident)
    }

    /// The same over a configuration that has been read.
    pub(crate) fn over(place: Place, config: Config, stamp: config::Stamp, resident: bool) -> Result<Self, StartError> {
        let store = Store::open(&place.state_dir)?;
        let system = |what: &'static str| {
            move |source: Box<dyn std::error::Error + Send + Sync>| StartError::System { what, source }
        };
        let boot_id = boot::BootId::current().map_err(|error| system("the boot id")(Box::new(error)))?;
        let own = process::read(process::Pid::current())
            .map_err(|error| system("our own process")(Box::new(error)))?
            .map_or(0, |own| own.start_ticks);
        let real_systemd = config.systemd && ebb_systemd::is_running();
        Ok(Self {
            place,
            systemd: real_systemd.then(Systemd::new),
            boot_id: boot_id.as_str().to_owned(),
            me: Watcher { pid: process::Pid::current().get(), started_ticks: own },
            who: who(),
            resident,
            config: RwLock::new(Arc::new(config)),
            config_trouble: Mutex::new(None),
            config_stamp: Mutex::new(stamp),
            queued: tokio::sync::Notify::new(),
            standing: crate::protect::Standing::default(),
            runs: Runs::default(),
            recorder: crate::recorder::Recorder::default(),
            maintenance: Driven::default(),
            refusing: Refusing::default(),
            starting: Mutex::default(),
            store: Mutex::new(store),
            gate: Mutex::new(None),
            rules: Mutex::new(None),
            journal: real_systemd.then(Journal::open).flatten(),
        })
    }

    /// What the operator has settled, as it is now. Keep it for the length of one piece of work, which then sees one truth.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the newest configuration is not what counts, or not all of it; none if it is.
    pub(crate) fn config_trouble(&self) -> Option<ConfigTrouble> {
        self.config_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether its files are others than those that were read last.
    pub(crate) fn config_has_changed(&self) -> bool {
        let stamp = config::stamp(&self.place.config);
        stamp != *self.config_stamp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the configuration again. One with faults is refused as a whole, and what was before stands. That is said
    /// once.
    pub(crate) fn read_config_again(&self) {
        // Before it is read: what is changed meanwhile is read again.
        *self.config_stamp.lock().unwrap_or_else(PoisonError::into_inner) = config::stamp(&self.place.config);
        let trouble = match config::read(&self.place.config) {
            Ok(mut new) => {
                let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
                let same = new.systemd == config.systemd;
                new.systemd = config.systemd;
                *config = Arc::new(new);
                let what = "`systemd` has changed in the configuration, which a running agent cannot follow; all else was taken";
                (!same).then(|| ConfigTrouble { what: what.to_owned(), mend: "systemctl restart ebb-agent" })
            }
            Err(error) => {
                let what = format!("the configuration is refused, and the one before stands: {error}");
                Some(ConfigTrouble {
                    what,
                    mend: "`ebb config check` shows every fault; it is taken once there is none",
                })
            }
        };
        let mut told = self.config_trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = trouble.as_ref().filter(|trouble| told.as_ref() != Some(*trouble)) {
            self.complain(&trouble.what);
        }
        *told = trouble;
    }

    /// The store, for one short use; never across an await.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        // A panic in a holder cannot leave SQLite half-written: transactions roll back.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        // If it cannot be opened now, reading it says so.
        let _ = store.catch_up();
        store
    }

    /// Services that are being started again.
    pub(crate) fn starting(&self) -> BTreeSet<ServiceName> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says that a service is being started again, or not any more.
    pub(crate) fn set_starting(&self, service: &ServiceName, starting: bool) {
        let mut all = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if starting {
            all.insert(service.clone())
        } else {
            all.remove(service)
        };
    }

    /// The gate, for one short use; never across an await. Opened by whoever needs it first: all threads of an agent are
    /// in one network namespace.
    pub(crate) fn with_gate<T>(&self, act: impl FnOnce(&mut gate::Gate) -> Result<T, Why>) -> Result<T, Why> {
        // A panic in a holder leaves at worst an older memory: what is in the kernel is read each time.
        let mut kept = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = match kept.take() {
            Some(gate) => gate,
            None => gate::Gate::open(TABLE).map_err(|error| crate::converge::gate_error(&error))?.shared(),
        };
        act(kept.insert(gate))
    }

    /// Remembers what the gate was made.
    pub(crate) fn remember_rules(&self, rules: gate::Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
    }

    /// What the gate was made last.
    pub(crate) fn last_rules(&self) -> Option<gate::Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what the gate was: nothing is held.
    pub(crate) fn forget_gate(&self) {
        if let Some(gate) = self.gate.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            gate.forget();
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = i64::try_from(boot::wall_ms()).unwrap_or(i64::MAX);
        Now { wall: Wall(wall), mono: Mono(boot::boottime_ms()) }
    }

    /// Why holds cannot be changed: a disk that cannot be written, or a missing right, `to` do what.
    pub(crate) fn unwritable(&self, to: &str) -> Why {
        let cause = self.store().unwritable();
        match cause.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem => {
                let what = self.place.state_dir.join("ebb.db").display().to_string();
                Why::Unwritten { what, cause: cause.to_string() }
            }
            _ => Why::NotPermitted { what: to.to_owned() },
        }
    }

    /// Keeps other ebb processes from changing holds and gate between our looking and our doing.
    /// Released when the file is dropped, also by a crash.
    pub(crate) fn lock(&self) -> Result<File, Why> {
        let path = self.place.state_dir.join("lock");
        let failed = |cause: std::io::Error| match cause.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotFound => {
                Why::NotPermitted { what: format!("write to {}", self.place.state_dir.display()) }
            }
            std::io::ErrorKind::ReadOnlyFilesystem => self.unwritable(""),
            _ => Why::Unread { what: path.display().to_string(), cause: cause.to_string() },
        };
        self.store().make().map_err(|error| unread(&error))?;
        // For its owner only: whoever may open it could hold it, and all of us up.
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
        let until = Instant::now() + LOCK_WITHIN;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    let cause = format!("another ebb has held it for {} s", LOCK_WITHIN.as_secs());
                    return Err(Why::Unread { what: path.display().to_string(), cause });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_AGAIN),
            }
        }
    }

    /// Writes an event to the history and the journal; the answer is its place in the history, 0 if it
    /// could not be written there.
    pub(crate) fn record(&self, event: &Event, service: Option<&Service>) -> u64 {
        let sequence = {
            let mut store = self.store();
            if store.is_writable() { store.append(event).unwrap_or(0) } else { 0 }
        };
        self.to_journal(event, service);
        crate::notices::hear(self, event);
        sequence
    }

    fn to_journal(&self, event: &Event, service: Option<&Service>) {
        let Some(journal) = &self.journal else { return };
        let number = event.kind.number().to_string();
        let upper: Vec<(String, &str)> = event
            .fields
            .iter()
            .map(|field| (format!("EBB_{}", field.name.to_ascii_uppercase()), field.value.as_str()))
            .collect();
        let priority = if crate::say::is_alarm(event.kind) { "4" } else { "5" };
        let mut fields = vec![
            ("MESSAGE", event.text.as_str()),
            ("MESSAGE_ID", event.kind.message_id()),
            ("PRIORITY", priority),
            ("SYSLOG_IDENTIFIER", "ebb"),
            ("EBB_EVENT", event.kind.as_str()),
            ("EBB_NUMBER", number.as_str()),
        ];
        if let Some(service) = &event.service {
            fields.push(("EBB_SERVICE", service.as_str()));
        }
        // So that `journalctl -u nginx` shows it.
        let units = service.map(crate::look::units_of).unwrap_or_default();
        fields.extend(units.iter().map(|unit| ("OBJECT_SYSTEMD_UNIT", unit.as_str())));
        fields.extend(upper.iter().map(|(name, value)| (name.as_str(), *value)));
        // The history has it already; a journal that is full or gone must not hold up a drain.
        let _ = journal.send(&fields);
    }
}

impl World {
    /// Says what is wrong to whoever reads the journal; without one, on standard error where a service manager hears it.
    pub(crate) fn complain(&self, text: &str) {
        let fields = [("MESSAGE", text), ("PRIORITY", "3"), ("SYSLOG_IDENTIFIER", "ebb")];
        if let Some(journal) = &self.journal {
            let _ = journal.send(&fields);
        } else {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("ebb: {text}\n").as_bytes());
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Whom a hold is by: behind sudo, the person who called it.
fn who() -> Who {
    if let Some(user) = boot::sudo_user() {
        return Who { uid: user.uid, name: user.name.unwrap_or_else(|| format!("uid {}", user.uid)) };
    }
    let uid = boot::effective_uid();
    Who { uid, name: boot::login_name(uid).unwrap_or_else(|| format!("uid {uid}")) }
}

/// The login name of a user, or its number.
pub(crate) fn user_name(uid: u32) -> String {
    boot::login_name(uid).unwrap_or_else(|| format!("uid {uid}"))
}

/// A store's error as a reason.
pub(crate) fn unread(error: &ebb_store::StoreError) -> Why {
    if error.is_not_permitted() {
        return Why::NotPermitted { what: "change holds".to_owned() };
    }
    if error.is_of_writing() {
        return Why::Unwritten { what: "ebb.db, the store,".to_owned(), cause: chain(error) };
    }
    Why::Unread { what: "the store".to_owned(), cause: chain(error) }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
