//! Knocking at doors from this server: refused proves a shut gate, accepted a service that is up.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use ebb_kernel::probe::{self, Answer};
use ebb_model::{Door, Proto, Reach, Why};

/// One local connection takes microseconds; this long means that nobody answers.
const KNOCK: Duration = Duration::from_secs(2);

/// Addresses on which a door can be knocked at from here: one for each family that it has.
///
/// # Errors
/// Why it cannot.
pub(crate) fn targets(door: &Door) -> Result<Vec<SocketAddr>, &'static str> {
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), door.port);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), door.port);
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    match door.reach {
        _ if door.proto != Proto::Tcp => Err("a UDP door gives no answer by itself"),
        Reach::Any4 => Ok(vec![v4]),
        Reach::Any6 => Ok(vec![v6]),
        Reach::Any if has_v6 => Ok(vec![v4, v6]),
        Reach::Any => Ok(vec![v4]),
        Reach::Forward(ip) => Ok(vec![SocketAddr::new(ip, door.port)]),
        Reach::Addr(ip) if ip.is_loopback() => Ok(vec![SocketAddr::new(ip, door.port)]),
        Reach::Addr(ip) => own(ip, door.port),
    }
}

/// A service may listen at an address that is elsewhere just now (keepalived): who answers there is another server.
fn own(ip: IpAddr, port: u16) -> Result<Vec<SocketAddr>, &'static str> {
    let all = probe::own_addresses().unwrap_or_default();
    let found = all.iter().find(|own| own.address == ip.to_canonical() && own.up);
    let at = |scope| match ip {
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
        IpAddr::V4(_) => SocketAddr::new(ip, port),
    };
    found.map(|own| vec![at(own.scope_id)]).ok_or("its address is not on this server at this moment")
}

/// Knocks at these doors, each address; passing a shut gate if `mark` is ours. Doors that cannot be knocked at from
/// here are left out.
pub(crate) async fn knock(doors: &BTreeSet<Door>, mark: Option<u32>) -> Result<Vec<(Door, Answer)>, Why> {
    let targets: Vec<(Door, SocketAddr)> =
        doors.iter().flat_map(|door| targets(door).unwrap_or_default().into_iter().map(|at| (*door, at))).collect();
    let knocks: Vec<probe::Knock> = targets.iter().map(|(_, to)| probe::Knock { to: *to, mark, from: None }).collect();
    let answers = tokio::task::spawn_blocking(move || probe::knock_many(&knocks, KNOCK))
        .await
        .map_err(|error| Why::Unread { what: "the probes".into(), cause: error.to_string() })?;
    Ok(targets.into_iter().map(|(door, _)| door).zip(answers).collect())
}

/// What a probe met, in words.
pub(crate) fn met(answer: Answer) -> String {
    match answer {
        Answer::Accepted => "accepted".to_owned(),
        Answer::Refused => "refused".to_owned(),
        Answer::TimedOut => "not answered".to_owned(),
        Answer::Unreachable(errno) => format!("unreachable ({errno})"),
        Answer::MarkDenied => "not permitted to pass the gate".to_owned(),
        Answer::Failed(errno) => format!("not made ({errno})"),
        _ => "not understood".to_owned(),
    }
}
