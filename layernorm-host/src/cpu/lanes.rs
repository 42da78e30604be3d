//! The host's element types as f32 and back, an element at a time and a vector at a time. None has branches.
//!
//! Two neighbours of a 16-bit type share a word of 32 bits, so that a vector of words is widened by a shift and a
//! mask, and nothing moves from lane to lane: the even elements are one vector of f32, the odd ones another. A
//! [`Tile`] therefore has the elements of such a piece in that order, and so have the weights beside it.

use bytemuck::Pod;
use half::{bf16, f16};
use pulp::Simd;

use super::tile::{TILE, Tile, write};

/// A type whose values widen to f32 exactly, and narrow from it to the nearest, ties to even.
pub trait Lane: Pod {
    /// Zero.
    const ZERO: Self;
    /// The same value.
    fn widen(self) -> f32;
    /// The nearest value.
    fn narrow(value: f32) -> Self;
    /// Where a [`Tile`] has element `i` of a piece.
    fn place(i: usize) -> usize;
    /// Pair `k` of a piece, as [`Tile::pair`] has it.
    fn load<S: Simd>(simd: S, piece: &[Self; TILE], k: usize) -> [S::f32s; 2];
    /// The other way, of numbers that an operation gave: a NaN is a quiet one.
    fn store<S: Simd>(
        simd: S,
        pair: [S::f32s; 2],
        piece: &mut [Self; TILE],
        k: usize,
        past_the_cache: bool,
    );
}

impl Lane for f32 {
    const ZERO: f32 = 0.0;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn place(i: usize) -> usize {
        i
    }

    #[inline(always)]
    fn load<S: Simd>(_simd: S, piece: &[f32; TILE], k: usize) -> [S::f32s; 2] {
        let vectors = S::as_simd_f32s(piece).0;
        [vectors[k], vectors[k + Tile::pairs::<S>()]]
    }

    #[inline(always)]
    fn store<S: Simd>(
        simd: S,
        pair: [S::f32s; 2],
        piece: &mut [f32; TILE],
        k: usize,
        past_the_cache: bool,
    ) {
        for (vector, k) in pair.into_iter().zip([k, k + Tile::pairs::<S>()]) {
            let words = simd.transmute_u32s_f32s(vector);
            write(simd, words, piece, k, past_the_cache);
        }
    }
}

/// Two neighbours share a word, the even one in its low half, as every processor here has it.
#[inline(always)]
fn place_of_halves(i: usize) -> usize {
    i / 2 + i % 2 * (TILE / 2)
}

/// Words `k` of a piece of a 16-bit type.
#[inline(always)]
fn words<S: Simd, T: Pod>(piece: &[T; TILE], k: usize) -> S::u32s {
    let bytes: &[u8] = bytemuck::cast_slice(piece);
    bytemuck::pod_read_unaligned(&bytes[k * size_of::<S::u32s>()..][..size_of::<S::u32s>()])
}

impl Lane for bf16 {
    const ZERO: bf16 = bf16::ZERO;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> bf16 {
        let bits = value.to_bits();
        // Half of the last place, less one where the last place is even: a tie goes to even.
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        // Rounding could carry a NaN over to infinity.
        let nan = bits >> 16 | 0x40;
        bf16::from_bits(if value.is_nan() { nan } else { rounded } as u16)
    }

    #[inline(always)]
    fn place(i: usize) -> usize {
        place_of_halves(i)
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, piece: &[bf16; TILE], k: usize) -> [S::f32s; 2] {
        let words = words::<S, _>(piece, k);
        let even = simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16));
        let odd = simd.and_u32s(words, simd.splat_u32s(0xFFFF_0000));
        [
            simd.transmute_f32s_u32s(even),
            simd.transmute_f32s_u32s(odd),
        ]
    }

    #[inline(always)]
    fn store<S: Simd>(
        simd: S,
        [even, odd]: [S::f32s; 2],
        piece: &mut [bf16; TILE],
        k: usize,
        past_the_cache: bool,
    ) {
        let (even, odd) = (rounded_to_bf16(simd, even), rounded_to_bf16(simd, odd));
        let even = simd.wrapping_dyn_shr_u32s(even, simd.splat_u32s(16));
        let odd = simd.and_u32s(odd, simd.splat_u32s(0xFFFF_0000));
        write(simd, simd.or_u32s(even, odd), piece, k, past_the_cache);
    }
}

