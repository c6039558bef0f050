//! `ebb sessions`: three rows as well as a hundred thousand.

use ebb_model::printable;
use ebb_wire::v1::{Frame, Listed, Session};

use super::common::{self, SessionTable};
use super::table::Layout;
use super::words::many;
use super::{Said, Text, View};

/// Rows that are looked at to find the widths of the columns; the others are written as they come.
const MEASURED: usize = 1000;

/// A table of sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    measured: Vec<Session>,
    layout: Option<(SessionTable, Layout<'static>)>,
}

impl Text for Sessions {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match (frame, &self.layout) {
            (Frame::Session(session), Some((table, layout))) => {
                let mut line = String::with_capacity(160);
                layout.row(&table.row(session), &mut line);
                said.result(&line);
            }
            (Frame::Session(session), None) => {
                self.measured.push(session.clone());
                if self.measured.len() == MEASURED {
                    self.measure(view, said);
                }
            }
            (Frame::Listed(listed), _) => {
                self.measure(view, said);
                said.below(&summary(listed));
            }
            _ => common::frame(frame, view, said),
        }
    }

    fn end(&mut self, view: &View, said: &mut Said) {
        self.measure(view, said);
    }
}

impl Sessions {
    /// Finds the widths, and writes what has been kept for that.
    fn measure(&mut self, view: &View, said: &mut Said) {
        if self.measured.is_empty() || self.layout.is_some() {
            return;
        }
        let sessions = std::mem::take(&mut self.measured);
        let table = SessionTable::of(&sessions);
        let rows: Vec<_> = sessions.iter().map(|session| table.row(session)).collect();
        let layout = Layout::of(table.columns(), &rows, 0, view.width);
        let mut text = String::new();
        layout.head(&mut text);
        for row in &rows {
            layout.row(row, &mut text);
        }
        said.result(&text);
        self.layout = Some((table, layout));
    }
}

/// How many there are.
#[must_use]
pub fn summary(listed: &Listed) -> String {
    let name = printable(&listed.service);
    let mut text = match listed.total {
        0 => format!("{name} has no sessions."),
        total if listed.shown < total => format!("{name}: {}, {} shown.", many(total, "session"), listed.shown),
        total => format!("{name}: {}.", many(total, "session")),
    };
    if listed.orphans > 0 {
        let sockets = many(listed.orphans, "closed socket");
        text.push_str(&format!(" Beside them the kernel still finishes {sockets}, which need no service."));
    }
    for advice in &listed.advice {
        let why = printable(&advice.why);
        text.push_str(&format!("\n  {} {why}: {}", advice.count, printable(&advice.text)));
    }
    text
}

#[cfg(test)]
mod tests {
    use ebb_wire::v1::AtDeadline;

    use super::*;
    use crate::fixture;

    #[test]
    fn rows_are_streamed_once_the_widths_are_known() {
        let (mut said, mut text) = (Said::default(), Sessions::default());
        let view = fixture::view();
        let row = Frame::Session(fixture::session());
        for _ in 1..MEASURED {
            text.frame(&row, &view, &mut said);
        }
        assert!(said.out.is_empty());
        text.frame(&row, &view, &mut said);
        let lines = |said: &Said| said.out.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines(&said), MEASURED + 1);
        let wider = Session { peer: "[2001:db8::1:2:3]:51234".to_owned(), ..fixture::session() };
        text.frame(&Frame::Session(wider), &view, &mut said);
        assert_eq!(lines(&said), MEASURED + 2, "a row that is wider than measured is written whole");
        assert!(String::from_utf8_lossy(&said.out).contains("[2001:db8::1:2:3]:51234  ≥ 41 min"));
        text.frame(&Frame::Listed(fixture::listed()), &view, &mut said);
        text.end(&view, &mut said);
        assert_eq!(lines(&said), MEASURED + 2);
    }

    #[test]
    fn the_summary_tells_what_is_not_shown() {
        let listed = fixture::listed();
        assert_eq!(
            summary(&listed),
            "nginx: 212 sessions, 100 shown. Beside them the kernel still finishes 3 closed sockets, which need no \
             service.\n  180 idle: an end loses nothing: `ebb drain nginx --idle now`"
        );
        assert_eq!(
            summary(&Listed { total: 0, shown: 0, orphans: 0, advice: Vec::new(), ..listed.clone() }),
            "nginx has no sessions."
        );
        assert_eq!(
            summary(&Listed { total: 1, shown: 1, orphans: 0, advice: Vec::new(), ..listed }),
            "nginx: 1 session."
        );
    }
    #[test]
    fn what_becomes_of_them_at_the_deadline_has_a_column_where_there_is_one() {
        let at = |gone, then: &str| Session {
            at_deadline: Some(AtDeadline { gone, then: then.to_owned() }),
            ..fixture::session()
        };
        let all = [at(Some(0.42), "goodbye"), at(Some(1.0), "cut"), at(None, "left"), fixture::session()];
        let text = common::session_table(&all, 0, None);
        let ends: Vec<_> = text.lines().map(|line| line.rsplit("  ").next().unwrap_or_default()).collect();
        assert_eq!(ends, ["AT DEADLINE", "~42 % gone, else goodbye", "~99 % gone, else cut", "left", "-"]);
        assert!(!common::session_table(&all[3..], 0, None).contains("AT DEADLINE"));
    }
}
