//! Which row and which columns of it a thread has.
//!
//! `LANES` threads share a row; lane t holds vectors t, t + LANES, ... of `E` elements, so that the lanes of
//! a warp read consecutive 16 bytes. With 16 lanes and 2 vectors a lane, in a warp:
//!
//! ```text
//! row r:      | v0 v1 ... v15 | v16 v17 ... v31 |      lanes 0 to 15 of the warp
//! row r + 1:  | v0 v1 ... v15 | v16 v17 ... v31 |      lanes 16 to 31
//! lane:         0  1  ... 15    0   1   ... 15
//! ```
//!
//! A row has part of a warp, a warp, or a team of warps (`team`), which forward is the block. They take rows in turn, as many
//! apart as there are in the grid.

use cuda_std::thread;

use crate::team::Team;

/// Where a thread stands: its row among those that its block has in work, and its lane in that row.
#[derive(Clone, Copy)]
pub struct Place<const E: usize, const LANES: u32> {
    /// The thread's place among the `LANES` that share the row.
    pub lane: u32,
    /// The first row of this thread's team (forward of its warp, or its block if the row has that).
    pub first: u64,
    /// The thread's row, from `first`.
    pub in_warp: u32,
    /// From one turn to the next.
    pub step: u64,
}

impl<const E: usize, const LANES: u32> Place<E, LANES> {
    /// In blocks of `BLOCK` threads.
    #[inline(always)]
    pub fn new<const BLOCK: usize>() -> Self {
        let thread = thread::thread_idx_x();
        let rows_per_block = BLOCK as u32 / LANES;
        // Where the row is the block's, say so: the compiler then computes with it once a warp instead of
        // once a thread, which saves a quarter of the registers.
        let warp_first = if LANES == BLOCK as u32 {
            0
        } else {
            thread / 32 * if LANES < 32 { 32 / LANES } else { 1 }
        };
        Self {
            lane: thread % LANES,
            first: thread::block_idx_x() as u64 * rows_per_block as u64 + warp_first as u64,
            in_warp: if LANES < 32 { thread % 32 / LANES } else { 0 },
            step: thread::grid_dim_x() as u64 * rows_per_block as u64,
        }
    }

    /// In blocks of teams.
    #[inline(always)]
    pub fn in_team<const BLOCK: u32>(team: Team<LANES, BLOCK>) -> Self {
        let thread = team.thread;
        let rows = Team::<LANES, BLOCK>::ROWS * Team::<LANES, BLOCK>::count();
        Self {
            lane: thread % LANES,
            first: thread::block_idx_x() as u64 * rows as u64
                + (team.index * Team::<LANES, BLOCK>::ROWS) as u64,
            in_warp: if LANES < 32 { thread / LANES } else { 0 },
            step: thread::grid_dim_x() as u64 * rows as u64,
        }
    }

    /// For blocks of `LANES` threads that share a row with the other blocks of their cluster of `CLUSTER`.
    #[inline(always)]
    pub fn in_cluster<const CLUSTER: u32>() -> Self {
        Self {
            lane: thread::thread_idx_x(),
            // The register with a cluster's index is a division by its size, which is not known there.
            first: (thread::block_idx_x() / CLUSTER) as u64,
            in_warp: 0,
            step: (thread::grid_dim_x() / CLUSTER) as u64,
        }
    }

    /// The number of the lane's vector `k` in the row.
    #[inline(always)]
    pub fn chunk(self, k: usize) -> u32 {
        self.lane + k as u32 * LANES
    }

    /// The first column of the lane's vector `k`.
    #[inline(always)]
    pub fn column(self, k: usize) -> u32 {
        self.chunk(k) * E as u32
    }

    /// The same, of which the compiler does not know that it is.
    #[inline(always)]
    pub fn forgotten(self) -> Self {
        Self {
            lane: forgotten(self.lane),
            ..self
        }
    }
}

/// The same value, of which the compiler does not know that it is.
#[inline(always)]
pub fn forgotten(value: u32) -> u32 {
    #[cfg(target_arch = "nvptx64")]
    {
        let mut value = value;
        // SAFETY: nothing is done.
        unsafe {
            core::arch::asm!("// {value}", value = inout(reg32) value, options(nostack, preserves_flags, nomem));
        }
        value
    }
    #[cfg(not(target_arch = "nvptx64"))]
    value
}
