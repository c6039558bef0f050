//! `ebb holds`.

use ebb_model::printable;
use ebb_wire::v1::{Frame, Hold};

use super::table::{Cell, Column, table};
use super::words::{duration, moment};
use super::{Said, Text, View, common};

const COLUMNS: [Column; 7] = [
    Column::left("SERVICE"),
    Column::left("REQUESTER"),
    Column::left("LEVEL"),
    Column::left("BY"),
    Column::left("SINCE"),
    Column::left("UNTIL"),
    Column::cut("REASON", 12),
];

/// The table of holds.
#[derive(Default)]
pub struct Holds {
    rows: Vec<Vec<Cell>>,
    refused: bool,
}

impl Text for Holds {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Hold(hold) => self.rows.push(row(hold, view)),
            other => {
                self.refused |= matches!(other, Frame::Refused(_));
                common::frame(other, view, said);
            }
        }
    }

    fn end(&mut self, view: &View, said: &mut Said) {
        if self.rows.is_empty() && !self.refused {
            said.talk("nothing is held");
        } else if !self.rows.is_empty() {
            said.result(&table(&COLUMNS, &self.rows, 0, view.width));
        }
    }
}

fn row(hold: &Hold, view: &View) -> Vec<Cell> {
    let since = format!(
        "{} ({})",
        moment(hold.since, view),
        duration(view.now.duration_since(hold.since).as_secs_f64().max(0.0))
    );
    let until = hold.until.map_or_else(
        || "-".to_owned(),
        |until| if until < view.now { format!("{} (overdue)", moment(until, view)) } else { moment(until, view) },
    );
    vec![
        printable(&hold.service).into(),
        printable(&hold.requester).into(),
        printable(&hold.level).into(),
        printable(&hold.by).into(),
        since.into(),
        until.into(),
        if hold.reason.is_empty() { "-".to_owned() } else { printable(&hold.reason) }.into(),
    ]
}
