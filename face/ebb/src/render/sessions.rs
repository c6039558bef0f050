//! `ebb sessions`: rows as they come, columns by the first thousand.

use ebb_wire::v1::{Frame, Session};

use super::common::{self, SESSION_COLUMNS, session_row};
use super::table::{Cell, Layout};
use super::words::many;
use super::{Said, Text, View};

/// Rows that fix the widths of the columns.
const MEASURED: usize = 1000;

/// The list of sessions.
#[derive(Default)]
pub struct Sessions {
    waiting: Vec<Vec<Cell>>,
    layout: Option<Layout<'static>>,
}

impl Text for Sessions {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Session(session) => self.session(session, view, said),
            Frame::Listed(listed) => {
                self.flush(view, said);
                let mut text = if listed.total == 0 {
                    format!("nobody is connected to {}", ebb_model::printable(&listed.service))
                } else if listed.shown < listed.total {
                    format!("{} of {}", listed.shown, many(listed.total, "session"))
                } else {
                    many(listed.total, "session")
                };
                if listed.orphans > 0 {
                    text.push_str(&format!(
                        "; and {} that only the kernel still closes",
                        many(listed.orphans, "connection")
                    ));
                }
                said.talk(&text);
            }
            other => common::frame(other, view, said),
        }
    }

    fn end(&mut self, view: &View, said: &mut Said) {
        self.flush(view, said);
    }
}

impl Sessions {
    fn session(&mut self, session: &Session, view: &View, said: &mut Said) {
        let row = session_row(session);
        match &self.layout {
            Some(layout) => {
                let mut line = String::new();
                layout.row(&row, &mut line);
                said.result(&line);
            }
            None => {
                self.waiting.push(row);
                if self.waiting.len() >= MEASURED {
                    self.flush(view, said);
                }
            }
        }
    }

    fn flush(&mut self, view: &View, said: &mut Said) {
        if self.waiting.is_empty() {
            return;
        }
        let layout = Layout::of(&SESSION_COLUMNS, &self.waiting, 0, view.width);
        let mut text = String::new();
        if self.layout.is_none() {
            layout.head(&mut text);
        }
        for row in self.waiting.drain(..) {
            layout.row(&row, &mut text);
        }
        said.result(&text);
        self.layout = Some(layout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn every_row_is_said_once_under_one_heading() {
        let (mut text, mut said) = (Sessions::default(), Said::default());
        for _ in 0..2500 {
            text.frame(&Frame::Session(fixture::session()), &fixture::view(), &mut said);
        }
        text.frame(&Frame::Listed(fixture::listed()), &fixture::view(), &mut said);
        let out = fixture::plain(&String::from_utf8(said.out).unwrap());
        assert_eq!(out.lines().count(), 2501);
        assert_eq!(out.matches("PEER").count(), 1);
    }
}
