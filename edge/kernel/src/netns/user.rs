//! A user and a network namespace for somebody without rights, and why there may be none.
#![expect(unsafe_code, reason = "unshare and getegid have no safe form in std")]

use std::fmt;
use std::io;

use super::Error;

/// Why no user namespace can be made; each has another cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forbidden {
    /// Ubuntu since 23.10: `kernel.apparmor_restrict_unprivileged_userns = 1`, and no profile allows our program.
    AppArmor,
    /// Debian's switch: `kernel.unprivileged_userns_clone = 0`.
    UnprivilegedClone,
    /// `user.max_user_namespaces = 0`, as hardened machines and old RHEL have it.
    MaxZero,
    /// The limit `user.max_user_namespaces` (or the depth of 32) is reached.
    LimitReached,
    /// The kernel was built without user namespaces.
    NoKernelSupport,
    /// The process has several threads. Our own fault: this must come first.
    Threads,
    /// Forbidden without a sign: a container's seccomp filter, a chroot, or a security module.
    Unsaid,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppArmor => "AppArmor forbids it (kernel.apparmor_restrict_unprivileged_userns = 1)",
            Self::UnprivilegedClone => "kernel.unprivileged_userns_clone is 0",
            Self::MaxZero => "user.max_user_namespaces is 0",
            Self::LimitReached => "the limit user.max_user_namespaces is reached",
            Self::NoKernelSupport => "the kernel has no user namespaces",
            Self::Threads => "the process has more than one thread already",
            Self::Unsaid => "the system forbids it (a container, a chroot or a security module)",
        })
    }
}

/// Moves the calling process into a new user namespace, where it is root (our user and group become 0, nobody else exists),
/// and into a new network namespace with its loopback up. Needs no rights, and works for root too.
///
/// The process **must have one thread only** (kernel's rule), and cannot go back. After an error it may be half moved: say why and end.
///
/// # Errors
/// [`Error::Forbidden`] with the reason; [`Error::Netlink`] when loopback cannot be brought up.
pub fn unshare_user_net() -> Result<(), Error> {
    // SAFETY: no memory involved, neither can fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: a number; the effects are what the caller asked for.
    let moved = match unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // Where AppArmor restricts, the first step may succeed and the maps be refused: one diagnosis for all.
    moved
        .and_then(|()| std::fs::write("/proc/self/setgroups", "deny"))
        .and_then(|()| std::fs::write("/proc/self/uid_map", format!("0 {uid} 1\n")))
        .and_then(|()| std::fs::write("/proc/self/gid_map", format!("0 {gid} 1\n")))
        .map_err(|source| Error::Forbidden { why: why(&source, &sysctl), source })?;
    let mut links = super::Links::open()?;
    let loopback = links.index_of("lo")?;
    links.set_up(loopback)
}

/// What is behind the kernel's few error numbers.
fn why(error: &io::Error, sysctl: &dyn Fn(&str) -> Option<u64>) -> Forbidden {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EUSERS) if sysctl("user/max_user_namespaces") == Some(0) => Forbidden::MaxZero,
        Some(libc::ENOSPC | libc::EUSERS) => Forbidden::LimitReached,
        Some(libc::EINVAL) if sysctl("user/max_user_namespaces").is_none() => Forbidden::NoKernelSupport,
        Some(libc::EINVAL) => Forbidden::Threads,
        _ if sysctl("kernel/unprivileged_userns_clone") == Some(0) => Forbidden::UnprivilegedClone,
        _ if sysctl("kernel/apparmor_restrict_unprivileged_userns").is_some_and(|value| value > 0) => {
            Forbidden::AppArmor
        }
        _ => Forbidden::Unsaid,
    }
}

fn sysctl(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_reason() {
        fn why_with(errno: i32, settings: &[(&str, u64)]) -> Forbidden {
            let sysctl = |name: &str| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            why(&io::Error::from_raw_os_error(errno), &sysctl)
        }
        let max = ("user/max_user_namespaces", 1000);
        let apparmor = ("kernel/apparmor_restrict_unprivileged_userns", 1);
        assert_eq!(why_with(libc::ENOSPC, &[("user/max_user_namespaces", 0)]), Forbidden::MaxZero);
        assert_eq!(why_with(libc::ENOSPC, &[max]), Forbidden::LimitReached);
        assert_eq!(why_with(libc::EINVAL, &[max]), Forbidden::Threads);
        assert_eq!(why_with(libc::EINVAL, &[]), Forbidden::NoKernelSupport);
        assert_eq!(why_with(libc::EPERM, &[max, apparmor]), Forbidden::AppArmor);
        assert_eq!(why_with(libc::EACCES, &[apparmor]), Forbidden::AppArmor);
        assert_eq!(
            why_with(libc::EPERM, &[apparmor, ("kernel/unprivileged_userns_clone", 0)]),
            Forbidden::UnprivilegedClone
        );
        assert_eq!(why_with(libc::EPERM, &[max]), Forbidden::Unsaid);
    }

    #[test]
    fn several_threads_are_refused_and_said() {
        // The test harness runs each test on a thread of its own, so this process has two at least.
        let Err(Error::Forbidden { why, .. }) = unshare_user_net() else { panic!("must be refused") };
        assert!(matches!(why, Forbidden::Threads | Forbidden::MaxZero | Forbidden::AppArmor | Forbidden::Unsaid));
    }
}
