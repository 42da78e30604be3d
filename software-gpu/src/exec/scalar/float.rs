//! Operations on f32 and f64.
//!
//! Every f32 result that is NaN has the one bit pattern that NVIDIA's units give, so that a result does
//! not depend on the host's processor.

use crate::program::{Arith, Kind, Rounding, Test};

/// The NaN of f32 results.
pub(super) const NAN32: u32 = 0x7fff_ffff;

/// Zero in place of a denormal, if asked for.
#[inline(always)]
pub(super) fn flush(ftz: bool, x: f32) -> f32 {
    if ftz && x.abs() < f32::MIN_POSITIVE {
        0f32.copysign(x)
    } else {
        x
    }
}

/// A result of f32, in its bits.
#[inline(always)]
fn finish(op: Arith, x: f32) -> u32 {
    let x = flush(op.ftz, x);
    if op.sat {
        // A NaN becomes zero.
        return (if x > 0.0 { x.min(1.0) } else { 0.0 }).to_bits();
    }
    if x.is_nan() { NAN32 } else { x.to_bits() }
}

#[inline(always)]
pub(super) fn f32_op(op: Arith, a: u32, b: u32, c: u32) -> u32 {
    let (x, y, z) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
    let (x, y, z) = (flush(op.ftz, x), flush(op.ftz, y), flush(op.ftz, z));
    if op.rounding != Rounding::Nearest {
        return finish(op, directed(op, x, y, z));
    }
    let out = match op.kind {
        Kind::Add => x + y,
        Kind::Sub => x - y,
        Kind::Mul => x * y,
        Kind::Fma => x.mul_add(y, z),
        Kind::Div | Kind::DivApprox => x / y,
        Kind::Sqrt | Kind::SqrtApprox => x.sqrt(),
        Kind::Rcp | Kind::RcpApprox => 1.0 / x,
        // Through f64, so that the result is the nearest f32 but for ties that do not happen.
        Kind::Rsqrt => (1.0 / f64::from(x).sqrt()) as f32,
        Kind::Ex2 => f64::from(x).exp2() as f32,
        Kind::Lg2 => f64::from(x).log2() as f32,
        Kind::Sin => f64::from(x).sin() as f32,
        Kind::Cos => f64::from(x).cos() as f32,
        Kind::Tanh => f64::from(x).tanh() as f32,
        Kind::Min => return lesser(op, x, y),
        Kind::Max => return greater(op, x, y),
        Kind::Abs | Kind::Neg if x.is_nan() => return NAN32,
        Kind::Abs => return x.to_bits() & 0x7fff_ffff,
        Kind::Neg => return x.to_bits() ^ 0x8000_0000,
        // PTX: the sign of a on the magnitude of b.
        Kind::Copysign => return (a & 0x8000_0000) | (b & 0x7fff_ffff),
        Kind::Testp(test) => return u32::from(holds(test, f64::from(x), x.is_subnormal())),
        _ => unreachable!("{op:?} on f32"),
    };
    finish(op, out)
}

/// min: -0 is less than +0, and a NaN is ignored unless asked for.
#[inline(always)]
fn lesser(op: Arith, x: f32, y: f32) -> u32 {
    if x.is_nan() | y.is_nan() {
        return of_nan(op, x, y);
    }
    // Equal values differ in the sign of zero alone.
    if x == y {
        x.to_bits() | y.to_bits()
    } else {
        (if x < y { x } else { y }).to_bits()
    }
}

#[inline(always)]
fn greater(op: Arith, x: f32, y: f32) -> u32 {
    if x.is_nan() | y.is_nan() {
        return of_nan(op, x, y);
    }
    if x == y {
        x.to_bits() & y.to_bits()
    } else {
        (if x > y { x } else { y }).to_bits()
    }
}

#[inline(always)]
fn of_nan(op: Arith, x: f32, y: f32) -> u32 {
    if op.nan || (x.is_nan() & y.is_nan()) {
        NAN32
    } else if x.is_nan() {
        y.to_bits()
    } else {
        x.to_bits()
    }
}

#[inline(always)]
fn holds(test: Test, x: f64, subnormal: bool) -> bool {
    match test {
        Test::Finite => x.is_finite(),
        Test::Infinite => x.is_infinite(),
        Test::Number => !x.is_nan(),
        Test::NotANumber => x.is_nan(),
        // PTX counts zeros among the normal numbers.
        Test::Normal => x.is_finite() && !subnormal,
        Test::Subnormal => subnormal,
    }
}

