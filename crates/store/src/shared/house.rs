//! What the way back from a backup is measured in.

/// Instances that one transaction raises: few enough that nobody waits long behind it.
pub(crate) const RAISED_AT_ONCE: usize = 200;

/// How far the positions of the audit trail jump behind a backup: further than a registry gets between a backup and its
/// loss, at ten thousand events a second for three years. What was given after the backup is then not given again: whoever
/// reads on from a position that it got then misses nothing, and a mark that is ahead of the backup is behind again. Eight
/// thousand times fit below what a JavaScript number holds exactly.
const POSITIONS_STEP: u64 = 1 << 40;

/// The position from which a trail goes on that ends at `high_water`.
pub(crate) fn next_positions(high_water: u64) -> u64 {
    high_water.saturating_add(POSITIONS_STEP).min(i64::MAX.cast_unsigned() - POSITIONS_STEP).max(high_water)
}
