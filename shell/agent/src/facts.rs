//! Facts for guards that only the shell can gather: rights, failed units, the clock, who else offers a service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebb_checks::Here;
use ebb_checks::run::{self, Place};
use ebb_kernel::boot::{self, Capability};
use ebb_kernel::{diag, process};
use ebb_model::{Door, Fact, Permit, Reach, Service, ServiceName, Span};

use crate::look;
use crate::world::{World, chain};

/// More ancestors than this has nobody.
const ANCESTORS: usize = 64;

/// Where commands run: outside of our sandbox, where systemd can do that for us.
pub(crate) fn place(world: &World) -> Place {
    if world.systemd.is_some() && boot::effective_uid() == 0 { Place::Systemd } else { Place::Here }
}

/// From where the asker looks.
pub(crate) fn here(world: &World, asker: Option<u32>) -> Here {
    let mut here = Here { place: place(world), ..Here::default() };
    let mut next = asker.and_then(process::Pid::new);
    while let Some(pid) = next.filter(|_| here.own_processes.len() < ANCESTORS) {
        here.own_processes.insert(pid.get());
        here.own_terminals.extend(terminal(pid.get()));
        next = process::read(pid).ok().flatten().and_then(|process| process.parent).filter(|parent| parent.get() > 1);
    }
    here
}

/// The controlling terminal of a process, as in `pts/3`.
fn terminal(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // State, parent, group, session, terminal: behind the name, which may have anything in it.
    let device: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(4)?.parse().ok()?;
    let device = u32::try_from(device).ok()?;
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match major {
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
        136..=143 => Some(format!("pts/{}", (major - 136) << 8 | minor)),
        _ => None,
    }
}

/// Whether each step can be done.
pub(crate) async fn permits(world: &Arc<World>) -> Result<Fact, String> {
    let has = |capability: Capability| match boot::has_capability(capability) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{} is missing; run it as root", capability.name())),
        Err(error) => Err(chain(&error)),
    };
    let gate = has(Capability::NetAdmin).and_then(|()| world.with_gate(|_| Ok(())).map_err(|why| why.to_string()));
    let store = if world.store().is_writable() {
        Ok(())
    } else {
        Err(format!("{} may not be written", world.place.state_dir.display()))
    };
    let destroy = has(Capability::NetAdmin).and_then(|()| match diag::destroy_support() {
        Ok(true) => Ok(()),
        Ok(false) => Err("this kernel cannot (CONFIG_INET_DIAG_DESTROY)".to_owned()),
        Err(error) => Err(chain(&error)),
    });
    let permit = |step, granted, needed| Permit { step, granted, needed };
    let mut permits = vec![
        permit("shut gates", gate, true),
        permit("keep holds", store, true),
        permit("see whose each socket is", has(Capability::SysPtrace), false),
        permit("cut connections", destroy, false),
    ];
    if let Some(systemd) = &world.systemd {
        let units = match systemd.units().await {
            _ if boot::effective_uid() != 0 => Err("only root may".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(chain(&error)),
        };
        permits.push(permit("start and stop units", units, true));
    }
    Ok(Fact::Permits(permits))
}

/// The units that have failed; our own commands are none.
pub(crate) async fn failed_units(world: &World) -> Result<Fact, String> {
    let systemd = world.systemd.as_ref().ok_or("systemd does not run here")?;
    let failed = systemd.failed().await.map_err(|error| chain(&error))?;
    let names = failed.iter().map(ToString::to_string).filter(|name| !name.starts_with(run::UNIT));
    Ok(Fact::FailedUnits(names.collect()))
}

/// The kernel says it to most; our own sandbox forbids to ask, because it forbids to set.
pub(crate) async fn clock(within: Span) -> Result<Fact, String> {
    let synchronised = match boot::clock_is_synchronised() {
        Ok(synchronised) => synchronised,
        Err(error) => {
            ebb_checks::clock_is_synchronised(within).await.map_err(|why| format!("the kernel: {error}; {why}"))?
        }
    };
    Ok(Fact::Clock { synchronised })
}

/// Whether another member answers for each service that has a door for others.
pub(crate) async fn others(
    world: &World,
    wanted: Option<&BTreeSet<ServiceName>>,
    configured: &BTreeMap<String, Vec<String>>,
    within: Span,
) -> Result<Fact, String> {
    let services = look::services(world).await.map_err(|why| why.to_string())?;
    let is_wanted = |service: &&Service| wanted.is_none_or(|wanted| wanted.contains(&service.name));
    let reached = services.iter().filter(is_wanted).filter(|service| service.doors.iter().any(is_for_others));
    let names: Vec<String> = reached.map(|service| service.name.to_string()).collect();
    Ok(Fact::Others(ebb_checks::others(&names, configured, within).await))
}

const fn is_for_others(door: &Door) -> bool {
    match door.reach {
        Reach::Any4 | Reach::Any6 | Reach::Any | Reach::Forward(_) => true,
        Reach::Addr(ip) => !ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_has_the_terminal_that_ps_says() {
        // `script` makes a terminal of its own.
        let mut child = Command::new("script")
            .args(["-qfc", "echo $$; ps -o tty= -p $$; cat", "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let pid: u32 = lines.next().unwrap().unwrap().trim().parse().unwrap();
        let said = lines.next().unwrap().unwrap().trim().to_owned();
        assert!(said.starts_with("pts/"), "{said}");
        assert_eq!(terminal(pid).as_deref(), Some(said.as_str()));
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!(terminal(0), None);
    }

    #[test]
    fn doors_of_this_server_alone_are_nobody_elses() {
        let door = |reach| Door { proto: ebb_model::Proto::Tcp, reach, port: 1 };
        for (reach, does) in [
            (Reach::Any, true),
            (Reach::Addr("10.0.0.1".parse().unwrap()), true),
            (Reach::Addr("127.0.0.1".parse().unwrap()), false),
            (Reach::Addr("::1".parse().unwrap()), false),
        ] {
            assert_eq!(is_for_others(&door(reach)), does);
        }
    }
}
