//! What each operation computes for one lane: the one place that says what an instruction means.
//!
//! The vector paths call these same functions with the operation known when they are compiled, so that
//! a lane's result cannot depend on which path ran it.

mod cvt;
mod float;
mod half;
mod integer;

use crate::program::{Arith, Compare, Kind, Type};

pub(super) use cvt::loaded as cvt_loaded;

/// The bits of `value` that the type has.
#[inline(always)]
pub(crate) fn truncate(ty: Type, value: u64) -> u64 {
    match ty.bits() {
        64 => value,
        bits => value & ((1 << bits) - 1),
    }
}

/// The value as a number of 64 bits, by the type's sign.
#[inline(always)]
pub(crate) fn extend(ty: Type, value: u64) -> u64 {
    let unused = 64 - ty.bits();
    if ty.is_signed() {
        (((value << unused) as i64) >> unused) as u64
    } else {
        (value << unused) >> unused
    }
}

/// op(a, b, c), as bits.
#[inline(always)]
pub(crate) fn arith(op: Arith, a: u64, b: u64, c: u64) -> u64 {
    match op.kind {
        Kind::Cvt {
            to,
            from,
            integer,
            bits,
        } => cvt::cvt(op, to, from, integer, bits, a),
        Kind::CvtPair(to) => cvt::pair(op, to, a, b),
        Kind::Set(compare, from) => {
            let holds = self::compare(compare, from, op.ftz, a, b);
            match (holds, op.ty) {
                (false, _) => 0,
                (true, Type::F32) => 1.0f32.to_bits().into(),
                (true, _) => 0xffff_ffff,
            }
        }
        Kind::Slct(by) => {
            let first = match by {
                Type::F32 => {
                    let c = float::flush(op.ftz, f32::from_bits(c as u32));
                    c >= 0.0
                }
                _ => c as i32 >= 0,
            };
            if first { a } else { b }
        }
        _ => match op.ty {
            Type::F32 => float::f32_op(op, a as u32, b as u32, c as u32).into(),
            Type::F64 => float::f64_op(op, a, b, c),
            Type::F16 | Type::BF16 => half::scalar(op, a, b, c),
            Type::F16x2 | Type::BF16x2 => half::pair(op, a, b, c),
            ty => truncate(ty_of_result(op.kind, ty), integer::op(op, a, b, c)),
        },
    }
}

/// The type of an integer operation's result.
#[inline(always)]
fn ty_of_result(kind: Kind, ty: Type) -> Type {
    match kind {
        Kind::MulWide | Kind::MadWide if ty.bits() == 16 => Type::B32,
        Kind::MulWide | Kind::MadWide => Type::B64,
        Kind::Popc | Kind::Clz | Kind::Bfind(_) => Type::B32,
        _ => ty,
    }
}

/// a compare b.
#[inline(always)]
pub(crate) fn compare(compare: Compare, ty: Type, ftz: bool, a: u64, b: u64) -> bool {
    match ty {
        Type::F32 => {
            let (a, b) = (f32::from_bits(a as u32), f32::from_bits(b as u32));
            float_compare(
                compare,
                float::flush(ftz, a).into(),
                float::flush(ftz, b).into(),
            )
        }
        Type::F64 => float_compare(compare, f64::from_bits(a), f64::from_bits(b)),
        Type::F16 | Type::BF16 => float_compare(
            compare,
            half::widen(ty, a as u16),
            half::widen(ty, b as u16),
        ),
        _ if ty.is_signed() => ordered(compare, extend(ty, a) as i64, extend(ty, b) as i64),
        _ => ordered(compare, truncate(ty, a), truncate(ty, b)),
    }
}

#[inline(always)]
fn ordered<T: Ord>(compare: Compare, a: T, b: T) -> bool {
    match compare {
        Compare::Eq | Compare::EqU => a == b,
        Compare::Ne | Compare::NeU => a != b,
        Compare::Lt | Compare::LtU => a < b,
        Compare::Le | Compare::LeU => a <= b,
        Compare::Gt | Compare::GtU => a > b,
        Compare::Ge | Compare::GeU => a >= b,
        Compare::Num => true,
        Compare::Nan => false,
    }
}

#[inline(always)]
fn float_compare(compare: Compare, a: f64, b: f64) -> bool {
    let nan = a.is_nan() | b.is_nan();
    match compare {
        Compare::Eq => a == b,
        Compare::Ne => (a != b) & !nan,
        Compare::Lt => a < b,
        Compare::Le => a <= b,
        Compare::Gt => a > b,
        Compare::Ge => a >= b,
        Compare::EqU => (a == b) | nan,
        Compare::NeU => a != b,
        Compare::LtU => (a < b) | nan,
        Compare::LeU => (a <= b) | nan,
        Compare::GtU => (a > b) | nan,
        Compare::GeU => (a >= b) | nan,
        Compare::Num => !nan,
        Compare::Nan => nan,
    }
}
