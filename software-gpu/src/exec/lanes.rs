//! Arithmetic for 32 lanes at a time, in loops that the compiler makes vector code of.
//!
//! Operands are copied out before the result is written, so that a register may be both.

use super::adversary::Adversary;
use super::scalar;
use super::warp::{Warp, lanes};
use crate::program::{
    Arith, Class, Compare, Fast32, Fast64, Kind, Permute, Slot, Type, for_each_fast32,
    for_each_fast64,
};

/// Writes the lanes of `mask`.
#[inline(always)]
pub(super) fn write<T: Copy>(out: &mut [T; 32], mask: u32, value: impl Fn(usize) -> T) {
    if mask == u32::MAX {
        for (lane, out) in out.iter_mut().enumerate() {
            *out = value(lane);
        }
    } else {
        for (lane, out) in out.iter_mut().enumerate() {
            let new = value(lane);
            *out = if mask >> lane & 1 != 0 { new } else { *out };
        }
    }
}

#[inline(always)]
pub(super) fn one32(warp: &mut Warp, mask: u32, d: u16, a: u16, f: impl Fn(u32) -> u32) {
    let a = warp.r[a as usize].0;
    write(&mut warp.r[d as usize].0, mask, |lane| f(a[lane]));
}

#[inline(always)]
pub(super) fn one64(warp: &mut Warp, mask: u32, d: u16, a: u16, f: impl Fn(u64) -> u64) {
    let a = warp.d[a as usize].0;
    write(&mut warp.d[d as usize].0, mask, |lane| f(a[lane]));
}

/// d = f(a, b) with b of 32 bits.
#[inline(always)]
pub(super) fn shift64(
    warp: &mut Warp,
    mask: u32,
    d: u16,
    a: u16,
    b: u16,
    f: impl Fn(u64, u32) -> u64,
) {
    let (a, b) = (warp.d[a as usize].0, warp.r[b as usize].0);
    write(&mut warp.d[d as usize].0, mask, |lane| f(a[lane], b[lane]));
}

/// d = f(a, b) with d of 64 bits.
#[inline(always)]
pub(super) fn widen(
    warp: &mut Warp,
    mask: u32,
    d: u16,
    a: u16,
    b: u16,
    f: impl Fn(u32, u32) -> u64,
) {
    let (a, b) = (warp.r[a as usize].0, warp.r[b as usize].0);
    write(&mut warp.d[d as usize].0, mask, |lane| f(a[lane], b[lane]));
}

/// d = the low half of a.
#[inline(always)]
pub(super) fn narrow(warp: &mut Warp, mask: u32, d: u16, a: u16) {
    let a = warp.d[a as usize].0;
    write(&mut warp.r[d as usize].0, mask, |lane| a[lane] as u32);
}

/// The path of each fast operation: as many operands as it has, and what `scalar` says of it.
macro_rules! path {
    ($warp:ident, $mask:ident, $file:ident, $word:ty, $d:ident, $a:ident, $b:ident, $c:ident, 1, $op:expr) => {{
        let a = $warp.$file[$a as usize].0;
        write(&mut $warp.$file[$d as usize].0, $mask, |lane| {
            scalar::arith($op, a[lane].into(), 0, 0) as $word
        });
    }};
    ($warp:ident, $mask:ident, $file:ident, $word:ty, $d:ident, $a:ident, $b:ident, $c:ident, 2, $op:expr) => {{
        let (a, b) = ($warp.$file[$a as usize].0, $warp.$file[$b as usize].0);
        write(&mut $warp.$file[$d as usize].0, $mask, |lane| {
            scalar::arith($op, a[lane].into(), b[lane].into(), 0) as $word
        });
    }};
    ($warp:ident, $mask:ident, $file:ident, $word:ty, $d:ident, $a:ident, $b:ident, $c:ident, 3, $op:expr) => {{
        let (a, b) = ($warp.$file[$a as usize].0, $warp.$file[$b as usize].0);
        let c = $warp.$file[$c as usize].0;
        write(&mut $warp.$file[$d as usize].0, $mask, |lane| {
            scalar::arith($op, a[lane].into(), b[lane].into(), c[lane].into()) as $word
        });
    }};
}

