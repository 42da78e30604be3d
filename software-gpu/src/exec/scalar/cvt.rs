//! Conversions between types.

use super::float::{NAN32, flush, to_f32};
use super::half::{f32_to_bf16, f32_to_f16, narrow, widen};
use super::{extend, truncate};
use crate::program::{Arith, Rounding, Type};

/// `a` of type `from` as a `to`; integers are extended to a register of `bits`.
#[inline(always)]
pub(super) fn cvt(op: Arith, to: Type, from: Type, integer: bool, bits: u8, a: u64) -> u64 {
    match (from.is_float(), to.is_float()) {
        (false, false) => {
            let value = extend(from, a);
            let value = if op.sat {
                saturate(from.is_signed(), to, value)
            } else {
                value
            };
            register(bits, extend(to, value))
        }
        (true, false) => {
            let x = read(op, from, a);
            register(bits, extend(to, to_integer(op.rounding, to, from, x)))
        }
        (false, true) => {
            let value = extend(from, a);
            let exact = if from.is_signed() {
                i128::from(value as i64)
            } else {
                value.into()
            };
            from_integer(op, to, exact)
        }
        (true, true) => float_to_float(op, to, from, integer, a),
    }
}

#[inline(always)]
fn register(bits: u8, value: u64) -> u64 {
    match bits {
        16 => value & 0xffff,
        32 => value & 0xffff_ffff,
        _ => value,
    }
}

#[inline(always)]
fn read(op: Arith, from: Type, a: u64) -> f64 {
    match from {
        Type::F64 => f64::from_bits(a),
        Type::F32 => flush(op.ftz, f32::from_bits(a as u32)).into(),
        _ => widen(from, a as u16),
    }
}

