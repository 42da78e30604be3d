//! What the 32 threads of a warp do together. Names and signatures are Rust-CUDA's.
//!
//! All of it takes a `mask` of the lanes that take part, [`u32::MAX`] for the whole warp. The lanes
//! in the mask must all reach the call, with the same mask, and the calling lane must be in it.

mod shuffle;

use cuda_std_macros::gpu_only;

#[doc(hidden)]
pub use shuffle::WarpShuffleMode;
pub use shuffle::{
    WarpShuffleValue, warp_shuffle_down, warp_shuffle_idx, warp_shuffle_up, warp_shuffle_xor,
};

#[cfg(target_arch = "nvptx64")]
unsafe extern "C" {
    #[link_name = "llvm.nvvm.bar.warp.sync"]
    fn bar_warp_sync(mask: u32);
    #[link_name = "llvm.nvvm.activemask"]
    fn llvm_activemask() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.laneid"]
    fn read_laneid() -> u32;
    #[link_name = "llvm.nvvm.vote.all.sync"]
    fn vote_all(mask: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.vote.any.sync"]
    fn vote_any(mask: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.vote.ballot.sync"]
    fn vote_ballot(mask: u32, predicate: bool) -> u32;
    #[link_name = "llvm.nvvm.match.any.sync.i32"]
    fn match_any_32(mask: u32, value: u32) -> u32;
    #[link_name = "llvm.nvvm.match.any.sync.i64"]
    fn match_any_64(mask: u32, value: u64) -> u32;
    #[link_name = "llvm.nvvm.redux.sync.add"]
    fn redux_add(value: u32, mask: u32) -> u32;
    #[link_name = "llvm.nvvm.redux.sync.umin"]
    fn redux_umin(value: u32, mask: u32) -> u32;
    #[link_name = "llvm.nvvm.redux.sync.umax"]
    fn redux_umax(value: u32, mask: u32) -> u32;
    #[link_name = "llvm.nvvm.redux.sync.min"]
    fn redux_min(value: i32, mask: u32) -> i32;
    #[link_name = "llvm.nvvm.redux.sync.max"]
    fn redux_max(value: i32, mask: u32) -> i32;
    #[link_name = "llvm.nvvm.redux.sync.and"]
    fn redux_and(value: u32, mask: u32) -> u32;
    #[link_name = "llvm.nvvm.redux.sync.or"]
    fn redux_or(value: u32, mask: u32) -> u32;
    #[link_name = "llvm.nvvm.redux.sync.xor"]
    fn redux_xor(value: u32, mask: u32) -> u32;
}

/// Waits for the lanes in `mask`, and makes what each wrote to memory before visible to all after.
///
/// # Safety
///
/// Every lane in `mask` reaches this call with the same mask, and the calling lane is in it.
#[gpu_only]
#[inline(always)]
pub unsafe fn sync_warp(mask: u32) {
    // SAFETY: this function's own condition.
    unsafe { bar_warp_sync(mask) }
}

/// The thread's lane: its place in its warp, 0 to 31.
#[gpu_only]
#[inline(always)]
pub fn lane_id() -> u32 {
    // SAFETY: the register can be read by every thread at any time.
    unsafe { read_laneid() }
}

/// The lanes that execute this instruction together now: not those that could, and not a mask to
/// pass to a later call.
#[gpu_only]
#[inline(always)]
pub fn activemask() -> u32 {
    // SAFETY: reading the mask has no conditions.
    unsafe { llvm_activemask() }
}

/// What a [`warp_reduce`] does to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarpReductionOp {
    /// The wrapping sum.
    Add,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The bits set in all.
    And,
    /// The bits set in any.
    Or,
    /// The bits set in an odd number.
    Xor,
}

/// A type that [`warp_reduce`] takes: `u32` and `i32`, which the hardware has. For `f32` see
/// [`ext`](crate::ext).
pub trait WarpReduceValue: Sized {
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn reduce(mask: u32, value: Self, op: WarpReductionOp) -> Self;
}

impl WarpReduceValue for u32 {
    #[gpu_only]
    #[inline(always)]
    unsafe fn reduce(mask: u32, value: Self, op: WarpReductionOp) -> Self {
        // SAFETY: `warp_reduce`'s condition.
        unsafe {
            match op {
                WarpReductionOp::Add => redux_add(value, mask),
                WarpReductionOp::Min => redux_umin(value, mask),
                WarpReductionOp::Max => redux_umax(value, mask),
                WarpReductionOp::And => redux_and(value, mask),
                WarpReductionOp::Or => redux_or(value, mask),
                WarpReductionOp::Xor => redux_xor(value, mask),
            }
        }
    }
}

impl WarpReduceValue for i32 {
    #[gpu_only]
    #[inline(always)]
    unsafe fn reduce(mask: u32, value: Self, op: WarpReductionOp) -> Self {
        // SAFETY: `warp_reduce`'s condition.
        unsafe {
            match op {
                WarpReductionOp::Min => redux_min(value, mask),
                WarpReductionOp::Max => redux_max(value, mask),
                _ => <u32 as WarpReduceValue>::reduce(mask, value as u32, op) as i32,
            }
        }
    }
}

/// `op` over the values of the lanes in `mask`; each of them gets the result.
///
/// Needs an image for sm_80 or newer.
///
/// # Safety
///
/// Every lane in `mask` reaches this call with the same mask, and the calling lane is in it.
#[inline(always)]
pub unsafe fn warp_reduce<T: WarpReduceValue>(mask: u32, value: T, op: WarpReductionOp) -> T {
    // SAFETY: this function's own condition.
    unsafe { T::reduce(mask, value, op) }
}

/// A type that [`warp_match_any`] takes.
pub trait WarpMatchValue: Sized {
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn match_any(mask: u32, value: Self) -> u32;
}

macro_rules! match_values {
    ($($type:ty, $value:ident => $bits:expr, $function:ident;)*) => {$(
        impl WarpMatchValue for $type {
            #[gpu_only]
            #[inline(always)]
            unsafe fn match_any(mask: u32, $value: Self) -> u32 {
                // SAFETY: `warp_match_any`'s condition.
                unsafe { $function(mask, $bits) }
            }
        }
    )*};
}

match_values! {
    u32, value => value, match_any_32;
    i32, value => value as u32, match_any_32;
    f32, value => value.to_bits(), match_any_32;
    u64, value => value, match_any_64;
    i64, value => value as u64, match_any_64;
    f64, value => value.to_bits(), match_any_64;
}

/// The lanes in `mask` whose `value` has the same bits as the calling lane's.
///
/// # Safety
///
/// Every lane in `mask` reaches this call with the same mask, and the calling lane is in it.
#[inline(always)]
pub unsafe fn warp_match_any<T: WarpMatchValue>(mask: u32, value: T) -> u32 {
    // SAFETY: this function's own condition.
    unsafe { T::match_any(mask, value) }
}

/// `mask` if all its lanes have the same bits in `value`, else `None`.
///
/// # Safety
///
/// Every lane in `mask` reaches this call with the same mask, and the calling lane is in it.
#[inline(always)]
pub unsafe fn warp_match_all<T: WarpMatchValue>(mask: u32, value: T) -> Option<u32> {
    // SAFETY: this function's own condition. One lane's matches are the whole mask exactly if every
    // lane's are.
    let same = unsafe { T::match_any(mask, value) };
    (same == mask).then_some(mask)
}

/// Whether `predicate` is true in all lanes of `mask`.
///
/// # Safety
///
/// Every lane in `mask` reaches this call with the same mask, and the calling lane is in it.
#[gpu_only]
#[inline(always)]
pub unsafe fn warp_vote_all(mask: u32, predicate: bool) -> bool {
    // SAFETY: this function's own condition.
    unsafe { vote_all(mask, predicate) }
}

/// Whether `predicate` is true in any lane of `mask`.
///
/// # Safety
///
/// Every lane in `mask` reaches this call with the same mask, and the calling lane is in it.
#[gpu_only]
#[inline(always)]
pub unsafe fn warp_vote_any(mask: u32, predicate: bool) -> bool {
    // SAFETY: this function's own condition.
    unsafe { vote_any(mask, predicate) }
}

/// The lanes of `mask` in which `predicate` is true, as a mask.
///
/// # Safety
///
/// Every lane in `mask` reaches this call with the same mask, and the calling lane is in it.
#[gpu_only]
#[inline(always)]
pub unsafe fn warp_vote_ballot(mask: u32, predicate: bool) -> u32 {
    // SAFETY: this function's own condition.
    unsafe { vote_ballot(mask, predicate) }
}
