//! The truth table of the effective state: holds x census x unit.

use ebb_model::{EffectiveState, Up};

/// What the effective state is made from.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Any hold stands.
    pub held: bool,
    /// Whether it runs.
    pub up: Up,
    /// Sessions left; none if they were not or could not be counted.
    pub left: Option<u64>,
    /// A drain of this hold has proven it empty before.
    pub proven: bool,
}

/// The effective state.
///
/// | runs | held | sessions | proven empty | state |
/// |---|---|---|---|---|
/// | no | any | none or unknown | any | stopped |
/// | no | yes | some (they outlive the service, as ssh's do) | any | draining |
/// | yes | no | any | any | open |
/// | yes | yes | some or unknown | any | draining |
/// | yes | yes | none | no | draining |
/// | yes | yes | none | yes | drained |
#[must_use]
pub fn state(seen: Seen) -> EffectiveState {
    let runs = matches!(seen.up, Up::Running | Up::Changing);
    match (runs, seen.held, seen.left) {
        (false, true, Some(1..)) => EffectiveState::Draining,
        (false, _, _) => EffectiveState::Stopped,
        (true, false, _) => EffectiveState::Open,
        (true, true, Some(0)) if seen.proven => EffectiveState::Drained,
        (true, true, _) => EffectiveState::Draining,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EffectiveState::{Drained, Draining, Open, Stopped};

    #[test]
    fn the_truth_table_holds_in_every_cell() {
        for up in [Up::Running, Up::Changing, Up::Stopped, Up::Failed] {
            for held in [false, true] {
                for left in [None, Some(0), Some(1), Some(100_000)] {
                    for proven in [false, true] {
                        let runs = up == Up::Running || up == Up::Changing;
                        let expected = if !runs {
                            if held && left.is_some_and(|left| left > 0) { Draining } else { Stopped }
                        } else if !held {
                            Open
                        } else if left == Some(0) && proven {
                            Drained
                        } else {
                            Draining
                        };
                        assert_eq!(state(Seen { held, up, left, proven }), expected, "{up:?} {held} {left:?} {proven}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_unread_count_is_never_drained() {
        let seen = Seen { held: true, up: Up::Running, left: None, proven: true };
        assert_eq!(state(seen), Draining);
    }
}
