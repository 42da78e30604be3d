//! Barriers in shared memory that count bytes, from sm_90 on: a block waits for what others of its cluster send
//! into its shared memory, and for nothing else. A barrier of the cluster instead waits until all stores of all
//! its threads are seen by the whole device.
//!
//! A barrier goes from phase to phase. A phase ends when all arrivals have come, and all the bytes that they told
//! of; then the next begins by itself.

use cuda_std_macros::gpu_only;

use super::{ClusterShared, Shared};

/// An `mbarrier` of the block, by its address in shared memory.
#[derive(Clone, Copy)]
pub struct MBarrier {
    #[cfg_attr(
        not(target_arch = "nvptx64"),
        expect(dead_code, reason = "only the device follows it")
    )]
    place: Shared<u32>,
}

impl MBarrier {
    /// The barrier in the first two words of `place`, which is aligned to 8 bytes.
    #[inline(always)]
    #[must_use]
    pub fn at(place: Shared<u32>) -> Self {
        Self { place }
    }

    /// Begins the first phase. Every phase takes `arrivals`.
    ///
    /// Others may use it after a barrier that lies behind [`mbarrier_fence`].
    ///
    /// # Safety
    ///
    /// One thread calls it, and nothing else is in those two words.
    #[gpu_only]
    #[inline(always)]
    pub unsafe fn init(self, arrivals: u32) {
        // SAFETY: this function's own condition.
        unsafe {
            core::arch::asm!(
                "mbarrier.init.shared.b64 [{place}], {arrivals};",
                place = in(reg32) self.place.address(),
                arrivals = in(reg32) arrivals,
                options(nostack, preserves_flags),
            )
        }
    }

    /// Arrives, and lets the phase wait for so many bytes more.
    ///
    /// # Safety
    ///
    /// The barrier has been initialised, and the phase has arrivals left.
    #[gpu_only]
    #[inline(always)]
    pub unsafe fn arrive_and_expect(self, bytes: u32) {
        // SAFETY: this function's own condition.
        unsafe {
            core::arch::asm!(
                "mbarrier.arrive.expect_tx.shared.b64 _, [{place}], {bytes};",
                place = in(reg32) self.place.address(),
                bytes = in(reg32) bytes,
                options(nostack, preserves_flags),
            )
        }
    }

    /// Waits for the end of a phase: of the last one or the one under way, whichever has that parity. The first
    /// phase has parity 0. What was sent for it can be read then.
    ///
    /// # Safety
    ///
    /// The barrier has been initialised, and no phase ends after that one before this call returns.
    #[gpu_only]
    #[inline(always)]
    pub unsafe fn wait(self, parity: u32) {
        loop {
            let ended: u32;
            // SAFETY: this function's own condition.
            unsafe {
                core::arch::asm!(
                    // On one line: a line that begins with a brace is a kernel's.
                    "{{ .reg .pred %ended; mbarrier.try_wait.parity.shared.b64 %ended, [{place}], {parity}; selp.u32 {ended}, 1, 0, %ended; }}",
                    ended = out(reg32) ended,
                    place = in(reg32) self.place.address(),
                    parity = in(reg32) parity,
                    options(nostack, preserves_flags),
                )
            };
            if ended != 0 {
                return;
            }
        }
    }

    /// The same barrier of block `rank` of the cluster.
    #[gpu_only]
    #[inline(always)]
    #[must_use]
    pub fn of_block(self, rank: u32) -> ClusterShared<u32> {
        self.place.of_block(rank)
    }
}

/// Lets the cluster see barriers that this thread has initialised, after a barrier of the cluster.
#[gpu_only]
#[inline(always)]
pub fn mbarrier_fence() {
    // SAFETY: a fence has no conditions.
    unsafe {
        core::arch::asm!(
            "fence.mbarrier_init.release.cluster;",
            options(nostack, preserves_flags),
        )
    }
}
