//! Reasons: every refusal, wait and straggler has one, printable, with the command that helps.

use std::fmt;

use crate::{Door, Requester, Role, ServiceName, Span, duration, printable};

/// Why a session is still here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Data moved within the last seconds.
    Active,
    /// Nothing has moved for a while; both sides keep it open.
    Idle,
    /// Nothing has moved for a while, and the client spoke last: a request that is not answered yet, or a protocol without
    /// answers.
    Unanswered,
    /// The peer does not acknowledge what was sent.
    Unresponsive {
        /// Segments sent and not acknowledged.
        unacknowledged: u32,
        /// How often the oldest was sent again.
        retransmits: u8,
    },
    /// The client is connected and waits for the service to accept.
    NotAccepted,
    /// The client's handshake is not complete.
    Opening,
    /// The client has closed, the service has not noticed or not finished.
    WaitsForService,
    /// The service has closed; what is left is on its way to the client.
    Closing,
    /// Let in by `--except`.
    Excepted,
    /// In the middle of something that an end would undo, as its daemon says: a transaction, a mail half sent.
    Inside,
    /// It never said who it is, as its daemon says.
    NotLoggedIn,
    /// Its connection is gone, and the daemon keeps it for its client to come back.
    Resumable,
    /// A session of the daemon without the connection it should have: it has just ended, or its client is long gone.
    Ghost,
    /// It carries what the daemon tells, as a connection of SIP does: by itself it is no session.
    Carries,
    /// No user's: *drained* does not wait for it.
    NoUser(Role),
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Active => "active".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Unanswered => "not answered yet".to_owned(),
            Self::Unresponsive { unacknowledged, retransmits } => {
                format!("unresponsive peer ({unacknowledged} unacknowledged, {retransmits} retransmits)")
            }
            Self::NotAccepted => "not yet accepted".to_owned(),
            Self::Opening => "handshake under way".to_owned(),
            Self::WaitsForService => "client closed, waits for the service".to_owned(),
            Self::Closing => "closing".to_owned(),
            Self::Excepted => "let in by --except".to_owned(),
            Self::Inside => "in mid-work".to_owned(),
            Self::NotLoggedIn => "never logged in".to_owned(),
            Self::Resumable => "client gone, may resume".to_owned(),
            Self::Carries => "carries calls, does not count".to_owned(),
            Self::Ghost => "ghost: no connection".to_owned(),
            Self::NoUser(role) => format!("{}, does not count", role.as_str()),
        };
        f.pad(&text)
    }
}

impl Stay {
    /// What it means, and what helps; none where there is nothing to do but wait. The reason is without its numbers.
    #[must_use]
    pub fn advice(&self, service: &ServiceName) -> Option<(&'static str, String)> {
        Some(match self {
            Self::Idle => (
                "idle",
                format!("an end loses nothing: `ebb drain {service} --idle now`, or `ebb end {service} --idle-over 10m`"),
            ),
            Self::Unanswered => (
                "not answered yet",
                format!("the client spoke last: {service} may be at work for it, or wait for another server; an end may lose that"),
            ),
            Self::Unresponsive { .. } => (
                "unresponsive peer",
                "the client has lost its network or its power, and the kernel gives up after minutes: an end loses nothing"
                    .to_owned(),
            ),
            Self::NotAccepted => (
                "not yet accepted",
                format!("{service} does not take them up: is it busy, or does it hang?"),
            ),
            Self::WaitsForService => (
                "client closed, waits for the service",
                format!("{service} still works for them, or has forgotten to close: look at the process that holds them"),
            ),
            Self::NotLoggedIn => {
                ("never logged in", format!("an end loses nothing: `ebb drain {service} --idle now` ends them too"))
            }
            Self::Inside => {
                ("in mid-work", "an end undoes what they have begun: a goodbye spares them until their grace is over".to_owned())
            }
            Self::Ghost => (
                "ghost: no connection",
                format!("{service} keeps what has no connection any more, until its own time-out"),
            ),
            Self::Active
            | Self::Opening
            | Self::Closing
            | Self::Excepted
            | Self::Resumable
            | Self::Carries
            | Self::NoUser(_) => return None,
        })
    }
}

