//! `ebb services --doors`: a line for each door.

use ebb_model::printable;
use ebb_wire::v1::{Frame, Service};

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
            let gate = match (one.holdable, one.refused, one.learning_seconds) {
                (false, ..) => "cannot hold".to_owned(),
                (true, _, Some(left)) => format!("learning, {}", duration(left)),
                (true, Some(_), None) => "shut".to_owned(),
                (true, None, None) => "open".to_owned(),
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
