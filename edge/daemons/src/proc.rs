//! Processes and their sockets as `/proc` shows them, for daemons that tell nothing but have a process for each session.
//! Whose processes they are is not known: nothing is read without a limit.

pub(crate) mod pairs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ebb_model::{DaemonKind, Ended, Span};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// So much of a title or of a list of arguments is read.
const MOST_TITLE: u64 = 4096;
/// So much of an environment.
const MOST_ENVIRONMENT: u64 = 1 << 17;
/// So many descriptors of one process are looked at, and so many where sockets are looked for.
const MOST_FILES: usize = 4096;
const MOST_SOCKETS: usize = 100_000;

/// One process that lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// Name of the executable's file, at most 15 bytes of it; a process can change it.
    pub(crate) name: String,
    /// As it calls itself: title or arguments, their parts separated by spaces. Empty where nobody asked for it.
    pub(crate) title: String,
    /// Clock ticks from boot to its start.
    pub(crate) started: u64,
    /// The process group in the foreground of its terminal; none without one.
    pub(crate) foreground: Option<u32>,
}

impl Process {
    /// Names it for ever: a pid alone may be another's by now.
    pub(crate) fn key(&self) -> String {
        format!("{}@{}", self.pid, self.started)
    }

    /// How long it has run; `up` is how long the system has.
    pub(crate) fn age(&self, up: Span) -> Span {
        // 100 ticks a second is Linux's ABI for /proc.
        Span(up.0.saturating_sub(self.started.saturating_mul(10)))
    }
}

/// How long the system has run.
pub(crate) fn up() -> Option<Span> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(Span((up * 1000.0) as u64))
}

/// All processes that live, and the titles of those that are wished. `wished` is given a process and its parent.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn all(wished: impl Fn(&Process, Option<&Process>) -> bool) -> io::Result<BTreeMap<u32, Process>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()?.parse::<u32>().ok());
    let mut all: BTreeMap<u32, Process> = pids.filter_map(|pid| Some((pid, read(pid)?))).collect();
    let titled: Vec<u32> = all.values().filter(|one| wished(one, all.get(&one.parent))).map(|one| one.pid).collect();
    for pid in titled {
        if let Some(process) = all.get_mut(&pid) {
            process.title = title(pid);
        }
    }
    Ok(all)
}

/// One process, without its title; none if it is gone.
pub(crate) fn read(pid: u32) -> Option<Process> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// From `stat`, see proc(5).
fn parse(pid: u32, stat: &[u8]) -> Option<Process> {
    let stat = String::from_utf8_lossy(stat);
    // The name may hold spaces and parentheses.
    let (head, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // A zombie has ended; nobody has asked how, so far.
    let lives = !matches!(*fields.first()?, "Z" | "X");
    lives.then_some(())?;
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        name: head.split_once(" (")?.1.to_owned(),
        title: String::new(),
        started: fields.get(19)?.parse().ok()?,
        foreground: fields.get(5)?.parse().ok(),
    })
}

fn title(pid: u32) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/cmdline")) {
        let _ = file.take(MOST_TITLE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ").trim().to_owned()
}

/// Whether it is in our own network namespace, where the sockets are that we are asked for.
pub(crate) fn is_here(pid: u32) -> bool {
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    space(&pid.to_string()).is_some_and(|of| space("self") == Some(of))
}

/// Whether root runs it, in all its roles: nobody else can have made it say what it says.
pub(crate) fn is_roots(pid: u32) -> bool {
    let Ok(file) = File::open(format!("/proc/{pid}/status")) else { return false };
    let mut text = String::new();
    let _ = file.take(MOST_TITLE).read_to_string(&mut text);
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.is_some_and(|ids| ids.split_whitespace().count() == 4 && ids.split_whitespace().all(|id| id == "0"))
}

/// Whether we may see which files others have open.
pub(crate) fn may_see_files(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok()
}

/// Its pid in the PID namespace it lives in: a daemon in there knows its processes by these.
pub(crate) fn inner_pid(pid: u32) -> Option<u32> {
    let mut text = String::new();
    let _ = File::open(format!("/proc/{pid}/status")).ok()?.take(MOST_TITLE).read_to_string(&mut text);
    text.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
}

