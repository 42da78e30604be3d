//! What a launch did, counted: the profiler's raw numbers.

use std::ops::AddAssign;

/// Counts over a whole launch. A warp-level instruction that runs for 32 lanes counts once in the
/// `*_requests` and 32 times in the `lane_*` numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Warp-level instructions executed.
    pub warp_instructions: u64,
    /// Instructions times lanes that took part.
    pub lane_instructions: u64,
    /// Warps that came to a barrier.
    pub barriers: u64,
}

impl AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, other: &Counters) {
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        self.barriers += other.barriers;
    }
}
