//! One socket as the kernel lists it (`struct inet_diag_msg`, `linux/inet_diag.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::netlink::{Attributes, Message};

/// `SOCK_DIAG_BY_FAMILY`.
pub(crate) const BY_FAMILY: u16 = 20;
/// Bytes of `struct inet_diag_msg`.
const FIXED: usize = 72;
/// Where `struct inet_diag_sockid` is within it, and its length.
const ID: usize = 4;
pub(super) const ID_LENGTH: usize = 48;

/// State of a TCP socket, with the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Connected.
    Established,
    /// Connecting, from here.
    SynSent,
    /// A client's SYN came, its ACK has not (or `TCP_DEFER_ACCEPT` waits for data).
    SynReceived,
    /// Closed here, our FIN not yet acknowledged.
    FinWait1,
    /// Closed here, waiting for the peer's FIN.
    FinWait2,
    /// Over; remembered for a minute.
    TimeWait,
    /// Not connected: of UDP, one that takes packets from anybody.
    Close,
    /// The peer has closed, the program here has not.
    CloseWait,
    /// Closed by both, our FIN not yet acknowledged.
    LastAck,
    /// Takes connections. Queues: those waiting for `accept()`, and the limit of these.
    Listen,
    /// Closed by both at once.
    Closing,
    /// One that this list lacks.
    Other(u8),
}

impl State {
    /// From the kernel's number.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            other => Self::Other(other),
        }
    }
}

/// Which states to list: a bit for each of the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSet(pub u32);

impl StateSet {
    /// All that stands for a client: established, half-open (3 and 12 are two faces of it), closing; neither listeners
    /// nor `TIME_WAIT`, nor connections begun here and not yet answered.
    pub const SESSIONS: Self = Self(0x1b3a);
    /// Listeners.
    pub const LISTEN: Self = Self(1 << 10);
    /// Half-open ones alone: the proof that nothing comes any more.
    pub const HALF_OPEN: Self = Self((1 << 3) | (1 << 12));
    /// Not connected (UDP).
    pub const CLOSE: Self = Self(1 << 7);
    /// Every state.
    pub const ALL: Self = Self(u32::MAX);
}

/// Which timer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// None: an idle connection without keepalive.
    None,
    /// Retransmission (or loss probe).
    Retransmit,
    /// Keepalive, or the SYN-ACK's repetition of a half-open one.
    Keepalive,
    /// End of `TIME_WAIT`.
    TimeWait,
    /// Probe of a closed window.
    WindowProbe,
    /// One that this list lacks.
    Other(u8),
}

/// The running timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// Which.
    pub kind: TimerKind,
    /// Milliseconds until it fires.
    pub expires_ms: u32,
}

/// What the kernel needs to find this very socket again, and no other that has taken its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowId {
    pub(super) family: u8,
    pub(super) protocol: u8,
    pub(super) state: State,
    pub(super) raw: [u8; ID_LENGTH],
}

impl RowId {
    /// The kernel's number for the socket, never used twice until reboot.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        u64::from(self.word(40)) | (u64::from(self.word(44)) << 32)
    }

    /// The state it was listed in.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    pub(super) fn local(&self) -> SocketAddr {
        SocketAddr::new(self.address(4), self.port(0))
    }

    pub(super) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.address(20), self.port(2))
    }

    fn port(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.raw[at], self.raw[at + 1]])
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes([self.raw[at], self.raw[at + 1], self.raw[at + 2], self.raw[at + 3]])
    }

    fn address(&self, at: usize) -> IpAddr {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.raw[at..at + 16]);
        if i32::from(self.family) == libc::AF_INET {
            return IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]));
        }
        IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
    }
}

/// One socket.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// To find it again.
    pub id: RowId,
    /// Own address; IPv4-mapped ones are given as IPv4.
    pub local: SocketAddr,
    /// The peer's; port 0 = none.
    pub peer: SocketAddr,
    /// The kernel's number for the socket.
    pub cookie: u64,
    /// Its state.
    pub state: State,
    /// Inode of the descriptor; 0 = no program has it: not accepted yet, or left to the kernel to finish.
    pub inode: u32,
    /// User who made it.
    pub uid: u32,
    /// Bytes that the program has not read; of a listener: connections waiting for `accept()`.
    pub receive_queue: u32,
    /// Bytes that the peer has not acknowledged; of a listener: the limit of `receive_queue`.
    pub send_queue: u32,
    /// The running timer.
    pub timer: Timer,
    /// Retransmissions or unanswered probes of the running timer.
    pub retransmits: u8,
    /// Id (inode of the directory) of the cgroup of whoever *made* the socket, for accepted ones the listener's maker.
    /// Half-open ones have none; it may name a cgroup that is gone. Linux 5.8.
    pub cgroup: Option<u64>,
    /// `IPV6_V6ONLY`, of listeners and unconnected sockets of the IPv6 family.
    pub v6only: Option<bool>,
    /// Interface to which it is bound; 0 = none.
    pub interface: u32,
    /// What TCP knows of it, when asked for.
    pub info: Option<TcpInfo>,
    /// Of TCP sockets, when details are asked for: a path of an MPTCP connection, or a listener that takes MPTCP as well.
    pub mptcp: bool,
    /// Of MPTCP connections, when details are asked for: the token by which the peer names it to add a path.
    pub token: Option<u32>,
}

