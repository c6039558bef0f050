//! Between the model's words and the kernel's.

use ebb_kernel::{diag, gate};
use ebb_model::{Door, Proto, Reach, SessionState};

pub(crate) fn door_to(door: &Door) -> gate::Door {
    gate::Door {
        proto: match door.proto {
            Proto::Tcp => gate::Proto::Tcp,
            Proto::Udp => gate::Proto::Udp,
            Proto::Quic => gate::Proto::Quic,
        },
        reach: match door.reach {
            Reach::Any4 => gate::Reach::Any4,
            Reach::Any6 => gate::Reach::Any6,
            Reach::Any => gate::Reach::Any,
            Reach::Addr(ip) => gate::Reach::Addr(ip),
            Reach::Forward(ip) => gate::Reach::Forward(ip),
        },
        port: door.port,
    }
}

pub(crate) fn door_from(door: &gate::Door) -> Door {
    Door {
        proto: match door.proto {
            gate::Proto::Tcp => Proto::Tcp,
            gate::Proto::Udp => Proto::Udp,
            gate::Proto::Quic => Proto::Quic,
        },
        reach: match door.reach {
            gate::Reach::Any4 => Reach::Any4,
            gate::Reach::Any6 => Reach::Any6,
            gate::Reach::Any => Reach::Any,
            gate::Reach::Addr(ip) => Reach::Addr(ip),
            gate::Reach::Forward(ip) => Reach::Forward(ip),
        },
        port: door.port,
    }
}

/// The state of a session from that of its socket. Inode 0 means that no process owns the socket: in an
/// open state it waits to be accepted, in a closing one only the kernel still has it.
pub(crate) fn state(row: &diag::Row) -> SessionState {
    let owned = row.inode != 0;
    match row.state {
        diag::State::SynReceived => SessionState::Opening,
        diag::State::CloseWait if owned => SessionState::PeerClosed,
        diag::State::Established | diag::State::CloseWait if !owned => SessionState::NotAccepted,
        diag::State::FinWait1 | diag::State::FinWait2 | diag::State::LastAck | diag::State::Closing => {
            if owned {
                SessionState::Closing
            } else {
                SessionState::Orphan
            }
        }
        _ => SessionState::Established,
    }
}