macro_rules! define32 {
    ($($variant:ident, $count:tt, $kind:expr, $type:expr;)*) => {
        /// d = op(a, b, c) on 32-bit registers.
        #[inline(always)]
        pub(super) fn fast32(warp: &mut Warp, mask: u32, op: Fast32, d: u16, a: u16, b: u16, c: u16) {
            match op {
                $(Fast32::$variant => path!(warp, mask, r, u32, d, a, b, c, $count, const { Arith::plain($kind, $type) }),)*
            }
        }
    };
}
for_each_fast32!(define32);

macro_rules! define64 {
    ($($variant:ident, $count:tt, $kind:expr, $type:expr;)*) => {
        /// d = op(a, b, c) on 64-bit registers.
        #[inline(always)]
        pub(super) fn fast64(warp: &mut Warp, mask: u32, op: Fast64, d: u16, a: u16, b: u16, c: u16) {
            match op {
                $(Fast64::$variant => path!(warp, mask, d, u64, d, a, b, c, $count, const { Arith::plain($kind, $type) }),)*
            }
        }
    };
}
for_each_fast64!(define64);

/// d = op(a, b, c) for the lanes of `mask`, whatever the operation.
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "they are all of one instruction")]
pub(super) fn arith(
    warp: &mut Warp,
    mask: u32,
    op: Arith,
    d: Slot,
    a: Slot,
    b: Slot,
    c: Slot,
    adversary: &Adversary,
) {
    if op.kind.is_approximate() && adversary.approximates() {
        for lane in lanes(mask) {
            let value = adversary.approximate(op, warp.read(a, lane), warp.read(b, lane));
            warp.write(d, lane, value);
        }
        return;
    }
    for lane in lanes(mask) {
        let value = scalar::arith(
            op,
            warp.read(a, lane),
            warp.read(b, lane),
            warp.read(c, lane),
        );
        warp.write(d, lane, value);
    }
}

/// A bit for each lane where the comparison holds.
#[inline(always)]
pub(super) fn compare_lanes(
    warp: &Warp,
    compare: Compare,
    ty: Type,
    ftz: bool,
    a: Slot,
    b: Slot,
) -> u32 {
    macro_rules! bits {
        ($file:ident, $compare:expr, $type:expr) => {{
            let (x, y) = (
                &warp.$file[a.index as usize].0,
                &warp.$file[b.index as usize].0,
            );
            let mut out = 0;
            for lane in 0..32 {
                let holds = scalar::compare($compare, $type, false, x[lane].into(), y[lane].into());
                out |= u32::from(holds) << lane;
            }
            out
        }};
    }
    macro_rules! integer {
        ($file:ident, $type:expr) => {
            match compare {
                Compare::Eq => bits!($file, Compare::Eq, $type),
                Compare::Ne => bits!($file, Compare::Ne, $type),
                Compare::Lt => bits!($file, Compare::Lt, $type),
                Compare::Le => bits!($file, Compare::Le, $type),
                Compare::Gt => bits!($file, Compare::Gt, $type),
                Compare::Ge => bits!($file, Compare::Ge, $type),
                _ => compare_any(warp, compare, ty, ftz, a, b),
            }
        };
    }
    match ty {
        Type::U32 | Type::B32 => integer!(r, Type::U32),
        Type::S32 => integer!(r, Type::S32),
        Type::U64 | Type::B64 => integer!(d, Type::U64),
        Type::S64 => integer!(d, Type::S64),
        Type::F32 if !ftz => integer!(r, Type::F32),
        _ => compare_any(warp, compare, ty, ftz, a, b),
    }
}

#[inline(never)]
fn compare_any(warp: &Warp, compare: Compare, ty: Type, ftz: bool, a: Slot, b: Slot) -> u32 {
    let holds = |lane| scalar::compare(compare, ty, ftz, warp.read(a, lane), warp.read(b, lane));
    (0..32).fold(0, |out, lane| out | u32::from(holds(lane)) << lane)
}

/// d = p ? a : b
#[inline(always)]
pub(super) fn select(warp: &mut Warp, mask: u32, d: Slot, a: Slot, b: Slot, p: u16) {
    let p = warp.p[p as usize];
    let (d, a, b, class) = (
        d.index as usize,
        a.index as usize,
        b.index as usize,
        d.class,
    );
    macro_rules! select {
        ($file:ident) => {{
            let (x, y) = (warp.$file[a].0, warp.$file[b].0);
            write(&mut warp.$file[d].0, mask, |lane| {
                if p >> lane & 1 != 0 { x[lane] } else { y[lane] }
            });
        }};
    }
    match class {
        Class::R32 => select!(r),
        _ => select!(d),
    }
}
