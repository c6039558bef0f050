//! The lab: network, scratch directory, and the watcher that removes it all.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::Place;
use crate::server::{KEPT_BACK, Machine, Server};
use crate::tool::script;
use crate::{Client, LabError, Result, base_image};

const SWEEP: &str = include_str!("../scripts/sweep.sh");
const PLUG: &str = include_str!("../scripts/plug.sh");
const UNPLUG: &str = include_str!("../scripts/unplug.sh");

/// On a disk: systems write some 20 MB each.
const SCRATCH: &str = "/var/tmp/ebb-lab";
/// Each server takes 7 of these, and the limit of all is root's.
const INOTIFY: &str = "/proc/sys/fs/inotify/max_user_instances";
const INOTIFY_WANTED: u32 = 4096;
/// How long killed servers have to be gone.
const END_LIMIT: Duration = Duration::from_secs(10);

static NEXT_LAB: AtomicU32 = AtomicU32::new(0);

/// A network with servers and clients. Dropping it ends them all at once and leaves nothing behind.
#[derive(Debug)]
pub struct Lab {
    site: Arc<Site>,
    hosts: Mutex<Hosts>,
    sweeper: Child,
}

/// What every host of the lab needs to know of it.
#[derive(Debug)]
pub(crate) struct Site {
    /// Unique on the machine: name, pid, the process's birth, a number. Names of namespaces and cgroups begin
    /// with it, and it tells a later lab whether this one still has an owner.
    id: String,
    /// Scratch files, a directory per server.
    pub(crate) dir: PathBuf,
    pub(crate) cgroup: PathBuf,
    pub(crate) base: PathBuf,
}

#[derive(Debug, Default)]
struct Hosts {
    names: Vec<String>,
    machines: Vec<Arc<Machine>>,
}

/// A host's place on the network; the same after each boot.
#[derive(Debug, Clone)]
pub(crate) struct Cable {
    /// Name of the network namespace.
    pub(crate) netns: String,
    bridge_netns: String,
    /// The bridge's end.
    port: String,
    mac: String,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

impl Lab {
    /// Makes an empty lab. The name is for people: letters and digits; two labs may have the same.
    ///
    /// First removes labs whose process is gone, and makes the base image where there is none.
    ///
    /// # Errors
    /// When namespaces are forbidden (see [`crate::allowed`]), there is no cgroup2, or the base cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        valid_name(name)?;
        let groups = cgroup2_root()?;
        sweep_stale(&groups)?;
        let base = base_image()?;
        raise_inotify_limit()?;
        let number = NEXT_LAB.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id().to_string();
        let born = birth(&pid).ok_or_else(|| LabError::Missing { what: "this process in /proc".into() })?;
        let id = format!("ebb-{name}-{pid}-{born}-{number}");
        let dir = Path::new(SCRATCH).join(&id);
        let site = Arc::new(Site { cgroup: groups.join(&id), id, dir, base });
        fs::create_dir_all(&site.dir).map_err(LabError::file("create", &site.dir))?;
        let sweeper = sweeper(&site.id, &site.cgroup, &site.dir)?;
        // From here on a failure is swept by Drop.
        let lab = Self { site, hosts: Mutex::default(), sweeper };
        script(MOUNT_SCRATCH, &[&lab.site.dir])?;
        fs::create_dir(&lab.site.cgroup).map_err(LabError::file("create", &lab.site.cgroup))?;
        script(BRIDGE, &[lab.site.bridge_netns()])?;
        Ok(lab)
    }

    /// Boots a server and waits until its system is up (`running` or `degraded`).
    ///
    /// # Errors
    /// When the name is taken or the system does not come up.
    pub fn server(&self, name: &str) -> Result<Server> {
        let server = self.start_server(name)?;
        server.wait_boot_after(0)?;
        Ok(server)
    }

    /// Boots several servers at the same time.
    ///
    /// # Errors
    /// As [`Lab::server`].
    pub fn servers<const N: usize>(&self, names: [&str; N]) -> Result<[Server; N]> {
        let mut servers = Vec::with_capacity(N);
        for name in names {
            servers.push(self.start_server(name)?);
        }
        for server in &servers {
            server.wait_boot_after(0)?;
        }
        servers.try_into().map_err(|_| LabError::Missing { what: "as many servers as names".into() })
    }

    fn start_server(&self, name: &str) -> Result<Server> {
        let cable = self.new_cable(name)?;
        let machine = Machine::new(&self.site, name, cable)?;
        self.hosts().machines.push(Arc::clone(&machine));
        let server = Server::new(machine);
        server.power_on_nowait()?;
        Ok(server)
    }

