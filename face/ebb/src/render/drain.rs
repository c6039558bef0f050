//! `ebb drain`: how it ended. What happens until then is drawn live.

use ebb_model::printable;
use ebb_wire::v1::{DrainReport, Frame, Outcome, Proof, Session};

use super::common::{self, command, hint, session_table};
use super::words::{BAD, GOOD, STRONG, WARN, age, duration, many, paint, shell_word};
use super::{Said, Text, View};

/// Reports, as they come.
#[derive(Debug, Default)]
pub struct Drain;

impl Text for Drain {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Drained(ended) => said.result(&report(ended, view)),
            _ => common::frame(frame, view, said),
        }
    }
}

/// A drain's report.
#[must_use]
pub fn report(report: &DrainReport, view: &View) -> String {
    let mut out = format!("{}: {}\n", paint(STRONG, &printable(&report.service)), headline(report));
    let mut line = |name: &str, text: &str| out.push_str(&format!("  {name:<9}  {text}\n"));
    if let Some(why) = &report.why {
        line("why", &printable(why));
    }
    line("sessions", &tally(report));
    if report.at_start > 0 {
        line("longest", &format!("{} after the gate was shut", duration(report.longest_wait_seconds)));
    }
    line("refused", &many(report.refused, "new connection"));
    match &report.proof {
        Some(proof) => proof_lines(proof, &mut line),
        None => line("proof", "none: it was not proven empty"),
    }
    leak_lines(&report.leaks, &mut line);
    out.push_str(&stragglers(report, view));
    if let Some(help) = &report.help {
        out.push_str(&hint(&printable(help)));
        out.push('\n');
    }
    out.push_str(&next(report));
    out
}

/// A drain's report in a line.
#[must_use]
pub fn in_short(report: &DrainReport) -> String {
    format!("{}: {}", paint(STRONG, &printable(&report.service)), headline(report))
}

fn headline(report: &DrainReport) -> String {
    let took = duration(report.took_seconds);
    let left = many(report.left, "session");
    match report.outcome {
        Outcome::Drained => format!("{} after {took}; it still runs, and is held", paint(GOOD, "drained")),
        Outcome::Stopped => format!("{} after {took}, and held", paint(GOOD, "drained and stopped")),
        Outcome::StopFailed => format!("drained after {took}, but {}", paint(BAD, "stopping it went wrong")),
        Outcome::DeadlineReached => {
            format!("{} after {took}, {left} left; the gate stays shut", paint(WARN, "deadline reached"))
        }
        Outcome::EndedElsewhere => format!("{} after {took}", paint(BAD, "ended by somebody else")),
        Outcome::Released => format!("{} after {took}, {left} left", paint(WARN, "released by somebody else")),
        Outcome::Failed => format!("{} after {took}", paint(BAD, "not drained")),
        Outcome::Detached => format!("not watched any more after {took}, {left} left; hold and gate stay"),
    }
}

fn tally(report: &DrainReport) -> String {
    format!(
        "{} at the start: {} ended by themselves, {} ended by us, {} cut, {} left",
        report.at_start, report.by_themselves, report.by_us, report.cut, report.left
    )
}

fn proof_lines(proof: &Proof, line: &mut impl FnMut(&str, &str)) {
    let refused = proof.doors.iter().filter(|door| door.refused).count();
    let mut text = format!("{refused} of {} refused a probe", many(proof.doors.len() as u64, "door"));
    let censuses = if proof.censuses == 1 { "census" } else { "censuses" };
    text.push_str(&format!("; empty for {} in {} {censuses}", duration(proof.empty_for_seconds), proof.censuses));
    if proof.cookie_grace_seconds > 0.0 {
        let grace = duration(proof.cookie_grace_seconds);
        text.push_str(&format!("; {grace} more, because SYN cookies had been sent"));
    }
    line("proof", &text);
    for door in proof.doors.iter().filter(|door| !door.refused) {
        let why = door.why.as_deref().unwrap_or("no reason was told");
        line("", &format!("{} {}: {}", paint(WARN, "not probed:"), printable(&door.door), printable(why)));
    }
}

fn leak_lines(leaks: &[Session], line: &mut impl FnMut(&str, &str)) {
    if leaks.is_empty() {
        return line("leaks", "none");
    }
    let count = many(leaks.len() as u64, "connection");
    line("leaks", &paint(BAD, &format!("{count} came in although the gate should have been shut:")));
    for leak in leaks {
        let (peer, local) = (printable(&leak.peer), printable(&leak.local));
        let process = leak.process.as_deref().map_or_else(String::new, |name| format!(", at {}", printable(name)));
        line("", &format!("{peer} to {local}, age {}, session {}{process}", age(leak.age), printable(&leak.id)));
    }
}

fn stragglers(report: &DrainReport, view: &View) -> String {
    if report.stragglers.is_empty() {
        return String::new();
    }
    let shown = report.stragglers.len() as u64;
    let which = if report.left > shown { format!(", the oldest {shown} of {}", report.left) } else { String::new() };
    format!("still there{which}:\n{}", session_table(&report.stragglers, 2, view.width))
}

