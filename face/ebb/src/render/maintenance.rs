//! `ebb maintenance`

use ebb_model::printable;
use ebb_wire::v1::{Frame, MaintenanceState, Step, StepState};

use super::words::{BAD, GOOD, STRONG, WARN, duration, moment, paint};
use super::{Said, Text, View, common};

/// Steps as they come, and the last word.
#[derive(Debug)]
pub struct Maintenance;

impl Text for Maintenance {
    fn frame(&mut self, frame: &Frame, view: &View, said: &mut Said) {
        match frame {
            Frame::Step(step) if step.state == StepState::Planned => said.result(&format!("{}\n", line(step))),
            Frame::Step(step) if step.state == StepState::Began && step.text.is_empty() => {
                said.talk(&format!("{} ...", head(step)));
            }
            Frame::Step(step) => said.talk(&line(step)),
            Frame::Maintenance(one) => said.result(&whole(one, view)),
            // Its own word is the last one.
            Frame::Drained(report) => said.talk(&super::drain::in_short(report)),
            _ => common::frame(frame, view, said),
        }
    }
}

fn head(step: &Step) -> String {
    let width = step.of.to_string().len();
    format!("[{:>width$}/{}] {:<10}", step.number, step.of, printable(&step.name))
}

fn line(step: &Step) -> String {
    let took = step.took_seconds.map_or_else(String::new, |took| format!("  ({})", duration(took)));
    let mark = match step.state {
        StepState::Done => paint(GOOD, "ok"),
        StepState::Failed => paint(BAD, "FAILED"),
        StepState::Began => "...".to_owned(),
        StepState::Planned => return format!("{} {}", head(step), printable(&step.text)),
    };
    format!("{} {mark}  {}{took}", head(step), printable(&step.text))
}

fn whole(one: &ebb_wire::v1::Maintenance, view: &View) -> String {
    let state = match one.state {
        MaintenanceState::UnderWay => paint(WARN, "under way"),
        MaintenanceState::InWork => paint(WARN, "out of service: the work is yours"),
        MaintenanceState::Halted => paint(BAD, "waits for somebody"),
        MaintenanceState::Over => paint(GOOD, "over"),
    };
    let what = if one.drill { "drill" } else { "maintenance" };
    let mut out = format!("{}: {state}\n", paint(STRONG, &format!("{what} {}", one.run)));
    let reason = if one.reason.is_empty() { String::new() } else { format!(": {}", printable(&one.reason)) };
    let (requester, by) = (printable(&one.requester), printable(&one.by));
    let whose = if one.held { "held by" } else { "begun by" };
    out.push_str(&format!("  {whose:<9}  {requester} (by {by}) since {}{reason}\n", moment(one.began, view)));
    if !one.held && one.state != MaintenanceState::Over {
        out.push_str(&format!("  {:<9}  no, the server is not held for it now\n", "held"));
    }
    if let Some(until) = one.until {
        out.push_str(&format!("  meant      until {}\n", moment(until, view)));
    }
    out.push_str(&format!("  work       {}\n", if one.drill { "none".to_owned() } else { printable(&one.work) }));
    let took = if one.state == MaintenanceState::Over { "took" } else { "for" };
    out.push_str(&format!("  {took:<9}  {}\n", duration(one.took_seconds)));
    for step in &one.steps {
        let text = if step.state == StepState::Planned { format!("{} -", head(step)) } else { line(step) };
        out.push_str(&format!("  {text}\n"));
    }
    for (place, next) in one.next.iter().enumerate() {
        let name = if place == 0 { "next" } else { "or" };
        out.push_str(&format!("  {name:<9}  {}\n", printable(next)));
    }
    out
}
