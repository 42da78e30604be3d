//! Teams: the threads of a block that take rows together. A row of more than 32 lanes has one to itself; else it is a warp,
//! with as many rows as fit.
//!
//! A block has as many as its launch has threads for, up to `BLOCK / SIZE`; a kernel whose block is one team knows it. They
//! need nothing of each other until they add up their sums.

use cuda_std::{ext, thread, warp};

use crate::place::forgotten;

/// The team of this thread, in blocks of at most `BLOCK` threads, with rows of `LANES`. If those are the same, its block is
/// one team, or one of warps, of which only `SIZE`, `ROWS` and `sync` are then meant.
#[derive(Clone, Copy)]
pub struct Team<const LANES: u32, const BLOCK: u32> {
    /// Its number in the block.
    pub index: u32,
    /// This thread's number in the team.
    pub thread: u32,
}

impl<const LANES: u32, const BLOCK: u32> Team<LANES, BLOCK> {
    /// Threads of a team.
    pub const SIZE: u32 = if LANES < 32 { 32 } else { LANES };
    /// Rows that a team takes at a time.
    pub const ROWS: u32 = Self::SIZE / LANES;
    /// Teams that a block has at most.
    pub const MOST: u32 = if BLOCK == LANES {
        1
    } else {
        BLOCK / Self::SIZE
    };

    const IN_BLOCKS: () = {
        assert!(
            Self::SIZE.is_multiple_of(32)
                && Self::SIZE.is_multiple_of(LANES)
                && (BLOCK == LANES || BLOCK.is_multiple_of(Self::SIZE)),
            "a team is whole warps, and has whole rows"
        );
        assert!(
            LANES <= 32 || Self::MOST < 16,
            "barrier 0 is the block's, of 16"
        );
    };

    /// This thread's.
    #[inline(always)]
    pub fn new() -> Self {
        const { Self::IN_BLOCKS };
        let thread = thread::thread_idx_x();
        if Self::MOST == 1 {
            return Self { index: 0, thread };
        }
        Self {
            index: thread / Self::SIZE,
            thread: thread % Self::SIZE,
        }
    }

    /// The same, of which ptxas sees that a warp has but one: it keeps what follows from the number once a warp, in registers
    /// that are not each lane's.
    #[inline(always)]
    pub fn uniform() -> Self {
        let Self { index, thread } = Self::new();
        if Self::MOST == 1 {
            return Self { index, thread };
        }
        // SAFETY: all lanes of the warp are here.
        let (index, _) = unsafe { warp::warp_shuffle_idx(ext::FULL_MASK, index, 0, 32) };
        Self { index, thread }
    }

    /// The same, of which the compiler does not know that it is.
    #[inline(always)]
    pub fn forgotten(self) -> Self {
        Self {
            thread: forgotten(self.thread),
            ..self
        }
    }

    /// Teams in the block.
    #[inline(always)]
    pub fn count() -> u32 {
        if Self::MOST == 1 {
            1
        } else {
            thread::block_dim_x() / Self::SIZE
        }
    }

    /// A barrier for the threads of the team.
    ///
    /// # Safety
    /// All of them call it together.
    #[inline(always)]
    pub unsafe fn sync(self) {
        if LANES <= 32 {
            // SAFETY: the caller's.
            unsafe { warp::sync_warp(ext::FULL_MASK) };
        } else if Self::MOST == 1 {
            thread::sync_threads();
        } else {
            // SAFETY: the caller's; barriers from 1 on are the teams'.
            unsafe { ext::sync_some_threads::<LANES>(1 + self.index) };
        }
    }
}
