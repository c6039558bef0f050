//! Listing.

use super::row::{BY_FAMILY, Row, StateSet};
use super::{Diag, Result};
use crate::netlink::Request;

/// More ports than this are sorted out here: the kernel's filter tries them one after the other.
const PORTS_IN_KERNEL: usize = 64;
/// `TCPDIAG_GETSOCK`: the older request, which alone lists both families in one walk over the kernel's table.
const TCP_BOTH_FAMILIES: u16 = 18;
/// `IPPROTO_MPTCP`, too large for the 8 bits of the request.
const MPTCP: u32 = 262;

/// Whose sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SockProto {
    /// TCP; of an MPTCP connection its paths.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// MPTCP connections, each once.
    Mptcp,
}

/// Of which family the *socket* is. IPv4 clients of a `[::]` listener are sockets of the IPv6 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Both: what is needed to count anything.
    #[default]
    Both,
    /// IPv4 sockets alone.
    V4,
    /// IPv6 sockets alone.
    V6,
}

/// What to list.
#[derive(Debug, Clone)]
pub struct Query {
    /// Whose sockets.
    pub proto: SockProto,
    /// Of which family.
    pub family: Family,
    /// In which states.
    pub states: StateSet,
    /// At which local ports; empty = all.
    pub ports: Vec<u16>,
    /// With [`TcpInfo`](super::TcpInfo); of MPTCP with tokens.
    pub info: bool,
}

impl Default for Query {
    /// TCP sessions at all ports, without TCP's details.
    fn default() -> Self {
        Self { proto: SockProto::Tcp, family: Family::Both, states: StateSet::SESSIONS, ports: Vec::new(), info: false }
    }
}

impl Diag {
    /// Gives each socket of the query to `each` and returns how many.
    ///
    /// # Errors
    ///
    /// Then what `each` has seen is not whole: forget it and ask again.
    pub fn dump(&mut self, query: &Query, each: &mut dyn FnMut(&Row)) -> Result<u64> {
        let mut ports = query.ports.clone();
        ports.sort_unstable();
        ports.dedup();
        let mut rows = 0;
        for request in requests(query, &ports) {
            self.socket.dump("list sockets", request, |message| {
                let row = match query.proto {
                    SockProto::Tcp => Row::parse(message, libc::IPPROTO_TCP as u8),
                    SockProto::Udp => Row::parse(message, libc::IPPROTO_UDP as u8),
                    SockProto::Mptcp => Row::parse_mptcp(message),
                };
                let Some(row) = row else { return };
                // Also where the kernel filters: an older one may have ignored it.
                if ports.is_empty() || ports.binary_search(&row.local.port()).is_ok() {
                    rows += 1;
                    each(&row);
                }
            })?;
        }
        Ok(rows)
    }

    /// TCP listeners (with details) and UDP sockets without a peer, of both families.
    ///
    /// # Errors
    ///
    /// As [`dump`](Self::dump).
    pub fn listeners(&mut self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let tcp = Query { states: StateSet::LISTEN, info: true, ..Query::default() };
        self.dump(&tcp, &mut |row| rows.push(*row))?;
        let udp = Query { proto: SockProto::Udp, states: StateSet::CLOSE, ..Query::default() };
        self.dump(&udp, &mut |row| {
            if row.is_listener() {
                rows.push(*row);
            }
        })?;
        Ok(rows)
    }
}

/// [`Diag::dump`] in the network namespace of this thread.
///
/// # Errors
///
/// As [`Diag::dump`].
pub fn dump(query: &Query, each: &mut dyn FnMut(&Row)) -> Result<u64> {
    Diag::open()?.dump(query, each)
}

/// [`Diag::listeners`] in the network namespace of this thread.
///
/// # Errors
///
/// As [`Diag::dump`].
pub fn listeners() -> Result<Vec<Row>> {
    Diag::open()?.listeners()
}

/// As few walks as the kernel allows.
fn requests(query: &Query, ports: &[u16]) -> Vec<Request> {
    const V4: u8 = libc::AF_INET as u8;
    const V6: u8 = libc::AF_INET6 as u8;
    let families: &[u8] = match query.family {
        Family::Both if query.proto == SockProto::Tcp => return vec![both_families(query, ports)],
        Family::Both => &[V4, V6],
        Family::V4 => &[V4],
        Family::V6 => &[V6],
    };
    families.iter().map(|family| one_family(query, ports, *family)).collect()
}

/// `INET_DIAG_INFO` as a bit.
fn extensions(query: &Query) -> u8 {
    if query.info { 1 << 1 } else { 0 }
}

/// `struct inet_diag_sockid` that says at most the local port.
fn socket_id(ports: &[u16]) -> [u8; 48] {
    let mut id = [0; 48];
    if let [port] = ports {
        id[..2].copy_from_slice(&port.to_be_bytes());
    }
    id[40..].fill(0xff);
    id
}

/// `struct inet_diag_req_v2`.
fn one_family(query: &Query, ports: &[u16], family: u8) -> Request {
    let protocol = match query.proto {
        SockProto::Tcp => libc::IPPROTO_TCP,
        SockProto::Udp => libc::IPPROTO_UDP,
        SockProto::Mptcp => libc::IPPROTO_RAW,
    };
    let mut request = Request::new(BY_FAMILY, 0);
    request.raw(&[family, u8::try_from(protocol).unwrap_or_default(), extensions(query), 0]);
    request.raw(&query.states.0.to_ne_bytes()).raw(&socket_id(ports));
    if query.proto == SockProto::Mptcp {
        request.attr_u32(3, MPTCP);
    }
    filter(&mut request, ports);
    request
}

/// `struct inet_diag_req`: its family is not looked at.
fn both_families(query: &Query, ports: &[u16]) -> Request {
    let mut request = Request::new(TCP_BOTH_FAMILIES, 0);
    request.raw(&[libc::AF_INET as u8, 0, 0, extensions(query)]).raw(&socket_id(ports));
    request.raw(&query.states.0.to_ne_bytes()).raw(&0u32.to_ne_bytes());
    filter(&mut request, ports);
    request
}

fn filter(request: &mut Request, ports: &[u16]) {
    if (2..=PORTS_IN_KERNEL).contains(&ports.len()) {
        request.attr(1, &bytecode(ports));
    }
}

/// "Local port is one of these" for the kernel's filter machine. Each port takes three operations of 4 bytes, { code,
/// bytes to go on by when true, when false }: compare, the port itself, jump to the end (accept). The last one's "false"
/// leads 4 bytes beyond the end: reject.
pub(super) fn bytecode(ports: &[u16]) -> Vec<u8> {
    const JUMP: u8 = 1;
    const LOCAL_PORT_IS: u8 = 11;
    let mut code = Vec::with_capacity(ports.len() * 12);
    let mut put = |operation: u8, yes: u8, no: u16| {
        code.extend_from_slice(&[operation, yes]);
        code.extend_from_slice(&no.to_ne_bytes());
    };
    for (index, port) in ports.iter().enumerate() {
        let after = u16::try_from((ports.len() - 1 - index) * 12).unwrap_or(u16::MAX);
        // The last one needs no jump: 8 bytes are left, so that 12 is beyond the end.
        put(LOCAL_PORT_IS, 8, 12);
        put(0, 0, *port);
        if after > 0 {
            put(JUMP, 4, after);
        }
    }
    code
}