/// Why something was refused, failed or cannot be known. Its text is for the operator;
/// [`Why::help`] is what they can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No service has that name.
    NoSuchService {
        /// What was asked for.
        name: String,
        /// Names that look alike.
        alike: Vec<String>,
    },
    /// It is a part of a service that goes by another name.
    PartOf {
        /// What was asked for.
        name: String,
        /// That service.
        service: ServiceName,
    },
    /// The name fits several services.
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it fits.
        fits: Vec<String>,
    },
    /// It has no door that the gate could hold.
    NoDoor {
        /// The service.
        service: ServiceName,
        /// Its unix sockets.
        unix: Vec<String>,
        /// Its UDP sockets at ports for clients.
        udp: Vec<Door>,
    },
    /// The same door is another service's too.
    SharedDoor {
        /// The service.
        service: ServiceName,
        /// The other.
        with: ServiceName,
    },
    /// Another requester holds it.
    HeldByOther {
        /// The service.
        service: ServiceName,
        /// Who.
        requester: Requester,
        /// Their reason.
        reason: String,
        /// How long already.
        since: Span,
        /// It is the whole server that they hold.
        whole_server: bool,
    },
    /// There is no such hold.
    NotHeld {
        /// The service.
        service: ServiceName,
        /// As whom it was asked.
        requester: Requester,
    },
    /// We are not allowed to.
    NotPermitted {
        /// To do what.
        what: String,
    },
    /// This kernel or system cannot.
    Unsupported {
        /// What is missing.
        what: String,
        /// What helps.
        help: String,
    },
    /// A probe that should have been refused was accepted, or the other way round.
    ProbeMet {
        /// At which door.
        door: Door,
        /// What it met.
        met: String,
    },
    /// No probe can be made there.
    NotProbed {
        /// At which door.
        door: Door,
        /// Why not.
        because: String,
    },
    /// Something could not be read from the system.
    Unread {
        /// What.
        what: String,
        /// The cause.
        cause: String,
    },
    /// Something could not be written down.
    Unwritten {
        /// What.
        what: String,
        /// The cause.
        cause: String,
    },
    /// Somebody else ended the service.
    EndedElsewhere {
        /// What was seen.
        seen: String,
    },
    /// The hold of a drain was released while it was under way.
    Released {
        /// The service.
        service: ServiceName,
        /// Whose hold it was.
        requester: Requester,
    },
    /// The service did not start or stop as asked.
    UnitFailed {
        /// Which unit or process.
        unit: String,
        /// What was asked: `start` or `stop`.
        verb: &'static str,
        /// What came of it.
        result: String,
    },
    /// Nothing here can start it.
    StartByHand {
        /// The service.
        service: ServiceName,
        /// How it had been started, if known.
        command: String,
        /// Who listens at one of its doors instead.
        instead: Option<(ServiceName, Door)>,
    },
    /// It was started, or should run, and a door does not answer.
    NotAnswering {
        /// The service.
        service: ServiceName,
        /// At which door.
        door: Door,
        /// What a probe met.
        met: String,
    },
    /// It does not run.
    NotRunning {
        /// The unit.
        unit: String,
        /// Its state.
        state: String,
    },
    /// Another process watches this drain.
    Watched {
        /// The service.
        service: ServiceName,
        /// That process.
        pid: u32,
    },
    /// Its stop would stop another service too, with whoever is connected there.
    StopsAlso {
        /// The service.
        service: ServiceName,
        /// The others.
        others: Vec<ServiceName>,
    },
    /// A maintenance cannot go on.
    Halted {
        /// What is in the way.
        what: String,
        /// What helps.
        help: String,
    },
    /// Another maintenance is under way.
    Maintained {
        /// Its number.
        run: u64,
        /// Whose it is.
        requester: Requester,
    },
    /// A maintenance was called off before it came to its work.
    CalledOff {
        /// Its number.
        run: u64,
        /// By whom.
        by: String,
    },
    /// Its hold was placed anew while it was being brought back.
    HeldAnew {
        /// The service.
        service: ServiceName,
    },
    /// A drain has ended without that.
    NotDrained {
        /// The service.
        service: ServiceName,
    },
    /// Another process has proven it empty and stops it at this moment: opened now, it would drop who comes in.
    BeingStopped {
        /// The service.
        service: ServiceName,
        /// That process.
        pid: u32,
    },
    /// It waits for the quiet time to pass.
    Settling {
        /// How long no session has been left.
        empty_for: Span,
        /// How long it must be.
        settle: Span,
    },
    /// SYN cookies were sent: clients may be connected that no census sees.
    CookieGrace {
        /// How much longer.
        left: Span,
    },
    /// Sessions are left.
    SessionsLeft(u64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchService { name, .. } => write!(f, "no service is called `{}`", printable(name)),
            Self::PartOf { name, service } => {
                write!(f, "`{}` is a part of the service {service}", printable(name))
            }
            Self::Ambiguous { name, fits } => {
                write!(f, "`{}` fits several services: {}", printable(name), fits.join(", "))
            }
            Self::NoDoor { service, unix, udp } => f.write_str(&no_door(service, unix, udp)),
            Self::SharedDoor { service, with } => {
                write!(f, "{service} shares a door with {with}: the gate shuts it for both")
            }
            Self::HeldByOther { service, requester, reason, since, whole_server } => {
                let with = if *whole_server { " with the whole server" } else { "" };
                write!(f, "{service} is held{with} by `{requester}` for {}", duration(*since))?;
                if reason.is_empty() { Ok(()) } else { write!(f, " ({})", printable(reason)) }
            }
            Self::NotHeld { service, requester } => write!(f, "{service} has no hold of `{requester}`"),
            Self::NotPermitted { what } => write!(f, "not permitted to {what}"),
            Self::Unsupported { what, .. } => f.write_str(what),
            Self::ProbeMet { door, met } => write!(f, "the probe at {door} was {met}"),
            Self::NotProbed { door, because } => write!(f, "{door} was not probed: {because}"),
            Self::Unread { what, cause } => write!(f, "{what} could not be read: {}", printable(cause)),
            Self::Unwritten { what, cause } => write!(f, "{what} could not be written: {}", printable(cause)),
            Self::EndedElsewhere { seen } => write!(f, "somebody else ended the service: {seen}"),
            Self::Released { service, requester } => {
                write!(f, "the hold of `{requester}` on {service} was released meanwhile")
            }
            Self::UnitFailed { unit, verb, result } => write!(f, "{verb} of {unit}: {}", printable(result)),
            Self::StartByHand { service, instead, .. } => {
                write!(f, "{service} was started by hand, so nothing here knows how to start it again")?;
                match instead {
                    Some((other, door)) => write!(f, "; who listens at {door} now is {other}"),
                    None => Ok(()),
                }
            }
            Self::NotAnswering { service, door, met } => {
                write!(f, "{service} does not answer at {door}: the probe was {met}; the gate stays shut")
            }
            Self::NotRunning { unit, state } => {
                write!(f, "{unit} is {state}, so it listens nowhere")
            }
            Self::Watched { service, pid } => write!(f, "process {pid} drains {service} already, and watches it"),
            Self::Halted { what, .. } => f.write_str(&printable(what)),
            Self::Maintained { run, requester } => write!(f, "maintenance {run} of `{requester}` is not over"),
            Self::CalledOff { run, by } => write!(f, "maintenance {run} was called off by {}", printable(by)),
            Self::HeldAnew { service } => write!(f, "the hold of {service} was placed anew meanwhile: it stays shut"),
            Self::NotDrained { service } => write!(f, "the drain of {service} has ended, and it is not drained"),
            Self::StopsAlso { service, others } => {
                let others: Vec<_> = others.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "systemd would stop {} along with {service}, and drop who is connected there",
                    others.join(", ")
                )
            }
            Self::BeingStopped { service, pid } => {
                write!(f, "{service} is drained, and process {pid} is stopping it at this moment")
            }
            Self::Settling { empty_for, settle } => {
                write!(f, "no session for {}, proven at {}", duration(*empty_for), duration(*settle))
            }
            Self::CookieGrace { left } => {
                write!(f, "SYN cookies were sent, clients may be invisible: {} more", duration(*left))
            }
            Self::SessionsLeft(1) => f.write_str("1 session is left"),
            Self::SessionsLeft(n) => write!(f, "{n} sessions are left"),
        }
    }
}

