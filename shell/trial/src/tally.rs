//! What the clients count, and the line in which they tell the stage.

use std::fmt;
use std::str::FromStr;

/// What happened to the clients until now. Everything but `live_a` and `live_b` only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sessions of the first wave that got in.
    pub first: u64,
    /// Sessions now, on server-a.
    pub live_a: u64,
    /// Sessions now, on server-b.
    pub live_b: u64,
    /// Sessions that ended by their own goodbye, every line of theirs answered.
    pub served: u64,
    /// Sessions that got in and did not come to their goodbye.
    pub harmed: u64,
    /// Clients that no address let in.
    pub failed: u64,
    /// Newcomers that the first address turned away and the next let in.
    pub moved: u64,
    /// Attempts to connect that were answered with a reset.
    pub refused: u64,
    /// Newcomers, each with the name's two addresses in chance order.
    pub newcomers: u64,
    /// Newcomers that server-a let in.
    pub to_a: u64,
    /// Newcomers that server-b let in.
    pub to_b: u64,
    /// Longest that a newcomer took to get in, moves included, in microseconds.
    pub slowest_us: u64,
    /// Lines sent and answered.
    pub lines: u64,
}

impl Tally {
    const NUMBERS: usize = 13;

    fn numbers(&self) -> [u64; Self::NUMBERS] {
        [
            self.first,
            self.live_a,
            self.live_b,
            self.served,
            self.harmed,
            self.failed,
            self.moved,
            self.refused,
            self.newcomers,
            self.to_a,
            self.to_b,
            self.slowest_us,
            self.lines,
        ]
    }

    /// Sessions now.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.live_a + self.live_b
    }
}

/// The line: its numbers in order.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, number) in self.numbers().into_iter().enumerate() {
            if place > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{number}")?;
        }
        Ok(())
    }
}

impl FromStr for Tally {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
        let numbers: [u64; Self::NUMBERS] = numbers.try_into().map_err(|_| ())?;
        let [first, live_a, live_b, served, harmed, failed, moved, refused, newcomers, to_a, to_b, slowest_us, lines] =
            numbers;
        Ok(Self {
            first,
            live_a,
            live_b,
            served,
            harmed,
            failed,
            moved,
            refused,
            newcomers,
            to_a,
            to_b,
            slowest_us,
            lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_it_all() {
        let numbers: Vec<String> = (1..=Tally::NUMBERS).map(|number| number.to_string()).collect();
        let line = numbers.join(" ");
        let tally: Tally = line.parse().unwrap();
        assert_eq!((tally.first, tally.harmed, tally.lines), (1, 5, 13));
        assert_eq!(tally.to_string(), line);
        for wrong in ["", "1 2", "1 2 3 4 5 6 7 8 9 10 11 12 x", "1 2 3 4 5 6 7 8 9 10 11 12 13 14"] {
            assert_eq!(wrong.parse::<Tally>(), Err(()), "{wrong}");
        }
    }
}
