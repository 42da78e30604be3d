//! Weight and bias on their way to the L1 cache, while a row's sums are computed.
//!
//! They are wanted when the sums are known. From L2 they then take as long as a sum does; asked for together with x they
//! take registers meanwhile, and so warps. A copy of a word of each sector into shared memory, where nobody reads it, brings
//! the sector to L1 and takes neither. (`prefetch.global.L1` does not bring it: measured.)

use cuda_std::ext::Shared;
use cuda_std::{shared_words, thread};

use crate::abi::VECTOR_BYTES;
use crate::place::Place;

/// Threads that run at a time, of an H100 with 1024 on each multiprocessor. Later blocks find weight and bias in L1.
const FIRST_THREADS: u32 = 1 << 17;

/// Bytes of weight, and of bias, that L1 keeps while x goes through it.
const MAX_BYTES: u32 = 64 << 10;

/// A word of shared memory for each thread of a block, of whichever sector came last.
#[derive(Clone, Copy)]
pub struct Near(Shared<u32>);

impl Near {
    /// Whether rows of so many vectors gain by it. Before sm_80 there is no such copy.
    #[inline(always)]
    pub const fn gains(vectors: u32) -> bool {
        cfg!(cuda_arch = "80") && vectors * VECTOR_BYTES < MAX_BYTES
    }

    /// Of blocks of `BLOCK` threads.
    #[inline(always)]
    pub fn new<const BLOCK: usize>() -> Self {
        Self(shared_words![u32; BLOCK].offset(thread::thread_idx_x()))
    }

    /// The same if the block is one of those with which the grid begins.
    #[inline(always)]
    pub fn at_first<const BLOCK: usize>() -> Option<Self> {
        (thread::block_idx_x() < FIRST_THREADS / BLOCK as u32).then(Self::new::<BLOCK>)
    }

    /// Brings the thread's vectors of weight and bias, of a row of `n_cols` columns.
    ///
    /// # Safety
    /// If not null, each has `n_cols` elements from a multiple of 4 bytes on, that nothing writes during the launch.
    #[inline(always)]
    pub unsafe fn bring<W, const E: usize, const LANES: u32, const VECS: usize>(
        self,
        weight_and_bias: [*const W; 2],
        place: Place<E, LANES>,
        n_cols: u32,
    ) {
        // Or the addresses would stay in registers until they are read from.
        let place = place.forgotten();
        let last_of_word = const { (size_of::<u32>() / size_of::<W>()) as u32 - 1 };
        for array in weight_and_bias {
            if !array.is_null() {
                for k in 0..VECS {
                    let column = place.column(k);
                    let at = array.wrapping_add(column as usize).cast();
                    // SAFETY: all elements of the word exist if valid.
                    unsafe { self.bring_sector(at, column + last_of_word < n_cols) };
                }
            }
        }
    }

    /// Brings the sector at `at`, if `valid`.
    ///
    /// # Safety
    /// If `valid`, 4 bytes at `at` are readable and aligned.
    #[inline(always)]
    unsafe fn bring_sector(self, at: *const u8, valid: bool) {
        #[cfg(all(target_arch = "nvptx64", cuda_arch = "80"))]
        // SAFETY: the caller's; the word in shared memory is this thread's own.
        unsafe {
            core::arch::asm!(
                "{{ .reg .pred p; .reg .u64 from; setp.ne.u32 p, {valid}, 0;",
                "cvta.to.global.u64 from, {at};",
                "@p cp.async.ca.shared.global [{to}], [from], 4; }}",
                to = in(reg32) self.0.address(),
                at = in(reg64) at,
                valid = in(reg32) valid as u32,
                options(nostack, preserves_flags),
            );
        }
        #[cfg(not(all(target_arch = "nvptx64", cuda_arch = "80")))]
        let _ = (self.0, at, valid);
    }

    /// Waits until all are there: the words are the block's only until it ends.
    #[inline(always)]
    pub fn wait() {
        #[cfg(all(target_arch = "nvptx64", cuda_arch = "80"))]
        // SAFETY: waits for this thread's own copies.
        unsafe {
            core::arch::asm!("cp.async.wait_all;", options(nostack, preserves_flags));
        }
    }
}
