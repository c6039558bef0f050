//! The text forms of `/proc/PID/*`; no I/O.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Pid, State};

/// The fields of `/proc/PID/stat` that we use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub comm: String,
    pub state: State,
    pub parent: Option<Pid>,
    /// Of its process group; 0 where that is of another PID namespace.
    pub group: u32,
    pub start_ticks: u64,
}

/// Reads `PID (comm) S PPID ...`. The name may hold anything, also `) R 1`, so its end is the *last* bracket.
pub(super) fn stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = state_of(fields.next()?.chars().next()?);
    let parent = Pid::new(fields.next()?.parse().ok()?);
    let group = fields.next()?.parse().ok()?;
    // proc(5): state is field 3, parent 4, group 5, start time 22: 16 fields between.
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(Stat { comm, state, parent, group, start_ticks })
}

fn state_of(letter: char) -> State {
    match letter {
        'R' => State::Running,
        'S' => State::Sleeping,
        'D' => State::Uninterruptible,
        'T' | 't' => State::Stopped,
        'Z' | 'X' | 'x' => State::Ended,
        'I' => State::Idle,
        other => State::Other(other),
    }
}

/// The second number of the line `Uid: real effective saved fs` of `/proc/PID/status`.
pub(super) fn effective_uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The path of the line `0::PATH` of `/proc/PID/cgroup`: there on pure v2 and on hybrid machines alike.
pub(super) fn unified_cgroup(content: &[u8]) -> Option<String> {
    let path = content.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    // An ended process keeps the name of a cgroup that has been removed.
    Some(String::from_utf8_lossy(without_deleted(path)).into_owned())
}

/// Arguments are separated by NUL; a process that writes its own title may leave several at the end.
pub(super) fn arguments(content: &[u8]) -> Vec<OsString> {
    let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    content[..end].split(|byte| *byte == 0).map(|piece| OsString::from_vec(piece.to_vec())).collect()
}

/// The kernel's mark for a file or cgroup that has been removed or replaced.
pub(super) fn without_deleted(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}

/// `TAG:[NUMBER]`, as in `socket:[123]` and `net:[4026531840]`.
pub(super) fn tagged(target: &[u8], tag: &[u8]) -> Option<u64> {
    let digits = target.strip_prefix(tag)?.strip_prefix(b":[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 22 33";

    #[test]
    fn a_name_may_look_like_the_rest() {
        for name in ["nginx", "a) R 1 (b", "()", "", "x y\nz", "kworker/0:1-events"] {
            let line = format!("12 ({name}) {TAIL}\n");
            let read = stat(line.as_bytes()).unwrap();
            assert_eq!(read.comm, name);
            assert_eq!((read.state, read.parent, read.start_ticks), (State::Sleeping, Pid::new(7), 4711), "{name:?}");
        }
        assert_eq!(stat(b"1 (\xff) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 2").unwrap().parent, None);
    }

    #[test]
    fn broken_stat_is_no_process() {
        for line in ["", "1", "1 (", ") 1 (", "1 (x)", "1 (x) S", "1 (x) S 2 3"] {
            assert_eq!(stat(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn hybrid_and_pure_cgroup() {
        let hybrid = b"9:name=systemd:/old\n4:memory:/x\n0::/system.slice/ssh.service\n";
        assert_eq!(unified_cgroup(hybrid).as_deref(), Some("/system.slice/ssh.service"));
        assert_eq!(unified_cgroup(b"0::/\n").as_deref(), Some("/"));
        assert_eq!(unified_cgroup(b"0::/a/b (deleted)\n").as_deref(), Some("/a/b"));
        assert_eq!(unified_cgroup(b"10::/a\n1:cpu:/\n"), None);
    }

    #[test]
    fn argument_forms() {
        assert_eq!(arguments(b""), Vec::<OsString>::new());
        assert_eq!(arguments(b"\0\0"), Vec::<OsString>::new());
        assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(arguments(b"nginx: worker process\0\0\0\0"), ["nginx: worker process"]);
    }

    #[test]
    fn tags_and_marks() {
        assert_eq!(tagged(b"socket:[4294967295]", b"socket"), Some(4_294_967_295));
        for other in ["socket:[]", "socket:[1", "pipe:[1]", "/socket:[1]", "", "socket:[-1]"] {
            assert_eq!(tagged(other.as_bytes(), b"socket"), None, "{other}");
        }
        assert_eq!(without_deleted(b"/usr/sbin/nginx (deleted)"), b"/usr/sbin/nginx");
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t1\t2\t3\t4\n"), Some(2));
    }
}