/// The range of an integer type.
#[inline(always)]
fn range(ty: Type) -> (i128, i128) {
    let bits = ty.bits();
    if ty.is_signed() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

fn saturate(signed: bool, to: Type, value: u64) -> u64 {
    let exact = if signed {
        i128::from(value as i64)
    } else {
        value.into()
    };
    let (low, high) = range(to);
    exact.clamp(low, high) as u64
}

/// A float rounded to a whole number.
#[inline(always)]
fn whole(rounding: Rounding, x: f64) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// Out of range gives the nearest end of it. NaN gives 0, but the top bit alone where either type has
/// 64 bits.
#[inline(always)]
fn to_integer(rounding: Rounding, to: Type, from: Type, x: f64) -> u64 {
    if x.is_nan() {
        let wide = from == Type::F64 || to.bits() == 64;
        return if wide { 1 << (to.bits() - 1) } else { 0 };
    }
    let x = whole(rounding, x);
    match to {
        Type::U64 => x as u64,
        Type::S64 => x as i64 as u64,
        Type::U32 => (x as u32).into(),
        Type::S32 => x as i32 as u64,
        Type::U16 => (x as u16).into(),
        Type::S16 => x as i16 as u64,
        Type::U8 => (x as u8).into(),
        _ => x as i8 as u64,
    }
}

#[inline(always)]
fn from_integer(op: Arith, to: Type, exact: i128) -> u64 {
    let near = op.rounding == Rounding::Nearest && !op.sat;
    match to {
        Type::F32 if near => (exact as f32).to_bits().into(),
        Type::F64 if near => (exact as f64).to_bits(),
        _ => from_integer_directed(op, to, exact),
    }
}

fn from_integer_directed(op: Arith, to: Type, exact: i128) -> u64 {
    // At most 64 bits: f64 with its last bit odd where something is lost keeps enough for f32 and f16.
    let near = exact as f64;
    let lost = exact - near as i128;
    if to == Type::F64 {
        let value = match op.rounding {
            Rounding::Zero if lost != 0 && (lost < 0) == (exact > 0) => toward_zero(near),
            Rounding::Down if lost < 0 => near.next_down(),
            Rounding::Up if lost > 0 => near.next_up(),
            _ => near,
        };
        return if op.sat { value.clamp(0.0, 1.0) } else { value }.to_bits();
    }
    let odd = if lost == 0 || near.to_bits() & 1 == 1 {
        near
    } else if (lost > 0) == (exact > 0) {
        f64::from_bits(near.to_bits() + 1)
    } else {
        f64::from_bits(near.to_bits() - 1)
    };
    let odd = if op.sat { odd.clamp(0.0, 1.0) } else { odd };
    match to {
        Type::F32 => to_f32(op.rounding, odd).to_bits().into(),
        _ => narrow_directed(op.rounding, to, odd).into(),
    }
}

fn toward_zero(x: f64) -> f64 {
    f64::from_bits(x.to_bits() - 1)
}

#[inline(always)]
fn float_to_float(op: Arith, to: Type, from: Type, integer: bool, a: u64) -> u64 {
    // The common ones, without a detour.
    let plain = op.rounding == Rounding::Nearest && !op.sat && !op.ftz && !op.relu && !integer;
    if plain && from == Type::F32 {
        let x = f32::from_bits(a as u32);
        match to {
            Type::F16 => return f32_to_f16(x).into(),
            Type::BF16 => return f32_to_bf16(x).into(),
            _ => {}
        }
    }
    if !op.sat && !integer && to == Type::F32 {
        // The payload of a NaN is cut, where others are replaced.
        match from {
            Type::BF16 => return a << 16 & 0xffff_ffff,
            Type::F64 if f64::from_bits(a).is_nan() => {
                return a >> 32 & 0x8000_0000 | 0x7fc0_0000 | a >> 29 & 0x003f_ffff;
            }
            _ => {}
        }
    }
    let mut x = read(op, from, a);
    if integer {
        x = whole(op.rounding, x);
    }
    if op.sat {
        x = if x > 0.0 { x.min(1.0) } else { 0.0 };
    }
    match to {
        Type::F64 if x.is_nan() => f64::NAN.to_bits(),
        Type::F64 => x.to_bits(),
        Type::F32 if x.is_nan() => NAN32.into(),
        Type::F32 => flush(op.ftz, to_f32(op.rounding, x)).to_bits().into(),
        _ => {
            let bits = narrow_directed(op.rounding, to, x);
            if op.relu && !x.is_nan() && bits & 0x8000 != 0 {
                0
            } else {
                bits.into()
            }
        }
    }
}

/// Two values of f32 to a pair: a to the upper half.
#[inline(always)]
pub(super) fn pair(op: Arith, to: Type, a: u64, b: u64) -> u64 {
    let single = if to == Type::F16x2 {
        Type::F16
    } else {
        Type::BF16
    };
    let upper = float_to_float(op, single, Type::F32, false, a);
    upper << 16 | float_to_float(op, single, Type::F32, false, b)
}

/// Rounds an f64 to a 16-bit float.
#[inline(always)]
fn narrow_directed(rounding: Rounding, to: Type, x: f64) -> u16 {
    let near = narrow(to, x);
    if rounding == Rounding::Nearest || x.is_nan() {
        return near;
    }
    let value = widen(to, near);
    let toward = match rounding {
        Rounding::Zero if x > 0.0 => Rounding::Down,
        Rounding::Zero => Rounding::Up,
        other => other,
    };
    match toward {
        Rounding::Down if value > x => step(near, false),
        Rounding::Up if value < x => step(near, true),
        _ => near,
    }
}

/// The next value up or down.
fn step(bits: u16, up: bool) -> u16 {
    let negative = bits & 0x8000 != 0;
    match (bits & 0x7fff == 0, negative == up) {
        (true, _) => {
            if up {
                1
            } else {
                0x8001
            }
        }
        (false, true) => bits - 1,
        (false, false) => bits + 1,
    }
}

/// The value in memory as a register of `bits` holds it.
#[inline(always)]
pub(in crate::exec) fn loaded(ty: Type, bits: u8, value: u64) -> u64 {
    register(bits, extend(ty, truncate(ty, value)))
}