/// What to type next.
fn next(report: &DrainReport) -> String {
    let verb = |verb| command(verb, &report.service, &report.requester);
    let name = shell_word(&report.service);
    let commands: Vec<(String, &str)> = match report.outcome {
        Outcome::Drained | Outcome::Stopped => vec![(verb("resume"), "bring it back")],
        Outcome::StopFailed | Outcome::EndedElsewhere => {
            vec![(format!("ebb status {name}"), "see how it is"), (verb("resume"), "bring it back")]
        }
        Outcome::DeadlineReached | Outcome::Detached => vec![
            (verb("drain"), "go on waiting"),
            (format!("ebb sessions {name}"), "see who is left"),
            (format!("ebb end {name} --idle-over 10m"), "end those that are idle"),
            (verb("resume"), "let new ones in again"),
        ],
        Outcome::Released => vec![(format!("ebb status {name}"), "see what stands"), (verb("drain"), "begin again")],
        Outcome::Failed => vec![(format!("ebb status {name}"), "see what stands"), (verb("resume"), "undo")],
    };
    let widest = commands.iter().map(|(typed, _)| typed.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (number, (typed, what)) in commands.iter().enumerate() {
        let word = if number == 0 { "next:" } else { "" };
        out.push_str(&format!("{word:<5} {typed:<widest$}  {what}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use ebb_wire::v1::DoorProof;

    fn text(one: &DrainReport) -> String {
        fixture::plain(&report(one, &fixture::view()))
    }

    #[test]
    fn a_good_end_shows_its_proof() {
        assert_eq!(
            text(&fixture::report()),
            "nginx: drained and stopped after 12 min 04 s, and held\n\
             \x20 sessions   212 at the start: 209 ended by themselves, 2 ended by us, 1 cut, 0 left\n\
             \x20 longest    11 min 58 s after the gate was shut\n\
             \x20 refused    31 new connections\n\
             \x20 proof      2 of 2 doors refused a probe; empty for 2.0 s in 4 censuses\n\
             \x20 leaks      none\n\
             next: ebb resume nginx  bring it back\n"
        );
    }

    #[test]
    fn a_deadline_names_who_is_left_and_what_to_type() {
        let late = DrainReport {
            outcome: Outcome::DeadlineReached,
            requester: "deploy".to_owned(),
            took_seconds: 1800.0,
            left: 3,
            by_themselves: 206,
            longest_wait_seconds: 1800.0,
            proof: None,
            stragglers: vec![fixture::session()],
            ..fixture::report()
        };
        assert_eq!(
            text(&late),
            "nginx: deadline reached after 30 min 00 s, 3 sessions left; the gate stays shut\n\
             \x20 sessions   212 at the start: 206 ended by themselves, 2 ended by us, 1 cut, 3 left\n\
             \x20 longest    30 min 00 s after the gate was shut\n\
             \x20 refused    31 new connections\n\
             \x20 proof      none: it was not proven empty\n\
             \x20 leaks      none\n\
             still there, the oldest 1 of 3:\n\
             \x20 ID    PEER                 AGE  IDLE      IN    OUT  STATE        PROCESS     WHY\n\
             \x20 1a2f  10.0.0.7:51234  ≥ 41 min  12 s  1.5 kB  33 MB  established  nginx[812]  idle\n\
             next: ebb drain nginx --as deploy    go on waiting\n\
             \x20     ebb sessions nginx             see who is left\n\
             \x20     ebb end nginx --idle-over 10m  end those that are idle\n\
             \x20     ebb resume nginx --as deploy   let new ones in again\n"
        );
    }

    #[test]
    fn each_leak_is_named() {
        let leaked = DrainReport { leaks: vec![fixture::session()], ..fixture::report() };
        assert!(text(&leaked).contains(
            "  leaks      1 connection came in although the gate should have been shut:\n\
             \x20            10.0.0.7:51234 to 10.0.0.1:80, age ≥ 41 min, session 1a2f, at nginx\n"
        ));
    }

    #[test]
    fn a_proof_with_a_gap_shows_the_gap() {
        let mut part = fixture::report();
        let proof = part.proof.as_mut().unwrap();
        let udp = DoorProof { door: "udp *:53".to_owned(), refused: false, why: Some("no probe for UDP".to_owned()) };
        proof.doors.push(udp);
        proof.censuses = 1;
        proof.cookie_grace_seconds = 60.0;
        assert!(text(&part).contains(
            "  proof      2 of 3 doors refused a probe; empty for 2.0 s in 1 census; 1 min 00 s more, because SYN \
             cookies had been sent\n\
             \x20            not probed: udp *:53: no probe for UDP\n"
        ));
    }

    #[test]
    fn a_bad_end_says_why_and_what_helps() {
        let bad = DrainReport {
            outcome: Outcome::StopFailed,
            why: Some("stop of nginx.service: timeout".to_owned()),
            help: Some("`systemctl status nginx` tells more".to_owned()),
            ..fixture::report()
        };
        let text = text(&bad);
        assert!(text.starts_with("nginx: drained after 12 min 04 s, but stopping it went wrong\n  why        stop of"));
        assert!(text.contains("hint: `systemctl status nginx` tells more\nnext: ebb status nginx  see how it is\n"));
    }

    #[test]
    fn hostile_strings_are_made_harmless() {
        let mut evil = fixture::report();
        evil.service = "a\x1b[2Jb\n".to_owned();
        evil.why = Some("\u{202e}x\n".to_owned());
        evil.help = Some("\x07".to_owned());
        let mut session = fixture::session();
        session.process = Some("\x1b]0;x\x07".to_owned());
        evil.leaks = vec![session.clone()];
        evil.stragglers = vec![session];
        let text = fixture::plain(&report(&evil, &fixture::view()));
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{text:?}");
    }
}
