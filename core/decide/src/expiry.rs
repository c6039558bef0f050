//! When a hold comes to its end.

use ebb_model::{Hold, Now, Span};

/// How far a hold is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It has none, or not soon.
    Not,
    /// Soon: a warning is due.
    Soon,
    /// Now, or since a while.
    Over,
}

/// A warning comes this long before, or in the last tenth of a shorter hold.
const BEFORE: Span = Span::seconds(600);

/// How far it is. In the boot in which the end was said, both clocks must have come to it: a wall clock that is set
/// forward ends no hold. After a reboot there is the wall clock only.
#[must_use]
pub fn due(hold: &Hold, now: Now, boot_id: &str) -> Due {
    let Some(end) = &hold.until else { return Due::Not };
    let left = if end.boot_id == boot_id {
        end.wall.since(now.wall).max(end.mono.since(now.mono))
    } else {
        end.wall.since(now.wall)
    };
    let tenth = Span(end.wall.since(hold.since).0 / 10);
    match left {
        Span::ZERO => Due::Over,
        left if left <= BEFORE.min(tenth) => Due::Soon,
        _ => Due::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebb_model::{End, Level, Mono, Requester, ServiceName, Wall, Who};

    const HOUR: u64 = 3_600_000;

    fn hold(hours: u64) -> Hold {
        Hold {
            service: ServiceName::new("a").unwrap(),
            requester: Requester::operator(),
            level: Level::Draining,
            reason: String::new(),
            by: Who { uid: 0, name: "root".into() },
            since: Wall(0),
            until: Some(End {
                wall: Wall(i64::try_from(hours * HOUR).unwrap()),
                boot_id: "b".into(),
                mono: Mono(hours * HOUR),
                reopen: true,
            }),
            except: std::collections::BTreeSet::new(),
            whole_server: false,
        }
    }

    fn at(wall: i64, mono: u64) -> Now {
        Now { wall: Wall(wall), mono: Mono(mono) }
    }

    #[test]
    fn a_warning_and_an_end() {
        let due = |minutes: i64| due(&hold(2), at(minutes * 60_000, u64::try_from(minutes * 60_000).unwrap()), "b");
        assert_eq!(
            [0, 109, 110, 119, 120, 500].map(due),
            [Due::Not, Due::Not, Due::Soon, Due::Soon, Due::Over, Due::Over]
        );
        let endless = Hold { until: None, ..hold(2) };
        assert_eq!(super::due(&endless, at(i64::MAX, u64::MAX), "b"), Due::Not);
    }

    #[test]
    fn a_clock_that_is_set_ends_nothing_before_its_time() {
        let year = 365 * 24 * 3_600_000;
        assert_eq!(due(&hold(2), at(year, 1000), "b"), Due::Not, "set forward");
        assert_eq!(due(&hold(2), at(-year, 3 * HOUR), "b"), Due::Not, "set back: it ends later, never earlier");
        assert_eq!(due(&hold(2), at(3 * 3_600_000, 5), "another boot"), Due::Over);
    }
}
