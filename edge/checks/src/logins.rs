//! Who else is logged in: what `who` reads (utmp), and what logind knows.

use std::path::Path;

use ebb_model::Login;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::{Here, bus};

const UTMP: &str = "/run/utmp";
/// `USER_PROCESS` of utmp(5).
const USER: i16 = 7;
/// Bytes of a record of glibc; its time is longer on newer machines.
const RECORD: usize = if cfg!(any(target_arch = "x86_64", target_arch = "x86")) { 384 } else { 400 };

/// All logins but that of the asker.
///
/// # Errors
/// Neither of the two can be asked.
pub(crate) async fn others(here: &Here) -> Result<Vec<Login>, String> {
    let (by_utmp, by_logind) = (read(Path::new(UTMP)), bus::sessions().await);
    let mut all = match (by_utmp, by_logind) {
        (Err(utmp), Err(logind)) => return Err(format!("{UTMP}: {utmp}; logind: {logind}")),
        (Ok(one), Ok(other)) => joined(one, other),
        (Ok(one), Err(_)) => one,
        (Err(_), Ok(other)) => other,
    };
    all.retain(|login| !is_own(login, here));
    Ok(all)
}

fn is_own(login: &Login, here: &Here) -> bool {
    here.own_processes.contains(&login.leader) || here.own_terminals.contains(&login.terminal)
}

/// Each login once: the same terminal or the same first process is the same login.
fn joined(mut all: Vec<Login>, more: Vec<Login>) -> Vec<Login> {
    for login in more {
        let same =
            |known: &Login| known.terminal == login.terminal || (known.leader == login.leader && known.leader != 0);
        if !all.iter().any(same) {
            all.push(login);
        }
    }
    all
}

fn read(path: &Path) -> Result<Vec<Login>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    Ok(bytes.chunks_exact(RECORD).filter_map(login).filter(lives).collect())
}

fn login(record: &[u8]) -> Option<Login> {
    let text = |from: usize, length: usize| {
        let bytes = record.get(from..from + length)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(length);
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    };
    let kind = i16::from_ne_bytes(record.get(..2)?.try_into().ok()?);
    let leader = i32::from_ne_bytes(record.get(4..8)?.try_into().ok()?);
    let (terminal, user, from) = (text(8, 32)?, text(44, 32)?, text(76, 256)?);
    let person = kind == USER && !user.is_empty();
    person.then(|| Login {
        user,
        terminal,
        from: Some(from).filter(|from| !from.is_empty()),
        leader: u32::try_from(leader).unwrap_or(0),
    })
}

/// A login that ended in a crash stays in utmp.
fn lives(login: &Login) -> bool {
    let pid = i32::try_from(login.leader).ok().and_then(Pid::from_raw);
    pid.is_none_or(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::process::Command;

    fn record(kind: i16, pid: i32, line: &str, user: &str, host: &str) -> Vec<u8> {
        let mut bytes = vec![0; RECORD];
        bytes[..2].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&pid.to_ne_bytes());
        for (at, text) in [(8, line), (44, user), (76, host)] {
            bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        bytes
    }

    fn login_at(terminal: &str, leader: u32) -> Login {
        Login { user: "ana".into(), terminal: terminal.into(), from: None, leader }
    }

    #[test]
    fn records_are_read_as_who_reads_them() {
        let own = i32::try_from(std::process::id()).unwrap();
        // A pid that lived and does not any more.
        let mut gone = Command::new("true").spawn().unwrap();
        let dead = i32::try_from(gone.id()).unwrap();
        gone.wait().unwrap();
        let all = [
            record(2, 0, "~", "reboot", "6.1.0"),
            record(USER, own, "pts/3", "ana", "10.0.0.9"),
            record(USER, dead, "pts/4", "bo", ""),
            record(8, own, "pts/5", "", ""),
            record(USER, own, "tty1", "root", ""),
        ];
        let path = std::env::temp_dir().join(format!("ebb-utmp-{own}"));
        std::fs::write(&path, all.concat()).unwrap();
        let seen = read(&path).unwrap();
        let said = Command::new("who").arg(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let who: BTreeSet<(&str, &str)> = said
            .lines()
            .map(|line| {
                let mut words = line.split_whitespace();
                (words.next().unwrap(), words.next().unwrap())
            })
            // It shows those that ended in a crash too, or not: a matter of its version.
            .filter(|(user, _)| *user != "bo")
            .collect();
        assert_eq!(who, seen.iter().map(|login| (login.user.as_str(), login.terminal.as_str())).collect());
        assert_eq!(seen[0].from.as_deref(), Some("10.0.0.9"));
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(read(Path::new("/no/such")).is_err());
    }

    #[test]
    fn one_login_seen_twice_is_one() {
        let all = joined(
            vec![login_at("pts/1", 10), login_at("pts/2", 0)],
            vec![login_at("pts/1", 11), login_at("no terminal", 10), login_at("tty1", 0)],
        );
        let terminals: Vec<&str> = all.iter().map(|login| login.terminal.as_str()).collect();
        assert_eq!(terminals, ["pts/1", "pts/2", "tty1"]);
    }

    #[test]
    fn the_askers_own_is_left_out() {
        let here = Here { own_processes: [10].into(), own_terminals: ["pts/2".to_owned()].into(), ..Here::default() };
        for (login, own) in
            [(login_at("pts/1", 10), true), (login_at("pts/2", 5), true), (login_at("pts/3", 11), false)]
        {
            assert_eq!(is_own(&login, &here), own, "{login:?}");
        }
    }
}