impl Why {
    /// What the operator can do about it, often an exact command.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoSuchService { alike, .. } if alike.is_empty() => Some("`ebb services` lists them".to_owned()),
            Self::NoSuchService { alike, .. } => {
                Some(format!("did you mean {}? `ebb services` lists them all", alike.join(" or ")))
            }
            Self::PartOf { service, .. } => Some(format!("name that, as in `ebb drain {service}`")),
            Self::Ambiguous { fits, .. } => Some(format!("name one of them, as in `ebb drain {}`", fits.first()?)),
            Self::NoDoor { service, udp, .. } if !udp.is_empty() => {
                let ports: std::collections::BTreeSet<u16> = udp.iter().map(|door| door.port).collect();
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                Some(format!("in ebb.toml: [service.\"{service}\"] udp = [{}]", ports.join(", ")))
            }
            Self::NoDoor { unix, .. } if !unix.is_empty() => Some(
                "drain what is in front of it instead; or stop its clients, which are all on this server".to_owned(),
            ),
            Self::HeldByOther { requester, whole_server: true, .. } => {
                Some(format!("ask them; or, in their name, `{}`", crate::resume_server(requester.as_str())))
            }
            Self::HeldByOther { service, requester, .. } => {
                Some(format!("ask them; or, in their name, `ebb resume {service} --as {requester}`"))
            }
            Self::NotHeld { .. } => Some("`ebb holds` lists all holds".to_owned()),
            Self::NotPermitted { .. } => Some("run it as root, for example with sudo".to_owned()),
            Self::Unsupported { help, .. } if !help.is_empty() => Some(help.clone()),
            Self::NotAnswering { service, .. } => Some(format!(
                "see its log, then `ebb resume {service}` again; if its doors are meant to be as they are now: `ebb resume {service} --as-is`"
            )),
            Self::Unwritten { cause, .. } if cause.contains("Read-only") => Some(
                "find out why (`dmesg`), make it writable (`mount -o remount,rw`), then the same again; until then what is \
                 shut stays shut, and `nft delete table inet ebb` opens every gate by hand"
                    .to_owned(),
            ),
            Self::Unwritten { .. } => Some(
                "make room there (`df` shows it), then the same again; until then what is shut stays shut, and \
                 `nft delete table inet ebb` opens every gate by hand"
                    .to_owned(),
            ),
            Self::NotRunning { unit, .. } => Some(format!("`systemctl start {unit}` starts it")),
            Self::Watched { service, .. } => {
                Some(format!("`ebb status {service}` shows it; end that command (Ctrl-C) to take it over"))
            }
            Self::Halted { help, .. } if !help.is_empty() => Some(help.clone()),
            Self::Maintained { requester, .. } => Some(format!(
                "`ebb maintenance status` shows it; `{}` ends it",
                crate::resume_server(requester.as_str())
            )),
            Self::HeldAnew { service } => Some(format!("`ebb resume {service}` again, if it is meant all the same")),
            Self::NotDrained { service } => Some(format!("`ebb status {service}` shows it as it is")),
            Self::StopsAlso { service, others } => {
                let others: Vec<_> = others.iter().map(ToString::to_string).collect();
                let others = others.join(" ");
                Some(format!(
                    "drain them together: `ebb drain {service} {others}`; or with --no-stop, which stops none"
                ))
            }
            Self::BeingStopped { service, .. } => {
                Some(format!("once it has stopped, `ebb resume {service}` brings it back"))
            }
            Self::StartByHand { service, command, .. } if command.is_empty() => {
                Some(format!("start it as you did before, then `ebb resume {service}` again"))
            }
            Self::StartByHand { service, command, .. } => {
                Some(format!("start it (it was: {}), then `ebb resume {service}` again", printable(command)))
            }
            _ => None,
        }
    }
}

