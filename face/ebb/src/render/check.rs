//! `ebb check`

use ebb_model::printable;
use ebb_wire::v1::{Frame, Guard, Trend, Verdict};

use super::table::{Cell, Column, table};
use super::words::{BAD, GOOD, WARN, many};
use super::{Said, Text, View, common};

const COLUMNS: [Column; 3] = [Column::left("GUARD"), Column::left("SAYS"), Column::left("WHY")];
const COMPARED: [Column; 4] =
    [Column::left("GUARD"), Column::left("SAYS"), Column::left("BEFORE"), Column::left("WHY")];

/// One row for each guard.
#[derive(Debug, Default)]
pub struct Guards {
    guards: Vec<Guard>,
}

impl Text for Guards {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Guard(guard) => self.guards.push(guard.clone()),
            // Below the table that it is about.
            Frame::Note(note) if !note.warning => said.below(&printable(&note.text)),
            frame => common::frame(frame, view, said),
        }
    }

    fn end(&mut self, _: &View, said: &mut Said) {
        if self.guards.is_empty() {
            return;
        }
        let compared = self.guards.iter().any(|guard| guard.trend.is_some());
        let rows: Vec<Vec<Cell>> = self.guards.iter().map(|guard| row(guard, compared)).collect();
        // Why is the answer: it is never cut.
        let columns = if compared { &COMPARED[..] } else { &COLUMNS[..] };
        said.result(&table(columns, &rows, 0, None));
        said.below(&if compared { changes(&self.guards) } else { sum(&self.guards) });
    }
}

fn row(guard: &Guard, compared: bool) -> Vec<Cell> {
    let mut row = vec![printable(&guard.name).into(), says(guard.verdict)];
    if compared {
        row.push(before(guard));
    }
    row.push(printable(&guard.why).into());
    row
}

const fn word(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Pass) => "pass",
        Some(Verdict::Warn) => "warn",
        Some(Verdict::Refuse) => "refuse",
        None => "-",
    }
}

fn says(verdict: Option<Verdict>) -> Cell {
    let style = match verdict {
        Some(Verdict::Pass) => GOOD,
        Some(Verdict::Warn) => WARN,
        Some(Verdict::Refuse) => BAD,
        None => return word(None).into(),
    };
    Cell::styled(style, word(verdict))
}

fn before(guard: &Guard) -> Cell {
    let was = word(guard.verdict_before);
    match guard.trend {
        Some(Trend::Worse) if guard.regression => Cell::styled(BAD, &format!("{was}, WORSE now")),
        Some(Trend::Worse) => Cell::styled(WARN, &format!("{was}, worse now")),
        Some(Trend::Better) => Cell::styled(GOOD, &format!("{was}, better now")),
        Some(Trend::New) => "not asked".into(),
        Some(Trend::Same | Trend::Gone) | None => was.into(),
    }
}

fn sum(guards: &[Guard]) -> String {
    let count = |verdict| guards.iter().filter(|guard| guard.verdict == Some(verdict)).count() as u64;
    match (count(Verdict::Refuse), count(Verdict::Warn)) {
        (0, 0) => "Nothing speaks against it.".to_owned(),
        (0, warn) => format!("{}; nothing refuses.", many(warn, "warning")),
        (refuse, 0) => format!("{} refused.", many(refuse, "guard")),
        (refuse, warn) => format!("{} refused; {}.", many(refuse, "guard"), many(warn, "warning")),
    }
}

fn changes(guards: &[Guard]) -> String {
    let trend = |trend| guards.iter().filter(|guard| guard.trend == Some(trend)).count();
    let (worse, better) = (trend(Trend::Worse), trend(Trend::Better));
    let counts = guards.iter().filter(|guard| guard.regression).count();
    match (counts, worse, better) {
        (0, 0, 0) => "All is as it was.".to_owned(),
        (0, 0, better) => format!("{better} better, none worse."),
        (0, worse, better) => format!("{better} better; {worse} worse, of those that only say whether to begin."),
        (counts, _, better) => format!("{counts} worse, which speaks against coming back; {better} better."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn text(guards: Vec<Guard>) -> (String, String) {
        let mut said = Said::default();
        let mut text = Guards::default();
        for guard in guards {
            text.frame(&Frame::Guard(guard), &fixture::view(), &mut said);
        }
        text.end(&fixture::view(), &mut said);
        (fixture::plain(&String::from_utf8_lossy(&said.out)), said.after)
    }

    fn guard(name: &str, verdict: Verdict, why: &str) -> Guard {
        Guard {
            name: name.to_owned(),
            verdict: Some(verdict),
            why: why.to_owned(),
            trend: None,
            verdict_before: None,
            regression: false,
            ..fixture::guard()
        }
    }

    #[test]
    fn a_list() {
        let (out, after) = text(vec![
            guard("clock", Verdict::Warn, "the clock is not synchronised"),
            guard("disk-root", Verdict::Refuse, "/: 2.0 % free, less than 3 %"),
            guard("users", Verdict::Pass, "nobody else is logged in"),
        ]);
        assert_eq!(
            out,
            "GUARD      SAYS    WHY\n\
             clock      warn    the clock is not synchronised\n\
             disk-root  refuse  /: 2.0 % free, less than 3 %\n\
             users      pass    nobody else is logged in\n"
        );
        assert_eq!(after, "1 guard refused; 1 warning.\n");
        assert_eq!(text(vec![guard("a", Verdict::Pass, "x")]).1, "Nothing speaks against it.\n");
        assert_eq!(text(vec![guard("a", Verdict::Warn, "x")]).1, "1 warning; nothing refuses.\n");
        assert_eq!(text(vec![]), (String::new(), String::new()));
    }

    #[test]
    fn two_lists() {
        let compared = |name: &str, now, was, trend, regression| Guard {
            trend: Some(trend),
            verdict_before: was,
            regression,
            ..guard(name, now, "why")
        };
        let gone = Guard { verdict: None, ..compared("old", Verdict::Pass, Some(Verdict::Warn), Trend::Gone, false) };
        let (out, after) = text(vec![
            compared("disk", Verdict::Refuse, Some(Verdict::Pass), Trend::Worse, true),
            compared("users", Verdict::Warn, Some(Verdict::Pass), Trend::Worse, false),
            compared("clock", Verdict::Pass, Some(Verdict::Warn), Trend::Better, false),
            compared("same", Verdict::Pass, Some(Verdict::Pass), Trend::Same, false),
            compared("new", Verdict::Pass, None, Trend::New, false),
            gone,
        ]);
        assert_eq!(
            out,
            "GUARD  SAYS    BEFORE            WHY\n\
             disk   refuse  pass, WORSE now   why\n\
             users  warn    pass, worse now   why\n\
             clock  pass    warn, better now  why\n\
             same   pass    pass              why\n\
             new    pass    not asked         why\n\
             old    -       warn              why\n"
        );
        assert_eq!(after, "1 worse, which speaks against coming back; 1 better.\n");
        let same = compared("same", Verdict::Refuse, Some(Verdict::Refuse), Trend::Same, false);
        assert_eq!(text(vec![same]).1, "All is as it was.\n");
    }

    #[test]
    fn what_a_command_says_cannot_move_the_terminal() {
        let (out, _) = text(vec![guard("a\x1b[2J", Verdict::Pass, "x\x1b]0;y\x07\n\u{202e}z")]);
        assert!(!out.contains(['\x1b', '\x07', '\u{202e}']) && out.lines().count() == 2, "{out:?}");
    }
}
