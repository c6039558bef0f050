//! `ebb services`

use ebb_model::printable;
use ebb_wire::v1::{Frame, Hold, Service};

use super::table::{Cell, Column, table};
use super::words::{STRONG, WARN, doors, paint, state_style};
use super::{Said, Text, View, common};

const COLUMNS: [Column; 6] = [
    Column::left("NAME"),
    Column::left("STATE"),
    Column::right("SESSIONS"),
    Column::cut("DOORS", 16),
    Column::left("START"),
    Column::cut("HELD BY", 8),
];

/// A table of services, written at the end.
#[derive(Debug, Default)]
pub struct Services {
    rows: Vec<Vec<Cell>>,
    remarks: Vec<String>,
}

impl Text for Services {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        let Frame::Service(service) = frame else { return common::frame(frame, view, said) };
        self.rows.push(row(service));
        for remark in &service.remarks {
            let name = printable(&service.name);
            self.remarks.push(format!("{} {name}: {}\n", paint(WARN, "!"), printable(remark)));
        }
    }

    fn end(&mut self, view: &View, said: &mut Said) {
        if self.rows.is_empty() {
            return said.talk("No service has a listening socket here.");
        }
        said.result(&table(&COLUMNS, &self.rows, 0, view.width));
        for remark in &self.remarks {
            said.result(remark);
        }
    }
}

fn row(service: &Service) -> Vec<Cell> {
    let server = |hold: &Hold| if hold.whole_server { " (server)" } else { "" };
    let holders: Vec<String> =
        service.holders.iter().map(|hold| format!("{}{}", printable(&hold.requester), server(hold))).collect();
    let sessions = service.sessions.map_or_else(|| "?".to_owned(), |count| count.to_string());
    vec![
        Cell::styled(STRONG, &printable(&service.name)),
        Cell::styled(state_style(&service.state), &printable(&service.state)),
        sessions.into(),
        doors(&service.doors).into(),
        printable(&service.start).into(),
        if holders.is_empty() { "-".into() } else { holders.join(", ").into() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn text(services: &[Service], width: Option<usize>) -> String {
        let (mut said, mut text) = (Said::default(), Services::default());
        let view = View { width, ..fixture::view() };
        for service in services {
            text.frame(&Frame::Service(service.clone()), &view, &mut said);
        }
        text.end(&view, &mut said);
        fixture::plain(&(said.talk + &String::from_utf8(said.out).unwrap()))
    }

    #[test]
    fn services_are_a_table() {
        let held = Service {
            name: "python3:7000".to_owned(),
            state: "draining".to_owned(),
            sessions: None,
            doors: vec![fixture::door()],
            start: "by hand".to_owned(),
            holders: vec![fixture::hold()],
            remarks: vec!["the gate is missing".to_owned()],
            ..fixture::service()
        };
        assert_eq!(
            text(&[fixture::service(), held], None),
            "NAME          STATE     SESSIONS  DOORS               START    HELD BY\n\
             nginx         open           212  tcp 0.0.0.0:80,443  enabled  -\n\
             python3:7000  draining         ?  tcp 0.0.0.0:80      by hand  deploy\n\
             ! python3:7000: the gate is missing\n"
        );
    }

    #[test]
    fn many_doors_are_cut_to_the_terminal() {
        let doors = (1000..1050).map(|port| ebb_wire::v1::Door { port, ..fixture::door() }).collect();
        let wide = Service { doors, ..fixture::service() };
        assert!(text(&[wide], Some(80)).lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn no_service_is_said() {
        assert_eq!(text(&[], None), "No service has a listening socket here.\n");
    }
}
