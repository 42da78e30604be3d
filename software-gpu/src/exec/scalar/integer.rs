//! Operations on integers and bits.

use super::{extend, truncate};
use crate::program::{Arith, Kind, Permute, Type};

/// op(a, b, c); bits above the result's type are of no account.
#[inline(always)]
pub(super) fn op(op: Arith, a: u64, b: u64, c: u64) -> u64 {
    let ty = op.ty;
    let bits = ty.bits();
    // Each operand as a number by the type's sign.
    let (x, y) = (extend(ty, a), extend(ty, b));
    match op.kind {
        Kind::Add if op.sat => (x as i64 + y as i64).clamp(i32::MIN.into(), i32::MAX.into()) as u64,
        Kind::Sub if op.sat => (x as i64 - y as i64).clamp(i32::MIN.into(), i32::MAX.into()) as u64,
        Kind::Add => a.wrapping_add(b),
        Kind::Sub => a.wrapping_sub(b),
        Kind::MulLo => a.wrapping_mul(b),
        Kind::MadLo => a.wrapping_mul(b).wrapping_add(c),
        Kind::MulHi => high(ty, x, y),
        Kind::MadHi => high(ty, x, y).wrapping_add(c),
        Kind::MulWide => x.wrapping_mul(y),
        Kind::MadWide => x.wrapping_mul(y).wrapping_add(c),
        // A division by zero gives all ones; the remainder is then the dividend. PTX leaves both open.
        Kind::Div if y == 0 => u64::MAX,
        Kind::Rem if y == 0 => x,
        Kind::Div if ty.is_signed() => (x as i64).wrapping_div(y as i64) as u64,
        Kind::Rem if ty.is_signed() => (x as i64).wrapping_rem(y as i64) as u64,
        Kind::Div => x / y,
        Kind::Rem => x % y,
        Kind::Min if ty.is_signed() => (x as i64).min(y as i64) as u64,
        Kind::Max if ty.is_signed() => (x as i64).max(y as i64) as u64,
        Kind::Min => x.min(y),
        Kind::Max => x.max(y),
        Kind::Abs => (x as i64).wrapping_abs() as u64,
        Kind::Neg => x.wrapping_neg(),
        Kind::Sad if ty.is_signed() => (x as i64).abs_diff(y as i64).wrapping_add(c),
        Kind::Sad => x.abs_diff(y).wrapping_add(c),
        Kind::And => a & b,
        Kind::Or => a | b,
        Kind::Xor => a ^ b,
        Kind::Not => !a,
        Kind::Cnot => u64::from(truncate(ty, a) == 0),
        // An amount past the width shifts everything out.
        Kind::Shl => {
            let by = b as u32;
            if by >= bits { 0 } else { a << (by & 63) }
        }
        Kind::Shr if ty.is_signed() => ((x as i64) >> (b as u32).min(bits - 1)) as u64,
        Kind::Shr => {
            let by = b as u32;
            if by >= bits {
                0
            } else {
                truncate(ty, a) >> (by & 63)
            }
        }
        Kind::ShfL(clamp) => {
            let by = if clamp {
                (c as u32).min(32)
            } else {
                c as u32 & 31
            };
            ((b << 32 | a & 0xffff_ffff) << by) >> 32
        }
        Kind::ShfR(clamp) => {
            let by = if clamp {
                (c as u32).min(32)
            } else {
                c as u32 & 31
            };
            (b << 32 | a & 0xffff_ffff) >> by
        }
        Kind::Popc => truncate(ty, a).count_ones().into(),
        Kind::Clz => u64::from(truncate(ty, a).leading_zeros() - (64 - bits)),
        Kind::Brev => a.reverse_bits() >> (64 - bits),
        Kind::Bfind(shift) => find_leading(ty, x, shift).into(),
        Kind::Fns => find_nth(a as u32, b as u32, c as i32).into(),
        Kind::Bfe => field(ty, a, b as u32 & 0xff, c as u32 & 0xff),
        Kind::Bfi => insert(bits, a, b, c as u32 & 0xff, (c >> 8) as u32 & 0xff),
        Kind::Szext(clamp) => {
            let keep = if clamp {
                (b as u32).min(32)
            } else {
                b as u32 & 31
            };
            match keep {
                0 => 0,
                keep if ty.is_signed() => {
                    (((a as u32) << (32 - keep)) as i32 >> (32 - keep)) as u64
                }
                keep => (((a as u32) << (32 - keep)) >> (32 - keep)).into(),
            }
        }
        Kind::Bmsk(clamp) => {
            let (position, length) = (a as u32, b as u32);
            let (position, length) = if clamp {
                (position.min(32), length.min(32))
            } else {
                (position & 31, length & 31)
            };
            ((1u64 << length) - 1) << position
        }
        Kind::Prmt(mode) => permute(mode, a as u32, b as u32, c as u32).into(),
        Kind::Lop3(table) => lookup(table, a, b, c),
        Kind::Dp4a(sa, sb) => {
            let byte = |value: u64, i: u32, signed| part(value, i, 8, signed);
            (0..4).fold(c, |sum, i| {
                sum.wrapping_add(byte(a, i, sa).wrapping_mul(byte(b, i, sb)) as u64)
            })
        }
        Kind::Dp2a(sa, sb, upper) => (0..2).fold(c, |sum, i| {
            let b = part(b, i + 2 * u32::from(upper), 8, sb);
            sum.wrapping_add(part(a, i, 16, sa).wrapping_mul(b) as u64)
        }),
        // The decoder gives every other kind a type that is not an integer's.
        _ => unreachable!("{op:?} on integers"),
    }
}

