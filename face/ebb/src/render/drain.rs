//! `ebb drain`: the report.

use ebb_model::printable;
use ebb_wire::v1::{DrainReport, Frame, Outcome, Proof};

use super::common::{self, SESSION_COLUMNS, command, session_row};
use super::table::table;
use super::words::{BAD, GOOD, STRONG, WARN, duration, many, paint, shell_word};
use super::{Said, Text, View};

/// The text of a drain.
pub struct Drain;

impl Text for Drain {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Drained(report) => said.result(&text(report, view)),
            other => common::frame(other, view, said),
        }
    }
}

/// What Ctrl-C says.
#[must_use]
pub fn leaving(services: &[String], requester: &str) -> String {
    let names = if services.is_empty() {
        "--all".to_owned()
    } else {
        services.iter().map(|name| shell_word(name)).collect::<Vec<_>>().join(" ")
    };
    let also = if requester == "operator" { String::new() } else { format!(" --as {}", shell_word(requester)) };
    format!(
        "\nLeft. Hold and gate stay: newcomers are still refused, nobody is stopped.\n\
         \x20 go on watching   ebb drain {names}{also}\n\
         \x20 see it           ebb status\n\
         \x20 undo             ebb resume {names}{also}"
    )
}

fn headline(report: &DrainReport) -> String {
    let name = paint(STRONG, &printable(&report.service));
    let took = duration(report.took_seconds);
    match report.outcome {
        Outcome::Drained => format!("{name} is {} after {took}; it runs on, and stays held", paint(GOOD, "drained")),
        Outcome::Stopped => format!("{name} is {} after {took}, and stays held", paint(GOOD, "drained and stopped")),
        Outcome::StopFailed => format!("{name} is drained after {took}, but {}", paint(BAD, "did not stop")),
        Outcome::DeadlineReached => {
            let left = many(report.left, "session");
            format!(
                "{name}: {} after {took}, {left} left; newcomers are still refused",
                paint(WARN, "deadline reached")
            )
        }
        Outcome::EndedElsewhere => format!("{name} {} after {took}", paint(WARN, "was ended by somebody else")),
        Outcome::Failed => format!("{name} {}", paint(BAD, "was not drained")),
        Outcome::Detached => format!("{name}: left after {took}; it stays held"),
    }
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<20}{value}\n")
}

fn text(report: &DrainReport, view: &View) -> String {
    let mut text = format!("{}\n", headline(report));
    if let Some(why) = &report.why {
        text.push_str(&row("why", &printable(why)));
    }
    if let Some(help) = &report.help {
        text.push_str(&row("help", &printable(help)));
    }
    if report.outcome == Outcome::Failed {
        return text;
    }
    text.push_str(&row("sessions", &sessions(report)));
    text.push_str(&row("longest wait", &duration(report.longest_wait_seconds)));
    let refused = format!("{} (clients that try again count again)", many(report.refused, "new connection"));
    text.push_str(&row("refused", if report.refused == 0 { "0 new connections" } else { &refused }));
    if let Some(proof) = &report.proof {
        text.push_str(&row("proof", &self::proof(proof)));
        for door in proof.doors.iter().filter(|door| !door.refused) {
            text.push_str(&row(
                "",
                &format!("{}: {}", printable(&door.door), printable(door.why.as_deref().unwrap_or("not probed"))),
            ));
        }
    }
    leaks(report, view, &mut text);
    stragglers(report, view, &mut text);
    next(report, &mut text);
    text
}

fn sessions(report: &DrainReport) -> String {
    let mut parts =
        vec![format!("{} at the start", report.at_start), format!("{} ended by themselves", report.by_themselves)];
    if report.by_us > 0 {
        parts.push(format!("{} politely ended by us", report.by_us));
    }
    parts.push(format!("{} cut", report.cut));
    if report.left > 0 {
        parts.push(format!("{} left", report.left));
    }
    parts.join(", ")
}

