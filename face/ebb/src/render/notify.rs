//! `ebb notify`

use ebb_model::printable;
use ebb_wire::v1::{Frame, Noticed, Notifier};

use super::table::{Cell, Column, table};
use super::words::{BAD, STRONG, WARN, duration, moment, paint};
use super::{Said, Text, View, common};

const COLUMNS: [Column; 8] = [
    Column::left("NOTIFIER"),
    Column::left("WAY"),
    Column::cut("TO", 8),
    Column::left("ON"),
    Column::right("SENT"),
    Column::right("QUEUED"),
    Column::right("GIVEN UP"),
    Column::left("NEXT TRY"),
];

/// A table of notifiers, written at the end; tests as they come.
#[derive(Debug, Default)]
pub struct Notify {
    rows: Vec<Vec<Cell>>,
    errors: Vec<String>,
}

impl Text for Notify {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Notifier(notifier) => {
                self.rows.push(row(notifier, view));
                if let Some(error) = &notifier.last_error {
                    self.errors.push(format!("{}: {}", printable(&notifier.name), printable(error)));
                }
            }
            Frame::Noticed(noticed) => said.result(&tested(noticed)),
            _ => common::frame(frame, view, said),
        }
    }

    fn end(&mut self, view: &View, said: &mut Said) {
        if self.rows.is_empty() {
            return;
        }
        said.result(&table(&COLUMNS, &self.rows, 0, view.width));
        for error in &self.errors {
            said.result(&format!("{}{error}\n", paint(WARN, "! ")));
        }
    }
}

fn row(notifier: &Notifier, view: &View) -> Vec<Cell> {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let to = match (&notifier.via, notifier.to.as_slice()) {
        (via, []) => via.clone().unwrap_or_default(),
        (_, to) => to.join(", "),
    };
    vec![
        Cell::styled(STRONG, &printable(&notifier.name)),
        printable(notifier.way.as_deref().unwrap_or("not configured")).into(),
        or_dash(printable(&to)).into(),
        or_dash(printable(&notifier.on.join(","))).into(),
        notifier.sent.to_string().into(),
        notifier.queued.to_string().into(),
        notifier.failed.to_string().into(),
        or_dash(notifier.next.map_or_else(String::new, |next| moment(next, view))).into(),
    ]
}

fn tested(noticed: &Noticed) -> String {
    let mut who = printable(&noticed.notifier);
    if let Some(recipient) = &noticed.recipient {
        who = format!("{who} to {}", printable(recipient));
    }
    let mut text = match &noticed.why {
        None => format!("{who}: sent in {}\n", duration(noticed.took_seconds)),
        Some(why) => format!("{who}: {} {}\n", paint(BAD, "not sent:"), printable(why)),
    };
    for remark in &noticed.remarks {
        text.push_str(&format!("  {}{}\n", paint(WARN, "! "), printable(remark)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn shown(frames: &[Frame]) -> String {
        let (mut said, mut text) = (Said::default(), Notify::default());
        for frame in frames {
            text.frame(frame, &fixture::view(), &mut said);
        }
        text.end(&fixture::view(), &mut said);
        fixture::plain(&String::from_utf8(said.out).unwrap())
    }

    #[test]
    fn notifiers_are_a_table_with_their_last_errors_below() {
        let gone = Notifier {
            name: "old".to_owned(),
            way: None,
            via: None,
            to: Vec::new(),
            on: Vec::new(),
            queued: 0,
            failed: 2,
            sent: 0,
            next: None,
            last_error: None,
        };
        assert_eq!(
            shown(&[Frame::Notifier(fixture::notifier()), Frame::Notifier(gone)]),
            "NOTIFIER  WAY             TO               ON             SENT  QUEUED  GIVEN UP  NEXT TRY\n\
             ops       mail            ops@example.org  start,trouble    12       1         0  07:05:00\n\
             old       not configured  -                -                 0       0         2  -\n\
             ! ops: no answer within 10 s\n"
        );
    }

    #[test]
    fn a_test_says_what_became_of_it() {
        let failed = Noticed {
            notifier: "chat".to_owned(),
            recipient: None,
            sent: false,
            why: Some("h:443 answered 404".to_owned()),
            remarks: vec!["the template of the text makes no sense".to_owned()],
            took_seconds: 0.1,
        };
        assert_eq!(
            shown(&[Frame::Noticed(fixture::noticed()), Frame::Noticed(failed)]),
            "ops to ops@example.org: sent in 0.4 s\n\
             chat: not sent: h:443 answered 404\n  ! the template of the text makes no sense\n"
        );
    }
}