/// The upper half of the product.
#[inline(always)]
fn high(ty: Type, x: u64, y: u64) -> u64 {
    match (ty.bits(), ty.is_signed()) {
        (64, true) => ((i128::from(x as i64) * i128::from(y as i64)) >> 64) as u64,
        (64, false) => ((u128::from(x) * u128::from(y)) >> 64) as u64,
        (bits, _) => x.wrapping_mul(y) >> bits,
    }
}

/// Position of the most significant bit that is not the sign; all ones where there is none.
#[inline(always)]
fn find_leading(ty: Type, x: u64, shift: bool) -> u32 {
    let x = if ty.is_signed() && (x as i64) < 0 {
        !x
    } else {
        x
    };
    match 63u32.checked_sub(x.leading_zeros()) {
        None => u32::MAX,
        Some(at) if shift => ty.bits() - 1 - at,
        Some(at) => at,
    }
}

/// Position of the n-th set bit from `base`; upward for n > 0, downward for n < 0, at `base` for 0.
fn find_nth(mask: u32, base: u32, n: i32) -> u32 {
    let base = base & 31;
    let set = |at: &u32| mask >> at & 1 == 1;
    let found = match n {
        0 => Some(base).filter(set),
        n if n > 0 => (base..32).filter(set).nth(n as usize - 1),
        n => (0..=base)
            .rev()
            .filter(set)
            .nth(n.unsigned_abs() as usize - 1),
    };
    found.unwrap_or(u32::MAX)
}

/// `length` bits from `position` on, filled up by the sign or zeros.
#[inline(always)]
fn field(ty: Type, a: u64, position: u32, length: u32) -> u64 {
    let width = ty.bits();
    if length == 0 {
        return 0;
    }
    let sign = if ty.is_signed() {
        truncate(ty, a) >> (position + length - 1).min(width - 1) & 1
    } else {
        0
    };
    let bits = if position >= width {
        0
    } else {
        truncate(ty, a) >> position
    };
    // What lies past the type's end is the sign, too.
    let have = length.min(width.saturating_sub(position));
    let keep = if have >= 64 {
        u64::MAX
    } else {
        (1 << have) - 1
    };
    let fill = if sign == 1 { u64::MAX } else { 0 };
    (bits & keep) | (fill & !keep)
}

/// b with `length` bits from `position` on replaced by the low bits of a.
#[inline(always)]
fn insert(width: u32, a: u64, b: u64, position: u32, length: u32) -> u64 {
    if length == 0 || position >= width {
        return b;
    }
    let mask = if length >= 64 {
        u64::MAX
    } else {
        (1 << length) - 1
    };
    (b & !(mask << position)) | (a & mask) << position
}

#[inline(always)]
fn permute(mode: Permute, a: u32, b: u32, c: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let select = match mode {
        Permute::Index => c,
        Permute::F4e => 0x3210 + 0x1111 * (c & 3),
        Permute::B4e => [0x5670, 0x6701, 0x7012, 0x0123][c as usize & 3],
        Permute::Rc8 => 0x1111 * (c & 3),
        Permute::Ecl => [0x3210, 0x3211, 0x3222, 0x3333][c as usize & 3],
        Permute::Ecr => [0x0000, 0x1110, 0x2210, 0x3210][c as usize & 3],
        Permute::Rc16 => [0x1010, 0x3232][c as usize & 1],
    };
    let mut out = 0;
    for i in 0..4 {
        let pick = select >> (4 * i);
        let byte = (bytes >> (8 * (pick & 7))) as u8;
        // Bit 3 copies the byte's sign over it.
        let byte = if pick & 8 != 0 {
            ((byte as i8) >> 7) as u8
        } else {
            byte
        };
        out |= u32::from(byte) << (8 * i);
    }
    out
}

/// Every bit by a table of 8.
#[inline(always)]
fn lookup(table: u8, a: u64, b: u64, c: u64) -> u64 {
    let mut out = 0;
    for i in 0..8 {
        if table >> i & 1 == 1 {
            let x = if i & 4 != 0 { a } else { !a };
            let y = if i & 2 != 0 { b } else { !b };
            let z = if i & 1 != 0 { c } else { !c };
            out |= x & y & z;
        }
    }
    out
}

/// Part `i` of `bits` bits.
#[inline(always)]
fn part(value: u64, i: u32, bits: u32, signed: bool) -> i64 {
    let raised = value << (64 - bits * (i + 1));
    if signed {
        raised as i64 >> (64 - bits)
    } else {
        (raised >> (64 - bits)) as i64
    }
}
