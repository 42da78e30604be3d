//! Elements in and out of device memory, up to 16 bytes a lane, and to and from f32.
//!
//! An access moves `E` elements: as many as fill 16 bytes (`E` = 4 for f32, 8 for f16 and bf16), or one,
//! for rows whose start is not aligned. A load that is masked out touches no memory and gives zeros.
//!
//! `access` has the instructions, `convert` the conversions.

use half::{bf16, f16};

use crate::access::*;
use crate::convert::{pack_bf16, pack_f16, unpack_bf16, unpack_f16};

/// An element type that kernels read and write `E` at a time.
pub trait Packed<const E: usize>: Copy {
    /// The elements as they lie in memory.
    type Raw: Copy;

    /// `E` zeros.
    const ZEROS: Self::Raw;

    /// `E` ones.
    const ONES: Self::Raw;

    /// Reads `E` elements of a row, which most launches read once; masked out, gives `otherwise`.
    ///
    /// # Safety
    /// If `valid`, `E` elements at `at` are readable, aligned to `E * size_of::<Self>()` or 16, the smaller.
    unsafe fn load(at: *const Self, valid: bool, otherwise: Self::Raw) -> Self::Raw;

    /// Reads `E` elements that every row needs and nothing writes during the launch; masked out, gives
    /// `otherwise`.
    ///
    /// # Safety
    /// As for [`load`](Packed::load).
    unsafe fn load_shared(at: *const Self, valid: bool, otherwise: Self::Raw) -> Self::Raw;

    /// Widens to f32, exactly.
    fn unpack(raw: Self::Raw) -> [f32; E];

    /// Rounds to nearest even.
    fn pack(values: [f32; E]) -> Self::Raw;

    /// Writes `E` elements, unless masked out.
    ///
    /// # Safety
    /// As for [`load`](Packed::load), writable, and no other lane writes there.
    unsafe fn store(at: *mut Self, raw: Self::Raw, valid: bool);
}

/// Reads one f32; masked out, gives zero. For what this launch may also write.
///
/// # Safety
/// If `valid`, `at` is readable and aligned.
#[inline(always)]
pub unsafe fn load_f32(at: *const f32, valid: bool) -> f32 {
    // SAFETY: the caller's.
    let [bits] = unsafe { load_word(at.cast(), valid, [0]) };
    f32::from_bits(bits)
}

/// Reads one f32 that nothing writes during the launch; masked out, gives zero.
///
/// # Safety
/// As for [`load_f32`].
#[inline(always)]
pub unsafe fn load_f32_shared(at: *const f32, valid: bool) -> f32 {
    // SAFETY: the caller's.
    let [bits] = unsafe { load_word_shared(at.cast(), valid, [0]) };
    f32::from_bits(bits)
}

/// Writes one f32, unless masked out.
///
/// # Safety
/// As for [`load_f32`], writable, and no other lane writes there.
#[inline(always)]
pub unsafe fn store_f32(at: *mut f32, value: f32, valid: bool) {
    // SAFETY: the caller's.
    unsafe { store_word(at.cast(), [value.to_bits()], valid) }
}

impl Packed<1> for f32 {
    type Raw = [u32; 1];
    const ZEROS: Self::Raw = [0];
    const ONES: Self::Raw = [1.0f32.to_bits()];

    #[inline(always)]
    unsafe fn load(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's.
        unsafe { load_word(at.cast(), valid, otherwise) }
    }

    #[inline(always)]
    unsafe fn load_shared(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's.
        unsafe { load_word_shared(at.cast(), valid, otherwise) }
    }

    #[inline(always)]
    fn unpack(raw: [u32; 1]) -> [f32; 1] {
        raw.map(f32::from_bits)
    }

    #[inline(always)]
    fn pack(values: [f32; 1]) -> [u32; 1] {
        values.map(f32::to_bits)
    }

    #[inline(always)]
    unsafe fn store(at: *mut f32, raw: [u32; 1], valid: bool) {
        // SAFETY: the caller's.
        unsafe { store_word(at.cast(), raw, valid) }
    }
}

impl Packed<4> for f32 {
    type Raw = [u32; 4];
    const ZEROS: Self::Raw = [0; 4];
    const ONES: Self::Raw = [1.0f32.to_bits(); 4];

    #[inline(always)]
    unsafe fn load(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's.
        unsafe { load_x4(at.cast(), valid, otherwise) }
    }

    #[inline(always)]
    unsafe fn load_shared(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's.
        unsafe { load_x4_shared(at.cast(), valid, otherwise) }
    }

    #[inline(always)]
    fn unpack(raw: [u32; 4]) -> [f32; 4] {
        raw.map(f32::from_bits)
    }

    #[inline(always)]
    fn pack(values: [f32; 4]) -> [u32; 4] {
        values.map(f32::to_bits)
    }

