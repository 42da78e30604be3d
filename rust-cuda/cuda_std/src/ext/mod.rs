//! What Rust-CUDA lacks, kept apart so that the difference can be seen: f32 across a warp, shared
//! memory by its own instructions, clusters, barriers that count bytes, approximate arithmetic, launch bounds.

mod cluster;
mod math;
mod mbarrier;
mod shared;
mod warp;

pub use cluster::{
    ClusterShared, cluster_arrive, cluster_arrive_relaxed, cluster_dim_x, cluster_dimensions,
    cluster_idx_x, cluster_rank, cluster_size, cluster_wait, wait_for_dependencies,
};
pub use math::{div_approx, ex2_approx, fma, rsqrt_approx, sqrt_approx};
pub use mbarrier::{MBarrier, mbarrier_fence};
pub use shared::{Shared, SharedValue};
pub use warp::{
    FULL_MASK, group_max_f32, group_sum_f32, shuffle_down_f32, shuffle_idx_f32, shuffle_up_f32,
    shuffle_xor_f32, warp_max_f32, warp_sum_f32,
};

pub use crate::shared_words;

use cuda_std_macros::gpu_only;

/// Orders this thread's memory accesses before and after it, as the threads of its block see them.
#[gpu_only]
#[inline(always)]
pub fn block_fence() {
    unsafe extern "C" {
        #[link_name = "llvm.nvvm.membar.cta"]
        fn membar_cta();
    }
    // SAFETY: a fence has no conditions.
    unsafe { membar_cta() }
}

/// A barrier for `THREADS` threads of the block: barrier `number` of its 16, of which
/// [`sync_threads`](crate::thread::sync_threads) is number 0.
///
/// # Safety
///
/// `THREADS` is a multiple of 32, `number` below 16; whole warps reach this call, until there are `THREADS`, and meanwhile no others with the same
/// number.
#[gpu_only]
#[inline(always)]
pub unsafe fn sync_some_threads<const THREADS: u32>(number: u32) {
    unsafe extern "C" {
        #[link_name = "llvm.nvvm.barrier.cta.sync.aligned.count"]
        fn barrier(number: u32, threads: u32);
    }
    // SAFETY: this function's own condition.
    unsafe { barrier(number, THREADS) }
}

/// Ends the kernel with an error.
#[gpu_only]
#[inline(always)]
pub fn trap() -> ! {
    unsafe extern "C" {
        #[link_name = "llvm.trap"]
        fn llvm_trap() -> !;
    }
    // SAFETY: a trap has no conditions.
    unsafe { llvm_trap() }
}

/// Leaves a comment in the PTX that `cuda_builder` turns into the entry point's `.maxntid` and, if
/// `MIN_BLOCKS` is not 0, `.minnctapersm`. `#[launch_bounds]` calls it.
#[doc(hidden)]
#[inline(always)]
pub fn launch_bounds<const MAX_THREADS: u32, const MIN_BLOCKS: u32>() {
    #[cfg(target_arch = "nvptx64")]
    // SAFETY: the assembly is a comment.
    unsafe {
        core::arch::asm!(
            "//cuda_std launch_bounds {max_threads} {min_blocks}",
            max_threads = const MAX_THREADS,
            min_blocks = const MIN_BLOCKS,
            options(nomem, nostack, preserves_flags),
        )
    }
}
