//! Figures: ours, the peer's, the ratio, the target, whether it is met.

/// Which side of the target is good.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The figure itself, at most.
    AtMost(f64),
    /// The figure itself, at least.
    AtLeast(f64),
    /// Ours to the peer's, at most.
    RatioAtMost(f64),
    /// Only to be known.
    None,
}

/// One line.
#[derive(Debug)]
pub struct Figure<'a> {
    /// What was measured, with its unit.
    pub what: &'a str,
    /// Ours.
    pub ours: f64,
    /// What it is compared with, and its figure.
    pub peer: Option<(&'a str, f64)>,
    /// What it should be.
    pub target: Target,
}

/// All lines so far.
#[derive(Debug, Default)]
pub struct Figures {
    count: usize,
    missed: usize,
}

impl Figures {
    /// Says which part begins, and what its figures stand on.
    pub fn part(&self, name: &str, stands_on: &str) {
        println!("\n{name}: {stands_on}");
        println!("  {:<52} {:>10} {:>10} {:>7}  {:<10}", "", "ours", "peer", "ratio", "target");
    }

    /// Prints a line.
    pub fn add(&mut self, figure: &Figure<'_>) {
        let ratio = figure.peer.map(|(_, peer)| figure.ours / peer);
        let met = met(figure, ratio);
        self.count += 1;
        self.missed += usize::from(met == Some(false));
        let verdict = met.map_or("", |met| if met { "ok" } else { "MISS" });
        let (name, peer) = figure.peer.map_or(("", String::new()), |(name, peer)| (name, short(peer)));
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
        let target = shown(figure.target);
        let line =
            format!("{:<52} {:>10} {peer:>10} {ratio:>7}  {target:<10} {verdict:<4}", figure.what, short(figure.ours));
        println!("  {line}  {}", if name.is_empty() { String::new() } else { format!("peer: {name}") });
    }

    /// A figure without a peer.
    pub fn own(&mut self, what: &str, ours: f64, target: Target) {
        self.add(&Figure { what, ours, peer: None, target });
    }

    /// Says something that is no figure.
    pub fn note(&self, what: &str) {
        println!("  {what}");
    }

    /// Lines printed.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Targets missed.
    pub fn missed(&self) -> usize {
        self.missed
    }
}

fn met(figure: &Figure<'_>, ratio: Option<f64>) -> Option<bool> {
    match figure.target {
        Target::AtMost(most) => Some(figure.ours <= most),
        Target::AtLeast(least) => Some(figure.ours >= least),
        Target::RatioAtMost(most) => Some(ratio? <= most),
        Target::None => None,
    }
}

fn shown(target: Target) -> String {
    match target {
        Target::AtMost(most) => format!("<= {}", short(most)),
        Target::AtLeast(least) => format!(">= {}", short(least)),
        Target::RatioAtMost(most) => format!("<= {most}x"),
        Target::None => String::new(),
    }
}

/// Three digits that count, more only before the point.
fn short(figure: f64) -> String {
    let digits = match figure.abs() {
        size if size == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 3,
    };
    format!("{figure:.digits$}")
}

/// The value below which this share (0 to 1) lies. None measured: not a number.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The rank is within the length, which is far below 2^52.
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([median(&values), quantile(&values, 0.99), quantile(&values, 1.0)], [50.0, 99.0, 100.0]);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn targets_are_met_or_missed() {
        let mut figures = Figures::default();
        let peer = Some(("ss", 2.0));
        for (ours, target) in [
            (1.0, Target::AtMost(1.0)),
            (1.0, Target::AtLeast(1.0)),
            (1.0, Target::RatioAtMost(0.5)),
            (1.0, Target::None),
        ] {
            figures.add(&Figure { what: "x", ours, peer, target });
        }
        assert_eq!(figures.missed(), 0);
        for target in [Target::AtMost(0.9), Target::AtLeast(1.1), Target::RatioAtMost(0.4)] {
            figures.add(&Figure { what: "x", ours: 1.0, peer, target });
        }
        // What could not be measured is a miss.
        figures.own("x", f64::NAN, Target::AtMost(1.0));
        assert_eq!((figures.missed(), figures.count()), (4, 8));
    }
}
