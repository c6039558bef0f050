//! Why a session is still here, from what the kernel tells of its socket.

use ebb_model::{SessionState, Span, Stay};

/// Data moved this lately: the session is active. Longer than the think time between two requests of
/// a page, shorter than any keep-alive.
const ACTIVE: Span = Span::seconds(5);
/// This many times sent again without an answer: the peer is called unresponsive. The kernel backs off
/// by doubling, so three means about 1.5 s on a near link and tells loss of one packet from loss of a peer.
const RETRANSMITS: u8 = 3;

/// What the kernel tells of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// How far the connection is.
    pub state: SessionState,
    /// Since data moved.
    pub idle: Span,
    /// The client spoke last, so far as the kernel knows.
    pub unanswered: bool,
    /// Segments sent and not acknowledged.
    pub unacknowledged: u32,
    /// How often the oldest was sent again.
    pub retransmits: u8,
    /// Let in past a shut gate.
    pub excepted: bool,
}

/// The reason to show.
#[must_use]
pub fn stay(socket: Socket) -> Stay {
    if socket.unacknowledged > 0 && socket.retransmits >= RETRANSMITS {
        return Stay::Unresponsive { unacknowledged: socket.unacknowledged, retransmits: socket.retransmits };
    }
    match socket.state {
        SessionState::Opening => Stay::Opening,
        SessionState::NotAccepted => Stay::NotAccepted,
        SessionState::PeerClosed => Stay::WaitsForService,
        SessionState::Closing | SessionState::Orphan => Stay::Closing,
        SessionState::Established | SessionState::Flow | SessionState::Use if socket.excepted => Stay::Excepted,
        SessionState::Established | SessionState::Flow | SessionState::Use if socket.idle < ACTIVE => Stay::Active,
        SessionState::Established if socket.unanswered => Stay::Unanswered,
        SessionState::Established | SessionState::Flow | SessionState::Use => Stay::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(state: SessionState, idle: u64, unacknowledged: u32, retransmits: u8) -> Stay {
        let (idle, unanswered) = (Span::seconds(idle), false);
        stay(Socket { state, idle, unanswered, unacknowledged, retransmits, excepted: false })
    }

    #[test]
    fn reasons_by_rule() {
        use SessionState::*;
        assert_eq!(socket(Established, 0, 0, 0), Stay::Active);
        assert_eq!(socket(Established, 60, 0, 0), Stay::Idle);
        let asked = |idle| Socket {
            state: Established,
            idle: Span::seconds(idle),
            unanswered: true,
            unacknowledged: 0,
            retransmits: 0,
            excepted: false,
        };
        assert_eq!([stay(asked(1)), stay(asked(600))], [Stay::Active, Stay::Unanswered]);
        assert_eq!(socket(Established, 0, 4, 2), Stay::Active, "one lost packet is no dead peer");
        assert!(matches!(socket(Established, 60, 4, 3), Stay::Unresponsive { unacknowledged: 4, retransmits: 3 }));
        assert!(matches!(socket(Closing, 60, 1, 6), Stay::Unresponsive { .. }));
        assert_eq!(socket(PeerClosed, 9, 0, 0), Stay::WaitsForService);
        assert_eq!(socket(NotAccepted, 9, 0, 0), Stay::NotAccepted);
        assert_eq!(socket(Opening, 9, 0, 0), Stay::Opening);
    }
}
