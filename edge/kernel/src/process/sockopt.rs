//! The few socket calls on foreign and raw descriptors that std does not offer.
#![expect(unsafe_code, reason = "getsockopt, setsockopt, shutdown and FIONREAD on any socket have no safe form in std")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// An option that is an `int`.
pub(crate) fn get(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut bytes = [0_u8; 4];
    get_bytes(socket, level, name, &mut bytes)?;
    Ok(i32::from_ne_bytes(bytes))
}

/// An option that is a structure: fills `value`, gives how much of it the kernel filled.
pub(crate) fn get_bytes(socket: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: value is writable for `length` bytes, both pointers live through the call.
    let answer =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length) };
    checked(answer)?;
    usize::try_from(length).map_err(io::Error::other)
}

/// Sets an option that is an `int`.
pub(crate) fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_value(socket, level, name, &value)
}

/// Closing will reset the connection and leave nothing behind (no TIME-WAIT).
pub(crate) fn close_by_reset(socket: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_value(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

fn set_value<T: Copy>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: `value` is readable for its own size; the callers give the type that the option has.
    let answer = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    checked(answer)
}

/// Shuts one direction or both (`libc::SHUT_*`).
pub(crate) fn shutdown(socket: BorrowedFd<'_>, how: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    checked(unsafe { libc::shutdown(socket.as_raw_fd(), how) })
}

/// Bytes received and not yet read by the application.
pub(crate) fn unread(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which `bytes` is.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(bytes.max(0).cast_unsigned())
}

fn checked(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
