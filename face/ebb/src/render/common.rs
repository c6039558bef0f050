//! Frames that any verb may get.

use ebb_model::printable;
use ebb_wire::v1::{AtDeadline, Event, Frame, Hold, Note, Refusal, Session};

use super::table::{Cell, Column, table};
use super::words::{BAD, STRONG, WARN, age, clock, paint, roughly, shell_word};
use super::{Said, View, plan};

/// Renders a frame that is not the verb's own; says nothing about frames it does not expect.
pub fn frame(frame: &Frame, view: &View, said: &mut Said) {
    match frame {
        Frame::Event(event) => said.talk(&event_line(event, view)),
        Frame::Note(note) => said.talk(&note_line(note)),
        Frame::Refused(refusal) => refused(refusal, said),
        Frame::Plan(asked) => said.result(&plan::plan(asked, view)),
        _ => {}
    }
}

/// Notes are the whole answer of some verbs' `--dry-run`: then they are results. True if `frame` was one.
pub fn answer(dry_run: bool, frame: &Frame, said: &mut Said) -> bool {
    match frame {
        Frame::Note(note) if dry_run && !note.warning => {
            said.result(&format!("{}\n", about(note.service.as_deref(), &note.text)));
            true
        }
        _ => false,
    }
}

/// A refusal, even where only results are wanted.
pub fn refused(refusal: &Refusal, said: &mut Said) {
    said.even_if_quiet(&format!("{} {}", paint(BAD, "error:"), about(refusal.service.as_deref(), &refusal.why)));
    if let Some(help) = &refusal.help {
        said.even_if_quiet(&hint(&printable(help)));
    }
}

/// `hint: what helps`, further lines below it. The text must be printable already.
#[must_use]
pub fn hint(help: &str) -> String {
    format!("{} {}", paint(STRONG, "hint:"), help.replace('\n', "\n      "))
}

fn note_line(note: &Note) -> String {
    let word = if note.warning { paint(WARN, "warning:") } else { "note:".to_owned() };
    format!("{word} {}", about(note.service.as_deref(), &note.text))
}

/// `nginx: text`, but not `nginx: nginx is ...`.
pub fn about(service: Option<&str>, text: &str) -> String {
    match service {
        Some(service) if !text.contains(service) => format!("{}: {}", printable(service), printable(text)),
        _ => printable(text),
    }
}

/// Kinds of event that need a look: a gate lost, a leak, a failed stop, a service ended by others.
#[must_use]
pub const fn is_alarm(event: &Event) -> bool {
    matches!(event.number, 204 | 206 | 402 | 404 | 502)
}

/// An event beside a verb that is being watched: `07:01:28  nginx: the gate is shut`.
#[must_use]
pub fn event_line(event: &Event, view: &View) -> String {
    let text = about(event.service.as_deref(), &event.text);
    let text = if is_alarm(event) { paint(WARN, &text) } else { text };
    format!("{}  {text}", clock(event.at, view))
}

/// `ebb VERB NAME`, in the name of whom the hold is.
#[must_use]
pub fn command(verb: &str, service: &str, requester: &str) -> String {
    let name = shell_word(service);
    if requester == "operator" {
        format!("ebb {verb} {name}")
    } else {
        format!("ebb {verb} {name} --as {}", shell_word(requester))
    }
}

/// Columns of a list of sessions of which the kernel alone tells. The last is left out where no deadline is to come.
const SESSION_COLUMNS: [Column; 10] = [
    Column::left("ID"),
    Column::left("PEER"),
    Column::right("AGE"),
    Column::right("IDLE"),
    Column::right("IN"),
    Column::right("OUT"),
    Column::cut("STATE", 5),
    Column::cut("PROCESS", 7),
    Column::cut("WHY", 12),
    AT_DEADLINE,
];

/// The same where a daemon tells of them too.
const USE_COLUMNS: [Column; 9] = [
    Column::left("ID"),
    Column::cut("USER", 12),
    Column::cut("WHAT", 16),
    Column::left("PEER"),
    Column::right("AGE"),
    Column::right("IDLE"),
    Column::cut("PROCESS", 7),
    Column::cut("WHY", 12),
    AT_DEADLINE,
];

const AT_DEADLINE: Column = Column::left("AT DEADLINE");

/// How a list of sessions is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTable {
    /// A daemon tells of them too.
    uses: bool,
    /// A deadline is to come.
    deadline: bool,
}

impl SessionTable {
    /// The one that fits these.
    #[must_use]
    pub fn of(sessions: &[Session]) -> Self {
        Self {
            uses: sessions.iter().any(|session| session.uses > 0),
            deadline: sessions.iter().any(|session| session.at_deadline.is_some()),
        }
    }

    /// Its columns.
    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        let all: &[Column] = if self.uses { &USE_COLUMNS } else { &SESSION_COLUMNS };
        if self.deadline { all } else { &all[..all.len() - 1] }
    }

    /// One row of it.
    #[must_use]
    pub fn row(self, session: &Session) -> Vec<Cell> {
        let mut row = if self.uses { use_row(session) } else { session_row(session) };
        if self.deadline {
            row.push(session.at_deadline.as_ref().map_or_else(|| "-".to_owned(), at_deadline).into());
        }
        row
    }
}

/// `goodbye`; `~40 % gone, else goodbye`. Nearly certain is not certain.
fn at_deadline(at: &AtDeadline) -> String {
    let then = printable(&at.then);
    match at.gone.map(|gone| (gone * 100.0).round().clamp(1.0, 99.0)) {
        Some(percent) => format!("~{percent} % gone, else {then}"),
        None => then,
    }
}

