//! Messages with fields of their own for the journal, by its native protocol
//! (`/run/systemd/journal/socket`, see systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! As root, a message with `OBJECT_SYSTEMD_UNIT=nginx.service` shows up in `journalctl -u nginx`.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

const SOCKET: &str = "/run/systemd/journal/socket";
/// journald drops fields with longer names.
const LONGEST_NAME: usize = 64;
/// The kernel queues as few as ten messages for journald (`net.unix.max_dgram_qlen`): a burst must wait a little,
/// but better a lost message than a caller who waits for a journald that hangs.
const PATIENCE: Duration = Duration::from_millis(100);

/// Why a message did not reach the journal. Each completes "failed to ...".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// journald would silently drop a field with this name.
    #[error("name a field of the journal {name:?}")]
    FieldName {
        /// The name as given.
        name: String,
    },
    /// A message must fit one datagram (some 200 kB with the kernel's defaults).
    #[error("send {bytes} bytes to the journal in one message")]
    TooLarge {
        /// The size of the encoded message.
        bytes: usize,
    },
    /// journald is gone, or so far behind that its queue is full. The message is lost.
    #[error("send a message to the journal")]
    Send {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Where messages go. The socket is not connected, so a restart of journald does no harm.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// `None` where no journal runs.
    pub fn open() -> Option<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_write_timeout(Some(PATIENCE)).ok()?;
        path.exists().then(|| Self { socket, path: path.to_owned() })
    }

    /// Sends one message. Waits 0.1 s at most, for a journald that is behind. `MESSAGE` is the text; `PRIORITY` is "0" (emergency) to "7" (debug).
    ///
    /// # Errors
    /// [`JournalError`]; nothing was sent then.
    pub fn send(&self, fields: &[(&str, &str)]) -> Result<(), JournalError> {
        let message = encode(fields)?;
        match self.socket.send_to(&message, &self.path) {
            Ok(_) => Ok(()),
            // EMSGSIZE has no ErrorKind of its own.
            Err(error) if error.raw_os_error() == Some(EMSGSIZE) => {
                Err(JournalError::TooLarge { bytes: message.len() })
            }
            Err(source) => Err(JournalError::Send { source }),
        }
    }
}

/// Linux, all architectures but those nobody runs servers on.
const EMSGSIZE: i32 = 90;

/// `NAME=value\n`, or where the value has line breaks `NAME\n`, its length as 64 bits little-endian, the value, `\n`.
fn encode(fields: &[(&str, &str)]) -> Result<Vec<u8>, JournalError> {
    let mut message = Vec::new();
    for (name, value) in fields {
        if !is_field_name(name) {
            return Err(JournalError::FieldName { name: (*name).to_owned() });
        }
        message.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            message.push(b'\n');
            message.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            message.push(b'=');
        }
        message.extend_from_slice(value.as_bytes());
        message.push(b'\n');
    }
    Ok(message)
}

/// journald's rule (`journal_field_valid`). Names with a leading underscore are for journald itself.
fn is_field_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_forge_a_field() {
        let message = encode(&[("MESSAGE", "a\n_UID=0"), ("EBB_UNIT", "x.service")]).unwrap();
        assert_eq!(message, b"MESSAGE\n\x08\0\0\0\0\0\0\0a\n_UID=0\nEBB_UNIT=x.service\n");
        assert_eq!(encode(&[("A", "")]).unwrap(), b"A=\n");
    }

    #[test]
    fn names_which_journald_would_drop() {
        for name in ["", "_PID", "1A", "a", "A B", "A=B", "A\nB", "Ä", &"A".repeat(65)] {
            assert!(encode(&[(name, "x")]).is_err(), "{name}");
        }
        for name in ["MESSAGE_ID", "A1", &"A".repeat(64)] {
            assert!(encode(&[(name, "x")]).is_ok(), "{name}");
        }
    }

    #[test]
    fn messages_arrive_and_a_missing_or_full_journal_is_told() {
        let folder = std::env::temp_dir().join(format!("ebb-journal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        assert!(Journal::at(&path).is_none());
        let journald = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        journal.send(&[("MESSAGE", "hello")]).unwrap();
        let mut buffer = [0; 64];
        let length = journald.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"MESSAGE=hello\n");

        let huge = "x".repeat(8 << 20);
        assert!(matches!(journal.send(&[("MESSAGE", &huge)]), Err(JournalError::TooLarge { .. })));
        let full = (0..100_000).find_map(|_| journal.send(&[("MESSAGE", "x")]).err());
        assert!(matches!(full, Some(JournalError::Send { .. })), "a full queue must not block for ever");
        drop(journald);
        assert!(matches!(journal.send(&[("MESSAGE", "x")]), Err(JournalError::Send { .. })));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
