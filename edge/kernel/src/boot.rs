//! This machine's boot, clocks, and who we are.
#![expect(unsafe_code, reason = "clock_gettime, adjtimex, sysconf, geteuid and getpwuid_r have no safe form in std")]

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What could not be found out about this machine or about us.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of `/proc` could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of `/proc` has an unknown form.
    #[error("understand {path}")]
    Form {
        /// The file.
        path: &'static str,
    },
}

/// Names one boot of one machine: differs after every reboot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(String);

impl BootId {
    /// The current boot: `/proc/sys/kernel/random/boot_id`, and when PID 1 was started, in clock ticks. A container that
    /// is rebooted goes on under its host's id, and with another PID 1.
    ///
    /// # Errors
    /// When `/proc` cannot be read or says something else than an id.
    pub fn current() -> Result<Self, Error> {
        const PATH: &str = "/proc/sys/kernel/random/boot_id";
        let text = std::fs::read_to_string(PATH).map_err(|source| Error::Read { path: PATH, source })?;
        let id = Self::from_text(text.trim()).ok_or(Error::Form { path: PATH })?;
        // Hidden from an ordinary user by `hidepid=`: then the id alone has to do.
        let first = crate::process::Pid::new(1).and_then(|first| crate::process::read(first).ok().flatten());
        Ok(first.map_or(id.clone(), |first| Self(format!("{}+{}", id.0, first.start_ticks))))
    }

    /// An id as stored earlier: 36 characters of hexadecimal digits and dashes, and perhaps `+` and a number.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (id, ticks) = text.split_once('+').unwrap_or((text, "0"));
        let well_formed = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        (well_formed && ticks.parse::<u64>().is_ok()).then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Milliseconds since boot, time asleep included (`CLOCK_BOOTTIME`); never goes back, comparable only within one boot.
#[must_use]
pub fn boottime_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. Cannot fail for this clock (Linux 2.6.39), and would leave the zero if it did.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Time since boot without the time asleep (`CLOCK_MONOTONIC`), as systemd counts it.
#[must_use]
pub fn monotonic() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. Cannot fail for this clock, and would leave the zero if it did.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Milliseconds of the wall clock since 1970 (UTC); may jump, 0 for a clock before 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Clock ticks per second in which `/proc` counts (100 on every Linux seen).
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: no memory involved.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// The user that we act as.
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: no memory involved, never fails.
    unsafe { libc::geteuid() }
}

/// Whether the kernel calls its clock synchronised: somebody (chrony, ntpd, timesyncd) keeps telling it so.
///
/// # Errors
/// We may not ask: a seccomp filter that forbids setting the clock forbids this too.
pub fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: timex is plain data, for which all zero is a valid value; zero modes only read.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: writes one timex.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(state != libc::TIME_ERROR && clock.status & libc::STA_UNSYNC == 0)
}

/// What we may need a right for; numbers of linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Capability {
    /// See files and `/proc` of everybody.
    DacReadSearch = 2,
    /// Signal everybody's processes.
    Kill = 5,
    /// Gate, socket marks, destroying sockets.
    NetAdmin = 12,
    /// See and share everybody's descriptors.
    SysPtrace = 19,
    /// Enter namespaces.
    SysAdmin = 21,
}

impl Capability {
    /// The name as in capabilities(7).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::Kill => "CAP_KILL",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }
}

/// Whether the calling thread has a capability now, in its user namespace (`CapEff`).
///
/// # Errors
/// When `/proc` cannot be read or has an unknown form.
pub fn has_capability(capability: Capability) -> Result<bool, Error> {
    const PATH: &str = "/proc/thread-self/status";
    let status = std::fs::read(PATH).map_err(|source| Error::Read { path: PATH, source })?;
    let effective = effective_capabilities(&status).ok_or(Error::Form { path: PATH })?;
    Ok(effective & (1 << capability as u8) != 0)
}

fn effective_capabilities(status: &[u8]) -> Option<u64> {
    let digits = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"CapEff:"))?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), 16).ok()
}

