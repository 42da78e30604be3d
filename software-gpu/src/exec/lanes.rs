//! Arithmetic for 32 lanes at a time.

use super::scalar;
use super::warp::{Warp, lanes};
use crate::program::{Arith, Class, Compare, Slot, Type};

/// d = op(a, b, c) for the lanes of `mask`.
#[inline(always)]
pub(super) fn arith(warp: &mut Warp, mask: u32, op: Arith, d: Slot, a: Slot, b: Slot, c: Slot) {
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
    let mut out = 0;
    for lane in 0..32 {
        let holds = scalar::compare(compare, ty, ftz, warp.read(a, lane), warp.read(b, lane));
        out |= u32::from(holds) << lane;
    }
    out
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
            let out = &mut warp.$file[d].0;
            for lane in 0..32 {
                let value = if p >> lane & 1 != 0 { x[lane] } else { y[lane] };
                out[lane] = if mask >> lane & 1 != 0 {
                    value
                } else {
                    out[lane]
                };
            }
        }};
    }
    match class {
        Class::R32 => select!(r),
        _ => select!(d),
    }
}
