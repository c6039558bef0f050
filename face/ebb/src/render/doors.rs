//! `ebb services --doors`: a line for each door.

use ebb_model::printable;
use ebb_wire::v1::{Ability, Frame, Gate, Service};

use super::table::{Cell, Column, table};
use super::words::{door, duration};
use super::{Said, Text, View, common};

/// The table of doors.
#[derive(Debug, Default)]
pub struct Doors {
    services: Vec<Service>,
}

impl Text for Doors {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Service(service) => self.services.push(service.clone()),
            other => common::frame(other, view, said),
        }
    }

    fn end(&mut self, view: &View, said: &mut Said) {
        if !self.services.is_empty() {
            said.result(&by_door(&self.services, view));
            if self.services.iter().any(|service| service.daemon.is_some()) {
                said.result(&format!("\n{}", by_daemon(&self.services, view)));
            }
        }
    }
}

fn by_door(services: &[Service], view: &View) -> String {
    const COLUMNS: [Column; 5] = [
        Column::left("SERVICE"),
        Column::cut("DOOR", 18),
        Column::left("GATE"),
        Column::right("REFUSED"),
        Column::cut("MADE OF", 10),
    ];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for service in services {
        let pids: Vec<String> = service.pids.iter().map(|pid| format!("pid {pid}")).collect();
        let made_of = if service.units.is_empty() { pids.join(", ") } else { printable(&service.units.join(", ")) };
        for one in &service.doors {
            let gate = match (one.holdable, one.gate, one.learning_seconds) {
                (false, ..) => "cannot hold".to_owned(),
                (true, Gate::Learning, Some(left)) => format!("learning, {}", duration(left)),
                (true, Gate::Learning, None) => "learning".to_owned(),
                (true, Gate::Shut, _) => "shut".to_owned(),
                (true, Gate::Open, _) => "open".to_owned(),
                (true, Gate::Missing, _) => "missing".to_owned(),
                (true, Gate::Unknown, _) => "unknown".to_owned(),
            };
            rows.push(vec![
                printable(&service.name).into(),
                door(one).into(),
                gate.into(),
                one.refused.map_or_else(|| "-".to_owned(), |count| count.to_string()).into(),
                made_of.clone().into(),
            ]);
        }
    }
    table(&COLUMNS, &rows, 0, view.width)
}

/// What each daemon can do, and what is missing for that.
fn by_daemon(services: &[Service], view: &View) -> String {
    const COLUMNS: [Column; 6] = [
        Column::left("DAEMON OF"),
        Column::left("IS"),
        Column::left("SESSIONS"),
        Column::left("REFUSES"),
        Column::left("GOODBYE"),
        Column::left("MOVES"),
    ];
    let said = |ability: &Ability| match (ability.can, &ability.help) {
        (true, _) => "yes",
        (false, Some(_)) => "missing",
        (false, None) => "no",
    };
    let (mut rows, mut below): (Vec<Vec<Cell>>, Vec<String>) = Default::default();
    for (service, daemon) in services.iter().filter_map(|service| Some((service, service.daemon.as_ref()?))) {
        let version = daemon.version.as_ref().map_or_else(String::new, |version| format!(" {}", printable(version)));
        let all = [&daemon.sessions, &daemon.refuse, &daemon.end, &daemon.redirect];
        let mut row: Vec<Cell> = vec![printable(&service.name).into(), format!("{}{version}", daemon.kind).into()];
        row.extend(all.map(|ability| said(ability).into()));
        rows.push(row);
        for (name, ability) in ["sessions", "refuses", "goodbye", "moves"].into_iter().zip(all) {
            let Some(why) = &ability.why else { continue };
            let help = ability.help.as_ref().map_or_else(String::new, |help| format!(": {}", printable(help)));
            let line = format!("{} {name}: {}{help}\n", printable(&service.name), printable(why));
            if !below.contains(&line) {
                below.push(line);
            }
        }
    }
    table(&COLUMNS, &rows, 0, view.width) + &below.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_gate_that_could_not_be_read_is_not_open() {
        let doors = [(Gate::Shut, Some(3)), (Gate::Open, None), (Gate::Missing, None), (Gate::Unknown, None)];
        let doors = doors.map(|(gate, refused)| ebb_wire::v1::Door { gate, refused, ..fixture::door() });
        let service = Service { doors: doors.into(), ..fixture::service() };
        let text = fixture::plain(&by_door(&[service], &fixture::view()));
        let gates: Vec<_> = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3)).collect();
        assert_eq!(gates, ["shut", "open", "missing", "unknown"], "{text}");
    }
}
