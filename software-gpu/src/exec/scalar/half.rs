//! f16 and bf16: conversions by integer arithmetic without branches, which the compiler turns into
//! vector code, and the operations on them.

use super::float::odd_sum;
use crate::program::{Arith, Kind, Type};

/// Exact.
#[inline(always)]
pub(super) fn f16_to_f32(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let magnitude = bits & 0x7fff;
    // The exponent moved to f32's place and bias. A multiplication by 2^112 does it, for denormals too.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits((254 - 15) << 23);
    // Infinity and NaN keep all exponent bits.
    let special = 0x7f80_0000 | magnitude << 13;
    let value = if magnitude >= 0x7c00 {
        special
    } else {
        scaled.to_bits()
    };
    f32::from_bits(value | (bits & 0x8000) << 16)
}

/// Nearest even; NaN is 0x7fff.
#[inline(always)]
pub(super) fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let sign = bits >> 16 & 0x8000;
    // Normal results: round at bit 13, then change the bias.
    let rounded = (magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13;
    let normal = rounded.wrapping_sub((127 - 15) << 10);
    // Denormal results: adding 0.5 puts the last bit of f16 (2^-24) at the last bit of f32, and the
    // addition rounds.
    let denormal = (f32::from_bits(magnitude) + 0.5)
        .to_bits()
        .wrapping_sub(0.5f32.to_bits());
    let value = if magnitude < 0x3880_0000 {
        denormal
    } else {
        normal
    };
    // From 65520 on to infinity.
    let value = if magnitude >= 0x477f_f000 {
        0x7c00
    } else {
        value
    };
    if magnitude > 0x7f80_0000 {
        0x7fff
    } else {
        (value | sign) as u16
    }
}

/// Exact.
#[inline(always)]
pub(super) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Nearest even; NaN is 0x7fff.
#[inline(always)]
pub(super) fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff
    } else {
        rounded as u16
    }
}

/// The value as f64, exactly.
#[inline(always)]
pub(super) fn widen(ty: Type, bits: u16) -> f64 {
    match ty {
        Type::BF16 | Type::BF16x2 => bf16_to_f32(bits).into(),
        _ => f16_to_f32(bits).into(),
    }
}

/// The nearest value to `x`, which is exact or has its last bit odd.
pub(super) fn narrow(ty: Type, x: f64) -> u16 {
    // f64 to f32 with the last bit odd where something is lost: then the second rounding is right.
    let near = x as f32;
    let value = f64::from(near);
    let odd = if value == x || !near.is_finite() || near.to_bits() & 1 == 1 {
        near
    } else if (value < x) == (x > 0.0) {
        f32::from_bits(near.to_bits() + 1)
    } else {
        f32::from_bits(near.to_bits() - 1)
    };
    match ty {
        Type::BF16 | Type::BF16x2 => f32_to_bf16(odd),
        _ => f32_to_f16(odd),
    }
}

/// The parts of a pair, each by [`scalar`].
pub(super) fn pair(op: Arith, a: u64, b: u64, c: u64) -> u64 {
    let low = scalar(op, a & 0xffff, b & 0xffff, c & 0xffff);
    low | scalar(op, a >> 16, b >> 16, c >> 16) << 16
}

/// An operation on one value.
pub(super) fn scalar(op: Arith, a: u64, b: u64, c: u64) -> u64 {
    let ty = op.ty;
    let (a, b, c) = (a as u16, b as u16, c as u16);
    match op.kind {
        Kind::Abs | Kind::Neg if widen(ty, a).is_nan() => return 0x7fff,
        Kind::Abs => return u64::from(a & 0x7fff),
        Kind::Neg => return u64::from(a ^ 0x8000),
        _ => {}
    }
    let (a, b, c) = (flush(op, a), flush(op, b), flush(op, c));
    let (x, y, z) = (widen(ty, a), widen(ty, b), widen(ty, c));
    let out = match op.kind {
        Kind::Add => odd_sum(x, y),
        Kind::Sub => odd_sum(x, -y),
        Kind::Mul => x * y,
        Kind::Fma => odd_sum(x * y, z),
        Kind::Min | Kind::Max if x.is_nan() || y.is_nan() => {
            return match (x.is_nan(), y.is_nan()) {
                (true, true) => 0x7fff,
                _ if op.nan => 0x7fff,
                (true, _) => b.into(),
                _ => a.into(),
            };
        }
        Kind::Min if x == y => return (a | b).into(),
        Kind::Max if x == y => return (a & b).into(),
        Kind::Min => return if x < y { a } else { b }.into(),
        Kind::Max => return if x > y { a } else { b }.into(),
        _ => unreachable!("{op:?} on 16-bit floats"),
    };
    let bits = flush(op, narrow(ty, out));
    let value = widen(ty, bits);
    if op.sat {
        return if value > 0.0 {
            narrow(ty, value.min(1.0))
        } else {
            0
        }
        .into();
    }
    if op.relu && value <= 0.0 {
        return 0;
    }
    if value.is_nan() { 0x7fff } else { bits.into() }
}

#[inline(always)]
fn flush(op: Arith, bits: u16) -> u16 {
    if op.ftz && bits & 0x7c00 == 0 {
        bits & 0x8000
    } else {
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_is_that_of_half_for_every_value() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{bits:#x}"
            );
            let (ours, theirs) = (bf16_to_f32(bits), half::bf16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{bits:#x}"
            );
        }
    }

    /// Each 16-bit value, its neighbours' midpoints, and both sides of those.
    #[test]
    fn narrowing_is_that_of_half_around_every_value_and_midpoint() {
        for bits in 0..=u16::MAX {
            for (widen, step) in [(f16_to_f32 as fn(u16) -> f32, 12), (bf16_to_f32, 15)] {
                let base = widen(bits).to_bits();
                for offset in [0, 1, u32::MAX, 1 << step, (1 << step) + 1, (1 << step) - 1] {
                    let x = f32::from_bits(base.wrapping_add(offset));
                    if x.is_nan() {
                        assert_eq!((f32_to_f16(x), f32_to_bf16(x)), (0x7fff, 0x7fff));
                        continue;
                    }
                    assert_eq!(f32_to_f16(x), half::f16::from_f32(x).to_bits(), "{x:e}");
                    assert_eq!(f32_to_bf16(x), half::bf16::from_f32(x).to_bits(), "{x:e}");
                }
            }
        }
    }

    #[test]
    fn narrowing_denormals_is_that_of_half() {
        for bits in (0..0x3900_0000u32).step_by(977) {
            let x = f32::from_bits(bits);
            assert_eq!(f32_to_f16(x), half::f16::from_f32(x).to_bits(), "{x:e}");
            assert_eq!(f32_to_f16(-x), half::f16::from_f32(-x).to_bits(), "{x:e}");
        }
    }
}