/// Bits of which the high half is the nearest bf16, as in [`Lane::narrow`]. A quiet NaN stays one without its low
/// half, and is not rounded.
#[inline(always)]
fn rounded_to_bf16<S: Simd>(simd: S, value: S::f32s) -> S::u32s {
    let bits = simd.transmute_u32s_f32s(value);
    let last_place = simd.wrapping_dyn_shr_u32s(bits, simd.splat_u32s(16));
    let last_place = simd.and_u32s(last_place, simd.splat_u32s(1));
    let half = simd.add_u32s(last_place, simd.splat_u32s(0x7FFF));
    let a_number = simd.equal_f32s(value, value);
    simd.select_u32s(a_number, simd.add_u32s(bits, half), bits)
}

impl Lane for f16 {
    const ZERO: f16 = f16::ZERO;

    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = bits & 0x7FFF;
        // Exponent and mantissa in f32's places are 2^-112 of the value, denormals included.
        let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
        let finite = scaled.to_bits();
        let special = 0x7F80_0000 | magnitude << 13;
        let value = if magnitude >= 0x7C00 { special } else { finite };
        f32::from_bits(value | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> f16 {
        let bits = value.to_bits();
        let sign = bits >> 16 & 0x8000;
        let magnitude = bits & 0x7FFF_FFFF;
        // Normal: the exponent moves to f16's bias, the mantissa is rounded, a tie to even; a carry
        // gives the next exponent, and infinity above the largest.
        let odd = magnitude >> 13 & 1;
        let normal = magnitude.wrapping_add(0xC800_0000 + 0xFFF + odd) >> 13;
        // Denormal: adding 0.5 leaves f16's denormals in the mantissa's low bits, rounded.
        let denormal = (f32::from_bits(magnitude) + 0.5)
            .to_bits()
            .wrapping_sub(0x3F00_0000);
        let special = if magnitude > 0x7F80_0000 {
            0x7E00
        } else {
            0x7C00
        };
        let small = if magnitude < 0x3880_0000 {
            denormal
        } else {
            normal
        };
        let value = if magnitude >= 0x4780_0000 {
            special
        } else {
            small
        };
        f16::from_bits((sign | value) as u16)
    }

    #[inline(always)]
    fn place(i: usize) -> usize {
        place_of_halves(i)
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, piece: &[f16; TILE], k: usize) -> [S::f32s; 2] {
        let words = words::<S, _>(piece, k);
        let odd = simd.wrapping_dyn_shr_u32s(words, simd.splat_u32s(16));
        [from_f16(simd, words), from_f16(simd, odd)]
    }

    #[inline(always)]
    fn store<S: Simd>(
        simd: S,
        [even, odd]: [S::f32s; 2],
        piece: &mut [f16; TILE],
        k: usize,
        past_the_cache: bool,
    ) {
        let (even, odd) = (to_f16(simd, even), to_f16(simd, odd));
        let odd = simd.wrapping_dyn_shl_u32s(odd, simd.splat_u32s(16));
        write(simd, simd.or_u32s(even, odd), piece, k, past_the_cache);
    }
}

/// The f16 in the low half of each word, as in [`Lane::widen`].
#[inline(always)]
fn from_f16<S: Simd>(simd: S, bits: S::u32s) -> S::f32s {
    let magnitude = simd.and_u32s(bits, simd.splat_u32s(0x7FFF));
    let moved = simd.wrapping_dyn_shl_u32s(magnitude, simd.splat_u32s(13));
    let scale = simd.splat_f32s(f32::from_bits(0x7780_0000));
    let finite = simd.mul_f32s(simd.transmute_f32s_u32s(moved), scale);
    let special = simd.or_u32s(moved, simd.splat_u32s(0x7F80_0000));
    let is_special = simd.greater_than_or_equal_u32s(magnitude, simd.splat_u32s(0x7C00));
    let value = simd.select_u32s(is_special, special, simd.transmute_u32s_f32s(finite));
    let sign = simd.and_u32s(bits, simd.splat_u32s(0x8000));
    let sign = simd.wrapping_dyn_shl_u32s(sign, simd.splat_u32s(16));
    simd.transmute_f32s_u32s(simd.or_u32s(value, sign))
}

/// The nearest f16 in the low half of each word, as in [`Lane::narrow`].
#[inline(always)]
fn to_f16<S: Simd>(simd: S, value: S::f32s) -> S::u32s {
    let bits = simd.transmute_u32s_f32s(value);
    let sign = simd.wrapping_dyn_shr_u32s(bits, simd.splat_u32s(16));
    let sign = simd.and_u32s(sign, simd.splat_u32s(0x8000));
    let magnitude = simd.and_u32s(bits, simd.splat_u32s(0x7FFF_FFFF));
    let odd = simd.wrapping_dyn_shr_u32s(magnitude, simd.splat_u32s(13));
    let odd = simd.and_u32s(odd, simd.splat_u32s(1));
    let rounding = simd.add_u32s(odd, simd.splat_u32s(0xC800_0000 + 0xFFF));
    let normal = simd.add_u32s(magnitude, rounding);
    let normal = simd.wrapping_dyn_shr_u32s(normal, simd.splat_u32s(13));
    let half = simd.splat_f32s(0.5);
    let denormal = simd.add_f32s(simd.transmute_f32s_u32s(magnitude), half);
    let denormal = simd.transmute_u32s_f32s(denormal);
    let denormal = simd.sub_u32s(denormal, simd.splat_u32s(0x3F00_0000));
    let is_nan = simd.greater_than_u32s(magnitude, simd.splat_u32s(0x7F80_0000));
    let (nan, infinity) = (simd.splat_u32s(0x7E00), simd.splat_u32s(0x7C00));
    let special = simd.select_u32s(is_nan, nan, infinity);
    let is_small = simd.less_than_u32s(magnitude, simd.splat_u32s(0x3880_0000));
    let small = simd.select_u32s(is_small, denormal, normal);
    let is_special = simd.greater_than_or_equal_u32s(magnitude, simd.splat_u32s(0x4780_0000));
    simd.or_u32s(sign, simd.select_u32s(is_special, special, small))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_value_widens_as_the_half_crate_has_it() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16::from_bits(bits).widen(), f16::from_bits(bits).to_f32());
            assert!(same(ours, theirs), "f16 {bits:#06x}: {ours} {theirs}");
            let (ours, theirs) = (
                bf16::from_bits(bits).widen(),
                bf16::from_bits(bits).to_f32(),
            );
            assert!(same(ours, theirs), "bf16 {bits:#06x}: {ours} {theirs}");
        }
    }

    /// Around every half value: itself, its neighbours, and the ties between.
    #[test]
    fn values_narrow_as_the_half_crate_has_it() {
        for high in 0..=u16::MAX {
            for low in [
                0, 1, 0x0FFF, 0x1000, 0x1001, 0x1FFF, 0x7FFF, 0x8000, 0x8001, 0xFFFF,
            ] {
                for high in [u32::from(high) << 16, u32::from(high) << 13] {
                    let value = f32::from_bits(high | low);
                    let (ours, theirs) = (f16::narrow(value), f16::from_f32(value));
                    let same = ours == theirs || ours.is_nan() && theirs.is_nan();
                    assert!(same, "f16 of {value:e}: {ours} {theirs}");
                    let (ours, theirs) = (bf16::narrow(value), bf16::from_f32(value));
                    let same = ours == theirs || ours.is_nan() && theirs.is_nan();
                    assert!(same, "bf16 of {value:e}: {ours} {theirs}");
                }
            }
        }
    }

    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }
}
