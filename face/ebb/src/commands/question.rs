//! Questions to the operator, where one is there to answer.

use std::io::{self, BufRead, IsTerminal};

use ebb_wire::v1::Wish;

use crate::problem::Problem;
use crate::screen::Screen;

/// Whether somebody can be asked: both ways to them are a terminal.
#[must_use]
pub fn somebody_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Blocks the only thread: nothing else is under way while an answer is waited for.
///
/// # Errors
/// [`Problem::Answer`]
pub fn answer(screen: &mut Screen, question: &str) -> Result<String, Problem> {
    screen.ask(question);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Problem::Answer)?;
    Ok(answer.trim().to_owned())
}

/// Whether the operator agrees; anything but a clear yes is a no.
///
/// # Errors
/// [`Problem::Answer`]
pub fn agreed(screen: &mut Screen, question: &str) -> Result<bool, Problem> {
    Ok(is_yes(&answer(screen, question)?))
}

/// A wish without a reason is given one by who is there to be asked; everybody who looks will see it.
///
/// # Errors
/// [`Problem::Answer`]
pub fn reason(wish: &mut Wish, screen: &mut Screen) -> Result<(), Problem> {
    if wish.reason.is_empty() && !wish.unasked && !screen.is_json() && somebody_is_there() {
        wish.reason = answer(screen, "Reason, for everybody who looks: ")?;
    }
    Ok(())
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        assert!(["y", "Y", "yes", "YES"].iter().all(|answer| is_yes(answer)));
        assert!(["", "n", "yep", "ja"].iter().all(|answer| !is_yes(answer)));
    }
}