/// Parts of `struct tcp_info`. What an older kernel does not tell is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpInfo {
    /// Bytes that the peer sent us and that we acknowledged.
    pub bytes_received: u64,
    /// Bytes that we sent and the peer acknowledged (1 more than the data once the handshake is done).
    pub bytes_acked: u64,
    /// Milliseconds since we sent data last; never: since the handshake.
    pub last_data_sent_ms: u32,
    /// Milliseconds since data came last; never: since the handshake.
    pub last_data_recv_ms: u32,
    /// Milliseconds since an acknowledgement came last.
    pub last_ack_recv_ms: u32,
    /// Segments not acknowledged.
    pub unacked: u32,
    /// Retransmissions of the oldest of these.
    pub retransmits: u8,
    /// Unanswered probes (keepalive, window).
    pub probes: u8,
    /// Doublings of the retransmission time.
    pub backoff: u8,
    /// Round trip, smoothed, microseconds.
    pub rtt_us: u32,
    /// Retransmission timeout, microseconds.
    pub rto_us: u32,
    /// Retransmitted segments in all.
    pub total_retransmits: u32,
    /// Bytes that the program wrote and TCP has not sent yet.
    pub unsent: u32,
}

impl TcpInfo {
    /// From the bytes of `struct tcp_info`, of whatever length.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let word = |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b));
        let long = |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_ne_bytes(*b));
        Self {
            retransmits: byte(2),
            probes: byte(3),
            backoff: byte(4),
            rto_us: word(8),
            unacked: word(24),
            last_data_sent_ms: word(44),
            last_data_recv_ms: word(52),
            last_ack_recv_ms: word(56),
            rtt_us: word(68),
            total_retransmits: word(100),
            bytes_acked: long(120),
            bytes_received: long(128),
            unsent: word(144),
        }
    }
}

impl Row {
    /// From one message about a socket of this protocol; `None` when it is too short.
    pub(crate) fn parse(message: &Message<'_>, protocol: u8) -> Option<Self> {
        let fixed = message.body.first_chunk::<FIXED>()?;
        let word = |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let mut raw = [0; ID_LENGTH];
        raw.copy_from_slice(&fixed[ID..ID + ID_LENGTH]);
        let id = RowId { family: fixed[0], protocol, state: State::from_number(fixed[1]), raw };
        let kind = match fixed[2] {
            0 => TimerKind::None,
            1 => TimerKind::Retransmit,
            2 => TimerKind::Keepalive,
            3 => TimerKind::TimeWait,
            4 => TimerKind::WindowProbe,
            other => TimerKind::Other(other),
        };
        let mut row = Self {
            id,
            local: id.local(),
            peer: id.peer(),
            cookie: id.cookie(),
            state: id.state,
            inode: word(68),
            uid: word(64),
            receive_queue: word(56),
            send_queue: word(60),
            timer: Timer { kind, expires_ms: word(52) },
            retransmits: fixed[3],
            cgroup: None,
            v6only: None,
            interface: id.word(36),
            info: None,
            mptcp: false,
            token: None,
        };
        row.add(message.attributes(FIXED));
        Some(row)
    }

    /// The same about an MPTCP connection, whose details are others (`struct mptcp_info`, `linux/mptcp.h`).
    pub(crate) fn parse_mptcp(message: &Message<'_>) -> Option<Self> {
        const TOKEN: usize = 12;
        let mut row = Self::parse(message, libc::IPPROTO_TCP as u8)?;
        row.info = None;
        let details = message.attributes(FIXED).get(2);
        let token = details.and_then(|details| details.data.get(TOKEN..)?.first_chunk().copied());
        row.token = token.map(u32::from_ne_bytes).filter(|token| *token != 0);
        Some(row)
    }

    fn add(&mut self, attributes: Attributes<'_>) {
        for attribute in attributes {
            match attribute.kind {
                2 => self.info = Some(TcpInfo::parse(attribute.data)),
                // INET_DIAG_ULP_INFO, in it INET_ULP_INFO_NAME.
                19 => self.mptcp = attribute.nested().get(1).and_then(|name| name.str()) == Some("mptcp"),
                11 => self.v6only = attribute.u8().map(|flag| flag != 0),
                21 => self.cgroup = attribute.u64(),
                _ => {}
            }
        }
    }

    /// Whether it takes newcomers: a listener, or a UDP socket without a peer.
    #[must_use]
    pub fn is_listener(&self) -> bool {
        match self.state {
            State::Listen => true,
            State::Close => i32::from(self.id.protocol) == libc::IPPROTO_UDP && self.peer.port() == 0,
            _ => false,
        }
    }

    /// The IP protocol: 6 = TCP, 17 = UDP. MPTCP (262) is given as 6.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.id.protocol
    }
}
