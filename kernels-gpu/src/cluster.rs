//! Long rows over the blocks of a cluster: x (and dy) are read once, y (or dx) written once, as if a block had
//! the registers and the shared memory of several. For sm_90 and later.
//!
//! A block has a share of the row's columns, the same in every row, and does with it what `forward` and
//! `backward` do with a row (`cluster_forward`, `cluster_backward`; `cluster_wide` with shared memory for what has no room in
//! registers); only the sums go around, through each other's shared memory. So the row's length is bounded by what the
//! cluster's blocks hold, and each keeps its columns' sums of dweight and dbias.
//!
//! ```text
//! row c, c + clusters, ...:  | block 0: v0 v1 ... | block 1: v0 v1 ... | ... |     cluster c
//! ```
//!
//! Every sum is taken in the order of the blocks, by every block: all get the same bits.

use cuda_std::ext::{self, MBarrier, Shared};
use cuda_std::{shared_words, thread};

use crate::abi::cluster_share;

/// Blocks that a cluster can have.
const MAX_BLOCKS: u32 = 16;

/// Exchanges that may be under way, each in a slot of its own. A block sends to a slot again when it has received
/// the exchange but one before, of which each block sent its values after it had read what the slot held.
const SLOTS: u32 = 4;

/// A cluster's exchanges of its blocks' sums, one after the other.
///
/// Each block sends its values to every block, which waits for as many bytes and for nothing else. A barrier of the
/// cluster would do, and costs more: it waits until the whole device sees y or dx of the row before.
#[derive(Clone, Copy)]
pub struct Exchange<const CLUSTER: u32> {
    /// Exchanges so far, as far as that matters: the slot, and the parity of its barrier's phase.
    turn: u32,
}

impl<const CLUSTER: u32> Exchange<CLUSTER> {
    /// Makes the block ready, before the first barrier of the cluster, behind which the first exchange lies.
    #[inline(always)]
    pub fn prepare() -> Self {
        const { assert!(CLUSTER <= MAX_BLOCKS && MAX_BLOCKS == 16) };
        if thread::thread_idx_x() == 0 {
            for slot in 0..SLOTS {
                // SAFETY: this thread alone, and the words are the barrier's.
                unsafe { Self::arrivals(slot).init(1) };
            }
            ext::mbarrier_fence();
        }
        Self { turn: 0 }
    }

    /// The exchange after this one.
    #[inline(always)]
    pub fn next(self) -> Self {
        Self {
            turn: (self.turn + 1) % (2 * SLOTS),
        }
    }

    /// Where its values go: each of the slots in turn.
    #[inline(always)]
    pub fn slot(self) -> u32 {
        self.turn % SLOTS
    }

    /// The barrier at which a block waits for a slot's values.
    #[inline(always)]
    fn arrivals(slot: u32) -> MBarrier {
        MBarrier::at(shared_words![u32; SLOTS as usize * 2].offset(slot * 2))
    }

    /// A slot's values: four words a block, in their order.
    #[inline(always)]
    fn values(slot: u32) -> Shared<f32> {
        let slots: Shared<f32> = shared_words![f32; SLOTS as usize * MAX_BLOCKS as usize * 4];
        slots.offset(slot * MAX_BLOCKS * 4)
    }

    /// Sends this block's values to all blocks of the cluster.
    ///
    /// # Safety
    /// All threads of the block call it with the same values, behind a barrier of the block that lies behind their
    /// reads of the exchange but one before; all blocks have passed a barrier of the cluster after `prepare`.
    #[inline(always)]
    pub unsafe fn send(self, values: [f32; 4]) {
        let arrivals = Self::arrivals(self.slot());
        let thread = thread::thread_idx_x();
        if thread < CLUSTER {
            // SAFETY: the phase takes one arrival, this block's own; block `thread` has started, has this place in
            // the slot for this block alone, and does not exit before it has received all of the slot.
            unsafe {
                if thread == 0 {
                    arrivals.arrive_and_expect(CLUSTER * size_of::<[f32; 4]>() as u32);
                }
                let there = Self::values(self.slot()).of_block(thread);
                there.send4(ext::cluster_rank() * 4, values, arrivals.of_block(thread));
            }
        }
    }

    /// Waits for all blocks' values: four words a block, in their order.
    ///
    /// # Safety
    /// All threads of the block call it, after `send`, and before the third exchange after this one.
    #[inline(always)]
    pub unsafe fn receive(self) -> Shared<f32> {
        // SAFETY: the slot's next phase ends only after this block has arrived at it, behind its threads' reads.
        unsafe { Self::arrivals(self.slot()).wait(self.turn / SLOTS) };
        Self::values(self.slot())
    }
}

/// The first of a block's columns, and how many it has.
#[inline(always)]
pub fn share<const E: usize, const CLUSTER: u32>(rank: u32, n_cols: u32) -> (u32, u32) {
    let all = n_cols / E as u32;
    let most = cluster_share(all, CLUSTER);
    let first = rank * most;
    let first = if first < all { first } else { all };
    let rest = all - first;
    let count = if rest < most { rest } else { most };
    (first * E as u32, count * E as u32)
}

/// An array from a column on; null stays null.
#[inline(always)]
pub fn from_column<T>(array: *mut T, column: u32) -> *mut T {
    if array.is_null() {
        array
    } else {
        array.wrapping_add(column as usize)
    }
}