fn proof(proof: &Proof) -> String {
    let refused = proof.doors.iter().filter(|door| door.refused).count();
    let mut text = format!(
        "{} of {} refused a probe; nobody left for {} in {}",
        refused,
        many(proof.doors.len() as u64, "door"),
        duration(proof.empty_for_seconds),
        many(u64::from(proof.censuses), "whole census").replace("censuss", "censuses")
    );
    if proof.cookie_grace_seconds > 0.0 {
        text.push_str(&format!("; {} more for SYN cookies", duration(proof.cookie_grace_seconds)));
    }
    text
}

fn leaks(report: &DrainReport, view: &View, text: &mut String) {
    if report.leaks.is_empty() {
        text.push_str(&row("leaks", "none"));
        return;
    }
    text.push_str(&row(
        "leaks",
        &paint(
            BAD,
            &format!(
                "{} came in although the gate should have been shut",
                many(report.leaks.len() as u64, "connection")
            ),
        ),
    ));
    let rows: Vec<_> = report.leaks.iter().map(session_row).collect();
    text.push_str(&table(&SESSION_COLUMNS, &rows, 4, view.width));
}

fn stragglers(report: &DrainReport, view: &View, text: &mut String) {
    if report.stragglers.is_empty() {
        return;
    }
    let shown = report.stragglers.len() as u64;
    let which = if shown < report.left { format!("the oldest {shown} of them") } else { "who they are".to_owned() };
    text.push_str(&row("remaining", &which));
    let rows: Vec<_> = report.stragglers.iter().map(session_row).collect();
    text.push_str(&table(&SESSION_COLUMNS, &rows, 4, view.width));
}

fn next(report: &DrainReport, text: &mut String) {
    let say = |verb: &str| command(verb, &report.service, &report.requester);
    let name = shell_word(&report.service);
    let next: Vec<(String, &str)> = match report.outcome {
        Outcome::DeadlineReached => vec![
            (say("drain"), "go on waiting"),
            (format!("ebb sessions {name}"), "see them all"),
            (format!("ebb end {name} --idle-over 10m"), "end the idle ones"),
            (say("resume"), "give up: open the gate again"),
        ],
        Outcome::Drained | Outcome::Stopped => vec![(say("resume"), "bring it back")],
        Outcome::StopFailed | Outcome::EndedElsewhere => {
            vec![(format!("ebb status {name}"), "see what stands"), (say("resume"), "bring it back")]
        }
        Outcome::Detached => vec![(say("drain"), "go on watching"), (say("resume"), "undo")],
        Outcome::Failed => Vec::new(),
    };
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (index, (command, what)) in next.iter().enumerate() {
        text.push_str(&row(if index == 0 { "next" } else { "" }, &format!("{command:<width$}  {what}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn said(report: &DrainReport) -> String {
        fixture::plain(&text(report, &fixture::view()))
    }

    #[test]
    fn a_deadline_names_who_remains_and_what_to_type() {
        let report = DrainReport {
            outcome: Outcome::DeadlineReached,
            left: 1,
            proof: None,
            stragglers: vec![fixture::session()],
            ..fixture::report()
        };
        let text = said(&report);
        assert!(text.contains("deadline reached") && text.contains("1 session left"), "{text}");
        assert!(text.contains(&fixture::session().peer) && text.contains("ebb end nginx --idle-over 10m"), "{text}");
    }

    #[test]
    fn a_leak_is_never_overlooked() {
        let text = said(&DrainReport { leaks: vec![fixture::session()], ..fixture::report() });
        assert!(text.contains("1 connection came in although") && text.contains(&fixture::session().peer), "{text}");
        assert!(said(&fixture::report()).contains("leaks               none"));
    }

    #[test]
    fn leaving_says_how_to_come_back_and_how_to_undo() {
        let text = leaving(&["nginx".to_owned()], "deploy");
        assert!(text.contains("ebb drain nginx --as deploy") && text.contains("ebb resume nginx --as deploy"));
    }
}
