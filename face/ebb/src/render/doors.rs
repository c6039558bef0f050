//! `ebb services --doors`: a line for each door.

use ebb_model::printable;
use ebb_wire::v1::{Frame, Gate, Service};

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
