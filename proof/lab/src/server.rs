//! A server: one real system, and the hardware that boots it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Cable, Site};
use crate::run::{Host, Place};
use crate::{LabError, Result};

/// What the machine keeps for itself. PID 1 starts without these, and so must every command led in from outside:
/// nsenter keeps the caller's own, and a `date -s` in a test would set the machine's clock.
pub(crate) const KEPT_BACK: &str = "-sys_time,-sys_module,-sys_rawio";
const BOOT: &str = include_str!("../scripts/boot.sh");
/// A system is up after some 2 s; one whose disk is busy takes longer.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// systemd gives a unit 90 s to stop.
const STOP_LIMIT: Duration = Duration::from_secs(150);
/// From the start of the script to PID 1, and from the end of PID 1 to that of all.
const HARDWARE_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
/// The kernel ends a pid namespace in which reboot(2) was called with this signal; poweroff is SIGINT.
const SIGHUP: i32 = 1;

/// A real Debian 12 under systemd. Clones are the same server.
#[derive(Debug, Clone)]
pub struct Server {
    machine: Arc<Machine>,
}

/// The hardware.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    cable: Cable,
    dir: PathBuf,
    base: PathBuf,
    cgroup: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    power: Power,
    /// How often it has been booted.
    boots: u32,
    /// The lab ends: no more boots.
    retired: bool,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Power {
    #[default]
    Off,
    /// Between switching on, or a system's end, and the next PID 1.
    Booting,
    On(System),
    /// The hardware could not boot: the whole message.
    Broken(String),
}

/// One boot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct System {
    /// Its PID 1, as the machine numbers it.
    pid: u32,
    /// The root of its cgroups; a new one for each boot.
    cgroup: PathBuf,
}

impl Server {
    pub(crate) fn new(machine: Arc<Machine>) -> Self {
        Self { machine }
    }

    /// Enables a unit and starts it.
    ///
    /// # Errors
    /// When systemd refuses or the unit does not start; with its last journal lines.
    pub fn enable(&self, unit: &str) -> Result<()> {
        let out = self.exec(&["systemctl", "enable", "--now", unit])?;
        if out.ok() {
            return Ok(());
        }
        let journal = self.exec(&["journalctl", "-n", "20", "--no-pager", "-u", unit])?;
        let command = format!("{}: systemctl enable --now {unit}", self.name());
        Err(LabError::Command { command, code: out.code, text: out.stderr + &journal.stdout })
    }