/// A variable that it was started with.
pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let _ = File::open(format!("/proc/{pid}/environ")).ok()?.take(MOST_ENVIRONMENT).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.split('\0').find_map(|one| Some(one.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// What a process has open, as its links tell: paths, `anon_inode:inotify`, `socket:[7]`. The three standard ones are left
/// out.
pub(crate) fn files(pid: u32) -> impl Iterator<Item = String> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(MOST_FILES);
    let own = files.filter(|file| !matches!(file.file_name().to_str(), Some("0" | "1" | "2")));
    own.filter_map(|file| Some(fs::read_link(file.path()).ok()?.to_string_lossy().into_owned()))
}

/// Inodes of the sockets that a process has.
pub(crate) fn sockets(pid: u32) -> impl Iterator<Item = u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(MOST_SOCKETS);
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links.filter_map(|link| socket(link.to_str()?))
}

/// The inode of a socket, as the link to it says: `socket:[7]`.
pub(crate) fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The client's end of the connection that each of these processes has at one of these ports of ours.
pub(crate) fn peers(pids: impl Iterator<Item = u32>, ports: &BTreeSet<u16>) -> BTreeMap<u32, SocketAddr> {
    let all = connections(pids, ports).into_iter();
    all.filter_map(|(pid, peers)| Some((pid, peers.last().copied()?))).collect()
}

/// The clients' ends of all connections that each of these processes has at one of these ports of ours.
pub(crate) fn connections(pids: impl Iterator<Item = u32>, ports: &BTreeSet<u16>) -> BTreeMap<u32, Vec<SocketAddr>> {
    connections_of(pids.flat_map(|pid| sockets(pid).map(move |inode| (inode, pid))), ports)
}

/// The same, where it is known already which sockets each process has.
pub(crate) fn connections_of(
    sockets: impl Iterator<Item = (u64, u32)>,
    ports: &BTreeSet<u16>,
) -> BTreeMap<u32, Vec<SocketAddr>> {
    let mut of: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    sockets.for_each(|(inode, pid)| of.entry(inode).or_default().push(pid));
    let mut found: BTreeMap<u32, Vec<SocketAddr>> = BTreeMap::new();
    if of.is_empty() {
        return found;
    }
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let lines = File::open(table).map(|file| BufReader::new(file).lines()).into_iter().flatten();
        for (local, peer, inode) in lines.map_while(Result::ok).filter_map(|line| connection(&line)) {
            if ports.contains(&local.port()) {
                for pid in of.get(&inode).into_iter().flatten() {
                    found.entry(*pid).or_default().push(peer);
                }
            }
        }
    }
    found
}

/// A line of `/proc/net/tcp`: both ends and the inode of a connection; none of a listener.
fn connection(line: &str) -> Option<(SocketAddr, SocketAddr, u64)> {
    const LISTENS: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let (local, peer, state) = (end_point(fields.next()?)?, end_point(fields.next()?)?, fields.next()?);
    let inode = fields.nth(5)?.parse().ok()?;
    (state != LISTENS && inode != 0).then_some((local, peer, inode))
}

