//! The host's element types as f32 and back. The half types' conversions have no branches, so that the compiler
//! turns a loop of them into the processor's vector instructions.

use half::{bf16, f16};
use pulp::Simd;

use super::tile::{TILE, Tile};

/// A type whose values widen to f32 exactly, and narrow from it to the nearest, ties to even.
pub trait Lane: Copy + 'static {
    /// Zero.
    const ZERO: Self;
    /// The same value.
    fn widen(self) -> f32;
    /// The nearest value.
    fn narrow(value: f32) -> Self;

    /// A piece of a row as f32: f32 where it lies, the others in `scratch`.
    #[inline(always)]
    fn wide<'a, S: Simd>(
        _simd: S,
        tile: &'a [Self; TILE],
        scratch: &'a mut Tile,
    ) -> &'a [f32; TILE] {
        for (wide, value) in scratch.0.iter_mut().zip(tile) {
            *wide = value.widen();
        }
        &scratch.0
    }

    /// The other way.
    #[inline(always)]
    fn put<S: Simd>(_simd: S, from: &Tile, tile: &mut [Self; TILE]) {
        for (value, wide) in tile.iter_mut().zip(&from.0) {
            *value = Self::narrow(*wide);
        }
    }
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
    fn wide<'a, S: Simd>(
        _simd: S,
        tile: &'a [f32; TILE],
        _scratch: &'a mut Tile,
    ) -> &'a [f32; TILE] {
        tile
    }

    #[inline(always)]
    fn put<S: Simd>(_simd: S, from: &Tile, tile: &mut [f32; TILE]) {
        *tile = from.0;
    }
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