    /// Writes a file, and the directories above it, with this mode (0o644, …), as root.
    ///
    /// # Errors
    /// When the server is off or the file cannot be written.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        const WRITE: &str =
            r#"mkdir -p "${0%/*}/" && cat >"$0.lab-new" && chmod "$1" "$0.lab-new" && mv "$0.lab-new" "$0""#;
        let mode = format!("{mode:o}");
        let out = self.exec_within(HARDWARE_LIMIT, &["sh", "-c", WRITE, path, &mode], content.as_ref())?;
        if out.ok() {
            return Ok(());
        }
        Err(LabError::Command { command: format!("put {path}"), code: out.code, text: out.stderr })
    }

    /// Reads a text file.
    ///
    /// # Errors
    /// When the server is off or there is no such file.
    pub fn read(&self, path: &str) -> Result<String> {
        self.check(&["cat", path])
    }

    /// The kernel's boot id as the server sees it; another after each boot.
    ///
    /// # Errors
    /// When the server is off.
    pub fn boot_id(&self) -> Result<String> {
        Ok(self.read("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
    }

    /// How often it has been booted; see [`Server::wait_boot_after`].
    pub fn boots(&self) -> u32 {
        self.machine.lock().boots
    }

    /// Orderly reboot; returns when the next system is up. Addresses and MAC stay, all else in the kernel is new.
    ///
    /// # Errors
    /// When the system does not end or the next one does not come up.
    pub fn reboot(&self) -> Result<()> {
        let before = self.boots();
        // The command may be killed by what it asked for.
        self.exec(&["systemctl", "reboot"])?;
        self.wait_boot_after(before)
    }

    /// Waits until a system is up that is later than boot number `before`: for a reboot which another began.
    ///
    /// # Errors
    /// When it is not up in time; with what is known of why.
    pub fn wait_boot_after(&self, before: u32) -> Result<()> {
        let machine = &self.machine;
        let later = |s: &State| s.boots > before && matches!(s.power, Power::On(_)) || s.never_on();
        machine.wait_until("the next boot", STOP_LIMIT, later)?;
        let start = Instant::now();
        let mut said = String::new();
        while start.elapsed() < BOOT_LIMIT {
            match self.exec(&["systemctl", "is-system-running"]) {
                Ok(out) if matches!(out.stdout.trim(), "running" | "degraded") => return Ok(()),
                Ok(out) => said = out.stdout + &out.stderr,
                Err(error) => return Err(machine.not_up(&format!("failed to {error}"))),
            }
            thread::sleep(LOOK * 2);
        }
        let jobs = self.sh("systemctl list-jobs; systemctl --failed; journalctl -b -n 20 --no-pager")?;
        Err(machine.not_up(&format!("{said}\n{}", jobs.stdout)))
    }

    /// Orderly shutdown; returns when it is off.
    ///
    /// # Errors
    /// When the system does not end.
    pub fn power_off(&self) -> Result<()> {
        self.exec(&["systemctl", "poweroff"])?;
        self.machine.wait_until("power off", STOP_LIMIT, |s| s.power == Power::Off)
    }

    /// Pulls the plug: the network falls silent first, so that no peer learns of it, then all ends at once.
    /// Returns when it is off. Files written without fsync survive; the lab cannot show that loss.
    ///
    /// # Errors
    /// When the server is off already.
    pub fn power_loss(&self) -> Result<()> {
        let system = self.machine.system()?;
        self.machine.cable.link(false)?;
        kill_below(&system.cgroup);
        self.machine.wait_until("the loss of power", HARDWARE_LIMIT, |s| s.power == Power::Off)
    }

    /// Boots a server that is off; returns when its system is up.
    ///
    /// # Errors
    /// When it is on already or its system does not come up.
    pub fn power_on(&self) -> Result<()> {
        let before = self.boots();
        self.power_on_nowait()?;
        self.wait_boot_after(before)
    }

    pub(crate) fn power_on_nowait(&self) -> Result<()> {
        {
            let mut state = self.machine.lock();
            if !state.never_on() {
                return Err(LabError::AlreadyOn { name: self.machine.name.clone() });
            }
            state.power = Power::Booting;
        }
        let machine = Arc::clone(&self.machine);
        thread::Builder::new()
            .name(format!("hardware-{}", machine.name))
            .spawn(move || machine.run())
            .map_err(|source| LabError::Start { program: "a thread".into(), source })?;
        Ok(())
    }

    /// Takes the network cable out (false) or puts it in again (true).
    ///
    /// # Errors
    /// When the server is off.
    pub fn cable(&self, plugged: bool) -> Result<()> {
        self.machine.cable.link(plugged)
    }
}

impl Host for Server {
    fn name(&self) -> &str {
        &self.machine.name
    }

    fn v4(&self) -> Ipv4Addr {
        self.machine.cable.v4
    }

    fn v6(&self) -> Ipv6Addr {
        self.machine.cable.v6
    }

    fn place(&self) -> Result<Place> {
        const INSIDE: [&str; 8] = [
            "setpriv",
            "--bounding-set",
            KEPT_BACK,
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LANG=C.UTF-8",
        ];
        let system = self.machine.system()?;
        let pid = system.pid.to_string();
        let enter = ["nsenter", "-t", &pid, "-m", "-u", "-i", "-n", "-p", "-C", "-T", "--"]
            .iter()
            .chain(&INSIDE)
            .map(|word| (*word).to_owned())
            .collect();
        Ok(Place { cgroup: system.cgroup, enter, forks: true })
    }
}

impl State {
    /// No boot will come by itself.
    fn never_on(&self) -> bool {
        matches!(self.power, Power::Off | Power::Broken(_))
    }
}

impl Machine {
    /// Assembles it, with the ebb under test on its disk.
    pub(crate) fn new(site: &Site, name: &str, cable: Cable) -> Result<Arc<Self>> {
        let dir = site.dir.join(name);
        for part in ["upper/etc", "upper/usr/bin", "work", "root"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(LabError::file("create", &path))?;
        }
        let write = |file: &str, text: String| {
            let path = dir.join("upper").join(file);
            fs::write(&path, text).map_err(LabError::file("write", &path))
        };
        write("etc/hostname", format!("{name}\n"))?;
        write("etc/hosts", format!("127.0.0.1 localhost\n::1 localhost\n{} {name}\n", cable.v4))?;
        write("etc/machine-id", machine_id()?)?;
        if let Some(ebb) = ebb_binary()? {
            let to = dir.join("upper/usr/bin/ebb");
            fs::copy(&ebb, &to).map_err(LabError::file("copy", &ebb))?;
        }
        let cgroup = site.cgroup.join(name);
        fs::create_dir(&cgroup).map_err(LabError::file("create", &cgroup))?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            cable,
            dir,
            base: site.base.clone(),
            cgroup,
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// No more boots after this one.
    pub(crate) fn retire(&self) {
        self.lock().retired = true;
    }

    /// Ends the system now, if there is one.
    pub(crate) fn kill(&self) {
        if let Ok(system) = self.system() {
            kill_below(&system.cgroup);
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.lock().never_on()
    }

    /// The life of the hardware from switching on to off, a boot each round.
    fn run(&self) {
        loop {
            if self.lock().retired {
                return self.set(Power::Off);
            }
            let (mut child, system) = match self.boot() {
                Ok(booted) => booted,
                Err(error) => return self.set(Power::Broken(format!("failed to {error}"))),
            };
            let cgroup = system.cgroup.clone();
            self.lock().boots += 1;
            self.set(Power::On(system.clone()));
            let end = wait_end(&mut child, &system);
            self.set(Power::Booting);
            if let Err(error) = self.clear(&cgroup) {
                return self.set(Power::Broken(format!("failed to {error}")));
            }
            if !end.as_ref().is_ok_and(wants_reboot) {
                return self.set(Power::Off);
            }
        }
    }

    fn boot(&self) -> Result<(Child, System)> {
        let cgroup = self.cgroup.join(format!("boot{}", self.lock().boots + 1));
        fs::create_dir(&cgroup).map_err(LabError::file("create", &cgroup))?;
        self.cable.plug()?;
        let pid_file = self.dir.join("pid");
        let _ = fs::remove_file(&pid_file);
        let mut child = self.ignite(&cgroup)?;
        let start = Instant::now();
        loop {
            if let Some(pid) = fs::read_to_string(&pid_file).ok().and_then(|t| t.trim().parse().ok()) {
                return Ok((child, System { pid, cgroup }));
            }
            if start.elapsed() > HARDWARE_LIMIT || child.try_wait().is_ok_and(|ended| ended.is_some()) {
                let _ = fs::write(cgroup.join("cgroup.kill"), "1");
                let _ = child.wait();
                let what = format!("PID 1 of {}", self.name);
                return Err(LabError::NotSeen { what, limit: HARDWARE_LIMIT, text: self.console() });
            }
            thread::sleep(LOOK);
        }
    }

    /// First into the cgroup, then the namespaces: so the cgroup is the root of what the server sees. The clocks
    /// are set back by the machine's uptime, so that the server's begins at its boot.
    fn ignite(&self, cgroup: &Path) -> Result<Child> {
        const LEAD_IN: &str = r#"echo $$ >"$0/cgroup.procs"
read -r up _ </proc/uptime; up=${up%.*}
net=$1; shift
exec nsenter --net="$net" unshare --mount --uts --ipc --pid --cgroup --time \
  --monotonic="-$up" --boottime="-$up" --fork --kill-child bash -c "$@""#;
        let path = self.dir.join("console.log");
        let open = File::options().create(true).append(true).open(&path);
        let console = open.map_err(LabError::file("create", &path))?;
        let both = console.try_clone().map_err(LabError::file("open", &path))?;
        Command::new("sh")
            .args(["-c", LEAD_IN])
            .arg(cgroup)
            .args([&format!("/run/netns/{}", self.cable.netns), BOOT, "ebb-lab-boot"])
            .args([&self.dir, &self.base])
            .args([&self.name, KEPT_BACK])
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(both)
            .spawn()
            .map_err(|source| LabError::Start { program: format!("server {}", self.name), source })
    }

    /// After a system's end: forgets its network, and waits until the last process has left its disk.
    fn clear(&self, cgroup: &Path) -> Result<()> {
        self.cable.unplug()?;
        let start = Instant::now();
        while cgroup.exists() && start.elapsed() < HARDWARE_LIMIT {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            remove_tree(cgroup);
            if cgroup.exists() {
                thread::sleep(LOOK);
            }
        }
        if !cgroup.exists() {
            return Ok(());
        }
        let text = fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
        let what = format!("the end of all processes of {}", self.name);
        Err(LabError::NotSeen { what, limit: HARDWARE_LIMIT, text })
    }

    fn system(&self) -> Result<System> {
        match &self.lock().power {
            Power::On(system) => Ok(system.clone()),
            _ => Err(LabError::Off { name: self.name.clone() }),
        }
    }

    fn wait_until(&self, what: &str, limit: Duration, seen: impl Fn(&State) -> bool) -> Result<()> {
        let guard = self.lock();
        let (state, _) =
            self.changed.wait_timeout_while(guard, limit, |s| !seen(s)).unwrap_or_else(PoisonError::into_inner);
        let text = match &state.power {
            Power::Broken(why) => why.clone(),
            _ if seen(&state) => return Ok(()),
            other => format!("{other:?}"),
        };
        drop(state);
        let text = format!("{text}\n{}", self.console());
        Err(LabError::NotSeen { what: format!("{what} of {}", self.name), limit, text })
    }

    fn set(&self, power: Power) {
        self.lock().power = power;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_up(&self, why: &str) -> LabError {
        let text = format!("{why}\n{}", self.console());
        LabError::NotSeen { what: format!("{} running", self.name), limit: BOOT_LIMIT, text }
    }

    fn console(&self) -> String {
        fs::read_to_string(self.dir.join("console.log")).unwrap_or_default()
    }
}

/// Kills all in the groups of a system, but not `unshare` in their root: it shall reap PID 1, which would else
/// be left to the machine's init as a zombie.
fn kill_below(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        // What is not a group has no such file; a group just removed needs no killing.
        let _ = fs::write(entry.path().join("cgroup.kill"), "1");
    }
}

/// Waits for a system's end.
///
/// At its shutdown it stops, ends and continues all its processes. `nsenter`, which waits outside for one, stops with it, and
/// is not continued: what it should reap would keep the system waiting for 90 s.
fn wait_end(child: &mut Child, system: &System) -> std::io::Result<ExitStatus> {
    loop {
        if let Some(end) = child.try_wait()? {
            return Ok(end);
        }
        let name = fs::read_to_string(format!("/proc/{}/comm", system.pid)).unwrap_or_default();
        if name.starts_with("systemd-shutdow") {
            continue_below(&system.cgroup);
        }
        thread::sleep(LOOK * 2);
    }
}

fn continue_below(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        let pids = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
        if entry.file_name().to_string_lossy().starts_with("lab.run.") && !pids.is_empty() {
            let _ =
                Command::new("sh").args(["-c", r#"kill -s CONT "$@" 2>/dev/null"#, "sh"]).args(pids.lines()).status();
        }
    }
}

fn wants_reboot(end: &ExitStatus) -> bool {
    end.signal() == Some(SIGHUP)
}

/// Removes a tree of cgroups from its leaves; one with processes stays.
fn remove_tree(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

fn machine_id() -> Result<String> {
    let source = "/proc/sys/kernel/random/uuid";
    let uuid = fs::read_to_string(source).map_err(LabError::file("read", source))?;
    Ok(uuid.replace('-', ""))
}

/// The ebb under test: `EBB_BIN`, else the newer of the workspace's release and debug builds, if any.
///
/// # Errors
/// When `EBB_BIN` names no file.
pub fn ebb_binary() -> Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os("EBB_BIN").map(PathBuf::from) {
        let there = path.is_file();
        let missing = || LabError::Missing { what: format!("EBB_BIN, {}", path.display()) };
        return if there { Ok(Some(path)) } else { Err(missing()) };
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("ebb"));
    let time = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
    Ok(built.into_iter().filter(|path| time(path).is_some()).max_by_key(time))
}
