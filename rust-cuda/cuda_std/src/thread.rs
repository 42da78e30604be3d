//! Where a thread stands in its block and grid, and how the threads of a block wait for each other.
//!
//! Names and signatures are Rust-CUDA's, less those that return vectors (`thread_idx`, `index_2d`
//! and their like), which would make every kernel crate depend on a vector library.

use cuda_std_macros::gpu_only;

#[cfg(target_arch = "nvptx64")]
unsafe extern "C" {
    #[link_name = "llvm.nvvm.barrier.cta.sync.aligned.all"]
    fn barrier_sync(barrier: u32);
    #[link_name = "llvm.nvvm.barrier.cta.red.popc.aligned.all"]
    fn barrier_popc(barrier: u32, predicate: bool) -> u32;
    #[link_name = "llvm.nvvm.barrier.cta.red.and.aligned.all"]
    fn barrier_and(barrier: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.barrier.cta.red.or.aligned.all"]
    fn barrier_or(barrier: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.membar.gl"]
    fn membar_gl();
    #[link_name = "llvm.nvvm.membar.sys"]
    fn membar_sys();
    #[link_name = "llvm.nvvm.nanosleep"]
    fn llvm_nanosleep(nanos: u32);
}

/// Functions that read one of the special registers.
macro_rules! special_registers {
    ($($(#[$doc:meta])* $name:ident = $register:literal;)*) => {$(
        $(#[$doc])*
        #[gpu_only]
        #[inline(always)]
        pub fn $name() -> u32 {
            unsafe extern "C" {
                #[link_name = concat!("llvm.nvvm.read.ptx.sreg.", $register)]
                fn read() -> u32;
            }
            // SAFETY: the register can be read by every thread at any time.
            unsafe { read() }
        }
    )*};
}

special_registers! {
    /// The thread's x index in its block, below [`block_dim_x`].
    thread_idx_x = "tid.x";
    /// The thread's y index in its block, below [`block_dim_y`].
    thread_idx_y = "tid.y";
    /// The thread's z index in its block, below [`block_dim_z`].
    thread_idx_z = "tid.z";
    /// The block's x index in the grid, below [`grid_dim_x`].
    block_idx_x = "ctaid.x";
    /// The block's y index in the grid, below [`grid_dim_y`].
    block_idx_y = "ctaid.y";
    /// The block's z index in the grid, below [`grid_dim_z`].
    block_idx_z = "ctaid.z";
    /// Threads in a block along x.
    block_dim_x = "ntid.x";
    /// Threads in a block along y.
    block_dim_y = "ntid.y";
    /// Threads in a block along z.
    block_dim_z = "ntid.z";
    /// Blocks in the grid along x.
    grid_dim_x = "nctaid.x";
    /// Blocks in the grid along y.
    grid_dim_y = "nctaid.y";
    /// Blocks in the grid along z.
    grid_dim_z = "nctaid.z";
    /// Threads in a warp: 32 on every device so far.
    warp_size = "warpsize";
}

/// The thread's number in the whole grid, whatever the grid's and the block's dimensions. It wraps
/// when the grid has more than 2^32 threads.
#[inline(always)]
pub fn index() -> u32 {
    let block = block_idx_x() + grid_dim_x() * (block_idx_y() + grid_dim_y() * block_idx_z());
    let thread = thread_idx_x() + block_dim_x() * (thread_idx_y() + block_dim_y() * thread_idx_z());
    block * (block_dim_x() * block_dim_y() * block_dim_z()) + thread
}

/// The thread's number along x in the whole grid: all there is to [`index`] when grid and block are
/// one-dimensional.
#[inline(always)]
pub fn index_1d() -> u32 {
    block_idx_x() * block_dim_x() + thread_idx_x()
}

/// Whether this is thread (0, 0, 0) of block (0, 0, 0): true in one thread of the grid.
#[inline(always)]
pub fn first() -> bool {
    (block_idx_x() | block_idx_y() | block_idx_z()) == 0
        && (thread_idx_x() | thread_idx_y() | thread_idx_z()) == 0
}

/// Waits for all threads of the block. What any of them wrote to shared or global memory before, all
/// of them see after.
///
/// All threads of the block must reach the same call; in a branch that only some of them take, the
/// kernel hangs or goes wrong.
#[gpu_only]
#[inline(always)]
pub fn sync_threads() {
    // SAFETY: barrier 0 exists in every block.
    unsafe { barrier_sync(0) }
}

/// [`sync_threads`], and the number of threads whose `predicate` is not 0.
#[gpu_only]
#[inline(always)]
pub fn sync_threads_count(predicate: u32) -> u32 {
    // SAFETY: barrier 0 exists in every block.
    unsafe { barrier_popc(0, predicate != 0) }
}

/// [`sync_threads`], and 1 if every thread's `predicate` is not 0, else 0.
#[gpu_only]
#[inline(always)]
pub fn sync_threads_and(predicate: u32) -> u32 {
    // SAFETY: barrier 0 exists in every block.
    unsafe { barrier_and(0, predicate != 0) as u32 }
}

/// [`sync_threads`], and 1 if any thread's `predicate` is not 0, else 0.
#[gpu_only]
#[inline(always)]
pub fn sync_threads_or(predicate: u32) -> u32 {
    // SAFETY: barrier 0 exists in every block.
    unsafe { barrier_or(0, predicate != 0) as u32 }
}

/// Orders this thread's memory accesses before and after it, as all threads of the grid see them. No
/// thread waits for another.
#[gpu_only]
#[inline(always)]
pub fn grid_fence() {
    // SAFETY: a fence has no conditions.
    unsafe { membar_gl() }
}

/// Orders this thread's memory accesses before and after it, as all threads of the device see them.
#[gpu_only]
#[inline(always)]
pub fn device_fence() {
    // SAFETY: a fence has no conditions.
    unsafe { membar_gl() }
}

/// Orders this thread's memory accesses before and after it, as the host and other devices see them
/// too.
#[gpu_only]
#[inline(always)]
pub fn system_fence() {
    // SAFETY: a fence has no conditions.
    unsafe { membar_sys() }
}

/// Pauses the thread for about `nanos` nanoseconds, at most twice that.
#[gpu_only]
#[inline(always)]
pub fn nanosleep(nanos: u32) {
    // SAFETY: sleeping has no conditions.
    unsafe { llvm_nanosleep(nanos) }
}
