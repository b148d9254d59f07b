//! Chances that can be taken again: a seed, printed, and the numbers that follow from it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that look random (the SplitMix64 generator), the same for the same seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Seeded by $FERRITE_SEED, else by the clock. The seed is printed, to be given again.
    pub fn new(test: &str) -> Random {
        let given = std::env::var("FERRITE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let seed = given.unwrap_or(now);
        println!("{test}: FERRITE_SEED={seed}");
        // Tests with the same seed shall not do the same.
        Random(
            test.bytes()
                .fold(seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))),
        )
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).checked_rem(end).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_they_spread() {
        let row = |mut random: Random| (0..100).map(|_| random.below(10)).collect::<Vec<_>>();
        let first = row(Random(7));
        assert_eq!(first, row(Random(7)));
        assert_ne!(first, row(Random(8)));
        assert!((0..10).all(|n| first.contains(&n)), "{first:?}");
        assert_eq!(Random(7).below(0), 0);
    }
}