/// Login name of a user; `None` when there is none or the user database cannot be asked. May ask the network (LDAP).
#[must_use]
pub fn login_name(uid: u32) -> Option<String> {
    const LARGEST: usize = 1 << 20;
    let mut buffer = vec![0_u8; 1024];
    loop {
        // SAFETY: passwd is plain data (numbers and pointers), for which all zero is a valid value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found: *mut libc::passwd = std::ptr::null_mut();
        // SAFETY: all pointers are writable, the buffer for its length; the answer points into `entry` and `buffer`.
        let answer =
            unsafe { libc::getpwuid_r(uid, &raw mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &raw mut found) };
        match answer {
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            0 if !found.is_null() && !entry.pw_name.is_null() => {
                // SAFETY: pw_name points to a NUL-terminated string in `buffer`, which is alive and unchanged.
                let name = unsafe { CStr::from_ptr(entry.pw_name) };
                return Some(name.to_string_lossy().into_owned());
            }
            _ => return None,
        }
    }
}

/// The person behind `sudo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SudoUser {
    /// From `SUDO_UID`.
    pub uid: u32,
    /// Its login name, where there is one.
    pub name: Option<String>,
}

/// The number of a group; `None` if there is none of that name.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    const LARGEST: usize = 1 << 20;
    let name = std::ffi::CString::new(name).ok()?;
    let mut buffer = vec![0_u8; 1024];
    loop {
        // SAFETY: group is plain data (numbers and pointers), for which all zero is a valid value.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found: *mut libc::group = std::ptr::null_mut();
        // SAFETY: all pointers are to live values, the buffer for its length; the answer points into them.
        let answer = unsafe {
            libc::getgrnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &raw mut found)
        };
        match answer {
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            _ => return (!found.is_null()).then_some(entry.gr_gid),
        }
    }
}

/// Who called us through sudo. Only root is asked: anybody else could have set `SUDO_UID` to any number.
#[must_use]
pub fn sudo_user() -> Option<SudoUser> {
    if effective_uid() != 0 {
        return None;
    }
    let uid = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    Some(SudoUser { uid, name: login_name(uid) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_numbers() {
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("no-such-group"), None);
        assert_eq!(group_id("a\0b"), None);
    }

    #[test]
    fn boot_id_is_stable_and_well_formed() {
        let id = BootId::current().unwrap();
        assert_eq!(BootId::current().unwrap(), id);
        assert_eq!(BootId::from_text(id.as_str()), Some(id));
        for wrong in ["", "x", "not-hexadecimal-but-36-characters-lo"] {
            assert_eq!(BootId::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn clocks_run_forward() {
        let (boot, wall) = (boottime_ms(), wall_ms());
        assert!(boot > 0 && wall > 1_600_000_000_000);
        assert!(boottime_ms() >= boot);
        // The kernel's own word on the time since boot, in seconds.
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(boottime_ms().abs_diff((uptime * 1000.0) as u64) < 60_000);
        assert!(ticks_per_second() >= 1);
    }

    #[test]
    fn the_clock_is_what_the_kernel_says() {
        let Ok(said) = std::process::Command::new("adjtimex").arg("--print").output() else {
            // Without that program: at least an answer, and the same one twice.
            assert_eq!(clock_is_synchronised().unwrap(), clock_is_synchronised().unwrap());
            return;
        };
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let status = said.lines().find_map(|line| line.trim().strip_prefix("status: ")).map(str::trim);
        let status: i32 = status.unwrap().parse().unwrap();
        assert_eq!(clock_is_synchronised().unwrap(), status & libc::STA_UNSYNC == 0);
    }

    #[test]
    fn capabilities_of_a_status() {
        let status = b"Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000081004\nCapBnd:\tff\n";
        assert_eq!(effective_capabilities(status), Some(1 << 19 | 1 << 12 | 1 << 2));
        assert_eq!(effective_capabilities(b"Name:\tx\n"), None);
        assert_eq!(has_capability(Capability::Kill).unwrap(), effective_uid() == 0, "root has it, ordinary users not");
    }

    #[test]
    fn names_of_users() {
        assert_eq!(login_name(0).as_deref(), Some("root"));
        assert_eq!(login_name(3_999_999_999), None);
    }
}
