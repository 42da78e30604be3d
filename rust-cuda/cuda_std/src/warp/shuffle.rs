//! Values from other lanes. The hardware shuffles 32 bits in four ways; everything here is one of
//! those, as often as the value has words.

use cuda_std_macros::gpu_only;

#[cfg(target_arch = "nvptx64")]
unsafe extern "C" {
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
    fn shfl_idx(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.up.i32"]
    fn shfl_up(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.down.i32"]
    fn shfl_down(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32"]
    fn shfl_bfly(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
}

/// Whose value a lane gets from a shuffle. It must be a constant where it is used.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarpShuffleMode {
    Idx,
    Up,
    Down,
    Xor,
}

/// A type that the `warp_shuffle` functions take: integers and floats of 8 to 128 bits. Values wider
/// than 32 bits take several shuffles.
pub trait WarpShuffleValue: Sized {
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn shuffle(
        mode: WarpShuffleMode,
        mask: u32,
        value: Self,
        b: u32,
        width: u32,
    ) -> (Self, bool);
}

/// The value of the lane `delta` above: lane + delta.
///
/// The warp is taken as groups of `width` lanes (a power of two up to 32; usually 32). The flag says
/// whether the source is in the caller's group; where it is not, the caller gets its own value.
///
/// # Panics
///
/// If `width` is not a power of two from 1 to 32.
///
/// # Safety
///
/// Every lane in `mask` reaches this call with the same mask, and the calling lane and the source
/// lane are in it.
#[inline(always)]
pub unsafe fn warp_shuffle_down<T: WarpShuffleValue>(
    mask: u32,
    value: T,
    delta: u32,
    width: u32,
) -> (T, bool) {
    // SAFETY: this function's own condition.
    unsafe { T::shuffle(WarpShuffleMode::Down, mask, value, delta, width) }
}

/// The value of the lane `delta` below: lane - delta. Otherwise as [`warp_shuffle_down`].
///
/// # Panics
///
/// If `width` is not a power of two from 1 to 32.
///
/// # Safety
///
/// As for [`warp_shuffle_down`].
#[inline(always)]
pub unsafe fn warp_shuffle_up<T: WarpShuffleValue>(
    mask: u32,
    value: T,
    delta: u32,
    width: u32,
) -> (T, bool) {
    // SAFETY: this function's own condition.
    unsafe { T::shuffle(WarpShuffleMode::Up, mask, value, delta, width) }
}

/// The value of lane `idx` of the caller's group. Otherwise as [`warp_shuffle_down`].
///
/// # Panics
///
/// If `width` is not a power of two from 1 to 32.
///
/// # Safety
///
/// As for [`warp_shuffle_down`].
#[inline(always)]
pub unsafe fn warp_shuffle_idx<T: WarpShuffleValue>(
    mask: u32,
    value: T,
    idx: u32,
    width: u32,
) -> (T, bool) {
    // SAFETY: this function's own condition.
    unsafe { T::shuffle(WarpShuffleMode::Idx, mask, value, idx, width) }
}

/// The value of lane `lane ^ lane_mask`. Otherwise as [`warp_shuffle_down`], except that a source in
/// a group below the caller's is read too.
///
/// # Panics
///
/// If `width` is not a power of two from 1 to 32.
///
/// # Safety
///
/// As for [`warp_shuffle_down`].
#[inline(always)]
pub unsafe fn warp_shuffle_xor<T: WarpShuffleValue>(
    mask: u32,
    value: T,
    lane_mask: u32,
    width: u32,
) -> (T, bool) {
    // SAFETY: this function's own condition.
    unsafe { T::shuffle(WarpShuffleMode::Xor, mask, value, lane_mask, width) }
}

/// The one shuffle that the hardware has, of 32 bits.
///
/// The flag is the instruction's predicate, computed from the lane: where it is not used, nothing of
/// it is left.
#[gpu_only]
#[inline(always)]
unsafe fn shuffle_32(
    mode: WarpShuffleMode,
    mask: u32,
    value: u32,
    b: u32,
    width: u32,
) -> (u32, bool) {
    let clamp = shuffle_clamp(mode, width);
    // SAFETY: `warp_shuffle_down`'s condition.
    let shuffled = unsafe {
        match mode {
            WarpShuffleMode::Idx => shfl_idx(mask, value, b, clamp),
            WarpShuffleMode::Up => shfl_up(mask, value, b, clamp),
            WarpShuffleMode::Down => shfl_down(mask, value, b, clamp),
            WarpShuffleMode::Xor => shfl_bfly(mask, value, b, clamp),
        }
    };
    (shuffled, shuffle_in_range(mode, super::lane_id(), b, width))
}

/// The instruction's last operand: where groups of `width` lanes begin (bits 8 to 12), and the lane
/// in them that a source may not pass: the last, and for `up` the first.
#[cfg(any(test, target_arch = "nvptx64"))]
#[inline(always)]
fn shuffle_clamp(mode: WarpShuffleMode, width: u32) -> u32 {
    assert!(
        width.is_power_of_two() && width <= 32,
        "width must be a power of two from 1 to 32"
    );
    let bound = if mode == WarpShuffleMode::Up { 0 } else { 31 };
    ((32 - width) << 8) | bound
}

/// The shuffle's predicate, as PTX defines it.
#[cfg(any(test, target_arch = "nvptx64"))]
#[inline(always)]
fn shuffle_in_range(mode: WarpShuffleMode, lane: u32, b: u32, width: u32) -> bool {
    let b = b & 31;
    let first = lane & (32 - width);
    let last = first | (width - 1);
    match mode {
        WarpShuffleMode::Up => lane >= first + b,
        WarpShuffleMode::Down => lane + b <= last,
        WarpShuffleMode::Xor => lane ^ b <= last,
        WarpShuffleMode::Idx => true,
    }
}

macro_rules! shuffle_values {
    ($($type:ty, $value:ident => $words:expr, $back:ident => $from:expr;)*) => {$(
        impl WarpShuffleValue for $type {
            #[inline(always)]
            unsafe fn shuffle(
                mode: WarpShuffleMode,
                mask: u32,
                $value: Self,
                b: u32,
                width: u32,
            ) -> (Self, bool) {
                let mut in_range = true;
                let $back = $words.map(|word| {
                    // SAFETY: `warp_shuffle_down`'s condition.
                    let (word, word_in_range) = unsafe { shuffle_32(mode, mask, word, b, width) };
                    in_range = word_in_range;
                    word
                });
                ($from, in_range)
            }
        }
    )*};
}

shuffle_values! {
    u8, value => [value as u32], words => words[0] as u8;
    i8, value => [value as u32], words => words[0] as i8;
    u16, value => [value as u32], words => words[0] as u16;
    i16, value => [value as u32], words => words[0] as i16;
    u32, value => [value], words => words[0];
    i32, value => [value as u32], words => words[0] as i32;
    f32, value => [value.to_bits()], words => f32::from_bits(words[0]);
    u64, value => halves_64(value), words => join_64(words);
    i64, value => halves_64(value as u64), words => join_64(words) as i64;
    f64, value => halves_64(value.to_bits()), words => f64::from_bits(join_64(words));
    u128, value => quarters_128(value), words => join_128(words);
    i128, value => quarters_128(value as u128), words => join_128(words) as i128;
}

#[inline(always)]
fn halves_64(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[inline(always)]
fn join_64([low, high]: [u32; 2]) -> u64 {
    (high as u64) << 32 | low as u64
}

#[inline(always)]
fn quarters_128(value: u128) -> [u32; 4] {
    let [a, b] = halves_64(value as u64);
    let [c, d] = halves_64((value >> 64) as u64);
    [a, b, c, d]
}

#[inline(always)]
fn join_128([a, b, c, d]: [u32; 4]) -> u128 {
    (join_64([c, d]) as u128) << 64 | join_64([a, b]) as u128
}

#[cfg(test)]
mod tests {
    use super::WarpShuffleMode::*;
    use super::*;

    /// PTX ISA, `shfl.sync`, transcribed with its own names.
    fn ptx_predicate(mode: WarpShuffleMode, lane: u32, b: u32, c: u32) -> bool {
        let (bval, cval, segmask) = (b & 31, c & 31, (c >> 8) & 31);
        let max_lane = (lane & segmask) | (cval & !segmask & 31);
        let min_lane = lane & segmask;
        match mode {
            Up => lane as i32 - bval as i32 >= max_lane as i32,
            Down => lane + bval <= max_lane,
            Xor => lane ^ bval <= max_lane,
            Idx => (min_lane | (bval & !segmask & 31)) <= max_lane,
        }
    }

    #[test]
    fn the_flag_is_the_instructions_predicate() {
        for mode in [Idx, Up, Down, Xor] {
            for width in [1, 2, 4, 8, 16, 32] {
                let clamp = shuffle_clamp(mode, width);
                for (lane, b) in (0..32).flat_map(|lane| (0..40).map(move |b| (lane, b))) {
                    assert_eq!(
                        shuffle_in_range(mode, lane, b, width),
                        ptx_predicate(mode, lane, b, clamp),
                        "{mode:?}, lane {lane}, b {b}, width {width}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn a_width_of_24_is_refused() {
        shuffle_clamp(Down, 24);
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn a_width_of_0_is_refused() {
        shuffle_clamp(Down, 0);
    }

    #[test]
    fn wide_values_survive_being_split() {
        let value = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128;
        assert_eq!(join_128(quarters_128(value)), value);
        assert_eq!(join_64(halves_64(value as u64)), value as u64);
    }
}