/// `0100007F:1F90`: words of four bytes as they lie in memory, in hexadecimal.
fn end_point(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words: Option<Vec<[u8; 4]>> = (0..4).map(word).collect();
            let bytes: [u8; 16] = words?.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Tells the process of this key to end, if it is still that one.
pub(crate) fn end(daemon: DaemonKind, key: &str) -> Ended {
    let Some((pid, started)) = key.split_once('@') else { return Ended::Gone };
    let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else { return Ended::Gone };
    let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ended::Gone };
    let Ok(handle) = pidfd_open(known, PidfdFlags::empty()) else { return Ended::Gone };
    // Looked at with the handle open: it cannot become another's after this.
    if read(pid).is_none_or(|process| process.started != started) {
        return Ended::Gone;
    }
    match pidfd_send_signal(&handle, Signal::TERM) {
        Ok(()) => Ended::Asked,
        Err(rustix::io::Errno::SRCH) => Ended::Gone,
        Err(error) => Ended::Failed(format!("{daemon}'s process {pid} cannot be signalled: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_may_hold_anything_and_a_zombie_does_not_live() {
        let stat = b"7 (sh (x) y) S 3 7 7 34816 9 4194560 1 0 0 0 1 2 3 4 20 0 1 0 4711 1 1";
        let found = parse(7, stat).unwrap();
        assert_eq!((found.name.as_str(), found.parent, found.started), ("sh (x) y", 3, 4711));
        assert_eq!((found.foreground, found.key().as_str()), (Some(9), "7@4711"));
        assert_eq!(parse(7, b"7 (\xff\n) S 3 7 7 0 -1 0 1 0 0 0 1 2 3 4 20 0 1 0 1 1 1").unwrap().foreground, None);
        assert_eq!(parse(7, b"7 (x) Z 3 7 7 34816 9 4194560 1 0 0 0 1 2 3 4 20 0 1 0 4711 1 1"), None);
        for broken in ["", "7", "7 (x", "7 (x) S", "7 (x) S 3 7 7 34816"] {
            assert_eq!(parse(7, broken.as_bytes()), None);
        }
    }

    #[test]
    fn both_ends_of_a_connection() {
        let four =
            "   1: 0100007F:1F90 0200000A:C350 01 00000000:00000000 00:00000000 00000000  1000 0 77 1 0 20 4 30 10 -1";
        let told = ("127.0.0.1:8080".parse().unwrap(), "10.0.0.2:50000".parse().unwrap(), 77);
        assert_eq!(connection(four), Some(told).filter(|_| cfg!(target_endian = "little")));
        let six = four
            .replace("0100007F", "B80D0120000000000000000001000000")
            .replace("0200000A", "0000000000000000FFFF00000200000A");
        let told = ("[2001:db8::1]:8080".parse().unwrap(), "10.0.0.2:50000".parse().unwrap(), 77);
        assert_eq!(connection(&six), Some(told).filter(|_| cfg!(target_endian = "little")));
        assert_eq!(connection(&four.replace(" 01 ", " 0A ")), None);
        assert_eq!(
            connection("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"),
            None
        );
    }

    #[test]
    fn ones_own_connection_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(at).unwrap();
        let _accepted = listener.accept().unwrap();
        let own = std::process::id();
        let found = peers([own].into_iter(), &[at.port()].into());
        assert_eq!(found.get(&own).copied(), client.local_addr().ok());
        assert!(peers([own].into_iter(), &BTreeSet::new()).is_empty());
        let all = connections([own].into_iter(), &[at.port()].into());
        assert_eq!(all, [(own, vec![client.local_addr().unwrap()])].into());
        assert!(is_here(own) && may_see_files(own) && !is_here(0));
    }

    #[test]
    fn long_arguments_are_cut() {
        let mut child = std::process::Command::new("sleep").args(["9", &"0".repeat(100_000)]).spawn().unwrap();
        // Until it has become `sleep`, its arguments are ours.
        let title = (0..1000).map(|_| title(child.id())).find(|title| title.starts_with("sleep 9 0"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(title.unwrap().len() as u64, MOST_TITLE);
    }

    #[test]
    fn who_is_another_by_now_is_not_ended() {
        assert_eq!(end(DaemonKind::Openssh, &format!("{}@1", std::process::id())), Ended::Gone);
        for key in ["", "x@y", "0@0", "1", "-1@0", "4294967295@1"] {
            assert_eq!(end(DaemonKind::Openssh, key), Ended::Gone, "{key}");
        }
        let own = read(std::process::id()).unwrap();
        assert!(own.age(up().unwrap()) < Span::seconds(3600));
    }

    proptest! {
        #[test]
        fn anything_in_the_tables_is_survived(line in ".*", stat in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = connection(&line);
            let _ = end_point(&line);
            let _ = parse(1, &stat);
        }
    }
}
