//! What a verb would do.

use ebb_model::printable;
use ebb_wire::v1::Plan;

use super::View;
use super::common::session_table;
use super::words::{STRONG, WARN, door, many, paint};

/// A plan: steps, doors, what to know, who is connected.
#[must_use]
pub fn plan(plan: &Plan, view: &View) -> String {
    let name = paint(STRONG, &printable(&plan.service.name));
    let mut out = format!("{name}: what would be done\n");
    if plan.steps.is_empty() {
        out.push_str("  nothing\n");
    }
    for (number, step) in plan.steps.iter().enumerate() {
        out.push_str(&format!("  {:>2}. {}\n", number + 1, printable(step)));
    }
    out.push_str("\ndoors:\n");
    for one in &plan.service.doors {
        let held = if one.holdable { "" } else { "  (cannot be held)" };
        out.push_str(&format!("  {}{held}\n", door(one)));
    }
    if plan.service.doors.is_empty() {
        out.push_str("  none\n");
    }
    for warning in &plan.warnings {
        out.push_str(&format!("\n{} {}", paint(WARN, "warning:"), printable(warning)));
    }
    if !plan.warnings.is_empty() {
        out.push('\n');
    }
    out.push_str(&connected(plan, view));
    if let Some(eta) = &plan.eta {
        out.push_str(&format!("\n{}", super::eta::report(eta, view)));
    }
    out.push_str("\nNothing was changed.\n");
    out
}

fn connected(plan: &Plan, view: &View) -> String {
    let shown = plan.sessions.len() as u64;
    let heading = match plan.total {
        0 => "\nconnected now: nobody\n".to_owned(),
        total if total > shown => format!("\nconnected now: {}, the oldest {shown}:\n", many(total, "session")),
        total => format!("\nconnected now: {}:\n", many(total, "session")),
    };
    if plan.sessions.is_empty() {
        return heading;
    }
    heading + &session_table(&plan.sessions, 2, view.width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_plan_is_numbered_and_names_who_is_connected() {
        assert_eq!(
            fixture::plain(&plan(&fixture::plan(), &fixture::view())),
            "nginx: what would be done\n\
             \x20  1. place a hold of operator\n\
             \x20  2. shut the gate at 2 doors\n\
             \n\
             doors:\n\
             \x20 tcp 0.0.0.0:80\n\
             \x20 tcp 0.0.0.0:443\n\
             \n\
             warning: nginx cuts what is left 5 s after its stop\n\
             \n\
             connected now: 212 sessions, the oldest 1:\n\
             \x20 ID    PEER                 AGE  IDLE      IN    OUT  STATE        PROCESS     WHY\n\
             \x20 1a2f  10.0.0.7:51234  ≥ 41 min  12 s  1.5 kB  33 MB  established  nginx[812]  idle\n\
             \n\
             nginx: 212 sessions; half gone by 07:36, 90 % by 07:55, 99 % by 08:44; the last one between 08:06 and 10:14 \
             (8 of 10); at a deadline of 30 min 00 s 17 would be left\n\
             \n\
             Nothing was changed.\n"
        );
    }

    #[test]
    fn nobody_connected_is_said() {
        let empty = Plan { total: 0, sessions: Vec::new(), ..fixture::plan() };
        assert!(plan(&empty, &fixture::view()).contains("\nconnected now: nobody\n"));
    }
}