/// A table of all of these, behind `indent` spaces.
#[must_use]
pub fn session_table(sessions: &[Session], indent: usize, width: Option<usize>) -> String {
    let how = SessionTable::of(sessions);
    let rows: Vec<_> = sessions.iter().map(|session| how.row(session)).collect();
    table(how.columns(), &rows, indent, width)
}

fn holder(session: &Session) -> String {
    match (&session.process, session.pid) {
        (Some(name), Some(pid)) => format!("{}[{pid}]", printable(name)),
        (Some(name), None) => printable(name),
        (None, Some(pid)) => format!("[{pid}]"),
        (None, None) => "-".to_owned(),
    }
}

fn peer(session: &Session) -> String {
    match &session.peer_name {
        Some(name) => format!("{} ({})", printable(&session.peer), printable(name)),
        None if session.peer.is_empty() => "-".to_owned(),
        None => printable(&session.peer),
    }
}

/// A name as long as an attacker likes must not fill the screen.
const LONGEST: usize = 80;

fn told(text: Option<&String>) -> String {
    let Some(text) = text else { return "-".to_owned() };
    let text = printable(text);
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

fn use_row(session: &Session) -> Vec<Cell> {
    let why = match session.seen_by.as_str() {
        "kernel alone" => format!("{} (the daemon does not know it)", printable(&session.why)),
        _ => printable(&session.why),
    };
    vec![
        printable(&session.id).into(),
        told(session.user.as_ref()).into(),
        told(session.what.as_ref()).into(),
        peer(session).into(),
        age(session.age).into(),
        roughly(session.idle_seconds).into(),
        holder(session).into(),
        why.into(),
    ]
}

fn session_row(session: &Session) -> Vec<Cell> {
    vec![
        printable(&session.id).into(),
        peer(session).into(),
        age(session.age).into(),
        roughly(session.idle_seconds).into(),
        ebb_model::bytes(session.bytes_in).into(),
        ebb_model::bytes(session.bytes_out).into(),
        printable(&session.state).into(),
        holder(session).into(),
        printable(&session.why).into(),
    ]
}

/// One line for each hold of others, and what can be done.
pub fn remaining(holds: &[Hold], view: &View, out: &mut String) {
    for hold in holds {
        out.push_str(&format!("  held by    {}\n", super::words::hold(hold, view)));
    }
    for (number, hold) in holds.iter().enumerate() {
        let name = if number == 0 { "next" } else { "" };
        let resume = if hold.whole_server {
            ebb_model::resume_server(&printable(&hold.requester))
        } else {
            command("resume", &hold.service, &hold.requester)
        };
        out.push_str(&format!("  {name:<9}  ask {}; or, in their name: {resume}\n", printable(&hold.requester)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use ebb_wire::v1::RefusalKind;

    fn talk(one: &Frame) -> String {
        let mut said = Said::default();
        frame(one, &fixture::view(), &mut said);
        fixture::plain(&said.talk)
    }

    #[test]
    fn a_refusal_says_why_and_what_helps() {
        let refusal = Refusal {
            service: Some("ngnix".to_owned()),
            kind: RefusalKind::NoSuchService,
            why: "no service is called `ngnix`".to_owned(),
            help: Some("did you mean nginx? `ebb services` lists them all".to_owned()),
        };
        assert_eq!(
            talk(&Frame::Refused(refusal)),
            "error: no service is called `ngnix`\nhint: did you mean nginx? `ebb services` lists them all\n"
        );
    }

    #[test]
    fn quiet_leaves_out_talk_and_keeps_refusals() {
        let mut said = Said { quiet: true, ..Said::default() };
        frame(&Frame::Event(fixture::event()), &fixture::view(), &mut said);
        frame(&Frame::Note(fixture::note()), &fixture::view(), &mut said);
        assert!(said.is_empty());
        frame(&Frame::Refused(fixture::refusal(RefusalKind::Failed)), &fixture::view(), &mut said);
        assert!(said.talk.contains("error:"));
    }

    #[test]
    fn notes_and_events_are_lines() {
        assert_eq!(talk(&Frame::Event(fixture::event())), "07:01:28  nginx: the gate is shut at 2 doors\n");
        assert_eq!(talk(&Frame::Note(fixture::note())), "warning: nginx: clients may retry\n");
    }

    #[test]
    fn hostile_strings_cannot_reach_the_terminal() {
        let evil = "\x1b[2J\u{202e}\u{7}\n";
        let mut session = fixture::session();
        session.peer = evil.to_owned();
        session.peer_name = Some(evil.to_owned());
        session.process = Some(evil.to_owned());
        session.why = evil.to_owned();
        let mut refusal = fixture::refusal(RefusalKind::Failed);
        refusal.why = evil.to_owned();
        refusal.help = Some(evil.to_owned());
        let mut text = session_table(&[session], 0, None);
        text.push_str(&talk(&Frame::Refused(refusal)));
        assert!(!text.contains(['\x1b', '\u{202e}', '\u{7}']), "{text:?}");
        assert_eq!(text.lines().count(), 4, "no line may be made by others: {text:?}");
    }

    #[test]
    fn commands_name_the_requester_if_it_is_not_the_operator() {
        assert_eq!(command("resume", "nginx", "operator"), "ebb resume nginx");
        assert_eq!(command("resume", "nginx", "deploy"), "ebb resume nginx --as deploy");
    }
}
