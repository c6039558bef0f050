//! Processes as `/proc` shows them, for daemons that tell nothing but have a process for each session.

use std::collections::BTreeMap;
use std::fs;

use ebb_model::{DaemonKind, Ended, Span};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// As it calls itself: title or arguments, their parts separated by spaces.
    pub(crate) title: String,
    /// Name of the executable's file, at most 15 bytes of it.
    pub(crate) name: String,
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

    /// How long it has run.
    pub(crate) fn age(&self) -> Option<Span> {
        let text = fs::read_to_string("/proc/uptime").ok()?;
        let up: f64 = text.split_whitespace().next()?.parse().ok()?;
        // 100 ticks a second is Linux's ABI for /proc.
        Some(Span(((up * 1000.0) as u64).saturating_sub(self.started * 10)))
    }
}

/// All processes in our own network namespace.
pub(crate) fn all() -> BTreeMap<u32, Process> {
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = space("self");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()?.parse::<u32>().ok());
    let here = pids.filter(|pid| space(&pid.to_string()) == own);
    here.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

/// One process; none if it is gone.
pub(crate) fn read(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    parse(pid, &stat, &title)
}

/// From `stat` (see proc(5)) and `cmdline`.
fn parse(pid: u32, stat: &str, title: &[u8]) -> Option<Process> {
    // The name may hold spaces and parentheses.
    let (head, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let title = String::from_utf8_lossy(title);
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        title: title.trim_end_matches('\0').replace('\0', " ").trim().to_owned(),
        name: head.split_once(" (")?.1.to_owned(),
        started: fields.get(19)?.parse().ok()?,
        foreground: fields.get(5)?.parse().ok(),
    })
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
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_a_title_with_zeros() {
        let stat = "7 (sh (x) y) S 3 7 7 34816 9 4194560 1 0 0 0 1 2 3 4 20 0 1 0 4711 1 1";
        let found = parse(7, stat, b"sshd: ana@pts/0\0\0\0").unwrap();
        assert_eq!((found.name.as_str(), found.parent, found.started), ("sh (x) y", 3, 4711));
        assert_eq!((found.title.as_str(), found.foreground), ("sshd: ana@pts/0", Some(9)));
        for broken in ["", "7", "7 (x", "7 (x) S", "7 (x) S 3 7 7 34816"] {
            assert_eq!(parse(7, broken, b""), None);
        }
    }

    #[test]
    fn who_is_another_by_now_is_not_ended() {
        assert_eq!(end(DaemonKind::Openssh, &format!("{}@1", std::process::id())), Ended::Gone);
        for key in ["", "x@y", "0@0", "1"] {
            assert_eq!(end(DaemonKind::Openssh, key), Ended::Gone, "{key}");
        }
        let own = read(std::process::id()).unwrap();
        assert!(own.age().unwrap() < Span::seconds(3600) && own.key().contains('@'));
    }
}