    #[inline(always)]
    unsafe fn store(at: *mut f32, raw: [u32; 4], valid: bool) {
        // SAFETY: the caller's.
        unsafe { store_x4(at.cast(), raw, valid) }
    }
}

/// f32 weights beside 16-bit rows: eight to a lane, in two accesses.
impl Packed<8> for f32 {
    type Raw = [[u32; 4]; 2];
    const ZEROS: Self::Raw = [[0; 4]; 2];
    const ONES: Self::Raw = [[1.0f32.to_bits(); 4]; 2];

    #[inline(always)]
    unsafe fn load(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's: eight elements, so four and four.
        unsafe {
            [
                load_x4(at.cast(), valid, otherwise[0]),
                load_x4(at.add(4).cast(), valid, otherwise[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_shared(at: *const f32, valid: bool, otherwise: Self::Raw) -> Self::Raw {
        // SAFETY: the caller's: eight elements, so four and four.
        unsafe {
            [
                load_x4_shared(at.cast(), valid, otherwise[0]),
                load_x4_shared(at.add(4).cast(), valid, otherwise[1]),
            ]
        }
    }

    #[inline(always)]
    fn unpack([low, high]: Self::Raw) -> [f32; 8] {
        let [a, b, c, d] = low.map(f32::from_bits);
        let [e, f, g, h] = high.map(f32::from_bits);
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn pack([a, b, c, d, e, f, g, h]: [f32; 8]) -> Self::Raw {
        [
            [a, b, c, d].map(f32::to_bits),
            [e, f, g, h].map(f32::to_bits),
        ]
    }

    #[inline(always)]
    unsafe fn store(at: *mut f32, [low, high]: Self::Raw, valid: bool) {
        // SAFETY: the caller's: eight elements, so four and four.
        unsafe {
            store_x4(at.cast(), low, valid);
            store_x4(at.add(4).cast(), high, valid);
        }
    }
}

/// The 16-bit types differ only in how they convert.
macro_rules! half_packed {
    ($type:ty, $unpack:ident, $pack:ident) => {
        impl Packed<1> for $type {
            type Raw = [u16; 1];
            const ZEROS: Self::Raw = [0];
            const ONES: Self::Raw = [<$type>::ONE.to_bits()];

            #[inline(always)]
            unsafe fn load(at: *const $type, valid: bool, otherwise: Self::Raw) -> Self::Raw {
                // SAFETY: the caller's.
                unsafe { load_half(at.cast(), valid, otherwise) }
            }

            #[inline(always)]
            unsafe fn load_shared(
                at: *const $type,
                valid: bool,
                otherwise: Self::Raw,
            ) -> Self::Raw {
                // SAFETY: the caller's.
                unsafe { load_half_shared(at.cast(), valid, otherwise) }
            }

            #[inline(always)]
            fn unpack([raw]: [u16; 1]) -> [f32; 1] {
                [$unpack(raw as u32)[0]]
            }

            #[inline(always)]
            fn pack([value]: [f32; 1]) -> [u16; 1] {
                [$pack([value, 0.0]) as u16]
            }

            #[inline(always)]
            unsafe fn store(at: *mut $type, raw: [u16; 1], valid: bool) {
                // SAFETY: the caller's.
                unsafe { store_half(at.cast(), raw, valid) }
            }
        }

        impl Packed<8> for $type {
            type Raw = [u32; 4];
            const ZEROS: Self::Raw = [0; 4];
            const ONES: Self::Raw = [<$type>::ONE.to_bits() as u32 * 0x1_0001; 4];

            #[inline(always)]
            unsafe fn load(at: *const $type, valid: bool, otherwise: Self::Raw) -> Self::Raw {
                // SAFETY: the caller's.
                unsafe { load_x4(at.cast(), valid, otherwise) }
            }

            #[inline(always)]
            unsafe fn load_shared(
                at: *const $type,
                valid: bool,
                otherwise: Self::Raw,
            ) -> Self::Raw {
                // SAFETY: the caller's.
                unsafe { load_x4_shared(at.cast(), valid, otherwise) }
            }

            #[inline(always)]
            fn unpack(raw: [u32; 4]) -> [f32; 8] {
                let [[a, b], [c, d], [e, f], [g, h]] = raw.map($unpack);
                [a, b, c, d, e, f, g, h]
            }

            #[inline(always)]
            fn pack([a, b, c, d, e, f, g, h]: [f32; 8]) -> [u32; 4] {
                [[a, b], [c, d], [e, f], [g, h]].map($pack)
            }

            #[inline(always)]
            unsafe fn store(at: *mut $type, raw: [u32; 4], valid: bool) {
                // SAFETY: the caller's.
                unsafe { store_x4(at.cast(), raw, valid) }
            }
        }
    };
}

half_packed!(f16, unpack_f16, pack_f16);
half_packed!(bf16, unpack_bf16, pack_bf16);