    /// Makes a client.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn client(&self, name: &str) -> Result<Client> {
        let cable = self.new_cable(name)?;
        cable.plug()?;
        let cgroup = self.site.cgroup.join(name);
        fs::create_dir(&cgroup).map_err(LabError::file("create", &cgroup))?;
        let netns = format!("--net=/run/netns/{}", cable.netns);
        let enter = ["nsenter", &netns, "--", "setpriv", "--bounding-set", KEPT_BACK].map(str::to_owned).into();
        Ok(Client { name: name.to_owned(), cable, place: Place { cgroup, enter, forks: false } })
    }

    /// A directory for the test's own files; goes with the lab.
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    fn new_cable(&self, name: &str) -> Result<Cable> {
        valid_name(name)?;
        let mut hosts = self.hosts();
        if hosts.names.iter().any(|n| n == name) {
            return Err(LabError::Name { name: name.to_owned() });
        }
        let number = u8::try_from(hosts.names.len() + 1).ok().filter(|n| *n <= 200).ok_or(LabError::NoAddress)?;
        hosts.names.push(name.to_owned());
        Ok(Cable {
            netns: format!("{}-{name}", self.site.id),
            bridge_netns: self.site.bridge_netns(),
            port: format!("port{number}"),
            mac: format!("02:77:00:00:00:{number:02x}"),
            v4: Ipv4Addr::new(10, 77, 0, number),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(number)),
        })
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let machines = std::mem::take(&mut self.hosts().machines);
        for machine in &machines {
            machine.retire();
        }
        // Their threads end when their systems do; the loop, because one may have been just about to boot.
        let start = Instant::now();
        while machines.iter().any(|m| !m.is_off()) && start.elapsed() < END_LIMIT {
            machines.iter().for_each(|machine| machine.kill());
            thread::sleep(Duration::from_millis(10));
        }
        // The sweeper's signal is the end of its input. It is bounded in time.
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

impl Site {
    /// Begins with a digit, which no host does.
    fn bridge_netns(&self) -> String {
        format!("{}-0bridge", self.id)
    }
}

impl Cable {
    /// Makes the namespace and connects it.
    pub(crate) fn plug(&self) -> Result<()> {
        let (v4, v6) = (self.v4.to_string(), self.v6.to_string());
        script(PLUG, &[&self.netns, &self.bridge_netns, &self.port, &self.mac, &v4, &v6])
    }

    /// Forgets the namespace; the kernel frees it after its last process.
    pub(crate) fn unplug(&self) -> Result<()> {
        script(UNPLUG, &[&self.netns, &self.bridge_netns, &self.port])
    }

    /// Takes the cable out of the bridge, or puts it in again; the host sees its carrier go and come.
    pub(crate) fn link(&self, up: bool) -> Result<()> {
        script(
            "# set the bridge's end of a cable up or down\nexec ip -n \"$1\" link set \"$2\" \"$3\"",
            &[self.bridge_netns.as_str(), &self.port, if up { "up" } else { "down" }],
        )
    }
}

/// No snooping: a bridge that has just begun would not pass IPv6 neighbour discovery. No spanning tree: it
/// would hold back the first packets.
const BRIDGE: &str = r#"# make the bridge
set -eu
ip netns add "$1"
ip -n "$1" -batch - <<END
link set lo up
link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
address add 10.77.0.254/24 dev br0
address add fd77::fe/64 dev br0 nodad
link set br0 up
END"#;

/// The kernel makes no overlay on top of an overlay (a container's disk).
const MOUNT_SCRATCH: &str = r#"# give the scratch directory a file system which can be an overlay's upper half
set -eu
if [ "$(stat -f -c %T "$1")" = overlayfs ]; then mount -t tmpfs -o mode=755 ebb-lab "$1"; fi"#;

/// Starts the process which removes everything once this one is gone.
fn sweeper(id: &str, cgroup: &Path, dir: &Path) -> Result<Child> {
    Command::new("bash")
        .args(["-c", SWEEP, "ebb-lab-sweep", id])
        .args([cgroup, dir])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A test runner ends the whole group of a test that hangs; the sweeper must outlive it.
        .process_group(0)
        .current_dir("/")
        .spawn()
        .map_err(|source| LabError::Start { program: "the sweeper".into(), source })
}

/// Removes labs whose process is gone and whose sweeper was killed too.
fn sweep_stale(groups: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(SCRATCH) else {
        return Ok(()); // The first lab of this machine.
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().filter(|n| n.starts_with("ebb-")) else { continue };
        let mut parts = id.split('-').skip(2);
        let (owner, born) = (parts.next().unwrap_or_default(), parts.next());
        if birth(owner).as_deref() == born {
            continue;
        }
        let mut child = sweeper(id, &groups.join(id), &entry.path())?;
        drop(child.stdin.take());
        let _ = child.wait();
    }
    Ok(())
}

/// When the process started, in clock ticks since the machine's boot: tells it from a later one with its number.
fn birth(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22; the name in field 2 may hold anything, so count after its closing bracket.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

fn valid_name(name: &str) -> Result<()> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 16
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if good { Ok(()) } else { Err(LabError::Name { name: name.to_owned() }) }
}

/// Where the machine has its cgroup2 mounted; in hybrid mode that is not /sys/fs/cgroup.
fn cgroup2_root() -> Result<PathBuf> {
    let path = "/proc/self/mounts";
    let mounts = fs::read_to_string(path).map_err(LabError::file("read", path))?;
    let mut found = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    found
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .ok_or_else(|| LabError::Missing { what: "a mounted cgroup2".into() })
}

fn raise_inotify_limit() -> Result<()> {
    let now = fs::read_to_string(INOTIFY).map_err(LabError::file("read", INOTIFY))?;
    if now.trim().parse::<u32>().is_ok_and(|n| n >= INOTIFY_WANTED) {
        return Ok(());
    }
    fs::write(INOTIFY, INOTIFY_WANTED.to_string()).map_err(LabError::file("write", INOTIFY))
}
