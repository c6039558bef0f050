//! `ebb holds`

use ebb_model::printable;
use ebb_wire::v1::{Frame, Hold};

use super::table::{Cell, Column, table};
use super::words::{STRONG, many, moment};
use super::{Said, Text, View, common};

const COLUMNS: [Column; 8] = [
    Column::left("SERVICE"),
    Column::left("HELD BY"),
    Column::left("LEVEL"),
    Column::left("BY"),
    Column::left("SINCE"),
    Column::left("UNTIL"),
    Column::cut("EXCEPT", 8),
    Column::cut("REASON", 12),
];

/// A table of holds, written at the end.
#[derive(Debug, Default)]
pub struct Holds {
    rows: Vec<Vec<Cell>>,
}

impl Text for Holds {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Hold(hold) => self.rows.push(row(hold, view)),
            _ => common::frame(frame, view, said),
        }
    }

    fn end(&mut self, view: &View, said: &mut Said) {
        if self.rows.is_empty() {
            return said.talk("No service is held.");
        }
        said.result(&table(&COLUMNS, &self.rows, 0, view.width));
    }
}

fn row(hold: &Hold, view: &View) -> Vec<Cell> {
    let what = if hold.whole_server {
        format!("the server ({})", many(hold.covers.len() as u64, "service"))
    } else {
        printable(&hold.service)
    };
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        Cell::styled(STRONG, &what),
        printable(&hold.requester).into(),
        printable(&hold.level).into(),
        printable(&hold.by).into(),
        moment(hold.since, view).into(),
        or_dash(hold.until.map_or_else(String::new, |until| moment(until, view))).into(),
        or_dash(printable(&hold.except.join(","))).into(),
        or_dash(printable(&hold.reason)).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn holds_are_a_table() {
        let (mut said, mut holds) = (Said::default(), Holds::default());
        let other = Hold {
            until: Some("2026-11-22T08:00:00Z".parse().unwrap()),
            except: vec!["10.0.0.0/8".to_owned()],
            reason: String::new(),
            ..fixture::hold()
        };
        for hold in [fixture::hold(), other] {
            holds.frame(&Frame::Hold(hold), &fixture::view(), &mut said);
        }
        holds.end(&fixture::view(), &mut said);
        assert_eq!(
            fixture::plain(&String::from_utf8(said.out).unwrap()),
            "SERVICE  HELD BY  LEVEL    BY  SINCE     UNTIL                EXCEPT      REASON\n\
             nginx    deploy   stopped  ci  06:50:00  -                    -           release 41\n\
             nginx    deploy   stopped  ci  06:50:00  2026-11-22 08:00:00  10.0.0.0/8  -\n"
        );
    }

    #[test]
    fn no_hold_is_said() {
        let mut said = Said::default();
        Holds::default().end(&fixture::view(), &mut said);
        assert_eq!(said.talk, "No service is held.\n");
    }
}