fn no_door(service: &ServiceName, unix: &[String], udp: &[Door]) -> String {
    let paths = unix.join(", ");
    match (unix.is_empty(), udp.is_empty()) {
        (true, true) => format!("{service} listens on no TCP or UDP port: there is nothing that ebb could hold"),
        (false, true) => format!("{service} listens on unix sockets only ({paths}): ebb cannot hold those"),
        (true, false) => format!("{service} has no door: {}", passed_over(udp.iter())),
        (false, false) => {
            format!("{service} has no door that ebb could hold: unix sockets ({paths}); {}", passed_over(udp.iter()))
        }
    }
}

/// Ports named in one line; more are counted.
const NAMED: usize = 3;

/// That UDP sockets at ports for clients are not held, and what to do if they should be.
#[must_use]
pub fn passed_over<'a>(doors: impl ExactSizeIterator<Item = &'a Door>) -> String {
    let count = doors.len();
    let mut named: Vec<String> = doors.take(NAMED).map(ToString::to_string).collect();
    if count > NAMED {
        named.push(format!("{} more", count - NAMED));
    }
    let (verb, it) = if count == 1 { ("is", "it is") } else { ("are", "one of them is") };
    format!(
        "{} {verb} in the range of ports for clients: not held; if {it} a door, say so in ebb.toml (udp = [PORT])",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_at_ports_for_clients_is_one_line() {
        let door = |port| Door { proto: crate::Proto::Udp, reach: crate::Reach::Any, port };
        let many: Vec<Door> = (50_500..50_510).map(door).collect();
        let one = passed_over(many[..1].iter());
        assert!(
            one.starts_with("udp *:50500 is in the range of ports for clients: not held; if it is a door"),
            "{one}"
        );
        assert!(passed_over(many.iter()).starts_with("udp *:50500, udp *:50501, udp *:50502, 7 more are in"));
        let why = Why::NoDoor { service: ServiceName::new("turn").unwrap(), unix: vec![], udp: vec![door(50_500)] };
        assert_eq!(why.help().unwrap(), "in ebb.toml: [service.\"turn\"] udp = [50500]");
    }

    #[test]
    fn reasons_name_the_command_that_helps() {
        let why = Why::NoSuchService { name: "ngnix".into(), alike: vec!["nginx".into()] };
        assert_eq!(why.to_string(), "no service is called `ngnix`");
        assert_eq!(why.help().unwrap(), "did you mean nginx? `ebb services` lists them all");
    }
}