/// The rounding modes that the host's arithmetic does not have. The exact result is found in f64, with
/// its last bit made odd where something was lost: from that every rounding to f32 comes out right.
fn directed(op: Arith, x: f32, y: f32, z: f32) -> f32 {
    let (x, y, z) = (f64::from(x), f64::from(y), f64::from(z));
    let exact = match op.kind {
        Kind::Add => odd_sum(x, y),
        Kind::Sub => odd_sum(x, -y),
        Kind::Mul => x * y,
        Kind::Fma => odd_sum(x * y, z),
        Kind::Div => {
            let q = x / y;
            odd(q, q.mul_add(-y, x) * y.signum())
        }
        Kind::Rcp => {
            let q = 1.0 / x;
            odd(q, q.mul_add(-x, 1.0) * x.signum())
        }
        Kind::Sqrt => {
            let q = x.sqrt();
            odd(q, q.mul_add(-q, x))
        }
        _ => unreachable!("{op:?} with a rounding"),
    };
    // An exact zero from a sum is -0 when rounding down, unless both were +0.
    if exact == 0.0 && matches!(op.kind, Kind::Add | Kind::Sub | Kind::Fma) {
        let (p, q) = match op.kind {
            Kind::Add => (x, y),
            Kind::Sub => (x, -y),
            _ => (x * y, z),
        };
        if p.is_sign_negative() != q.is_sign_negative() {
            return if op.rounding == Rounding::Down {
                -0.0
            } else {
                0.0
            };
        }
    }
    to_f32(op.rounding, exact)
}

/// a + b, its last bit odd if it is not exact.
pub(super) fn odd_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let back = sum - a;
    odd(sum, (a - (sum - back)) + (b - back))
}

/// `value`, moved to the odd neighbour in the direction of what was lost.
fn odd(value: f64, lost: f64) -> f64 {
    if lost == 0.0 || !lost.is_finite() || !value.is_finite() || value.to_bits() & 1 == 1 {
        return value;
    }
    if (lost > 0.0) == (value > 0.0) {
        f64::from_bits(value.to_bits() + 1)
    } else {
        f64::from_bits(value.to_bits() - 1)
    }
}

/// Rounds to f32.
pub(super) fn to_f32(rounding: Rounding, x: f64) -> f32 {
    let near = x as f32;
    if x.is_nan() {
        return near;
    }
    let toward = match rounding {
        Rounding::Nearest => return near,
        Rounding::Zero if x > 0.0 => Rounding::Down,
        Rounding::Zero => Rounding::Up,
        other => other,
    };
    let value = f64::from(near);
    match toward {
        Rounding::Down if value > x => near.next_down(),
        Rounding::Up if value < x => near.next_up(),
        _ => near,
    }
}

#[inline(always)]
pub(super) fn f64_op(op: Arith, a: u64, b: u64, c: u64) -> u64 {
    let (x, y, z) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
    let out = match op.kind {
        Kind::Add => x + y,
        Kind::Sub => x - y,
        Kind::Mul => x * y,
        Kind::Fma => x.mul_add(y, z),
        Kind::Div => x / y,
        Kind::Sqrt => x.sqrt(),
        Kind::Rcp => 1.0 / x,
        Kind::Rsqrt => 1.0 / x.sqrt(),
        Kind::Min | Kind::Max if x.is_nan() && y.is_nan() => f64::NAN,
        Kind::Min | Kind::Max if x.is_nan() => y,
        Kind::Min | Kind::Max if y.is_nan() => x,
        Kind::Min if x == y => return a | b,
        Kind::Max if x == y => return a & b,
        Kind::Min => x.min(y),
        Kind::Max => x.max(y),
        Kind::Abs => return a & (u64::MAX >> 1),
        // A NaN keeps its sign, as on the device.
        Kind::Neg if x.is_nan() => return a,
        Kind::Neg => return a ^ (1 << 63),
        Kind::Copysign => return (a & (1 << 63)) | (b & (u64::MAX >> 1)),
        Kind::Testp(test) => return u64::from(holds(test, x, x.is_subnormal())),
        _ => unreachable!("{op:?} on f64"),
    };
    if out.is_nan() {
        nan64(x, y, z)
    } else {
        out.to_bits()
    }
}

/// The NaN of an f64 result: a NaN among the operands, made quiet, or the one that NVIDIA's units make.
#[inline(always)]
fn nan64(x: f64, y: f64, z: f64) -> u64 {
    const QUIET: u64 = 1 << 51;
    if x.is_nan() {
        x.to_bits() | QUIET
    } else if y.is_nan() {
        y.to_bits() | QUIET
    } else if z.is_nan() {
        z.to_bits() | QUIET
    } else {
        0xfff8_0000_0000_0000
    }
}
