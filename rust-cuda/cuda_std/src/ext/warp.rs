//! f32 across a warp. Upstream's shuffles also take f32; these have no group width, and the
//! reductions, which upstream has for integers only, build on them.

use cuda_std_macros::gpu_only;

/// All 32 lanes of a warp.
pub const FULL_MASK: u32 = u32::MAX;

/// f32 shuffles over the whole warp.
macro_rules! shuffles {
    ($($(#[$doc:meta])* $name:ident($lane:ident) = $intrinsic:literal, clamp $clamp:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// Every lane in `mask` reaches this call with the same mask, and the calling lane and the
        /// source lane are in it.
        #[gpu_only]
        #[inline(always)]
        pub unsafe fn $name(mask: u32, value: f32, $lane: u32) -> f32 {
            unsafe extern "C" {
                #[link_name = $intrinsic]
                fn shfl(mask: u32, value: f32, lane: u32, clamp: u32) -> f32;
            }
            // SAFETY: this function's own condition.
            unsafe { shfl(mask, value, $lane, $clamp) }
        }
    )*};
}

shuffles! {
    /// The value of lane `lane ^ lane_mask`.
    shuffle_xor_f32(lane_mask) = "llvm.nvvm.shfl.sync.bfly.f32", clamp 31;
    /// The value of lane `idx`.
    shuffle_idx_f32(idx) = "llvm.nvvm.shfl.sync.idx.f32", clamp 31;
    /// The value of lane `lane + delta`, or the caller's own where there is none.
    shuffle_down_f32(delta) = "llvm.nvvm.shfl.sync.down.f32", clamp 31;
    /// The value of lane `lane - delta`, or the caller's own where there is none.
    shuffle_up_f32(delta) = "llvm.nvvm.shfl.sync.up.f32", clamp 0;
}

/// The sum over the warp, in every lane, in the same order and so with the same bits.
///
/// # Safety
///
/// All 32 lanes reach this call.
#[inline(always)]
#[must_use]
pub unsafe fn warp_sum_f32(value: f32) -> f32 {
    // SAFETY: this function's own condition.
    unsafe { group_sum_f32::<32>(value) }
}

/// The largest value in the warp, in every lane. NaN is passed over unless all are NaN.
///
/// # Safety
///
/// All 32 lanes reach this call.
#[inline(always)]
#[must_use]
pub unsafe fn warp_max_f32(value: f32) -> f32 {
    // SAFETY: this function's own condition.
    unsafe { group_max_f32::<32>(value) }
}

/// The sum over each group of `LANES` neighbouring lanes (a power of two up to 32), in every lane of
/// the group, with the same bits: a butterfly, whose two sides add the same two numbers.
///
/// # Safety
///
/// All 32 lanes reach this call.
#[inline(always)]
#[must_use]
pub unsafe fn group_sum_f32<const LANES: u32>(value: f32) -> f32 {
    // SAFETY: this function's own condition.
    unsafe { butterfly::<LANES>(value, |a, b| a + b) }
}

/// The largest value in each group of `LANES` neighbouring lanes, in every lane of the group.
///
/// # Safety
///
/// All 32 lanes reach this call.
#[inline(always)]
#[must_use]
pub unsafe fn group_max_f32<const LANES: u32>(value: f32) -> f32 {
    // SAFETY: this function's own condition.
    unsafe { butterfly::<LANES>(value, f32::max) }
}

/// Combines neighbours, then pairs of them, and so on, farthest first.
#[inline(always)]
unsafe fn butterfly<const LANES: u32>(mut value: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    const {
        assert!(
            LANES.is_power_of_two() && LANES <= 32,
            "LANES must be a power of two from 1 to 32"
        )
    };
    let mut distance = LANES / 2;
    while distance > 0 {
        // SAFETY: `group_sum_f32`'s condition.
        value = combine(value, unsafe {
            shuffle_xor_f32(FULL_MASK, value, distance)
        });
        distance /= 2;
    }
    value
}
