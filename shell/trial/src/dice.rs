//! Chance that is the same in every trial.

use std::time::Duration;

/// `SplitMix64`: good enough for traffic, and eight lines.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to just below 1.
    fn fraction(&mut self) -> f64 {
        // 32 bits are exact in an f64, and finer than any traffic needs.
        f64::from(u32::try_from(self.roll() >> 32).unwrap_or(0)) / 4_294_967_296.0
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.roll().is_multiple_of(times)
    }

    /// Evenly between two lengths.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.fraction())
    }

    /// Heavy-tailed between two lengths, as sessions are: most are short, some very long. A Pareto distribution (shape 1)
    /// cut off at both ends.
    pub(crate) fn session(&mut self, least: Duration, most: Duration) -> Duration {
        let ratio = least.as_secs_f64() / most.max(least).as_secs_f64();
        least.div_f64(1.0 - self.fraction() * (1.0 - ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_secs(5);
    const MOST: Duration = Duration::from_secs(40);

    #[test]
    fn sessions_are_within_bounds_and_heavy_tailed() {
        let mut dice = Dice::new(1);
        let mut lengths: Vec<Duration> = (0..1000).map(|_| dice.session(LEAST, MOST)).collect();
        lengths.sort_unstable();
        assert!(lengths[0] >= LEAST && lengths[999] <= MOST);
        assert!(lengths[500] < Duration::from_secs(12), "most are short: {:?}", lengths[500]);
        assert!(lengths[990] > Duration::from_secs(30), "some are long: {:?}", lengths[990]);
    }

    #[test]
    fn a_seed_gives_the_same_chance() {
        let of = |seed| Dice::new(seed).session(LEAST, MOST);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        assert_eq!(Dice::new(7).session(LEAST, LEAST), LEAST);
        let mut dice = Dice::new(3);
        let often = (0..10_000).filter(|_| dice.once_in(4)).count();
        assert!((2300..2700).contains(&often), "{often}");
        assert!((0..1000).map(|_| dice.between(LEAST, MOST)).all(|length| length >= LEAST && length <= MOST));
    }
}
