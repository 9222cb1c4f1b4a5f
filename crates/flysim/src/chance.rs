//! Chance that repeats: a seed gives one sequence, and nothing else in this crate rolls dice.

/// A seeded generator (SplitMix64, from Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The sequence of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// True in `probability` (0 to 1) of all draws.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        // 53 bits are what a double holds exactly.
        let drawn = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < probability
    }

    /// `length` characters of `alphabet`.
    pub(crate) fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[(self.draw() % alphabet.len() as u64) as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Chance;

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let drawn = |seed| {
            let mut chance = Chance::of(seed);
            (0..20).map(|_| chance.draw()).collect::<Vec<_>>()
        };
        assert!(drawn(7) == drawn(7) && drawn(7) != drawn(8));
    }

    #[test]
    fn chance_is_about_what_was_asked_for() {
        let mut chance = Chance::of(1);
        let hits = (0..10_000).filter(|_| chance.happens(0.25)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!(!chance.happens(0.0) && chance.happens(1.0));
    }
}
