//! `ebb services`.

use ebb_model::printable;
use ebb_wire::v1::{Frame, Service};

use super::table::{Cell, Column, table};
use super::words::{WARN, door, doors, paint, state_style};
use super::{Said, Text, View, common};

const COLUMNS: [Column; 6] = [
    Column::left("SERVICE"),
    Column::left("STATE"),
    Column::right("SESSIONS"),
    Column::cut("DOORS", 18),
    Column::left("START"),
    Column::cut("HELD BY", 8),
];

/// The table of services.
pub struct Services {
    by_door: bool,
    services: Vec<Service>,
    refused: bool,
}

impl Services {
    /// A line for each service, or for each of its doors.
    #[must_use]
    pub const fn new(by_door: bool) -> Self {
        Self { by_door, services: Vec::new(), refused: false }
    }
}

impl Text for Services {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Service(service) => self.services.push(service.clone()),
            other => {
                self.refused |= matches!(other, Frame::Refused(_));
                common::frame(other, view, said);
            }
        }
    }

    fn end(&mut self, view: &View, said: &mut Said) {
        if self.services.is_empty() {
            if !self.refused {
                said.talk("nothing on this server listens on a TCP or UDP port");
            }
            return;
        }
        if self.by_door {
            said.result(&by_door(&self.services, view));
            return;
        }
        let rows: Vec<Vec<Cell>> = self.services.iter().map(row).collect();
        said.result(&table(&COLUMNS, &rows, 0, view.width));
        for service in &self.services {
            for remark in &service.remarks {
                said.talk(&format!("{} {}: {}", paint(WARN, "warning:"), printable(&service.name), printable(remark)));
            }
        }
    }
}

fn row(service: &Service) -> Vec<Cell> {
    let holders: Vec<String> = service.holders.iter().map(|hold| printable(&hold.requester)).collect();
    vec![
        printable(&service.name).into(),
        Cell::styled(state_style(&service.state), &service.state),
        service.sessions.map_or_else(|| "-".to_owned(), |count| count.to_string()).into(),
        doors(&service.doors).into(),
        printable(&service.start).into(),
        if holders.is_empty() { "-".to_owned() } else { holders.join(", ") }.into(),
    ]
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
            let gate = match (one.holdable, one.refused) {
                (false, _) => "cannot hold",
                (true, Some(_)) => "shut",
                (true, None) => "open",
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
    fn a_table_with_a_row_for_each_and_remarks_below() {
        let mut text = Services::new(false);
        let mut said = Said::default();
        let service = Service { remarks: vec!["look here".into()], ..fixture::service() };
        text.frame(&Frame::Service(service), &fixture::view(), &mut said);
        text.end(&fixture::view(), &mut said);
        let out = fixture::plain(&String::from_utf8(said.out).unwrap());
        assert!(out.starts_with("SERVICE  STATE"), "{out}");
        assert_eq!(out.lines().count(), 2);
        assert!(fixture::plain(&said.talk).contains("warning: nginx: look here"));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let mut said = Said::default();
        Services::new(false).end(&fixture::view(), &mut said);
        assert!(said.talk.contains("nothing on this server"));
    }
}
