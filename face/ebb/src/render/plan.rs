//! `--dry-run` of a drain: what would happen, to whom.

use ebb_model::printable;
use ebb_wire::v1::Plan;

use super::View;
use super::common::{SESSION_COLUMNS, session_row};
use super::table::table;
use super::words::{STRONG, WARN, door, hold, many, paint};

/// The plan of one service.
#[must_use]
pub fn plan(plan: &Plan, view: &View) -> String {
    let name = printable(&plan.service.name);
    let mut text = format!("{} would be drained like this; nothing has been changed:\n", paint(STRONG, &name));
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("  {:>2}. {}\n", number + 1, printable(step)));
    }
    text.push_str("doors\n");
    for one in &plan.service.doors {
        let note = if one.holdable { "" } else { "   (not held)" };
        text.push_str(&format!("  {}{note}\n", door(one)));
    }
    for one in &plan.service.holders {
        text.push_str(&format!("held already by {}\n", hold(one, view)));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("{} {}\n", paint(WARN, "warning:"), printable(warning)));
    }
    if plan.total == 0 {
        text.push_str("connected now: nobody\n");
        return text;
    }
    let shown = plan.sessions.len() as u64;
    let oldest = if shown < plan.total { format!(", the oldest {shown}") } else { String::new() };
    text.push_str(&format!("connected now: {}{oldest}\n", many(plan.total, "session")));
    let rows: Vec<_> = plan.sessions.iter().map(session_row).collect();
    text.push_str(&table(&SESSION_COLUMNS, &rows, 2, view.width));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn steps_are_numbered_and_nothing_was_changed() {
        let text = fixture::plain(&plan(&fixture::plan(), &fixture::view()));
        assert!(text.contains("nothing has been changed") && text.contains("   1. "), "{text}");
    }
}
